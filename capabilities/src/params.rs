//! The parameters of a call: read once, each fault named.

use std::time::Duration;

use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde::de::DeserializeOwned;

/// Reads them; none are an empty object.
///
/// # Errors
/// `INVALID_REQUEST` with what has another shape.
pub(crate) fn read<T: DeserializeOwned + Default>(params: Option<&Json>) -> Result<T, CallError> {
    match params {
        Some(params) if !params.is_null() => params.read().map_err(|error| invalid(error.to_string())),
        Some(_) | None => Ok(T::default()),
    }
}

/// A time in milliseconds, brought down to `most`.
///
/// # Errors
/// It is negative or no number.
pub(crate) fn millis(number: Option<f64>, usual: Duration, most: Duration, name: &str) -> Result<Duration, CallError> {
    match number {
        None => Ok(usual),
        // The cast saturates.
        Some(ms) if ms >= 0.0 && ms.is_finite() => Ok(Duration::from_millis(ms as u64).min(most)),
        Some(ms) => Err(invalid(format!("{name} is {ms}; it is milliseconds from 0 on"))),
    }
}

/// The parameters are wrong.
pub(crate) fn invalid(message: impl Into<String>) -> CallError {
    CallError::new("INVALID_REQUEST", message)
}
