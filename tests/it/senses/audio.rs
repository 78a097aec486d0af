//! Sound: the real ffmpeg and espeak-ng, without hardware; a real PulseAudio whose loudspeaker is its microphone.

use atoll_tests::mesh::Pipe;
use std::path::Path;
use std::time::{Duration, Instant};

use atoll_tests::program::Program;
use atoll_tests::wait::{until, within};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::Home;
use crate::camera::descendants;

atoll_tests::over_every_pipe! {
    what_the_microphone_hears_comes_in_the_format_that_was_asked_for,
    a_microphone_that_hangs_or_is_called_off_leaves_no_process,
}

const COMMANDS: [&str; 3] = ["audio.record", "audio.play", "audio.speak"];

/// A microphone that hears a tone, and a loudspeaker that is a file.
fn sections(folder: &Path) -> Value {
    json!({
        "camera": {"microphone": ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]},
        "audio": {"speaker": ["-f", "wav", folder.join("heard.wav")]},
    })
}

async fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(std::process::Stdio::null());
    let output = within(program, command.output()).await.expect("an installed program");
    assert!(output.status.success(), "{program}: {output:?}");
    [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat()
}

/// Codec and seconds of the sound in a file.
async fn probed(file: &Path) -> (String, f64) {
    let file = file.to_str().expect("text");
    let entries = "stream=codec_name:format=duration";
    let text = run(
        "ffprobe",
        &["-v", "error", "-show_entries", entries, "-of", "csv=p=0", file],
    )
    .await;
    let mut lines = text.lines();
    let codec = lines.next().unwrap_or_default().trim_matches(',').to_owned();
    (
        codec,
        lines
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or_default(),
    )
}

/// How loud it is on average, decibels; silence is -91.
async fn loudness(file: &Path) -> f64 {
    let file = file.to_str().expect("text");
    let text = run(
        "ffmpeg",
        &[
            "-hide_banner",
            "-nostdin",
            "-i",
            file,
            "-af",
            "volumedetect",
            "-f",
            "null",
            "-",
        ],
    )
    .await;
    let (_, rest) = text.split_once("mean_volume: ").expect("a volume");
    rest.split(' ').next().expect("a number").parse().expect("a number")
}

