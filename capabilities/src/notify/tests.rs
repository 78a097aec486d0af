//! What a notification may say, what programs are told, and what is said where there are none.

use atoll_protocol::id::CallId;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::installed::tests::scripts;

fn notification(params: Value) -> Result<Notification, CallError> {
    Notification::read(Some(&params.into()))
}

fn call(params: Value, deadline: Duration) -> Call {
    Call {
        id: CallId::new("call").expect("fits"),
        command: NOTIFY.to_owned(),
        params: Some(params.into()),
        deadline,
        plan: None,
        cancel: CancellationToken::new(),
        progress: mpsc::channel(1).0,
        blobs: None,
        silent: None,
    }
}

#[test]
fn what_openclaws_command_line_sends_is_read() {
    let sent = json!({"title": "Build", "body": "Done\u{7}", "sound": "Glass", "priority": "timeSensitive", "delivery": "system"});
    let expected = Notification {
        title: "Build".to_owned(),
        body: "Done".to_owned(),
        sound: Some("Glass".to_owned()),
        priority: Priority::TimeSensitive,
    };
    assert_eq!(notification(sent), Ok(expected));
    let bare = notification(json!({"body": "x"})).expect("enough");
    assert_eq!((bare.title.as_str(), bare.priority), ("atoll", Priority::Active));
}

#[test]
fn what_cannot_be_shown_is_refused_by_name() {
    for (params, code, word) in [
        (json!({}), "INVALID_REQUEST", "a title or a body"),
        (json!({"title": "\u{1b}"}), "INVALID_REQUEST", "a title or a body"),
        (json!({"title": "x".repeat(201)}), "INVALID_REQUEST", "201 characters"),
        (json!({"title": "x", "priority": "loud"}), "INVALID_REQUEST", "loud"),
        (json!({"title": "x", "sound": "--help"}), "INVALID_REQUEST", "sound"),
        (json!({"title": "x", "sound": "a:b"}), "INVALID_REQUEST", "sound"),
        (
            json!({"title": "x", "delivery": "overlay"}),
            "NOTIFICATIONS_UNAVAILABLE",
            "auto",
        ),
    ] {
        let error = notification(params.clone()).expect_err("wrong");
        assert!(
            error.code == code && error.message.contains(word),
            "{params}: {error:?}"
        );
    }
}

#[test]
fn text_is_never_an_option_a_script_or_markup() {
    let nasty =
        json!({"title": "--help $(id)", "body": "-u <b>a\\n</b> & \"; do shell script \"id\"", "priority": "passive"});
    let nasty = notification(nasty).expect("text");
    let words = Program::NotifySend.argv(&nasty);
    assert_eq!(
        words[1..],
        [
            "--app-name=atoll",
            "--urgency=low",
            "--hint=boolean:suppress-sound:true",
            "--",
            "--help $(id)",
            "-u &lt;b&gt;a\\\\n&lt;/b&gt; &amp; \"; do shell script \"id\"",
        ]
    );
    let words = Program::Osascript.argv(&nasty);
    let end = words.iter().position(|word| word == "--").expect("an end of options");
    assert!(words[..end].iter().all(|word| !word.contains("id")), "{words:?}");
    assert_eq!(
        words[end + 1..],
        [nasty.title.clone(), nasty.body.clone(), String::new()]
    );
    let words = Program::Termux.argv(&nasty);
    assert_eq!(words[1..5], ["--priority", "low", "--title", "--help $(id)"]);
}

#[test]
fn what_is_missing_is_said() {
    let bus = [("DBUS_SESSION_BUS_ADDRESS", "unix:path=/x")];
    for (programs, env, expected) in [
        (&[("notify-send", "")][..], &bus[..], Ok(Program::NotifySend)),
        (
            &[("notify-send", ""), ("termux-notification", "")],
            &bus,
            Ok(Program::Termux),
        ),
        (&[("notify-send", "")], &[], Err("no session bus")),
        (
            &[("notify-send", "")],
            &[("XDG_RUNTIME_DIR", "/nowhere")],
            Err("no session bus"),
        ),
        (&[], &bus, Err("libnotify-bin")),
    ] {
        let (_folder, installed) = scripts(programs, env);
        match (Program::find(&installed), expected) {
            (Ok(found), Ok(meant)) => assert_eq!(found, meant),
            (Err(why), Err(word)) => assert!(why.contains(word), "{why}"),
            other => panic!("{programs:?} {env:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_desktop_that_refuses_or_hangs_is_one_clear_error() {
    let bus = [("DBUS_SESSION_BUS_ADDRESS", "unix:path=/x")];
    for (script, word) in [
        (
            "echo 'The name is not provided' >&2; exit 1",
            "it says: The name is not provided",
        ),
        ("exec sleep 1000", "did not end within"),
    ] {
        let (_folder, installed) = scripts(&[("notify-send", script)], &bus);
        let notify = Notify { installed };
        let error = notify
            .invoke(call(json!({"title": "x"}), Duration::from_millis(700)))
            .await;
        let error = error.expect_err("not shown");
        assert_eq!(error.code, "NOTIFICATIONS_UNAVAILABLE");
        assert!(error.message.contains(word), "{}", error.message);
    }
}

#[tokio::test]
async fn a_call_that_is_called_off_ends() {
    let bus = [("DBUS_SESSION_BUS_ADDRESS", "unix:path=/x")];
    let (_folder, installed) = scripts(&[("notify-send", "exec sleep 1000")], &bus);
    let notify = Notify { installed };
    let call = call(json!({"title": "x"}), Duration::from_secs(60));
    let cancel = call.cancel.clone();
    let (ended, ()) = tokio::join!(notify.invoke(call), async { cancel.cancel() });
    assert_eq!(ended.expect_err("cancelled").code, "CANCELLED");
}
