//! The socket under both halves, and how an asynchronous stream looks to an engine that only knows `WouldBlock`.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tungstenite::error::{Error as WsError, ProtocolError};
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::{Message as WsMessage, WebSocket};

use super::{BUFFER, Io, LinkError, REASON, STALL};

/// Wakes the receiving task, the sending task, or both: either can be the one that waits for the socket, since
/// receiving also sends (pongs) and TLS sending also receives.
#[derive(Debug, Default)]
pub(super) struct Both {
    pub(super) rx: AtomicWaker,
    tx: AtomicWaker,
}

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rx.wake();
        self.tx.wake();
    }
}

/// An asynchronous stream that says `WouldBlock`, which is what tungstenite works on.
pub(super) struct Blocking {
    io: Box<dyn Io>,
    waker: Waker,
    pub(super) heard: u64,
    taken: u64,
}

pub(super) fn blocking(io: Box<dyn Io>) -> (Blocking, Arc<Both>) {
    let both = Arc::new(Both::default());
    let io = Blocking {
        io,
        waker: Waker::from(both.clone()),
        heard: 0,
        taken: 0,
    };
    (io, both)
}

impl Read for Blocking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut self.io).poll_read(&mut Context::from_waker(&self.waker), &mut buffer) {
            Poll::Ready(result) => {
                result?;
                self.heard += buffer.filled().len() as u64;
                Ok(buffer.filled().len())
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Blocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut self.io).poll_write(&mut Context::from_waker(&self.waker), bytes) {
            Poll::Ready(result) => {
                let taken = result?;
                self.taken += taken as u64;
                Ok(taken)
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match Pin::new(&mut self.io).poll_flush(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// The socket, for both halves. The lock is held for one poll and never across an await.
pub(super) struct Shared {
    state: Mutex<State>,
    wakers: Arc<Both>,
}

pub(super) struct State {
    pub(super) socket: WebSocket<Blocking>,
    pub(super) closing: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebSocket")
    }
}

impl Shared {
    pub(super) fn new(socket: WebSocket<Blocking>, wakers: Arc<Both>) -> Arc<Self> {
        let state = Mutex::new(State { socket, closing: false });
        Arc::new(Self { state, wakers })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Result<WsMessage, WsError>> {
        self.wakers.rx.register(cx.waker());
        pending(self.lock().socket.read())
    }

    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        self.wakers.tx.register(cx.waker());
        pending(self.lock().socket.flush())
    }

    /// Puts a message into the buffer; what the socket does not take at once goes with the next flush.
    pub(super) fn queue(&self, message: WsMessage) -> Result<(), WsError> {
        match self.lock().socket.write(message) {
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    pub(super) fn queue_close(&self, code: u16, reason: &str) {
        let mut state = self.lock();
        state.closing = true;
        let frame = CloseFrame {
            code: code.into(),
            reason: cut(reason).into(),
        };
        // Whatever fails here has ended the connection, which is what is wanted.
        let _ = state.socket.close(Some(frame));
        drop(state);
        self.wakers.rx.wake(); // so that the receiving half gives up in time
    }

    pub(super) async fn flush(&self) -> Result<(), LinkError> {
        loop {
            let before = self.lock().socket.get_ref().taken;
            match timeout(STALL, poll_fn(|cx| self.poll_flush(cx))).await {
                Ok(result) => return result.map_err(ended),
                Err(_) if self.lock().socket.get_ref().taken > before => {}
                Err(_) => return Err(LinkError::Stalled),
            }
        }
    }

    /// Reads and forgets what is still on its way, so that the system does not reset the connection before the other
    /// end has read the close frame.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.wakers.rx.register(cx.waker());
        let mut scratch = [0; BUFFER];
        let mut state = self.lock();
        loop {
            match state.socket.get_mut().read(&mut scratch) {
                Ok(0) => return Poll::Ready(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(_) => return Poll::Ready(()),
            }
        }
    }
}

pub(super) fn pending<T>(result: Result<T, WsError>) -> Poll<Result<T, WsError>> {
    match result {
        Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

pub(in crate::link) fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign and open enum: see the last arm"
)]
pub(super) fn ended(error: WsError) -> LinkError {
    match error {
        WsError::ConnectionClosed | WsError::AlreadyClosed => LinkError::ClosedHere,
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => lost(),
        WsError::Protocol(ProtocolError::SendAfterClosing) => LinkError::ClosedHere,
        // The second: TLS without its goodbye.
        WsError::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
            ) =>
        {
            lost()
        }
        WsError::Io(error) => LinkError::Io(error),
        WsError::Capacity(_) => LinkError::TooLarge,
        // Whatever else it is, the stream cannot be understood any more.
        error => LinkError::Broken(error.to_string()),
    }
}

fn lost() -> LinkError {
    LinkError::Closed {
        code: 1006,
        reason: String::new(),
    }
}
