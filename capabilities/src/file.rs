//! `file.fetch`, `file.write`, `file.stat` and `dir.list`: files of this device, in the folders that its owner opened and nowhere
//! else.
//!
//! Names, parameters and results are OpenClaw's (its plugin `file-transfer`); where whoever called can take blobs, content travels
//! as one. A refusal that belongs to the file system is a result with `ok: false`, as there.

mod content;
mod list;
mod place;
mod roots;
mod write;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Call, Capability, Description};
use roots::Roots;

/// The owner's folders, in the state folder.
pub const ROOTS_FILE: &str = "files.json";

/// A refusal of the file system, in the caller's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    fn result(self) -> Json {
        json!({"ok": false, "code": self.code, "message": self.message}).into()
    }
}

/// Files in the folders that the owner opened.
#[derive(Debug)]
pub struct Files {
    roots: Arc<Roots>,
}

impl Files {
    /// Under the owner's file in `state_dir`; without one nothing is open.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            roots: Arc::new(Roots::new(state_dir.join(ROOTS_FILE))),
        }
    }
}

#[async_trait]
impl Capability for Files {
    fn describe(&self) -> Description {
        const READING: [&str; 3] = ["file.fetch", "file.stat", "dir.list"];
        let mut description = Description {
            cap: "file",
            ..Description::default()
        };
        let closed = |why: &str| format!("{why}; open folders in {}", self.roots.path().display());
        let (reads, writes, why) = match self.roots.load() {
            Ok(roots) => (
                !roots.is_empty(),
                roots.iter().any(|root| root.write),
                "no folder is open".to_owned(),
            ),
            Err(error) => (false, false, error),
        };
        if reads {
            description.commands.extend(READING);
        } else {
            description.missing.extend(READING.map(|name| (name, closed(&why))));
        }
        if writes {
            description.commands.push("file.write");
        } else {
            description
                .missing
                .push(("file.write", closed("no folder is open for writing")));
        }
        description
    }

    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
        let roots = self.roots.clone();
        let result = match call.command.as_str() {
            "file.fetch" => content::fetch(roots, call).await?,
            "file.write" => write::write(roots, call).await?,
            "file.stat" => {
                let params: PathParams = read(call.params.as_ref())?;
                blocking(move || place::stat(&roots, &params.path)).await?
            }
            "dir.list" => {
                let params = read(call.params.as_ref())?;
                blocking(move || list::list(&roots, &params)).await?
            }
            other => return Err(invalid(format!("{other} is not a command of this capability"))),
        };
        Ok(Some(result.unwrap_or_else(Refusal::result)))
    }
}

#[derive(Debug, Deserialize)]
struct PathParams {
    path: String,
}

fn read<T: DeserializeOwned>(params: Option<&Json>) -> Result<T, CallError> {
    params
        .ok_or_else(|| invalid("path required"))?
        .read()
        .map_err(|error| invalid(error.to_string()))
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::new("INVALID_REQUEST", message)
}

/// Disk work off the event loop.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CallError> {
    let failed = |error: tokio::task::JoinError| CallError::new("UNAVAILABLE", format!("the disk failed: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

/// The type that a file's name promises; nothing is believed of it.
fn mime_of(name: &str) -> &'static str {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    let extension = extension.map(str::to_ascii_lowercase);
    match extension.as_deref().unwrap_or_default() {
        "txt" | "log" | "toml" | "ini" | "conf" | "rs" | "ts" | "js" | "sh" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "json" => "application/json",
        "yaml" | "yml" => "application/yaml",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        "mp3" => "audio/mpeg",
        "ogg" | "oga" => "audio/ogg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ => "application/octet-stream",
    }
}

fn ok(value: Value) -> Result<Json, Refusal> {
    Ok(value.into())
}

#[cfg(test)]
mod tests;
