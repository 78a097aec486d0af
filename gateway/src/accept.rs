//! Listeners: TCP (plain and TLS on one port, told apart by the first byte), QUIC on the UDP port of the same number, and the Unix socket.
//! Owns permits and the deadlines up to the HTTP head or the first stream; turns sockets into HTTP connections and pipes. Never waits for
//! one peer while others knock.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atoll_pairing::link::quic;
use atoll_pairing::link::ws::Io;
use atoll_pairing::link::{Facts, Pipe};
use atoll_pairing::tls;
use futures_util::FutureExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::Peer;

mod udp;

/// Sockets and QUIC connections that are open at once. More wait in the kernel's queue until one closes.
const CONNECTIONS: usize = 16 * 1024;

/// File descriptors to ask the system for: one for each of those, and as many for all the rest. Most systems give a program about a
/// thousand unless it asks.
const DESCRIPTORS: u64 = 2 * CONNECTIONS as u64;

/// Of those, on the Unix socket, which the network cannot fill.
const LOCAL_CONNECTIONS: usize = 256;

/// The first byte must be here by then, and the TLS handshake done; over QUIC the handshake and the first stream.
const OPENING: Duration = Duration::from_secs(10);

/// Pause when the process is out of file descriptors: closing sockets frees some.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(250);

/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the listeners are bound to.
pub(crate) struct Listeners {
    tcp: Vec<TcpListener>,
    udp: Vec<quic::Listener>,
    unix: UnixListener,
    unix_path: PathBuf,
}

/// A socket that could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program has the port.
    #[error("{address} is in use; stop the program that has it, or choose another with --port")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {place}: {source}")]
    Other {
        /// The address or path.
        place: String,
        /// The system's words.
        source: io::Error,
    },
}

impl Listeners {
    /// Binds every address (all on the port that the first one gets, where it is 0), with `udp` beside each, and the Unix socket.
    pub(crate) async fn bind(
        addresses: &[SocketAddr],
        unix_path: &Path,
        udp: impl Fn(SocketAddr) -> io::Result<quic::Listener>,
    ) -> Result<Self, BindError> {
        ask_for_descriptors();
        let (tcp, udp) = udp::bind_both(addresses, udp).await?;
        let unix = bind_unix(unix_path).map_err(|source| BindError::Other {
            place: unix_path.display().to_string(),
            source,
        })?;
        Ok(Self {
            tcp,
            udp,
            unix,
            unix_path: unix_path.to_owned(),
        })
    }

    /// The addresses that are listened on.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }

    /// Accepts until stopped; each socket is served on a task of its own, which outlives the accepting.
    pub(crate) async fn run<S: Serve>(self, serve: S, tls: tls::Server, stop: CancellationToken, tasks: TaskTracker) {
        let accept = Accept {
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            serve,
            tls,
            tasks,
        };
        let mut loops = tokio::task::JoinSet::new();
        for listener in self.tcp {
            loops.spawn(accept.clone().tcp(listener, stop.clone()));
        }
        for listener in self.udp {
            loops.spawn(accept.clone().udp(listener, stop.clone()));
        }
        let local = Accept {
            permits: Arc::new(Semaphore::new(LOCAL_CONNECTIONS)),
            ..accept
        };
        loops.spawn(local.unix(self.unix, stop));
        while loops.join_next().await.is_some() {}
        let _ = std::fs::remove_file(&self.unix_path);
    }
}

/// What happens to an accepted socket, after TLS where there is TLS.
pub(crate) trait Serve: Clone + Send + Sync + 'static {
    /// Serves it to its end.
    fn serve<I: Io + 'static>(&self, io: I, facts: Facts, peer: Peer) -> impl Future<Output = ()> + Send;

    /// The same for a pipe that needs no HTTP.
    fn link(&self, pipe: Pipe, address: SocketAddr) -> impl Future<Output = ()> + Send;

    /// The same for a browser that asks for a session.
    fn visit(&self, visit: quic::Visit, address: SocketAddr) -> impl Future<Output = ()> + Send;
}

