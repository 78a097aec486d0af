//! What shows notifications, by system, and what each is told. Pure but for the look at what is installed.

use std::path::Path;

use super::{Notification, Priority};
use crate::installed::Installed;

/// The title comes first of its arguments, then the body, then the sound; text is never part of the script.
const APPLE_SCRIPT: [&str; 7] = [
    "on run argv",
    "if (item 3 of argv) is \"\" then",
    "display notification (item 2 of argv) with title (item 1 of argv)",
    "else",
    "display notification (item 2 of argv) with title (item 1 of argv) sound name (item 3 of argv)",
    "end if",
    "end run",
];

/// A program that shows notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// Of Termux:API.
    Termux,
    /// Of libnotify, on desktops that follow freedesktop.org.
    NotifySend,
    /// Of macOS.
    Osascript,
}

impl Program {
    /// The one that works here.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub(super) fn find(installed: &Installed) -> Result<Self, String> {
        if installed.has("termux-notification") {
            return Ok(Self::Termux);
        }
        if cfg!(target_os = "macos") && installed.has("osascript") {
            return Ok(Self::Osascript);
        }
        if cfg!(windows) {
            return Err("atoll-node shows no notifications on Windows yet".to_owned());
        }
        if !installed.has("notify-send") {
            let what = if cfg!(target_os = "android") {
                "there is no termux-notification in PATH; install the app Termux:API and `pkg install termux-api`"
            } else {
                "there is no notify-send in PATH; install it (apt install libnotify-bin)"
            };
            return Err(format!("{what}, then start atoll-node again"));
        }
        if has_bus(installed) {
            return Ok(Self::NotifySend);
        }
        Err("there is no session bus, by which notify-send reaches the desktop; start atoll-node in the session of the person who shall \
             see notifications (with DBUS_SESSION_BUS_ADDRESS, or $XDG_RUNTIME_DIR/bus)"
            .to_owned())
    }

    /// Program and arguments.
    pub(super) fn argv(self, notification: &Notification) -> Vec<String> {
        let Notification { title, body, sound, .. } = notification;
        match self {
            Self::Termux => termux(notification),
            Self::NotifySend => notify_send(notification),
            Self::Osascript => {
                let script = APPLE_SCRIPT.iter().flat_map(|line| ["-e", line]);
                let text = [title, body, sound.as_deref().unwrap_or_default()];
                let words = ["osascript"].into_iter().chain(script).chain(["--"]).chain(text);
                words.map(str::to_owned).collect()
            }
        }
    }
}

fn has_bus(installed: &Installed) -> bool {
    let default = |folder: &str| Path::new(folder).join("bus").exists();
    installed.variable("DBUS_SESSION_BUS_ADDRESS").is_some()
        || installed.variable("XDG_RUNTIME_DIR").is_some_and(default)
}

fn termux(notification: &Notification) -> Vec<String> {
    let priority = match notification.priority {
        Priority::Passive => "low",
        Priority::Active => "default",
        Priority::TimeSensitive => "max",
    };
    let mut words = vec!["termux-notification", "--priority", priority];
    if notification.sound.is_some() {
        words.push("--sound");
    }
    words.extend(["--title", &notification.title, "--content", &notification.body]);
    words.into_iter().map(str::to_owned).collect()
}

fn notify_send(notification: &Notification) -> Vec<String> {
    let urgency = match notification.priority {
        Priority::Passive => "low",
        Priority::Active => "normal",
        Priority::TimeSensitive => "critical",
    };
    let mut words = vec![
        "notify-send".to_owned(),
        "--app-name=atoll".to_owned(),
        format!("--urgency={urgency}"),
    ];
    match &notification.sound {
        Some(sound) => words.push(format!("--hint=string:sound-name:{sound}")),
        None if notification.priority == Priority::Passive => {
            words.push("--hint=boolean:suppress-sound:true".to_owned())
        }
        None => {}
    }
    words.extend(["--".to_owned(), notification.title.clone(), plain(&notification.body)]);
    words
}

/// A body as the desktop shows it letter by letter: desktops read markup in it, and notify-send reads C escapes before that.
fn plain(body: &str) -> String {
    let mut text = String::with_capacity(body.len());
    for letter in body.chars() {
        match letter {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '\\' => text.push_str("\\\\"),
            other => text.push(other),
        }
    }
    text
}
