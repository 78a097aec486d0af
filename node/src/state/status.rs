//! What the daemon says of itself to `atoll-node status`, in a small file. Holds no secret.

use atoll_pairing::dial::PipeKind;
use serde::{Deserialize, Serialize};

/// Where the daemon stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It dials, or waits until it dials again.
    Connecting,
    /// It is proven, and somebody has to approve it.
    Waiting,
    /// It serves.
    Connected,
    /// It was told to stop.
    Stopped,
    /// It gave up: a person has to change something.
    Failed,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The daemon's process.
    pub pid: u32,
    /// This device.
    pub device_id: String,
    /// The gateway's address.
    pub gateway: String,
    /// `native` or `openclaw`.
    pub dialect: String,
    /// Where it stands.
    pub phase: Phase,
    /// What carries the link, while it is connected: `quic`, `wss` or `ws`.
    #[serde(default)]
    pub pipe: Option<PipeKind>,
    /// Whether a gateway at that address ever let it in.
    pub paired: bool,
    /// The request to approve, while it waits.
    pub request_id: Option<String>,
    /// The six digits to compare with those in that request, while it waits on an open link.
    #[serde(default)]
    pub digits: Option<String>,
    /// The commands that the gateway's owner approved, while it is connected.
    pub commands: Vec<String>,
    /// Calls that run, as of `updatedAtMs`.
    pub calls: usize,
    /// Why there is no link.
    pub last_error: Option<String>,
    /// When this was written, Unix milliseconds.
    pub updated_at_ms: u64,
}
