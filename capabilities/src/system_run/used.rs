//! Which approvals have been used: each starts one command, once, also across restarts. Owns the file in the state folder.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// Rewrites the file without what has expired once it has this many lines.
const PRUNE_AT: usize = 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    approval: String,
    expires_at_ms: u64,
}

/// The approvals that were used.
#[derive(Debug)]
pub(crate) struct Used {
    path: PathBuf,
    known: Mutex<Option<HashMap<String, u64>>>,
}

/// Why an approval cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// It was used before.
    #[error("this approval was used already; ask for a new one")]
    Spent,
    /// Without a durable mark it could be used twice.
    #[error("the use of this approval cannot be recorded in {path}: {error}")]
    Storage {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
}

impl Used {
    /// Reads the file when the first approval comes.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            known: Mutex::new(None),
        }
    }

    /// Marks an approval as used, durably, unless it is. Blocks on the disk.
    pub(crate) fn spend(&self, approval: &str, expires_at_ms: u64, now_ms: u64) -> Result<(), Unusable> {
        let storage = |error| Unusable::Storage {
            path: self.path.clone(),
            error,
        };
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = match &mut *known {
            Some(known) => known,
            none => none.insert(load(&self.path).map_err(storage)?),
        };
        if known.contains_key(approval) {
            return Err(Unusable::Spent);
        }
        if known.len() >= PRUNE_AT {
            known.retain(|_, expires| *expires > now_ms);
            rewrite(&self.path, known).map_err(storage)?;
        }
        append(&self.path, approval, expires_at_ms).map_err(storage)?;
        known.insert(approval.to_owned(), expires_at_ms);
        Ok(())
    }
}

fn load(path: &Path) -> io::Result<HashMap<String, u64>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        text => text?,
    };
    // A crash can tear the last line only, and its command was never started.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    Ok(lines.map(|line| (line.approval, line.expires_at_ms)).collect())
}

fn encode(approval: &str, expires_at_ms: u64) -> io::Result<String> {
    let line = Line {
        approval: approval.to_owned(),
        expires_at_ms,
    };
    // The line break comes first too: a torn line before it cannot swallow this one.
    Ok(format!("\n{}\n", serde_json::to_string(&line)?))
}

fn append(path: &Path, approval: &str, expires_at_ms: u64) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file = private(OpenOptions::new().create(true).append(true)).open(path)?;
    file.write_all(encode(approval, expires_at_ms)?.as_bytes())?;
    file.sync_data()?;
    if is_new { sync_folder(path) } else { Ok(()) }
}

fn rewrite(path: &Path, known: &HashMap<String, u64>) -> io::Result<()> {
    let mut text = String::new();
    for (approval, expires) in known {
        text.push_str(&encode(approval, *expires)?);
    }
    super::used::replace(path, &text)
}

/// Replaces a file in one step that survives a crash; only the owner can read it.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4()));
    let written = private(OpenOptions::new().create_new(true).write(true))
        .open(&fresh)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    let done = written.and_then(|()| std::fs::rename(&fresh, path));
    if done.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    done.and_then(|()| sync_folder(path))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_is_used_once_also_after_a_restart() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("used");
        let used = Used::new(path.clone());
        used.spend("a", 10, 0).expect("first use");
        assert!(matches!(used.spend("a", 10, 0), Err(Unusable::Spent)));
        let restarted = Used::new(path.clone());
        assert!(matches!(restarted.spend("a", 10, 0), Err(Unusable::Spent)));
        restarted.spend("b", 10, 0).expect("another one");
    }

    #[test]
    fn a_torn_last_line_does_not_hide_the_next() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("used");
        std::fs::write(&path, "\n{\"approval\":\"x\",\"exp").expect("written");
        Used::new(path.clone()).spend("a", 10, 0).expect("first use");
        assert!(matches!(Used::new(path).spend("a", 10, 0), Err(Unusable::Spent)));
    }

    #[test]
    fn what_expired_is_forgotten_when_the_file_grows() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("used");
        let lines: String = (0..PRUNE_AT)
            .map(|n| encode(&n.to_string(), n as u64).expect("encodes"))
            .collect();
        std::fs::write(&path, lines).expect("written");
        Used::new(path.clone()).spend("new", 5000, 1000).expect("first use");
        assert_eq!(load(&path).expect("loads").len(), PRUNE_AT - 1000);
        assert!(matches!(
            Used::new(path).spend("1020", 5000, 1000),
            Err(Unusable::Spent)
        ));
    }

    #[test]
    fn without_a_place_to_record_it_an_approval_is_not_used() {
        let used = Used::new("/nonexistent/folder/used".into());
        assert!(matches!(used.spend("a", 10, 0), Err(Unusable::Storage { .. })));
    }
}
