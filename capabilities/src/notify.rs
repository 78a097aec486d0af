//! `system.notify`: a notification on this device's desktop or phone, through an installed program. Owns what a notification may say; how
//! each system is told is in `program`.

mod program;

use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde::Deserialize;
use serde_json::json;

use crate::installed::{Installed, Task, unless_cancelled, until};
use crate::params::{invalid, read};
use crate::{Call, Capability, Description};
use program::Program;

const NOTIFY: &str = "system.notify";

/// What a title and a body have at most, characters.
const TITLE: usize = 200;
const BODY: usize = 2_000;

/// The longest that a desktop takes to show one.
const SHOWN: Duration = Duration::from_secs(10);

/// Notifications on this device.
#[derive(Debug)]
pub struct Notify {
    installed: Installed,
}

impl Notify {
    /// Through what this process sees.
    pub fn here() -> Self {
        Self {
            installed: Installed::here(),
        }
    }
}

/// How much it presses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Priority {
    /// Without a sound.
    Passive,
    #[default]
    Active,
    /// Stays until somebody has seen it.
    TimeSensitive,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Delivery {
    #[default]
    Auto,
    System,
    Overlay,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Raw {
    title: Option<String>,
    body: Option<String>,
    sound: Option<String>,
    priority: Option<Priority>,
    delivery: Option<Delivery>,
}

/// What shall be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Notification {
    title: String,
    body: String,
    /// By the name that the system knows it by.
    sound: Option<String>,
    priority: Priority,
}

impl Notification {
    fn read(params: Option<&Json>) -> Result<Self, CallError> {
        let raw: Raw = read(params)?;
        if raw.delivery == Some(Delivery::Overlay) {
            return Err(unavailable(
                "this node has no window of its own to show anything in; ask for the delivery system or auto",
            ));
        }
        let title = text(raw.title, "title", TITLE)?;
        let body = text(raw.body, "body", BODY)?;
        if title.is_empty() && body.is_empty() {
            return Err(invalid("a notification needs a title or a body"));
        }
        let is_name = |name: &str| {
            let plain = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
            name.chars().count() <= 64 && name.starts_with(char::is_alphanumeric) && name.chars().all(plain)
        };
        let sound = raw.sound.filter(|name| !name.is_empty());
        if sound.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(invalid(
                "sound is the name of a sound of the system, e.g. message-new-instant or Glass",
            ));
        }
        Ok(Self {
            title: if title.is_empty() { "atoll".to_owned() } else { title },
            body,
            sound,
            priority: raw.priority.unwrap_or_default(),
        })
    }
}

/// No longer than it may be; what no notification can show is left out.
fn text(given: Option<String>, name: &str, most: usize) -> Result<String, CallError> {
    let given = given.unwrap_or_default();
    let count = given.chars().count();
    if count > most {
        return Err(invalid(format!(
            "{name} has {count} characters and {most} are the most"
        )));
    }
    let shown = |c: &char| *c == '\n' || !c.is_control();
    Ok(given.chars().filter(shown).collect::<String>().trim().to_owned())
}

#[async_trait]
impl Capability for Notify {
    fn describe(&self) -> Description {
        let mut description = Description {
            cap: "system",
            ..Description::default()
        };
        match Program::find(&self.installed) {
            Ok(_) => description.commands.push(NOTIFY),
            Err(why) => description.missing.push((NOTIFY, why)),
        }
        description
    }

    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
        let notification = Notification::read(call.params.as_ref())?;
        let program = Program::find(&self.installed).map_err(unavailable)?;
        let task = Task::new(program.argv(&notification));
        let showing = async {
            let shown = self.installed.run(task, until(call.deadline, SHOWN)).await;
            shown.map_err(|error| unavailable(format!("{error}. Does a desktop run here that shows notifications?")))
        };
        unless_cancelled(call.cancel, showing).await?;
        Ok(Some(json!({"delivered": "system"}).into()))
    }
}

fn unavailable(message: impl Into<String>) -> CallError {
    CallError::new("NOTIFICATIONS_UNAVAILABLE", message)
}

#[cfg(all(test, unix))]
mod tests;
