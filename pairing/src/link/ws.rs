//! A WebSocket as a pipe, on either side and over any byte stream: TCP, TLS, Unix socket, upgraded HTTP.
//!
//! Owns the buffers (small: an idle link costs a few KiB), the heartbeat and the close handshake. No compression.
//! Never looks into a message.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use atoll_protocol::limits;
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, timeout};
use tungstenite::error::Error as WsError;
use tungstenite::handshake::client::{ClientHandshake, Request};
use tungstenite::handshake::{HandshakeError as WsHandshake, derive_accept_key};
use tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::{Role as WsRole, WebSocketConfig};
use tungstenite::{Message as WsMessage, WebSocket};

use super::{Facts, LinkError, Message, Pipe, PipeRx, PipeTx};
use crate::proven::Language;

/// The subprotocol of the native language.
pub const SUBPROTOCOL: &str = "atoll.1";

/// How long the other end has to take a close frame and to answer it.
pub const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// A peer that takes not one byte for this long, while there is something for it, is given up.
pub const STALL: Duration = Duration::from_secs(30);

/// What a client without a word from the gateway waits before it gives up. The gateway pings and ticks more often.
const SILENCE: Duration = Duration::from_secs(2 * limits::TICK.as_secs());

/// Small, since there are thousands of idle links; a larger message grows its own buffer.
const BUFFER: usize = 4 * 1024;

/// The longest reason in a close frame, bytes.
const REASON: usize = 120;

/// Any byte stream.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The value of `Sec-WebSocket-Accept` for a client's `Sec-WebSocket-Key`.
pub fn accept_key(sec_websocket_key: &str) -> String {
    derive_accept_key(sec_websocket_key.as_bytes())
}

/// The gateway's end of a stream whose HTTP upgrade has been answered.
pub fn accept(io: impl Io + 'static, facts: Facts) -> Pipe {
    let (io, both) = blocking(Box::new(io));
    let socket = WebSocket::from_raw_socket(io, WsRole::Server, Some(config()));
    pipe(socket, both, Beat::Ping { heard: None }, facts)
}

/// Why there is no WebSocket at the other end.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// An HTTP answer in place of the upgrade.
    #[error("the gateway answered HTTP {status}{}{body}", if body.is_empty() { "" } else { ": " })]
    Http {
        /// The status.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// It speaks WebSocket but not the native language.
    #[error("the gateway does not speak {SUBPROTOCOL}; if it is an OpenClaw gateway, use the openclaw dialect")]
    Language,
    /// Not HTTP, or a wrong answer.
    #[error("no WebSocket there: {0}")]
    Broken(String),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(io::Error),
}

/// The client's end: asks for the upgrade at `host` and `path`. The caller bounds the time.
///
/// # Errors
/// See [`UpgradeError`].
pub async fn upgrade(
    io: impl Io + 'static,
    host: &str,
    path: &str,
    language: Language,
    mut facts: Facts,
) -> Result<Pipe, UpgradeError> {
    let (io, both) = blocking(Box::new(io));
    let request = request(host, path, language).map_err(|error| UpgradeError::Broken(error.to_string()))?;
    let started = ClientHandshake::start(io, request, Some(config())).map_err(refused)?;
    let mut step = Some(started);
    let (socket, response) = poll_fn(|cx| {
        both.rx.register(cx.waker());
        let Some(handshake) = step.take() else {
            return Poll::Ready(Err(UpgradeError::Broken("polled after its end".to_owned())));
        };
        match handshake.handshake() {
            Ok(done) => Poll::Ready(Ok(done)),
            Err(WsHandshake::Interrupted(later)) => {
                step = Some(later);
                Poll::Pending
            }
            Err(WsHandshake::Failure(error)) => Poll::Ready(Err(refused(error))),
        }
    })
    .await?;
    let chosen = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
    if language == Language::Native && chosen.is_none_or(|chosen| chosen != SUBPROTOCOL) {
        return Err(UpgradeError::Language);
    }
    facts.language = Some(language);
    Ok(pipe(socket, both, Beat::Listen { heard: 0 }, facts))
}

