//! The only error shapes that cross the wire: one for requests, one for calls on a node.

use serde::{Deserialize, Serialize};

use crate::json::Json;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The coarse class of a refused request. The fine reason is `details.code`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl ErrorCode {
            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// The request itself is at fault: shape, parameters, method, role or credentials.
    InvalidRequest = "INVALID_REQUEST",
    /// The device is unknown or asks for more than it was approved for.
    NotPaired = "NOT_PAIRED",
    /// A scope is missing.
    Forbidden = "FORBIDDEN",
    /// Not now: something behind the gateway is away, busy or failed.
    Unavailable = "UNAVAILABLE",
    /// No such approval, or it has been answered.
    ApprovalNotFound = "APPROVAL_NOT_FOUND",
}

/// Why a request was refused or failed, as a caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[serde(rename_all = "camelCase")]
pub struct WireError {
    /// The class.
    pub code: ErrorCode,
    /// One sentence for a person.
    pub message: String,
    /// Machine-readable facts, an object with at least `code` where a reason has one.
    #[serde(default)]
    pub details: Option<Json>,
    /// Whether the same request can succeed later.
    #[serde(default)]
    pub retryable: Option<bool>,
    /// When to try again, milliseconds.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
}

impl WireError {
    /// An error with nothing but its sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
            retryable: None,
            retry_after_ms: None,
        }
    }

    /// `INVALID_REQUEST`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// `UNAVAILABLE`.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// Adds facts.
    #[must_use]
    pub fn with_details(mut self, details: &serde_json::Value) -> Self {
        self.details = Some(details.into());
        self
    }

    /// Says whether the same request can succeed later.
    #[must_use]
    pub fn with_retry(mut self, retryable: bool, after_ms: Option<u64>) -> Self {
        self.retryable = Some(retryable);
        self.retry_after_ms = after_ms;
        self
    }

    /// `details.code`, where there is one.
    pub fn detail_code(&self) -> Option<String> {
        self.details.as_ref()?.tree().get("code")?.as_str().map(str::to_owned)
    }
}

/// Why a command on a node did not give a result. `code` is open: every capability has its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CallError {
    /// An upper-case word, e.g. `SYSTEM_RUN_DENIED`, `CAMERA_DISABLED`, `TIMEOUT`.
    pub code: String,
    /// One sentence: what, why, and the next step.
    pub message: String,
}

impl CallError {
    /// Makes one.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }
}
