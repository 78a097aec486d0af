//! Questions as files in the state folder, so that another terminal of the device can answer them. A question is `<id>.json`; whoever answers
//! renames it to `<id>.yes` or `<id>.no`, and the daemon takes it down by removing it: of all these only one can succeed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::Question;
use crate::rules::folder::FolderWatch;
use crate::state::{StateError, create_private, replace, unix_ms};

/// What answers given here are called.
pub(crate) const NAME: &str = "atoll-node answer";

/// Letters of ids: none that look alike.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    path: PathBuf,
}

/// A question as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Posted {
    pub(crate) id: String,
    pub(crate) command: String,
    pub(crate) about: String,
    pub(crate) gateway: String,
    /// Unix milliseconds.
    pub(crate) asked_at_ms: u64,
    /// Unix milliseconds; then it counts as no.
    pub(crate) expires_at_ms: u64,
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// It is over, or was never asked.
    #[error("no question {id} waits (any more); `atoll-node asks` shows those that do")]
    Over {
        /// What was named.
        id: String,
    },
    /// The file system said no.
    #[error("cannot answer {id}: {source}")]
    Io {
        /// What was named.
        id: String,
        /// Why not.
        source: io::Error,
    },
}

impl Board {
    /// In `state_dir`.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("asks"),
        }
    }

    /// Takes down whatever a daemon left that was killed. Only for whoever holds the lock of the folder.
    pub(crate) fn clear(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
    }

    /// Puts a question up.
    pub(super) fn post(&self, question: &Question) -> Result<Post, StateError> {
        create_private(&self.path).map_err(|source| StateError::Io {
            action: "create",
            path: self.path.clone(),
            source,
        })?;
        let now = unix_ms();
        let posted = Posted {
            id: question.id.clone(),
            command: question.command.clone(),
            about: question.about.clone(),
            gateway: question.gateway.clone(),
            asked_at_ms: now,
            expires_at_ms: now + u64::try_from(question.patience.as_millis()).unwrap_or(u64::MAX),
        };
        replace(&self.file(&question.id, "json"), &crate::state::json_text(&posted))?;
        Ok(Post {
            board: self.clone(),
            id: question.id.clone(),
            is_down: AtomicBool::new(false),
        })
    }

    /// The questions that wait, oldest first.
    pub(crate) fn waiting(&self) -> Vec<Posted> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let texts = entries
            .filter(|entry| entry.path().extension().is_some_and(|end| end == "json"))
            .filter_map(|entry| fs::read_to_string(entry.path()).ok());
        let mut found: Vec<Posted> = texts.filter_map(|text| serde_json::from_str(&text).ok()).collect();
        found.retain(|posted| posted.expires_at_ms > unix_ms());
        found.sort_by_key(|posted| posted.asked_at_ms);
        found
    }

    /// Answers a question, if nobody has and its time is not over.
    ///
    /// # Errors
    /// See [`AnswerError`].
    pub(crate) fn answer(&self, id: &str, yes: bool) -> Result<Posted, AnswerError> {
        let over = || AnswerError::Over { id: id.to_owned() };
        let posted = self
            .waiting()
            .into_iter()
            .find(|posted| posted.id == id)
            .ok_or_else(over)?;
        let end = if yes { "yes" } else { "no" };
        match fs::rename(self.file(&posted.id, "json"), self.file(&posted.id, end)) {
            Ok(()) => Ok(posted),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(over()),
            Err(source) => Err(AnswerError::Io {
                id: id.to_owned(),
                source,
            }),
        }
    }

    fn file(&self, id: &str, end: &str) -> PathBuf {
        self.path.join(format!("{id}.{end}"))
    }
}

/// A question that is up; it goes down with this.
#[derive(Debug)]
pub(super) struct Post {
    board: Board,
    id: String,
    is_down: AtomicBool,
}

impl Post {
    /// Resolves when somebody answers.
    pub(super) async fn answered(&self) -> bool {
        let mut watch = FolderWatch::new(&self.board.path);
        loop {
            if let Some(said) = self.said() {
                return said;
            }
            watch.changed().await;
        }
    }

    /// Nobody can answer from now on. What somebody said before, if anybody did.
    pub(super) fn take_down(&self) -> Option<bool> {
        self.is_down.store(true, Ordering::Relaxed);
        let removed = fs::remove_file(self.board.file(&self.id, "json"));
        let said = if removed.is_err() { self.said() } else { None };
        for end in ["yes", "no"] {
            let _ = fs::remove_file(self.board.file(&self.id, end));
        }
        said
    }

    fn said(&self) -> Option<bool> {
        let is_there = |end: &str| self.board.file(&self.id, end).exists();
        [(true, "yes"), (false, "no")]
            .into_iter()
            .find_map(|(said, end)| is_there(end).then_some(said))
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if !self.is_down.load(Ordering::Relaxed) {
            self.take_down();
        }
    }
}

/// Four letters: short to type, and none of a question of before.
pub(super) fn new_id() -> String {
    let random =
        getrandom::u32().unwrap_or_else(|_| u32::try_from(unix_ms() % u64::from(u32::MAX)).unwrap_or_default());
    let letter = |at: u32| char::from(LETTERS[((random >> (5 * at)) % 32) as usize]);
    (0..4).map(letter).collect()
}
