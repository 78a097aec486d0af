//! What is read and written, with programs that keep a clipboard in a file.

use atoll_protocol::id::CallId;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::installed::tests::scripts;

/// A clipboard in the file `clipboard` beside it, which loses its content when its holder ends.
const XCLIP: &str = r#"
    file=$(dirname "$0")/clipboard
    case "$*" in
    "-selection clipboard -out") exec cat "$file" ;;
    "-quiet -selection clipboard -in") cat >"$file.new"; mv "$file.new" "$file"; exec sleep 1000 ;;
    *) echo "wrong: $*" >&2; exit 2 ;;
    esac"#;

fn clipboard(xclip: &str) -> (tempfile::TempDir, Clipboard) {
    let (folder, installed) = scripts(&[("xclip", xclip)], &[("DISPLAY", ":1")]);
    (folder, Clipboard::through(installed))
}

async fn ask(clipboard: &Clipboard, command: &str, params: Value, deadline: Duration) -> Result<Value, CallError> {
    let call = Call {
        id: CallId::new("call").expect("fits"),
        command: command.to_owned(),
        params: Some(params.into()),
        deadline,
        plan: None,
        cancel: CancellationToken::new(),
        progress: mpsc::channel(1).0,
        blobs: None,
        silent: None,
    };
    Ok(clipboard.invoke(call).await?.expect("a result").tree())
}

async fn write(clipboard: &Clipboard, text: &str) -> Result<Value, CallError> {
    ask(clipboard, WRITE, json!({"text": text}), Duration::from_secs(20)).await
}

async fn read_back(clipboard: &Clipboard) -> Result<Value, CallError> {
    ask(clipboard, READ, json!({}), Duration::from_secs(20)).await
}

#[tokio::test]
async fn what_is_written_is_read_again_letter_by_letter() {
    let (_folder, clipboard) = clipboard(XCLIP);
    let odd = "-o $(id) \"ü\"\n\ttwo\r\n".to_owned();
    for text in [odd, "x".repeat(MOST)] {
        assert_eq!(write(&clipboard, &text).await, Ok(json!({"ok": true})));
        assert_eq!(read_back(&clipboard).await, Ok(json!({"text": text})));
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_by_name() {
    let (folder, clipboard) = clipboard(XCLIP);
    for (params, code) in [
        (json!({"text": "x".repeat(MOST + 1)}), "PAYLOAD_TOO_LARGE"),
        (json!({"text": "a\0b"}), "INVALID_REQUEST"),
        (json!({"text": ""}), "INVALID_REQUEST"),
        (json!({}), "INVALID_REQUEST"),
        (json!({"text": 1}), "INVALID_REQUEST"),
    ] {
        let error = ask(&clipboard, WRITE, params, Duration::from_secs(20))
            .await
            .expect_err("refused");
        assert_eq!(error.code, code, "{error}");
    }
    std::fs::write(folder.path().join("clipboard"), "x".repeat(MOST + 1)).expect("room");
    assert_eq!(
        read_back(&clipboard).await.expect_err("too much").code,
        "PAYLOAD_TOO_LARGE"
    );
    std::fs::write(folder.path().join("clipboard"), [0xff]).expect("room");
    assert!(
        read_back(&clipboard)
            .await
            .expect_err("no text")
            .message
            .contains("no text")
    );
}

#[tokio::test]
async fn a_clipboard_that_is_not_there_is_one_clear_error() {
    let (_folder, broken) = clipboard("echo cannot open display >&2; exit 1");
    for error in [write(&broken, "x").await, read_back(&broken).await] {
        let error = error.expect_err("no display");
        assert_eq!(error.code, "CLIPBOARD_UNAVAILABLE");
        assert!(error.message.contains("cannot open display"), "{error}");
    }
    let (_folder, deaf) = clipboard("[ $1 = -quiet ] && exec sleep 1000; echo other");
    let error = ask(&deaf, WRITE, json!({"text": "x"}), Duration::from_millis(700)).await;
    assert!(error.expect_err("not taken").message.contains("in time"));
}
