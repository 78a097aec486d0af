//! `screen.list`, `screen.snapshot`, `screen.record` and `screen.stream`: what the screens of this device show.
//!
//! Names, parameters and results are OpenClaw's; `screen.list` and `screen.stream` are of their kind. Whoever can take blobs gets pictures as
//! blobs, others as base64. The display is spoken to, and programs of the owner's run, in the helper process of [`crate::capture`].

mod params;
mod settings;
mod way;
pub(crate) mod x11;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::capture::clip::{self, Recipe};
use crate::capture::params::invalid;
use crate::capture::wire::Job;
use crate::capture::{
    Capture, Content, HelperProgram, LIST, Live, PICTURE_TIME, Subject, Turn, carry, clip_time, no_streams, now_ms,
    sound, until,
};
use crate::{Call, Capability, Description};
use params::{Record, Snapshot, Stream};
use settings::Settings;
use way::Way;

pub use x11::grab;

const LIST_ALL: &str = "screen.list";
const SNAPSHOT: &str = "screen.snapshot";
const RECORD: &str = "screen.record";
const STREAM: &str = "screen.stream";
const ALL: [&str; 4] = [LIST_ALL, SNAPSHOT, RECORD, STREAM];

const SCREEN: Subject = Subject::Screen;

/// The screens of this device.
#[derive(Debug)]
pub struct Screens {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    capture: Capture,
}

impl Screens {
    /// Under the owner's file in `state_dir`.
    pub fn new(state_dir: &Path, helper: HelperProgram) -> Self {
        Self {
            inner: Arc::new(Inner {
                folder: state_dir.to_owned(),
                capture: Capture::new(SCREEN, state_dir, helper),
            }),
        }
    }
}

#[async_trait]
impl Capability for Screens {
    fn describe(&self) -> Description {
        let mut description = Description {
            cap: "screen",
            ..Description::default()
        };
        let way = settings::load(&self.inner.folder).and_then(|settings| way::here(&settings));
        if let Err(why) = way {
            description.missing = ALL.map(|command| (command, why.clone())).into();
            return description;
        }
        description.commands = ALL.into();
        if let Some(why) = clip::missing() {
            description.commands.retain(|command| *command != RECORD);
            description.missing.push((RECORD, why.to_owned()));
        }
        description
    }

    fn listens(&self, call: &Call) -> bool {
        let is_wanted = || Record::read(call.params.as_ref()).is_ok_and(|asked| asked.audio);
        let is_there = |settings: Settings| sound::arguments(&settings.microphone, SCREEN).is_ok();
        call.command == RECORD && is_wanted() && settings::load(&self.inner.folder).is_ok_and(is_there)
    }

    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
        let (inner, cancel) = (self.inner.clone(), call.cancel.clone());
        let work = async {
            match call.command.as_str() {
                LIST_ALL => inner.list(call).await,
                SNAPSHOT => inner.snapshot(call).await,
                RECORD => inner.record(call).await,
                STREAM => inner.stream(call).await,
                other => Err(invalid(format!("{other} is not a command of this capability"))),
            }
        };
        // A helper that is dropped dies at once, with all it started.
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(CallError::new("CANCELLED", "the call was cancelled; nobody looks at the screen any more")),
            done = work => done.map(|value| Some(value.into())),
        }
    }
}

/// A call under way: what its owner says now, and what that makes of it.
struct Work {
    settings: Settings,
    way: Way,
    capture: Capture,
}

impl Inner {
    async fn begin(&self) -> Result<Work, CallError> {
        let folder = self.folder.clone();
        let load = tokio::task::spawn_blocking(move || {
            let settings = settings::load(&folder)?;
            let way = way::here(&settings)?;
            Ok((settings, way))
        });
        let loaded = load.await.map_err(|error| SCREEN.unavailable(error.to_string()))?;
        let (settings, way) = loaded.map_err(|why: String| SCREEN.unavailable(why))?;
        let capture = self.capture.within(settings.environment());
        Ok(Work { settings, way, capture })
    }

    async fn list(&self, call: Call) -> Result<Value, CallError> {
        params::read_nothing(call.params.as_ref())?;
        let work = self.begin().await?;
        let screens = match &work.way {
            Way::Programs(programs) => programs.iter().enumerate().map(|(index, it)| it.json(index)).collect(),
            Way::X11 => {
                let (_, mut end) = work.capture.run(&Job::Screens, until(call.deadline, LIST)).await?;
                end["screens"].take()
            }
        };
        Ok(json!({"screens": screens}))
    }

    async fn snapshot(&self, call: Call) -> Result<Value, CallError> {
        let asked = Snapshot::read(call.params.as_ref())?;
        let until = until(call.deadline, PICTURE_TIME);
        let work = self.begin().await?;
        let source = work.way.source(asked.index)?;
        let _turn = work.turn(SNAPSHOT, asked.index, until).await?;
        let picture = work.capture.snap(source, asked.size, Duration::ZERO, until).await?;
        let format = asked.size.format;
        let result = json!({
            "format": format.as_str(), "width": picture.width, "height": picture.height, "screenIndex": asked.index,
            "capturedAtMs": now_ms(),
        });
        let content = Content::of_bytes(SCREEN, picture.bytes).await?;
        let named = (
            file_name(asked.index, format.extension()),
            format!("image/{}", format.as_str()),
        );
        carry(SCREEN, call.blobs, content, named, result).await
    }

    async fn record(&self, call: Call) -> Result<Value, CallError> {
        let asked = Record::read(call.params.as_ref())?;
        let until = until(call.deadline, clip_time(asked.duration));
        let work = self.begin().await?;
        let source = work.way.source(asked.index)?;
        let _turn = work.turn(RECORD, asked.index, until).await?;
        let sound = asked
            .audio
            .then(|| sound::unless(call.silent, &work.settings.microphone, SCREEN));
        let recipe = Recipe {
            fps: asked.fps,
            duration: asked.duration,
            sound: sound.clone().and_then(Result::ok),
            format: asked.format,
        };
        let (content, mut result) = work.capture.clip(source, asked.size, recipe, until).await?;
        result["screenIndex"] = json!(asked.index);
        if let Some(Err(why)) = sound {
            result["audioMissing"] = json!(why);
        }
        let format = asked.format.as_str();
        let named = (file_name(asked.index, format), format!("video/{format}"));
        carry(SCREEN, call.blobs, content, named, result).await
    }

    async fn stream(&self, call: Call) -> Result<Value, CallError> {
        let asked = Stream::read(call.params.as_ref())?;
        let blobs = call.blobs.ok_or_else(|| no_streams("screen.snapshot, screen.record"))?;
        let until = until(call.deadline, PICTURE_TIME);
        let work = self.begin().await?;
        let source = work.way.source(asked.index)?;
        let turn = work.turn(STREAM, asked.index, until).await?;
        let live = Live {
            source,
            size: asked.size,
            fps: asked.fps,
            duration: asked.duration,
        };
        let to = (blobs.as_ref(), file_name(asked.index, "mjpeg"));
        let mut result = work.capture.stream(live, (turn, until), to).await?;
        result["screenIndex"] = json!(asked.index);
        Ok(result)
    }
}

impl Work {
    /// One snapshot, one recording and one stream of a screen at a time.
    async fn turn(&self, command: &str, index: u32, until: Instant) -> Result<Turn, CallError> {
        let key = format!("{command} {index}");
        self.capture
            .turn(&key, &format!("{command} of screen {index}"), until)
            .await
    }
}

fn file_name(index: u32, extension: &str) -> String {
    format!("screen-{index}.{extension}")
}
