//! The person at a desktop: the real `notify-send` with a real notification daemon on a real X server, and a stand-in that is strict about
//! its arguments where the daemon would be forgiving.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use atoll_tests::mesh::Pipe;
use atoll_tests::program::Program;
use atoll_tests::wait::{until, within};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{Home, words};

/// A session with a bus, a screen and a notification daemon whose menu a test presses.
struct Session {
    folder: TempDir,
    bus: String,
    _programs: [Program; 3],
}

impl Session {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--session", "--nofork", "--print-address"]);
        let bus_program = Program::start("dbus-daemon", bus);
        let bus = bus_program.line("unix:").await;
        let mut screen = Command::new("Xvfb");
        screen.args(["-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp"]);
        let screen = Program::start("Xvfb", screen);
        let number = until("a screen", async || {
            let log = screen.log();
            log.lines().find(|line| line.parse::<u32>().is_ok()).map(str::to_owned)
        })
        .await;
        // Whoever opens the menu gets the entry that begins with what is in the file.
        let menu = script(folder.path(), "menu", "grep \"^#$(cat \"${0%/*}/press\")\"");
        let config = folder.path().join("dunstrc");
        std::fs::write(&config, format!("[global]\n    dmenu = {}\n", menu.display())).expect("room");
        let mut daemon = Command::new("dunst");
        daemon.arg("-conf").arg(&config).env("HOME", folder.path());
        daemon
            .env("DISPLAY", format!(":{number}"))
            .env("DBUS_SESSION_BUS_ADDRESS", &bus);
        let daemon = Program::start("dunst", daemon);
        let session = Self {
            folder,
            bus,
            _programs: [bus_program, screen, daemon],
        };
        until("the notification daemon", async || session.control("count").await).await;
        session
    }

    async fn control(&self, word: &str) -> Option<String> {
        let mut command = Command::new("dunstctl");
        command.args(word.split(' ')).env("DBUS_SESSION_BUS_ADDRESS", &self.bus);
        let output = within("dunstctl", command.output()).await.expect("dunstctl");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    }

    async fn shows(&self, count: usize) {
        until(&format!("{count} notifications"), async || {
            let shown = self.control("count displayed").await?;
            (shown == count.to_string()).then_some(())
        })
        .await;
    }

    async fn press(&self, button: &str) {
        std::fs::write(self.folder.path().join("press"), button).expect("room");
        self.control("context").await.expect("a menu");
    }
}

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("room");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    path
}

#[tokio::test]
async fn a_button_of_a_real_notification_answers() {
    let session = Session::start().await;
    let environment = [("DBUS_SESSION_BUS_ADDRESS", session.bus.as_str())];
    let rules = json!({"commands": {"camera.snap": "ask"}, "showUse": false});
    let home = Home::with(Pipe::Quic, rules, &environment).await;
    for (button, is_allowed) in [("Allow", true), ("Deny", false)] {
        let (mut operator, call) = home.begin("camera.snap", json!({"deviceId": "test"})).await;
        session.shows(1).await;
        session.press(button).await;
        let ended = words(operator.answer(&call).await);
        assert_eq!(ended.is_ok(), is_allowed, "{ended:?}");
        session.shows(0).await;
    }
    // Answered elsewhere: the notification goes.
    let (mut operator, call) = home.begin("camera.snap", json!({"deviceId": "test"})).await;
    session.shows(1).await;
    let id = home.question().await;
    home.say(&["answer", &id, "no"]).await;
    words(operator.answer(&call).await).expect_err("denied");
    session.shows(0).await;
}

#[tokio::test]
async fn the_use_of_a_camera_is_shown_on_the_desktop() {
    let session = Session::start().await;
    let environment = [("DBUS_SESSION_BUS_ADDRESS", session.bus.as_str())];
    let rules = json!({"commands": {"camera": "allow"}});
    let home = Home::with(Pipe::Quic, rules, &environment).await;
    // What runs and looks at nothing is not shown.
    let which = json!({"bins": ["sh"]});
    home.call("system.which", which, 15_000).await.expect("allowed");
    let photo = home.call("camera.snap", json!({"deviceId": "test"}), 15_000).await;
    photo.expect("allowed");
    session.shows(1).await;
    session.control("close-all").await.expect("closed");
    let history = session.control("history").await.expect("a history");
    let history: Value = serde_json::from_str(&history).expect("JSON");
    let shown = &history["data"][0];
    assert_eq!(shown.as_array().map(Vec::len), Some(1), "{history}");
    let text = |part: &str| shown[0][part]["data"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (text("appname"), text("summary")),
        ("atoll".to_owned(), "In use".to_owned())
    );
    assert!(text("body").starts_with("camera.snap, for "), "{history}");
}

#[tokio::test]
async fn what_is_said_to_the_desktop_is_what_it_understands() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Like libnotify 0.8: an action needs its name, a wait ends with SIGINT, and what is pressed is printed.
    let strict = r#"cd "${0%/*}"
case "$*" in
  "--app-name=atoll --urgency=critical --wait --action=yes=Allow --action=no=Deny --expire-time="[0-9]*" -- Allow camera.list? gateway "*" wants camera.list. Without an answer "*) ;;
  *) echo "$*" >wrong; exit 1 ;;
esac
trap 'touch closed; exit 0' INT
touch shown
while [ ! -e press ]; do sleep 0.02; done
cat press"#;
    script(folder.path(), "notify-send", strict);
    let path = std::env::var("PATH").expect("a path");
    let path = format!("{}:{path}", folder.path().display());
    let environment = [
        ("PATH", path.as_str()),
        ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere"),
    ];
    let rules = json!({"commands": {"camera": "ask"}, "showUse": false});
    let home = Home::with(Pipe::Quic, rules, &environment).await;
    let there = |name: &'static str| {
        let path = folder.path().join(name);
        async move { until(name, async || path.exists().then_some(())).await }
    };
    let (mut operator, call) = home.begin("camera.list", json!({})).await;
    there("shown").await;
    let id = home.question().await;
    home.say(&["answer", &id, "yes"]).await;
    words(operator.answer(&call).await).expect("allowed");
    there("closed").await;

    let (mut operator, call) = home.begin("camera.list", json!({})).await;
    std::fs::write(folder.path().join("draft"), "no\n").expect("room");
    std::fs::rename(folder.path().join("draft"), folder.path().join("press")).expect("room");
    let error = words(operator.answer(&call).await).expect_err("denied");
    assert!(error.contains("(desktop)"), "{error}");
    assert!(!folder.path().join("wrong").exists());
}