/// A tone of some seconds.
async fn tone(folder: &Path, name: &str, seconds: u32) -> String {
    let file = folder.join(name).to_str().expect("text").to_owned();
    let source = format!("sine=frequency=440:duration={seconds}");
    run(
        "ffmpeg",
        &[
            "-loglevel",
            "error",
            "-nostdin",
            "-y",
            "-f",
            "lavfi",
            "-i",
            &source,
            &file,
        ],
    )
    .await;
    file
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

async fn what_the_microphone_hears_comes_in_the_format_that_was_asked_for(pipe: Pipe) {
    let folder = folder();
    let home = Home::new(pipe, &COMMANDS, sections(folder.path()), &[]).await;
    for (format, codec) in [("m4a", "aac"), ("ogg", "opus"), ("mp3", "mp3"), ("wav", "pcm_s16le")] {
        let got = home
            .invoke("audio.record", json!({"durationMs": 1500, "format": format}))
            .await
            .expect("a recording");
        assert_eq!((&got["format"], &got["durationMs"]), (&json!(format), &json!(1500)));
        let file = folder.path().join(format);
        std::fs::write(
            &file,
            STANDARD
                .decode(got["base64"].as_str().expect("base64"))
                .expect("base64"),
        )
        .expect("room");
        let (found, seconds) = probed(&file).await;
        assert_eq!(found, codec);
        assert!((1.4..1.7).contains(&seconds), "{format}: {seconds} s");
        assert!(loudness(&file).await > -40.0, "{format} is silent");
    }
    let here = folder.path().join("saved.m4a");
    let words = [
        "nodes",
        "audio",
        "record",
        "--node",
        "home",
        "--duration",
        "1s",
        "--json",
        "--out",
    ];
    let told = home
        .mesh
        .cli_json(&[&words[..], &[here.to_str().expect("text")]].concat())
        .await;
    assert_eq!((&told["path"], told.get("blob")), (&json!(here), None), "{told}");
    assert_eq!(probed(&here).await.0, "aac");
}

#[tokio::test]
async fn sounds_and_words_are_played_to_their_end() {
    let folder = folder();
    let heard = folder.path().join("heard.wav");
    let home = Home::new(Pipe::Quic, &COMMANDS, sections(folder.path()), &[]).await;
    let file = tone(folder.path(), "tone.mp3", 2).await;
    assert_eq!(
        home.cli(&["audio", "play", "--node", "home", &file]).await,
        Ok("played\n".to_owned())
    );
    let (codec, seconds) = probed(&heard).await;
    assert!(
        codec == "pcm_s16le" && (1.9..2.2).contains(&seconds),
        "{codec}, {seconds} s"
    );
    let flac = tone(folder.path(), "tone.flac", 1).await;
    let bytes = STANDARD.encode(std::fs::read(flac).expect("made"));
    home.invoke("audio.play", json!({"base64": bytes, "format": "flac"}))
        .await
        .expect("played");
    assert!((0.9..1.2).contains(&probed(&heard).await.1));

    let mut lengths = Vec::new();
    for text in ["Yes", "The dinner is ready, and it gets cold"] {
        let said = home
            .cli(&["audio", "speak", "--node", "home", "--language", "en", text])
            .await;
        assert_eq!(said, Ok("said\n".to_owned()));
        assert!(loudness(&heard).await > -40.0, "nothing is heard");
        lengths.push(probed(&heard).await.1);
    }
    assert!(lengths[0] > 0.2 && lengths[1] > lengths[0] * 2.0, "{lengths:?}");
    let error = home
        .invoke("audio.speak", json!({"text": "x", "voice": "zzz"}))
        .await
        .expect_err("no voice");
    assert!(error.starts_with("AUDIO_UNAVAILABLE: espeak-ng ended with"), "{error}");
}

async fn a_microphone_that_hangs_or_is_called_off_leaves_no_process(pipe: Pipe) {
    let folder = folder();
    let sound = folder.path().join("sound");
    run("mkfifo", &[sound.to_str().expect("text")]).await;
    let hangs = json!({"camera": {"microphone": ["-f", "s16le", "-i", sound]}});
    let mut home = Home::new(pipe, &COMMANDS, hangs, &[]).await;
    let pid = home.node.program().pid();
    let began = Instant::now();
    let params = json!({"nodeId": home.id, "command": "audio.record", "params": {"durationMs": 1000}, "timeoutMs": 2500,
        "idempotencyKey": "hangs"});
    let error = home
        .mesh
        .operator()
        .await
        .call("node.invoke", params)
        .await
        .expect_err("it hangs");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("AUDIO_UNAVAILABLE: ffmpeg did not end within"),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    until("no recorder", async || descendants(pid).is_empty().then_some(())).await;

    let recording = home.invoke("audio.record", json!({"durationMs": 15_000}));
    let stopping = async {
        until("a recorder", async || (!descendants(pid).is_empty()).then_some(())).await;
        let mut operator = home.mesh.operator().await;
        let open = operator
            .call("node.calls.list", json!({"state": "open"}))
            .await
            .expect("a list");
        let call = open["calls"][0]["callId"].clone();
        operator
            .call("node.invoke.cancel", json!({"callId": call}))
            .await
            .expect("called off");
    };
    let (ended, ()) = tokio::join!(recording, stopping);
    ended.expect_err("called off");
    until("no recorder", async || descendants(pid).is_empty().then_some(())).await;
    home.node.rules(&json!({}));
    let error = home.invoke("audio.record", json!({})).await.expect_err("denied");
    assert!(error.starts_with("MIC_DISABLED: audio.record is denied"), "{error}");
}

#[tokio::test]
async fn the_systems_own_microphone_and_loudspeaker_are_those_of_its_sound_server() {
    let folder = folder();
    let runtime = folder.path().to_str().expect("text");
    let mut server = Command::new("pulseaudio");
    server.args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--load=module-null-sink"]);
    server
        .args(["--load=module-native-protocol-unix"])
        .env("XDG_RUNTIME_DIR", runtime)
        .env("HOME", runtime);
    let _server = Program::start("pulseaudio", server);
    let socket = folder.path().join("pulse/native");
    until("a sound server", async || socket.exists().then_some(())).await;
    let home = Home::new(
        Pipe::Quic,
        &COMMANDS,
        json!({}),
        &[("XDG_RUNTIME_DIR", runtime), ("HOME", runtime)],
    )
    .await;
    let silence = home
        .invoke("audio.record", json!({"durationMs": 500, "format": "wav"}))
        .await
        .expect("a recording");
    let tone = STANDARD.encode(std::fs::read(tone(folder.path(), "tone.ogg", 5).await).expect("made"));
    // What is played is heard by the microphone, since the null sink is the only thing there.
    let (heard, played) = tokio::join!(
        home.invoke("audio.record", json!({"durationMs": 2500, "format": "wav"})),
        home.invoke("audio.play", json!({"base64": tone})),
    );
    played.expect("played");
    let mut loud = Vec::new();
    for (name, recording) in [("silence.wav", silence), ("heard.wav", heard.expect("a recording"))] {
        let file = folder.path().join(name);
        std::fs::write(
            &file,
            STANDARD
                .decode(recording["base64"].as_str().expect("base64"))
                .expect("base64"),
        )
        .expect("room");
        loud.push(loudness(&file).await);
    }
    assert!(loud[0] < -80.0 && loud[1] > -45.0, "{loud:?} dB");
}
