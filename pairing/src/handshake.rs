//! Who is at the other end: one state machine for each side, in either language, over any pipe.
//!
//! Pure: messages, nonces and the time come in; messages and verdicts go out. Owns the proof of keys and never decides what
//! a proven key may do, nor which credential is right: that is [`crate::admission`]'s.

use std::sync::Arc;
use std::time::Instant;

use atoll_protocol::capability::Surface;
use atoll_protocol::dialect::hello::HelloOk;
use atoll_protocol::dialect::refusal::{PairingRefusal, Refusal};
use atoll_protocol::error::WireError;
use atoll_protocol::frame::{Admitted, ClientInfo};
use atoll_protocol::id::PairingId;
use atoll_protocol::limits;
use atoll_protocol::scope::{Role, Scopes};
use secrecy::SecretString;

use crate::digits::Digits;
use crate::identity::Identity;
use crate::link::Message;
use crate::proven::{DeviceKey, Language, Proven};

mod dialect;
mod native;

pub use dialect::DialectClient;
pub use native::NativeClient;

/// The time, read by the caller.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For times that people and other machines wrote down: Unix milliseconds.
    pub unix_ms: u64,
}

/// What the gateway's side wants done, in order.
#[derive(Debug)]
pub enum Step {
    /// Send this.
    Send(Message),
    /// Ask admission about this peer, then call [`Gateway::admit`], [`Gateway::wait`] or [`Gateway::refuse`].
    Proven(Box<Proven>),
    /// Close with this code and reason; nothing follows.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// At most 120 bytes; often empty.
        reason: String,
    },
}

/// The gateway's side of one handshake.
#[derive(Debug)]
pub struct Gateway {
    deadline: Option<Instant>,
    side: GatewaySide,
}

#[derive(Debug)]
enum GatewaySide {
    Native(native::Gateway),
    Dialect(dialect::Gateway),
}

impl Gateway {
    /// A handshake in `atoll/1`; the peer speaks first. `nonce` is fresh and random, `exporter` the TLS exporter of this
    /// connection where there is TLS.
    pub fn native(identity: Arc<Identity>, nonce: [u8; 32], exporter: Option<[u8; 32]>, now: Now) -> Self {
        Self {
            deadline: Some(now.instant + limits::HANDSHAKE),
            side: GatewaySide::Native(native::Gateway::new(identity, nonce, exporter)),
        }
    }

    /// A handshake in the dialect; do the returned steps first. `nonce` is fresh and random, by custom a UUID.
    pub fn dialect(nonce: String, now: Now) -> (Self, Vec<Step>) {
        let (side, steps) = dialect::Gateway::start(nonce, now);
        let gateway = Self {
            deadline: Some(now.instant + limits::HANDSHAKE),
            side: GatewaySide::Dialect(side),
        };
        (gateway, steps)
    }

    /// What is spoken.
    pub fn language(&self) -> Language {
        match self.side {
            GatewaySide::Native(_) => Language::Native,
            GatewaySide::Dialect(_) => Language::Dialect,
        }
    }

    /// A message came.
    pub fn handle(&mut self, message: Message, now: Now) -> Vec<Step> {
        match &mut self.side {
            GatewaySide::Native(side) => side.handle(&message),
            GatewaySide::Dialect(side) => side.handle(message, now),
        }
    }

    /// When to give up, and why; none once the peer has had an answer.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.deadline
            .map(|deadline| (deadline, "the peer did not finish the handshake"))
    }

    /// The deadline has passed. What comes later is not heard.
    pub fn handle_timeout(&mut self) -> Vec<Step> {
        self.deadline = None;
        match &mut self.side {
            GatewaySide::Native(side) => side.give_up(),
            GatewaySide::Dialect(side) => side.give_up(),
        }
        vec![close(1000, "")]
    }

    /// The peer is proven, and somebody has to approve it. A native peer stays and is admitted or refused later; one of the
    /// dialect is told to come again.
    pub fn wait(&mut self, pairing: &PairingRefusal) -> Vec<Step> {
        self.deadline = None;
        match &mut self.side {
            GatewaySide::Native(side) => side.wait(pairing),
            GatewaySide::Dialect(side) => side.refuse(&Refusal::Pairing(Box::new(pairing.clone()))),
        }
    }

    /// The peer is in. `hello` is what the dialect says for it, and is made only there.
    pub fn admit(&mut self, admitted: Admitted, hello: impl FnOnce(&Admitted) -> HelloOk) -> Vec<Step> {
        self.deadline = None;
        match &mut self.side {
            GatewaySide::Native(side) => side.admit(admitted),
            GatewaySide::Dialect(side) => side.admit(&hello(&admitted)),
        }
    }

    /// The peer is not let in.
    pub fn refuse(&mut self, refusal: &Refusal) -> Vec<Step> {
        self.deadline = None;
        match &mut self.side {
            GatewaySide::Native(side) => side.refuse(refusal),
            GatewaySide::Dialect(side) => side.refuse(refusal),
        }
    }
}

