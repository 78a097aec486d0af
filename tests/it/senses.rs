//! The small capabilities of a real node, called by operators through a real gateway: with the real programs of a desktop where they run
//! without one, with strict stand-ins where they do not.

use atoll_tests::mesh::{Mesh, Node, Pipe};
use serde_json::{Map, Value, json};

mod audio;
mod clipboard;
mod device;
mod location;
mod notify;

/// A gateway, and a node whose owners have allowed these commands.
struct Home {
    mesh: Mesh,
    node: Node,
    id: String,
}

impl Home {
    async fn new(pipe: Pipe, commands: &[&str], sections: Value, environment: &[(&str, &str)]) -> Self {
        let allow = json!({"gateway": {"nodes": {"commands": {"allow": commands}}}});
        let mesh = Mesh::with(&allow).await.over(pipe);
        let mut node = Node::prepare(&mesh.target(), "home", &[]).over(pipe);
        node = node.with_environment(environment);
        node.rules(&owners(commands, sections));
        node.run();
        let node = mesh.admit("home", node).await;
        let id = mesh.connected("home").await;
        Self { mesh, node, id }
    }

    async fn invoke(&self, command: &str, params: Value) -> Result<Value, String> {
        let request = json!({
            "nodeId": self.id, "command": command, "params": params, "timeoutMs": 20_000,
            "idempotencyKey": uuid::Uuid::new_v4().to_string(),
        });
        let answered = self.mesh.operator().await.call("node.invoke", request).await;
        let message = |error: Value| error["message"].as_str().unwrap_or_default().to_owned();
        answered.map(|mut answer| answer["payload"].take()).map_err(message)
    }

    /// What a command of the command line printed.
    async fn cli(&self, words: &[&str]) -> Result<String, String> {
        let output = self.mesh.cli(&[&["nodes"], words].concat()).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }
}

/// The owner's file of a node: these commands allowed, and further sections.
fn owners(commands: &[&str], sections: Value) -> Value {
    let allowed: Map<String, Value> = commands
        .iter()
        .map(|command| ((*command).to_owned(), json!("allow")))
        .collect();
    let mut document = sections;
    document["commands"] = json!(allowed);
    document
}

/// What `atoll-node doctor` says of a command that is not offered.
async fn missing(node: &Node, command: &str) -> String {
    let doctor = node.doctor().await;
    let rows = doctor["capabilities"].as_array().expect("rows").iter();
    let mut reasons = rows.flat_map(|row| row["missing"].as_array().cloned().unwrap_or_default());
    let reason = reasons.find(|reason| reason["command"] == command);
    reason.map_or_else(String::new, |reason| {
        reason["why"].as_str().unwrap_or_default().to_owned()
    })
}

#[tokio::test]
async fn what_looks_listens_or_tells_where_one_is_starts_denied_on_the_node() {
    let mesh = Mesh::start().await;
    let node = Node::prepare(&mesh.target(), "shy", &[]).with_environment(&[("DISPLAY", ":1")]);
    node.rules(&json!({"location": {"fixed": {"lat": 1, "lon": 1}}, "camera": {"microphone": ["-i", "x"]}}));
    for command in ["location.get", "clipboard.read", "clipboard.write", "audio.record"] {
        let why = missing(&node, command).await;
        let denied = format!("{command} is denied on this device until its owner");
        assert!(why.starts_with(&denied), "{command}: {why}");
    }
}
