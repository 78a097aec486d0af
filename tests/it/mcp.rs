//! MCP servers of a real node, called by operators and by an agent through a real gateway: what is published and when, and what a server
//! with bad manners costs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use atoll_tests::mesh::{Mesh, Node, Pipe, admit};
use atoll_tests::program::built;
use atoll_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};

mod agent;
mod live;

atoll_tests::over_every_pipe! {
    a_server_that_hangs_costs_one_call_and_is_told,
    tools_come_and_go_with_their_server_and_their_node,
}

/// A node whose owner lists the server.
pub(crate) fn owner_lists(more: &[&str], changes: &Value) -> Value {
    let mut server =
        json!({"command": built("atoll-mcp-server"), "args": more, "env": {"FOR_IT": "a-${SECRET_OF_IT}"}});
    for (name, value) in changes.as_object().into_iter().flatten() {
        server[name] = value.clone();
    }
    json!({"mcp": {"servers": {"manners": server}}})
}

struct Stage {
    mesh: Mesh,
    node: Node,
    id: String,
    notes: PathBuf,
}

impl Stage {
    async fn new(pipe: Pipe, more: &[&str], changes: Value) -> Self {
        let mesh = Mesh::start().await.over(pipe);
        let mut node = Node::prepare(&mesh.target(), "shed", &[])
            .over(pipe)
            .with_environment(&[("SECRET_OF_IT", "s3cret")]);
        let notes = node.state().join("notes");
        let mut arguments = vec!["--notes", notes.to_str().expect("plain")];
        arguments.extend(more);
        node.rules(&owner_lists(&arguments, &changes));
        node.run();
        let node = mesh.admit("shed", node).await;
        let id = mesh.connected("shed").await;
        Self { mesh, node, id, notes }
    }

    async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Value> {
        self.call_within(15_000, tool, arguments).await
    }

    async fn call_within(&self, timeout_ms: u64, tool: &str, arguments: Value) -> Result<Value, Value> {
        let mut operator = self.mesh.operator().await;
        let params = json!({"server": "manners", "tool": tool, "arguments": arguments});
        let request = json!({"nodeId": self.id, "command": "mcp.tools.call.v1", "params": params, "timeoutMs": timeout_ms,
            "idempotencyKey": uuid::Uuid::new_v4().to_string()});
        let mut answer = operator.call("node.invoke", request).await?;
        Ok(answer["payload"].take())
    }

    async fn text(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await.expect("an answer");
        result["content"][0]["text"].as_str().expect("text").to_owned()
    }

    /// What the node publishes, by the names for OpenClaw.
    async fn published(&self) -> Vec<String> {
        let mut operator = self.mesh.operator().await;
        let Ok(row) = operator.call("node.describe", json!({"nodeId": self.id})).await else {
            return Vec::new();
        };
        let tools = row["nodePluginTools"].as_array().expect("a list");
        tools
            .iter()
            .map(|tool| tool["name"].as_str().expect("a name").to_owned())
            .collect()
    }

    async fn publishes(&self, what: &str, is_it: impl Fn(&[String]) -> bool) {
        until(what, async || is_it(&self.published().await).then_some(())).await;
    }

    async fn noted(&self, word: &str) {
        until(&format!("the server to note {word}"), async || {
            let notes = std::fs::read_to_string(&self.notes).unwrap_or_default();
            notes.lines().any(|line| line == word).then_some(())
        })
        .await;
    }
}

fn has(name: &str) -> impl Fn(&[String]) -> bool {
    move |names| names.iter().any(|there| there == name)
}

fn message(error: &Value) -> &str {
    error["message"].as_str().unwrap_or_default()
}

async fn tools_come_and_go_with_their_server_and_their_node(pipe: Pipe) {
    let mut stage = Stage::new(pipe, &[], json!({"tools": ["echo", "pid", "variable", "grow*", "die"]})).await;
    stage.publishes("the tools", has("manners_echo")).await;
    assert_eq!(stage.text("echo", json!({"text": "hi é"})).await, "hi é");
    assert_eq!(stage.text("variable", json!({"text": "FOR_IT"})).await, "a-s3cret");
    assert_eq!(
        stage.text("variable", json!({"text": "SECRET_OF_IT"})).await,
        "",
        "it sees what it was given alone"
    );

    assert!(
        !has("manners_wrong")(&stage.published().await),
        "the owner did not name it"
    );
    let error = stage.call("wrong", json!({})).await.expect_err("not allowed");
    assert!(message(&error).contains("no tool \"wrong\""), "{error}");

    stage.call("grow", json!({})).await.expect("grows");
    stage.publishes("the new tool", has("manners_grown")).await;

    let first = stage.text("pid", json!({})).await;
    let error = stage.call("die", json!({})).await.expect_err("dies");
    assert!(message(&error).contains("ended before it answered"), "{error}");
    stage
        .publishes("the tools of the new server", |names| {
            has("manners_echo")(names) && !has("manners_grown")(names)
        })
        .await;
    assert_ne!(stage.text("pid", json!({})).await, first);

    stage.node.stop().await;
    stage.publishes("nothing without the node", <[String]>::is_empty).await;
    stage.node.run();
    stage.publishes("the tools again", has("manners_echo")).await;

    let mut operator = stage.mesh.operator().await;
    operator
        .call("device.pair.remove", json!({"deviceId": stage.id}))
        .await
        .expect("removed");
    stage
        .publishes("nothing of a node that was thrown out", <[String]>::is_empty)
        .await;
}

