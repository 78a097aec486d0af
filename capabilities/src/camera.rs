//! `camera.list`, `camera.snap`, `camera.clip` and `camera.stream`: the cameras of this device.
//!
//! Names, parameters and results are OpenClaw's, and `camera.stream` is of their kind. Whoever can take blobs gets pictures as blobs, others
//! as base64. What may hang or crash (drivers, programs of the owner's, decoders) runs in a helper process with one job (`job`, `wire`),
//! which `child` starts and ends; nothing is decoded in this process.

mod devices;
pub(crate) mod params;
pub(crate) mod pattern;
pub(crate) mod settings;
pub(crate) mod system;

pub use pattern::{taken_at, test_picture};

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use atoll_protocol::blob::FIELD;
use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::blob::{Blobs, NewBlob, NewStream};
use crate::capture::child::{Helper, HelperProgram};
use crate::capture::turns::{Turn, Turns};
use crate::capture::wire::{Job, Message};
use crate::capture::{clip, film, picture};
use crate::group::GRACE;
use crate::system_run::program::in_path;
use crate::{Call, Capability, Description};
use devices::Device;
use params::{Clip, Snap, Stream, Which, invalid};
use settings::{Settings, SettingsFile};

/// The longest that naming the cameras takes.
const LIST: Duration = Duration::from_secs(10);

/// The longest that a camera takes to open and to give a picture.
const PICTURE_TIME: Duration = Duration::from_secs(30);

/// What a clip takes beyond its own time: an encoder may be slower than the camera.
const ENCODING: Duration = Duration::from_secs(60);

/// What base64 carries at most, bytes: OpenClaw's own limit.
const MOST_INLINE: u64 = 16 * 1024 * 1024;

/// Beginnings of clips in the state folder; what is older than this was left by a node that was killed.
const CLIP_PREFIX: &str = "clip-";
const CLIP_AGE: Duration = Duration::from_secs(60 * 60);

const SNAP: &str = "camera.snap";
const CLIP: &str = "camera.clip";
const STREAM: &str = "camera.stream";
const ALL: [&str; 4] = ["camera.list", SNAP, CLIP, STREAM];

/// The cameras of this device.
#[derive(Debug)]
pub struct Cameras {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: SettingsFile,
    folder: PathBuf,
    helper: HelperProgram,
    turns: Turns,
}

impl Cameras {
    /// Under the owner's file in `state_dir`.
    pub fn new(state_dir: &Path, helper: HelperProgram) -> Self {
        Self {
            inner: Arc::new(Inner {
                settings: SettingsFile::new(state_dir),
                folder: state_dir.to_owned(),
                helper,
                turns: Turns::default(),
            }),
        }
    }
}

#[async_trait]
impl Capability for Cameras {
    fn describe(&self) -> Description {
        let mut description = Description {
            cap: "camera",
            ..Description::default()
        };
        if let Some(why) = self.inner.missing() {
            description.missing = ALL.map(|command| (command, why.clone())).into();
            return description;
        }
        description.commands = ALL.into();
        let path = std::env::var("PATH").unwrap_or_default();
        if in_path(clip::PROGRAM, &path).is_none() {
            description.commands.retain(|command| *command != CLIP);
            let why = "there is no ffmpeg in PATH, which makes clips; install it (apt install ffmpeg) and start atoll-node again";
            description.missing.push((CLIP, why.to_owned()));
        }
        description
    }

    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
        let (inner, cancel) = (self.inner.clone(), call.cancel.clone());
        let work = async {
            match call.command.as_str() {
                "camera.list" => inner.list(call.deadline).await,
                SNAP => inner.snap(call).await,
                CLIP => inner.clip(call).await,
                STREAM => inner.stream(call).await,
                other => Err(invalid(format!("{other} is not a command of this capability"))),
            }
        };
        // A helper that is dropped dies at once, with all it started.
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(CallError::new("CANCELLED", "the call was cancelled; the camera is free again")),
            done = work => done.map(|value| Some(value.into())),
        }
    }
}

impl Inner {
    /// Why there is no camera at all.
    fn missing(&self) -> Option<String> {
        match self.settings.load() {
            Err(error) => Some(error),
            Ok(settings) if settings.commands.is_empty() && !settings.test_pattern => system::missing(),
            Ok(_) => None,
        }
    }

