//! A link: whole messages over some pipe, and frames over those in one of the two languages.
//!
//! Owns the limits, the deadlines and the heartbeat of a connection. Never knows who is at the other end
//! ([`crate::handshake`]) nor what a frame means to anybody.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use atoll_protocol::frame::{Frame, FrameError};
use atoll_protocol::limits;

use crate::proven::Language;

mod codec;
pub mod memory;
#[cfg(test)]
pub(crate) mod pipes;
pub mod quic;
pub mod stream;
pub mod ws;

pub use codec::{Codec, Received};
use stream::{Incoming, Outbound, Streams};

/// How long a peer that broke the rules is listened to, so that it can read why the link is closed.
const LAST_HEARING: Duration = Duration::from_secs(5);

/// One whole message of a pipe.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// The dialect's.
    Text(String),
    /// The native language's.
    Binary(Vec<u8>),
}

impl Message {
    /// Its size, bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// The dialect's text; a binary message that holds text counts. None when it is not UTF-8.
    pub fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(bytes) => String::from_utf8(bytes).ok(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Messages hold secrets and megabytes: only the size is for logs.
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}

/// What the connection itself says, before anybody has spoken.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// The TLS exporter, the same at both ends of one connection and at no other; none without TLS.
    pub exporter: Option<[u8; 32]>,
    /// The Ed25519 key in the gateway's certificate, seen from a native client.
    pub certificate_key: Option<[u8; 32]>,
    /// The language by the WebSocket subprotocol.
    pub language: Option<Language>,
}

/// Why a link is over.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other end closed it.
    #[error("closed by the peer ({code}{}{reason})", if reason.is_empty() { "" } else { ": " })]
    Closed {
        /// The close code; 1005 when it gave none, 1006 when the connection just ended.
        code: u16,
        /// Its reason, often empty.
        reason: String,
    },
    /// This end closed it.
    #[error("closed")]
    ClosedHere,
    /// It sent more than it may; closed with 1009.
    #[error("the peer sent a message that is too large")]
    TooLarge,
    /// Nothing came for too long, not even an answer to a ping.
    #[error("the peer has gone silent")]
    Silent,
    /// It does not read what is sent to it.
    #[error("the peer does not read")]
    Stalled,
    /// What came is not what the pipe carries.
    #[error("the connection is broken: {0}")]
    Broken(String),
    /// What came is not in the language of this link.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It broke the rules of streams; closed with 1008 and this reason.
    #[error("the peer misused streams: {0}")]
    Misused(&'static str),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
}

impl LinkError {
    /// The close code that the other end gave.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Closed { code, .. } => Some(*code),
            Self::ClosedHere
            | Self::TooLarge
            | Self::Silent
            | Self::Stalled
            | Self::Broken(_)
            | Self::Frame(_)
            | Self::Misused(_)
            | Self::Io(_) => None,
        }
    }
}

impl LinkError {
    /// Whether the other end broke the rules of the link, which no network does.
    pub fn is_violation(&self) -> bool {
        match self {
            Self::TooLarge | Self::Broken(_) | Self::Frame(_) | Self::Misused(_) => true,
            Self::Closed { .. } | Self::ClosedHere | Self::Silent | Self::Stalled | Self::Io(_) => false,
        }
    }
}

/// Something that carries whole messages both ways, in order.
#[derive(Debug)]
pub struct Pipe {
    tx: PipeTx,
    rx: PipeRx,
    facts: Facts,
}

#[derive(Debug)]
enum PipeTx {
    Ws(ws::Tx),
    Quic(Box<quic::Tx>),
    Memory(memory::Tx),
}

#[derive(Debug)]
enum PipeRx {
    Ws(ws::Rx),
    Quic(Box<quic::Rx>),
    Memory(memory::Rx),
}

impl Pipe {
    fn new(tx: PipeTx, rx: PipeRx, facts: Facts) -> Self {
        Self { tx, rx, facts }
    }

    /// What the connection itself says.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// Whether it is QUIC.
    pub fn is_quic(&self) -> bool {
        matches!(self.tx, PipeTx::Quic(_))
    }

    /// The largest message to take from now on, bytes.
    pub fn set_limit(&mut self, bytes: usize) {
        self.rx.set_limit(bytes);
    }

    /// The next message. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The link is over.
    pub async fn recv(&mut self) -> Result<Message, LinkError> {
        self.rx.recv().await
    }

    /// Sends one message and waits until the system has taken it.
    ///
    /// # Errors
    /// The link is over.
    pub async fn send(&mut self, message: Message) -> Result<(), LinkError> {
        self.tx.send(message).await
    }

