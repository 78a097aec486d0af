//! Cameras that break in the middle: helpers that are killed or stopped, programs that give up, disks that are full. Each is one clear
//! error, and nothing is left of it.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use atoll_capabilities::camera::taken_at;
use atoll_capabilities::capture::Splitter;
use atoll_tests::mesh::{Mesh, Node, Pipe, TOKEN};
use atoll_tests::wait::{until, within};
use http_body_util::BodyExt;
use rustix::process::Signal;
use serde_json::json;

use super::moving::{begin, left_nothing};
use super::{Studio, descendants, gateway_allows, message, owner_allows, photo, running};

atoll_tests::over_every_pipe! {
    all_who_watch_a_stream_are_told_why_it_broke_off,
    the_command_line_shows_what_came_and_says_why_there_is_no_more,
}

/// Why a stream broke off, for those who ask for trailers.
const BROKEN: &str = "atoll-broken";

/// Watches a stream as one who wants to be told.
pub(crate) async fn watch(url: reqwest::Url) -> reqwest::Body {
    let asking = reqwest::Client::new()
        .get(url)
        .bearer_auth(TOKEN)
        .header("TE", "trailers");
    asking.send().await.expect("an answer").into()
}

/// Why it broke off, after the rest of it.
pub(crate) async fn reason(body: &mut reqwest::Body) -> String {
    loop {
        let frame = body.frame().await.expect("not over yet").expect("a whole body");
        if let Some(trailers) = frame.trailers_ref() {
            return trailers[BROKEN].to_str().expect("text").to_owned();
        }
    }
}

/// Waits for a helper that works with this program, and sends it a signal.
async fn strike(node: u32, program: &str, signal: Signal) {
    let helper = until("the helper at work", async || {
        let pids = descendants(node);
        running(&pids, program).and(running(&pids, "capture-helper"))
    });
    let pid = rustix::process::Pid::from_raw(i32::try_from(helper.await).expect("a process id"));
    rustix::process::kill_process(pid.expect("a process id"), signal).expect("it runs");
}

#[tokio::test]
async fn a_clip_whose_helper_is_killed_or_stopped_is_one_clear_error_and_leaves_nothing() {
    let mut studio = Studio::new(Pipe::Quic, json!({"testPattern": true, "default": "test"})).await;
    let node = studio.node.program().pid();
    let long = json!({"durationMs": 50_000, "includeAudio": false});
    let (ended, ()) = tokio::join!(
        studio.invoke("camera.clip", long.clone(), 60_000),
        strike(node, "ffmpeg", Signal::KILL)
    );
    let error = ended.expect_err("its helper was killed");
    assert!(message(&error).contains("helper crashed (signal: 9"), "{error}");
    left_nothing(&mut studio).await;

    let began = Instant::now();
    let (ended, ()) = tokio::join!(
        studio.invoke("camera.clip", long, 5_000),
        strike(node, "ffmpeg", Signal::STOP)
    );
    let error = ended.expect_err("its helper was stopped");
    assert!(message(&error).contains("its helper was ended"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    left_nothing(&mut studio).await;
    studio.snap(json!({})).await.expect("the next one works");
}

async fn all_who_watch_a_stream_are_told_why_it_broke_off(pipe: Pipe) {
    let mut studio = Studio::new(pipe, json!({"testPattern": true})).await;
    let node = studio.node.program().pid();
    let mut plain = begin(&mut studio, "camera.stream", json!({"deviceId": "test"})).await;
    let mut told = within("the stream", watch(plain.url().clone())).await;
    within("a picture", told.frame()).await.expect("more").expect("a part");
    strike(node, "capture-helper", Signal::KILL).await;

    let reason = within("the reason", reason(&mut told)).await;
    assert!(
        reason.starts_with("CAMERA_UNAVAILABLE: ") && reason.contains("signal: 9"),
        "{reason}"
    );
    let torn = within("the end", async {
        loop {
            match plain.chunk().await {
                Ok(Some(_)) => {}
                end => return end,
            }
        }
    });
    assert!(torn.await.is_err(), "no stream is whole that is not");
    studio.is_tidy().await;
}

async fn the_command_line_shows_what_came_and_says_why_there_is_no_more(pipe: Pipe) {
    let script = "for i in 1 2 3; do cat photo.jpg; sleep 0.2; done; echo tired >&2; exit 3";
    let cameras = json!({"testPattern": true, "commands": [
        {"id": "door", "snap": ["false"], "stream": ["sh", "-c", script]}]});
    let mut studio = Studio::new(pipe, cameras).await;
    photo(&mut studio).await;
    let words = [
        "nodes",
        "camera",
        "watch",
        "--node",
        "studio",
        "--device-id",
        "door",
        "--fps",
        "30",
    ];
    let watched = studio.mesh.cli(&words).await;
    let pictures = Splitter::default().push(&watched.stdout);
    assert!(
        pictures.iter().any(|picture| taken_at(picture).is_some()),
        "none of three"
    );
    let text = String::from_utf8_lossy(&watched.stderr);
    let reason = "the stream broke off: CAMERA_UNAVAILABLE: the program of camera \"door\" stopped (exit status: 3); it says: tired";
    assert!(!watched.status.success() && text.contains(reason), "{text}");
    studio.is_tidy().await;
}

/// Writes into a file until there is no room.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    while file.write_all(&[0]).is_ok() {}
}

#[tokio::test]
async fn a_full_disk_is_one_clear_error_and_no_beginning_of_a_clip() {
    let mesh = Mesh::with(&gateway_allows()).await.over(Pipe::Quic);
    let mut node = Node::prepare(&mesh.target(), "studio", &[]).over(Pipe::Quic);
    node.rules(&owner_allows(json!({"testPattern": true, "default": "test"})));
    node.on_a_disk_of(4 * 1024 * 1024).run();
    let mut node = mesh.admit("studio", node).await;
    let id = mesh.connected("studio").await;
    let inside = format!("/proc/{}/root{}", node.program().pid(), node.state().display());
    let ballast = Path::new(&inside).join("ballast");
    let mut studio = Studio {
        mesh,
        node,
        id,
        scratch: tempfile::tempdir().expect("a temporary folder"),
    };
    let short = json!({"durationMs": 500, "fps": 10, "includeAudio": false});

    fill(&ballast);
    let error = studio
        .invoke("camera.clip", short.clone(), 60_000)
        .await
        .expect_err("no room");
    assert!(message(&error).contains("No space left on device"), "{error}");
    studio.snap(json!({})).await.expect("a picture needs no room there");
    let names = |inside: &str| -> Vec<String> {
        let entries = std::fs::read_dir(inside).expect("a folder").flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    };
    assert!(
        names(&inside).iter().any(|name| name == "node.json"),
        "the node's own folder"
    );
    assert!(
        !names(&inside).iter().any(|name| name.starts_with("clip-")),
        "{:?}",
        names(&inside)
    );

    std::fs::remove_file(ballast).expect("ours");
    studio.invoke("camera.clip", short, 60_000).await.expect("room again");
    studio.is_tidy().await;
}
