//! Streams of bytes beside the frames of a link: blobs flow in chunks with a credit window each, and never delay a call.
//!
//! Native language only. Either end may open a stream, and whoever opens it receives its bytes. Knows nothing of blobs.

use std::future::poll_fn;
use std::sync::Arc;

use atoll_protocol::error::WireError;
use atoll_protocol::frame::StreamHead;
use atoll_protocol::limits;
use bytes::Bytes;

mod credit;
mod mux;
mod receiving;
mod sending;
mod shared;
#[cfg(test)]
mod tests;

pub(super) use shared::{End, Outbound, Shared};

/// A part of a stream.
#[derive(Clone, PartialEq, Eq)]
pub enum Chunk {
    /// More bytes.
    Data(Bytes),
    /// More bytes; whoever has seen none of the earlier ones can begin here.
    Key(Bytes),
    /// The end, with what the sender says about the whole: at most [`limits::STREAM_TRAILER`].
    End(Bytes),
}

impl Chunk {
    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Data(bytes) | Self::Key(bytes) | Self::End(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::Data(_) => "Data",
            Self::Key(_) => "Key",
            Self::End(_) => "End",
        };
        write!(f, "{kind}({} bytes)", self.bytes().len())
    }
}

/// Why a stream gives or takes nothing more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The link is gone. What came before is still whole.
    #[error("the link was lost")]
    Lost,
    /// The sender ended it.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// The receiver wants no more.
    #[error("nobody wants the rest")]
    Abandoned,
    /// Its end was taken already.
    #[error("the stream is over")]
    Over,
}

/// What the other end did against the rules; the link is closed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misuse(pub(super) &'static str);

/// Opens streams on one link. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Streams(Arc<Shared>);

/// The streams that the other end opens. Dropping it refuses them.
#[derive(Debug)]
pub struct Incoming(Arc<Shared>);

pub(super) fn ends(shared: &Arc<Shared>) -> (Streams, Incoming) {
    (Streams(shared.clone()), Incoming(shared.clone()))
}

impl Streams {
    /// Asks the other end for the bytes of `head`. Waits while [`limits::STREAMS`] are open already.
    ///
    /// # Errors
    /// [`StreamError::Lost`]. What the other end thinks of it is the first thing that the stream says.
    pub async fn open(&self, head: StreamHead) -> Result<StreamRx, StreamError> {
        let id = self.0.open(head).await?;
        let shared = self.0.clone();
        Ok(StreamRx { shared, id })
    }
}

impl Incoming {
    /// The next stream that the other end asks for. None when the link is gone.
    pub async fn accept(&mut self) -> Option<(StreamHead, StreamTx)> {
        let (id, head) = poll_fn(|cx| self.0.poll_accept(cx)).await?;
        let shared = self.0.clone();
        Some((head, StreamTx { shared, id }))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.0.refuse_streams();
    }
}

/// The receiving end of a stream. Dropping it tells the sender to stop.
#[derive(Debug)]
pub struct StreamRx {
    shared: Arc<Shared>,
    id: u64,
}

impl StreamRx {
    /// The next part, in order; after [`Chunk::End`] comes nothing more. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn recv(&mut self) -> Result<Chunk, StreamError> {
        poll_fn(|cx| self.shared.poll_recv(self.id, cx)).await
    }
}

impl Drop for StreamRx {
    fn drop(&mut self) {
        self.shared.abandon(self.id);
    }
}

/// The sending end of a stream. Dropping it without an end tells the receiver that it failed.
#[derive(Debug)]
pub struct StreamTx {
    shared: Arc<Shared>,
    id: u64,
}

impl StreamTx {
    /// Sends bytes of any length, once there is credit for them and the link has room.
    ///
    /// # Errors
    /// [`StreamError::Abandoned`] and [`StreamError::Lost`]: nobody receives it any more.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.send_as(bytes, Chunk::Data).await
    }

    /// As [`Self::send`], for bytes where somebody who has seen none of the earlier ones can begin.
    ///
    /// # Errors
    /// As there.
    pub async fn send_key(&mut self, mut bytes: Bytes) -> Result<(), StreamError> {
        let first = bytes.split_to(bytes.len().min(limits::STREAM_CHUNK));
        self.send_one(Chunk::Key(first)).await?;
        self.send(bytes).await
    }

    /// Ends it; of `trailer` at most [`limits::STREAM_TRAILER`] bytes are sent.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub async fn finish(self, mut trailer: Bytes) -> Result<(), StreamError> {
        trailer.truncate(limits::STREAM_TRAILER);
        self.shared.finish(self.id, trailer);
        Ok(())
    }

    /// Ends it with the reason why there is no more.
    pub async fn fail(self, error: WireError) {
        self.shared.fail(self.id, error);
    }

    /// Resolves when nobody receives it any more.
    pub async fn abandoned(&mut self) {
        poll_fn(|cx| self.shared.poll_unwanted(self.id, cx)).await;
    }

    async fn send_as(&mut self, mut bytes: Bytes, kind: fn(Bytes) -> Chunk) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(limits::STREAM_CHUNK));
            self.send_one(kind(part)).await?;
        }
        Ok(())
    }

    async fn send_one(&mut self, chunk: Chunk) -> Result<(), StreamError> {
        let mut chunk = Some(chunk);
        poll_fn(|cx| self.shared.poll_send(self.id, &mut chunk, cx)).await
    }
}

impl Drop for StreamTx {
    fn drop(&mut self) {
        // After an end this changes nothing: the first counts.
        self.shared
            .fail(self.id, WireError::unavailable("the sender gave up in the middle"));
    }
}
