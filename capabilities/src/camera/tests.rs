//! The camera with helpers that do what the test says: hang, crash, talk nonsense; and what is left of them.

use std::time::Duration;

use atoll_protocol::id::CallId;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::owned::OWNERS_FILE;

/// A node's folder with cameras, and a helper that is a shell script.
fn cameras(script: &str) -> (tempfile::TempDir, Cameras) {
    let folder = tempfile::tempdir().expect("a folder");
    let text = json!({"camera": {"testPattern": true, "default": "test"}}).to_string();
    let file = folder.path().join(OWNERS_FILE);
    std::fs::write(&file, text).expect("room");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, private).expect("ours");
    let cameras = Cameras::new(folder.path(), HelperProgram::shell(script));
    (folder, cameras)
}

fn call(command: &str, deadline: Duration) -> (Call, CancellationToken) {
    let cancel = CancellationToken::new();
    let call = Call {
        id: CallId::new("c").expect("fits"),
        command: command.to_owned(),
        params: None,
        deadline,
        plan: None,
        cancel: cancel.clone(),
        progress: mpsc::channel(1).0,
        blobs: None,
        silent: None,
    };
    (call, cancel)
}

/// What the script writes into its file once it runs, and whether that process is alive.
fn is_alive(folder: &Path) -> Option<bool> {
    let pid = std::fs::read_to_string(folder.join("pid")).ok()?;
    let pid = pid.trim();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    Some(stat.is_ok_and(|stat| !stat.contains(") Z ")) && !pid.is_empty())
}

async fn dies(folder: &Path) {
    for _ in 0..500 {
        if is_alive(folder) == Some(false) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the helper's own child is alive, or never was");
}

/// Starts a child of its own that would go on for ever, and hangs.
fn hang(folder: &Path) -> String {
    format!("sleep 1000 & echo $! > {}/pid; wait", folder.display())
}

fn hanging() -> (tempfile::TempDir, Cameras) {
    let (folder, _) = cameras("");
    let cameras = Cameras::new(folder.path(), HelperProgram::shell(&hang(folder.path())));
    (folder, cameras)
}

#[tokio::test]
async fn a_driver_that_hangs_costs_one_call_and_leaves_nothing() {
    let (folder, cameras) = hanging();
    let (call, _) = call(SNAP, Duration::from_millis(900));
    let error = cameras.invoke(call).await.expect_err("it hangs");
    assert_eq!(error.code, "CAMERA_UNAVAILABLE");
    assert!(error.message.contains("gave nothing within 0.6 s"), "{}", error.message);
    dies(folder.path()).await;
}

#[tokio::test]
async fn a_call_that_is_cancelled_takes_its_helper_along() {
    let (folder, cameras) = hanging();
    let (call, cancel) = call(SNAP, Duration::from_secs(60));
    let stopping = async {
        while is_alive(folder.path()) != Some(true) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(cameras.invoke(call), stopping);
    assert_eq!(ended.expect_err("cancelled").code, "CANCELLED");
    dies(folder.path()).await;
}

#[tokio::test]
async fn a_driver_that_crashes_or_talks_nonsense_is_one_clear_error() {
    for (script, words) in [
        (
            "echo 'bad ioctl' >&2; kill -SEGV $$",
            &["crashed", "signal: 11", "bad ioctl"][..],
        ),
        ("exit 3", &["crashed", "exit status: 3"]),
        ("printf 'hello world'", &["cannot be understood"]),
        (r"printf '\001\377\377\377\377'", &["announced 4294967295 bytes"]),
        (r"printf '\002\000\000\000\002{}'", &["no picture"]),
    ] {
        let (_folder, cameras) = cameras(script);
        let (call, _) = call(SNAP, Duration::from_secs(20));
        let error = cameras.invoke(call).await.expect_err("broken");
        for word in words {
            assert!(error.message.contains(word), "{script}: {}", error.message);
        }
    }
}

#[tokio::test]
async fn a_stream_that_nobody_can_carry_is_refused_before_the_camera_opens() {
    let (_folder, cameras) = cameras("exit 9");
    let (call, _) = call(STREAM, Duration::from_secs(20));
    assert_eq!(cameras.invoke(call).await.expect_err("refused").code, "INVALID_REQUEST");
}

#[test]
fn a_device_without_a_camera_declares_none_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let cameras = Cameras::new(folder.path(), HelperProgram::this());
    std::fs::write(folder.path().join(OWNERS_FILE), "{").expect("room");
    let broken = cameras.describe();
    assert_eq!((broken.commands.len(), broken.missing.len()), (0, 4));
    assert!(broken.missing[0].1.contains("node.json"), "{}", broken.missing[0].1);
    let (_folder, cameras) = self::cameras("");
    assert!(cameras.describe().commands.contains(&SNAP));
}
