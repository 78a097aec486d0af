//! `dir.list`.

use std::collections::BTreeMap;

use atoll_protocol::json::Json;
use cap_std::fs::DirEntry;
use serde::Deserialize;
use serde_json::{Value, json};

use super::roots::Roots;
use super::{Refusal, mime_of, ok, place};

/// Entries of one answer.
const ENTRIES: usize = 200;
/// Entries of one answer at most, whatever is asked for.
const MOST_ENTRIES: usize = 5_000;
/// Entries of one folder that are looked at. More: the first of the alphabet among these are shown, and the answer says that it
/// is not whole.
const LOOKED_AT: usize = 100_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params {
    path: String,
    page_token: Option<String>,
    max_entries: Option<f64>,
}

pub(super) fn list(roots: &Roots, params: &Params) -> Result<Json, Refusal> {
    let place = place::find(roots, &params.path, false)?;
    if !place.metadata()?.is_dir() {
        return Err(Refusal::new("IS_FILE", "path is not a directory"));
    }
    let read = place.dir.read_dir(place.relative());
    let entries: BTreeMap<String, DirEntry> = read
        .map_err(|error| place.refused(&error))?
        .take(LOOKED_AT)
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry))
        .collect();
    let offset = params
        .page_token
        .as_deref()
        .and_then(|token| token.parse().ok())
        .unwrap_or(0);
    let next = offset + page_size(params.max_entries);
    let page: Vec<Value> = entries
        .iter()
        .skip(offset)
        .take(next - offset)
        .map(|(name, entry)| row(&place.shown.join(name), name, entry))
        .collect();
    let is_cut = next < entries.len() || entries.len() == LOOKED_AT;
    let mut answer = json!({"ok": true, "path": place.shown, "entries": page, "truncated": is_cut});
    if next < entries.len() {
        answer["nextPageToken"] = json!(next.to_string());
    }
    ok(answer)
}

fn page_size(asked: Option<f64>) -> usize {
    match asked {
        // Saturates: a huge number is just many.
        Some(count) if count >= 1.0 => (count as usize).min(MOST_ENTRIES),
        Some(_) | None => ENTRIES,
    }
}

/// Of a link it says what the link is, not what it leads to.
fn row(path: &std::path::Path, name: &str, entry: &DirEntry) -> Value {
    let metadata = entry.metadata().ok();
    let is_dir = metadata.as_ref().is_some_and(cap_std::fs::Metadata::is_dir);
    let size = metadata
        .as_ref()
        .filter(|_| !is_dir)
        .map_or(0, cap_std::fs::Metadata::len);
    let mime = if is_dir { "inode/directory" } else { mime_of(name) };
    json!({
        "name": name, "path": path, "size": size, "mimeType": mime, "isDir": is_dir,
        "mtime": metadata.as_ref().map_or(0, place::mtime_ms),
    })
}
