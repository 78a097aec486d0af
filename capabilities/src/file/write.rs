//! `file.write`: makes or replaces a file at once or not at all. The bytes come in the parameters, or as a blob beside them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use atoll_protocol::blob::{BlobHandle, FIELD};
use atoll_protocol::calls::Said;
use atoll_protocol::error::CallError;
use atoll_protocol::hex;
use atoll_protocol::json::Json;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cap_std::fs::{Dir, File, OpenOptions};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::content::MOST_INLINE;
use super::place::Place;
use super::roots::Roots;
use super::{Refusal, blocking, invalid, ok, place, read};
use crate::Call;

/// How often it is told how much of a blob has come.
const TOLD: Duration = Duration::from_millis(250);

/// As others take it: padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    path: String,
    content_base64: Option<String>,
    blob: Option<BlobHandle>,
    #[serde(default)]
    overwrite: bool,
    #[serde(default)]
    create_parents: bool,
    expected_sha256: Option<String>,
}

/// A new file beside its target, gone again unless it takes its place.
struct Draft {
    folder: Dir,
    name: PathBuf,
    temporary: PathBuf,
    place: Place,
    overwrite: bool,
}

pub(super) async fn write(roots: Arc<Roots>, call: Call) -> Result<Result<Json, Refusal>, CallError> {
    let params: Params = read(call.params.as_ref())?;
    let expected = params.expected_sha256.clone();
    if let Some(blob) = params.blob.clone() {
        let blobs = call
            .blobs
            .ok_or_else(|| invalid("blobs do not travel on this link; send contentBase64"))?;
        let drafted = blocking(move || Draft::begin(&roots, &params)).await?;
        let (draft, file) = match drafted {
            Ok(drafted) => drafted,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let handle = match file.try_clone() {
            Ok(handle) => handle.into_std(),
            Err(error) => return Ok(Err(draft.refused(&error))),
        };
        heard(blobs.take(&blob, handle), &call.progress, &blob, &file).await?;
        return blocking(move || draft.finish(file, expected.as_deref())).await;
    }
    blocking(move || inline(&roots, &params)).await
}

/// Does it, and says now and then how much of the blob has come.
async fn heard<T>(taking: impl Future<Output = T>, progress: &mpsc::Sender<Said>, blob: &BlobHandle, file: &File) -> T {
    let mut taking = pin!(taking);
    loop {
        if let Ok(done) = timeout(TOLD, &mut taking).await {
            return done;
        }
        let received = file.metadata().map_or(0, |data| data.len());
        let word = json!({FIELD: {"id": blob.id, "received": received, "size": blob.size}});
        // Whoever is behind misses some; the next one says more.
        let _ = progress.try_send(Said::Words(word.to_string()));
    }
}

fn inline(roots: &Roots, params: &Params) -> Result<Json, Refusal> {
    let Some(text) = &params.content_base64 else {
        return Err(Refusal::new("INVALID_BASE64", "contentBase64 is required"));
    };
    let text = text.replace('-', "+").replace('_', "/");
    let bytes = BASE64.decode(text.trim_end_matches('='));
    let bytes = bytes.map_err(|_| Refusal::new("INVALID_BASE64", "contentBase64 is not valid base64"))?;
    if bytes.len() as u64 > MOST_INLINE {
        return Err(Refusal::new(
            "FILE_TOO_LARGE",
            format!("{} bytes; contentBase64 carries {MOST_INLINE} at most", bytes.len()),
        ));
    }
    let (draft, mut file) = Draft::begin(roots, params)?;
    file.write_all(&bytes).map_err(|error| draft.refused(&error))?;
    draft.finish(file, params.expected_sha256.as_deref())
}

impl Draft {
    fn begin(roots: &Roots, params: &Params) -> Result<(Self, File), Refusal> {
        let place = place::find(roots, &params.path, true)?;
        let Some(name) = place.inside.file_name().map(PathBuf::from) else {
            return Err(Refusal::new("IS_DIRECTORY", "path is an open folder itself"));
        };
        let parent = place.inside.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        if params.create_parents {
            place
                .dir
                .create_dir_all(parent)
                .map_err(|error| write_error(&place, &error))?;
        }
        let folder = match place.dir.open_dir(parent) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Refusal::new(
                    "PARENT_NOT_FOUND",
                    "the folder does not exist; createParents makes it",
                ));
            }
            Err(error) => return Err(place.refused(&error)),
        };
        check_target(&folder, &name, params.overwrite)?;
        let temporary = PathBuf::from(format!(".{}.tmp", uuid::Uuid::new_v4()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = folder.open_with(&temporary, &options);
        let file = file.map_err(|error| write_error(&place, &error))?;
        let draft = Self {
            folder,
            name,
            temporary,
            place,
            overwrite: params.overwrite,
        };
        Ok((draft, file))
    }

    /// Checks what was written, then lets it take its place.
    fn finish(self, mut file: File, expected: Option<&str>) -> Result<Json, Refusal> {
        let (size, sha256) = digest(&mut file).map_err(|error| self.refused(&error))?;
        if expected.is_some_and(|expected| !expected.eq_ignore_ascii_case(&sha256)) {
            return Err(Refusal::new(
                "INTEGRITY_FAILURE",
                format!("sha256 is {sha256}, which is not what was expected"),
            ));
        }
        file.sync_all().map_err(|error| self.refused(&error))?;
        let overwritten = check_target(&self.folder, &self.name, self.overwrite)?;
        let renamed = self.folder.rename(&self.temporary, &self.folder, &self.name);
        renamed.map_err(|error| self.refused(&error))?;
        ok(json!({
            "ok": true, "path": self.place.shown, "size": size, "sha256": sha256, "overwritten": overwritten,
        }))
    }

    fn refused(&self, error: &io::Error) -> Refusal {
        write_error(&self.place, error)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After the rename there is nothing of this name.
        let _ = self.folder.remove_file(&self.temporary);
    }
}

/// Whether there is a file that would be replaced; a link is never written through.
fn check_target(folder: &Dir, name: &Path, overwrite: bool) -> Result<bool, Refusal> {
    let Ok(metadata) = folder.symlink_metadata(name) else {
        return Ok(false);
    };
    if metadata.is_symlink() {
        return Err(Refusal::new(
            "SYMLINK_TARGET_DENIED",
            "path is a link, which is not written through",
        ));
    }
    if !metadata.is_file() {
        return Err(Refusal::new("IS_DIRECTORY", "path is not a regular file"));
    }
    if !overwrite {
        return Err(Refusal::new(
            "EXISTS_NO_OVERWRITE",
            "the file exists and overwrite is false",
        ));
    }
    Ok(true)
}

fn digest(file: &mut File) -> io::Result<(u64, String)> {
    use std::io::{Read, Seek};
    file.rewind()?;
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 64 * 1024]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, hex::encode(&hasher.finalize())));
        }
        size += read as u64;
        hasher.update(&buffer[..read]);
    }
}

fn write_error(place: &Place, error: &io::Error) -> Refusal {
    let refusal = place.refused(error);
    if refusal.code == "READ_ERROR" {
        return Refusal::new("WRITE_ERROR", refusal.message);
    }
    refusal
}