    async fn load(&self) -> Result<Settings, CallError> {
        let file = self.settings.clone();
        let load = tokio::task::spawn_blocking(move || file.load());
        let loaded = load.await.map_err(|error| unavailable(error.to_string()))?;
        loaded.map_err(unavailable)
    }

    /// Every camera, those of the system first.
    async fn devices(&self, settings: &Settings, until: Instant) -> Result<Vec<Device>, CallError> {
        let mut found = Vec::new();
        if system::missing().is_none() {
            let until = until.min(Instant::now() + LIST);
            let (_, end) = self.one_job(&Job::List, until).await?;
            found = serde_json::from_value(end["devices"].clone()).unwrap_or_default();
        }
        Ok(devices::all(settings, found))
    }

    async fn list(&self, deadline: Duration) -> Result<Value, CallError> {
        let settings = self.load().await?;
        let devices = self.devices(&settings, until(deadline, LIST)).await?;
        let devices: Vec<Value> = devices.iter().map(Device::json).collect();
        Ok(json!({"devices": devices}))
    }

    /// The camera that is meant, and the turn to use it.
    async fn take(&self, settings: &Settings, which: &Which, until: Instant) -> Result<(Device, Turn), CallError> {
        let devices = match which.id.as_deref().and_then(|id| devices::own(settings, id)) {
            Some(own) => vec![own],
            None => self.devices(settings, until).await?,
        };
        let device = devices::choose(devices, which, settings.default.as_deref(), system::missing)?;
        let left = until.saturating_duration_since(Instant::now());
        let turn = self.turns.take(&device.id, left).await?;
        Ok((device, turn))
    }

    async fn snap(&self, call: Call) -> Result<Value, CallError> {
        let asked = Snap::read(call.params.as_ref())?;
        let until = until(call.deadline, PICTURE_TIME + asked.delay);
        let settings = self.load().await?;
        let (device, _turn) = self.take(&settings, &asked.which, until).await?;
        let job = Job::Snap {
            source: device.source.clone(),
            size: asked.size,
            delay_ms: millis(asked.delay),
        };
        let (picture, _) = self.one_job(&job, until).await?;
        let picture = picture.ok_or_else(|| unavailable("the camera helper gave no picture"))?;
        let result = json!({
            "format": "jpg", "width": picture.width, "height": picture.height, "deviceId": device.id, "capturedAtMs": now_ms(),
        });
        let bytes = picture.jpeg;
        let content = blocking(move || {
            let mut file = tempfile::tempfile()?;
            file.write_all(&bytes)?;
            Ok((file, bytes.len() as u64))
        });
        carry(
            call.blobs,
            content.await?,
            &device.file_name("jpg"),
            "image/jpeg",
            result,
        )
        .await
    }

    async fn clip(&self, call: Call) -> Result<Value, CallError> {
        let asked = Clip::read(call.params.as_ref())?;
        let until = until(call.deadline, asked.stream.duration + PICTURE_TIME + ENCODING);
        let settings = self.load().await?;
        let (device, _turn) = self.take(&settings, &asked.stream.which, until).await?;
        let sound = asked.audio.then(|| clip::sound(&settings.microphone));
        let format = asked.format.as_str();
        let folder = self.folder.clone();
        let suffix = format!(".{format}");
        let draft = blocking(move || {
            sweep(&folder);
            tempfile::Builder::new()
                .prefix(CLIP_PREFIX)
                .suffix(&suffix)
                .tempfile_in(folder)
        });
        let draft = draft.await?;
        let job = Job::Clip {
            source: device.source.clone(),
            size: asked.stream.size,
            fps: asked.stream.fps,
            duration_ms: millis(asked.stream.duration),
            sound: sound.clone().and_then(Result::ok),
            format: asked.format,
            file: draft.path().to_owned(),
        };
        let (_, mut result) = self.one_job(&job, until).await?;
        result["format"] = json!(format);
        result["deviceId"] = json!(device.id);
        if let Some(Err(why)) = sound {
            result["audioMissing"] = json!(why);
        }
        let content = blocking(move || {
            let file = draft.reopen()?;
            let size = file.metadata()?.len();
            Ok((file, size))
        });
        let mime = format!("video/{format}");
        carry(call.blobs, content.await?, &device.file_name(format), &mime, result).await
    }

