//! The streams that the other end opened, and so this end sends. A machine: frames and chunks go in, frames come out.
//!
//! Each stream has at most one chunk waiting for the writer, and they take turns, so that neither many streams nor a large one
//! make anything else wait long.

use std::collections::{BTreeMap, VecDeque};

use atoll_protocol::error::WireError;
use atoll_protocol::frame::{ChunkKind, Frame, StreamChunk, StreamClosed, StreamHead, StreamOpen, StreamWindow};
use atoll_protocol::limits;
use bytes::Bytes;

use super::credit::Allowance;
use super::{Chunk, Misuse};

#[derive(Debug)]
pub(super) struct Sending {
    streams: BTreeMap<u64, Stream>,
    /// The lowest id that has not been used.
    next: u64,
    /// Opened and not accepted yet.
    incoming: VecDeque<(u64, StreamHead)>,
    /// Somebody is there to accept.
    is_served: bool,
    /// Streams with something to say, each at most once.
    turns: VecDeque<u64>,
    /// What is let be on its way of each, bytes.
    most: u64,
}

#[derive(Debug)]
struct Stream {
    allowance: Allowance,
    slot: Option<Chunk>,
    last: Option<Last>,
    has_turn: bool,
}

/// How a stream ends.
#[derive(Debug)]
pub(super) enum Last {
    Trailer(Bytes),
    Error(WireError),
}

/// What became of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// It is on its way.
    Taken,
    /// There is no room yet; here it is again.
    Later(Chunk),
    /// Nobody wants it.
    Unwanted,
}

impl Sending {
    /// Lets so many bytes of each stream be on their way.
    pub(super) fn new(most: u64) -> Self {
        Self {
            streams: BTreeMap::new(),
            next: 0,
            incoming: VecDeque::new(),
            is_served: true,
            turns: VecDeque::new(),
            most,
        }
    }

    pub(super) fn handle_open(&mut self, open: StreamOpen) -> Result<(), Misuse> {
        // No id comes after the highest, so that one could be used again.
        if open.stream < self.next || open.stream == u64::MAX {
            return Err(Misuse("a stream id was used twice"));
        }
        if self.streams.len() >= limits::STREAMS {
            return Err(Misuse("too many streams at once"));
        }
        self.next = open.stream + 1;
        let stream = Stream {
            allowance: Allowance::new(self.most),
            slot: None,
            last: None,
            has_turn: false,
        };
        self.streams.insert(open.stream, stream);
        if self.is_served {
            self.incoming.push_back((open.stream, open.head));
        } else {
            self.end(open.stream, Last::Error(nothing_here()));
        }
        Ok(())
    }

    pub(super) fn handle_window(&mut self, window: StreamWindow) -> Result<(), Misuse> {
        match self.streams.get_mut(&window.stream) {
            Some(stream) => stream
                .allowance
                .add(window.bytes)
                .map_err(|_| Misuse("more room for a stream than its window holds")),
            None => self.past(window.stream),
        }
    }

    pub(super) fn handle_abandoned(&mut self, id: u64) -> Result<(), Misuse> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return self.past(id);
        };
        stream.slot = None;
        // The answer by which the other end knows that nothing more comes.
        stream.last = None;
        self.incoming.retain(|(incoming, _)| *incoming != id);
        self.end(id, Last::Error(WireError::unavailable("abandoned")));
        Ok(())
    }

    /// The next stream that the other end opened.
    pub(super) fn poll_accept(&mut self) -> Option<(u64, StreamHead)> {
        self.incoming.pop_front()
    }

    /// Nobody accepts any more.
    pub(super) fn close(&mut self) {
        self.is_served = false;
        while let Some((id, _)) = self.incoming.pop_front() {
            self.end(id, Last::Error(nothing_here()));
        }
    }

    /// Takes a chunk of at most [`limits::STREAM_CHUNK`] if there is room for it.
    pub(super) fn offer(&mut self, id: u64, chunk: Chunk) -> Offered {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.last.is_none()) else {
            return Offered::Unwanted;
        };
        if stream.slot.is_some() || !stream.allowance.take(chunk.bytes().len()) {
            return Offered::Later(chunk);
        }
        stream.slot = Some(chunk);
        self.take_turn(id);
        Offered::Taken
    }

    /// Whether anything that is offered would still be taken some day.
    pub(super) fn is_wanted(&self, id: u64) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.last.is_none())
    }

    /// Ends a stream after what it has in its slot. The first end counts.
    pub(super) fn end(&mut self, id: u64, last: Last) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.last.is_none()) {
            stream.last = Some(last);
            self.take_turn(id);
        }
    }

    /// The next frame to send, and the stream that has room since.
    pub(super) fn poll_transmit(&mut self) -> Option<(Frame, u64)> {
        while let Some(id) = self.turns.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.has_turn = false;
            if let Some(chunk) = stream.slot.take() {
                if stream.last.is_some() {
                    self.take_turn(id);
                }
                return Some((chunk.into_frame(id), id));
            }
            if let Some(last) = stream.last.take() {
                self.streams.remove(&id);
                return Some((last.into_frame(id), id));
            }
        }
        None
    }

    pub(super) fn is_due(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Words about a stream that has ended meanwhile are late; words about one that never was are none.
    fn past(&self, id: u64) -> Result<(), Misuse> {
        if id < self.next {
            Ok(())
        } else {
            Err(Misuse("a stream that was never opened"))
        }
    }

    fn take_turn(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.has_turn) {
            stream.has_turn = true;
            self.turns.push_back(id);
        }
    }
}

impl Last {
    fn into_frame(self, stream: u64) -> Frame {
        match self {
            Self::Trailer(trailer) => Chunk::End(trailer).into_frame(stream),
            Self::Error(error) => Frame::StreamClosed(StreamClosed { stream, error }),
        }
    }
}

impl Chunk {
    fn into_frame(self, stream: u64) -> Frame {
        let (kind, bytes) = match self {
            Self::Data(bytes) => (ChunkKind::Data, bytes),
            Self::Key(bytes) => (ChunkKind::Key, bytes),
            Self::End(bytes) => (ChunkKind::End, bytes),
        };
        Frame::StreamChunk(StreamChunk { stream, kind, bytes })
    }
}

fn nothing_here() -> WireError {
    WireError::unavailable("no blobs are served here")
}
