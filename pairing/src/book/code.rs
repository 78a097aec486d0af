//! Setup codes: a place in the ring that was given away beforehand, once and for a short time.
//!
//! What a code gives is frozen when it is minted and never more than its minter holds. Only its hash is kept.

use atoll_protocol::id::{DeviceId, SetupId};
use atoll_protocol::scope::{Role, Scopes};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::token::{FreshToken, SecretHash};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How long a code may wait for its device, milliseconds.
pub const CODE_LIFE_MS: u64 = 10 * 60 * 1000;

/// Codes that may wait at once. One more is not minted.
pub const CODES: usize = 64;

/// How long a code that is over is remembered, so that its second use can be told from a guess, milliseconds.
pub(super) const CODE_MEMORY_MS: u64 = 24 * 60 * 60 * 1000;

/// Starts what is hashed into a code.
const CODE: &[u8] = b"atoll setup code\0";

/// One code, without its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct SetupCode {
    /// Names it where its secret must not stand.
    pub id: SetupId,
    /// The hash of its text.
    pub hash: SecretHash,
    /// The hash of the text of its join link, which has not been followed yet; none when it has none.
    pub link: Option<SecretHash>,
    /// What it gives.
    pub gift: Gift,
    /// Who minted it.
    pub by: String,
    /// Where the gateway is, for whoever follows the join link.
    pub addresses: Vec<String>,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// From then on it gives nothing, Unix milliseconds.
    pub expires_ms: u64,
    /// How it ended, if it has.
    pub end: Option<CodeEnd>,
}

/// What a code gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Gift {
    /// The role.
    pub role: Role,
    /// The most that it may hold (operators).
    pub scopes: Scopes,
    /// These commands at most; none: all that the device declares and its platform may offer (nodes).
    pub commands: Option<Vec<String>>,
    /// What its owner calls the device.
    pub label: Option<String>,
    /// The device in whose place it comes.
    pub replaces: Option<DeviceId>,
}

/// How a code ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeEnd {
    /// A device came in by it.
    Used {
        /// Which.
        device: DeviceId,
        /// The generation of the role that it was given.
        generation: u64,
        /// When, Unix milliseconds.
        at_ms: u64,
    },
    /// Somebody took it back.
    Revoked,
}

/// Why a code gives nothing. A stranger is never told which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeFault {
    /// There is no such code.
    Unknown,
    /// It waited too long.
    Expired,
    /// It was used.
    Used,
    /// It was taken back.
    Revoked,
    /// It is for another role.
    Role,
}

impl CodeFault {
    /// One word for the audit.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Used => "used",
            Self::Revoked => "revoked",
            Self::Role => "role",
        }
    }
}

/// Where a code stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeState {
    /// It waits for its device.
    Pending,
    /// A device came in by it.
    Completed,
    /// It waited too long.
    Expired,
    /// Somebody took it back.
    Revoked,
}

impl CodeState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl SetupCode {
    pub(super) fn is_text(&self, text: &SecretString) -> bool {
        self.hash.matches(text)
    }

    /// Where it stands.
    pub fn state(&self, now_ms: u64) -> CodeState {
        match &self.end {
            Some(CodeEnd::Used { .. }) => CodeState::Completed,
            Some(CodeEnd::Revoked) => CodeState::Revoked,
            None if now_ms >= self.expires_ms => CodeState::Expired,
            None => CodeState::Pending,
        }
    }

    pub(super) fn is_forgotten(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.expires_ms) >= CODE_MEMORY_MS && now_ms >= self.expires_ms
    }
}

/// The secrets of a new code.
pub struct FreshCode {
    /// What the device shows: 43 characters.
    pub text: SecretString,
    /// What the path of a join link ends in: 22 characters. The code follows from it, so that neither has to be kept.
    pub link: SecretString,
}

impl std::fmt::Debug for FreshCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FreshCode(…)")
    }
}

impl FreshCode {
    /// Makes one of 16 random bytes.
    pub fn new(seed: [u8; 16]) -> Self {
        let link = SecretString::from(URL_SAFE_NO_PAD.encode(seed));
        Self {
            text: code_behind(&link),
            link,
        }
    }
}

/// The code that a join link stands for.
pub(super) fn code_behind(link: &SecretString) -> SecretString {
    let digest = Sha256::new()
        .chain_update(CODE)
        .chain_update(link.expose_secret().as_bytes())
        .finalize();
    FreshToken(digest.into()).text()
}
