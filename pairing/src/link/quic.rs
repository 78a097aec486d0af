//! QUIC as a pipe: the first bidirectional stream carries the handshake, events and requests, and every call has a stream of its own.
//!
//! A message is a length (u32, big-endian) and its bytes. Whoever sends an `Invoke` opens the stream of that call: input and
//! cancellation follow on it, progress and outcome come back on it. Whoever sends the bytes of a blob opens a stream in that direction.
//! Which stream a frame came on changes nothing of what it means, so that a frame without a stream of its own takes the first. Browsers come by WebTransport, with one stream for all. No 0-RTT; migration stays on. Never looks at a clock but for deadlines.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use atoll_protocol::limits;
use futures_util::stream::{FuturesUnordered, StreamExt};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime, VarInt,
};
use tokio::sync::{Semaphore, mpsc};

use super::ws::{CLOSE_GRACE, STALL};
use super::{Facts, LinkError, Message, Pipe, PipeRx, PipeTx};
use crate::tls::{self, Trust};

mod lanes;
mod listener;
mod reader;
mod rx;
mod transport;
mod tx;
mod web;

use lanes::Lanes;
pub use listener::{Entry, Knock, Listener};
pub(super) use rx::Rx;
pub(super) use tx::Tx;
pub use web::Visit;

/// Set in the length that opens a farewell; its low 16 bits are the close code, the rest the length of the reason.
const FAREWELL: u32 = 1 << 31;

/// The longest reason in a farewell, bytes.
const REASON: usize = 120;

/// Bytes of messages above [`SMALL`] that one link puts together at once. More: their streams wait, and so does the peer.
const ROOM: usize = 4 * limits::NATIVE_FRAME;

/// A message up to this size needs no room to be put together.
const SMALL: usize = 16 * 1024;

/// Streams that were opened here and wait to be read. More: the next call waits to be sent.
const OPENED: usize = 16;

/// Addresses of one name that are tried at once.
const ADDRESSES: usize = 4;

/// What both halves of a pipe look at.
#[derive(Debug)]
struct Shared {
    /// The largest message, bytes.
    limit: AtomicUsize,
    room: Arc<Semaphore>,
    lanes: Lanes,
    /// The peer is a browser, with one stream and codes of HTTP/3 for the connection.
    is_web: bool,
    /// This end has said goodbye.
    is_closing: AtomicBool,
}

/// A stream that was opened here for a call, to be read.
#[derive(Debug)]
struct Opened {
    call: atoll_protocol::id::CallId,
    answers: RecvStream,
}

/// Why there is no QUIC connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name leads nowhere, or there is no socket to be had.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Somebody answers with another certificate than the one that is trusted.
    #[error("another certificate than the one that is trusted")]
    WrongCertificate,
    /// Nobody answers, or not in this language.
    #[error("{0}")]
    Failed(String),
}

/// The client's end: connects to the first address of `host` that answers. The caller bounds the time.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(host: &str, port: u16, trust: Trust) -> Result<Pipe, ConnectError> {
    let addresses = tokio::net::lookup_host((host, port)).await?.take(ADDRESSES);
    let mut tries: FuturesUnordered<_> = addresses.map(|address| connect_to(address, host, trust)).collect();
    let mut last = None;
    while let Some(tried) = tries.next().await {
        match tried {
            Ok(pipe) => return Ok(pipe),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| failed(format!("{host} has no address"))))
}

async fn connect_to(address: SocketAddr, host: &str, trust: Trust) -> Result<Pipe, ConnectError> {
    let connecting = endpoint(address)?.connect_with(client(trust)?, address, host);
    let connection = connecting.map_err(failed)?.await.map_err(refused)?;
    let facts = tls::quic::facts(&connection).ok_or_else(|| failed("no exporter"))?;
    let (control, answers) = connection.open_bi().await.map_err(refused)?;
    Ok(pipe(connection, control, answers, facts, None))
}

/// Bound to no address, so that the connection moves with the routes of this machine.
fn endpoint(towards: SocketAddr) -> std::io::Result<Endpoint> {
    let any: SocketAddr = match towards {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let (config, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
    Endpoint::new(config, None, UdpSocket::bind(any)?, runtime)
}

fn client(trust: Trust) -> Result<ClientConfig, ConnectError> {
    let mut config = ClientConfig::new(Arc::new(tls::quic::client(trust).map_err(failed)?));
    config.transport_config(Arc::new(transport::client()));
    Ok(config)
}

fn failed(why: impl ToString) -> ConnectError {
    ConnectError::Failed(why.to_string())
}

fn refused(error: ConnectionError) -> ConnectError {
    /// `access_denied`, which our own verifier gives for a key that is not the pinned one (RFC 8446, section 6).
    const ACCESS_DENIED: u8 = 49;
    let denied = quinn::TransportErrorCode::crypto(ACCESS_DENIED);
    match &error {
        ConnectionError::TransportError(fault) if fault.code == denied => ConnectError::WrongCertificate,
        ConnectionError::TransportError(_)
        | ConnectionError::VersionMismatch
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => failed(error),
    }
}

fn pipe(
    connection: Connection,
    control: SendStream,
    incoming: RecvStream,
    facts: Facts,
    web: Option<web::Session>,
) -> Pipe {
    // On one stream there is one message at a time, and each has room.
    let room = if web.is_some() { limits::JSON_FRAME } else { ROOM };
    let shared = Arc::new(Shared {
        limit: AtomicUsize::new(limits::PRE_AUTH_FRAME),
        room: Arc::new(Semaphore::new(room)),
        lanes: Lanes::default(),
        is_web: web.is_some(),
        is_closing: AtomicBool::new(false),
    });
    let (opened, to_read) = mpsc::channel(OPENED);
    Pipe::new(
        PipeTx::Quic(Box::new(Tx::new(connection.clone(), control, opened, shared.clone()))),
        PipeRx::Quic(Box::new(Rx::new(connection, incoming, to_read, web, shared))),
        facts,
    )
}

impl Shared {
    /// The code with which the connection ends.
    fn code(&self, code: u16) -> VarInt {
        if self.is_web {
            web::NO_ERROR
        } else {
            VarInt::from_u32(code.into())
        }
    }

    /// Why the link is over, seen from this end.
    fn ended(&self, error: ConnectionError) -> LinkError {
        if self.is_closing.load(Ordering::Relaxed) {
            return LinkError::ClosedHere;
        }
        match error {
            ConnectionError::ApplicationClosed(_) if self.is_web => lost(),
            ConnectionError::ApplicationClosed(close) => closed(&close),
            ConnectionError::LocallyClosed => LinkError::ClosedHere,
            ConnectionError::TimedOut => LinkError::Silent,
            ConnectionError::Reset => lost(),
            error @ (ConnectionError::ConnectionClosed(_)
            | ConnectionError::TransportError(_)
            | ConnectionError::VersionMismatch
            | ConnectionError::CidsExhausted) => LinkError::Broken(error.to_string()),
        }
    }
}

/// A connection that was dropped closes with 0; every other code was given on purpose.
fn closed(close: &quinn::ApplicationClose) -> LinkError {
    match u16::try_from(close.error_code.into_inner()) {
        Ok(0) | Err(_) => lost(),
        Ok(code) => LinkError::Closed {
            code,
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
        },
    }
}

/// The connection just ended.
fn lost() -> LinkError {
    LinkError::Closed {
        code: 1006,
        reason: String::new(),
    }
}

#[cfg(test)]
mod tests;
