//! Why a call of a command on a node gave nothing, and what a caller is told.

use atoll_pairing::access::Denied;
use atoll_pairing::access::commands::CommandDenied;
use atoll_protocol::calls::Failure;
use atoll_protocol::dialect::denial;
use atoll_protocol::error::WireError;

use crate::hub::LiveNode;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallRefused {
    /// It was not allowed.
    #[error("{0}")]
    Denied(WireError),
    /// No such node is paired.
    #[error("no such node is paired")]
    Unknown,
    /// It is paired and away.
    #[error("the node is not connected")]
    Away,
    /// It was made and failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// It could not be written down, so it was not made.
    #[error("the call could not be recorded: {0}")]
    Journal(String),
}

impl From<CallRefused> for WireError {
    fn from(refused: CallRefused) -> Self {
        match refused {
            CallRefused::Denied(error) => error,
            CallRefused::Unknown => denial::pairing_changed(denial::Interrupted::Invocation),
            CallRefused::Away | CallRefused::Failed(Failure::NotConnected) => denial::node_not_connected(),
            CallRefused::Failed(Failure::TimedOut { .. }) => denial::node_timeout(),
            CallRefused::Failed(failure) => denial::node_error(&failure.to_call_error()),
            CallRefused::Journal(_) => Self::unavailable(refused.to_string()),
        }
    }
}

impl CallRefused {
    /// What was decided of a command, and what the node itself says of it where it does not offer it.
    pub(super) fn denied(denied: &Denied, live: &LiveNode) -> Self {
        let refusal = denied.to_wire();
        Self::Denied(match denied {
            Denied::Command(CommandDenied::NotAllowed { command, .. }) => match live.missing(command) {
                Some(why) => denial::with_reason_of_node(refusal, &why),
                None => refusal,
            },
            Denied::Command(_) | Denied::Role(_) | Denied::Scope { .. } | Denied::Agent => refusal,
        })
    }
}
