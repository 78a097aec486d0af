//! From an address to a pipe, nobody proven yet: which steps each kind of pipe takes, and a deadline for each.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::race::race;
use super::{Dial, DialError, PipeKind, Speak, Target};
use crate::link::quic::{self, ConnectError};
use crate::link::ws::{self, Io};
use crate::link::{Facts, Pipe};
use crate::proven::Language;
use crate::tls::{self, Trust};

/// How long each of connecting, TLS and the upgrade may take.
pub(super) const STEP: Duration = Duration::from_secs(10);

/// A pipe to the gateway, and what kind it is.
pub(super) async fn open(dial: &Dial) -> Result<(Pipe, PipeKind), DialError> {
    let (language, target) = (dial.speak.language(), &dial.target);
    if target.is_too_open(language) {
        return Err(DialError::TooOpen { target: target.clone() });
    }
    if language == Language::Dialect && matches!(target, Target::Quic { .. } | Target::Any { .. }) {
        return Err(DialError::NativeOnly { target: target.clone() });
    }
    let pipe = match target {
        Target::Any { host, port } => return race(dial, host, *port).await,
        Target::Quic { host, port } => return Ok((quic(dial, host, *port).await?, PipeKind::Quic)),
        Target::Tcp {
            tls: true, host, path, ..
        } => return Ok((wss(dial, host, path).await?, PipeKind::Wss)),
        Target::Tcp {
            tls: false, host, path, ..
        } => plain(dial, host, path).await?,
        Target::Unix(path) => upgrade(dial, unix(dial, path).await?, "/", Facts::default()).await?,
    };
    Ok((pipe, PipeKind::Ws))
}

/// Whether the gateway can be reached over QUIC now. Nothing is said there.
pub async fn quic_answers(dial: &Dial) -> bool {
    match &dial.target {
        Target::Quic { host, port } | Target::Any { host, port } => quic(dial, host, *port).await.is_ok(),
        Target::Tcp { .. } | Target::Unix(_) => false,
    }
}

pub(super) async fn quic(dial: &Dial, host: &str, port: u16) -> Result<Pipe, DialError> {
    let connecting = quic::connect(host, port, trust(dial)?);
    let target = || dial.target.clone();
    bounded(dial, "answer over QUIC", connecting)
        .await?
        .map_err(|error| match error {
            ConnectError::WrongCertificate => DialError::WrongCertificate { target: target() },
            ConnectError::Io(source) => DialError::Unreachable {
                target: target(),
                source,
            },
            ConnectError::Failed(why) => DialError::Unreachable {
                target: target(),
                source: io::Error::other(why),
            },
        })
}

pub(super) async fn wss(dial: &Dial, host: &str, path: &str) -> Result<Pipe, DialError> {
    let trust = trust(dial)?;
    let stream = tcp(dial).await?;
    let secured = bounded(dial, "set up TLS", tls::connect(stream, host, trust)).await?;
    let (stream, facts) = secured.map_err(|source| tls_error(&dial.target, source))?;
    upgrade(dial, stream, path, facts).await
}

async fn plain(dial: &Dial, host: &str, path: &str) -> Result<Pipe, DialError> {
    upgrade(dial, plain_tcp(dial, host).await?, path, Facts::default()).await
}

/// Plain text, where that is no danger.
pub(super) async fn plain_tcp(dial: &Dial, host: &str) -> Result<TcpStream, DialError> {
    let stream = tcp(dial).await?;
    // A name of this machine that leads elsewhere is no way around the rule of plain text.
    let is_here = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
    if host == "localhost" && !is_here {
        let target = dial.target.clone();
        return Err(DialError::TooOpen { target });
    }
    Ok(stream)
}

pub(super) fn trust(dial: &Dial) -> Result<Trust, DialError> {
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

pub(super) fn tls_error(target: &Target, source: io::Error) -> DialError {
    let inner = source.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let target = target.clone();
    if matches!(inner, Some(rustls::Error::InvalidCertificate(_))) {
        DialError::WrongCertificate { target }
    } else {
        DialError::Tls { target, source }
    }
}

pub(super) async fn tcp(dial: &Dial) -> Result<TcpStream, DialError> {
    let authority = dial.target.authority();
    let connecting = async {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    reach(dial, connecting).await
}

#[cfg(unix)]
pub(super) async fn unix(dial: &Dial, path: &std::path::Path) -> Result<tokio::net::UnixStream, DialError> {
    reach(dial, tokio::net::UnixStream::connect(path)).await
}

#[cfg(not(unix))]
pub(super) async fn unix(dial: &Dial, _path: &std::path::Path) -> Result<TcpStream, DialError> {
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

pub(super) async fn bounded<T>(dial: &Dial, what: &'static str, step: impl Future<Output = T>) -> Result<T, DialError> {
    timeout(STEP, step).await.map_err(|_| DialError::Timeout {
        target: dial.target.clone(),
        what,
    })
}