    /// Says why and hangs up; waits a moment, at most [`ws::CLOSE_GRACE`] twice, for the other end to have read it.
    pub async fn close(mut self, code: u16, reason: &str) {
        self.tx.close(code, reason).await;
        while self.rx.recv().await.is_ok() {}
    }
}

impl PipeTx {
    /// What is let be on its way of one stream of bytes. Where it has a stream of its own in the pipe too, calls overtake it.
    fn most_of_a_stream(&self) -> u64 {
        match self {
            Self::Quic(_) => limits::STREAM_WINDOW,
            Self::Ws(_) | Self::Memory(_) => limits::STREAM_SHARED,
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), LinkError> {
        self.feed(message).await?;
        self.flush().await
    }

    /// As [`Self::feed`], on the stream of the frame's call where the pipe has streams.
    async fn feed_frame(&mut self, frame: &Frame, message: Message) -> Result<(), LinkError> {
        match self {
            // Boxed here and below: what few links need takes no room in those that rest.
            Self::Quic(tx) => Box::pin(tx.feed_frame(frame, message)).await,
            Self::Ws(_) | Self::Memory(_) => self.feed(message).await,
        }
    }

    async fn feed(&mut self, message: Message) -> Result<(), LinkError> {
        match self {
            Self::Ws(tx) => tx.feed(message).await,
            Self::Quic(tx) => tx.feed(message).await,
            Self::Memory(tx) => tx.send(message).await,
        }
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        match self {
            Self::Ws(tx) => tx.flush().await,
            Self::Quic(tx) => tx.flush().await,
            // What was fed has arrived.
            Self::Memory(_) => Ok(()),
        }
    }

    async fn close(&mut self, code: u16, reason: &str) {
        match self {
            Self::Ws(tx) => tx.close(code, reason).await,
            Self::Quic(tx) => tx.close(code, reason).await,
            Self::Memory(tx) => tx.close(code, reason).await,
        }
    }
}

impl PipeRx {
    async fn recv(&mut self) -> Result<Message, LinkError> {
        match self {
            Self::Ws(rx) => rx.recv().await,
            Self::Quic(rx) => rx.recv().await,
            Self::Memory(rx) => rx.recv().await,
        }
    }

    fn set_limit(&mut self, bytes: usize) {
        match self {
            Self::Ws(rx) => rx.set_limit(bytes),
            Self::Quic(rx) => rx.set_limit(bytes),
            Self::Memory(rx) => rx.set_limit(bytes),
        }
    }

    /// The peer is admitted: what a stranger may not do is allowed from now on.
    fn admit(&mut self) {
        match self {
            Self::Quic(rx) => rx.admit(),
            Self::Ws(_) | Self::Memory(_) => {}
        }
    }

    /// What the message was that [`Self::recv`] gave last.
    fn note(&mut self, frame: &Frame) {
        match self {
            Self::Quic(rx) => rx.note(frame),
            Self::Ws(_) | Self::Memory(_) => {}
        }
    }
}

/// An admitted connection: frames both ways.
#[derive(Debug)]
pub struct Link {
    tx: LinkTx,
    rx: LinkRx,
    facts: Facts,
    streams: Option<(Streams, Incoming)>,
}

impl Link {
    /// Speaks `codec` on `pipe` from now on, with the limit that is due after authentication.
    pub fn new(mut pipe: Pipe, codec: Codec) -> Self {
        pipe.set_limit(codec.limit());
        pipe.rx.admit();
        let most = pipe.tx.most_of_a_stream();
        let shared = codec.has_streams().then(|| stream::Shared::new(most));
        let end = |shared: &Option<Arc<stream::Shared>>| shared.clone().map(stream::End);
        Self {
            tx: LinkTx {
                pipe: pipe.tx,
                codec,
                streams: end(&shared),
            },
            rx: LinkRx {
                pipe: pipe.rx,
                codec,
                streams: end(&shared),
            },
            facts: pipe.facts,
            streams: shared.as_ref().map(stream::ends),
        }
    }

    /// Streams of bytes beside the frames, once; none where the language has none. Whoever does not take them refuses what the
    /// other end opens.
    pub fn take_streams(&mut self) -> Option<(Streams, Incoming)> {
        self.streams.take()
    }

    /// What the connection itself says.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// The two halves, each for a task of its own.
    pub fn split(self) -> (LinkTx, LinkRx) {
        (self.tx, self.rx)
    }

    /// See [`LinkTx::send`].
    ///
    /// # Errors
    /// See there.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), LinkError> {
        self.tx.send(frame).await
    }

    /// See [`LinkRx::recv`].
    ///
    /// # Errors
    /// See there.
    pub async fn recv(&mut self) -> Result<Received, LinkError> {
        self.rx.recv().await
    }
}

/// The sending half.
#[derive(Debug)]
pub struct LinkTx {
    pipe: PipeTx,
    codec: Codec,
    streams: Option<stream::End>,
}

