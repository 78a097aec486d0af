//! Bytes on their way into a result: as a blob where the caller takes blobs, else as base64.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

use atoll_protocol::blob::FIELD;
use atoll_protocol::error::CallError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Subject;
use crate::blob::{Blobs, NewBlob};

/// What base64 carries at most, bytes: OpenClaw's own limit.
const MOST_INLINE: u64 = 16 * 1024 * 1024;

/// What a result is about.
#[derive(Debug)]
pub(crate) struct Content {
    file: File,
    size: u64,
}

impl Content {
    /// Waits for the disk.
    pub(super) fn of_file(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }

    /// In a file that nobody else sees.
    pub(crate) async fn of_bytes(subject: Subject, bytes: Vec<u8>) -> Result<Self, CallError> {
        blocking(subject, move || {
            let mut file = tempfile::tempfile()?;
            file.write_all(&bytes)?;
            Self::of_file(file)
        })
        .await
    }
}

/// Puts it into a result, named for people and with its media type.
pub(crate) async fn carry(
    subject: Subject,
    blobs: Option<Arc<dyn Blobs>>,
    content: Content,
    (name, mime): (String, String),
    mut result: Value,
) -> Result<Value, CallError> {
    let Content { mut file, size } = content;
    if let Some(blobs) = blobs {
        let blob = NewBlob { file, size, name, mime };
        result[FIELD] = json!(blobs.offer(blob)?);
        return Ok(result);
    }
    if size > MOST_INLINE {
        let message = format!(
            "{size} bytes do not fit into base64 ({MOST_INLINE} at most); ask for less time or a smaller maxWidth"
        );
        return Err(CallError::new("PAYLOAD_TOO_LARGE", message));
    }
    let text = blocking(subject, move || {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(STANDARD.encode(bytes))
    });
    result["base64"] = json!(text.await?);
    Ok(result)
}

/// Disk work off the event loop.
pub(super) async fn blocking<T: Send + 'static>(
    subject: Subject,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, CallError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    let why = |error| subject.unavailable(format!("the picture found no room on this device: {error}"));
    done.flatten().map_err(why)
}
