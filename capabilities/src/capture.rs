//! Pictures, still and moving: made in a helper process with one job (`job`, `wire`), which alone touches drivers, displays, decoders and
//! programs of the owner's. `child` starts and ends it; here is what comes of it for a caller.

mod carry;
mod child;
pub(crate) mod clip;
mod film;
mod job;
mod mjpeg;
pub(crate) mod params;
pub(crate) mod picture;
mod png;
pub(crate) mod program;
pub(crate) mod sound;
pub(crate) mod source;
mod turns;
pub(crate) mod wire;

pub use child::HelperProgram;
pub use job::{ARGUMENT as HELPER_ARGUMENT, main as helper_main};
pub use mjpeg::Splitter;
pub use picture::{Preview, preview};

pub(crate) use carry::{Content, carry};
pub(crate) use turns::Turn;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use atoll_protocol::blob::FIELD;
use atoll_protocol::error::CallError;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::blob::{Blobs, NewStream};
use crate::group::GRACE;
use carry::blocking;
use child::Helper;
use clip::Recipe;
use picture::{Picture, Size};
use turns::Turns;
use wire::{Job, Message, Source};

/// The longest that naming cameras or screens takes.
pub(crate) const LIST: Duration = Duration::from_secs(10);

/// The longest that it takes to get a first picture.
pub(crate) const PICTURE_TIME: Duration = Duration::from_secs(30);

/// What a clip takes beyond its own time: an encoder may be slower than what it films.
const ENCODING: Duration = Duration::from_secs(60);

/// Beginnings of clips in the state folder; what is older than this was left by a node that was killed.
const CLIP_PREFIX: &str = "clip-";
const CLIP_AGE: Duration = Duration::from_secs(60 * 60);

/// What pictures are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Camera,
    Screen,
    Canvas,
}

impl Subject {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Screen => "screen",
            Self::Canvas => "canvas",
        }
    }

    /// There is no picture, and why.
    pub(crate) fn unavailable(self, why: impl Into<String>) -> CallError {
        let code = match self {
            Self::Camera => "CAMERA_UNAVAILABLE",
            Self::Screen => "SCREEN_UNAVAILABLE",
            Self::Canvas => "CANVAS_UNAVAILABLE",
        };
        CallError::new(code, why)
    }

    /// Why it may be silent.
    fn doubt(self) -> &'static str {
        match self {
            Self::Camera => "is it in use by another program, or asleep?",
            Self::Screen => "does what shows it hang?",
            Self::Canvas => "does the page hang?",
        }
    }
}

/// Makes pictures of one kind of things. Clones take turns with one another.
#[derive(Debug, Clone)]
pub(crate) struct Capture {
    subject: Subject,
    helper: HelperProgram,
    folder: PathBuf,
    turns: Turns,
}

/// What moves and is not kept.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) source: Source,
    pub(crate) size: Size,
    pub(crate) fps: u32,
    pub(crate) duration: Duration,
}

impl Capture {
    /// Keeps what is being filmed in `state_dir`.
    pub(crate) fn new(subject: Subject, state_dir: &Path, helper: HelperProgram) -> Self {
        Self {
            subject,
            helper,
            folder: state_dir.to_owned(),
            turns: Turns::default(),
        }
    }

    /// With more in the environment of its helpers.
    pub(crate) fn within(&self, environment: BTreeMap<String, String>) -> Self {
        let mut capture = self.clone();
        capture.helper = capture.helper.within(environment);
        capture
    }

    /// Waits until nobody else uses what has this key; people call it `name`.
    pub(crate) async fn turn(&self, key: &str, name: &str, until: Instant) -> Result<Turn, CallError> {
        let left = until.saturating_duration_since(Instant::now());
        self.turns.take(self.subject, (key, name), left).await
    }

    /// Runs one helper to its end: the last picture that it gave, and what it said at the end.
    pub(crate) async fn run(&self, job: &Job, until: Instant) -> Result<(Option<Picture>, Value), CallError> {
        let working = async {
            let mut helper = Helper::start(self.subject, &self.helper, job).await?;
            let mut last = None;
            loop {
                match helper.next().await? {
                    Message::Picture(picture) => last = Some(picture),
                    Message::Done(value) => {
                        helper.end().await;
                        return Ok((last, value));
                    }
                    // `next` has made an error of it.
                    Message::Failed(_) => {}
                }
            }
        };
        self.in_time(until, working).await
    }

