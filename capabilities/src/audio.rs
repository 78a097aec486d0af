//! `audio.record`, `audio.play` and `audio.speak`: this device's microphone, loudspeaker and voice, through installed programs. Owns bounds and
//! times; what each system is told is in `program`, what sounds look like in `sound`.

mod program;
mod sound;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::blob::{BlobHandle, FIELD};
use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use crate::blob::{Blobs, NewBlob};
use crate::capture::sound::Microphone;
use crate::installed::{Installed, ProgramError, Task, unless_cancelled, until};
use crate::owned::section;
use crate::params::{invalid, millis, read};
use crate::{Call, Capability, Description};
use program::{Player, Recorder, Speaker, Voice};
use sound::{Format, Kind};

const RECORD: &str = "audio.record";
const PLAY: &str = "audio.play";
const SPEAK: &str = "audio.speak";

/// A recording that is not told how long, and the longest.
const RECORDING: Duration = Duration::from_secs(3);
const RECORDING_MAX: Duration = Duration::from_secs(60);

/// What a recorder takes beyond its own time, to open the microphone and to end its file.
const OPENING: Duration = Duration::from_secs(15);

/// The longest that something is played or said.
const PLAYING: Duration = Duration::from_secs(120);

/// The most of a sound, bytes: what base64 carries of it fits into a message.
const MOST: usize = 16 * 1024 * 1024;

/// The most that is said at once, characters.
const TEXT: usize = 2_000;

/// How often it is looked whether something still plays.
const LOOK: Duration = Duration::from_millis(300);

/// The longest that a program takes to be told to stop.
const QUIT: Duration = Duration::from_millis(1_500);

/// What this device hears and says.
#[derive(Debug)]
pub struct Audio {
    state_dir: PathBuf,
    installed: Installed,
}

/// The part of the section `camera` that is meant: there is one microphone, for clips and alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shared {
    microphone: Option<Microphone>,
}

