//! THE frames of the native language `atoll/1`, and their only encoding and decoding.
//!
//! A frame is one byte that says its kind, then the postcard of its body. Kinds are numbered for ever: new ones are
//! appended, removed ones stay as a gap. The OpenClaw dialect ([`crate::dialect`]) maps to these same frames, so that
//! nothing above a link can tell which language was spoken. Never does I/O, never looks at a clock.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::capability::Surface;
use crate::error::{CallError, WireError};
use crate::id::{BlobId, CallId, DeviceId, PairingId, RequestId};
use crate::json::Json;
use crate::limits;
use crate::scope::{Role, Scopes};

mod stream;

pub use stream::{ChunkKind, StreamChunk, StreamClosed, StreamHead, StreamOpen, StreamWindow};

/// The versions of the native language that this build speaks.
pub const VERSIONS: Versions = Versions { lowest: 1, highest: 1 };

macro_rules! frames {
    ($($(#[$doc:meta])* $number:literal = $name:ident($body:ty),)*) => {
        /// Everything that can be said on a native link.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[expect(clippy::large_enum_variant, reason = "a hello is said once a link and waits in no queue")]
        pub enum Frame {
            $($(#[$doc])* $name($body),)*
        }

        impl Frame {
            /// The number of its kind.
            pub fn kind(&self) -> u8 {
                match self {
                    $(Self::$name(_) => $number,)*
                }
            }

            /// Its bytes.
            ///
            /// # Errors
            /// [`FrameError::TooLarge`] beyond [`limits::NATIVE_FRAME`]: such a thing travels as a blob.
            pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
                let bytes = match self {
                    $(Self::$name(body) => postcard::to_extend(body, vec![$number]),)*
                }
                .map_err(|_| FrameError::Body { kind: self.kind() })?;
                check_size(bytes.len(), limits::NATIVE_FRAME)?;
                Ok(bytes)
            }

            /// Reads one frame of at most `limit` bytes; nothing may follow it.
            ///
            /// # Errors
            /// See [`FrameError`]; no input panics.
            pub fn decode(bytes: &[u8], limit: usize) -> Result<Self, FrameError> {
                check_size(bytes.len(), limit)?;
                let (&kind, body) = bytes.split_first().ok_or(FrameError::Empty)?;
                match kind {
                    $($number => read_body(kind, body).map(Self::$name),)*
                    _ => Err(FrameError::UnknownKind(kind)),
                }
            }
        }
    };
}

frames! {
    /// Node or client opens: who it says it is, and what it commits to.
    1 = Hello(Hello),
    /// The gateway proves who it is.
    2 = Challenge(Challenge),
    /// The peer proves who it is.
    3 = Proof(Proof),
    /// The peer is proven but not approved; the link stays open until somebody decides.
    4 = Waiting(Waiting),
    /// The peer is in, with these rights.
    5 = Admitted(Admitted),
    /// The peer is not let in; the link closes.
    6 = Refused(WireError),
    /// One method of the gateway, from either role.
    7 = Request(Request),
    /// Its answer.
    8 = Response(Response),
    /// Something happened.
    9 = Event(Event),
    /// Gateway → node: run a command.
    10 = Invoke(Invoke),
    /// Node → gateway: a part of the output.
    11 = Progress(Progress),
    /// Gateway → node: input for a running command.
    12 = Input(Input),
    /// Gateway → node: stop that call.
    13 = Cancel(CallId),
    /// Node → gateway: how a call ended.
    14 = Outcome(Outcome),
    /// Gateway → node: the outcome is safe here, forget it.
    15 = Acknowledge(Acknowledge),
    /// Node → gateway, first after [`Frame::Admitted`]: what is still running and what ended meanwhile.
    16 = Resume(Resume),
    /// Are you there?
    17 = Ping(u64),
    /// Yes.
    18 = Pong(u64),
    /// The surface in force has changed (approved, narrowed, withdrawn).
    19 = Granted(Surface),
    /// Opener → sender: send me these bytes.
    20 = StreamOpen(StreamOpen),
    /// Sender → opener: a part of them.
    21 = StreamChunk(StreamChunk),
    /// Opener → sender: room for more.
    22 = StreamWindow(StreamWindow),
    /// Sender → opener: nothing more comes.
    23 = StreamClosed(StreamClosed),
    /// Opener → sender: nobody wants the rest. The stream still ends as any other.
    24 = StreamAbandoned(u64),
    /// Receiver → keeper of a blob: it is here, or nobody wants it; forget it.
    25 = BlobDone(BlobId),
    /// Gateway → node, right after [`Frame::Admitted`]: the gateway's wall clock, Unix milliseconds. Its plans are judged by it.
    26 = Clock(u64),
    /// Node → gateway: what a running command wrote, to the byte.
    27 = Output(Output),
}

fn check_size(len: usize, limit: usize) -> Result<(), FrameError> {
    if len > limit {
        Err(FrameError::TooLarge { len, limit })
    } else {
        Ok(())
    }
}

fn read_body<'de, T: Deserialize<'de>>(kind: u8, body: &'de [u8]) -> Result<T, FrameError> {
    let (value, rest) = postcard::take_from_bytes(body).map_err(|_| FrameError::Body { kind })?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(FrameError::Trailing {
            kind,
            extra: rest.len(),
        })
    }
}

/// Bytes that are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Nothing at all.
    #[error("an empty frame")]
    Empty,
    /// Checked before anything is read.
    #[error("a frame of {len} bytes; the limit here is {limit}")]
    TooLarge {
        /// Its size, bytes.
        len: usize,
        /// The bound, bytes.
        limit: usize,
    },
    /// A kind of a later version: skip it.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// The body is not what the kind says.
    #[error("a broken frame of kind {kind}")]
    Body {
        /// The kind.
        kind: u8,
    },
    /// More bytes than the body.
    #[error("{extra} bytes after a frame of kind {kind}")]
    Trailing {
        /// The kind.
        kind: u8,
        /// How many.
        extra: usize,
    },
}

impl FrameError {
    /// Whether the link can go on: an unknown kind comes from a newer peer and is skipped.
    pub fn is_skippable(self) -> bool {
        matches!(self, Self::UnknownKind(_))
    }
}

/// An inclusive range of language versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The lowest spoken.
    pub lowest: u16,
    /// The highest spoken.
    pub highest: u16,
}

