//! Brings the blobs that a node's result names into the store, before anybody sees that result. Goes on over the node's next link
//! when one is lost.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use atoll_pairing::blob::{Arrival, ArrivalError};
use atoll_protocol::blob::{self, BlobHandle, BlobKind, FIELD};
use atoll_protocol::calls::Said;
use atoll_protocol::error::CallError;
use atoll_protocol::frame::{Frame, StreamHead};
use atoll_protocol::id::{BlobId, DeviceId};
use atoll_protocol::json::Json;
use atoll_protocol::scope::Role;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Bounds, Draft, Handle, Live, Media, MediaError, Way};
use crate::clock;
use crate::hub::{Hub, LinkId, Part};

/// Blobs of one result. More: the call fails.
const MOST: usize = 64;

/// How long the blobs of a call may take whose deadline a restart has forgotten.
pub(crate) const FETCH_AFTER_RESTART: Duration = Duration::from_secs(10 * 60);

/// Between two words about how far it is, bytes.
const PROGRESS: u64 = 1024 * 1024;

/// One call whose result has blobs.
#[derive(Debug)]
pub(crate) struct Bring<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) media: &'a Media,
    pub(crate) live: &'a Live,
    pub(crate) bounds: Bounds,
    pub(crate) node: DeviceId,
    /// When the caller stops waiting.
    pub(crate) deadline: Instant,
    /// Hears `{"blob":{"id","received","size"}}` now and then.
    pub(crate) progress: Option<&'a mpsc::Sender<Part>>,
    /// Calls it off.
    pub(crate) cancel: &'a CancellationToken,
}

impl Bring<'_> {
    /// Fetches every blob that `result` names and gives the result with the store's handles in the place of the node's.
    ///
    /// # Errors
    /// In the form that a node's errors have; the node may forget the blobs then as well.
    pub(crate) async fn all(&self, result: Json) -> Result<Json, CallError> {
        let wanted = blob::handles(&result);
        if wanted.is_empty() {
            return Ok(result);
        }
        if wanted.len() > MOST {
            return Err(failed(format!("a result names at most {MOST} blobs")));
        }
        let mut here = HashMap::new();
        for handle in &wanted {
            let stored = match handle.kind {
                BlobKind::Stream => self.name(handle)?,
                BlobKind::File => {
                    let fetched = self.in_time(handle).await;
                    self.forget(&handle.id).await;
                    fetched?.to_string()
                }
            };
            here.insert(handle.id.clone(), stored);
        }
        Ok(blob::rewrite(&result, |fields, handle| {
            if let Some(stored) = here.get(&handle.id) {
                let shown = json!({
                    "id": stored, "name": handle.name, "size": handle.size, "mime": handle.mime, "kind": handle.kind,
                });
                fields.insert(FIELD.to_owned(), shown);
            }
        }))
    }

    /// A stream is fetched when somebody watches it, and only over the link that named it.
    fn name(&self, handle: &BlobHandle) -> Result<String, CallError> {
        let live = self.hub.node(self.node);
        let streams = live.as_ref().and_then(|live| live.streams.clone());
        let streams = streams.ok_or_else(|| failed("the node has gone"))?;
        Ok(self.live.name(self.node, Way::Link(streams), handle, clock::instant()))
    }

    async fn in_time(&self, handle: &BlobHandle) -> Result<Handle, CallError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(CallError::new("CANCELLED", "the call was cancelled")),
            fetched = tokio::time::timeout_at(self.deadline.into(), self.fetch(handle)) => {
                fetched.unwrap_or_else(|_| Err(CallError::new("TIMEOUT", "the blob did not come before the deadline of the call")))
            }
        }
    }

    async fn fetch(&self, handle: &BlobHandle) -> Result<Handle, CallError> {
        let (media, size, bounds) = (self.media.clone(), handle.size, self.bounds);
        let begun = blocking(move || {
            let draft = media.begin(size, bounds)?;
            let file = draft.file()?;
            Ok((draft, file))
        });
        let (draft, file) = begun.await?;
        let mut arrival = Arrival::new(file, handle.size).durable();
        let mut link = None;
        let full = Full {
            draft: &draft,
            is_full: CancellationToken::new(),
        };
        let hash = loop {
            match self.fetch_once(handle, &mut arrival, &mut link, &full).await {
                Ok(hash) => break hash,
                Err(error) if error.is_lost() => {
                    tracing::info!(node = %self.node.short(), at = arrival.offset(), "a blob waits for its node to come back");
                }
                Err(error) => return Err(failed(error)),
            }
        };
        drop(arrival);
        let (name, mime) = (handle.name.clone(), handle.mime.clone());
        blocking(move || Draft::keep(draft, hash, &name, &mime)).await
    }

    /// Over one link: one that is not `link`, which is lost.
    async fn fetch_once(
        &self,
        handle: &BlobHandle,
        arrival: &mut Arrival,
        link: &mut Option<LinkId>,
        full: &Full<'_>,
    ) -> Result<[u8; 32], ArrivalError> {
        let live = self.hub.streaming_anew(self.node, *link).await;
        *link = Some(live.link);
        let streams = live.streams.as_ref().ok_or(ArrivalError::Lost)?;
        let head = StreamHead::Fetch {
            blob: handle.id.clone(),
            offset: arrival.offset(),
        };
        let mut rx = streams.open(head).await.map_err(|_| ArrivalError::Lost)?;
        let mut told = arrival.offset();
        let receiving = arrival.receive(&mut rx, |received| {
            full.arrived(received);
            if received >= told + PROGRESS {
                told = received;
                self.tell(handle, received);
            }
        });
        tokio::select! {
            biased;
            received = receiving => received,
            () = full.is_full.cancelled() => Err(ArrivalError::File(io::Error::other(MediaError::Full { size: handle.size }))),
        }
    }

    fn tell(&self, handle: &BlobHandle, received: u64) {
        if let Some(progress) = self.progress {
            let word = json!({FIELD: {"id": handle.id, "received": received, "size": handle.size}});
            // Whoever is behind misses some; the next one says more.
            let said = Said::Words(word.to_string());
            let _ = progress.try_send(Part { missed: 0, said });
        }
    }

    /// The node need not keep it any longer. One that is away keeps it until it is too old.
    async fn forget(&self, blob: &BlobId) {
        let frame = Frame::BlobDone(blob.clone());
        self.hub.to_device(self.node, Role::Node, frame).await;
    }
}

/// Whether there is still room for what comes of a blob.
struct Full<'a> {
    draft: &'a Draft,
    is_full: CancellationToken,
}

impl Full<'_> {
    fn arrived(&self, bytes: u64) {
        if self.draft.arrived(bytes).is_err() {
            self.is_full.cancel();
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MediaError> + Send + 'static,
) -> Result<T, CallError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: impl std::fmt::Display) -> CallError {
    CallError::new(
        "BLOB_FAILED",
        format!("the bytes of the result did not arrive: {error}"),
    )
}
