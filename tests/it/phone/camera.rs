//! What a phone sees and hears: photos, clips, live pictures, sound. The camera shows a film that the test made, with colours nobody
//! else knows.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use atoll_tests::wait::{until, within};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::process::Command;

use super::Phone;
use crate::camera::{reason, watch};

/// Colours side by side.
type Code = [[u8; 3]; 4];

/// A film of four colours side by side that are this test's alone.
struct Film {
    folder: tempfile::TempDir,
    code: Code,
}

impl Film {
    async fn shoot() -> Self {
        let random = uuid::Uuid::new_v4();
        let mut bits = random
            .as_bytes()
            .iter()
            .map(|byte| if byte & 1 == 0 { 0x28 } else { 0xD8 });
        let mut channel = || bits.next().expect("sixteen bytes for twelve channels");
        let code: Code = std::array::from_fn(|_| std::array::from_fn(|_| channel()));
        let film = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            code,
        };
        let colours =
            code.map(|[red, green, blue]| format!("color=c=0x{red:02x}{green:02x}{blue:02x}:s=160x480:r=10:d=1"));
        let mut command = Command::new("ffmpeg");
        command.args(["-loglevel", "error", "-y"]);
        for colour in &colours {
            command.args(["-f", "lavfi", "-i", colour]);
        }
        command.args([
            "-filter_complex",
            "hstack=inputs=4",
            "-q:v",
            "2",
            "-pix_fmt",
            "yuvj420p",
            "-f",
            "mjpeg",
        ]);
        command.arg(film.path());
        run(command).await;
        film
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("film.mjpeg")
    }

    /// The colours of a picture or of the first picture of a clip.
    async fn colours(&self, media: &[u8]) -> Code {
        let file = self.folder.path().join(uuid::Uuid::new_v4().to_string());
        std::fs::write(&file, media).expect("room for a picture");
        let mut command = Command::new("ffmpeg");
        command.args(["-loglevel", "error", "-i"]).arg(&file);
        // The middle of each colour: at the borders they mix.
        command.args([
            "-vf",
            "scale=12:3:flags=area,format=rgb24",
            "-frames:v",
            "1",
            "-f",
            "rawvideo",
            "-",
        ]);
        let pixels = run(command).await;
        std::array::from_fn(|at| {
            let pixel = (12 + 3 * at + 1) * 3;
            [pixels[pixel], pixels[pixel + 1], pixels[pixel + 2]]
        })
    }

    async fn is_seen_in(&self, media: &[u8]) {
        let seen = self.colours(media).await;
        let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) < 60;
        let is_same = seen.iter().flatten().zip(self.code.iter().flatten()).all(near);
        assert!(is_same, "planted {:?}, seen {seen:?}", self.code);
    }
}

