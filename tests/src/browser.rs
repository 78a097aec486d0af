//! A real Chromium, driven over its DevTools protocol: one profile, one page at a time. `scripts/test` installs it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::mesh::isolate;
use crate::program::Program;
use crate::wait::{PATIENCE, until, until_time, within};

/// Without these it asks for things, speaks to its maker, or needs a graphics card.
const ARGUMENTS: [&str; 15] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--remote-debugging-port=0",
    "--password-store=basic",
    "--hide-scrollbars",
    "--log-level=3",
    // The gateway's certificate is its own.
    "--ignore-certificate-errors",
];

/// Camera and microphone without a question.
const UNASKED: &str = "--use-fake-ui-for-media-stream";

/// A browser with a profile that outlives it.
#[derive(Debug)]
pub struct Browser {
    profile: TempDir,
    camera: Option<PathBuf>,
    is_strict: bool,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    program: Program,
    socket: WebSocketStream<TcpStream>,
    /// The session with the page.
    session: String,
    last_id: u64,
    /// What it said unasked.
    events: Vec<Value>,
}

impl Browser {
    /// Starts one whose camera shows this film (concatenated JPEGs), or Chromium's own test picture.
    ///
    /// # Panics
    /// When there is no room for a profile.
    pub async fn start(camera: Option<&Path>) -> Self {
        Self::with(camera, false).await
    }

    /// Starts one that gives no page anything but what [`Browser::permit`] grants it.
    ///
    /// # Panics
    /// When there is no room for a profile.
    pub async fn start_strict() -> Self {
        Self::with(None, true).await
    }

    async fn with(camera: Option<&Path>, is_strict: bool) -> Self {
        let mut browser = Self {
            profile: tempfile::tempdir().expect("a temporary folder"),
            camera: camera.map(Path::to_owned),
            is_strict,
            running: None,
        };
        browser.run().await;
        browser
    }

