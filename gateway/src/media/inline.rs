//! Blobs as base64, for those who know nothing else: OpenClaw's clients and nodes.

use std::io::Read;

use atoll_protocol::blob::{self, BlobKind, FIELD};
use atoll_protocol::error::WireError;
use atoll_protocol::hex;
use atoll_protocol::json::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Bounds, Handle, Media, MediaError};

/// What base64 carries in one result or in one call, bytes: OpenClaw's own limit, which its frames have room for.
pub(crate) const MOST: u64 = 16 * 1024 * 1024;

/// Parameters with more base64 than this travel to our own nodes as a blob, bytes of text.
const HEAVY: usize = 256 * 1024;

/// A result with `base64` and `sha256` in the place of each blob. Waits for the disk.
///
/// # Errors
/// The blobs are too large for that, or gone.
pub(crate) fn as_base64(media: &Media, result: &Json) -> Result<Json, WireError> {
    let handles = blob::handles(result);
    if handles.iter().all(|handle| handle.kind == BlobKind::Stream) {
        return Ok(result.clone());
    }
    let size = handles
        .iter()
        .fold(0_u64, |sum, handle| sum.saturating_add(handle.size));
    if size > MOST {
        return Err(too_large(size));
    }
    let mut problem = None;
    let inlined = blob::rewrite(result, |fields, handle| {
        let read = handle.id.as_str().parse().ok().map(|stored| read(media, stored));
        match read {
            Some(Ok(bytes)) => {
                fields.shift_remove(FIELD);
                let sha256 = hex::encode(&Sha256::digest(&bytes));
                fields.insert("base64".to_owned(), json!(STANDARD.encode(&bytes)));
                fields.insert("sha256".to_owned(), json!(sha256));
            }
            Some(Err(error)) => problem = Some(error),
            // Not one of the store: it stays what it is.
            None => {}
        }
    });
    problem.map_or(Ok(inlined), Err)
}

fn read(media: &Media, handle: Handle) -> Result<Vec<u8>, WireError> {
    let gone = |error: &dyn std::fmt::Display| WireError::unavailable(format!("the blob cannot be read: {error}"));
    let reading = media.read(handle).map_err(|error| gone(&error))?;
    let reading = reading.ok_or_else(|| gone(&"it was deleted meanwhile"))?;
    if reading.facts.size > MOST {
        return Err(too_large(reading.facts.size));
    }
    let mut bytes = Vec::new();
    (&*reading.file)
        .take(MOST)
        .read_to_end(&mut bytes)
        .map_err(|error| gone(&error))?;
    Ok(bytes)
}

fn too_large(size: u64) -> WireError {
    let details = json!({"code": "PAYLOAD_TOO_LARGE", "size": size, "limit": MOST});
    WireError::unavailable(format!(
        "PAYLOAD_TOO_LARGE: {size} bytes do not fit into base64 ({MOST} at most); ask with \"blobs\": \"handles\" and fetch /media/<id>"
    ))
    .with_details(&details)
}

/// Whether parameters may have so much base64 that [`lift`] moves it.
pub(crate) fn is_heavy(params: &Json) -> bool {
    params.as_str().len() >= HEAVY
}

/// Moves much `contentBase64` of parameters into the store, since it would not fit into a native frame. Gives the parameters that
/// remain and the blob; none when there is little or nothing to move. Waits for the disk.
///
/// # Errors
/// It is not base64, or cannot be stored.
pub(crate) fn lift(media: &Media, bounds: Bounds, params: &Json) -> Result<Option<(Value, Handle)>, WireError> {
    const CONTENT: &str = "contentBase64";
    if !is_heavy(params) {
        return Ok(None);
    }
    let mut tree = params.tree();
    let Some(Value::String(text)) = tree.as_object_mut().and_then(|fields| fields.shift_remove(CONTENT)) else {
        return Ok(None);
    };
    let bytes = STANDARD
        .decode(text.as_bytes())
        .map_err(|_| WireError::invalid("contentBase64 is not valid base64"))?;
    let handle = store(media, bounds, &bytes).map_err(|error| WireError::unavailable(error.to_string()))?;
    Ok(Some((tree, handle)))
}

fn store(media: &Media, bounds: Bounds, bytes: &[u8]) -> Result<Handle, MediaError> {
    use std::io::Write;
    let draft = media.begin(bytes.len() as u64, bounds)?;
    draft.arrived(bytes.len() as u64)?;
    draft.file()?.write_all(bytes)?;
    draft.keep(atoll_pairing::blob::hash(bytes), "", "application/octet-stream")
}
