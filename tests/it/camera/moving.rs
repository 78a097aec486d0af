//! Clips and live streams of the test pattern and of programs of the owner's.

use std::path::Path;
use std::time::Duration;

use atoll_capabilities::camera::taken_at;
use atoll_capabilities::capture::Splitter;
use atoll_tests::mesh::{Mesh, Node, Pipe, TOKEN};
use atoll_tests::wait::within;
use atoll_tests::xserver::XServer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Studio, age, message, photo};
use crate::consent::refusal;

atoll_tests::over_every_pipe! {
    a_program_that_goes_on_writing_is_a_stream_too_and_ends_it_when_it_ends,
    a_clip_has_the_length_the_sound_and_the_wrapping_that_were_asked_for,
    a_clip_without_a_microphone_says_why_it_is_silent_and_one_that_breaks_off_leaves_nothing,
    a_stream_is_seen_live_and_ends_with_who_watches,
}

pub(crate) async fn probe(path: &Path) -> Value {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-show_streams", "-of", "json"]).arg(path);
    let output = within("ffprobe", command.output()).await.expect("ffprobe");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

async fn clip(studio: &mut Studio, params: Value) -> (Value, Value) {
    let mut result = studio.invoke("camera.clip", params, 60_000).await.expect("a clip");
    let bytes = STANDARD.decode(result["base64"].take().as_str().expect("base64"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("clip");
    std::fs::write(&path, bytes.expect("base64")).expect("room");
    (result, probe(&path).await["streams"].take())
}

async fn a_clip_has_the_length_the_sound_and_the_wrapping_that_were_asked_for(pipe: Pipe) {
    // A tone in the place of a microphone.
    let tone = ["-f", "lavfi", "-i", "sine=frequency=440"];
    let mut studio = Studio::new(
        pipe,
        json!({"testPattern": true, "default": "test", "microphone": tone}),
    )
    .await;
    let asked = json!({"durationMs": 1500, "fps": 10, "maxWidth": 320});
    let (result, streams) = clip(&mut studio, asked).await;
    let facts = ["format", "durationMs", "hasAudio", "width"].map(|field| result[field].clone());
    assert_eq!(facts, [json!("mp4"), json!(1500), json!(true), json!(320)], "{result}");
    let kinds = [&streams[0], &streams[1]].map(|stream| stream["codec_name"].clone());
    assert_eq!(
        (kinds, &streams[0]["nb_frames"]),
        ([json!("h264"), json!("aac")], &json!("15")),
        "{streams}"
    );

    let asked = json!({"durationMs": 1000, "fps": 10, "maxWidth": 160, "format": "webm", "includeAudio": false});
    let (result, streams) = clip(&mut studio, asked).await;
    assert_eq!(
        (&result["format"], &result["hasAudio"]),
        (&json!("webm"), &json!(false)),
        "{result}"
    );
    assert_eq!(
        (&streams[0]["codec_name"], streams.as_array().map(Vec::len)),
        (&json!("vp8"), Some(1)),
        "{streams}"
    );

    let error = studio
        .invoke("camera.clip", json!({"durationMs": 61_000}), 60_000)
        .await
        .expect_err("too long");
    assert!(message(&error).contains("60000 is the most"), "{error}");
    left_nothing(&mut studio).await;
}

async fn a_clip_without_a_microphone_says_why_it_is_silent_and_one_that_breaks_off_leaves_nothing(pipe: Pipe) {
    let cameras = json!({"testPattern": true, "commands": [
        {"id": "door", "snap": ["cat", "photo.jpg"]},
        {"id": "mute", "snap": ["sh", "-c", "[ -e once ] && exit 7; touch once; cat photo.jpg"]},
    ]});
    let mut studio = Studio::new(pipe, cameras).await;
    photo(&mut studio).await;
    let short = |id: &str| json!({"durationMs": 600, "fps": 5, "deviceId": id});
    let (result, streams) = clip(&mut studio, short("door")).await;
    assert!(
        result["audioMissing"].as_str().expect("a reason").contains("node.json"),
        "{result}"
    );
    assert_eq!(
        (&result["hasAudio"], &streams[0]["nb_frames"]),
        (&json!(false), &json!("3")),
        "{streams}"
    );
    let error = studio
        .invoke("camera.clip", short("mute"), 60_000)
        .await
        .expect_err("it broke off");
    assert!(message(&error).contains("exit status: 7"), "{error}");
    left_nothing(&mut studio).await;
}

#[tokio::test]
async fn a_node_without_ffmpeg_offers_pictures_alone_and_says_what_clips_and_recordings_need() {
    let server = XServer::start(&["64x48x24"]).await;
    let allow = json!(["camera.snap", "camera.clip", "screen.record"]);
    let mesh = Mesh::with(&json!({"gateway": {"nodes": {"commands": {"allow": allow}}}})).await;
    let nothing = tempfile::tempdir().expect("a folder");
    let path = [("PATH", nothing.path().to_str().expect("text"))];
    let mut node = Node::prepare(&mesh.target(), "bare", &[]).with_environment(&path);
    node.rules(&json!({
        "commands": {"camera": "allow", "screen": "allow"},
        "camera": {"testPattern": true, "default": "test"}, "screen": {"display": server.display},
    }));
    node.run();
    let _node = mesh.admit("bare", node).await;
    let id = mesh.connected("bare").await;
    let mut operator = mesh.operator().await;
    for command in ["camera.snap", "screen.snapshot"] {
        let key = uuid::Uuid::new_v4().to_string();
        let call = json!({"nodeId": id, "command": command, "timeoutMs": 15_000, "idempotencyKey": key});
        operator.call("node.invoke", call).await.expect("a picture");
    }
    let row = operator
        .call("node.describe", json!({"nodeId": id}))
        .await
        .expect("a node");
    for command in ["camera.clip", "screen.record"] {
        let declared = row["commands"].as_array().expect("a list");
        assert!(!declared.iter().any(|one| one == command), "{declared:?}");
        let why = refusal(&mesh, "bare", command).await;
        assert!(
            why.contains("there is no ffmpeg in PATH") && why.contains("apt install ffmpeg"),
            "{why}"
        );
    }
}

/// No process of a clip runs on, and no file of one lies about.
pub(crate) async fn left_nothing(studio: &mut Studio) {
    studio.is_tidy().await;
    let mut files = std::fs::read_dir(studio.node.state()).expect("a folder").flatten();
    assert!(!files.any(|file| file.file_name().to_string_lossy().starts_with("clip-")));
}

pub(crate) async fn begin(studio: &mut Studio, command: &str, params: Value) -> reqwest::Response {
    let result = studio.invoke_for_handles(command, params).await.expect("a stream");
    let id = result["blob"]["id"].as_str().expect("a handle");
    assert_eq!(
        (&result["blob"]["kind"], &result["format"]),
        (&json!("stream"), &json!("mjpeg")),
        "{result}"
    );
    let url = format!("{}/media/{id}", studio.mesh.target().http());
    let asking = reqwest::Client::new().get(url).bearer_auth(TOKEN).send();
    let response = within("the stream", asking).await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"multipart/x-mixed-replace".parse().expect("a type"))
    );
    response
}

pub(crate) async fn pictures(response: &mut reqwest::Response, count: usize) -> Vec<Vec<u8>> {
    let (mut splitter, mut pictures) = (Splitter::default(), Vec::new());
    while pictures.len() < count {
        let part = within("more of the stream", response.chunk()).await.expect("a body");
        pictures.extend(splitter.push(&part.expect("not over")));
    }
    pictures
}

async fn a_stream_is_seen_live_and_ends_with_who_watches(pipe: Pipe) {
    let mut studio = Studio::new(pipe, json!({"testPattern": true})).await;
    let mut response = begin(
        &mut studio,
        "camera.stream",
        json!({"deviceId": "test", "fps": 20, "maxWidth": 320}),
    )
    .await;
    let seen = pictures(&mut response, 30).await;
    let times: Vec<u32> = seen
        .iter()
        .map(|jpeg| taken_at(jpeg).expect("the time is in it"))
        .collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    assert!(age(*times.last().expect("thirty")) < 5_000, "not live");
    assert!(!studio.children().is_empty(), "the camera is on");
    let error = studio.snap(json!({"deviceId": "test"})).await.expect_err("in use");
    assert!(message(&error).contains("in use by a live stream"), "{error}");
    drop(response);
    studio.is_tidy().await;
    studio.snap(json!({"deviceId": "test"})).await.expect("free again");
}

async fn a_program_that_goes_on_writing_is_a_stream_too_and_ends_it_when_it_ends(pipe: Pipe) {
    let script = "for i in 1 2 3 4 5 6 7 8; do cat photo.jpg; sleep 0.1; done";
    let cameras =
        json!({"testPattern": true, "commands": [{"id": "door", "snap": ["false"], "stream": ["sh", "-c", script]}]});
    let mut studio = Studio::new(pipe, cameras).await;
    photo(&mut studio).await;
    let mut response = begin(&mut studio, "camera.stream", json!({"deviceId": "door", "fps": 60})).await;
    assert!(
        pictures(&mut response, 3)
            .await
            .iter()
            .all(|jpeg| taken_at(jpeg).is_some())
    );
    let ending = async { while let Ok(Some(_)) = response.chunk().await {} };
    within("the stream to end with its program", ending).await;
    studio.is_tidy().await;
    let timed = begin(
        &mut studio,
        "camera.stream",
        json!({"deviceId": "test", "durationMs": 700}),
    );
    let mut response = timed.await;
    let ending = async { while let Ok(Some(_)) = response.chunk().await {} };
    tokio::time::timeout(Duration::from_secs(10), ending)
        .await
        .expect("it ends in time");
    studio.is_tidy().await;
}