#[derive(Clone)]
struct Accept<S> {
    permits: Arc<Semaphore>,
    serve: S,
    tls: tls::Server,
    tasks: TaskTracker,
}

impl<S: Serve> Accept<S> {
    async fn tcp(self, listener: TcpListener, stop: CancellationToken) {
        while let Some((accepted, permit)) = self.next(listener.accept(), &stop).await {
            match accepted {
                Ok((stream, address)) => {
                    let (serve, tls) = (self.serve.clone(), self.tls.clone());
                    self.spawn(permit, async move { open(stream, address, serve, tls).await });
                }
                Err(error) => pause(&error).await,
            }
        }
    }

    async fn unix(self, listener: UnixListener, stop: CancellationToken) {
        while let Some((accepted, permit)) = self.next(listener.accept(), &stop).await {
            let peer = accepted.and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), stream)));
            match peer {
                Ok((uid, _)) if !is_own_user(uid) => tracing::warn!(uid, "another user knocked at the Unix socket"),
                Ok((uid, stream)) => {
                    let serve = self.serve.clone();
                    self.spawn(permit, async move {
                        serve.serve(stream, Facts::default(), Peer::Unix { uid }).await
                    });
                }
                Err(error) => pause(&error).await,
            }
        }
    }

    /// The next socket and the permit it holds; none when it is time to stop.
    async fn next<T>(
        &self,
        accept: impl Future<Output = T>,
        stop: &CancellationToken,
    ) -> Option<(T, OwnedSemaphorePermit)> {
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            both = async {
                let permit = self.permits.clone().acquire_owned().await.ok()?;
                Some((accept.await, permit))
            } => both,
        }
    }

    fn spawn(&self, permit: OwnedSemaphorePermit, serving: impl Future<Output = ()> + Send + 'static) {
        // An async block that awaits what it captured would hold it twice.
        self.tasks.spawn(serving.map(move |()| drop(permit)));
    }
}

async fn open<S: Serve>(stream: TcpStream, address: SocketAddr, serve: S, tls: tls::Server) {
    let _ = stream.set_nodelay(true);
    let peer = Peer::Tcp(address);
    let mut first = [0];
    let Ok(Ok(1)) = tokio::time::timeout(OPENING, stream.peek(&mut first)).await else {
        return;
    };
    if first[0] != TLS_HANDSHAKE {
        return serve.serve(stream, Facts::default(), peer).await;
    }
    // Boxed: what a handshake takes is free again after it, and what is handed on is small.
    match Box::pin(tokio::time::timeout(OPENING, tls.accept(stream))).await {
        Ok(Ok((stream, facts))) => serve.serve(Box::new(stream), facts, peer).await,
        Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
    }
}

async fn bind_tcp(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let mut tcp = Vec::with_capacity(addresses.len());
    let mut port = None;
    for address in addresses {
        let address = SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| bind_error(address, source))?;
        port = port.or(listener.local_addr().ok().map(|bound| bound.port()));
        tcp.push(listener);
    }
    Ok(tcp)
}

/// Where the owner of the machine allows fewer, there are fewer: then connections wait as they do when all are taken.
fn ask_for_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit {
        current: Some(wanted),
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of file descriptors stays as it is");
    }
}

/// The folder keeps others out already; this holds when somebody opens the folder.
fn is_own_user(uid: u32) -> bool {
    uid == rustix::process::geteuid().as_raw() || uid == 0
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
}

/// A socket file left by a gateway that was killed is replaced; the state folder's lock says that none is running.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    UnixListener::bind(path)
}

fn bind_error(address: SocketAddr, source: io::Error) -> BindError {
    if source.kind() == io::ErrorKind::AddrInUse {
        return BindError::InUse { address };
    }
    BindError::Other {
        place: address.to_string(),
        source,
    }
}
