//! Why a dial failed, and the questions whose answers say what to do next.

use std::io;
use std::time::Duration;

use atoll_protocol::dialect::connect::LOWEST;
use atoll_protocol::error::WireError;

use super::{Dial, Target};
use crate::handshake::HandshakeError;
use crate::link::LinkError;
use crate::link::ws::UpgradeError;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Plain text would cross a network.
    #[error(
        "{target} would be spoken to in plain text across a network; use {}",
        encrypted(target)
    )]
    TooOpen {
        /// The address.
        target: Target,
    },
    /// Only the native language is spoken over QUIC.
    #[error("only nodes in the native language go to {target}; JSON is spoken at wss:// or ws://")]
    NativeOnly {
        /// The address.
        target: Target,
    },
    /// Neither pipe could be opened.
    #[error("there is no way to {target}: over QUIC: {quic}; over TLS WebSocket: {wss}")]
    Neither {
        /// The address.
        target: Target,
        /// Why not over QUIC.
        quic: Box<Self>,
        /// Why not over TLS WebSocket.
        wss: Box<Self>,
    },
    /// The dialect has no other way to know the gateway.
    #[error(
        "the certificate of {target} cannot be checked: give its SHA-256 fingerprint (the gateway's owner sees it in the \
         gateway's status)"
    )]
    NoFingerprint {
        /// The address.
        target: Target,
    },
    /// The native language needs a key.
    #[error("this program has no identity to prove")]
    NoIdentity,
    /// Nobody answers there.
    #[error("cannot reach {target}: {source}")]
    Unreachable {
        /// The address.
        target: Target,
        /// Why not.
        source: io::Error,
    },
    /// Somebody answers with another certificate than the one that is trusted.
    #[error("{target} shows another certificate than the one that this device trusts")]
    WrongCertificate {
        /// The address.
        target: Target,
    },
    /// TLS failed for another reason.
    #[error("no TLS with {target}: {source}")]
    Tls {
        /// The address.
        target: Target,
        /// Why not.
        source: io::Error,
    },
    /// No WebSocket there.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// It took too long.
    #[error("{target} took too long to {what}")]
    Timeout {
        /// The address.
        target: Target,
        /// What did not happen.
        what: &'static str,
    },
    /// The link ended before the verdict.
    #[error("{0}")]
    Link(#[from] LinkError),
    /// This side went no further.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The gateway does not let this device in.
    #[error("refused: {0}")]
    Refused(WireError),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

fn encrypted(target: &Target) -> String {
    target.to_string().replacen("ws://", "wss://", 1)
}

/// What the real node takes as the end of its tries: a person has to change a credential first.
const CREDENTIAL_FAULTS: &[&str] = &[
    "AUTH_TOKEN_MISSING",
    "AUTH_TOKEN_MISMATCH",
    "AUTH_TOKEN_NOT_CONFIGURED",
    "AUTH_PASSWORD_MISSING",
    "AUTH_PASSWORD_MISMATCH",
    "AUTH_PASSWORD_NOT_CONFIGURED",
    "AUTH_BOOTSTRAP_TOKEN_INVALID",
    "AUTH_IDENTITY_HEADER_REQUIRED",
    "CLIENT_VERSION_MISMATCH",
];

impl DialError {
    pub(super) fn neither(dial: &Dial, quic: Self, wss: Self) -> Self {
        Self::Neither {
            target: dial.target.clone(),
            quic: Box::new(quic),
            wss: Box::new(wss),
        }
    }

    /// QUIC took too long next to the other pipe.
    pub(super) fn outrun(dial: &Dial) -> Self {
        Self::Timeout {
            target: dial.target.clone(),
            what: "answer over QUIC",
        }
    }

    /// Whether somebody else answers than the gateway that is trusted.
    pub fn is_wrong_gateway(&self) -> bool {
        if let Self::Neither { quic, wss, .. } = self {
            return quic.is_wrong_gateway() || wss.is_wrong_gateway();
        }
        matches!(
            self,
            Self::WrongCertificate { .. } | Self::Handshake(HandshakeError::WrongGateway { .. })
        )
    }

    /// Whether the very same dial can succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::TooOpen { .. } | Self::NativeOnly { .. } | Self::NoFingerprint { .. } | Self::NoIdentity => false,
            Self::Neither { quic, wss, .. } => quic.is_retryable() || wss.is_retryable(),
            // Whoever sits at that address now may be gone tomorrow, and nothing secret was said.
            Self::WrongCertificate { .. } | Self::Unreachable { .. } | Self::Tls { .. } | Self::Timeout { .. } => true,
            Self::Upgrade(_) | Self::Link(_) | Self::Random => true,
            Self::Handshake(error) => match error {
                HandshakeError::Unexpected { .. }
                | HandshakeError::WrongGateway { .. }
                | HandshakeError::Unproven
                | HandshakeError::Version { .. } => true,
                HandshakeError::TooLarge | HandshakeError::Unspeakable { .. } => false,
            },
            Self::Refused(error) => !error
                .detail_code()
                .is_some_and(|code| CREDENTIAL_FAULTS.contains(&code.as_str())),
        }
    }

    /// Whether a person has to change something on this device first.
    pub fn is_fatal(&self) -> bool {
        !self.is_retryable()
    }

    /// The request that the gateway's owner has to approve (dialect; a native dial waits in [`super::dial`]).
    pub fn needs_pairing(&self) -> Option<String> {
        let details = self.refusal()?.details.as_ref()?.tree();
        let is_pairing = details.get("code")?.as_str()? == "PAIRING_REQUIRED";
        let request = details.get("requestId").and_then(|id| id.as_str()).unwrap_or_default();
        is_pairing.then(|| request.to_owned())
    }

    /// Whether the device token that was shown is void: forget it.
    pub fn is_stale_device_token(&self) -> bool {
        self.refusal().and_then(WireError::detail_code).as_deref() == Some("AUTH_DEVICE_TOKEN_MISMATCH")
    }

    /// When the gateway wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal()?.retry_after_ms.map(Duration::from_millis)
    }

    fn refusal(&self) -> Option<&WireError> {
        match self {
            Self::Refused(error) => Some(error),
            Self::TooOpen { .. }
            | Self::NativeOnly { .. }
            | Self::Neither { .. }
            | Self::NoFingerprint { .. }
            | Self::NoIdentity
            | Self::Unreachable { .. }
            | Self::WrongCertificate { .. }
            | Self::Tls { .. }
            | Self::Upgrade(_)
            | Self::Timeout { .. }
            | Self::Link(_)
            | Self::Handshake(_)
            | Self::Random => None,
        }
    }

    pub(super) fn wants_older_protocol(&self) -> bool {
        let expected = self.refusal().and_then(|error| {
            let details = error.details.as_ref()?.tree();
            details.get("expectedProtocol")?.as_u64()
        });
        expected == Some(LOWEST)
    }
}
