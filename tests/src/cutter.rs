//! A TCP proxy that a test breaks: it counts what passes, and hangs up on both ends when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What is moved at once, bytes.
const PIECE: usize = 16 * 1024;

/// Stands between a client and a port of this machine.
#[derive(Debug)]
pub struct Cutter {
    port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    /// Bytes so far, both ways.
    passed: AtomicU64,
    /// The connection that carries the byte of this number is cut, once.
    cut_at: AtomicU64,
    /// How many bytes may pass so far.
    allowed: watch::Sender<u64>,
}

impl Cutter {
    /// Listens on a free port and leads to `port`.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(State {
            passed: AtomicU64::new(0),
            cut_at: AtomicU64::new(u64::MAX),
            allowed: watch::Sender::new(u64::MAX),
        });
        let task = tokio::spawn(accept(listener, port, state.clone()));
        Self { port: own, state, task }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Bytes that came so far, both ways.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::SeqCst)
    }

    /// Lets so many bytes more through, and then none until it is asked again; `u64::MAX` is all.
    pub fn allow(&self, bytes: u64) {
        self.state.allowed.send_replace(self.passed().saturating_add(bytes));
    }

    /// Cuts the connection that carries the next so many bytes, once.
    pub fn cut_after(&self, bytes: u64) {
        self.state.cut_at.store(self.passed() + bytes, Ordering::SeqCst);
    }

    /// Whether the cut that was asked for is still to come.
    pub fn will_cut(&self) -> bool {
        self.state.cut_at.load(Ordering::SeqCst) != u64::MAX
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, port: u16, state: Arc<State>) {
    while let Ok((near, _)) = listener.accept().await {
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else {
            continue;
        };
        let (near_rx, near_tx) = near.into_split();
        let (far_rx, far_tx) = far.into_split();
        let state = state.clone();
        tokio::spawn(async move {
            // Whichever way ends takes the other with it.
            tokio::select! {
                () = carry(near_rx, far_tx, &state) => {}
                () = carry(far_rx, near_tx, &state) => {}
            }
        });
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State) {
    let mut piece = vec![0; PIECE];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        if state.count(read as u64) || to.write_all(&piece[..read]).await.is_err() {
            return;
        }
        let passed = || state.passed.load(Ordering::SeqCst);
        let mut allowed = state.allowed.subscribe();
        if allowed.wait_for(|allowed| passed() < *allowed).await.is_err() {
            return;
        }
    }
}

impl State {
    /// Whether the connection is to be cut now.
    fn count(&self, bytes: u64) -> bool {
        let passed = self.passed.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let cut_at = self.cut_at.load(Ordering::SeqCst);
        let is_due = passed >= cut_at;
        is_due && self.cut_at.swap(u64::MAX, Ordering::SeqCst) != u64::MAX
    }
}
