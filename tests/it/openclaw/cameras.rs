//! Cameras between the two worlds: their command line sees through a node of ours, and their gateway calls one.

use std::path::Path;

use atoll_capabilities::camera::taken_at;
use atoll_tests::mesh::{Mesh, Node, admit};
use atoll_tests::openclaw::{OpenClaw, OpenClawGateway, SLOW};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::owner;
use crate::camera::{gateway_allows, owner_allows, probe};

fn camera_rules() -> Value {
    owner_allows(json!({"testPattern": true, "default": "test"}))
}

#[tokio::test]
async fn their_command_line_sees_and_films_through_our_node() {
    let mesh = Mesh::with(&gateway_allows()).await;
    let mut node = Node::prepare(&mesh.target(), "eye", &[]);
    node.rules(&camera_rules());
    node.run();
    let _node = mesh.admit("eye", node).await;
    let peer = OpenClaw::beside(&mesh.target());
    let camera = |words: &[&'static str]| [&["nodes", "camera"], words, &["--node", "eye", "--json"]].concat();

    let list = peer.cli_json(&camera(&["list"])).await;
    let mut devices = list.as_array().expect("a list").iter();
    assert!(
        devices.any(|row| row["id"] == "test" && row["name"] == "Test pattern"),
        "{list}"
    );

    let snapped = peer
        .cli_json(&camera(&["snap", "--device-id", "test", "--max-width", "320"]))
        .await;
    let file = &snapped["files"][0];
    assert_eq!(
        (&file["width"], &file["height"]),
        (&json!(320), &json!(180)),
        "{snapped}"
    );
    let jpeg = std::fs::read(file["path"].as_str().expect("a path")).expect("saved");
    assert!(taken_at(&jpeg).is_some(), "{snapped}");

    let filmed = peer
        .cli_json(&camera(&["clip", "--duration", "1s", "--no-audio"]))
        .await;
    assert_eq!(
        (&filmed["file"]["durationMs"], &filmed["file"]["hasAudio"]),
        (&json!(1000), &json!(false)),
        "{filmed}"
    );
    let clip = filmed["file"]["path"].as_str().expect("a path");
    let streams = probe(Path::new(clip)).await["streams"].take();
    assert_eq!(streams[0]["codec_name"], "h264", "{streams}");
}

#[tokio::test]
async fn their_gateway_takes_a_picture_with_our_node_if_both_owners_say_so() {
    let gateway = OpenClawGateway::allowing(&["camera.snap"]).await;
    let mut node = Node::prepare(gateway.target(), "Our Eye", &["--dialect", "openclaw"]);
    node.rules(&camera_rules());
    node.run();
    let mut theirs = owner(gateway.target()).await;
    let id = admit(&mut theirs, "Our Eye", SLOW).await;
    let call = |command: &str| json!({"nodeId": id, "command": command, "params": {"maxWidth": 320}, "idempotencyKey": uuid::Uuid::new_v4().to_string()});
    let answer = theirs
        .call("node.invoke", call("camera.snap"))
        .await
        .expect("a picture");
    let picture = &answer["payload"];
    let jpeg = STANDARD
        .decode(picture["base64"].as_str().expect("base64"))
        .expect("base64");
    assert!(taken_at(&jpeg).is_some(), "no test pattern");
    assert_eq!(
        (&picture["format"], &picture["width"], &picture["height"]),
        (&json!("jpg"), &json!(320), &json!(180))
    );
    let refused = theirs.call("node.invoke", call("camera.clip")).await;
    refused.expect_err("their owner allowed no clips");
    node.rules(&json!({"commands": {"camera.snap": "deny"}}));
    let denied = theirs
        .call("node.invoke", call("camera.snap"))
        .await
        .expect_err("denied");
    assert!(denied.to_string().contains("CAMERA_DISABLED"), "{denied}");
}
