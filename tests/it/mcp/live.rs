//! Servers that the owner of a running node lists, changes and takes away.

use atoll_tests::mesh::Pipe;
use atoll_tests::wait::until;
use serde_json::json;

use super::{Stage, has, message, owner_lists};
use crate::camera::parent;

#[tokio::test]
async fn servers_come_change_and_go_with_the_owners_file_and_others_go_on() {
    let mut stage = Stage::new(Pipe::Quic, &[], json!({})).await;
    stage.publishes("the tools", has("manners_echo")).await;
    let pid = stage.text("pid", json!({})).await;

    // What has nothing to do with it leaves it alone; a second one comes.
    let notes = stage.notes.to_str().expect("plain").to_owned();
    let mut rules = owner_lists(&["--notes", &notes], &json!({}));
    let second = owner_lists(&[], &json!({"env": {}}))["mcp"]["servers"]["manners"].clone();
    rules["mcp"]["servers"]["second"] = second;
    rules["commands"] = json!({"system.notify": "deny"});
    stage.node.rules(&rules);
    stage.publishes("the second server", has("second_echo")).await;
    assert_eq!(stage.text("pid", json!({})).await, pid, "the first one goes on");

    rules["mcp"]["servers"]["manners"]["args"] = json!(["--many", "3"]);
    stage.node.rules(&rules);
    until("a new process", async || {
        let result = stage.call("pid", json!({})).await.ok()?;
        (result["content"][0]["text"] != pid).then_some(())
    })
    .await;
    until("the old one to be gone", async || {
        parent(pid.parse().ok()?).is_none().then_some(())
    })
    .await;

    // A file that cannot be used changes nothing of what runs.
    let second = stage.call_of("second", "pid").await.expect("runs");
    stage.node.rules(&json!({"mcp": {"servers": 5}}));
    let doctor = stage.node.doctor().await.to_string();
    assert!(doctor.contains("cannot be used"), "{doctor}");
    rules["mcp"]["servers"]
        .as_object_mut()
        .expect("servers")
        .remove("manners");
    stage.node.rules(&rules);
    stage
        .publishes("the second one alone", |names| {
            has("second_echo")(names) && !has("manners_echo")(names)
        })
        .await;
    let error = stage.call("echo", json!({"text": "x"})).await.expect_err("gone");
    assert!(
        message(&error).contains("this device has no MCP server \"manners\""),
        "{error}"
    );
    assert_eq!(stage.call_of("second", "pid").await.expect("runs"), second);

    stage.node.rules(&json!({}));
    stage.publishes("nothing", <[String]>::is_empty).await;
    until("its process to be gone", async || {
        let pid = second["content"][0]["text"].as_str()?.parse().ok()?;
        parent(pid).is_none().then_some(())
    })
    .await;
    stage.node.rules(&rules);
    stage.publishes("it again", has("second_echo")).await;
    stage.node.stop().await;
}

impl Stage {
    /// Of another server.
    async fn call_of(&self, server: &str, tool: &str) -> Result<serde_json::Value, serde_json::Value> {
        let params = json!({"server": server, "tool": tool});
        let request = json!({"nodeId": self.id, "command": "mcp.tools.call.v1", "params": params, "timeoutMs": 15_000,
            "idempotencyKey": uuid::Uuid::new_v4().to_string()});
        let mut answer = self.mesh.operator().await.call("node.invoke", request).await?;
        Ok(answer["payload"].take())
    }
}
