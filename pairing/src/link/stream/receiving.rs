//! The streams that this end opened, and so receives. A machine: frames and wishes go in, frames come out.

use std::collections::{BTreeMap, VecDeque};

use atoll_protocol::error::WireError;
use atoll_protocol::frame::{ChunkKind, Frame, StreamChunk, StreamClosed, StreamHead, StreamOpen, StreamWindow};
use atoll_protocol::limits;
use bytes::Bytes;

use super::credit::Budget;
use super::{Chunk, Misuse, StreamError};

/// Who opens sees to it that there are never more than [`limits::STREAMS`].
#[derive(Debug, Default)]
pub(super) struct Receiving {
    streams: BTreeMap<u64, Stream>,
    next: u64,
    /// Streams that have something to say, each at most once.
    due: VecDeque<u64>,
    /// Places that have become free since the last [`Receiving::take_freed`].
    freed: usize,
}

#[derive(Debug)]
struct Stream {
    /// What to ask for; none once it has been asked.
    head: Option<StreamHead>,
    budget: Budget,
    buffer: VecDeque<Chunk>,
    end: Option<Result<Bytes, WireError>>,
    /// Nobody takes it any more.
    is_abandoned: bool,
    /// What the other end is still to be told.
    grant: u64,
    tell_abandoned: bool,
    is_due: bool,
}

impl Receiving {
    /// Registers a stream; gives its id.
    pub(super) fn open(&mut self, head: StreamHead) -> u64 {
        let id = self.next;
        self.next += 1;
        let stream = Stream {
            head: Some(head),
            budget: Budget::new(),
            buffer: VecDeque::new(),
            end: None,
            is_abandoned: false,
            grant: 0,
            tell_abandoned: false,
            is_due: false,
        };
        self.streams.insert(id, stream);
        self.make_due(id);
        id
    }

    pub(super) fn handle_chunk(&mut self, chunk: StreamChunk) -> Result<(), Misuse> {
        let stream = self.expecting(chunk.stream)?;
        let most = match chunk.kind {
            ChunkKind::Data | ChunkKind::Key => limits::STREAM_CHUNK,
            ChunkKind::End => limits::STREAM_TRAILER,
        };
        if chunk.bytes.len() > most {
            return Err(Misuse("a chunk is too large"));
        }
        let received = match chunk.kind {
            ChunkKind::Data => Chunk::Data(chunk.bytes),
            ChunkKind::Key => Chunk::Key(chunk.bytes),
            ChunkKind::End => {
                self.end(chunk.stream, Ok(chunk.bytes));
                return Ok(());
            }
        };
        let len = received.bytes().len();
        stream
            .budget
            .receive(len)
            .map_err(|_| Misuse("more bytes of a stream than its window holds"))?;
        if !stream.is_abandoned {
            stream.buffer.push_back(received);
        }
        Ok(())
    }

    pub(super) fn handle_closed(&mut self, closed: StreamClosed) -> Result<(), Misuse> {
        self.expecting(closed.stream)?;
        self.end(closed.stream, Err(closed.error));
        Ok(())
    }

    /// The next chunk; none when it has not come yet.
    pub(super) fn poll_recv(&mut self, id: u64) -> Option<Result<Chunk, StreamError>> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Some(Err(StreamError::Over));
        };
        if let Some(chunk) = stream.buffer.pop_front() {
            if let (Some(bytes), None) = (stream.budget.take(chunk.bytes().len()), &stream.end) {
                stream.grant += bytes;
                self.make_due(id);
            }
            return Some(Ok(chunk));
        }
        let end = stream.end.take()?;
        self.streams.remove(&id);
        Some(end.map(Chunk::End).map_err(StreamError::Refused))
    }

    /// Nobody takes it any more.
    pub(super) fn abandon(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.buffer.clear();
        stream.is_abandoned = true;
        if stream.end.is_some() {
            self.streams.remove(&id);
        } else if stream.head.is_some() {
            // It was never asked for.
            self.streams.remove(&id);
            self.freed += 1;
        } else {
            stream.tell_abandoned = true;
            self.make_due(id);
        }
    }

    /// The next frame to send.
    pub(super) fn poll_transmit(&mut self) -> Option<Frame> {
        while let Some(&id) = self.due.front() {
            let frame = self.streams.get_mut(&id).and_then(|stream| stream.say(id));
            if frame.is_some() {
                return frame;
            }
            self.due.pop_front();
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.is_due = false;
            }
        }
        None
    }

    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// How many streams have ended since the last time.
    pub(super) fn take_freed(&mut self) -> usize {
        std::mem::take(&mut self.freed)
    }

    /// A stream that the other end may speak of.
    fn expecting(&mut self, id: u64) -> Result<&mut Stream, Misuse> {
        self.streams
            .get_mut(&id)
            .filter(|stream| stream.end.is_none() && stream.head.is_none())
            .ok_or(Misuse("a chunk of a stream that is not open"))
    }

    fn end(&mut self, id: u64, end: Result<Bytes, WireError>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        self.freed += 1;
        stream.grant = 0;
        stream.tell_abandoned = false;
        stream.end = Some(end);
        if stream.is_abandoned {
            self.streams.remove(&id);
        }
    }

    fn make_due(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.is_due) {
            stream.is_due = true;
            self.due.push_back(id);
        }
    }
}

impl Stream {
    fn say(&mut self, id: u64) -> Option<Frame> {
        if let Some(head) = self.head.take() {
            return Some(Frame::StreamOpen(StreamOpen { stream: id, head }));
        }
        if std::mem::take(&mut self.tell_abandoned) {
            return Some(Frame::StreamAbandoned(id));
        }
        let bytes = std::mem::take(&mut self.grant);
        (bytes > 0 && !self.is_abandoned).then_some(Frame::StreamWindow(StreamWindow { stream: id, bytes }))
    }
}
