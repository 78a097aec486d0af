//! Why a question cannot be asked, answered or used, in the words of the wire.

use atoll_protocol::error::{ErrorCode, WireError};
use serde_json::json;

/// Asking or answering failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// Asked with the id of another question.
    #[error("approval id already in use")]
    IdTaken,
    /// Too many wait.
    #[error("too many approvals are waiting; answer some first")]
    TooMany,
    /// Never asked, or expired.
    #[error("unknown or expired approval id")]
    Unknown,
    /// Somebody was faster.
    #[error("approval already resolved")]
    AlreadyResolved,
    /// Whoever asks does not answer, and what another operator asked is not for everybody.
    #[error("this approval is for somebody else to answer")]
    NotYours,
    /// `allow-always` was not among the answers.
    #[error("allow-always is not available for this command; use allow-once or deny")]
    NotOffered,
}

impl ApprovalError {
    /// The error as it crosses the wire.
    pub fn to_wire(&self) -> WireError {
        let text = self.to_string();
        match self {
            Self::IdTaken | Self::NotOffered => WireError::invalid(text),
            Self::TooMany => WireError::unavailable(text).with_retry(true, None),
            Self::Unknown => WireError::invalid(text).with_details(&json!({
                "reason": "APPROVAL_NOT_FOUND",
                "remediation": "Ask again; a question is forgotten some time after its end.",
            })),
            Self::AlreadyResolved => {
                WireError::invalid(text).with_details(&json!({"reason": "APPROVAL_ALREADY_RESOLVED"}))
            }
            Self::NotYours => WireError::new(ErrorCode::Forbidden, text),
        }
    }
}

impl From<ApprovalError> for WireError {
    fn from(error: ApprovalError) -> Self {
        error.to_wire()
    }
}

/// There is no yes for this use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpendError {
    /// Never asked, or forgotten.
    #[error("unknown or expired approval id")]
    Unknown,
    /// Too late.
    #[error("approval expired")]
    Expired,
    /// Not answered, answered with no, or used before.
    #[error("approval required")]
    Required,
    /// Allowed on another machine.
    #[error("approval id not valid for this node")]
    NodeMismatch,
    /// Asked by another device.
    #[error("approval id not valid for this device")]
    DeviceMismatch,
    /// Asked by another connection.
    #[error("approval id not valid for this client")]
    ClientMismatch,
}

impl SpendError {
    /// `details.code`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN_APPROVAL_ID",
            Self::Expired => "APPROVAL_EXPIRED",
            Self::Required => "APPROVAL_REQUIRED",
            Self::NodeMismatch => "APPROVAL_NODE_MISMATCH",
            Self::DeviceMismatch => "APPROVAL_DEVICE_MISMATCH",
            Self::ClientMismatch => "APPROVAL_CLIENT_MISMATCH",
        }
    }

    /// The error as it crosses the wire.
    pub fn to_wire(&self) -> WireError {
        WireError::invalid(self.to_string()).with_details(&json!({"code": self.code()}))
    }
}

impl From<SpendError> for WireError {
    fn from(error: SpendError) -> Self {
        error.to_wire()
    }
}
