//! From the address of a gateway to an admitted link, as a node and the command line need it.
//!
//! Owns the order (a pipe, then the handshake), a deadline for each, and the randomness and clock that the handshake takes. Never tries again by itself: it says whether that makes sense.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use atoll_protocol::dialect;
use atoll_protocol::dialect::connect::{CURRENT, LOWEST};
use atoll_protocol::id::DeviceId;
use secrecy::SecretString;

use crate::handshake::{Ask, Client, ClientStep, DialectClient, NativeClient, Now, Outcome, Waiting};
use crate::identity::Identity;
use crate::link::{Codec, Facts, Link, Pipe};
use crate::proven::{Language, Offered};
use crate::tls::Fingerprint;

mod error;
mod open;
mod plain;
mod race;
mod target;

pub use error::DialError;
use open::open;
pub use open::quic_answers;
pub use plain::connect;
pub use target::{BadTarget, PipeKind, Target};

/// What a real node waits before it speaks the older protocol.
const FALLBACK_PAUSE: Duration = Duration::from_millis(250);

/// Everything that a dial needs to know.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Where the gateway is.
    pub target: Target,
    /// Which pipe to try first where the target leaves that open: the one that worked last.
    pub first: Option<PipeKind>,
    /// This device. Only an operator's program that speaks the dialect may come without.
    pub identity: Option<Arc<Identity>>,
    /// What it says and asks for.
    pub ask: Ask,
    /// What to speak, and what goes with it.
    pub speak: Speak,
}

/// The language of a dial.
#[derive(Debug, Clone)]
pub enum Speak {
    /// `atoll/1`.
    Native {
        /// The gateway's key from the pairing; none the first time.
        pin: Option<[u8; 32]>,
        /// The shared token.
        token: Option<SecretString>,
        /// A setup code.
        setup_code: Option<SecretString>,
    },
    /// OpenClaw's JSON.
    Dialect {
        /// What to show. A token is preferred to a device token, that to a setup code.
        credentials: Offered,
        /// The fingerprint of the gateway's certificate; without it there is no TLS.
        certificate: Option<Fingerprint>,
    },
}

impl Speak {
    fn language(&self) -> Language {
        match self {
            Self::Native { .. } => Language::Native,
            Self::Dialect { .. } => Language::Dialect,
        }
    }
}

/// An admitted link.
#[derive(Debug)]
pub struct Dialled {
    /// Frames both ways.
    pub link: Link,
    /// What carries them.
    pub pipe: PipeKind,
    /// What was agreed; `outcome.gateway` is the key to pin.
    pub outcome: Outcome,
}

/// Dials once. `on_waiting` hears which request somebody has to approve; the dial then goes on by itself, for as long as that
/// takes, and is ended by dropping it.
///
/// # Errors
/// See [`DialError`], whose questions say what to do next.
pub async fn dial(dial: &Dial, mut on_waiting: impl FnMut(Waiting)) -> Result<Dialled, DialError> {
    let first = dial_once(dial, CURRENT, &mut on_waiting).await;
    match first {
        Err(error) if matches!(dial.speak, Speak::Dialect { .. }) && error.wants_older_protocol() => {
            tokio::time::sleep(FALLBACK_PAUSE).await;
            dial_once(dial, LOWEST, &mut on_waiting).await
        }
        result => result,
    }
}

async fn dial_once(dial: &Dial, protocol: u64, on_waiting: &mut impl FnMut(Waiting)) -> Result<Dialled, DialError> {
    let (pipe, kind) = open(dial).await?;
    let (link, outcome) = introduce(dial, pipe, protocol, on_waiting).await?;
    Ok(Dialled {
        link,
        pipe: kind,
        outcome: *outcome,
    })
}

/// The handshake on an open pipe, to its verdict.
async fn introduce(
    dial: &Dial,
    mut pipe: Pipe,
    protocol: u64,
    on_waiting: &mut impl FnMut(Waiting),
) -> Result<(Link, Box<Outcome>), DialError> {
    let (mut machine, steps) = machine(dial, protocol, pipe.facts())?;
    let mut pending = steps;
    let outcome = loop {
        if let Some(result) = act(&mut pipe, pending, on_waiting).await? {
            break result;
        }
        let deadline = machine.poll_timeout().map(|(at, _)| at);
        pending = machine.handle(next(dial, &mut pipe, deadline).await?);
    };
    match outcome {
        Ok(outcome) => Ok((Link::new(pipe, codec(dial)), outcome)),
        Err(error) => {
            pipe.close(1008, "connect failed").await;
            Err(error)
        }
    }
}

type Verdict = Result<Box<Outcome>, DialError>;

async fn act(
    pipe: &mut Pipe,
    steps: Vec<ClientStep>,
    on_waiting: &mut impl FnMut(Waiting),
) -> Result<Option<Verdict>, DialError> {
    for step in steps {
        match step {
            ClientStep::Send(message) => pipe.send(message).await?,
            ClientStep::Waiting(waiting) => on_waiting(waiting),
            ClientStep::Admitted(outcome) => return Ok(Some(Ok(outcome))),
            ClientStep::Refused(error) => return Ok(Some(Err(DialError::Refused(error)))),
            ClientStep::Broken(error) => return Ok(Some(Err(DialError::Handshake(error)))),
        }
    }
    Ok(None)
}

async fn next(dial: &Dial, pipe: &mut Pipe, deadline: Option<Instant>) -> Result<crate::link::Message, DialError> {
    let Some(deadline) = deadline else {
        return Ok(pipe.recv().await?);
    };
    match tokio::time::timeout_at(deadline.into(), pipe.recv()).await {
        Ok(message) => Ok(message?),
        Err(_) => Err(DialError::Timeout {
            target: dial.target.clone(),
            what: "answer in the handshake",
        }),
    }
}

fn machine(dial: &Dial, protocol: u64, facts: Facts) -> Result<(Client, Vec<ClientStep>), DialError> {
    let now = Now {
        instant: tokio::time::Instant::now().into_std(),
        unix_ms: unix_ms(),
    };
    match &dial.speak {
        Speak::Native { pin, token, setup_code } => {
            let mut nonce = [0; 32];
            getrandom::fill(&mut nonce).map_err(|_| DialError::Random)?;
            let client = NativeClient {
                identity: dial.identity.clone().ok_or(DialError::NoIdentity)?,
                ask: dial.ask.clone(),
                nonce,
                // Whoever shows a certificate must also prove that very key in the handshake.
                pin: pin.or(facts.certificate_key),
                token: token.clone(),
                setup_code: setup_code.clone(),
                exporter: facts.exporter,
            };
            Ok(Client::native(client, now))
        }
        Speak::Dialect { credentials, .. } => {
            let client = DialectClient {
                identity: dial.identity.clone(),
                ask: dial.ask.clone(),
                credentials: credentials.clone(),
                protocol,
                request: uuid::Uuid::new_v4().into(),
            };
            Ok((Client::dialect(client, now), Vec::new()))
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn codec(dial: &Dial) -> Codec {
    match dial.speak {
        Speak::Native { .. } => Codec::Native,
        Speak::Dialect { .. } => Codec::DialectNode(dialect::Node {
            // Without an identity it is an operator's program, which names no node.
            node: dial
                .identity
                .as_ref()
                .map_or(DeviceId::from_digest([0; 32]), |identity| identity.device_id()),
        }),
    }
}

#[cfg(test)]
mod tests;