/// What a client says of itself and asks for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The role.
    pub role: Role,
    /// The scopes (operators).
    pub scopes: Scopes,
    /// Program, platform, names.
    pub client: ClientInfo,
    /// What it offers (nodes).
    pub surface: Surface,
    /// The node's `PATH`.
    pub path_env: String,
}

/// What the client's side wants done, in order.
#[derive(Debug)]
pub enum ClientStep {
    /// Send this.
    Send(Message),
    /// Somebody has to approve this device; the handshake goes on by itself when that happens.
    Waiting(Waiting),
    /// The handshake is over.
    Admitted(Box<Outcome>),
    /// The gateway does not let this device in; the link closes.
    Refused(WireError),
    /// This side goes no further; close the link.
    Broken(HandshakeError),
}

/// Somebody has to approve this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What the operator approves.
    pub request: PairingId,
    /// Why, in the words of the pairing reasons: `not-paired`, `role-upgrade`, …
    pub reason: String,
    /// What the operator sees too, unless somebody sits in between. Those of this link: another one has others.
    pub digits: Digits,
}

/// How a handshake ended well, seen from the client.
#[derive(Debug)]
pub struct Outcome {
    /// What was agreed, and the rights in force.
    pub admitted: Admitted,
    /// The version of the language in use.
    pub protocol: u16,
    /// The gateway's key, proven on this channel: pin it. None in the dialect, which does not have one.
    pub gateway: Option<DeviceKey>,
    /// What the dialect hands out to be used the next time.
    pub device_token: Option<SecretString>,
}

/// Why the client goes no further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The answer is not what this language allows there.
    #[error("the gateway answered something else than {expected}")]
    Unexpected {
        /// What should have come.
        expected: &'static str,
    },
    /// The gateway chose a version that was not offered.
    #[error("the gateway speaks version {version}, which this program does not")]
    Version {
        /// Its choice.
        version: u16,
    },
    /// Another key than the one this device was paired with. Nothing secret was sent.
    #[error(
        "this is not the gateway that this device was paired with (device {found}, expected {expected}); \
         if it was set up anew, forget the old one and pair again"
    )]
    WrongGateway {
        /// The short id of the pinned key.
        expected: String,
        /// The short id of the key that answered.
        found: String,
    },
    /// The gateway does not hold the key that it names, or somebody sits in between.
    #[error("the gateway did not prove its key on this connection")]
    Unproven,
    /// What this device says of itself does not fit in a frame.
    #[error(
        "this device declares more than fits in a handshake of {} bytes",
        limits::PRE_AUTH_FRAME
    )]
    TooLarge,
    /// The dialect has no word for what this program says of itself.
    #[error("the OpenClaw dialect does not allow this value of {field}")]
    Unspeakable {
        /// The field of `connect`.
        field: &'static str,
    },
}

/// The client's side of one handshake.
#[derive(Debug)]
pub struct Client {
    deadline: Option<Instant>,
    side: ClientSide,
}

#[derive(Debug)]
enum ClientSide {
    Native(Box<native::Client>),
    Dialect(Box<dialect::Client>),
}

impl Client {
    /// A handshake in `atoll/1`; do the returned steps first.
    pub fn native(client: NativeClient, now: Now) -> (Self, Vec<ClientStep>) {
        let (side, steps) = native::Client::start(client);
        let machine = Self {
            deadline: Some(now.instant + limits::HANDSHAKE),
            side: ClientSide::Native(Box::new(side)),
        };
        (machine, steps)
    }

    /// A handshake in the dialect; the gateway speaks first.
    pub fn dialect(client: DialectClient, now: Now) -> Self {
        Self {
            deadline: Some(now.instant + limits::HANDSHAKE),
            side: ClientSide::Dialect(Box::new(dialect::Client::new(client))),
        }
    }

    /// A message came.
    pub fn handle(&mut self, message: Message) -> Vec<ClientStep> {
        let steps = match &mut self.side {
            ClientSide::Native(side) => side.handle(&message),
            ClientSide::Dialect(side) => side.handle(message),
        };
        if steps.iter().any(ends_the_deadline) {
            self.deadline = None;
        }
        steps
    }

    /// When to give up, and why; none once the gateway has answered, also with "wait".
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.deadline
            .map(|deadline| (deadline, "the gateway did not finish the handshake"))
    }
}

fn ends_the_deadline(step: &ClientStep) -> bool {
    match step {
        ClientStep::Send(_) => false,
        ClientStep::Waiting(_) | ClientStep::Admitted(_) | ClientStep::Refused(_) | ClientStep::Broken(_) => true,
    }
}

fn close(code: u16, reason: impl Into<String>) -> Step {
    Step::Close {
        code,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
