//! The parameters of the camera commands, in OpenClaw's names, read once and brought into their bounds.

use std::time::Duration;

use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde::Deserialize;

use super::settings::Position;
use crate::capture::clip::Container;
use crate::capture::params::{
    CLIP_MAX, MOVING_QUALITY, MOVING_WIDTH, STREAM_FPS, STREAM_MAX, duration, fps, invalid, millis, read, size,
    unknown_format,
};
use crate::capture::picture::Size;

/// Pixels, when a call does not say.
const WIDTH: u32 = 1600;
/// Of a JPEG, when a call does not say.
const QUALITY: u8 = 90;
/// The longest a snapshot can be told to wait.
const DELAY: Duration = Duration::from_secs(60);
/// A clip that is not told how long.
const CLIP: Duration = Duration::from_secs(3);
/// Pictures a second of it.
const CLIP_FPS: u32 = 15;

/// As they come. What has the wrong type is refused; what is too large or too small is brought into bounds, as OpenClaw does.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Raw {
    facing: Option<String>,
    device_id: Option<String>,
    max_width: Option<f64>,
    quality: Option<f64>,
    delay_ms: Option<f64>,
    duration_ms: Option<f64>,
    fps: Option<f64>,
    include_audio: Option<bool>,
    format: Option<String>,
}

/// Which camera.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Which {
    pub(super) id: Option<String>,
    pub(super) facing: Option<Position>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snap {
    pub(super) which: Which,
    pub(super) size: Size,
    pub(super) delay: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) which: Which,
    pub(super) size: Size,
    pub(super) fps: u32,
    pub(super) duration: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clip {
    pub(super) stream: Stream,
    pub(super) audio: bool,
    pub(super) format: Container,
}

impl Snap {
    pub(super) fn read(params: Option<&Json>) -> Result<Self, CallError> {
        let raw: Raw = read(params)?;
        match raw.format.as_deref() {
            None | Some("jpg" | "jpeg") => {}
            Some(other) => return Err(unknown_format(other, "jpg")),
        }
        Ok(Self {
            which: raw.which()?,
            size: size((raw.max_width, WIDTH), (raw.quality, QUALITY))?,
            delay: millis(raw.delay_ms, Duration::ZERO, "delayMs")?.min(DELAY),
        })
    }
}

impl Stream {
    pub(super) fn read(params: Option<&Json>) -> Result<Self, CallError> {
        let raw: Raw = read(params)?;
        match raw.format.as_deref() {
            None | Some("mjpeg" | "jpg" | "jpeg") => {}
            Some(other) => return Err(unknown_format(other, "mjpeg")),
        }
        raw.stream(STREAM_MAX, STREAM_MAX, STREAM_FPS)
    }
}

impl Clip {
    pub(super) fn read(params: Option<&Json>) -> Result<Self, CallError> {
        let raw: Raw = read(params)?;
        let format = match raw.format.as_deref() {
            None | Some("mp4") => Container::Mp4,
            Some("webm") => Container::Webm,
            Some(other) => return Err(unknown_format(other, "mp4 or webm")),
        };
        Ok(Self {
            stream: raw.stream(CLIP, CLIP_MAX, CLIP_FPS)?,
            audio: raw.include_audio.unwrap_or(true),
            format,
        })
    }
}

impl Raw {
    fn which(&self) -> Result<Which, CallError> {
        let facing = match self.facing.as_deref().map(str::trim) {
            None | Some("") => None,
            Some("front") => Some(Position::Front),
            Some("back") => Some(Position::Back),
            Some(other) => return Err(invalid(format!("facing is front or back, not {other:?}"))),
        };
        let id = self.device_id.as_deref().map(str::trim).filter(|id| !id.is_empty());
        Ok(Which {
            id: id.map(str::to_owned),
            facing,
        })
    }

    fn stream(&self, usual: Duration, most: Duration, usual_fps: u32) -> Result<Stream, CallError> {
        Ok(Stream {
            which: self.which()?,
            size: size((self.max_width, MOVING_WIDTH), (self.quality, MOVING_QUALITY))?,
            fps: fps(self.fps, usual_fps),
            duration: duration(self.duration_ms, usual, most)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn snap(value: Value) -> Result<Snap, CallError> {
        Snap::read(Some(&value.into()))
    }

    #[test]
    fn what_a_call_does_not_say_has_openclaws_defaults() {
        let usual = snap(json!({})).expect("fine");
        assert_eq!(usual.size.max_width, 1600);
        assert_eq!((usual.delay, usual.which), (Duration::ZERO, Which::default()));
        assert_eq!(Snap::read(None), snap(json!(null)));
        let clip = Clip::read(Some(&json!({}).into())).expect("fine");
        assert_eq!(clip.stream.duration, Duration::from_secs(3));
        assert!(clip.audio);
        assert_eq!(clip.format, Container::Mp4);
    }

    #[test]
    fn what_openclaws_command_line_sends_is_read() {
        let told = snap(json!({
            "facing": "front", "maxWidth": 800, "quality": 0.5, "format": "jpg", "delayMs": 250, "deviceId": " cam ",
        }));
        let told = told.expect("fine");
        assert_eq!(told.which.id.as_deref(), Some("cam"));
        assert_eq!(told.which.facing, Some(Position::Front));
        assert_eq!(
            (told.size.max_width, told.size.quality, told.size.is_exact),
            (800, 50, true)
        );
        assert_eq!(told.delay, Duration::from_millis(250));
    }

    #[test]
    fn what_is_out_of_bounds_is_brought_in_or_refused() {
        for (params, width, quality) in [
            (json!({"maxWidth": 1e12, "quality": 7}), 8192, 100),
            (json!({"maxWidth": -5, "quality": -1}), 16, 5),
        ] {
            let size = snap(params).expect("fine").size;
            assert_eq!((size.max_width, size.quality), (width, quality));
        }
        for wrong in [
            json!({"facing": "both"}),
            json!({"format": "png"}),
            json!({"delayMs": -1}),
            json!({"maxWidth": "wide"}),
            json!([1]),
        ] {
            assert_eq!(
                snap(wrong.clone()).expect_err("wrong").code,
                "INVALID_REQUEST",
                "{wrong}"
            );
        }
        let long = Clip::read(Some(&json!({"durationMs": 60_001}).into())).expect_err("too long");
        assert!(long.message.contains("60000"), "{}", long.message);
        assert_eq!(
            Clip::read(Some(&json!({"durationMs": 60_000, "fps": 0}).into()))
                .expect("fine")
                .stream
                .fps,
            1
        );
    }
}