    /// One picture, `delay` after it could have been taken.
    pub(crate) async fn snap(
        &self,
        source: Source,
        size: Size,
        delay: Duration,
        until: Instant,
    ) -> Result<Picture, CallError> {
        let delay_ms = millis(delay);
        let job = Job::Snap { source, size, delay_ms };
        let (picture, _) = self.run(&job, until).await?;
        let none = || format!("the {} helper gave no picture", self.subject.word());
        picture.ok_or_else(|| self.subject.unavailable(none()))
    }

    /// A clip, and what there is to say of it.
    pub(crate) async fn clip(
        &self,
        source: Source,
        size: Size,
        recipe: Recipe,
        until: Instant,
    ) -> Result<(Content, Value), CallError> {
        let folder = self.folder.clone();
        let format = recipe.format.as_str();
        let draft = blocking(self.subject, move || {
            sweep(&folder);
            tempfile::Builder::new()
                .prefix(CLIP_PREFIX)
                .suffix(&format!(".{format}"))
                .tempfile_in(folder)
        });
        let draft = draft.await?;
        let file = draft.path().to_owned();
        let job = Job::Clip {
            source,
            size,
            recipe,
            file,
        };
        let (_, mut result) = self.run(&job, until).await?;
        result["format"] = json!(format);
        let content = blocking(self.subject, move || Content::of_file(draft.reopen()?));
        Ok((content.await?, result))
    }

    /// A stream that goes on when this has returned what there is to say of it, and keeps its turn.
    pub(crate) async fn stream(
        &self,
        live: Live,
        (turn, until): (Turn, Instant),
        (blobs, name): (&dyn Blobs, String),
    ) -> Result<Value, CallError> {
        let duration_ms = millis(live.duration);
        let job = Job::Stream {
            source: live.source,
            size: live.size,
            fps: live.fps,
            duration_ms,
        };
        let opening = async {
            let mut helper = Helper::start(self.subject, &self.helper, &job).await?;
            match helper.next().await? {
                Message::Picture(first) => Ok((helper, first)),
                Message::Done(_) | Message::Failed(_) => {
                    let why = format!("the {} gave no picture", self.subject.word());
                    Err(self.subject.unavailable(why))
                }
            }
        };
        let (helper, first) = self.in_time(until, opening).await?;
        turn.keep_for_stream();
        let (give, parts) = mpsc::channel(1);
        let size = (first.width, first.height);
        tokio::spawn(film::run(helper, first, give, turn));
        let handle = blobs.offer_stream(NewStream {
            name,
            mime: film::MIME.to_owned(),
            parts,
        });
        Ok(json!({
            "format": "mjpeg", "width": size.0, "height": size.1, "fps": live.fps, "durationMs": duration_ms, FIELD: handle,
        }))
    }

    async fn in_time<T>(
        &self,
        until: Instant,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let began = Instant::now();
        timeout_at(until, work).await.unwrap_or_else(|_| {
            let time = (until - began).as_secs_f32();
            let (word, doubt) = (self.subject.word(), self.subject.doubt());
            let why = format!("the {word} gave nothing within {time:.1} s, so its helper was ended; {doubt}");
            Err(self.subject.unavailable(why))
        })
    }
}

/// When work must be over: a little before the caller stops waiting, and not later than it can take.
pub(crate) fn until(deadline: Duration, most: Duration) -> Instant {
    Instant::now() + deadline.saturating_sub(GRACE.min(deadline / 2)).min(most)
}

/// The longest that a clip takes.
pub(crate) fn clip_time(duration: Duration) -> Duration {
    duration + PICTURE_TIME + ENCODING
}

/// What a call without blobs is told that asks for a stream.
pub(crate) fn no_streams(instead: &str) -> CallError {
    params::invalid(format!(
        "a link in OpenClaw's language carries no streams; use {instead}, or a native link"
    ))
}

/// Removes what a node that was killed left of its clips. Waits for the disk.
fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let is_clip = entry.file_name().to_string_lossy().starts_with(CLIP_PREFIX);
        let age = entry.metadata().and_then(|data| data.modified());
        let age = age.ok().and_then(|changed| changed.elapsed().ok());
        if is_clip && age.is_some_and(|age| age > CLIP_AGE) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn now_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
