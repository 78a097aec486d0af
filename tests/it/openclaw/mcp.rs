//! A server made with the official SDK of the Model Context Protocol, and tools of nodes across the two worlds.

use atoll_tests::mesh::{Mesh, Node, admit};
use atoll_tests::openclaw::{OpenClaw, OpenClawGateway, SLOW, official_mcp_server};
use atoll_tests::wait::until_time;
use atoll_tests::wire::Wire;
use serde_json::{Value, json};

use super::owner;

/// Its tools are there, can be called, and become more.
async fn expect_tools(operator: &mut Wire, node: &str) {
    let published = async |operator: &mut Wire| {
        let row = operator.call("node.describe", json!({"nodeId": node})).await.ok()?;
        let names = row["nodePluginTools"]
            .as_array()?
            .iter()
            .map(|tool| tool["name"].as_str().map(str::to_owned));
        names.collect::<Option<Vec<_>>>()
    };
    until_time("the tools to be published", SLOW, async || {
        (published(operator).await? == ["official_shout"]).then_some(())
    })
    .await;
    let call = |tool: &str, text: &str| {
        json!({"nodeId": node, "command": "mcp.tools.call.v1", "timeoutMs": 15_000, "idempotencyKey": uuid::Uuid::new_v4().to_string(),
            "params": {"server": "official", "tool": tool, "arguments": {"text": text}}})
    };
    let mut learned = operator
        .call("node.invoke", call("shout", "learn"))
        .await
        .expect("an answer");
    assert_eq!(
        learned["payload"].take(),
        json!({"content": [{"type": "text", "text": "LEARN"}]})
    );
    until_time("the new tool", SLOW, async || {
        (published(operator).await? == ["official_shout", "official_whisper"]).then_some(())
    })
    .await;
    let answer = operator
        .call("node.invoke", call("whisper", "HUSH"))
        .await
        .expect("an answer");
    assert_eq!(answer["payload"]["content"][0]["text"], "hush", "{answer}");
    let error = operator
        .call("node.invoke", call("sing", "la"))
        .await
        .expect_err("no such tool");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| message.contains("sing")),
        "{error}"
    );
}

fn servers() -> Value {
    json!({"servers": {"official": official_mcp_server()}})
}

#[tokio::test]
async fn a_server_of_the_official_sdk_serves_our_gateway() {
    let mesh = Mesh::start().await;
    let mut node = Node::prepare(&mesh.target(), "study", &[]);
    node.rules(&json!({"mcp": servers()}));
    node.run();
    let mut operator = mesh.operator().await;
    let id = admit(&mut operator, "study", SLOW).await;
    expect_tools(&mut operator, &id).await;
}

#[tokio::test]
async fn our_node_publishes_its_tools_to_their_gateway() {
    let gateway = OpenClawGateway::start().await;
    let mut node = Node::prepare(gateway.target(), "study", &["--dialect", "openclaw"]);
    node.rules(&json!({"mcp": servers()}));
    node.run();
    let mut theirs = owner(gateway.target()).await;
    let id = admit(&mut theirs, "study", SLOW).await;
    expect_tools(&mut theirs, &id).await;
}

#[tokio::test]
async fn their_node_publishes_its_tools_to_our_gateway() {
    let mesh = Mesh::start().await;
    let peer = OpenClaw::beside(&mesh.target());
    let _node = peer.node_with("study", &json!({"nodeHost": {"mcp": servers()}}));
    let mut operator = mesh.operator().await;
    let id = admit(&mut operator, "study", SLOW).await;
    expect_tools(&mut operator, &id).await;
}
