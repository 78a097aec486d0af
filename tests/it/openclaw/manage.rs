//! Their command line as the one that looks after devices, nodes, channels and the log of our gateway.

use atoll_tests::fake::telegram::FakeTelegram;
use atoll_tests::fake_node::FakeNode;
use atoll_tests::mesh::Mesh;
use atoll_tests::openclaw::OpenClaw;
use atoll_tests::wire::{Device, Wire};
use serde_json::{Value, json};

const COMMANDS: [&str; 1] = ["device.info"];

async fn printed(peer: &OpenClaw, line: &str) -> Value {
    let words: Vec<_> = line.split(' ').chain(["--json"]).collect();
    peer.cli_json(&words).await
}

/// What a stranger is told to have approved.
async fn request(mesh: &Mesh) -> String {
    let refused = FakeNode::connect(&mesh.target(), Device::default(), "Stranger", &COMMANDS).await;
    refused.expect_err("a new device waits").request_id().to_owned()
}

async fn paired(owner: &mut Wire) -> Vec<Value> {
    let mut list = owner.call("device.pair.list", json!({})).await.expect("a list");
    assert_eq!(list["pending"], json!([]), "{list}");
    list["paired"].as_array_mut().expect("a list").drain(..).collect()
}

/// The connection of a device that was cut off by their command line.
async fn cut_off(node: &mut FakeNode) {
    assert_eq!(node.wire.closed().await, (Some(4001), "device removed".to_owned()));
}

#[tokio::test]
async fn their_command_line_looks_after_the_devices_of_our_gateway() {
    let mesh = Mesh::start().await;
    let peer = OpenClaw::beside(&mesh.target());
    let mut owner = mesh.operator().await;
    for family in ["devices", "nodes"] {
        let request = request(&mesh).await;
        let rejected = printed(&peer, &format!("{family} reject {request}")).await;
        assert_eq!(rejected["requestId"], request.as_str(), "{rejected}");
        assert_eq!(paired(&mut owner).await, [json!(null); 0]);
    }

    let mut node = FakeNode::pair(&mesh.target(), &mut owner, "first", &COMMANDS).await;
    let id = node.id();
    printed(&peer, &format!("devices rename --device {id} --name second")).await;
    assert_eq!(paired(&mut owner).await[0]["displayName"], "second");
    printed(&peer, "nodes rename --node second --name third").await;
    assert_eq!(paired(&mut owner).await[0]["displayName"], "third");

    let rotated = printed(&peer, &format!("devices rotate --device {id} --role node")).await;
    assert_eq!(
        (&rotated["deviceId"], &rotated["role"]),
        (&json!(id), &json!("node")),
        "{rotated}"
    );
    cut_off(&mut node).await;
    let again = async || FakeNode::connect(&mesh.target(), node.device.clone(), "first", &COMMANDS).await;
    let mut linked = again().await.expect("the secret brings it in, with a new token");
    assert_ne!(linked.hello["auth"]["deviceToken"], node.hello["auth"]["deviceToken"]);
    let revoked = printed(&peer, &format!("devices revoke --device {id} --role node")).await;
    assert_eq!(revoked["deviceId"], id, "{revoked}");
    cut_off(&mut linked).await;
    let refused = again().await.expect_err("it has to ask again");
    assert_eq!(refused.error["details"]["reason"], "role-upgrade", "{refused:?}");
    mesh.approve(&refused).await;

    for line in ["nodes remove --node third".to_owned(), format!("devices remove {id}")] {
        let mut linked = match again().await {
            Ok(linked) => linked,
            Err(refused) => {
                mesh.approve(&refused).await;
                again().await.expect("approved")
            }
        };
        linked.in_force(&mut owner).await;
        printed(&peer, &line).await;
        cut_off(&mut linked).await;
        assert_eq!(paired(&mut owner).await, [json!(null); 0], "{line}");
    }
}

#[tokio::test]
async fn their_command_line_shows_the_channels_and_the_log_of_our_gateway() {
    let telegram = FakeTelegram::start("99:TEST-token").await;
    let bot = json!({"botToken": telegram.token(), "apiRoot": telegram.api_root(), "allowFrom": ["42"]});
    let mesh = Mesh::with(&json!({"channels": {"telegram": bot}})).await;
    let peer = OpenClaw::beside(&mesh.target());
    let status = printed(&peer, "channels status").await;
    let account = &status["channelAccounts"]["telegram"][0];
    assert_eq!(
        (&account["accountId"], &account["configured"], &account["running"]),
        (&json!("default"), &json!(true), &json!(true)),
        "{status}"
    );
    let output = peer.cli(&["logs", "--plain", "--limit", "50"]).await;
    let (shown, log) = (
        String::from_utf8_lossy(&output.stdout),
        mesh.cli(&["logs", "-n", "50"]).await,
    );
    assert!(output.status.success(), "{shown}");
    let first = String::from_utf8_lossy(&log.stdout);
    let word = first
        .lines()
        .next()
        .expect("a line")
        .split_whitespace()
        .last()
        .expect("a word");
    assert!(shown.contains(word), "{word} in {shown}");
}
