//! The folders that the owner opened. Read afresh for every call; a file that cannot be trusted opens nothing.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// More than any owner writes. A larger file opens nothing.
const FILE_BYTES: u64 = 256 * 1024;

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

/// The text of a file that nobody else can write; none when there is no file.
fn read_trusted(path: &Path) -> io::Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = file.metadata()?;
        if metadata.mode() & 0o022 != 0 {
            return Err(io::Error::other("others can write to it; run chmod go-w on it"));
        }
    }
    let mut text = String::new();
    file.take(FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    Ok(Some(text))
}