fn request(host: &str, path: &str, language: Language) -> Result<Request, tungstenite::http::Error> {
    let request = Request::builder()
        .uri(format!("ws://{host}{path}"))
        .header("Host", host)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", tungstenite::handshake::client::generate_key());
    match language {
        Language::Native => request.header("Sec-WebSocket-Protocol", SUBPROTOCOL).body(()),
        Language::Dialect => request.body(()),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign and open enum: see the last arm"
)]
fn refused(error: WsError) -> UpgradeError {
    match error {
        WsError::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            UpgradeError::Http {
                status: response.status().as_u16(),
                body,
            }
        }
        WsError::Io(error) => UpgradeError::Io(error),
        // Whatever else it is, there is no WebSocket.
        error => UpgradeError::Broken(error.to_string()),
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(limits::PRE_AUTH_FRAME))
        .max_frame_size(Some(limits::PRE_AUTH_FRAME))
}

fn blocking(io: Box<dyn Io>) -> (Blocking, Arc<Both>) {
    let both = Arc::new(Both::default());
    let io = Blocking {
        io,
        waker: Waker::from(both.clone()),
        heard: 0,
        taken: 0,
    };
    (io, both)
}

fn pipe(socket: WebSocket<Blocking>, wakers: Arc<Both>, beat: Beat, facts: Facts) -> Pipe {
    let shared = Arc::new(Shared {
        state: Mutex::new(State { socket, closing: false }),
        wakers,
    });
    let tx = Tx { shared: shared.clone() };
    let rx = Rx {
        shared,
        alarm: Box::pin(tokio::time::sleep(beat.period())),
        beat,
        is_over: false,
    };
    Pipe::new(PipeTx::Ws(tx), PipeRx::Ws(rx), facts)
}

/// Wakes the receiving task, the sending task, or both: either can be the one that waits for the socket, since
/// receiving also sends (pongs) and TLS sending also receives.
#[derive(Debug, Default)]
struct Both {
    rx: AtomicWaker,
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
struct Blocking {
    io: Box<dyn Io>,
    waker: Waker,
    heard: u64,
    taken: u64,
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
struct Shared {
    state: Mutex<State>,
    wakers: Arc<Both>,
}

struct State {
    socket: WebSocket<Blocking>,
    closing: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebSocket")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Result<WsMessage, WsError>> {
        self.wakers.rx.register(cx.waker());
        pending(self.lock().socket.read())
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        self.wakers.tx.register(cx.waker());
        pending(self.lock().socket.flush())
    }

