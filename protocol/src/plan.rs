//! What a person approves when a command is to run on a node: every fact that decides what will happen.
//!
//! The gateway signs [`Plan::signed_bytes`]; the node checks the signature, that every field matches what it is about to do, and
//! hashes the files again just before it starts the program. A plan is used once. Never holds a secret: the environment
//! is a hash.

use serde::{Deserialize, Serialize};

use crate::id::{ApprovalId, CallId, DeviceId};

/// Separates this signature from every other use of the gateway's key.
pub const CONTEXT: &[u8] = b"atoll/1 exec plan\0";

/// One command, once, on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The approval that this came from; the node refuses to see it twice.
    pub approval: ApprovalId,
    /// The call that may use it.
    pub call: CallId,
    /// The node that may run it.
    pub node: DeviceId,
    /// The program (absolute) and its arguments.
    pub argv: Vec<String>,
    /// The working folder (absolute).
    pub cwd: String,
    /// SHA-256 over the sorted `NAME=value\0` of the requested environment.
    pub env_sha256: [u8; 32],
    /// SHA-256 over the standard input, zero bytes of it included.
    pub stdin_sha256: [u8; 32],
    /// Files whose content was approved: the program, and the script it runs where there is one.
    pub files: Vec<FileHash>,
    /// The session that asked, or empty.
    pub session: String,
    /// Unix milliseconds after which it is void.
    pub expires_at_ms: u64,
}

/// A file and its content at the time of approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Absolute path.
    pub path: String,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
}

impl Plan {
    /// The bytes that travel in [`crate::frame::SignedPlan::plan`].
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a plan holds only text, numbers and bytes, which always encode")
    }

    /// Reads [`Self::encode`]'s bytes; none when they are anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (plan, rest) = postcard::take_from_bytes(bytes).ok()?;
        rest.is_empty().then_some(plan)
    }

    /// What the signature covers: the context, then the encoded plan.
    pub fn signed_bytes(encoded: &[u8]) -> Vec<u8> {
        [CONTEXT, encoded].concat()
    }
}
