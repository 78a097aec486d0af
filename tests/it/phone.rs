//! The page that makes a phone a node, in a real Chromium at the real gateway: who gets in, what its owner allows, what it can do.

use std::path::Path;

use atoll_tests::browser::Browser;
use atoll_tests::mesh::Mesh;
use atoll_tests::wait::until;
use atoll_tests::wire::Wire;
use serde_json::{Value, json};

mod app;
mod camera;
mod carried;
mod hardware;
mod looks;
mod pairing;
mod permission;
mod screen;
mod terminal;

/// A mesh whose gateway let a phone in, and the browser of that phone.
struct Phone {
    mesh: Mesh,
    owner: Wire,
    browser: Browser,
    node: String,
}

impl Phone {
    /// Follows the link of a new invitation and says yes on the phone.
    async fn pair(camera: Option<&Path>) -> Self {
        let mesh = Mesh::start().await;
        let mut browser = Browser::start(camera).await;
        let link = link(&mesh, &[]).await;
        browser.open(&link).await;
        Self::accept(mesh, browser).await
    }

    /// The owner of the phone says yes to the link that was opened.
    async fn accept(mesh: Mesh, mut browser: Browser) -> Self {
        browser.press("#pair-form button").await;
        let node = mesh.connected("Phone").await;
        browser
            .until(
                "the page to hear of it",
                "document.querySelector('#state').dataset.state === 'linked'",
            )
            .await;
        let owner = mesh.operator().await;
        Self {
            mesh,
            owner,
            browser,
            node,
        }
    }

    /// The owner of the phone switches a command.
    async fn switch(&mut self, command: &str, choice: &str) {
        self.browser
            .press(&format!("fieldset[data-command='{command}'] input[value='{choice}']"))
            .await;
    }

    /// An operator calls a command of the phone.
    async fn call(&mut self, command: &str, params: Value) -> Result<Value, Value> {
        let mut reply = self.owner.call("node.invoke", self.invoke(command, params)).await?;
        Ok(reply["payload"].take())
    }

    fn invoke(&self, command: &str, params: Value) -> Value {
        let key = uuid::Uuid::new_v4().to_string();
        json!({"nodeId": self.node, "command": command, "params": params, "timeoutMs": 15_000, "idempotencyKey": key})
    }

    /// Why a call is refused.
    async fn refused(&mut self, command: &str, params: Value) -> String {
        let refused = self.call(command, params).await.expect_err(command);
        let code = refused["details"]["nodeError"]["code"].as_str();
        code.unwrap_or_else(|| panic!("{command}: {refused}")).to_owned()
    }

    /// Waits until a new link of the phone serves calls.
    async fn answers(&mut self) {
        let node = self.node.clone();
        let owner = &mut self.owner;
        until("the phone to answer", async || {
            let key = uuid::Uuid::new_v4().to_string();
            let call = json!({"nodeId": node, "command": "device.info", "timeoutMs": 2_000, "idempotencyKey": key});
            owner.call("node.invoke", call).await.ok()
        })
        .await;
    }
}

/// The link that the owner of the gateway shows to a phone.
async fn link(mesh: &Mesh, further: &[&str]) -> String {
    let minted = mesh.cli_json(&[&["qr", "--phone", "--json"], further].concat()).await;
    minted["phoneLinks"][0].as_str().expect("a link").to_owned()
}
