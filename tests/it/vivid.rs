//! A real camera of a real kernel: the module `vivid` in a virtual machine, behind a node there that is linked over QUIC to a gateway here.
//! Its picture is eight bars of colour, with the time since it was opened in the upper left corner.

use std::time::Duration;

use atoll_capabilities::capture::{Preview, Splitter, preview};
use atoll_tests::guest::{Guest, PLUG_IN, SLOW};
use atoll_tests::mesh::{Mesh, admit};
use atoll_tests::wait::within_time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::camera;

const CAMERA: &str = "/dev/video0";

const UNPLUG: &str = "echo vivid.0 > /sys/bus/platform/drivers/vivid/unbind";

/// A gateway here, and a node with a camera there.
struct Studio {
    mesh: Mesh,
    guest: Guest,
    id: String,
}

#[tokio::test]
async fn a_real_camera_is_seen_filmed_watched_unplugged_and_found_again() {
    let mut studio = Studio::open().await;
    studio.is_listed().await;
    studio.gives_pictures_of_now().await;
    studio.films().await;
    studio.is_watched().await;
    studio.is_unplugged_and_found_again().await;
}

impl Studio {
    async fn open() -> Self {
        let mesh = Mesh::with(&camera::gateway_allows()).await;
        let runs = json!({"version": 1, "defaults": {"security": "full", "ask": "off"}});
        let files = [
            ("node.json", camera::owner_allows(json!({}))),
            ("exec-approvals.json", runs),
        ];
        let guest = Guest::boot(&mesh.target(), "guest", &files);
        let id = admit(&mut mesh.operator().await, "guest", SLOW).await;
        Self { mesh, guest, id }
    }

    async fn ask(&mut self, command: &str, params: Value, blobs: &str) -> Result<Value, String> {
        self.guest.is_on();
        let request = json!({"nodeId": self.id, "command": command, "params": params, "timeoutMs": SLOW.as_millis(),
            "blobs": blobs, "idempotencyKey": uuid::Uuid::new_v4().to_string()});
        let mut operator = self.mesh.operator().await;
        let asked = operator.ask("node.invoke", request).await;
        let answer = operator.answer_within(SLOW + Duration::from_secs(5), &asked).await;
        let mut answer = answer.map_err(|error| error["message"].as_str().unwrap_or_default().to_owned())?;
        Ok(answer["payload"].take())
    }

    async fn invoke(&mut self, command: &str, params: Value) -> Result<Value, String> {
        self.ask(command, params, "inline").await
    }

    /// A shell command in the virtual machine, and what it printed.
    async fn shell(&mut self, script: &str) -> String {
        let ran = self
            .invoke("system.run", json!({"command": ["sh", "-c", script]}))
            .await;
        let ran = ran.unwrap_or_else(|error| panic!("{script}: {error}"));
        assert_eq!(ran["exitCode"], 0, "{script}: {ran}");
        ran["stdout"].as_str().unwrap_or_default().to_owned()
    }

    async fn devices(&mut self) -> Vec<Value> {
        let list = self.invoke("camera.list", json!({})).await.expect("a list");
        list["devices"].as_array().expect("a list").clone()
    }

    async fn snap(&mut self, params: Value) -> Preview {
        let result = self.invoke("camera.snap", params).await.expect("a picture");
        assert_eq!(result["deviceId"], CAMERA, "{}", result["deviceId"]);
        pixels(&bytes(&result))
    }

    async fn is_listed(&mut self) {
        let devices = self.devices().await;
        let row = &devices[0];
        assert_eq!(devices.len(), 1, "{devices:?}");
        assert_eq!(
            (&row["id"], &row["deviceType"]),
            (&json!(CAMERA), &json!("camera")),
            "{row}"
        );
        assert!(row["name"].as_str().expect("a name").contains("vivid"), "{row}");
    }

    async fn gives_pictures_of_now(&mut self) {
        let first = self.snap(json!({"maxWidth": 640})).await;
        assert_eq!((first.width, first.height), (640, 480), "the smallest that is as wide");
        let second = self
            .snap(json!({"maxWidth": 640, "delayMs": 1_100, "deviceId": CAMERA}))
            .await;
        for picture in [&first, &second] {
            has_bars(picture);
        }
        assert!(differ(&first, &second), "the time goes on");
        // A width that the camera has not is made of the next larger one.
        let small = self.snap(json!({"maxWidth": 200})).await;
        assert_eq!((small.width, small.height), (200, 112));
        has_bars(&small);
    }

    async fn films(&mut self) {
        let asked = json!({"durationMs": 2_000, "fps": 5, "maxWidth": 320});
        let result = self.invoke("camera.clip", asked).await.expect("a clip");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("clip.mp4");
        std::fs::write(&path, bytes(&result)).expect("room");
        let streams = camera::probe(&path).await["streams"].take();
        let facts = ["codec_name", "nb_frames", "width", "height"].map(|field| streams[0][field].clone());
        assert_eq!(facts, [json!("h264"), json!("10"), json!(320), json!(180)], "{streams}");
        let mut command = Command::new("ffmpeg");
        command.args(["-loglevel", "error", "-i"]).arg(&path);
        command.args(["-f", "mjpeg", "-q:v", "2", "-"]);
        let shown = within_time("ffmpeg", SLOW, command.output()).await.expect("ffmpeg");
        moves(&Splitter::default().push(&shown.stdout), 4);
    }

