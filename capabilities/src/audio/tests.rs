//! What programs are told, what is refused before any of them starts, and what is said where there are none.

use atoll_protocol::id::CallId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::installed::tests::scripts;

struct Room {
    _folders: [tempfile::TempDir; 2],
    audio: Audio,
}

fn room(document: &Value, programs: &[(&str, &str)]) -> Room {
    use std::os::unix::fs::PermissionsExt as _;
    let state = tempfile::tempdir().expect("a folder");
    let path = state.path().join("node.json");
    std::fs::write(&path, document.to_string()).expect("room");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let (folder, installed) = scripts(programs, &[]);
    Room {
        audio: Audio {
            state_dir: state.path().to_owned(),
            installed,
        },
        _folders: [state, folder],
    }
}

impl Room {
    fn call(command: &str, params: Value) -> Call {
        Call {
            id: CallId::new("call").expect("fits"),
            command: command.to_owned(),
            params: Some(params.into()),
            deadline: Duration::from_secs(30),
            plan: None,
            cancel: CancellationToken::new(),
            progress: mpsc::channel(1).0,
            blobs: None,
            silent: None,
        }
    }

    async fn ask(&self, command: &str, params: Value) -> Result<Value, CallError> {
        let result = self.audio.invoke(Self::call(command, params)).await?;
        Ok(result.expect("a result").tree())
    }

    fn missing(&self, command: &str) -> String {
        let missing = self.audio.describe().missing.into_iter();
        missing
            .filter(|(name, _)| *name == command)
            .map(|(_, why)| why)
            .collect()
    }
}

/// Both ends through arguments of ffmpeg.
fn both() -> Value {
    json!({"camera": {"microphone": ["-f", "x", "-i", "mic"]}, "audio": {"speaker": ["-f", "y", "out"]}})
}

