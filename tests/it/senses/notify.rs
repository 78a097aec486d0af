//! Notifications: the real notify-send, the real dunst.

use atoll_tests::mesh::Pipe;
use std::path::Path;

use atoll_tests::desktop::{Bus, Screen};
use atoll_tests::program::Program;
use atoll_tests::wait::{until, within};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Home, missing};

atoll_tests::over_every_pipe! {
    a_notification_is_seen_letter_by_letter,
}

/// A desktop that shows notifications.
struct Desktop {
    bus: Bus,
    _screen: Screen,
    daemon: Program,
}

impl Desktop {
    async fn start(folder: &Path) -> Self {
        let (bus, screen) = tokio::join!(Bus::start(), Screen::start());
        let config = folder.join("dunstrc");
        std::fs::write(&config, "[global]\n    markup = full\n").expect("room");
        let mut daemon = Command::new("dunst");
        daemon.arg("-print").arg("-conf").arg(&config).env("HOME", folder);
        daemon
            .env("DISPLAY", &screen.display)
            .env("DBUS_SESSION_BUS_ADDRESS", &bus.address);
        let desktop = Self {
            daemon: Program::start("dunst", daemon),
            _screen: screen,
            bus,
        };
        until("the notification daemon", async || desktop.control("count").await).await;
        desktop
    }

    async fn control(&self, word: &str) -> Option<String> {
        let mut command = Command::new("dunstctl");
        command
            .args(word.split(' '))
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address);
        let output = within("dunstctl", command.output()).await.expect("dunstctl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }

    /// The only notification that is shown; it is gone after that.
    async fn shown(&self) -> Value {
        let count = self.control("count displayed").await.expect("a number");
        assert_eq!(count.trim(), "1");
        self.control("close-all").await.expect("closed");
        let history = self.control("history").await.expect("a history");
        let history: Value = serde_json::from_str(&history).expect("JSON");
        let last = history["data"][0][0].clone();
        json!({
            "summary": last["summary"]["data"], "body": last["body"]["data"], "app": last["appname"]["data"],
        })
    }
}

async fn a_notification_is_seen_letter_by_letter(pipe: Pipe) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let desktop = Desktop::start(folder.path()).await;
    let home = Home::new(
        pipe,
        &["system.notify"],
        json!({}),
        &[("DBUS_SESSION_BUS_ADDRESS", &desktop.bus.address)],
    )
    .await;

    let body = "--help <b>$(id)</b> & `id` \\n ü\nsecond";
    let nasty = json!({"title": "-t <i>ü</i>", "body": body, "priority": "timeSensitive", "delivery": "system"});
    assert_eq!(
        home.invoke("system.notify", nasty).await,
        Ok(json!({"delivered": "system"}))
    );
    let shown = desktop.shown().await;
    // Markup is for the desktop to draw: what was sent is text in it.
    let drawn = "--help &lt;b&gt;$(id)&lt;/b&gt; &amp; `id` \\n ü\nsecond";
    let expected = json!({"summary": "-t <i>ü</i>", "body": drawn, "app": "atoll"});
    assert_eq!(shown, expected);
    desktop.daemon.line("urgency: CRITICAL").await;

    let printed = home
        .cli(&[
            "notify",
            "--node",
            "home",
            "--title",
            "Build",
            "--body",
            "Done",
            "--priority",
            "passive",
        ])
        .await;
    assert_eq!(printed, Ok("shown (system)\n".to_owned()));
    let shown = desktop.shown().await;
    assert_eq!((&shown["summary"], &shown["body"]), (&json!("Build"), &json!("Done")));
    desktop.daemon.line("urgency: LOW").await;
}

#[tokio::test]
async fn a_bus_without_anybody_who_shows_notifications_is_one_clear_error() {
    let bus = Bus::start().await;
    let home = Home::new(
        Pipe::Quic,
        &["system.notify"],
        json!({}),
        &[("DBUS_SESSION_BUS_ADDRESS", &bus.address)],
    )
    .await;
    let error = home
        .invoke("system.notify", json!({"title": "x"}))
        .await
        .expect_err("nobody");
    assert!(
        error.starts_with("NOTIFICATIONS_UNAVAILABLE: notify-send ended with"),
        "{error}"
    );
    assert!(error.contains("org.freedesktop"), "the reason is told: {error}");
    home.node.rules(&json!({"commands": {"system.notify": "deny"}}));
    let error = home
        .invoke("system.notify", json!({"title": "x"}))
        .await
        .expect_err("denied");
    assert!(
        error.starts_with("NOTIFICATIONS_DISABLED: system.notify is denied"),
        "{error}"
    );
    assert!(missing(&home.node, "system.notify").await.contains("denied"));
}

#[tokio::test]
async fn without_a_session_bus_it_is_not_offered_and_says_why() {
    let home = Home::new(Pipe::Quic, &["system.notify"], json!({}), &[]).await;
    let error = home
        .invoke("system.notify", json!({"title": "x"}))
        .await
        .expect_err("not offered");
    assert!(error.contains("node command not allowed"), "{error}");
    assert!(missing(&home.node, "system.notify").await.contains("no session bus"));
}
