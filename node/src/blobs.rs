//! Blobs of this node: those that its results name, kept until the gateway has them; and those of the gateway that its calls need.
//! Outlives links, as calls do.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use atoll_capabilities::blob::{Blobs, NewBlob, NewStream};
use atoll_pairing::blob::{Arrival, ArrivalError, send};
use atoll_pairing::link::stream::{Incoming, StreamTx, Streams};
use atoll_protocol::blob::{BlobHandle, BlobKind};
use atoll_protocol::error::{CallError, WireError};
use atoll_protocol::frame::StreamHead;
use atoll_protocol::id::BlobId;
use atoll_protocol::limits;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Takes the link away from those who fetch, however it ends; a newer one stays.
struct Linked<'a>(&'a Shelf, u64);

impl Drop for Linked<'_> {
    fn drop(&mut self) {
        let is_ours = |held: &Held| held.as_ref().is_some_and(|(generation, _)| *generation == self.1);
        self.0
            .streams
            .send_if_modified(|held| is_ours(held) && held.take().is_some());
    }
}

/// The streams of the newest link, which is counted.
type Held = Option<(u64, Streams)>;

/// What is kept, and the link in use.
#[derive(Debug)]
pub(crate) struct Shelf {
    kept: Mutex<Kept>,
    streams: watch::Sender<Held>,
    links: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    blobs: HashMap<BlobId, Blob>,
    /// Oldest first.
    order: VecDeque<(Instant, BlobId)>,
}

#[derive(Debug, Clone)]
enum Blob {
    File(Arc<File>, u64),
    /// Taken by the first who fetches it.
    Stream(Arc<Mutex<Option<Parts>>>),
}

type Parts = mpsc::Receiver<Result<Vec<u8>, CallError>>;