impl LinkTx {
    /// Sends one frame and waits until the system has taken it. A peer that takes nothing for [`ws::STALL`] is
    /// given up.
    ///
    /// # Errors
    /// The link is over; or [`LinkError::Frame`], and nothing was sent, when the frame is too large for the language.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), LinkError> {
        self.feed(frame).await?;
        self.flush().await
    }

    /// Takes one frame that may wait for [`Self::flush`], so that several leave in one write. Waits only when much has
    /// been fed already.
    ///
    /// # Errors
    /// Those of [`Self::send`].
    pub async fn feed(&mut self, frame: &Frame) -> Result<(), LinkError> {
        match self.codec.write(frame)? {
            Some(message) => self.pipe.feed_frame(frame, message).await,
            None => Ok(()),
        }
    }

    /// Takes the answer of a [`Received::Reject`] as [`Self::feed`] takes a frame.
    ///
    /// # Errors
    /// The link is over.
    pub async fn feed_text(&mut self, text: String) -> Result<(), LinkError> {
        self.pipe.feed(Message::Text(text)).await
    }

    /// Sends what was fed and waits until the system has taken it.
    ///
    /// # Errors
    /// The link is over.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        self.pipe.flush().await
    }

    /// Resolves when the streams of this link have something for [`Self::feed_streams`].
    pub async fn streams_due(&self) {
        match &self.streams {
            Some(streams) => poll_fn(|cx| streams.0.poll_due(cx)).await,
            None => pending().await,
        }
    }

    /// Takes from the streams what is due, about one chunk at most, as [`Self::feed`] takes a frame: between two calls
    /// of this, frames go first. A peer that broke the rules of streams is hung up on here.
    ///
    /// # Errors
    /// The link is over.
    pub async fn feed_streams(&mut self) -> Result<(), LinkError> {
        match self.next_of_streams() {
            Outbound::Nothing => Ok(()),
            due @ (Outbound::Frame(_) | Outbound::Hangup(_)) => Box::pin(self.feed_due(due)).await,
        }
    }

    fn next_of_streams(&self) -> Outbound {
        let streams = self.streams.as_ref();
        streams.map_or(Outbound::Nothing, |streams| streams.0.next())
    }

    async fn feed_due(&mut self, mut due: Outbound) -> Result<(), LinkError> {
        let mut fed = 0;
        loop {
            match due {
                Outbound::Nothing => return Ok(()),
                Outbound::Hangup(reason) => {
                    self.close(1008, reason).await;
                    return Err(LinkError::Misused(reason));
                }
                Outbound::Frame(frame) => {
                    if let Some(message) = self.codec.write(&frame)? {
                        fed += message.len();
                        self.pipe.feed_frame(&frame, message).await?;
                    }
                }
            }
            if fed >= limits::STREAM_CHUNK {
                return Ok(());
            }
            due = self.next_of_streams();
        }
    }

    /// Says why and hangs up. The receiving half ends soon after.
    pub async fn close(&mut self, code: u16, reason: &str) {
        self.pipe.close(code, reason).await;
    }
}

/// The receiving half. It also keeps the heartbeat, so somebody must be waiting in [`Self::recv`] nearly always.
#[derive(Debug)]
pub struct LinkRx {
    pipe: PipeRx,
    codec: Codec,
    streams: Option<stream::End>,
}

impl LinkRx {
    /// The next frame. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The link is over.
    pub async fn recv(&mut self) -> Result<Received, LinkError> {
        loop {
            let message = self.pipe.recv().await?;
            match self.codec.read(message) {
                Ok(Some(Received::Frame(frame))) => {
                    self.pipe.note(&frame);
                    match self.sort(frame) {
                        Ok(Some(frame)) => return Ok(Received::Frame(frame)),
                        Ok(None) => {}
                        Err(reason) => return Err(Box::pin(self.see_off(reason)).await),
                    }
                }
                Ok(Some(reject)) => return Ok(reject),
                Ok(None) => {}
                Err(error) if error.is_skippable() => tracing::debug!(%error, "skipped a frame"),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Frames about streams are for the streams.
    fn sort(&self, frame: Frame) -> Result<Option<Frame>, &'static str> {
        match &self.streams {
            Some(streams) => streams.0.handle(frame),
            None => Ok(Some(frame)),
        }
    }

    /// The sending half says why and hangs up; until then what comes is read and forgotten.
    async fn see_off(&mut self, reason: &'static str) -> LinkError {
        let _ = tokio::time::timeout(LAST_HEARING, async { while self.pipe.recv().await.is_ok() {} }).await;
        LinkError::Misused(reason)
    }
}

#[cfg(test)]
mod tests;