    /// A stream, watched by one who wants to be told why it ends.
    async fn stream(&mut self, params: Value) -> reqwest::Body {
        let result = self.ask("camera.stream", params, "handles").await.expect("a stream");
        let id = result["blob"]["id"].as_str().expect("a handle");
        let url = format!("{}/media/{id}", self.mesh.target().http());
        let url = url.parse().expect("an address");
        within_time("the stream", SLOW, camera::watch(url)).await
    }

    async fn is_watched(&mut self) {
        let asked = json!({"durationMs": 10_000, "fps": 5, "maxWidth": 320});
        let mut body = self.stream(asked).await;
        let (mut splitter, mut pictures) = (Splitter::default(), Vec::new());
        let watching = async {
            while let Some(frame) = body.frame().await {
                let part = frame.expect("a whole body").into_data();
                pictures.extend(splitter.push(&part.expect("no reason why it ended")));
            }
        };
        within_time("ten seconds", SLOW, watching).await;
        assert!((10..=55).contains(&pictures.len()), "{} pictures of 50", pictures.len());
        moves(&pictures, 10);
    }

    async fn is_unplugged_and_found_again(&mut self) {
        let mut body = self.stream(json!({"fps": 5, "maxWidth": 320})).await;
        let first = within_time("a picture", SLOW, body.frame()).await;
        first.expect("not over yet").expect("a whole body");
        self.shell(UNPLUG).await;
        let reason = within_time("the reason", SLOW, camera::reason(&mut body)).await;
        let words = format!("CAMERA_UNAVAILABLE: camera {CAMERA} gives no picture: ");
        assert!(reason.starts_with(&words), "{reason}");

        assert_eq!(self.devices().await, Vec::<Value>::new());
        let gone = self.invoke("camera.snap", json!({})).await.expect_err("it is gone");
        assert!(
            gone.starts_with("CAMERA_UNAVAILABLE: no camera: there is no /dev/video*"),
            "{gone}"
        );
        let named = self
            .invoke("camera.snap", json!({"deviceId": CAMERA}))
            .await
            .expect_err("it is gone");
        assert!(named.contains("there is no camera \"/dev/video0\" here"), "{named}");
        let processes = self.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await;
        assert!(
            processes.contains("atoll-node run") && !processes.contains("capture-helper"),
            "{processes}"
        );

        self.shell(&format!("rmmod vivid && {PLUG_IN}")).await;
        assert_eq!(self.devices().await[0]["id"], CAMERA);
        has_bars(&self.snap(json!({"maxWidth": 320})).await);
    }
}

fn bytes(result: &Value) -> Vec<u8> {
    STANDARD
        .decode(result["base64"].as_str().expect("base64"))
        .expect("base64")
}

fn pixels(jpeg: &[u8]) -> Preview {
    preview(jpeg, 8_192).expect("a JPEG")
}

/// The bars below the text: white, yellow, cyan, green, magenta, red, blue, black.
fn has_bars(picture: &Preview) {
    let y = picture.height * 15 / 16;
    for (bar, wanted) in [7_u8, 6, 3, 2, 5, 4, 1, 0].into_iter().enumerate() {
        let x = (2 * bar as u32 + 1) * picture.width / 16;
        let at = ((y * picture.width + x) * 3) as usize;
        let pixel = &picture.rgb[at..at + 3];
        let seen = pixel.iter().fold(0, |seen, colour| seen << 1 | u8::from(*colour > 110));
        assert_eq!(
            seen, wanted,
            "bar {bar} is {pixel:?} in {}x{}",
            picture.width, picture.height
        );
    }
}

/// Whether the time in the corner, 17 letters of 8x16 pixels, is another one.
fn differ(one: &Preview, other: &Preview) -> bool {
    let letters = |picture: &Preview| -> Vec<bool> {
        let rows = (16..32_u32).flat_map(|y| (24..160_u32).map(move |x| (x, y)));
        rows.map(|(x, y)| picture.rgb[((y * picture.width + x) * 3) as usize] > 128)
            .collect()
    };
    let changed = letters(one)
        .iter()
        .zip(letters(other))
        .filter(|(a, b)| **a != *b)
        .count();
    changed > 8
}

/// Pictures with bars, and at least so many that are not as the one before.
fn moves(pictures: &[Vec<u8>], least: usize) {
    let pictures: Vec<Preview> = pictures.iter().map(|jpeg| pixels(jpeg)).collect();
    pictures.iter().for_each(has_bars);
    let changes = pictures.windows(2).filter(|pair| differ(&pair[0], &pair[1])).count();
    assert!(changes >= least, "{changes} changes in {} pictures", pictures.len());
}