async fn run(mut command: Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = within("ffmpeg", output).await.expect("ffmpeg is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub(super) fn bytes(reply: &Value) -> Vec<u8> {
    STANDARD
        .decode(reply["base64"].as_str().expect("base64"))
        .expect("base64")
}

/// What `ffprobe` says of it: the kinds of its streams.
async fn probed(media: &[u8], folder: &Path) -> Vec<String> {
    let file = folder.join("clip");
    std::fs::write(&file, media).expect("room for a clip");
    let mut command = Command::new("ffprobe");
    command
        .args([
            "-loglevel",
            "error",
            "-show_entries",
            "stream=codec_type",
            "-of",
            "csv=p=0",
        ])
        .arg(file);
    let text = run(command).await;
    String::from_utf8_lossy(&text)
        .lines()
        .map(|line| line.trim_matches(',').to_owned())
        .collect()
}

#[tokio::test]
async fn an_operator_sees_through_the_camera_of_a_phone_and_it_is_off_again_afterwards() {
    let film = Film::shoot().await;
    let mut phone = Phone::pair(Some(&film.path())).await;
    for command in ["camera.list", "camera.snap", "camera.clip", "audio.record"] {
        phone.switch(command, "allow").await;
    }
    let listed = phone.call("camera.list", json!({})).await.expect("allowed");
    assert!(listed["devices"][0]["id"].is_string(), "{listed}");

    let params = json!({"facing": "back", "maxWidth": 320, "quality": 0.9, "format": "jpg"});
    let snapped = phone.call("camera.snap", params).await.expect("a photo");
    assert_eq!(
        (&snapped["format"], &snapped["width"], &snapped["height"]),
        (&json!("jpg"), &json!(320), &json!(240))
    );
    film.is_seen_in(&bytes(&snapped)).await;
    phone
        .browser
        .until("the camera to be off", "!document.querySelector('video.source')")
        .await;

    let clip = json!({"durationMs": 1500, "includeAudio": true, "format": "mp4"});
    let clip = phone.call("camera.clip", clip).await.expect("a clip");
    assert_eq!(clip["hasAudio"], true, "{}", clip["format"]);
    let mut kinds = probed(&bytes(&clip), film.folder.path()).await;
    kinds.sort();
    assert_eq!(kinds, ["audio", "video"]);
    film.is_seen_in(&bytes(&clip)).await;
    assert_eq!(clip.get("audioMissing"), None);
    let sound = phone
        .call("audio.record", json!({"durationMs": 800}))
        .await
        .expect("sound");
    assert_eq!(
        probed(&bytes(&sound), film.folder.path()).await,
        ["audio"],
        "{}",
        sound["format"]
    );
    assert!(sound["durationMs"].as_u64() >= Some(800), "{}", sound["durationMs"]);
    phone.switch("audio.record", "deny").await;
    let silent = phone
        .call("camera.clip", json!({"durationMs": 500}))
        .await
        .expect("a clip");
    assert_eq!(silent["hasAudio"], false, "the microphone is off");
    let missing = silent["audioMissing"].as_str().expect("a reason");
    assert!(missing.contains("switched on beside audio.record"), "{missing}");
    assert_eq!(probed(&bytes(&silent), film.folder.path()).await, ["video"]);

    refusals(&mut phone).await;
    phone
        .browser
        .until("the camera to be off", "!document.querySelector('video.source')")
        .await;
}

/// What is asked of it in vain, while its microphone is off.
async fn refusals(phone: &mut Phone) {
    for (command, params, code) in [
        ("audio.record", json!({}), "MIC_DISABLED"),
        ("camera.snap", json!({"torch": true}), "TORCH_UNAVAILABLE"),
        ("camera.snap", json!({"maxWidth": "wide"}), "INVALID_REQUEST"),
        (
            "camera.snap",
            json!({"deviceId": "no such camera"}),
            "CAMERA_UNAVAILABLE",
        ),
    ] {
        assert_eq!(phone.refused(command, params).await, code, "{command}");
    }
}

#[tokio::test]
async fn the_owner_of_a_phone_sees_what_is_used_and_stops_it() {
    let mut phone = Phone::pair(None).await;
    phone.switch("camera.clip", "allow").await;
    let asked = phone
        .owner
        .ask(
            "node.invoke",
            phone.invoke("camera.clip", json!({"durationMs": 30_000})),
        )
        .await;
    phone
        .browser
        .until("the camera to be on", "document.querySelector('video.source')")
        .await;
    let shown = phone.browser.text("#banner").await;
    assert!(shown.contains("In use by your gateway: Recording a video"), "{shown}");
    phone.browser.press("#stop").await;
    let stopped = phone.owner.answer(&asked).await.expect_err("stopped");
    assert_eq!(stopped["details"]["nodeError"]["code"], "CANCELLED", "{stopped}");
    phone
        .browser
        .until("the camera to be off", "!document.querySelector('video.source')")
        .await;
    phone
        .browser
        .until("the banner to go", "document.querySelector('#banner').hidden")
        .await;
    let log = phone.browser.eval("document.querySelector('#log').textContent").await;
    assert!(
        log.as_str()
            .is_some_and(|log| log.contains("camera.clip") && log.contains("CANCELLED")),
        "{log}"
    );
}

#[tokio::test]
async fn a_live_picture_is_watched_by_two_and_ends_with_the_last_of_them() {
    let film = Film::shoot().await;
    let mut phone = Phone::pair(Some(&film.path())).await;
    phone.switch("camera.stream", "allow").await;
    let params = json!({"fps": 10, "maxWidth": 320});
    let started = phone.call("camera.stream", params).await.expect("a stream");
    assert_eq!(
        (&started["format"], &started["blob"]["kind"]),
        (&json!("mjpeg"), &json!("stream")),
        "{started}"
    );
    let live = started["blob"]["id"].as_str().expect("a name");
    let url = format!("{}/media/{live}", phone.mesh.target().http());
    let ask = || {
        reqwest::Client::new()
            .get(&url)
            .bearer_auth(&phone.mesh.target().token)
            .send()
    };
    let mut first = ask().await.expect("an answer");
    assert_eq!(first.headers()["content-type"], "multipart/x-mixed-replace");
    let mut second = ask().await.expect("an answer");
    for watching in [&mut first, &mut second] {
        for picture in pictures(watching, 5).await {
            film.is_seen_in(&picture).await;
        }
    }
    drop(first);
    pictures(&mut second, 3).await;
    assert!(phone.browser.text("#banner").await.contains("Live picture"));
    drop(second);
    phone
        .browser
        .until("the camera to be off", "!document.querySelector('video.source')")
        .await;
    until("the stream to be gone", async || {
        let gone = reqwest::Client::new()
            .get(&url)
            .bearer_auth(&phone.mesh.target().token)
            .send()
            .await
            .ok()?;
        (gone.status() == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn whoever_watches_a_phone_hears_why_its_owner_ended_it() {
    let mut phone = Phone::pair(None).await;
    for (end, words) in [
        ("#stop", "the owner of the phone stopped it"),
        ("#pause", "the owner of the phone has paused it"),
        ("", "the owner of the phone switched camera.stream off"),
    ] {
        phone.switch("camera.stream", "allow").await;
        let started = phone.call("camera.stream", json!({"fps": 10})).await.expect("a stream");
        let live = started["blob"]["id"].as_str().expect("a name");
        let url = format!("{}/media/{live}", phone.mesh.target().http());
        let mut body = watch(url.parse().expect("an address")).await;
        within("a picture", body.frame())
            .await
            .expect("pictures")
            .expect("a part");
        match end {
            "" => phone.switch("camera.stream", "deny").await,
            button => phone.browser.press(button).await,
        }
        let told = within("the end", reason(&mut body)).await;
        assert_eq!(told, format!("CANCELLED: {words}"));
        phone
            .browser
            .until("the camera to be off", "!document.querySelector('video.source')")
            .await;
        if end == "#pause" {
            phone.browser.press("#pause").await;
        }
    }
}

/// The next pictures of a stream.
async fn pictures(watching: &mut reqwest::Response, count: usize) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    let mut held = Vec::new();
    while seen.len() < count {
        let more = within("a picture", watching.chunk())
            .await
            .expect("a stream")
            .expect("it goes on");
        held.extend_from_slice(&more);
        while let Some((picture, rest)) = first_part(&held) {
            seen.push(picture);
            held.drain(..rest);
        }
    }
    seen
}

/// The content of the first whole part, and where the rest begins.
fn first_part(held: &[u8]) -> Option<(Vec<u8>, usize)> {
    let head = held.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&held[..head]).expect("a head is text");
    assert!(text.starts_with("--frame\r\nContent-Type: image/jpeg\r\n"), "{text}");
    let (_, length) = text.split_once("Content-Length: ").expect("each part names its length");
    let length: usize = length.trim().parse().expect("a number");
    let end = head + length + 2;
    (held.len() >= end).then(|| (held[head..head + length].to_vec(), end))
}
