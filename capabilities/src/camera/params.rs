//! The parameters of the camera commands, in OpenClaw's names, read once and brought into their bounds.

use std::time::Duration;

use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde::{Deserialize, Serialize};

use super::settings::Position;

/// Pixels, when a call does not say.
const WIDTH: u32 = 1600;
/// Pixels, for moving pictures.
const MOVING_WIDTH: u32 = 1280;
/// Beyond these a picture means nothing, pixels.
const WIDTHS: std::ops::RangeInclusive<u32> = 16..=8192;
/// Of a JPEG, when a call does not say.
const QUALITY: u8 = 90;
const MOVING_QUALITY: u8 = 75;
/// The longest a snapshot can be told to wait.
const DELAY: Duration = Duration::from_secs(60);
/// A clip that is not told how long.
const CLIP: Duration = Duration::from_secs(3);
/// The longest clip.
const CLIP_MAX: Duration = Duration::from_secs(60);
/// The longest stream, and one that is not told how long.
const STREAM_MAX: Duration = Duration::from_secs(60 * 60);
/// Pictures a second.
const CLIP_FPS: u32 = 15;
const STREAM_FPS: u32 = 10;
const FPS: std::ops::RangeInclusive<u32> = 1..=60;

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
pub(crate) struct Which {
    pub(crate) id: Option<String>,
    pub(crate) facing: Option<Position>,
}

/// How large and how good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) max_width: u32,
    /// 1 to 100.
    pub(crate) quality: u8,
    /// Whether a picture that is JPEG and small enough already must be made anew for its quality.
    pub(crate) is_exact: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snap {
    pub(crate) which: Which,
    pub(crate) size: Size,
    pub(crate) delay: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) which: Which,
    pub(crate) size: Size,
    pub(crate) fps: u32,
    pub(crate) duration: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clip {
    pub(crate) stream: Stream,
    pub(crate) audio: bool,
    pub(crate) format: Container,
}

/// What a clip is wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Container {
    Mp4,
    Webm,
}

impl Container {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Webm => "webm",
        }
    }
}

impl Snap {
    pub(crate) fn read(params: Option<&Json>) -> Result<Self, CallError> {
        let raw = Raw::read(params)?;
        match raw.format.as_deref() {
            None | Some("jpg" | "jpeg") => {}
            Some(other) => return Err(invalid(format!("format {other:?} is not offered; it is jpg"))),
        }
        Ok(Self {
            which: raw.which()?,
            size: raw.size(WIDTH, QUALITY)?,
            delay: millis(raw.delay_ms, Duration::ZERO, "delayMs")?.min(DELAY),
        })
    }
}

impl Stream {
    pub(crate) fn read(params: Option<&Json>) -> Result<Self, CallError> {
        let raw = Raw::read(params)?;
        match raw.format.as_deref() {
            None | Some("mjpeg" | "jpg" | "jpeg") => {}
            Some(other) => return Err(invalid(format!("format {other:?} is not offered; it is mjpeg"))),
        }
        raw.stream(STREAM_MAX, STREAM_MAX, STREAM_FPS)
    }
}

impl Clip {
    pub(crate) fn read(params: Option<&Json>) -> Result<Self, CallError> {
        let raw = Raw::read(params)?;
        let format = match raw.format.as_deref() {
            None | Some("mp4") => Container::Mp4,
            Some("webm") => Container::Webm,
            Some(other) => return Err(invalid(format!("format {other:?} is not offered; it is mp4 or webm"))),
        };
        Ok(Self {
            stream: raw.stream(CLIP, CLIP_MAX, CLIP_FPS)?,
            audio: raw.include_audio.unwrap_or(true),
            format,
        })
    }
}

impl Raw {
    fn read(params: Option<&Json>) -> Result<Self, CallError> {
        match params {
            Some(params) if params.as_str() != "null" => params.read().map_err(|error| invalid(error.to_string())),
            Some(_) | None => Ok(Self::default()),
        }
    }

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

    fn size(&self, width: u32, quality: u8) -> Result<Size, CallError> {
        let given = |number: Option<f64>, name| match number {
            Some(number) if !number.is_finite() => Err(invalid(format!("{name} is not a number"))),
            other => Ok(other),
        };
        let max_width = given(self.max_width, "maxWidth")?.map_or(width, |width| width as u32);
        let asked = given(self.quality, "quality")?;
        // The cast saturates, and the bounds do the rest.
        let quality = asked.map_or(quality, |part| (part.clamp(0.05, 1.0) * 100.0).round() as u8);
        Ok(Size {
            max_width: max_width.clamp(*WIDTHS.start(), *WIDTHS.end()),
            quality,
            is_exact: asked.is_some(),
        })
    }

    fn stream(&self, usual: Duration, most: Duration, fps: u32) -> Result<Stream, CallError> {
        let duration = millis(self.duration_ms, usual, "durationMs")?;
        if duration > most {
            return Err(invalid(format!(
                "durationMs is {} and {} is the most",
                duration.as_millis(),
                most.as_millis()
            )));
        }
        let fps = self.fps.map_or(fps, |fps| fps as u32);
        Ok(Stream {
            which: self.which()?,
            size: self.size(MOVING_WIDTH, MOVING_QUALITY)?,
            fps: fps.clamp(*FPS.start(), *FPS.end()),
            duration: duration.max(Duration::from_millis(100)),
        })
    }
}

fn millis(number: Option<f64>, usual: Duration, name: &str) -> Result<Duration, CallError> {
    match number {
        None => Ok(usual),
        Some(ms) if ms >= 0.0 && ms.is_finite() => Ok(Duration::from_millis(ms as u64)),
        Some(ms) => Err(invalid(format!("{name} is {ms}; it is milliseconds from 0 on"))),
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> CallError {
    CallError::new("INVALID_REQUEST", message)
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
