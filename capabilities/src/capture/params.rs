//! Parameters that all pictures have: how large, how good, how long, how often, brought into their bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde::de::DeserializeOwned;

use super::picture::{Format, Size};

/// Pixels, for moving pictures, when a call does not say.
pub(crate) const MOVING_WIDTH: u32 = 1280;
/// Of a JPEG among them.
pub(crate) const MOVING_QUALITY: u8 = 75;
/// The longest clip.
pub(crate) const CLIP_MAX: Duration = Duration::from_secs(60);
/// The longest stream, and one that is not told how long.
pub(crate) const STREAM_MAX: Duration = Duration::from_secs(60 * 60);
/// Pictures a second of a stream, when a call does not say.
pub(crate) const STREAM_FPS: u32 = 10;

/// Beyond these a picture means nothing, pixels.
const WIDTHS: RangeInclusive<u32> = 16..=8192;
/// Pictures a second.
const FPS: RangeInclusive<u32> = 1..=60;
/// The shortest that anything moves.
const SHORTEST: Duration = Duration::from_millis(100);

/// The parameters of a call, as they come.
pub(crate) fn read<T: DeserializeOwned + Default>(params: Option<&Json>) -> Result<T, CallError> {
    match params {
        Some(params) if params.as_str() != "null" => params.read().map_err(|error| invalid(error.to_string())),
        Some(_) | None => Ok(T::default()),
    }
}

/// Of `maxWidth` and `quality`.
pub(crate) fn size(
    (max_width, usual_width): (Option<f64>, u32),
    (quality, usual_quality): (Option<f64>, u8),
) -> Result<Size, CallError> {
    let given = |number: Option<f64>, name| match number {
        Some(number) if !number.is_finite() => Err(invalid(format!("{name} is not a number"))),
        other => Ok(other),
    };
    let max_width = given(max_width, "maxWidth")?.map_or(usual_width, |width| width as u32);
    let asked = given(quality, "quality")?;
    // The cast saturates, and the bounds do the rest.
    let quality = asked.map_or(usual_quality, |part| (part.clamp(0.05, 1.0) * 100.0).round() as u8);
    Ok(Size {
        max_width: max_width.clamp(*WIDTHS.start(), *WIDTHS.end()),
        quality,
        is_exact: asked.is_some(),
        format: Format::Jpeg,
    })
}

/// Of `fps`.
pub(crate) fn fps(asked: Option<f64>, usual: u32) -> u32 {
    asked.map_or(usual, |fps| fps as u32).clamp(*FPS.start(), *FPS.end())
}

/// Of `durationMs`, for what moves.
pub(crate) fn duration(asked: Option<f64>, usual: Duration, most: Duration) -> Result<Duration, CallError> {
    let duration = millis(asked, usual, "durationMs")?;
    if duration > most {
        return Err(invalid(format!(
            "durationMs is {} and {} is the most",
            duration.as_millis(),
            most.as_millis()
        )));
    }
    Ok(duration.max(SHORTEST))
}

pub(crate) fn millis(number: Option<f64>, usual: Duration, name: &str) -> Result<Duration, CallError> {
    match number {
        None => Ok(usual),
        Some(ms) if ms >= 0.0 && ms.is_finite() => Ok(Duration::from_millis(ms as u64)),
        Some(ms) => Err(invalid(format!("{name} is {ms}; it is milliseconds from 0 on"))),
    }
}

/// Nothing but `known` is offered as `format`.
pub(crate) fn unknown_format(asked: &str, known: &str) -> CallError {
    invalid(format!("format {asked:?} is not offered; it is {known}"))
}

pub(crate) fn invalid(message: impl Into<String>) -> CallError {
    CallError::new("INVALID_REQUEST", message)
}
