//! `camera.list`, `camera.snap`, `camera.clip` and `camera.stream`: the cameras of this device.
//!
//! Names, parameters and results are OpenClaw's, and `camera.stream` is of their kind. Whoever can take blobs gets pictures as blobs, others
//! as base64. What may hang or crash (drivers, programs of the owner's, decoders) runs in the helper process of [`crate::capture`]; nothing is
//! decoded in this one.

mod devices;
mod params;
pub(crate) mod pattern;
mod settings;
pub(crate) mod system;

pub use pattern::{taken_at, test_picture};

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
use devices::Device;
use params::{Clip, Snap, Stream, Which};
use settings::Settings;

const SNAP: &str = "camera.snap";
const CLIP: &str = "camera.clip";
const STREAM: &str = "camera.stream";
const ALL: [&str; 4] = ["camera.list", SNAP, CLIP, STREAM];

const CAMERA: Subject = Subject::Camera;

/// The cameras of this device.
#[derive(Debug)]
pub struct Cameras {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    capture: Capture,
}

impl Cameras {
    /// Under the owner's file in `state_dir`.
    pub fn new(state_dir: &Path, helper: HelperProgram) -> Self {
        Self {
            inner: Arc::new(Inner {
                folder: state_dir.to_owned(),
                capture: Capture::new(CAMERA, state_dir, helper),
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
        if let Some(why) = clip::missing() {
            description.commands.retain(|command| *command != CLIP);
            description.missing.push((CLIP, why.to_owned()));
        }
        description
    }

    fn listens(&self, call: &Call) -> bool {
        let is_wanted = || Clip::read(call.params.as_ref()).is_ok_and(|asked| asked.audio);
        let is_there = |settings: Settings| sound::arguments(&settings.microphone, CAMERA).is_ok();
        call.command == CLIP && is_wanted() && settings::load(&self.inner.folder).is_ok_and(is_there)
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
        match settings::load(&self.folder) {
            Err(error) => Some(error),
            Ok(settings) if settings.commands.is_empty() && !settings.test_pattern => {
                system::missing().map(|why| format!("{why}; then start atoll-node again"))
            }
            Ok(_) => None,
        }
    }

    async fn load(&self) -> Result<Settings, CallError> {
        let folder = self.folder.clone();
        let load = tokio::task::spawn_blocking(move || settings::load(&folder));
        let loaded = load.await.map_err(|error| CAMERA.unavailable(error.to_string()))?;
        loaded.map_err(|why| CAMERA.unavailable(why))
    }

    /// Every camera, those of the system first.
    async fn devices(&self, settings: &Settings, until: Instant) -> Result<Vec<Device>, CallError> {
        let mut found = Vec::new();
        if system::missing().is_none() {
            let until = until.min(Instant::now() + LIST);
            let (_, end) = self.capture.run(&Job::Cameras, until).await?;
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
        let name = format!("camera \"{}\"", device.id);
        let turn = self.capture.turn(&device.id, &name, until).await?;
        Ok((device, turn))
    }

    async fn snap(&self, call: Call) -> Result<Value, CallError> {
        let asked = Snap::read(call.params.as_ref())?;
        let until = until(call.deadline, PICTURE_TIME + asked.delay);
        let settings = self.load().await?;
        let (device, _turn) = self.take(&settings, &asked.which, until).await?;
        let source = device.source.clone();
        let picture = self.capture.snap(source, asked.size, asked.delay, until).await?;
        let result = json!({
            "format": "jpg", "width": picture.width, "height": picture.height, "deviceId": device.id, "capturedAtMs": now_ms(),
        });
        let content = Content::of_bytes(CAMERA, picture.bytes).await?;
        let named = (device.file_name("jpg"), "image/jpeg".to_owned());
        carry(CAMERA, call.blobs, content, named, result).await
    }

    async fn clip(&self, call: Call) -> Result<Value, CallError> {
        let asked = Clip::read(call.params.as_ref())?;
        let until = until(call.deadline, clip_time(asked.stream.duration));
        let settings = self.load().await?;
        let (device, _turn) = self.take(&settings, &asked.stream.which, until).await?;
        let sound = asked
            .audio
            .then(|| sound::unless(call.silent, &settings.microphone, CAMERA));
        let recipe = Recipe {
            fps: asked.stream.fps,
            duration: asked.stream.duration,
            sound: sound.clone().and_then(Result::ok),
            format: asked.format,
        };
        let (source, size) = (device.source.clone(), asked.stream.size);
        let (content, mut result) = self.capture.clip(source, size, recipe, until).await?;
        result["deviceId"] = json!(device.id);
        if let Some(Err(why)) = sound {
            result["audioMissing"] = json!(why);
        }
        let format = asked.format.as_str();
        let named = (device.file_name(format), format!("video/{format}"));
        carry(CAMERA, call.blobs, content, named, result).await
    }

    async fn stream(&self, call: Call) -> Result<Value, CallError> {
        let asked = Stream::read(call.params.as_ref())?;
        let blobs = call.blobs.ok_or_else(|| no_streams("camera.snap, camera.clip"))?;
        let until = until(call.deadline, PICTURE_TIME);
        let settings = self.load().await?;
        let (device, turn) = self.take(&settings, &asked.which, until).await?;
        let live = Live {
            source: device.source.clone(),
            size: asked.size,
            fps: asked.fps,
            duration: asked.duration,
        };
        let to = (blobs.as_ref(), device.file_name("mjpeg"));
        let mut result = self.capture.stream(live, (turn, until), to).await?;
        result["deviceId"] = json!(device.id);
        Ok(result)
    }
}

#[cfg(all(test, unix))]
mod tests;
