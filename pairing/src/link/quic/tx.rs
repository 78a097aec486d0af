//! The sending half: each frame on the stream where it belongs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use atoll_protocol::frame::{ChunkKind, Frame};
use atoll_protocol::id::CallId;
use futures_util::future::FutureExt;
use quinn::{Connection, SendStream, WriteError};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::ws::cut;
use super::lanes::{Purpose, Taken};
use super::transport::LANES;
use super::{CLOSE_GRACE, FAREWELL, LinkError, Message, Opened, REASON, STALL, Shared};

/// With this many bytes waiting for the first stream, the next message waits until it has taken them.
const FED: usize = 64 * 1024;

/// A buffer that grew beyond this is let go of once it is empty: there are thousands of idle links.
const IDLE: usize = 4 * 1024;

/// Bytes give way to calls.
const FLOW_PRIORITY: i32 = -1;

/// Where a frame belongs.
enum Lane {
    /// The first stream.
    Control,
    /// A new stream, for this call.
    Opens(CallId),
    /// The stream of its purpose.
    Within(Purpose),
    /// The stream of its purpose, which ends with it.
    Ends(Purpose),
}

impl Lane {
    fn of(frame: &Frame) -> Self {
        let call = |call: &CallId| Purpose::Call(call.clone());
        if let Frame::Invoke(invoke) = frame {
            Self::Opens(invoke.call.clone())
        } else if let Frame::Progress(progress) = frame {
            Self::Within(call(&progress.call))
        } else if let Frame::Output(output) = frame {
            Self::Within(call(&output.call))
        } else if let Frame::Outcome(outcome) = frame {
            Self::Ends(call(&outcome.call))
        } else if let Frame::Input(input) = frame {
            Self::Within(call(&input.call))
        } else if let Frame::Cancel(cancelled) = frame {
            Self::Within(call(cancelled))
        } else if let Frame::StreamChunk(chunk) = frame {
            let flow = Purpose::Bytes(chunk.stream);
            match chunk.kind {
                ChunkKind::Data | ChunkKind::Key => Self::Within(flow),
                ChunkKind::End => Self::Ends(flow),
            }
        } else if let Frame::StreamClosed(closed) = frame {
            Self::Ends(Purpose::Bytes(closed.stream))
        } else {
            Self::Control
        }
    }
}

/// The sending half.
#[derive(Debug)]
pub(in crate::link) struct Tx {
    connection: Connection,
    control: SendStream,
    opened: mpsc::Sender<Opened>,
    shared: Arc<Shared>,
    /// Bytes for the first stream, of which so many have been taken.
    fed: Vec<u8>,
    taken: usize,
}

