//! One stream, read message by message. Checks every length before anything is allocated for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use atoll_protocol::id::CallId;
use quinn::{ReadError, ReadExactError, RecvStream, SendStream};

use super::{FAREWELL, LinkError, REASON, SMALL, Shared, lost};

/// A large message grows by this much as its bytes arrive.
const STEP: usize = 64 * 1024;

/// Which stream it is.
#[derive(Debug)]
pub(super) enum Lane {
    /// The first one.
    Control,
    /// Opened here for this call.
    Own(CallId),
    /// Opened by the peer for bytes.
    Flow,
    /// Opened by the peer.
    Theirs {
        /// The call it is for, once that is known.
        call: Option<CallId>,
        /// Where its answers go, until the call is known.
        answer: Option<SendStream>,
    },
}

/// What was read.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message.
    Message(Vec<u8>),
    /// The peer says goodbye.
    Farewell { code: u16, reason: String },
    /// Nothing more will come.
    End,
    /// The peer has called the stream off, or left in the middle of a message.
    Reset,
}

/// A stream and what is known of it.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) lane: Lane,
    stream: RecvStream,
    shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn new(lane: Lane, stream: RecvStream, shared: Arc<Shared>) -> Self {
        Self { lane, stream, shared }
    }

    /// The next thing on this stream. Must not be dropped before its end.
    pub(super) async fn next(mut self) -> (Self, Result<Heard, LinkError>) {
        let heard = match self.read().await {
            Ok(heard) => Ok(heard),
            Err(Fault::Torn) => Ok(Heard::Reset),
            Err(Fault::Link(error)) => Err(error),
        };
        (self, heard)
    }

    async fn read(&mut self) -> Result<Heard, Fault> {
        let mut header = [0; 4];
        match self.stream.read_exact(&mut header).await {
            Ok(()) => {}
            Err(ReadExactError::FinishedEarly(0)) => return Ok(Heard::End),
            Err(error) => return Err(self.fault(error)),
        }
        let header = u32::from_be_bytes(header);
        if header & FAREWELL != 0 {
            return self.farewell(header).await;
        }
        let len = usize::try_from(header).unwrap_or(usize::MAX);
        if len > self.shared.limit.load(Ordering::Relaxed) {
            return Err(Fault::Link(LinkError::TooLarge));
        }
        let _room = if len > SMALL {
            let bytes = u32::try_from(len).unwrap_or(u32::MAX);
            let room = self.shared.room.clone().acquire_many_owned(bytes).await;
            Some(room.map_err(|_| Fault::Link(lost()))?)
        } else {
            None
        };
        Ok(Heard::Message(self.bytes(len).await?))
    }

    async fn farewell(&mut self, header: u32) -> Result<Heard, Fault> {
        let [high, low] = [header >> 16, header].map(|half| u16::try_from(half & 0xffff).unwrap_or_default());
        let len = usize::from(high & 0x7fff);
        if len > REASON {
            return Err(Fault::Link(LinkError::TooLarge));
        }
        let reason = self.bytes(len).await?;
        Ok(Heard::Farewell {
            code: low,
            reason: String::from_utf8_lossy(&reason).into_owned(),
        })
    }

    async fn bytes(&mut self, len: usize) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let start = bytes.len();
            bytes.resize(len.min(start + STEP), 0);
            let read = self.stream.read_exact(&mut bytes[start..]).await;
            read.map_err(|error| self.fault(error))?;
        }
        Ok(bytes)
    }

    fn fault(&self, error: ReadExactError) -> Fault {
        match error {
            ReadExactError::FinishedEarly(_) | ReadExactError::ReadError(ReadError::Reset(_)) => Fault::Torn,
            ReadExactError::ReadError(ReadError::ConnectionLost(error)) => Fault::Link(self.shared.ended(error)),
            ReadExactError::ReadError(
                error @ (ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected),
            ) => Fault::Link(LinkError::Broken(error.to_string())),
        }
    }
}

enum Fault {
    Torn,
    Link(LinkError),
}
