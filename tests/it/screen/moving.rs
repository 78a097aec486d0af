//! Recordings and live streams of a screen on which something happens.

use std::path::Path;

use atoll_capabilities::capture::{Preview, preview};
use atoll_tests::mesh::Pipe;
use atoll_tests::wait::{until, within};
use atoll_tests::xserver::XServer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{beside, is_like, pixel};
use crate::camera::message;
use crate::camera::moving::{begin, left_nothing, pictures, probe};

atoll_tests::over_every_pipe! {
    a_screen_is_watched_live_while_others_take_pictures_of_it,
    a_server_that_dies_in_the_middle_is_one_clear_error_and_leaves_nothing,
}

const FIRST: u32 = 0xFF_80_00;
const THEN: u32 = 0x00_40_FF;

/// What a film shows, so many seconds after its beginning.
pub(super) async fn picture_at(film: &Path, seconds: &str) -> Preview {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-ss", seconds, "-i"]).arg(film);
    command.args(["-frames:v", "1", "-c:v", "png", "-f", "image2pipe", "-"]);
    let output = within("ffmpeg", command.output()).await.expect("ffmpeg");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    preview(&output.stdout, u32::MAX).unwrap_or_else(|| panic!("no picture at {seconds}: {complaint}"))
}

/// The colour in the middle of it.
async fn colour_at(film: &Path, seconds: &str) -> u32 {
    let picture = picture_at(film, seconds).await;
    pixel(&picture, picture.width / 2, picture.height / 2)
}

#[tokio::test]
async fn a_recording_has_the_length_that_was_asked_for_and_what_happened_meanwhile() {
    let server = XServer::start(&["640x480x24"]).await;
    let painter = server.painter();
    painter.point(0, 0, 0);
    painter.paint(0, (0, 0, 640, 480), FIRST);
    let mut studio = beside(Pipe::Quic, &server).await;
    let asked = json!({"durationMs": 2_000, "screenIndex": 0, "fps": 10, "format": "mp4", "includeAudio": false});
    let root = studio.node.program().pid();
    let changing = async {
        until("the film to begin", async || {
            let pids = crate::camera::descendants(root);
            crate::camera::running(&pids, "libx264")
        })
        .await;
        painter.paint(0, (0, 0, 640, 480), THEN);
    };
    let (result, ()) = tokio::join!(studio.invoke("screen.record", asked, 60_000), changing);
    let mut result = result.expect("a film");
    let bytes = STANDARD.decode(result["base64"].take().as_str().expect("base64"));
    let facts = ["format", "durationMs", "fps", "screenIndex", "hasAudio", "width"].map(|field| result[field].clone());
    assert_eq!(
        facts,
        [
            json!("mp4"),
            json!(2_000),
            json!(10),
            json!(0),
            json!(false),
            json!(640)
        ],
        "{result}"
    );
    assert_eq!(result.get("audioMissing"), None, "{result}");

    let folder = tempfile::tempdir().expect("a folder");
    let film = folder.path().join("film.mp4");
    std::fs::write(&film, bytes.expect("base64")).expect("room");
    let streams = probe(&film).await["streams"].take();
    let facts = ["codec_name", "nb_frames", "r_frame_rate", "duration"].map(|field| streams[0][field].clone());
    assert_eq!(
        facts,
        [json!("h264"), json!("20"), json!("10/1"), json!("2.000000")],
        "{streams}"
    );
    let (begins, ends) = (colour_at(&film, "0").await, colour_at(&film, "1.9").await);
    assert!(is_like(begins, FIRST) && is_like(ends, THEN), "{begins:06x} {ends:06x}");

    let silent = json!({"durationMs": 300, "fps": 5, "format": "webm", "maxWidth": 64});
    let result = studio.invoke("screen.record", silent, 60_000).await.expect("a film");
    let why = result["audioMissing"].as_str().expect("a reason");
    assert!(why.contains("section screen of node.json"), "{why}");
    assert_eq!((&result["format"], &result["width"]), (&json!("webm"), &json!(64)));
    let long = json!({"durationMs": 60_001});
    let error = studio
        .invoke("screen.record", long, 15_000)
        .await
        .expect_err("too long");
    assert!(message(&error).contains("60000 is the most"), "{error}");
    left_nothing(&mut studio).await;
}

async fn a_server_that_dies_in_the_middle_is_one_clear_error_and_leaves_nothing(pipe: Pipe) {
    let mut server = XServer::start(&["320x200x24"]).await;
    let mut studio = beside(pipe, &server).await;
    let root = studio.node.program().pid();
    let display = server.display.clone();
    let killing = async {
        until("the film to begin", async || {
            let pids = crate::camera::descendants(root);
            crate::camera::running(&pids, "libx264")
        })
        .await;
        server.program().kill().await;
    };
    let asked = json!({"durationMs": 30_000, "includeAudio": false});
    let (ended, ()) = tokio::join!(studio.invoke("screen.record", asked, 60_000), killing);
    let error = ended.expect_err("it is gone");
    let words = format!("SCREEN_UNAVAILABLE: the X server {display} is gone");
    assert!(message(&error).contains(&words), "{error}");
    // Its display is anybody's now: another test's server may stand there already.
    left_nothing(&mut studio).await;
}

async fn a_screen_is_watched_live_while_others_take_pictures_of_it(pipe: Pipe) {
    let server = XServer::start(&["640x480x24"]).await;
    let painter = server.painter();
    painter.point(0, 0, 0);
    painter.paint(0, (0, 0, 640, 480), FIRST);
    let mut studio = beside(pipe, &server).await;
    let asked = json!({"fps": 20, "maxWidth": 320});
    let mut response = begin(&mut studio, "screen.stream", asked.clone()).await;
    let seen = pictures(&mut response, 5).await;
    let middle = |jpeg: &[u8]| {
        let picture = preview(jpeg, u32::MAX).expect("a picture");
        assert_eq!((picture.width, picture.height), (320, 240));
        pixel(&picture, 160, 120)
    };
    assert!(seen.iter().all(|jpeg| is_like(middle(jpeg), FIRST)));
    painter.paint(0, (0, 0, 640, 480), THEN);
    until("what was painted to be seen", async || {
        let one = pictures(&mut response, 1).await;
        is_like(middle(&one[0]), THEN).then_some(())
    })
    .await;
    studio
        .invoke("screen.snapshot", json!({}), 15_000)
        .await
        .expect("watching takes nothing from others");
    let error = studio
        .invoke_for_handles("screen.stream", asked)
        .await
        .expect_err("one at a time");
    assert!(message(&error).contains("in use by a live stream"), "{error}");
    drop(response);
    studio.is_tidy().await;
    let timed: Value = json!({"durationMs": 500});
    let mut response = begin(&mut studio, "screen.stream", timed).await;
    within("the stream to end in time", async {
        while let Ok(Some(_)) = response.chunk().await {}
    })
    .await;
    studio.is_tidy().await;
}
