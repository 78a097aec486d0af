//! `atoll nodes camera …`, as it is typed.

use std::path::Path;

use atoll_capabilities::camera::taken_at;
use atoll_capabilities::capture::Splitter;
use atoll_tests::mesh::Pipe;
use serde_json::json;

use super::{Studio, photo};

/// `atoll nodes camera` and what follows.
fn camera<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["nodes", "camera"], words].concat()
}

#[tokio::test]
async fn pictures_clips_and_live_views_come_to_the_command_line() {
    let cameras = json!({"testPattern": true, "commands": [
        {"id": "b", "name": "Back", "position": "back", "snap": ["cat", "photo.jpg"]},
        {"id": "f", "name": "Front", "position": "front", "snap": ["cat", "photo.jpg"]},
    ]});
    let mut studio = Studio::new(Pipe::Quic, cameras).await;
    photo(&mut studio).await;
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path().to_str().expect("text");

    let list = studio.mesh.cli(&camera(&["list", "--node", "studio"])).await;
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(text.contains("Back") && text.contains("testPattern"), "{text}");

    let mut snap = camera(&[
        "snap",
        "--node",
        "studio",
        "--device-id",
        "test",
        "--max-width",
        "320",
        "--json",
        "--out",
    ]);
    snap.push(here);
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
