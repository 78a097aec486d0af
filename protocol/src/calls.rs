//! The call tables of both ends: what is in flight, and how each call ends exactly once.
//!
//! State machines without I/O: facts and the present time go in, effects come out. [`Calls`] is the gateway's, [`NodeCalls`]
//! a node's. Together they keep the promise that a dropped link neither loses a call nor runs it twice: the node keeps
//! results until they are acknowledged, the gateway never repeats what may have run, and what it cannot know it calls
//! uncertain. Never runs a command, never stores anything.

mod gateway;
mod node;

pub use gateway::{AlreadyOpen, Calls, NewCall};
pub use node::{NodeCalls, Start};

use std::time::Instant;

use bytes::Bytes;

use crate::error::CallError;
use crate::frame::{Acknowledge, Frame, OutputStream};
use crate::id::{CallId, DeviceId};
use crate::json::Json;

/// Where a call stands that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallState {
    /// Registered; the node is away and has not seen it.
    Queued,
    /// Handed to the link; the node has not been heard of it.
    Sent,
    /// The node works on it, or holds its result.
    Running,
    /// It was sent, and the node has gone since.
    NodeAway,
}

impl CallState {
    /// The words for lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Running => "running",
            Self::NodeAway => "running (node away)",
        }
    }
}

/// Why a call ended without a payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The node said so.
    #[error(transparent)]
    Node(#[from] CallError),
    /// The deadline passed.
    #[error("node invoke timed out")]
    TimedOut {
        /// Whether the node may have begun.
        sent: bool,
    },
    /// Somebody who may called it off.
    #[error("the call was cancelled")]
    Cancelled {
        /// Whether the node may have begun.
        sent: bool,
    },
    /// The node was away, and nobody wanted to wait (longer); or the call never reached it. It has not run.
    #[error("node not connected")]
    NotConnected,
    /// It was sent, and the node that came back knows nothing of it.
    #[error("the node came back without this call: whether it ran is unknown")]
    Lost,
}

impl Failure {
    /// Whether nobody knows if the command ran, or how far.
    pub fn is_uncertain(&self) -> bool {
        match self {
            Self::TimedOut { sent } | Self::Cancelled { sent } => *sent,
            Self::Lost => true,
            Self::Node(_) | Self::NotConnected => false,
        }
    }

    /// Whether the command ran, or may have run.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::TimedOut { sent } | Self::Cancelled { sent } => *sent,
            Self::Lost | Self::Node(_) => true,
            Self::NotConnected => false,
        }
    }

    /// The state that lists show for it.
    pub fn state(&self) -> &'static str {
        match self {
            Self::TimedOut { .. } => "timed out",
            Self::Cancelled { .. } => "cancelled",
            Self::Node(_) | Self::NotConnected | Self::Lost => "error",
        }
    }

    /// The same in the form that a node's errors have.
    pub fn to_call_error(&self) -> CallError {
        match self {
            Self::Node(error) => error.clone(),
            Self::TimedOut { .. } => CallError::new("TIMEOUT", self.to_string()),
            Self::Cancelled { .. } => CallError::new("CANCELLED", self.to_string()),
            Self::NotConnected => CallError::new("NOT_CONNECTED", self.to_string()),
            Self::Lost => CallError::new("NODE_LOST_CALL", self.to_string()),
        }
    }
}

/// One line of a list of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The call.
    pub call: CallId,
    /// Where it runs.
    pub node: DeviceId,
    /// What runs.
    pub command: String,
    /// Where it stands.
    pub state: CallState,
    /// Since when.
    pub since: Instant,
    /// When it ends at the latest, in this state.
    pub deadline: Instant,
    /// The caller's key.
    pub idempotency_key: Option<String>,
}

/// A part of what a call says while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Words about it.
    Words(String),
    /// What its program wrote.
    Wrote(OutputStream, Bytes),
}

/// What the owner of the table is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "effects are carried out at once, a few at a time"
)]
pub enum Effect<W> {
    /// Hand a frame to the node's link of that generation. If that link cannot take an invocation, say so with
    /// [`Calls::unsent`].
    Send {
        /// The node.
        node: DeviceId,
        /// Its link.
        generation: u64,
        /// What to say.
        frame: Frame,
    },
    /// The call has ended; this comes exactly once.
    Deliver {
        /// Who waits.
        waiter: W,
        /// The call.
        call: CallId,
        /// Its payload, or why there is none.
        result: Result<Option<Json>, Failure>,
    },
    /// A part of the output.
    Progress {
        /// Who waits.
        waiter: W,
        /// The call.
        call: CallId,
        /// From 0.
        seq: u64,
        /// How many parts just before it never came: they were said while the link was away.
        missed: u64,
        /// The part.
        said: Said,
    },
    /// Tell the node that its outcome or progress has arrived; an outcome must be durable first.
    Acknowledge {
        /// The node.
        node: DeviceId,
        /// Its link.
        generation: u64,
        /// What to say.
        acknowledge: Acknowledge,
    },
}

#[cfg(test)]
mod pair;