    /// Puts a message into the buffer; what the socket does not take at once goes with the next flush.
    fn queue(&self, message: WsMessage) -> Result<(), WsError> {
        match self.lock().socket.write(message) {
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    fn queue_close(&self, code: u16, reason: &str) {
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

    async fn flush(&self) -> Result<(), LinkError> {
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
    fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<()> {
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

fn pending<T>(result: Result<T, WsError>) -> Poll<Result<T, WsError>> {
    match result {
        Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

fn cut(reason: &str) -> &str {
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
fn ended(error: WsError) -> LinkError {
    match error {
        WsError::ConnectionClosed | WsError::AlreadyClosed => LinkError::ClosedHere,
        WsError::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => lost(),
        WsError::Protocol(tungstenite::error::ProtocolError::SendAfterClosing) => LinkError::ClosedHere,
        WsError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => lost(),
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

/// The sending half.
#[derive(Debug)]
pub(super) struct Tx {
    shared: Arc<Shared>,
}

impl Tx {
    pub(super) async fn send(&mut self, message: Message) -> Result<(), LinkError> {
        // An earlier send may have been given up half-way: its bytes go first, and never pile up.
        self.shared.flush().await?;
        let message = match message {
            Message::Text(text) => WsMessage::text(text),
            Message::Binary(bytes) => WsMessage::binary(bytes),
        };
        self.shared.queue(message).map_err(ended)?;
        self.shared.flush().await
    }

    pub(super) async fn close(&mut self, code: u16, reason: &str) {
        self.shared.queue_close(code, reason);
        let _ = timeout(CLOSE_GRACE, self.shared.flush()).await;
    }
}

/// How one end finds out that the other has gone.
#[derive(Debug)]
enum Beat {
    /// The gateway asks, and counts any byte as an answer. `heard` is the count at the last question.
    Ping { heard: Option<u64> },
    /// A client listens to that. `heard` is the count one period ago.
    Listen { heard: u64 },
    /// Closed from here; the other end has a moment to answer.
    Closing,
}

impl Beat {
    fn period(&self) -> Duration {
        match self {
            Self::Ping { .. } => limits::PING,
            Self::Listen { .. } => SILENCE,
            Self::Closing => CLOSE_GRACE,
        }
    }
}

/// The receiving half.
#[derive(Debug)]
pub(super) struct Rx {
    shared: Arc<Shared>,
    beat: Beat,
    alarm: Pin<Box<Sleep>>,
    is_over: bool,
}

impl Rx {
    pub(super) async fn recv(&mut self) -> Result<Message, LinkError> {
        if self.is_over {
            return Err(LinkError::ClosedHere);
        }
        let result = self.next().await;
        self.is_over = result.is_err();
        result
    }

    pub(super) fn set_limit(&mut self, bytes: usize) {
        self.shared.lock().socket.set_config(|config| {
            config.max_message_size = Some(bytes);
            config.max_frame_size = Some(bytes);
        });
    }

    async fn next(&mut self) -> Result<Message, LinkError> {
        loop {
            match poll_fn(|cx| self.poll_next(cx)).await {
                Ok(Some(WsMessage::Text(text))) => return Ok(Message::Text(text.as_str().to_owned())),
                Ok(Some(WsMessage::Binary(bytes))) => return Ok(Message::Binary(bytes.into())),
                Ok(Some(WsMessage::Ping(_) | WsMessage::Pong(_) | WsMessage::Frame(_))) => {}
                Ok(Some(WsMessage::Close(frame))) => return Err(self.farewell(frame).await),
                Ok(None) => self.on_alarm()?,
                Err(error) => return Err(self.fail(error).await),
            }
        }
    }

    /// A message, or nothing when the alarm went off.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<WsMessage>, WsError>> {
        if let Poll::Ready(result) = self.shared.poll_read(cx) {
            return Poll::Ready(result.map(Some));
        }
        if self.shared.lock().closing && !matches!(self.beat, Beat::Closing) {
            self.set_beat(Beat::Closing);
        }
        ready!(self.alarm.as_mut().poll(cx));
        Poll::Ready(Ok(None))
    }

    fn set_beat(&mut self, beat: Beat) {
        self.alarm.as_mut().reset(Instant::now() + beat.period());
        self.beat = beat;
    }

    fn on_alarm(&mut self) -> Result<(), LinkError> {
        let heard = self.shared.lock().socket.get_ref().heard;
        let next = match self.beat {
            Beat::Closing => return Err(LinkError::ClosedHere),
            Beat::Ping { heard: Some(before) } | Beat::Listen { heard: before } if heard == before => {
                return Err(LinkError::Silent);
            }
            Beat::Listen { .. } => Beat::Listen { heard },
            Beat::Ping { .. } => {
                self.shared.queue(WsMessage::Ping(Vec::new().into())).map_err(ended)?;
                // If the socket is full, the peer has enough to answer to.
                let _ = pending(self.shared.lock().socket.flush()).is_ready();
                Beat::Ping { heard: Some(heard) }
            }
        };
        self.set_beat(next);
        Ok(())
    }

    /// The other end has closed: answer it, then say what it said.
    async fn farewell(&mut self, frame: Option<CloseFrame>) -> LinkError {
        let _ = timeout(CLOSE_GRACE, poll_fn(|cx| self.shared.poll_flush(cx))).await;
        if self.shared.lock().closing {
            return LinkError::ClosedHere;
        }
        match frame {
            Some(frame) => LinkError::Closed {
                code: frame.code.into(),
                reason: frame.reason.as_str().to_owned(),
            },
            None => LinkError::Closed {
                code: 1005,
                reason: String::new(),
            },
        }
    }

    /// What came cannot be taken: say so in the way of RFC 6455, section 7.4.1, and hang up.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign and open enum: see the last arm"
    )]
    async fn fail(&mut self, error: WsError) -> LinkError {
        let code = match &error {
            WsError::Capacity(_) => Some(1009),
            WsError::Utf8(_) => Some(1007),
            WsError::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => None,
            WsError::Protocol(_) => Some(1002),
            // In all other cases there is nobody left to tell.
            _ => None,
        };
        if let Some(code) = code {
            self.shared.queue_close(code, "");
            let _ = timeout(CLOSE_GRACE, self.shared.flush()).await;
            let _ = timeout(CLOSE_GRACE, poll_fn(|cx| self.shared.poll_drain(cx))).await;
        }
        if self.shared.lock().closing && code.is_none() {
            return LinkError::ClosedHere;
        }
        ended(error)
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
