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
use atoll_protocol::error::WireError;
use atoll_protocol::frame::Waiting;
use atoll_protocol::id::DeviceId;
use secrecy::SecretString;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::handshake::{Ask, Client, ClientStep, DialectClient, HandshakeError, NativeClient, Now, Outcome};
use crate::identity::Identity;
use crate::link::ws::{self, Io, UpgradeError};
use crate::link::{Codec, Facts, Link, LinkError, Pipe};
use crate::proven::{Language, Offered};
use crate::tls::{self, Fingerprint, Trust};

mod target;

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
        /// The shared token or a setup code.
        token: Option<SecretString>,
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
    /// Whether the very same dial can succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::TooOpen { .. } | Self::NoFingerprint { .. } | Self::NoIdentity => false,
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

    /// The request that the gateway's owner has to approve (dialect; a native dial waits in [`dial`]).
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

    fn wants_older_protocol(&self) -> bool {
        let expected = self.refusal().and_then(|error| {
            let details = error.details.as_ref()?.tree();
            details.get("expectedProtocol")?.as_u64()
        });
        expected == Some(LOWEST)
    }
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
        Speak::Native { pin, token } => {
            let mut nonce = [0; 32];
            getrandom::fill(&mut nonce).map_err(|_| DialError::Random)?;
            let client = NativeClient {
                identity: dial.identity.clone().ok_or(DialError::NoIdentity)?,
                ask: dial.ask.clone(),
                nonce,
                // Whoever shows a certificate must also prove that very key in the handshake.
                pin: pin.or(facts.certificate_key),
                token: token.clone(),
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
