//! The folders that the owner opened. Read afresh for every call; a file that cannot be trusted opens nothing.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::owned::read_trusted;

/// One open folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    /// Absolute.
    pub(super) path: PathBuf,
    /// Files in it may be made and replaced.
    #[serde(default)]
    pub(super) write: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    roots: Vec<Root>,
}

/// The owner's file.
#[derive(Debug)]
pub(super) struct Roots {
    path: PathBuf,
}

impl Roots {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folders in force; none without a file. Blocks on the disk.
    ///
    /// # Errors
    /// A sentence with the path, when the file cannot be trusted.
    pub(super) fn load(&self) -> Result<Vec<Root>, String> {
        let broken = |why: String| format!("{} cannot be used, so no folder is open: {why}", self.path.display());
        let text = match read_trusted(&self.path) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(Vec::new()),
            Err(error) => return Err(broken(error.to_string())),
        };
        let document: Document = serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
        match document.roots.iter().find(|root| !root.path.is_absolute()) {
            Some(root) => Err(broken(format!("{} is not an absolute path", root.path.display()))),
            None => Ok(document.roots),
        }
    }
}
