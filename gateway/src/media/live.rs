//! Blobs that do not end by themselves: one fetch from the node, however many watch. Nobody who watches delays another or the node:
//! whoever is too slow skips to the newest chunk at which one can begin, and whoever comes late begins there. When a stream breaks off,
//! all of them are told why.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atoll_pairing::link::stream::{Chunk, StreamError, StreamRx, Streams};
use atoll_protocol::blob::BlobHandle;
use atoll_protocol::frame::StreamHead;
use atoll_protocol::id::{BlobId, DeviceId};
use hyper::body::Bytes;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::told::{Telling, Told};
use crate::hub::Hub;

/// What is kept of one stream for those who are a little behind, bytes. More: the oldest goes.
const KEPT: usize = 8 * 1024 * 1024;

/// What the smallest chunk counts for, so that tiny ones cannot pile up, bytes.
const LEAST: usize = 256;

/// Streams that a result named and nobody watches yet are forgotten after this long.
const UNWATCHED: Duration = Duration::from_secs(60);

/// Why a stream is over though its node did not end it, in the words of whoever knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(Arc<str>);

/// Streams at once. More: the oldest that nobody watches goes, else the new one.
const MOST: usize = 256;

/// The streams. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {
    named: Arc<Mutex<HashMap<String, Named>>>,
    /// Where nodes of the dialect tell theirs.
    pub(crate) told: Told,
}

/// How a stream comes from its node.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// Over a stream of the link.
    Link(Streams),
    /// In requests of the node, which this hub reaches.
    Told(Hub),
}

/// One stream that a result named.
#[derive(Debug)]
struct Named {
    node: DeviceId,
    way: Way,
    handle: BlobHandle,
    since: Instant,
    /// Running, once somebody watches.
    source: Option<Source>,
}

#[derive(Debug, Clone)]
struct Source {
    tape: Arc<Tape>,
    _pump: Arc<AbortOnDropHandle<()>>,
}

/// The newest part of a stream.
#[derive(Debug, Default)]
struct Tape {
    held: Mutex<Held>,
    grown: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Held {
    /// Each with its number, without gaps, the newest last.
    chunks: VecDeque<Chunk>,
    /// The number of the first of them.
    first: u64,
    /// The number of the newest at which one can begin, if it is still held.
    key: Option<u64>,
    bytes: usize,
    over: Option<Result<(), Broken>>,
    watchers: usize,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Named>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a stream of a node's result; gives what it goes by here.
    pub(crate) fn name(&self, node: DeviceId, way: Way, handle: &BlobHandle, now: Instant) -> String {
        let id = format!("live-{}", uuid::Uuid::new_v4());
        let mut all = self.lock();
        all.retain(|_, named| named.source.is_some() || now < named.since + UNWATCHED);
        if all.len() >= MOST {
            let idle = all.iter().filter(|(_, named)| named.source.is_none());
            let oldest = idle.min_by_key(|(_, named)| named.since).map(|(id, _)| id.clone());
            oldest.and_then(|oldest| all.remove(&oldest));
        }
        if all.len() < MOST {
            let named = Named {
                node,
                way,
                handle: handle.clone(),
                since: now,
                source: None,
            };
            all.insert(id.clone(), named);
        }
        id
    }

    /// Watches a stream from the newest chunk on at which one can begin; the first to watch has it fetched. None: there is no such
    /// stream (any more).
    pub(crate) fn watch(&self, id: &str) -> Option<Watching> {
        let mut all = self.lock();
        let named = all.get_mut(id)?;
        let source = named
            .source
            .get_or_insert_with(|| Source::start(&named.way, named.node, &named.handle, &self.told));
        let source = source.clone();
        source.tape.lock().watchers += 1;
        tracing::debug!(node = %named.node.short(), id, "a stream is watched");
        Some(Watching {
            live: self.clone(),
            id: id.to_owned(),
            mime: named.handle.mime.clone(),
            grown: source.tape.grown.subscribe(),
            source,
            next: None,
        })
    }

    /// Somebody has stopped watching; with the last one the stream ends.
    fn leave(&self, id: &str, tape: &Tape) {
        let mut all = self.lock();
        let mut held = tape.lock();
        held.watchers -= 1;
        if held.watchers == 0 {
            all.remove(id);
        }
    }
}

impl Source {
    fn start(way: &Way, node: DeviceId, handle: &BlobHandle, told: &Told) -> Self {
        let tape = Arc::new(Tape::default());
        let (pumped, way, told, blob) = (tape.clone(), way.clone(), told.clone(), handle.id.clone());
        let pump = tokio::spawn(async move {
            let ended = match way {
                Way::Link(streams) => fetch(&streams, blob, &pumped).await,
                Way::Told(hub) => listen(told.ask(&hub, node, &blob).await, &pumped).await,
            };
            tracing::debug!(%ended, "a stream of a node is over");
            pumped.end(match ended {
                StreamError::Over => Ok(()),
                broken @ (StreamError::Lost | StreamError::Refused(_) | StreamError::Abandoned) => {
                    Err(Broken(broken.to_string().into()))
                }
            });
        });
        Self {
            tape,
            _pump: Arc::new(AbortOnDropHandle::new(pump)),
        }
    }
}

async fn fetch(streams: &Streams, blob: BlobId, tape: &Tape) -> StreamError {
    match streams.open(StreamHead::Fetch { blob, offset: 0 }).await {
        Ok(mut rx) => pump(&mut rx, tape).await,
        Err(error) => error,
    }
}

async fn listen(mut telling: Telling, tape: &Tape) -> StreamError {
    loop {
        match telling.next().await {
            Ok(part) => tape.push(part),
            Err(ended) => return ended,
        }
    }
}

/// Takes chunks as fast as they come, whoever watches.
async fn pump(rx: &mut StreamRx, tape: &Tape) -> StreamError {
    loop {
        match rx.recv().await {
            Ok(Chunk::End(_)) => return StreamError::Over,
            Ok(chunk) => tape.push(chunk),
            Err(error) => return error,
        }
    }
}

impl Tape {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, chunk: Chunk) {
        let mut held = self.lock();
        held.bytes += cost(&chunk);
        if matches!(chunk, Chunk::Key(_)) {
            held.key = Some(held.first + held.chunks.len() as u64);
        }
        held.chunks.push_back(chunk);
        while held.bytes > KEPT {
            let Some(oldest) = held.chunks.pop_front() else { break };
            held.bytes -= cost(&oldest);
            held.first += 1;
        }
        let first = held.first;
        held.key = held.key.filter(|key| *key >= first);
        drop(held);
        self.grown.send_replace(());
    }

