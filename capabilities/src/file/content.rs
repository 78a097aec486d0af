//! `file.fetch`: the content of a file, as a blob where the caller takes blobs, else as base64.

use std::io::Read;
use std::sync::Arc;

use atoll_protocol::blob::FIELD;
use atoll_protocol::error::CallError;
use atoll_protocol::hex;
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cap_std::fs::File;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::place::Place;
use super::roots::Roots;
use super::{Refusal, blocking, mime_of, ok, place, read};
use crate::Call;
use crate::blob::NewBlob;

/// What a caller takes who does not say, bytes.
const USUAL: u64 = 8 * 1024 * 1024;
/// What base64 carries at most, bytes.
pub(super) const MOST_INLINE: u64 = 16 * 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    path: String,
    max_bytes: Option<f64>,
    #[serde(default)]
    preflight_only: bool,
}

pub(super) async fn fetch(roots: Arc<Roots>, call: Call) -> Result<Result<Json, Refusal>, CallError> {
    let params: Params = read(call.params.as_ref())?;
    let most = if call.blobs.is_some() {
        limits::BLOB
    } else {
        MOST_INLINE
    };
    let limit = match params.max_bytes {
        // Saturates: a huge number is just much.
        Some(bytes) if bytes >= 1.0 => (bytes as u64).min(most),
        Some(_) | None => USUAL,
    };
    let opened = blocking(move || open(&roots, &params, limit)).await?;
    let (place, file, size) = match opened {
        Ok(Opened::File(place, file, size)) => (place, file, size),
        Ok(Opened::Checked(answer)) => return Ok(Ok(answer)),
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Some(blobs) = call.blobs else {
        return blocking(move || inline(&place, file, limit)).await;
    };
    let name = place.name();
    let mime = mime_of(&name);
    let blob = blobs.offer(NewBlob {
        file: file.into_std(),
        size,
        mime: mime.to_owned(),
        name,
    })?;
    Ok(ok(
        json!({"ok": true, "path": place.shown, "size": size, "mimeType": mime, FIELD: blob}),
    ))
}

enum Opened {
    File(Place, File, u64),
    Checked(Json),
}

fn open(roots: &Roots, params: &Params, limit: u64) -> Result<Opened, Refusal> {
    let place = place::find(roots, &params.path, false)?;
    let (file, size) = place.open_file()?;
    if size > limit {
        return Err(too_large(size, limit));
    }
    if params.preflight_only {
        let answer = json!({
            "ok": true, "path": place.shown, "size": size, "mimeType": "", "base64": "", "sha256": "", "preflightOnly": true,
        });
        return Ok(Opened::Checked(answer.into()));
    }
    Ok(Opened::File(place, file, size))
}

fn inline(place: &Place, file: File, limit: u64) -> Result<Json, Refusal> {
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    let size = read.map_err(|error| place.refused(&error))? as u64;
    if size > limit {
        return Err(too_large(size, limit));
    }
    let sha256 = hex::encode(&Sha256::digest(&bytes));
    ok(json!({
        "ok": true, "path": place.shown, "size": size, "mimeType": mime_of(&place.name()),
        "base64": STANDARD.encode(&bytes), "sha256": sha256,
    }))
}

fn too_large(size: u64, limit: u64) -> Refusal {
    Refusal::new(
        "FILE_TOO_LARGE",
        format!("the file has {size} bytes and maxBytes allows {limit}"),
    )
}
