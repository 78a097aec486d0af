//! The parameters of the screen commands, in OpenClaw's names, read once and brought into their bounds.

use std::time::Duration;

use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde::Deserialize;

use crate::capture::clip::Container;
use crate::capture::params::{
    CLIP_MAX, MOVING_QUALITY, MOVING_WIDTH, STREAM_FPS, STREAM_MAX, duration, fps, invalid, read, size, unknown_format,
};
use crate::capture::picture::{Format, Size};

/// Pixels, when a call does not say: letters stay letters.
const WIDTH: u32 = 1920;
/// Of a JPEG, when a call does not say.
const QUALITY: u8 = 85;
/// A recording that is not told how long, and how often.
const DURATION: Duration = Duration::from_secs(10);
const RECORD_FPS: u32 = 10;
/// No device has so many screens.
const SCREENS: u32 = 64;

/// The closed list of `screen.snapshot`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawSnapshot {
    /// The work that it belongs to, for callers that cancel by it; every call can be cancelled here.
    execution_id: Option<String>,
    screen_index: Option<f64>,
    max_width: Option<f64>,
    quality: Option<f64>,
    format: Option<String>,
}

/// Of what moves.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawMoving {
    screen_index: Option<f64>,
    max_width: Option<f64>,
    quality: Option<f64>,
    duration_ms: Option<f64>,
    fps: Option<f64>,
    include_audio: Option<bool>,
    format: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Nothing {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) index: u32,
    pub(super) size: Size,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) index: u32,
    pub(super) size: Size,
    pub(super) fps: u32,
    pub(super) duration: Duration,
    pub(super) audio: bool,
    pub(super) format: Container,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) index: u32,
    pub(super) size: Size,
    pub(super) fps: u32,
    pub(super) duration: Duration,
}

impl Snapshot {
    pub(super) fn read(params: Option<&Json>) -> Result<Self, CallError> {
        let raw: RawSnapshot = read(params)?;
        let format = match raw.format.as_deref() {
            None | Some("jpeg" | "jpg") => Format::Jpeg,
            Some("png") => Format::Png,
            Some(other) => return Err(unknown_format(other, "jpeg or png")),
        };
        let size = size((raw.max_width, WIDTH), (raw.quality, QUALITY))?;
        Ok(Self {
            index: index(raw.screen_index)?,
            size: Size { format, ..size },
        })
    }
}

impl Record {
    pub(super) fn read(params: Option<&Json>) -> Result<Self, CallError> {
        let raw: RawMoving = read(params)?;
        let format = match raw.format.as_deref() {
            None | Some("mp4") => Container::Mp4,
            Some("webm") => Container::Webm,
            Some(other) => return Err(unknown_format(other, "mp4 or webm")),
        };
        Ok(Self {
            index: index(raw.screen_index)?,
            size: size((raw.max_width, WIDTH), (raw.quality, QUALITY))?,
            fps: fps(raw.fps, RECORD_FPS),
            duration: duration(raw.duration_ms, DURATION, CLIP_MAX)?,
            audio: raw.include_audio.unwrap_or(true),
            format,
        })
    }
}

impl Stream {
    pub(super) fn read(params: Option<&Json>) -> Result<Self, CallError> {
        let raw: RawMoving = read(params)?;
        match raw.format.as_deref() {
            None | Some("mjpeg" | "jpg" | "jpeg") => {}
            Some(other) => return Err(unknown_format(other, "mjpeg")),
        }
        Ok(Self {
            index: index(raw.screen_index)?,
            size: size((raw.max_width, MOVING_WIDTH), (raw.quality, MOVING_QUALITY))?,
            fps: fps(raw.fps, STREAM_FPS),
            duration: duration(raw.duration_ms, STREAM_MAX, STREAM_MAX)?,
        })
    }
}

/// `screen.list` has none.
pub(super) fn read_nothing(params: Option<&Json>) -> Result<(), CallError> {
    read::<Nothing>(params).map(|_| ())
}

/// Which screen; the first when a call does not say.
fn index(asked: Option<f64>) -> Result<u32, CallError> {
    let number = asked.unwrap_or_default();
    if number.fract() != 0.0 || !(0.0..f64::from(SCREENS)).contains(&number) {
        let message = format!("screenIndex is {number}; it is a whole number from 0 on, see screen.list");
        return Err(invalid(message));
    }
    Ok(number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn snapshot(value: Value) -> Result<Snapshot, CallError> {
        Snapshot::read(Some(&value.into()))
    }

    #[test]
    fn what_a_call_does_not_say_is_usual() {
        let usual = snapshot(json!({})).expect("fine");
        assert_eq!(
            (usual.index, usual.size.format, usual.size.max_width),
            (0, Format::Jpeg, 1920)
        );
        assert_eq!(Snapshot::read(None), snapshot(json!(null)));
        let record = Record::read(None).expect("fine");
        let facts = (record.duration.as_secs(), record.fps, record.audio, record.format);
        assert_eq!(facts, (10, 10, true, Container::Mp4));
        read_nothing(Some(&json!({}).into())).expect("fine");
    }

    #[test]
    fn what_openclaws_callers_send_is_read() {
        let told = snapshot(json!({
            "executionId": "x", "screenIndex": 1, "maxWidth": 800, "quality": 0.5, "format": "png",
        }));
        let told = told.expect("fine");
        assert_eq!(
            (told.index, told.size.max_width, told.size.format),
            (1, 800, Format::Png)
        );
        assert_eq!((told.size.quality, told.size.is_exact), (50, true));
        let record = json!({"durationMs": 60_000, "screenIndex": 2, "fps": 24, "format": "mp4", "includeAudio": false});
        let record = Record::read(Some(&record.into())).expect("fine");
        assert_eq!((record.index, record.fps, record.audio), (2, 24, false));
    }

    #[test]
    fn what_has_no_meaning_is_refused_with_its_name() {
        for (wrong, word) in [
            (json!({"screenIndex": -1}), "screenIndex is -1"),
            (json!({"screenIndex": 0.5}), "screenIndex is 0.5"),
            (json!({"screenIndex": 64}), "screenIndex is 64"),
            (json!({"format": "gif"}), "jpeg or png"),
            (json!({"screen": 1}), "screen"),
            (json!({"durationMs": 1}), "durationMs"),
        ] {
            let error = snapshot(wrong.clone()).expect_err("wrong");
            assert_eq!(error.code, "INVALID_REQUEST", "{wrong}");
            assert!(error.message.contains(word), "{}", error.message);
        }
        let long = Record::read(Some(&json!({"durationMs": 60_001}).into())).expect_err("too long");
        assert!(long.message.contains("60000 is the most"), "{}", long.message);
        assert!(read_nothing(Some(&json!({"a": 1}).into())).is_err());
    }
}