/// The section `audio`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    speaker: Speaker,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Record {
    duration_ms: Option<f64>,
    format: Option<Format>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Play {
    base64: Option<String>,
    blob: Option<BlobHandle>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Speak {
    text: String,
    language: Option<String>,
    voice: Option<String>,
}

impl Audio {
    /// Under the owner's file in `state_dir`, with the programs that this process sees.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            installed: Installed::here(),
        }
    }

    fn recorder(&self) -> Result<Recorder, String> {
        let shared: Shared = section(&self.state_dir, "camera", |_| Ok(()))?;
        Recorder::find(&self.installed, &shared.microphone.unwrap_or(Microphone::System(true)))
    }

    fn player(&self) -> Result<Player, String> {
        let settings: Settings = section(&self.state_dir, "audio", |_| Ok(()))?;
        Player::find(&self.installed, settings.speaker)
    }

    /// A voice, and what plays it where it does not do that itself.
    fn voice(&self) -> Result<(Voice, Option<Player>), String> {
        let voice = Voice::find(&self.installed)?;
        let player = if voice.speaks_itself() {
            None
        } else {
            Some(self.player()?)
        };
        Ok((voice, player))
    }

    async fn record(&self, call: &Call) -> Result<Value, CallError> {
        let asked: Record = read(call.params.as_ref())?;
        let duration =
            millis(asked.duration_ms, RECORDING, Duration::MAX, "durationMs")?.max(Duration::from_millis(100));
        let ms = duration.as_millis();
        if duration > RECORDING_MAX {
            return Err(invalid(format!(
                "durationMs is {ms} and {} is the most",
                RECORDING_MAX.as_millis()
            )));
        }
        if duration >= call.deadline {
            let has = call.deadline.as_millis();
            return Err(invalid(format!(
                "durationMs is {ms} and the call ends after {has} ms; call with a longer timeoutMs"
            )));
        }
        let until = until(call.deadline, duration + OPENING);
        let (bytes, format) = match self.recorder().map_err(unavailable)? {
            Recorder::Ffmpeg(microphone) => {
                let format = asked.format.unwrap_or_default();
                let task = Task {
                    most: MOST,
                    ..Task::new(program::ffmpeg_records(&microphone, duration, format))
                };
                let bytes = self.installed.run(task, until).await.map_err(failed)?;
                (format.whole(bytes), format)
            }
            Recorder::Termux if asked.format.is_none_or(|format| format == Format::M4a) => {
                (self.termux_records(duration, until).await?, Format::M4a)
            }
            Recorder::Termux => return Err(invalid("Termux records m4a alone")),
        };
        if bytes.is_empty() {
            return Err(unavailable("the microphone gave nothing"));
        }
        let result = json!({"format": format.as_str(), "durationMs": ms as u64});
        carry(call.blobs.as_ref(), bytes, format, result).await
    }

    /// Termux:API records by itself and is told when to stop; it would stop at its limit too.
    async fn termux_records(&self, duration: Duration, until: Instant) -> Result<Vec<u8>, CallError> {
        let folder = self.state_dir.clone();
        let draft = blocking(move || {
            tempfile::Builder::new()
                .prefix("clip-")
                .suffix(".m4a")
                .tempfile_in(folder)
        })
        .await?;
        let start = Task::new(program::termux_records(draft.path(), duration));
        self.installed.run(start, until).await.map_err(failed)?;
        sleep(duration).await;
        self.stop_termux(RECORD).await?;
        blocking(move || std::fs::read(draft.path())).await
    }

    async fn play(&self, call: &Call) -> Result<Value, CallError> {
        let asked: Play = read(call.params.as_ref())?;
        let player = self.player().map_err(unavailable)?;
        let draft = self.draft().await?;
        match (asked.base64, asked.blob) {
            (Some(text), None) => {
                let bytes = decoded(&text)?;
                self.fill(&draft, bytes).await?;
            }
            (None, Some(blob)) => {
                if blob.size > MOST as u64 {
                    return Err(too_large(blob.size));
                }
                let blobs = call
                    .blobs
                    .as_ref()
                    .ok_or_else(|| invalid("a link in OpenClaw's language carries no blobs; use base64"))?;
                let file = draft.reopen().map_err(no_room)?;
                blobs.take(&blob, file).await?;
            }
            _ => return Err(invalid("the sound is missing: give it as base64, or as blob")),
        }
        let until = until(call.deadline, PLAYING);
        self.plays(&player, &draft, until).await
    }

    async fn speak(&self, call: &Call) -> Result<Value, CallError> {
        let asked: Speak = read(call.params.as_ref())?;
        let text = asked.text.trim();
        let count = text.chars().count();
        if count == 0 || text.contains('\0') {
            return Err(invalid("text is empty, or has a NUL character in it"));
        }
        if count > TEXT {
            return Err(invalid(format!("text has {count} characters and {TEXT} are the most")));
        }
        let language = name(asked.language, "language")?;
        let own_voice = name(asked.voice, "voice")?;
        let (voice, player) = self.voice().map_err(unavailable)?;
        let until = until(call.deadline, PLAYING);
        let task = Task {
            most: MOST,
            ..voice.task(text, language.as_deref(), own_voice.as_deref())
        };
        let began = Instant::now();
        let spoken = self.installed.run(task, until).await.map_err(failed)?;
        let Some(player) = player else {
            return Ok(json!({"ok": true, "durationMs": began.elapsed().as_millis() as u64}));
        };
        let draft = self.draft().await?;
        self.fill(&draft, spoken).await?;
        self.plays(&player, &draft, until).await
    }

    /// A file that nobody else reads and that goes with the call.
    async fn draft(&self) -> Result<NamedTempFile, CallError> {
        let folder = self.state_dir.clone();
        blocking(move || tempfile::Builder::new().prefix("clip-").tempfile_in(folder)).await
    }

    async fn fill(&self, draft: &NamedTempFile, bytes: Vec<u8>) -> Result<(), CallError> {
        let mut file = draft.reopen().map_err(no_room)?;
        blocking(move || file.write_all(&bytes)).await
    }

    /// Plays a file to its end.
    async fn plays(&self, player: &Player, draft: &NamedTempFile, until: Instant) -> Result<Value, CallError> {
        let mut file = draft.reopen().map_err(no_room)?;
        let kind = blocking(move || Kind::of_file(&mut file)).await?;
        let kind = kind.ok_or_else(|| {
            invalid("this is no sound that can be played here; it is WAV, MP3, Ogg, FLAC, M4A, AAC or WebM")
        })?;
        let began = Instant::now();
        let argv = player.argv(draft.path(), kind).map_err(unavailable)?;
        self.installed.run(Task::new(argv), until).await.map_err(failed)?;
        if *player == Player::Termux {
            self.termux_plays(until).await?;
        }
        Ok(json!({"ok": true, "durationMs": began.elapsed().as_millis() as u64}))
    }

    /// Termux:API plays by itself: it is asked whether it still does.
    async fn termux_plays(&self, until: Instant) -> Result<(), CallError> {
        loop {
            let asking = self.installed.run(Task::new(program::TERMUX_PLAYS), until).await;
            if !String::from_utf8_lossy(&asking.map_err(failed)?).contains("Playing") {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    /// Ends what Termux:API does by itself; elsewhere programs die with the work that started them.
    async fn stop_termux(&self, command: &str) -> Result<(), CallError> {
        let words = match command {
            RECORD => program::TERMUX_STOPS_RECORDING,
            _ => program::TERMUX_STOPS_PLAYING,
        };
        if !self.installed.has(words[0]) {
            return Ok(());
        }
        let stopped = self.installed.run(Task::new(words), Instant::now() + QUIT).await;
        stopped.map(drop).map_err(failed)
    }
}

#[async_trait]
impl Capability for Audio {
    fn describe(&self) -> Description {
        let mut description = Description {
            cap: "audio",
            ..Description::default()
        };
        let found = [
            (RECORD, self.recorder().err()),
            (PLAY, self.player().err()),
            (SPEAK, self.voice().err()),
        ];
        for (command, missing) in found {
            match missing {
                None => description.commands.push(command),
                Some(why) => description.missing.push((command, why)),
            }
        }
        description
    }

    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
        let cancel = call.cancel.clone();
        let work = async {
            match call.command.as_str() {
                RECORD => self.record(&call).await,
                PLAY => self.play(&call).await,
                SPEAK => self.speak(&call).await,
                other => Err(invalid(format!("{other} is not a command of this capability"))),
            }
        };
        let ended = unless_cancelled(cancel, work).await;
        if ended.as_ref().is_err_and(|error| error.code != "INVALID_REQUEST") {
            // Whether it had begun is not known, and stopping nothing is no fault.
            let _ = self.stop_termux(&call.command).await;
        }
        ended.map(|done| Some(done.into()))
    }
}

/// A word that names a language or a voice, and can be no option.
fn name(given: Option<String>, what: &str) -> Result<Option<String>, CallError> {
    let given = given.filter(|name| !name.is_empty());
    let plain = |c: char| c.is_alphanumeric() || "-_+. ()".contains(c);
    let is_name =
        |name: &String| name.len() <= 64 && name.starts_with(char::is_alphanumeric) && name.chars().all(plain);
    match given {
        Some(name) if !is_name(&name) => Err(invalid(format!("{what} {name:?} is no name, such as en or Anna"))),
        given => Ok(given),
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, CallError> {
    if text.len() / 4 * 3 > MOST {
        return Err(too_large(text.len() as u64 / 4 * 3));
    }
    let bytes = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text));
    bytes.map_err(|error| invalid(format!("base64 cannot be read: {error}")))
}

/// Puts a recording into a result: as a blob where the caller takes blobs, else as base64.
async fn carry(
    blobs: Option<&Arc<dyn Blobs>>,
    bytes: Vec<u8>,
    format: Format,
    mut result: Value,
) -> Result<Value, CallError> {
    let Some(blobs) = blobs else {
        result["base64"] = json!(STANDARD.encode(bytes));
        return Ok(result);
    };
    let size = bytes.len() as u64;
    let file = blocking(move || {
        let mut file = tempfile::tempfile()?;
        file.write_all(&bytes)?;
        Ok(file)
    });
    let blob = NewBlob {
        file: file.await?,
        size,
        name: format!("recording.{}", format.as_str()),
        mime: format.mime().to_owned(),
    };
    result[FIELD] = json!(blobs.offer(blob)?);
    Ok(result)
}

/// Disk work off the event loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, CallError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other);
    done.flatten().map_err(no_room)
}

fn no_room(error: std::io::Error) -> CallError {
    unavailable(format!("the sound found no room on this device: {error}"))
}

fn too_large(size: u64) -> CallError {
    CallError::new(
        "PAYLOAD_TOO_LARGE",
        format!("the sound has {size} bytes and {MOST} are the most"),
    )
}

fn failed(error: ProgramError) -> CallError {
    unavailable(error.to_string())
}

fn unavailable(message: impl Into<String>) -> CallError {
    CallError::new("AUDIO_UNAVAILABLE", message)
}

#[cfg(all(test, unix))]
mod tests;
