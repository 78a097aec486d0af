//! `atoll nodes screen …`, as it is typed.

use atoll_capabilities::capture::{Splitter, preview};
use atoll_tests::mesh::Pipe;
use atoll_tests::xserver::XServer;

use super::{beside, pixel};

atoll_tests::over_every_pipe! {
    pictures_recordings_and_live_views_come_to_the_command_line,
}

const COLOUR: u32 = 0xFF_80_00;

/// `atoll nodes screen` and what follows, of the node.
fn screen<'a>(verb: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    [&["nodes", "screen", verb, "--node", "studio"], words].concat()
}

async fn pictures_recordings_and_live_views_come_to_the_command_line(pipe: Pipe) {
    let server = XServer::start(&["640x480x24"]).await;
    let painter = server.painter();
    painter.point(0, 0, 0);
    painter.paint(0, (0, 0, 640, 480), COLOUR);
    let mut studio = beside(pipe, &server).await;
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path().to_str().expect("text");

    let list = studio.mesh.cli(&screen("list", &[])).await;
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(text.contains("640x480") && text.contains("yes"), "{text}");

    let snap = screen("snap", &["--format", "png", "--json", "--out", here]);
    let told = studio.mesh.cli_json(&snap).await;
    let path = told["path"].as_str().expect("a path");
    assert!(
        path.starts_with(&format!("{here}/studio-screen0-")) && path.ends_with(".png"),
        "{path}"
    );
    let picture = preview(&std::fs::read(path).expect("saved"), u32::MAX).expect("a picture");
    assert_eq!((picture.width, pixel(&picture, 320, 240)), (640, COLOUR));
    assert_eq!((told["width"].as_u64(), told.get("blob")), (Some(640), None), "{told}");
    let told = studio.mesh.cli_json(&screen("snap", &["--json", "--out", here])).await;
    assert!(
        told["path"].as_str().is_some_and(|path| path.ends_with(".jpg")),
        "{told}"
    );

    let named = folder.path().join("a.mp4");
    let out = named.to_str().expect("text");
    let record = screen(
        "record",
        &["--duration", "500ms", "--fps", "10", "--no-audio", "--out", out],
    );
    let filmed = studio.mesh.cli(&record).await;
    let text = String::from_utf8_lossy(&filmed.stdout).into_owned();
    assert!(text.ends_with("a.mp4 (0.5 s, without sound)\n"), "{text} {filmed:?}");
    let film = std::fs::read(&named).expect("saved");
    assert!(film.windows(4).any(|four| four == b"ftyp"));

    let watch = screen("watch", &["--duration", "1s", "--fps", "20"]);
    let watched = studio.mesh.cli(&watch).await;
    let pictures = Splitter::default().push(&watched.stdout);
    assert!(
        watched.status.success() && pictures.len() >= 3,
        "{} pictures",
        pictures.len()
    );

    let wrong = studio.mesh.cli(&screen("snap", &["--screen", "9"])).await;
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && text.contains("no screen 9"), "{text}");
    studio.is_tidy().await;
}
