//! From the address of a gateway to an admitted link, as a node and the command line need it.
//!
//! Owns the order (connect, TLS, upgrade, handshake), a deadline for each, and the randomness and clock that the
//! handshake takes. Never tries again by itself: it says whether that makes sense.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use atoll_protocol::dialect;
use atoll_protocol::dialect::connect::{CURRENT, LOWEST};
use atoll_protocol::id::DeviceId;
use secrecy::SecretString;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::handshake::{Ask, Client, ClientStep, DialectClient, NativeClient, Now, Outcome, Waiting};
use crate::identity::Identity;
use crate::link::ws::{self, Io};
use crate::link::{Codec, Facts, Link, Pipe};
use crate::proven::{Language, Offered};
use crate::tls::{self, Fingerprint, Trust};

mod error;
mod target;

pub use error::DialError;
pub use target::{BadTarget, Target};

/// How long each of connecting, TLS and the upgrade may take.
const STEP: Duration = Duration::from_secs(10);

/// What a real node waits before it speaks the older protocol.
const FALLBACK_PAUSE: Duration = Duration::from_millis(250);

/// Everything that a dial needs to know.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Where the gateway is.
    pub target: Target,
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
    let mut pipe = open(dial).await?;
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
        Ok(outcome) => Ok(Dialled {
            link: Link::new(pipe, codec(dial)),
            outcome: *outcome,
        }),
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

/// A pipe to the gateway, nobody proven yet.
async fn open(dial: &Dial) -> Result<Pipe, DialError> {
    let language = dial.speak.language();
    let target = &dial.target;
    if target.is_too_open(language) {
        return Err(DialError::TooOpen { target: target.clone() });
    }
    match target {
        Target::Unix(path) => upgrade(dial, unix(dial, path).await?, "/", Facts::default()).await,
        Target::Tcp {
            tls: false, path, host, ..
        } => {
            let stream = tcp(dial).await?;
            // A name of this machine that leads elsewhere is no way around the rule above.
            let is_here = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
            if host == "localhost" && !is_here {
                return Err(DialError::TooOpen { target: target.clone() });
            }
            upgrade(dial, stream, path, Facts::default()).await
        }
        Target::Tcp {
            tls: true, path, host, ..
        } => {
            let trust = trust(dial)?;
            let stream = tcp(dial).await?;
            let secured = tls::connect(stream, host, trust);
            let secured = bounded(dial, "set up TLS", secured).await?;
            let (stream, facts) = secured.map_err(|source| tls_error(target, source))?;
            upgrade(dial, stream, path, facts).await
        }
    }
}

fn trust(dial: &Dial) -> Result<Trust, DialError> {
    match &dial.speak {
        Speak::Native { pin, .. } => Ok(pin.map_or(Trust::AnyDevice, Trust::Device)),
        Speak::Dialect { certificate, .. } => {
            certificate
                .map(Trust::Certificate)
                .ok_or_else(|| DialError::NoFingerprint {
                    target: dial.target.clone(),
                })
        }
    }
}

fn tls_error(target: &Target, source: io::Error) -> DialError {
    let inner = source.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let target = target.clone();
    if matches!(inner, Some(rustls::Error::InvalidCertificate(_))) {
        DialError::WrongCertificate { target }
    } else {
        DialError::Tls { target, source }
    }
}

async fn tcp(dial: &Dial) -> Result<TcpStream, DialError> {
    let authority = dial.target.authority();
    let connecting = async {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    reach(dial, connecting).await
}

#[cfg(unix)]
async fn unix(dial: &Dial, path: &std::path::Path) -> Result<tokio::net::UnixStream, DialError> {
    reach(dial, tokio::net::UnixStream::connect(path)).await
}

#[cfg(not(unix))]
async fn unix(dial: &Dial, _path: &std::path::Path) -> Result<TcpStream, DialError> {
    reach(dial, async { Err(io::ErrorKind::Unsupported.into()) }).await
}

async fn reach<T>(dial: &Dial, connecting: impl Future<Output = io::Result<T>>) -> Result<T, DialError> {
    let connected = bounded(dial, "accept the connection", connecting).await?;
    connected.map_err(|source| DialError::Unreachable {
        target: dial.target.clone(),
        source,
    })
}

async fn upgrade(dial: &Dial, io: impl Io + 'static, path: &str, facts: Facts) -> Result<Pipe, DialError> {
    let authority = dial.target.authority();
    let upgrading = ws::upgrade(io, &authority, path, dial.speak.language(), facts);
    Ok(bounded(dial, "answer the WebSocket upgrade", upgrading).await??)
}

async fn bounded<T>(dial: &Dial, what: &'static str, step: impl Future<Output = T>) -> Result<T, DialError> {
    timeout(STEP, step).await.map_err(|_| DialError::Timeout {
        target: dial.target.clone(),
        what,
    })
}

#[cfg(test)]
mod tests;