    async fn stream(&self, call: Call) -> Result<Value, CallError> {
        let asked = Stream::read(call.params.as_ref())?;
        let blobs = call.blobs.ok_or_else(|| {
            invalid("a link in OpenClaw's language carries no streams; use camera.snap, camera.clip, or a native link")
        })?;
        let until = until(call.deadline, PICTURE_TIME);
        let settings = self.load().await?;
        let (device, turn) = self.take(&settings, &asked.which, until).await?;
        let job = Job::Stream {
            source: device.source.clone(),
            size: asked.size,
            fps: asked.fps,
            duration_ms: millis(asked.duration),
        };
        let opening = async {
            let mut helper = Helper::start(&self.helper, &job).await?;
            match helper.next().await? {
                Message::Picture(first) => Ok((helper, first)),
                Message::Done(_) | Message::Failed(_) => Err(unavailable("the camera gave no picture")),
            }
        };
        let (helper, first) = in_time(until, opening).await?;
        turn.keep_for_stream();
        let (give, parts) = mpsc::channel(1);
        let size = (first.width, first.height);
        tokio::spawn(film::run(helper, first, give, turn));
        let handle = blobs.offer_stream(NewStream {
            name: device.file_name("mjpeg"),
            mime: film::MIME.to_owned(),
            parts,
        });
        Ok(json!({
            "format": "mjpeg", "deviceId": device.id, "width": size.0, "height": size.1, "fps": asked.fps,
            "durationMs": millis(asked.duration), FIELD: handle,
        }))
    }

    /// Runs one helper to its end: the last picture that it gave, and what it said at the end.
    async fn one_job(&self, job: &Job, until: Instant) -> Result<(Option<picture::Picture>, Value), CallError> {
        let working = async {
            let mut helper = Helper::start(&self.helper, job).await?;
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
        in_time(until, working).await
    }
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

/// When work must be over: a little before the caller stops waiting, and not later than it can take.
fn until(deadline: Duration, most: Duration) -> Instant {
    Instant::now() + deadline.saturating_sub(GRACE.min(deadline / 2)).min(most)
}

async fn in_time<T>(until: Instant, work: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    let began = Instant::now();
    timeout_at(until, work).await.unwrap_or_else(|_| {
        let time = (until - began).as_secs_f32();
        Err(unavailable(format!(
            "the camera gave nothing within {time:.1} s, so its helper was ended; is it in use by another program, or asleep?"
        )))
    })
}

/// Disk work off the event loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, CallError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other);
    done.flatten()
        .map_err(|error| unavailable(format!("the picture found no room on this device: {error}")))
}

/// Puts bytes into a result: as a blob where the caller takes blobs, else as base64.
async fn carry(
    blobs: Option<Arc<dyn Blobs>>,
    (mut file, size): (File, u64),
    name: &str,
    mime: &str,
    mut result: Value,
) -> Result<Value, CallError> {
    if let Some(blobs) = blobs {
        let blob = NewBlob {
            file,
            size,
            name: name.to_owned(),
            mime: mime.to_owned(),
        };
        result[FIELD] = json!(blobs.offer(blob)?);
        return Ok(result);
    }
    if size > MOST_INLINE {
        let message = format!(
            "{size} bytes do not fit into base64 ({MOST_INLINE} at most); ask for less time or a smaller maxWidth"
        );
        return Err(CallError::new("PAYLOAD_TOO_LARGE", message));
    }
    let text = blocking(move || {
        let mut bytes = Vec::new();
        file.rewind()?;
        std::io::Read::read_to_end(&mut file, &mut bytes)?;
        Ok(STANDARD.encode(bytes))
    });
    result["base64"] = json!(text.await?);
    Ok(result)
}

fn unavailable(message: impl Into<String>) -> CallError {
    CallError::new("CAMERA_UNAVAILABLE", message)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn now_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(all(test, unix))]
mod tests;
