//! Operators' calls, written down before they leave without waiting for the thread that writes: a line in a file now, the row
//! with many others a moment later. Owns the two files beside the journal. Lines that a kill left without rows become rows at
//! the next start.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_protocol::id::CallId;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::calls::{self, CallEnd, Details, Fingerprint, NewCall};
use super::{JournalError, in_savepoint};

/// Rows follow at the latest after this time.
pub(super) const LAG: Duration = Duration::from_millis(20);

/// Calls without their row. More: whoever makes one waits for the rows.
const MOST: usize = 8192;

/// A call in the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    call: CallId,
    node: String,
    command: String,
    caller: String,
    sent_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<Fingerprint>,
}

impl From<Line> for NewCall {
    fn from(line: Line) -> Self {
        Self {
            call: line.call,
            key: None,
            node: line.node,
            command: line.command,
            caller: line.caller,
            session: None,
            details: Details {
                deadline_at: line.deadline_at,
                idempotency_key: line.idempotency_key,
                fingerprint: line.fingerprint,
                ..Details::default()
            },
        }
    }
}

/// What the table does not know yet.
#[derive(Debug)]
pub(super) enum Entry {
    Sent {
        new: Box<NewCall>,
        at: i64,
        end: Option<(CallEnd, i64)>,
    },
    Ended {
        call: CallId,
        end: CallEnd,
        at: i64,
    },
}

impl Entry {
    fn call(&self) -> &CallId {
        match self {
            Self::Sent { new, .. } => &new.call,
            Self::Ended { call, .. } => call,
        }
    }

    fn store(&self, db: &Connection) -> Result<(), JournalError> {
        match self {
            Self::Sent { new, at, end: None } => calls::open_sent(db, new, *at),
            Self::Sent {
                new,
                at,
                end: Some((end, ended_at)),
            } => calls::open_ended(db, new, *at, end, *ended_at),
            Self::Ended { call, end, at } => calls::close(db, call, end, *at).map(drop),
        }
    }
}

/// Stores what was taken. A call that the table refuses for what it is does not keep the others out: then each is tried for itself.
pub(super) fn store(db: &Connection, entries: &[Entry]) -> Result<(), JournalError> {
    match in_savepoint(db, |db| entries.iter().try_for_each(|entry| entry.store(db))) {
        Err(error) if error.is_about_data() => store_each(db, entries),
        done => done,
    }
}

fn store_each(db: &Connection, entries: &[Entry]) -> Result<(), JournalError> {
    for entry in entries {
        match in_savepoint(db, |db| entry.store(db)) {
            Err(error) if error.is_about_data() => {
                tracing::error!(call = %entry.call(), %error, "the record of a call was lost");
            }
            done => done?,
        }
    }
    Ok(())
}

/// The lines of calls without rows, and the calls.
#[derive(Debug)]
pub(super) struct Ahead(Mutex<State>);

#[derive(Debug)]
struct State {
    files: [File; 2],
    /// Which file takes lines now.
    current: usize,
    /// Each line of the other file has its row, so that it is empty.
    is_other_empty: bool,
    waiting: Vec<Entry>,
    /// Where in `waiting` a call was sent.
    sent: HashMap<CallId, usize>,
    is_announced: bool,
    line: Vec<u8>,
}