    /// Starts it again, with what it had kept.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn run(&mut self) {
        let port_file = self.profile.path().join("DevToolsActivePort");
        let _ = std::fs::remove_file(&port_file);
        let mut command = Command::new("chromium");
        isolate(&mut command, self.profile.path());
        command.args(ARGUMENTS).arg("about:blank");
        command.arg(format!("--user-data-dir={}", self.profile.path().display()));
        if !self.is_strict {
            command.arg(UNASKED);
        }
        if let Some(film) = &self.camera {
            command.arg(format!("--use-file-for-fake-video-capture={}", film.display()));
        }
        let program = Program::start("chromium", command);
        let (port, path) = until("chromium to listen", async || {
            let text = std::fs::read_to_string(&port_file).ok()?;
            let (port, path) = text.split_once('\n')?;
            Some((port.to_owned(), path.trim().to_owned()))
        })
        .await;
        let url = format!("ws://127.0.0.1:{port}{path}");
        let stream = TcpStream::connect(format!("127.0.0.1:{port}"))
            .await
            .expect("it listens");
        let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
        let connecting = tokio_tungstenite::client_async_with_config(url, stream, Some(config));
        let (socket, _) = within("DevTools", connecting).await.expect("an upgrade");
        let mut running = Running {
            program,
            socket,
            session: String::new(),
            last_id: 0,
            events: Vec::new(),
        };
        let target = running.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = running.call("Target.attachToTarget", attach).await;
        running.session = attached["sessionId"].as_str().expect("a session").to_owned();
        self.running = Some(running);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            self.call(domain, json!({})).await;
        }
    }

    /// Ends it and keeps its profile.
    ///
    /// # Panics
    /// When it is not running.
    pub async fn stop(&mut self) {
        let mut running = self.running.take().expect("a running browser");
        // It writes down what its pages stored.
        running.session.clear();
        running.say("Browser.close", &json!({})).await;
        running.program.exit().await;
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("a running browser")
    }

    /// One DevTools method of the page.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.running().call(method, params).await
    }

    /// One DevTools method of the browser itself.
    pub async fn call_browser(&mut self, method: &str, params: Value) -> Value {
        let running = self.running();
        let session = std::mem::take(&mut running.session);
        let reply = running.call(method, params).await;
        running.session = session;
        reply
    }

    /// What its user says to the pages of an origin who want such a thing: `granted` or `denied`.
    pub async fn permit(&mut self, origin: &str, permission: &str, setting: &str) {
        let answer = json!({"origin": origin, "permission": {"name": permission}, "setting": setting});
        self.call_browser("Browser.setPermission", answer).await;
    }

    /// Runs a script in every page from now on, before its own ones.
    pub async fn run_first(&mut self, script: &str) {
        let script = json!({"source": script});
        self.call("Page.addScriptToEvaluateOnNewDocument", script).await;
    }

    /// Opens an address and waits for its document.
    pub async fn open(&mut self, url: &str) {
        let reply = self.call("Page.navigate", json!({"url": url})).await;
        assert!(reply["errorText"].is_null(), "{url}: {reply}");
        self.until("the page to be loaded", "document.readyState === 'complete'")
            .await;
    }

    /// What an expression of the page gives; promises are awaited.
    ///
    /// # Panics
    /// When it throws.
    pub async fn eval(&mut self, expression: &str) -> Value {
        let ask = json!({"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true});
        let mut reply = self.call("Runtime.evaluate", ask).await;
        assert!(reply["exceptionDetails"].is_null(), "{expression}: {reply}");
        reply["result"]["value"].take()
    }

    /// Waits until an expression of the page is true.
    pub async fn until(&mut self, what: &str, expression: &str) {
        self.until_time(what, PATIENCE, expression).await;
    }

    /// [`Browser::until`], with another patience.
    pub async fn until_time(&mut self, what: &str, patience: Duration, expression: &str) {
        let expression = format!("Boolean({expression})");
        until_time(what, patience, async || {
            let ask = json!({"expression": expression, "returnByValue": true});
            let reply = self.call("Runtime.evaluate", ask).await;
            (reply["result"]["value"] == true).then_some(())
        })
        .await;
    }

    /// Presses the element that a selector finds, once it can be seen.
    pub async fn press(&mut self, selector: &str) {
        let found = format!("document.querySelector({})", json!(selector));
        let seen = format!("{found} && {found}.checkVisibility()");
        self.until(&format!("{selector} to be seen"), &seen).await;
        self.eval(&format!("{found}.click()")).await;
    }

    /// The text of the element that a selector finds.
    pub async fn text(&mut self, selector: &str) -> String {
        let text = self
            .eval(&format!("document.querySelector({}).innerText", json!(selector)))
            .await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// A picture of the page, PNG in base64.
    ///
    /// # Panics
    /// When there is none.
    pub async fn picture(&mut self) -> String {
        let shot = self.call("Page.captureScreenshot", json!({"format": "png"})).await;
        shot["data"].as_str().expect("a picture").to_owned()
    }

    /// What the page and the browser complained of so far: errors, and what the content security policy forbade.
    pub fn complaints(&mut self) -> Vec<String> {
        let told = |event: &Value| {
            let entry = &event["params"]["entry"];
            let is_error = event["method"] == "Runtime.exceptionThrown" || entry["level"] == "error";
            is_error.then(|| event["params"].to_string())
        };
        self.running().events.iter().filter_map(told).collect()
    }
}

impl Running {
    async fn say(&mut self, method: &str, params: &Value) -> u64 {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let text = Message::text(message.to_string());
        within("DevTools to listen", self.socket.send(text))
            .await
            .expect("an open connection");
        self.last_id
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.say(method, &params).await;
        loop {
            let heard = within(&format!("an answer to {method}"), self.socket.next()).await;
            let message = heard.expect("an open connection").expect("a whole frame");
            let Ok(text) = message.to_text() else { continue };
            let mut reply: Value = serde_json::from_str(text).unwrap_or_default();
            if reply["id"] != id {
                self.events.push(reply);
                continue;
            }
            assert!(reply["error"].is_null(), "{method}: {reply}");
            return reply["result"].take();
        }
    }
}