impl Shelf {
    /// Nothing is kept, and there is no link.
    pub(crate) fn new() -> Self {
        Self {
            kept: Mutex::default(),
            streams: watch::Sender::new(None),
            links: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one link for as long as this is awaited; blobs are fetched over it meanwhile. Resolves when the link is being left and nothing
    /// is on its way over it any more.
    pub(crate) async fn serve(self: Arc<Self>, link: Option<(Streams, Incoming)>, leaving: CancellationToken) {
        let Some((streams, mut incoming)) = link else {
            return leaving.cancelled().await;
        };
        let generation = self.links.fetch_add(1, Ordering::Relaxed);
        self.streams.send_replace(Some((generation, streams)));
        let _linked = Linked(&self, generation);
        let mut sending = JoinSet::new();
        loop {
            tokio::select! {
                accepted = incoming.accept() => match accepted {
                    Some((head, tx)) => drop(sending.spawn(self.answer(head, tx))),
                    None => return leaving.cancelled().await,
                },
                Some(_) = sending.join_next() => {}
                () = leaving.cancelled(), if sending.is_empty() => return,
            }
        }
    }

    fn answer(&self, head: StreamHead, tx: StreamTx) -> impl Future<Output = ()> + Send + use<> {
        let StreamHead::Fetch { blob, offset } = head;
        let kept = self.lock().blobs.get(&blob).cloned();
        async move {
            match kept {
                Some(Blob::File(file, size)) => send(tx, file, size, offset).await,
                Some(Blob::Stream(parts)) => {
                    let parts = parts.lock().unwrap_or_else(PoisonError::into_inner).take();
                    show(tx, parts).await;
                }
                None => {
                    tx.fail(WireError::invalid("this node does not keep that blob (any more)"))
                        .await
                }
            }
        }
    }

    /// The gateway has it, or does not want it.
    pub(crate) fn forget(&self, blob: &BlobId) {
        let mut kept = self.lock();
        kept.blobs.remove(blob);
        kept.order.retain(|(_, other)| other != blob);
    }
}

#[async_trait]
impl Blobs for Shelf {
    fn offer(&self, blob: NewBlob) -> Result<BlobHandle, CallError> {
        let id: BlobId = uuid::Uuid::new_v4().into();
        let mut kept = self.lock();
        kept.insert(&id, Blob::File(Arc::new(blob.file), blob.size));
        Ok(BlobHandle {
            id,
            name: blob.name,
            size: blob.size,
            mime: blob.mime,
            kind: BlobKind::File,
        })
    }

    fn offer_stream(&self, stream: NewStream) -> BlobHandle {
        let id: BlobId = uuid::Uuid::new_v4().into();
        let parts = Arc::new(Mutex::new(Some(stream.parts)));
        self.lock().insert(&id, Blob::Stream(parts));
        BlobHandle {
            id,
            name: stream.name,
            size: 0,
            mime: stream.mime,
            kind: BlobKind::Stream,
        }
    }

    async fn take(&self, blob: &BlobHandle, into: File) -> Result<(), CallError> {
        if blob.size > limits::BLOB {
            return Err(CallError::new(
                "PAYLOAD_TOO_LARGE",
                format!("a blob has at most {} bytes", limits::BLOB),
            ));
        }
        let mut arrival = Arrival::new(into, blob.size);
        // The call's deadline ends this, whatever becomes of the links.
        loop {
            match self.take_once(blob, &mut arrival).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_lost() => {}
                Err(error) => return Err(CallError::new("BLOB_FAILED", error.to_string())),
            }
        }
    }
}

impl Shelf {
    async fn take_once(&self, blob: &BlobHandle, arrival: &mut Arrival) -> Result<(), ArrivalError> {
        let mut link = self.streams.subscribe();
        let held = link.wait_for(Option::is_some).await.ok().and_then(|held| held.clone());
        let Some((_, streams)) = held else {
            return std::future::pending().await; // the sender is ours
        };
        let head = StreamHead::Fetch {
            blob: blob.id.clone(),
            offset: arrival.offset(),
        };
        link.mark_unchanged();
        match streams.open(head).await {
            Ok(mut rx) => arrival.receive(&mut rx, |_| {}).await.map(drop),
            Err(_) => {
                // This link is over; whoever serves it is about to say so.
                let _ = link.changed().await;
                Err(ArrivalError::Lost)
            }
        }
    }
}

/// Passes a stream on until it ends or nobody wants more; with that its source ends.
async fn show(mut tx: StreamTx, parts: Option<Parts>) {
    let Some(mut parts) = parts else {
        return tx.fail(WireError::invalid("that stream was taken already")).await;
    };
    loop {
        let part = tokio::select! {
            () = tx.abandoned() => return,
            part = parts.recv() => part,
        };
        match part {
            Some(Ok(bytes)) => {
                if tx.send_key(bytes.into()).await.is_err() {
                    return;
                }
            }
            Some(Err(error)) => return tx.fail(WireError::unavailable(error.to_string())).await,
            None => return drop(tx.finish(Bytes::new()).await),
        }
    }
}

impl Kept {
    fn insert(&mut self, id: &BlobId, blob: Blob) {
        self.tidy();
        self.blobs.insert(id.clone(), blob);
        self.order.push_back((Instant::now(), id.clone()));
    }

    /// Makes room for one more: what is old goes, then the oldest.
    fn tidy(&mut self) {
        let now = Instant::now();
        while let Some((at, blob)) = self.order.front() {
            let is_old = now.saturating_duration_since(*at) >= limits::NODE_RESULT_AGE;
            if !is_old && self.order.len() < limits::NODE_RESULTS {
                return;
            }
            self.blobs.remove(blob);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(shelf: &Shelf) -> BlobId {
        let blob = NewBlob {
            file: tempfile::tempfile().expect("a file"),
            size: 0,
            name: "x".to_owned(),
            mime: "text/plain".to_owned(),
        };
        shelf.offer(blob).expect("room").id
    }

    #[test]
    fn a_blob_is_kept_until_it_is_forgotten_or_too_many_came_after_it() {
        let shelf = Shelf::new();
        let (first, second) = (offer(&shelf), offer(&shelf));
        shelf.forget(&second);
        assert!(shelf.lock().blobs.contains_key(&first) && !shelf.lock().blobs.contains_key(&second));
        for _ in 0..limits::NODE_RESULTS {
            offer(&shelf);
        }
        assert!(!shelf.lock().blobs.contains_key(&first));
        assert_eq!(shelf.lock().blobs.len(), limits::NODE_RESULTS);
        assert_eq!(shelf.lock().order.len(), limits::NODE_RESULTS);
    }
}