impl Tx {
    pub(super) fn new(
        connection: Connection,
        control: SendStream,
        opened: mpsc::Sender<Opened>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            connection,
            control,
            opened,
            shared,
            fed: Vec::new(),
            taken: 0,
        }
    }

    /// On the first stream.
    pub(in crate::link) async fn feed(&mut self, message: Message) -> Result<(), LinkError> {
        match message {
            Message::Text(text) => self.feed_bytes(text.as_bytes()).await,
            Message::Binary(bytes) => self.feed_bytes(&bytes).await,
        }
    }

    async fn feed_bytes(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        if self.fed.len() >= FED {
            self.flush().await?;
        }
        self.fed.extend_from_slice(&header(bytes.len())?);
        self.fed.extend_from_slice(bytes);
        Ok(())
    }

    /// On the stream of its call; on the first one where it has none.
    pub(in crate::link) async fn feed_frame(&mut self, frame: &Frame, message: Message) -> Result<(), LinkError> {
        let Message::Binary(bytes) = message else {
            return self.feed(message).await;
        };
        match Lane::of(frame) {
            Lane::Control => self.feed_bytes(&bytes).await,
            Lane::Opens(call) => self.open(&call, bytes).await,
            Lane::Within(purpose) => self.feed_within(&purpose, bytes).await,
            Lane::Ends(purpose) => {
                let taken = self.shared.lanes.take(&purpose);
                self.shared.lanes.remove(&purpose);
                let Taken::Stream(mut stream) = taken else {
                    return self.feed_bytes(&bytes).await;
                };
                self.put(&mut stream, bytes).await?;
                // Whoever has stopped it knows that it is over.
                let _ = stream.finish();
                Ok(())
            }
        }
    }

    async fn feed_within(&mut self, purpose: &Purpose, bytes: Vec<u8>) -> Result<(), LinkError> {
        let mut stream = match (self.shared.lanes.take(purpose), purpose) {
            (Taken::Stream(stream), _) => stream,
            (Taken::Unknown, Purpose::Bytes(_)) => match self.flow(purpose)? {
                Some(stream) => stream,
                None => return self.feed_bytes(&bytes).await,
            },
            (Taken::Without | Taken::Unknown, _) => return self.feed_bytes(&bytes).await,
        };
        self.put(&mut stream, bytes).await?;
        self.shared.lanes.give_back(purpose, stream);
        Ok(())
    }

    /// A stream for bytes; none when there is no credit for one now.
    fn flow(&self, purpose: &Purpose) -> Result<Option<SendStream>, LinkError> {
        let Some(opened) = self.connection.open_uni().now_or_never() else {
            self.shared.lanes.do_without(purpose.clone());
            return Ok(None);
        };
        let stream = opened.map_err(|error| self.shared.ended(error))?;
        let _ = stream.set_priority(FLOW_PRIORITY);
        self.shared.lanes.reserve(purpose.clone());
        Ok(Some(stream))
    }

    async fn open(&mut self, call: &CallId, bytes: Vec<u8>) -> Result<(), LinkError> {
        // A call never waits for another one to end. A peer that grants more streams than ours do gets no more than ours.
        let opening = (self.shared.lanes.len() < LANES).then(|| self.connection.open_bi());
        let Some(streams) = opening.and_then(FutureExt::now_or_never) else {
            return self.feed_bytes(&bytes).await;
        };
        let (mut stream, answers) = streams.map_err(|error| self.shared.ended(error))?;
        let purpose = Purpose::Call(call.clone());
        self.shared.lanes.reserve(purpose.clone());
        let opened = Opened {
            call: call.clone(),
            answers,
        };
        self.opened.send(opened).await.map_err(|_| LinkError::ClosedHere)?;
        self.put(&mut stream, bytes).await?;
        self.shared.lanes.give_back(&purpose, stream);
        Ok(())
    }

    /// On this stream; on the first one when the peer has stopped it.
    async fn put(&mut self, stream: &mut SendStream, bytes: Vec<u8>) -> Result<(), LinkError> {
        let mut parts = [header(bytes.len())?.to_vec().into(), bytes.into()];
        let whole = parts.clone();
        let mut rest = &mut parts[..];
        while !rest.is_empty() {
            match timeout(STALL, stream.write_chunks(rest)).await {
                Err(_) => return Err(LinkError::Stalled),
                Ok(Ok(written)) => rest = &mut rest[written.chunks..],
                Ok(Err(WriteError::Stopped(_))) => return self.feed_bytes(&whole[1]).await,
                Ok(Err(error)) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    pub(in crate::link) async fn flush(&mut self) -> Result<(), LinkError> {
        while self.taken < self.fed.len() {
            let written = timeout(STALL, self.control.write(&self.fed[self.taken..])).await;
            match written.map_err(|_| LinkError::Stalled)? {
                Ok(count) => self.taken += count,
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.taken = 0;
        self.fed.clear();
        self.fed.shrink_to(IDLE);
        Ok(())
    }

    /// Says why; the peer hangs up once it has read that, or is hung up on.
    pub(in crate::link) async fn close(&mut self, code: u16, reason: &str) {
        let reason = cut(reason);
        self.shared.is_closing.store(true, Ordering::Relaxed);
        let saying = async {
            self.fed.extend_from_slice(&farewell(code, reason));
            if self.flush().await.is_ok() && self.control.finish().is_ok() {
                self.connection.closed().await;
            }
        };
        let _ = timeout(CLOSE_GRACE, saying).await;
        self.connection.close(self.shared.code(code), reason.as_bytes());
    }

    fn failed(&self, error: WriteError) -> LinkError {
        match error {
            WriteError::ConnectionLost(error) => self.shared.ended(error),
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                LinkError::Broken(error.to_string())
            }
        }
    }
}

fn header(len: usize) -> Result<[u8; 4], LinkError> {
    let len = u32::try_from(len).ok().filter(|len| len & FAREWELL == 0);
    len.map(u32::to_be_bytes).ok_or(LinkError::TooLarge)
}

fn farewell(code: u16, reason: &str) -> Vec<u8> {
    debug_assert!(reason.len() <= REASON, "the caller has cut it");
    let len = u32::try_from(reason.len()).unwrap_or_default();
    let header = FAREWELL | (len << 16) | u32::from(code);
    [&header.to_be_bytes(), reason.as_bytes()].concat()
}