async fn a_server_that_hangs_costs_one_call_and_is_told(pipe: Pipe) {
    let stage = Stage::new(pipe, &[], json!({})).await;
    stage.publishes("the tools", has("manners_echo")).await;
    let pid = stage.text("pid", json!({})).await;
    let (hung, echoed) = tokio::join!(stage.call_within(2_000, "hang", json!({})), async {
        stage.noted("hangs").await;
        stage.text("echo", json!({"text": "meanwhile"})).await
    });
    let error = hung.expect_err("hangs");
    assert!(
        message(&error).contains("gave nothing within") && message(&error).contains("\"hang\""),
        "{error}"
    );
    assert_eq!(echoed, "meanwhile");
    stage.noted("cancelled").await;
    assert_eq!(stage.text("pid", json!({})).await, pid, "the same server goes on");
}

#[tokio::test]
async fn floods_and_giants_are_bounded_with_a_clear_error() {
    let stage = Stage::new(Pipe::Ws, &["--many", "2000"], json!({})).await;
    stage.publishes("the tools", has("manners_echo")).await;
    let names = stage.published().await;
    assert!(names.len() <= 64 && !has("manners_wide")(&names), "{}", names.len());

    let long = stage.text("text", json!({"bytes": 3_000_000})).await;
    assert!(
        long.len() < 300_000 && long.contains("bytes left out"),
        "{}",
        long.len()
    );
    let picture = stage.text("picture", json!({"bytes": 3_000_000})).await;
    assert!(
        picture.starts_with("[image of") && picture.contains("too large"),
        "{picture}"
    );

    let began = Instant::now();
    let error = stage
        .call("line", json!({"bytes": 20_000_000}))
        .await
        .expect_err("too much");
    assert!(message(&error).contains("more than 8 MiB"), "{error}");
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "told at once, not at the deadline"
    );

    let error = stage.call("flood", json!({})).await.expect_err("a flood");
    assert!(message(&error).contains("ended before it answered"), "{error}");
    stage.publishes("the tools again", has("manners_echo")).await;
    assert_eq!(stage.text("echo", json!({"text": "dry"})).await, "dry");
}

#[tokio::test]
async fn the_owner_has_the_last_word_and_is_told_what_is_wrong() {
    let mut stage = Stage::new(Pipe::Ws, &[], json!({})).await;
    stage.publishes("the tools", has("manners_echo")).await;
    let mut rules = owner_lists(&[], &json!({"env": {}}));
    rules["commands"] = json!({"mcp.manners": "deny", "mcp.manners.pid": "allow"});
    stage.node.rules(&rules);
    let error = stage.call("echo", json!({"text": "x"})).await.expect_err("denied");
    assert!(
        message(&error).contains("mcp.manners.echo is denied on this device"),
        "{error}"
    );
    stage.call("pid", json!({})).await.expect("the one that is allowed");
    stage
        .publishes("that one alone", |names| names == ["manners_pid"])
        .await;
    rules["commands"] = json!({"mcp.tools.call.v1": "deny"});
    stage.node.rules(&rules);
    let error = stage.call("echo", json!({"text": "x"})).await.expect_err("denied");
    assert!(message(&error).contains("denied on this device"), "{error}");

    for (rules, word) in [
        (json!({}), "no server is listed"),
        (json!({"mcpServers": {"far": {"url": "https://mcp.example/"}}}), "url"),
        (
            owner_lists(&[], &json!({"env": {"K": "${NOT_SET_ANYWHERE}"}})),
            "NOT_SET_ANYWHERE",
        ),
        (rules, "denied on this device"),
    ] {
        stage.node.rules(&rules);
        let doctor = stage.node.doctor().await.to_string();
        assert!(
            doctor.contains("mcp.tools.call.v1") && doctor.contains(word),
            "{rules}: {doctor}"
        );
    }
    let mut operator = stage.mesh.operator().await;
    stage.node.stop().await;
    stage
        .node
        .rules(&json!({"mcp": {"servers": {"gone": {"command": "surely-no-such-program"}}}}));
    stage.node.run();
    admit(&mut operator, "shed", PATIENCE).await;
    let params = json!({"server": "gone", "tool": "x"});
    let request = json!({"nodeId": stage.id, "command": "mcp.tools.call.v1", "params": params,
        "idempotencyKey": uuid::Uuid::new_v4().to_string()});
    let error = operator.call("node.invoke", request).await.expect_err("not there");
    assert!(
        message(&error).contains("surely-no-such-program does not start"),
        "{error}"
    );
}
