//! What is put on a phone with Termux, as far as it runs elsewhere: the owner's file of the document, and the script that starts the node.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use atoll_tests::mesh::{Mesh, Node};
use atoll_tests::program::{Program, built};
use atoll_tests::tree::root;
use atoll_tests::wait::until;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::documents::fenced;

/// Like that of Termux:API: takes the number of a camera and a file, and nothing else.
const CAMERA: &str = r#"[ "$#" = 3 ] && [ "$1" = -c ] || exit 2
case "$2" in 0 | 1) cp "${0%/*}/$2.jpg" "$3" ;; *) exit 3 ;; esac"#;

fn program(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("room");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
}

/// A search path that begins there.
fn path_with(folder: &Path) -> String {
    format!("{}:{}", folder.display(), std::env::var("PATH").expect("a path"))
}

/// A picture of one colour.
async fn photo(file: &Path, colour: &str) {
    let mut command = Command::new("ffmpeg");
    let source = format!("color=c={colour}:s=64x48:d=1");
    command
        .args(["-v", "error", "-f", "lavfi", "-i", &source, "-frames:v", "1"])
        .arg(file);
    assert!(command.status().await.expect("ffmpeg").success());
}

#[tokio::test]
async fn the_owners_file_of_the_document_makes_a_phone_with_termux_a_camera() {
    let document = std::fs::read_to_string(root().join("docs/phone.md")).expect("a document");
    let mut rules: Value = serde_json::from_str(&fenced(&document, "json").join("\n")).expect("one file");
    let folder = tempfile::tempdir().expect("a folder");
    program(folder.path(), "termux-camera-photo", CAMERA);
    photo(&folder.path().join("0.jpg"), "0xC80000").await;
    photo(&folder.path().join("1.jpg"), "0x0000C8").await;

    let mesh = Mesh::with(&crate::camera::gateway_allows()).await;
    let path = path_with(folder.path());
    let mut node = Node::prepare(&mesh.target(), "phone", &[]).with_environment(&[("PATH", &path)]);
    assert_eq!(rules["commands"]["camera"], "ask", "its owner is there");
    rules["commands"]["camera"] = json!("allow");
    node.rules(&rules);
    node.run();
    let _node = mesh.admit("phone", node).await;
    let id = mesh.connected("phone").await;
    let mut operator = mesh.operator().await;
    for (params, red, blue) in [
        (json!({}), 200, 0),
        (json!({"facing": "front"}), 0, 200),
        (json!({"facing": "back"}), 200, 0),
    ] {
        let key = uuid::Uuid::new_v4().to_string();
        let call = json!({"nodeId": id, "command": "camera.snap", "params": params, "idempotencyKey": key});
        let reply = operator.call("node.invoke", call).await.expect("a photo");
        let jpeg = STANDARD.decode(reply["payload"]["base64"].as_str().expect("base64"));
        let picture = atoll_capabilities::capture::preview(&jpeg.expect("base64"), 64).expect("a picture");
        let near = |at: usize, colour: u8| picture.rgb[at].abs_diff(colour) < 40;
        assert!(near(0, red) && near(2, blue), "{params}: {:?}", &picture.rgb[..3]);
    }
}

#[tokio::test]
async fn the_script_for_the_boot_of_a_phone_keeps_it_awake_and_starts_the_node_that_was_paired() {
    let mesh = Mesh::start().await;
    let home = tempfile::tempdir().expect("a folder");
    let bin = home.path().join("bin");
    std::fs::create_dir(&bin).expect("room");
    symlink(built("atoll-node"), bin.join("atoll-node")).expect("room");
    program(&bin, "termux-wake-lock", "touch \"$HOME/awake\"");
    let isolated = |program: &Path| {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", path_with(&bin))
            .env("HOME", home.path());
        command
    };
    let invitation = mesh.cli_json(&["devices", "invite", "--name", "phone", "--json"]).await;
    let link = invitation["link"].as_str().expect("a link");
    let mut pair = isolated(&bin.join("atoll-node"));
    pair.args(["pair", link]);
    assert!(pair.status().await.expect("a program").success());

    let mut boot = isolated(Path::new("/bin/sh"));
    boot.arg(root().join("scripts/termux-boot"));
    let mut boot = Program::start("termux-boot", boot);
    mesh.connected("phone").await;
    assert!(home.path().join("awake").exists());
    until("the node to write its log", async || {
        let log = std::fs::read_to_string(home.path().join("atoll-node.log")).unwrap_or_default();
        (!log.is_empty()).then_some(())
    })
    .await;
    // The script has become the node: who ends it ends the node, in order.
    boot.terminate().await;
}
