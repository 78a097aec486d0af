//! The bytes beside a call: those that its parameters name are opened to its node for as long as it runs, those that its result
//! names are in the store before anybody sees it.

use std::time::Instant;

use atoll_pairing::proven::Language;
use atoll_protocol::blob::{self, BlobHandle, BlobKind, FIELD};
use atoll_protocol::calls::Failure;
use atoll_protocol::error::{CallError, WireError};
use atoll_protocol::id::DeviceId;
use atoll_protocol::json::Json;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{CallRefused, Ring};
use crate::clock;
use crate::hub::Part;
use crate::media::{self, Bounds, Bring, Handle, Media, MediaError, Offer, Reading};

/// Streams that one result of a node of the dialect may name; it has one camera, or a few.
const STREAMS: usize = 8;

/// What a call takes along.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) params: Json,
    /// They end with the call.
    _offers: Vec<Offer>,
}

/// Whether parameters name blobs, or are so large that they travel as one. Nearly none do.
pub(super) fn is_laden(params: &Json) -> bool {
    !blob::handles(params).is_empty() || media::is_heavy(params)
}

/// Whether a result names blobs, which are still with its node.
pub(super) fn names_blobs(result: &Json) -> bool {
    !blob::handles(result).is_empty()
}

impl Ring {
    fn bounds(&self) -> Bounds {
        self.config.current().media.bounds()
    }

    /// Gets laden parameters ready for a node that speaks this language.
    pub(super) async fn load(&self, node: DeviceId, language: Language, params: Json) -> Result<Load, CallRefused> {
        let (store, offers, bounds) = (self.media.clone(), self.offers.clone(), self.bounds());
        let loading = tokio::task::spawn_blocking(move || match language {
            Language::Native => open_blobs(&store, bounds, params, |reading| offers.offer(node, reading)),
            Language::Dialect => written_out(&store, params).map(|params| (params, Vec::new())),
        });
        let loaded = loading
            .await
            .map_err(|error| WireError::unavailable(error.to_string()))
            .flatten();
        let (params, offers) = loaded.map_err(CallRefused::Denied)?;
        Ok(Load {
            params,
            _offers: offers,
        })
    }

    /// A result that names blobs, with the store's handles in the place of the node's.
    pub(super) async fn unload(
        &self,
        node: DeviceId,
        result: Json,
        deadline: Instant,
        progress: Option<&mpsc::Sender<Part>>,
        cancel: &CancellationToken,
    ) -> Result<Option<Json>, Failure> {
        match self.hub.node(node).map(|live| live.language) {
            Some(Language::Dialect) => return Ok(Some(self.name_streams(node, &result))),
            Some(Language::Native) | None => {}
        }
        let bring = Bring {
            hub: &self.hub,
            media: &self.media,
            live: &self.live,
            bounds: self.bounds(),
            node,
            deadline,
            progress,
            cancel,
        };
        bring.all(result).await.map(Some).map_err(Failure::Node)
    }
}

impl Ring {
    /// A result for somebody who works with handles: its base64 is in the store.
    pub(super) async fn unpack(&self, result: Json) -> Result<Option<Json>, Failure> {
        let (store, bounds) = (self.media.clone(), self.bounds());
        let unpacking = tokio::task::spawn_blocking(move || media::unpacked(&store, bounds, &result));
        let unpacked = unpacking.await.unwrap_or_else(|error| Err(error.to_string()));
        let failed = |error| {
            CallError::new(
                "BLOB_FAILED",
                format!("the bytes of the result cannot be kept: {error}"),
            )
        };
        unpacked.map(Some).map_err(|error| Failure::Node(failed(error)))
    }

    /// A result of a node of the dialect: its streams by the names that they are watched under. It has no other blobs.
    fn name_streams(&self, node: DeviceId, result: &Json) -> Json {
        let mut left = STREAMS;
        blob::rewrite(result, |fields, handle| {
            if handle.kind == BlobKind::Stream && left > 0 {
                left -= 1;
                let way = media::Way::Told(self.hub.clone());
                let named = self.live.name(node, way, handle, clock::instant());
                let (name, mime, kind) = (&handle.name, &handle.mime, handle.kind);
                fields.insert(
                    FIELD.to_owned(),
                    json!({"id": named, "name": name, "size": 0, "mime": mime, "kind": kind}),
                );
            }
        })
    }
}

/// Our own nodes fetch what the parameters name.
fn open_blobs(
    store: &Media,
    bounds: Bounds,
    params: Json,
    offer: impl Fn(Reading) -> Offer,
) -> Result<(Json, Vec<Offer>), WireError> {
    if let Some((mut rest, handle)) = media::lift(store, bounds, &params)? {
        let offered = offer(read(store, handle)?);
        rest[FIELD] = json!(offered.handle);
        return Ok((rest.into(), vec![offered]));
    }
    let mut offers = Vec::new();
    let mut problem = None;
    if blob::handles(&params).is_empty() {
        return Ok((params, offers));
    }
    let rewritten = blob::rewrite(&params, |fields, handle| match named(store, handle) {
        Ok(reading) => {
            let offered = offer(reading);
            fields.insert(FIELD.to_owned(), json!(offered.handle));
            offers.push(offered);
        }
        Err(error) => problem = Some(error),
    });
    problem.map_or(Ok((rewritten, offers)), Err)
}

/// A node of the dialect gets base64 where it knows it, and an error where that is too much.
fn written_out(store: &Media, params: Json) -> Result<Json, WireError> {
    if blob::handles(&params).is_empty() {
        return Ok(params);
    }
    let inlined = media::as_base64(store, &params)?;
    let mut tree = inlined.tree();
    if let Some(fields) = tree.as_object_mut()
        && let Some(Value::String(text)) = fields.shift_remove("base64")
    {
        fields.shift_remove("sha256");
        fields.insert("contentBase64".to_owned(), Value::String(text));
    }
    Ok(tree.into())
}

fn named(store: &Media, handle: &BlobHandle) -> Result<Reading, WireError> {
    let stored = handle.id.as_str().parse();
    let stored = stored.map_err(|_| WireError::invalid(format!("{} is no media handle", handle.id)))?;
    read(store, stored)
}

fn read(store: &Media, handle: Handle) -> Result<Reading, WireError> {
    match store.read(handle) {
        Ok(Some(reading)) => Ok(reading),
        Ok(None) => Err(WireError::invalid(format!(
            "there is no blob {handle} (any more); upload it first"
        ))),
        Err(error) => Err(WireError::unavailable(MediaError::Io(error).to_string())),
    }
}