impl Ahead {
    /// Opens the files beside the journal, and gives their calls rows.
    pub(super) fn open(journal: &Path, db: &mut Connection) -> Result<Self, JournalError> {
        let files = [open(journal, 0)?, open(journal, 1)?];
        let rows = db.transaction()?;
        for (which, mut file) in files.iter().enumerate() {
            let mut text = Vec::new();
            file.read_to_end(&mut text)
                .map_err(|error| failed(journal, which, &error))?;
            for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                restore(&rows, line)?;
            }
        }
        rows.commit()?;
        for (which, file) in files.iter().enumerate() {
            file.set_len(0).map_err(|error| failed(journal, which, &error))?;
        }
        Ok(Self(Mutex::new(State {
            files,
            current: 0,
            is_other_empty: true,
            waiting: Vec::new(),
            sent: HashMap::new(),
            is_announced: false,
            line: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is no room for one more.
    pub(super) fn is_full(&self) -> bool {
        self.state().waiting.len() >= MOST
    }

    /// Writes down that a call leaves now. Whether the writer must be told.
    pub(super) fn sent(&self, new: Box<NewCall>, at: i64) -> Result<bool, JournalError> {
        let mut state = self.state();
        if state.waiting.len() >= MOST {
            return Err(JournalError::Value("too many calls wait to be stored".to_owned()));
        }
        state.append(&new, at)?;
        let place = state.waiting.len();
        state.sent.insert(new.call.clone(), place);
        state.waiting.push(Entry::Sent { new, at, end: None });
        Ok(state.announce())
    }

    /// Notes how a call ended. Whether the writer must be told.
    pub(super) fn ended(&self, call: CallId, ended: CallEnd, ended_at: i64) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        let place = state.sent.get(&call).copied();
        match place.and_then(|place| state.waiting.get_mut(place)) {
            Some(Entry::Sent { end: end @ None, .. }) => *end = Some((ended, ended_at)),
            _ => state.waiting.push(Entry::Ended {
                call,
                end: ended,
                at: ended_at,
            }),
        }
        state.announce()
    }

    /// For the writer: everything that waits. Lines of later calls go into the other file.
    pub(super) fn take(&self) -> Vec<Entry> {
        let mut state = self.state();
        state.is_announced = false;
        state.sent.clear();
        let taken = std::mem::take(&mut state.waiting);
        if state.is_other_empty && !taken.is_empty() {
            state.current = 1 - state.current;
            state.is_other_empty = false;
        }
        taken
    }

    /// For the writer: all that it took last has its row.
    pub(super) fn stored(&self) {
        let mut state = self.state();
        let emptied = state.files.get(1 - state.current).map(|other| other.set_len(0));
        match emptied {
            Some(Err(error)) => tracing::warn!(%error, "the list of calls without rows was not shortened"),
            _ => state.is_other_empty = true,
        }
    }

    /// For the writer: nothing of what it took could be stored; it waits on.
    pub(super) fn give_back(&self, mut taken: Vec<Entry>) {
        let mut state = self.state();
        taken.append(&mut state.waiting);
        state.waiting = taken;
        let sent = state
            .waiting
            .iter()
            .enumerate()
            .filter_map(|(place, entry)| match entry {
                Entry::Sent { new, .. } => Some((new.call.clone(), place)),
                Entry::Ended { .. } => None,
            });
        state.sent = sent.collect();
    }
}

impl State {
    /// A line of its own also when the one before was torn.
    fn append(&mut self, new: &NewCall, at: i64) -> Result<(), JournalError> {
        let line = Line {
            call: new.call.clone(),
            node: new.node.clone(),
            command: new.command.clone(),
            caller: new.caller.clone(),
            sent_at: at,
            deadline_at: new.details.deadline_at,
            idempotency_key: new.details.idempotency_key.clone(),
            fingerprint: new.details.fingerprint,
        };
        self.line.clear();
        self.line.push(b'\n');
        serde_json::to_writer(&mut self.line, &line).map_err(|error| JournalError::Value(error.to_string()))?;
        self.line.push(b'\n');
        let Some(file) = self.files.get_mut(self.current) else {
            return Err(JournalError::Closed);
        };
        let written = file.write_all(&self.line);
        written.map_err(|error| JournalError::Value(format!("the list of calls cannot be written: {error}")))
    }

    fn announce(&mut self) -> bool {
        !std::mem::replace(&mut self.is_announced, true)
    }
}

/// A line that was cut off by a power failure says nothing about others.
fn restore(db: &Connection, line: &[u8]) -> Result<(), JournalError> {
    let line: Line = match serde_json::from_slice(line) {
        Ok(line) => line,
        Err(error) => {
            tracing::warn!(%error, "a line in the list of calls cannot be read");
            return Ok(());
        }
    };
    if calls::find(db, &line.call)?.is_some() {
        return Ok(());
    }
    let at = line.sent_at;
    calls::open_sent(db, &line.into(), at)
}

fn place(journal: &Path, which: usize) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(format!("-ahead{which}"));
    name.into()
}

fn open(journal: &Path, which: usize) -> Result<File, JournalError> {
    let opened = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(place(journal, which));
    opened.map_err(|error| failed(journal, which, &error))
}

fn failed(journal: &Path, which: usize, error: &std::io::Error) -> JournalError {
    JournalError::Value(format!("{}: {error}", place(journal, which).display()))
}

#[cfg(test)]
mod tests;