/// An ffmpeg that prints its arguments.
const FFMPEG: (&str, &str) = ("ffmpeg", r#"printf '%s ' "$@""#);

#[tokio::test]
async fn a_recording_is_what_ffmpeg_gives_that_was_told_the_owners_microphone() {
    let room = room(&both(), &[FFMPEG]);
    let got = room
        .ask(RECORD, json!({"durationMs": 1500, "format": "ogg"}))
        .await
        .expect("a recording");
    assert_eq!((&got["format"], &got["durationMs"]), (&json!("ogg"), &json!(1500)));
    let told = STANDARD
        .decode(got["base64"].as_str().expect("base64"))
        .expect("base64");
    let expected =
        "-hide_banner -loglevel error -nostdin -f x -i mic -vn -t 1.500 -c:a libopus -b:a 64k -f ogg pipe:1 ";
    assert_eq!(String::from_utf8_lossy(&told), expected);
    let usual = room.ask(RECORD, json!({})).await.expect("a recording");
    assert_eq!((&usual["format"], &usual["durationMs"]), (&json!("m4a"), &json!(3000)));
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_starts() {
    let room = room(
        &both(),
        &[
            ("ffmpeg", "touch \"${0%/*}/ran\""),
            ("espeak-ng", "touch \"${0%/*}/ran\""),
        ],
    );
    let sound = |bytes: &[u8]| json!({"base64": STANDARD.encode(bytes)});
    for (command, params, word) in [
        (RECORD, json!({"durationMs": 60_001}), "60000 is the most"),
        (RECORD, json!({"durationMs": 30_000}), "longer timeoutMs"),
        (RECORD, json!({"durationMs": -1}), "durationMs"),
        (RECORD, json!({"format": "exe"}), "exe"),
        (PLAY, json!({}), "sound is missing"),
        (PLAY, json!({"base64": "*"}), "base64"),
        (PLAY, sound(b"#EXTM3U\nfile:///etc/passwd"), "no sound"),
        (PLAY, sound(b""), "no sound"),
        (SPEAK, json!({}), "text is empty"),
        (SPEAK, json!({"text": "x".repeat(TEXT + 1)}), "2001 characters"),
        (SPEAK, json!({"text": "x", "voice": "-f"}), "voice"),
        (SPEAK, json!({"text": "x", "language": "en;id"}), "language"),
    ] {
        let error = room.ask(command, params.clone()).await.expect_err("refused");
        assert_eq!(error.code, "INVALID_REQUEST", "{command} {params}: {error:?}");
        assert!(error.message.contains(word), "{command} {params}: {error:?}");
    }
    let much = room
        .ask(PLAY, json!({"base64": "A".repeat(MOST / 3 * 4 + 8)}))
        .await
        .expect_err("refused");
    assert_eq!(much.code, "PAYLOAD_TOO_LARGE");
    assert!(!room._folders[1].path().join("ran").exists());
}

#[tokio::test]
async fn what_is_played_has_its_kind_named_so_that_it_is_never_a_list_of_files() {
    let keep = r#"printf '%s ' "$@" | sed "s|$PWD||" >"${0%/*}/told""#;
    let room = room(&both(), &[("ffmpeg", keep)]);
    let played = room
        .ask(PLAY, json!({"base64": STANDARD.encode(b"OggS\0")}))
        .await
        .expect("played");
    assert_eq!(played["ok"], true);
    let told = std::fs::read_to_string(room._folders[1].path().join("told")).expect("told");
    assert!(
        told.contains("-protocol_whitelist file -f ogg -i ") && told.ends_with(" -vn -f y out "),
        "{told}"
    );
    let left = std::fs::read_dir(room._folders[0].path()).expect("a folder").count();
    assert_eq!(left, 1, "only node.json is left");
}

#[tokio::test]
async fn a_text_is_said_by_what_is_there_and_is_never_an_option() {
    let espeak = r#"[ "$*" = "--stdin --stdout -v de" ] && printf 'OggS%s' "$(cat)""#;
    let keep = r#"for file; do [ -f "$file" ] && cp "$file" "${0%/*}/heard"; done; true"#;
    let room = room(&both(), &[("espeak-ng", espeak), ("ffmpeg", keep)]);
    room.ask(SPEAK, json!({"text": " -f Grüße ", "language": "de"}))
        .await
        .expect("said");
    let heard = std::fs::read_to_string(room._folders[1].path().join("heard")).expect("played");
    assert_eq!(heard, "OggS-f Grüße");
    for (voice, expected) in [
        (Voice::SpdSay, &["spd-say", "--wait", "-y", "Anna", "--", "-x"][..]),
        (Voice::Say, &["say", "-f", "-", "-v", "Anna"]),
        (Voice::Termux, &["termux-tts-speak", "-l", "de"]),
    ] {
        let task = voice.task("-x", Some("de"), Some("Anna"));
        assert_eq!(task.argv, expected);
        assert_eq!(task.stdin.is_empty(), voice == Voice::SpdSay);
    }
}

#[tokio::test]
async fn termux_records_for_as_long_as_was_said_and_is_stopped_when_the_call_is_called_off() {
    let recorder = r#"
        case "$1" in
        -f) [ "$3 $4 $5 $6" = "-l 1 -e aac" ] || [ "$4" = 21 ] || exit 2; printf m4a >"$2"; echo "$2" >"${0%/*}/began" ;;
        -q) touch "${0%/*}/stopped" ;;
        esac"#;
    let room = room(&json!({}), &[("termux-microphone-record", recorder)]);
    let stopped = room._folders[1].path().join("stopped");
    let got = room.ask(RECORD, json!({"durationMs": 200})).await.expect("a recording");
    assert_eq!(
        got,
        json!({"format": "m4a", "durationMs": 200, "base64": STANDARD.encode("m4a")})
    );
    std::fs::remove_file(&stopped).expect("it was stopped");
    std::fs::remove_file(room._folders[1].path().join("began")).expect("it began");

    let call = Room::call(RECORD, json!({"durationMs": 20_000}));
    let cancel = call.cancel.clone();
    let stopping = async {
        while !room._folders[1].path().join("began").exists() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(room.audio.invoke(call), stopping);
    assert_eq!(ended.expect_err("cancelled").code, "CANCELLED");
    assert!(stopped.exists(), "the microphone is off");
    assert_eq!(
        std::fs::read_dir(room._folders[0].path()).expect("a folder").count(),
        1,
        "nothing is left of it"
    );
}

#[test]
fn what_is_missing_is_said_for_each_command() {
    let bare = room(&both(), &[]);
    for (command, word) in [
        (RECORD, "apt install ffmpeg"),
        (PLAY, "ffmpeg"),
        (SPEAK, "apt install espeak-ng"),
    ] {
        let why = bare.missing(command);
        assert!(why.contains(word), "{command}: {why}");
    }
    let off = room(
        &json!({"camera": {"microphone": false, "testPattern": true}}),
        &[FFMPEG],
    );
    assert!(off.missing(RECORD).contains("microphone is off"));
    let mistyped = room(&json!({"audio": {"speeker": []}}), &[FFMPEG]);
    assert!(mistyped.missing(PLAY).contains("speeker"));
    let all = room(&both(), &[FFMPEG, ("espeak-ng", "")]);
    assert_eq!(all.audio.describe().commands, [RECORD, PLAY, SPEAK]);
}