    fn end(&self, how: Result<(), Broken>) {
        self.lock().over = Some(how);
        self.grown.send_replace(());
    }
}

impl Held {
    /// The chunk that comes next for somebody whose next number is this; none has begun yet.
    fn next(&self, next: Option<u64>) -> Next {
        let place = match next {
            Some(next) if next >= self.first => next,
            // Too slow, or new.
            Some(_) | None => match self.key {
                Some(key) => key,
                None => return self.wait(),
            },
        };
        let index = usize::try_from(place - self.first).ok();
        match index.and_then(|index| self.chunks.get(index)) {
            Some(chunk) => Next::Chunk(chunk.bytes().clone(), place + 1),
            None => self.wait(),
        }
    }

    fn wait(&self) -> Next {
        self.over.clone().map_or(Next::Later, Next::Over)
    }
}

/// What a chunk counts for; one of no bytes takes room too.
fn cost(chunk: &Chunk) -> usize {
    chunk.bytes().len().max(LEAST)
}

enum Next {
    Chunk(Bytes, u64),
    Later,
    Over(Result<(), Broken>),
}

/// One who watches.
#[derive(Debug)]
pub(crate) struct Watching {
    live: Live,
    id: String,
    /// In the node's words.
    pub(crate) mime: String,
    grown: watch::Receiver<()>,
    source: Source,
    /// The number of the chunk to come; none has come yet.
    next: Option<u64>,
}

impl Watching {
    /// The next bytes. None when the stream is over.
    ///
    /// # Errors
    /// It broke off.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            self.grown.mark_unchanged();
            let next = self.source.tape.lock().next(self.next);
            match next {
                Next::Chunk(bytes, place) => {
                    self.next = Some(place);
                    return Ok(Some(bytes));
                }
                Next::Over(how) => return how.map(|()| None),
                // The tape, and with it the sender, is ours too.
                Next::Later => drop(self.grown.changed().await),
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.live.leave(&self.id, &self.source.tape);
    }
}

#[cfg(test)]
mod tests;