impl Versions {
    /// The highest version that both speak.
    pub fn agree(self, other: Self) -> Option<u16> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

/// What a peer says of itself. Nothing here gives a right.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// The program, e.g. `node-host`, `cli`.
    pub id: String,
    /// How it is used, e.g. `node`, `cli`, `ui`.
    pub mode: String,
    /// Its version.
    pub version: String,
    /// The system, e.g. `linux`.
    pub platform: String,
    /// The kind of device, e.g. `Linux`.
    pub device_family: String,
    /// The hardware, e.g. `Pixel 6`.
    pub model: String,
    /// What a person calls it.
    pub display_name: String,
    /// One start of the program.
    pub instance_id: String,
}

/// The first native frame, client → gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Spoken versions.
    pub versions: Versions,
    /// The role asked for.
    pub role: Role,
    /// The scopes asked for (operators).
    pub scopes: Scopes,
    /// The raw Ed25519 public key.
    pub public_key: [u8; 32],
    /// SHA-256 over a context and 32 fresh random bytes, which only [`Proof`] reveals: so neither side can choose its nonce
    /// by the other's.
    pub commitment: [u8; 32],
    /// What it says of itself.
    pub client: ClientInfo,
    /// What it offers (nodes).
    pub surface: Surface,
    /// The node's `PATH`, for looking programs up.
    pub path_env: String,
}

/// The gateway's answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The version both will speak.
    pub version: u16,
    /// The gateway's raw Ed25519 public key.
    pub public_key: [u8; 32],
    /// 32 fresh random bytes.
    pub nonce: [u8; 32],
    /// The gateway's signature over the transcript, 64 bytes.
    pub signature: Vec<u8>,
}

/// The client's answer to [`Challenge`], sent only after the gateway's signature held.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// What [`Hello`] committed to.
    pub nonce: [u8; 32],
    /// The client's signature over the transcript, 64 bytes.
    pub signature: Vec<u8>,
    /// The shared token, the first time only.
    pub token: Option<String>,
    /// A setup code, the first time only.
    pub setup_code: Option<String>,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proof")
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("setup_code", &self.setup_code.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

/// The device is proven and unknown, or asks for more than was approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// What the operator approves.
    pub request: PairingId,
    /// Why, in the words of the pairing reasons: `not-paired`, `role-upgrade`, …
    pub reason: String,
}

