//! The gateway's UDP socket: strangers that knock, each to be let in, sent back for a token, or not heard. Never waits for one
//! while others knock.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime};
use sha2::{Digest, Sha256};
use socket2::SockRef;

use super::web::Visit;
use super::{LinkError, Pipe, lost, pipe, transport};
use crate::identity::Identity;
use crate::proven::Language;
use crate::tls;

/// Strangers that wait to be heard. More are not heard, and come again.
const KNOCKS: usize = 1024;

/// What a stranger that waits may send, bytes. More is lost, and comes again.
const KNOCK_BYTES: u64 = 16 * 1024;

/// Room for datagrams that wait to be read, bytes: what thousands of nodes send at once that come back together. Systems give a tenth of
/// that unless asked, and what does not fit is lost, so that its sender waits a second or more.
const ROOM_FOR_DATAGRAMS: usize = 4 * 1024 * 1024;

/// A gateway that starts again tells peers of its last life that it does not know them; between two of those it pauses.
const RESET_PAUSE: Duration = Duration::from_millis(1);

/// A bound UDP socket that speaks QUIC.
pub struct Listener(pub(super) Endpoint);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("quic::Listener").field(&self.0.local_addr()).finish()
    }
}

impl Listener {
    /// Binds `address` and shows the certificates of `tls`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn bind(address: SocketAddr, tls: &tls::Server, identity: &Identity) -> io::Result<Self> {
        let crypto = tls.quic().map_err(io::Error::other)?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(Arc::new(transport::server()))
            .max_incoming(KNOCKS)
            .incoming_buffer_size(KNOCK_BYTES)
            .incoming_buffer_size_total(KNOCK_BYTES * KNOCKS as u64 / 4);
        let endpoint = Endpoint::new(
            endpoint(identity)?,
            Some(config),
            socket(address)?,
            Arc::new(TokioRuntime),
        )?;
        Ok(Self(endpoint))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The next stranger; none once it is shut.
    pub async fn accept(&self) -> Option<Knock> {
        self.0.accept().await.map(Knock)
    }

    /// Hears no more strangers; those who are in stay.
    pub fn shut(&self) {
        self.0.set_server_config(None);
    }
}

/// With as much room as the owner of the machine allows.
fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    if let Err(error) = SockRef::from(&socket).set_recv_buffer_size(ROOM_FOR_DATAGRAMS) {
        tracing::debug!(%error, "the room for datagrams stays as it is");
    }
    Ok(socket)
}

/// The key of resets follows from the identity: so a gateway that has started again can tell its peers that it does not know their
/// connections, and they need not wait until they have noticed by themselves.
fn endpoint(identity: &Identity) -> io::Result<EndpointConfig> {
    let secret = identity.derive(b"atoll quic reset\0");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &*secret);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    let mut config = EndpointConfig::new(Arc::new(key));
    config.cid_generator(move || Box::new(Ids { seed, count: 0 }));
    config.min_reset_interval(RESET_PAUSE);
    Ok(config)
}

/// Ids of connections that nobody can guess. Those of an earlier life look no different, since each of them must get its reset.
struct Ids {
    seed: [u8; 32],
    count: u64,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        self.count += 1;
        let digest = Sha256::new()
            .chain_update(self.seed)
            .chain_update(self.count.to_be_bytes());
        ConnectionId::new(&digest.finalize()[..self.cid_len()])
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Who has come in as far as the language that it speaks.
#[derive(Debug)]
pub enum Entry {
    /// One that speaks the native language.
    Native(Pipe),
    /// A browser that asks for a session.
    Browser(Box<Visit>),
}

impl Entry {
    /// The pipe of one that speaks the native language.
    pub fn native(self) -> Option<Pipe> {
        match self {
            Self::Native(pipe) => Some(pipe),
            Self::Browser(_) => None,
        }
    }
}

/// A stranger, nothing of whom has been believed yet.
#[derive(Debug)]
pub struct Knock(Incoming);

impl Knock {
    /// Where it says that it is.
    pub fn address(&self) -> SocketAddr {
        self.0.remote_address()
    }

    /// Whether it has shown that it is there.
    pub fn is_validated(&self) -> bool {
        self.0.remote_address_validated()
    }

    /// Sends it a token to come back with, which costs nothing here.
    pub fn send_back(self) {
        // One that may not be sent back has been validated, and is just not heard.
        let _ = self.0.retry();
    }

    /// Says nothing; it knocks again by itself.
    pub fn ignore(self) {
        self.0.ignore();
    }

    /// Does the QUIC handshake and waits for the first stream, or for the request of a browser. The caller bounds the time.
    ///
    /// # Errors
    /// It left, or speaks neither language.
    pub async fn open(self) -> Result<Entry, LinkError> {
        let broken = |error: quinn::ConnectionError| LinkError::Broken(error.to_string());
        let connection = self.0.accept().map_err(broken)?.await.map_err(broken)?;
        let facts = tls::quic::facts(&connection).ok_or_else(lost)?;
        if facts.language == Some(Language::Dialect) {
            return Ok(Entry::Browser(Box::new(Visit::open(connection, facts).await?)));
        }
        let (control, incoming) = connection.accept_bi().await.map_err(broken)?;
        Ok(Entry::Native(pipe(connection, control, incoming, facts, None)))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_listener_has_as_much_room_for_datagrams_as_the_machine_allows() {
        let most = std::fs::read_to_string("/proc/sys/net/core/rmem_max").expect("Linux says so");
        let most: usize = most.trim().parse().expect("a number of bytes");
        let socket = socket(([127, 0, 0, 1], 0).into()).expect("a free port");
        // socket(7): the kernel doubles what it is asked for.
        let room = SockRef::from(&socket).recv_buffer_size().expect("an option");
        assert_eq!(room, 2 * ROOM_FOR_DATAGRAMS.min(most));
    }
}
