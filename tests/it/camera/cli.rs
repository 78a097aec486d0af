//! `atoll nodes camera …`, as it is typed.

use std::path::Path;

use atoll_capabilities::camera::taken_at;
use atoll_capabilities::capture::{Splitter, preview};
use atoll_tests::mesh::{Mesh, Node, Pipe};
use atoll_tests::wait::within;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Studio, gateway_allows, owner_allows, photo};

atoll_tests::over_every_pipe! {
    pictures_clips_and_live_views_come_to_the_command_line,
}

/// `atoll nodes camera` and what follows.
/// A picture of the test pattern; where it goes follows.
const SNAP: [&str; 8] = [
    "snap",
    "--node",
    "studio",
    "--device-id",
    "test",
    "--max-width",
    "320",
    "--out",
];

fn camera<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["nodes", "camera"], words].concat()
}

async fn pictures_clips_and_live_views_come_to_the_command_line(pipe: Pipe) {
    let cameras = json!({"testPattern": true, "commands": [
        {"id": "b", "name": "Back", "position": "back", "snap": ["cat", "photo.jpg"]},
        {"id": "f", "name": "Front", "position": "front", "snap": ["cat", "photo.jpg"]},
    ]});
    let mut studio = Studio::new(pipe, cameras).await;
    photo(&mut studio).await;
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path().to_str().expect("text");

    let list = studio.mesh.cli(&camera(&["list", "--node", "studio"])).await;
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(text.contains("Back") && text.contains("testPattern"), "{text}");

    let mut snap = camera(&SNAP);
    snap.extend([here, "--json"]);
    let told = studio.mesh.cli_json(&snap).await;
    let path = told["path"].as_str().expect("a path");
    assert!(
        path.starts_with(&format!("{here}/studio-test-")) && path.ends_with(".jpg"),
        "{path}"
    );
    assert!(taken_at(&std::fs::read(path).expect("saved")).is_some());
    assert_eq!((told["width"].as_u64(), told.get("blob")), (Some(320), None), "{told}");

    let mut both = camera(&["snap", "--node", "studio", "--facing", "both", "--json", "--out"]);
    both.push(here);
    let told = studio.mesh.cli_json(&both).await;
    let ids: Vec<_> = told
        .as_array()
        .expect("two")
        .iter()
        .map(|one| one["deviceId"].clone())
        .collect();
    assert_eq!(ids, [json!("f"), json!("b")]);

    what_moves(&mut studio, folder.path()).await;
}

/// What is seen on a terminal of that kind when a picture is taken, and the picture as it was saved.
async fn seen_on(terminal: (&str, &str)) -> (String, Vec<u8>) {
    let mesh = Mesh::with_environment(&gateway_allows(), &[terminal]).await;
    let mut node = Node::prepare(&mesh.target(), "studio", &[]);
    node.rules(&owner_allows(json!({"testPattern": true})));
    node.run();
    let _node = mesh.admit("studio", node).await;
    let folder = tempfile::tempdir().expect("a folder");
    let saved = folder.path().join("a.jpg");
    let mut snap = camera(&SNAP);
    snap.push(saved.to_str().expect("text"));
    let mut child = mesh.cli_on_terminal(&snap);
    // A terminal that nobody types on is there all the same.
    let _keys = child.stdin.take();
    let output = within("the picture", child.wait_with_output()).await.expect("an end");
    let seen = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{seen}");
    (seen, std::fs::read(saved).expect("saved"))
}

#[tokio::test]
async fn a_picture_is_shown_on_a_terminal_that_can_and_on_no_other() {
    let (seen, saved) = seen_on(("TERM_PROGRAM", "iTerm.app")).await;
    let (_, sent) = seen.split_once("\x1b]1337;File=inline=1;").expect("a picture");
    let (facts, text) = sent
        .split_once('\x07')
        .expect("its end")
        .0
        .split_once(':')
        .expect("its bytes");
    assert_eq!(facts, format!("size={};width=auto", saved.len()));
    assert_eq!(STANDARD.decode(text).expect("base64"), saved);

    let (seen, saved) = seen_on(("TERM", "xterm-kitty")).await;
    let picture = preview(&saved, u32::MAX).expect("a picture");
    let pieces = seen
        .split("\x1b_G")
        .skip(1)
        .map(|piece| piece.split_once("\x1b\\").expect("its end").0);
    let (heads, texts): (Vec<_>, String) = pieces.map(|piece| piece.split_once(';').expect("its bytes")).unzip();
    let head = format!("a=T,f=24,q=2,s={},v={},m=1", picture.width, picture.height);
    assert_eq!(
        (heads.first().copied(), heads.last().copied()),
        (Some(&*head), Some("m=0"))
    );
    assert!(STANDARD.decode(texts).expect("base64") == picture.rgb, "other pixels");

    let (seen, _) = seen_on(("TERM", "xterm-256color")).await;
    assert!(seen.contains("a.jpg") && !seen.contains('\x1b'), "{seen:?}");
}

async fn what_moves(studio: &mut Studio, folder: &Path) {
    let named = folder.join("a.mp4");
    let mut clip = camera(&[
        "clip",
        "--node",
        "studio",
        "--device-id",
        "test",
        "--duration",
        "1s",
        "--no-audio",
        "--out",
    ]);
    clip.push(named.to_str().expect("text"));
    let filmed = studio.mesh.cli(&clip).await;
    let text = String::from_utf8_lossy(&filmed.stdout).into_owned();
    assert!(text.ends_with("a.mp4 (1.0 s, without sound)\n"), "{text} {filmed:?}");
    assert!(
        std::fs::read(&named)
            .expect("saved")
            .windows(4)
            .any(|four| four == b"ftyp")
    );

    let watch = camera(&[
        "watch",
        "--node",
        "studio",
        "--device-id",
        "test",
        "--duration",
        "1500ms",
        "--fps",
        "20",
    ]);
    let watched = studio.mesh.cli(&watch).await;
    let pictures = Splitter::default().push(&watched.stdout);
    assert!(
        watched.status.success() && pictures.len() >= 5,
        "{} pictures",
        pictures.len()
    );
    assert!(pictures.iter().all(|picture| taken_at(picture).is_some()));

    let wrong = studio
        .mesh
        .cli(&camera(&["snap", "--node", "studio", "--device-id", "attic"]))
        .await;
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && text.contains("\"attic\""), "{text}");
    studio.is_tidy().await;
}