/// The device is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// The id of this connection.
    pub connection: String,
    /// The gateway's version.
    pub server_version: String,
    /// The role in force.
    pub role: Role,
    /// The scopes in force.
    pub scopes: Scopes,
    /// The surface in force: what was declared and approved.
    pub surface: Surface,
    /// The link's generation; calls of an older one are resumed, never mixed up.
    pub generation: u64,
    /// How often to expect a tick, milliseconds.
    pub tick_ms: u64,
}

/// A method call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The caller's id, echoed in the answer.
    pub id: RequestId,
    /// The method, e.g. `node.invoke`.
    pub method: String,
    /// Its parameters; none is not the same as `null`.
    pub params: Option<Json>,
}

/// The answer to a [`Request`]. A method with an accepted phase sends two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The caller's id.
    pub id: RequestId,
    /// The reply, or why there is none.
    pub result: Result<Json, WireError>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its name, e.g. `tick`.
    pub name: String,
    /// Its facts.
    pub payload: Json,
    /// Position among the broadcasts of this connection, from 1; none for what is aimed at one peer.
    pub seq: Option<u64>,
    /// Versions of presence and health that it reflects.
    pub state: Option<StateVersion>,
}

/// Which presence and health an event reflects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateVersion {
    /// Counts changes of presence.
    pub presence: u64,
    /// Counts refreshes of health.
    pub health: u64,
}

/// Gateway → node: run this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoke {
    /// The call.
    pub call: CallId,
    /// The node it is for.
    pub node: DeviceId,
    /// The command, e.g. `system.run`.
    pub command: String,
    /// Its parameters.
    pub params: Option<Json>,
    /// Time left, milliseconds.
    pub timeout_ms: u64,
    /// The caller's key, passed through.
    pub idempotency_key: Option<String>,
    /// What a person approved, signed by the gateway.
    pub plan: Option<SignedPlan>,
}

/// An approved plan: the exact bytes that were signed, and the signature. See [`crate::plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedPlan {
    /// Postcard of the plan.
    pub plan: Vec<u8>,
    /// Ed25519 by the gateway's device key, 64 bytes.
    pub signature: Vec<u8>,
}

/// Node → gateway: a part of the output of a running call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The call.
    pub call: CallId,
    /// From 0, without gaps.
    pub seq: u64,
    /// Text of at most [`limits::PROGRESS_CHUNK`] characters.
    pub chunk: String,
    /// The dialect's request that brought it, to be answered.
    pub receipt: Option<RequestId>,
}

/// Where a program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputStream {
    /// The word on the wire of the dialect.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Node → gateway: what a running command wrote. [`Progress`] is for words about a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The call.
    pub call: CallId,
    /// Counted together with [`Progress::seq`].
    pub seq: u64,
    /// Where it wrote that.
    pub stream: OutputStream,
    /// At most [`limits::PROGRESS_CHUNK`] of them.
    #[serde(with = "stream::bulk")]
    pub bytes: Bytes,
}

/// Gateway → node: input for a running call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The call.
    pub call: CallId,
    /// From 0, without gaps.
    pub seq: u64,
    /// The command decides what it means.
    pub payload: Json,
}

/// Node → gateway: the end of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The call.
    pub call: CallId,
    /// The payload (none and `null` differ), or why there is none.
    pub result: Result<Option<Json>, CallError>,
    /// The dialect's request that brought it, to be answered.
    pub receipt: Option<RequestId>,
}

/// Gateway → node: an outcome is durable here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// The call.
    pub call: CallId,
    /// The dialect's request to answer.
    pub receipt: Option<RequestId>,
    /// The outcome was late or unknown, and nobody waited for it.
    pub ignored: bool,
}

/// Node → gateway after a reconnect: the calls it knows of. What the gateway sent and is not here never started
/// or was lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Which memory of calls this is: another start of the program, or one that dropped a result, has another. So a call that was
    /// sent to this very memory and is not listed never began.
    #[serde(deserialize_with = "bounded::name")]
    pub boot: String,
    /// Still running.
    #[serde(deserialize_with = "bounded::calls")]
    pub running: Vec<CallId>,
    /// Ended, not acknowledged; the outcomes follow.
    #[serde(deserialize_with = "bounded::calls")]
    pub finished: Vec<CallId>,
}

#[cfg(test)]
mod tests;
