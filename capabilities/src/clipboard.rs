//! `clipboard.read` and `clipboard.write`: the text in the clipboard of whoever uses this device. Owns the program that holds what was
//! written, on systems where a clipboard is a program that answers; how each system is asked is in `program`.

mod program;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::installed::{Installed, ProgramError, Task, unless_cancelled, until};
use crate::params::{invalid, read};
use crate::{Call, Capability, Description};
use program::Program;

const READ: &str = "clipboard.read";
const WRITE: &str = "clipboard.write";

/// The most text, bytes: a frame holds it, whatever JSON makes of it.
const MOST: usize = 128 * 1024;

/// The longest that a clipboard takes.
const TIME: Duration = Duration::from_secs(10);

/// How often it is looked whether what was written is there.
const LOOK: Duration = Duration::from_millis(20);

/// The clipboard of this device.
#[derive(Debug)]
pub struct Clipboard {
    installed: Installed,
    /// The program that holds what was written last. It ends by itself when somebody else copies something; it is killed when something else
    /// is written, and with this process.
    holder: Mutex<Option<Holder>>,
    /// One writes at a time.
    turn: Semaphore,
}

type Holder = AbortOnDropHandle<Result<Vec<u8>, ProgramError>>;

#[derive(Debug, Default, Deserialize)]
struct Text {
    text: Option<String>,
}

impl Clipboard {
    /// Through what this process sees.
    pub fn here() -> Self {
        Self::through(Installed::here())
    }

    fn through(installed: Installed) -> Self {
        Self {
            installed,
            holder: Mutex::default(),
            turn: Semaphore::new(1),
        }
    }

    async fn read(&self, until: Instant) -> Result<String, CallError> {
        let program = Program::find(&self.installed).map_err(unavailable)?;
        let task = Task {
            most: MOST,
            ..Task::new(program.reads())
        };
        let bytes = self.installed.run(task, until).await.map_err(|error| {
            if let ProgramError::TooMuch { most, .. } = error {
                return too_large("the clipboard holds", most);
            }
            let nothing = if matches!(error, ProgramError::Failed { .. }) {
                "the clipboard holds no text: "
            } else {
                ""
            };
            unavailable(format!("{nothing}{error}"))
        })?;
        String::from_utf8(bytes).map_err(|_| unavailable("the clipboard holds something that is no text"))
    }

    async fn write(&self, text: String, until: Instant) -> Result<(), CallError> {
        let program = Program::find(&self.installed).map_err(unavailable)?;
        let _turn = self
            .turn
            .acquire()
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let task = Task {
            stdin: text.clone().into_bytes(),
            ..Task::new(program.writes())
        };
        if !program.holds() {
            return match self.installed.run(task, until).await {
                Ok(_) => Ok(()),
                Err(error) => Err(unavailable(error.to_string())),
            };
        }
        let mut held = self
            .installed
            .hold(task)
            .map_err(|error| unavailable(error.to_string()))?;
        // The program does not say when it has the clipboard.
        loop {
            if held.is_finished() {
                let why = match (&mut held).await {
                    Ok(Err(error)) => error.to_string(),
                    Ok(Ok(_)) | Err(_) => "another program took the clipboard at once".to_owned(),
                };
                return Err(unavailable(why));
            }
            if self.read(until).await.is_ok_and(|there| there == text) {
                *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(unavailable("the clipboard did not take the text in time"));
            }
            sleep(LOOK).await;
        }
    }
}

#[async_trait]
impl Capability for Clipboard {
    fn describe(&self) -> Description {
        let mut description = Description {
            cap: "clipboard",
            ..Description::default()
        };
        match Program::find(&self.installed) {
            Ok(_) => description.commands = vec![READ, WRITE],
            Err(why) => description.missing = vec![(READ, why.clone()), (WRITE, why)],
        }
        description
    }

    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
        let until = until(call.deadline, TIME);
        let work = async {
            if call.command == READ {
                let text = self.read(until).await?;
                return Ok(json!({"text": text}));
            }
            let given: Text = read(call.params.as_ref())?;
            let text = given.text.ok_or_else(|| invalid("text is missing"))?;
            if text.is_empty() || text.contains('\0') {
                return Err(invalid("text is empty, or has a NUL character in it"));
            }
            if text.len() > MOST {
                return Err(too_large("text has", MOST));
            }
            self.write(text, until).await?;
            Ok(json!({"ok": true}))
        };
        unless_cancelled(call.cancel, work).await.map(|done| Some(done.into()))
    }
}

fn too_large(who: &str, most: usize) -> CallError {
    CallError::new(
        "PAYLOAD_TOO_LARGE",
        format!("{who} more than {most} bytes, the most that a clipboard carries here"),
    )
}

fn unavailable(message: impl Into<String>) -> CallError {
    CallError::new("CLIPBOARD_UNAVAILABLE", message)
}

#[cfg(all(test, unix))]
mod tests;
