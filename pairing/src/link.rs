//! A link: whole messages over some pipe, and frames over those in one of the two languages.
//!
//! Owns the limits, the deadlines and the heartbeat of a connection. Never knows who is at the other end
//! ([`crate::handshake`]) nor what a frame means to anybody.

use atoll_protocol::frame::{Frame, FrameError};

use crate::proven::Language;

mod codec;
pub mod memory;
pub mod ws;

pub use codec::{Codec, Received};

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
    /// What came is not WebSocket.
    #[error("broken WebSocket: {0}")]
    Broken(String),
    /// What came is not in the language of this link.
    #[error(transparent)]
    Frame(#[from] FrameError),
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
            | Self::Io(_) => None,
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
    Memory(memory::Tx),
}

#[derive(Debug)]
enum PipeRx {
    Ws(ws::Rx),
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
    async fn send(&mut self, message: Message) -> Result<(), LinkError> {
        self.feed(message).await?;
        self.flush().await
    }

    async fn feed(&mut self, message: Message) -> Result<(), LinkError> {
        match self {
            Self::Ws(tx) => tx.feed(message).await,
            Self::Memory(tx) => tx.send(message).await,
        }
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        match self {
            Self::Ws(tx) => tx.flush().await,
            // What was fed has arrived.
            Self::Memory(_) => Ok(()),
        }
    }

    async fn close(&mut self, code: u16, reason: &str) {
        match self {
            Self::Ws(tx) => tx.close(code, reason).await,
            Self::Memory(tx) => tx.close(code, reason).await,
        }
    }
}

impl PipeRx {
    async fn recv(&mut self) -> Result<Message, LinkError> {
        match self {
            Self::Ws(rx) => rx.recv().await,
            Self::Memory(rx) => rx.recv().await,
        }
    }

    fn set_limit(&mut self, bytes: usize) {
        match self {
            Self::Ws(rx) => rx.set_limit(bytes),
            Self::Memory(rx) => rx.set_limit(bytes),
        }
    }
}

/// An admitted connection: frames both ways.
#[derive(Debug)]
pub struct Link {
    tx: LinkTx,
    rx: LinkRx,
    facts: Facts,
}

impl Link {
    /// Speaks `codec` on `pipe` from now on, with the limit that is due after authentication.
    pub fn new(mut pipe: Pipe, codec: Codec) -> Self {
        pipe.set_limit(codec.limit());
        Self {
            tx: LinkTx { pipe: pipe.tx, codec },
            rx: LinkRx { pipe: pipe.rx, codec },
            facts: pipe.facts,
        }
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
            Some(message) => self.pipe.feed(message).await,
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
                Ok(Some(received)) => return Ok(received),
                Ok(None) => {}
                Err(error) if error.is_skippable() => tracing::debug!(%error, "skipped a frame"),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
