//! This device's own record of calls: `calls.jsonl` in the state folder, a line for each, only ever added to and bounded. It holds what was
//! called, by whom, what was decided and why, and how it ended; never what was said in it nor what came of it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_protocol::error::CallError;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::state::private;

/// Where a new file begins; the one before is kept.
const FILE_BYTES: u64 = 1024 * 1024;

/// Calls that end so soon after another are written together with it.
const TOGETHER: Duration = Duration::from_millis(20);

/// What waits for the disk at most, bytes. More: records are left out, and the next says how many.
const WAITING_BYTES: usize = 256 * 1024;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// When it came.
    pub(crate) at: String,
    /// The gateway's short id.
    pub(crate) gateway: String,
    pub(crate) call: String,
    pub(crate) command: String,
    /// `allowed`, `denied`, or `undecided` for one that ended before.
    pub(crate) decision: String,
    /// The rule or the person.
    pub(crate) because: String,
    /// `ok`, `failed`, `denied`, `cancelled`, or `stopped` in the middle.
    pub(crate) end: String,
    /// The code of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// From its coming to its end.
    pub(crate) duration_ms: u64,
    /// Records before this one that found no room.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(crate) left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    path: PathBuf,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    left_out: u64,
    is_being_written: bool,
}

impl Ledger {
    /// In `state_dir`.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("calls.jsonl"),
            waiting: Arc::default(),
        }
    }

    /// The file that grows.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The one before it.
    pub(crate) fn before(&self) -> PathBuf {
        self.path.with_file_name("calls.1.jsonl")
    }

    /// Begins the record of a call; it is written when that ends, however it does.
    pub(crate) fn open(&self, call: &str, command: &str, gateway: String) -> Entry {
        let record = Record {
            at: format!("{:.3}", Timestamp::now()),
            gateway,
            call: call.to_owned(),
            command: command.to_owned(),
            decision: "undecided".to_owned(),
            because: String::new(),
            end: "stopped".to_owned(),
            code: None,
            duration_ms: 0,
            left_out: 0,
        };
        Entry {
            ledger: self.clone(),
            began: Instant::now(),
            is_stopped: false,
            record,
        }
    }

    fn add(&self, mut record: Record) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.lines.len() > WAITING_BYTES {
            waiting.left_out += 1;
            return;
        }
        record.left_out = std::mem::take(&mut waiting.left_out);
        let line = serde_json::to_vec(&record).unwrap_or_default();
        waiting.lines.extend(line);
        waiting.lines.push(b'\n');
        if std::mem::replace(&mut waiting.is_being_written, true) {
            return;
        }
        drop(waiting);
        let rest = Rest(self.clone());
        // Without a runtime the program is at its end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(TOGETHER).await;
                let _ = tokio::task::spawn_blocking(move || drop(rest)).await;
            });
        }
    }

    /// Writes all that waits. A full disk must not end a working node.
    fn write(&self) {
        loop {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let lines = std::mem::take(&mut waiting.lines);
            if lines.is_empty() {
                waiting.is_being_written = false;
                return;
            }
            drop(waiting);
            if let Err(error) = self.append(&lines) {
                tracing::warn!(%error, path = %self.path.display(), "calls were not written down");
            }
        }
    }

    fn append(&self, lines: &[u8]) -> io::Result<()> {
        let size = fs::metadata(&self.path).map_or(0, |data| data.len());
        if size >= FILE_BYTES {
            fs::rename(&self.path, self.before())?;
        }
        let mut file = private(OpenOptions::new().create(true).append(true)).open(&self.path)?;
        file.write_all(lines)
    }
}

/// Writes what waits when it is dropped, which it is when the node stops too.
struct Rest(Ledger);

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.write();
    }
}

/// The record of a call that goes on; written when this is dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    ledger: Ledger,
    began: Instant,
    is_stopped: bool,
    record: Record,
}

impl Entry {
    /// The call may run, since…
    pub(crate) fn allowed(&mut self, because: String) {
        "allowed".clone_into(&mut self.record.decision);
        self.record.because = because;
    }

    /// It must not, since…
    pub(crate) fn denied(&mut self, because: String) {
        "denied".clone_into(&mut self.record.decision);
        self.record.because = because;
    }

    /// It was stopped in the middle.
    pub(crate) fn stopped(&mut self) {
        self.is_stopped = true;
        "stopped".clone_into(&mut self.record.end);
    }

    /// What it began, and what went on after it, broke off.
    pub(crate) fn broke(&mut self, error: &CallError) {
        "failed".clone_into(&mut self.record.end);
        self.record.code = Some(error.code.clone());
    }

    /// It ended so.
    pub(crate) fn ended<T>(&mut self, result: &Result<T, CallError>) {
        let end = match result {
            Ok(_) => "ok",
            Err(_) if self.is_stopped => "stopped",
            Err(_) if self.record.decision == "denied" => "denied",
            Err(error) if error.code == "CANCELLED" => "cancelled",
            Err(_) => "failed",
        };
        end.clone_into(&mut self.record.end);
        self.record.code = result.as_ref().err().map(|error| error.code.clone());
    }
}

/// An entry of a call and of what goes on after it; written when the last of them is over.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Entry>>);

impl Shared {
    pub(crate) fn new(entry: Entry) -> Self {
        Self(Arc::new(Mutex::new(entry)))
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Entry)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut record = self.record.clone();
        record.duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ledger.add(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(path: &Path) -> Vec<Record> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a record"))
            .collect()
    }

    /// Until nothing waits to be written.
    async fn written(ledger: &Ledger) {
        while ledger.waiting.lock().expect("whole").is_being_written {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn every_call_leaves_one_line_however_it_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::new(folder.path());
        let open = |command| ledger.open("c1", command, "ab12".to_owned());
        let mut fine = open("a.fine");
        fine.allowed("a: allow".to_owned());
        fine.ended(&Ok(()));
        drop(fine);
        let mut no = open("a.no");
        no.denied("a.no: deny".to_owned());
        no.ended::<()>(&Err(CallError::new("COMMAND_DENIED", "secret words")));
        drop(no);
        let mut off = open("a.off");
        off.allowed("default: allow".to_owned());
        off.ended::<()>(&Err(CallError::new("CANCELLED", "x")));
        drop(off);
        drop(open("a.dropped"));
        written(&ledger).await;
        let found = records(ledger.path());
        let ends: Vec<_> = found
            .iter()
            .map(|one| {
                (
                    one.command.as_str(),
                    one.decision.as_str(),
                    one.end.as_str(),
                    one.code.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            ends,
            [
                ("a.fine", "allowed", "ok", None),
                ("a.no", "denied", "denied", Some("COMMAND_DENIED")),
                ("a.off", "allowed", "cancelled", Some("CANCELLED")),
                ("a.dropped", "undecided", "stopped", None),
            ]
        );
        let text = fs::read_to_string(ledger.path()).expect("there");
        assert!(!text.contains("secret words"), "{text}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(ledger.path()).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn it_stays_within_its_bounds_and_says_what_it_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::new(folder.path());
        for _ in 0..3_000 {
            drop(ledger.open(&"c".repeat(100), "camera.snap", "ab12".to_owned()));
        }
        written(&ledger).await;
        drop(ledger.open("last", "camera.snap", "ab12".to_owned()));
        written(&ledger).await;
        let all = || [records(&ledger.before()), records(ledger.path())].concat();
        let last = all().pop().expect("a record");
        assert_eq!(
            all().len() as u64 + all().iter().map(|one| one.left_out).sum::<u64>(),
            3_001
        );
        assert_eq!(last.call, "last");
        for _ in 0..20 {
            for _ in 0..1_000 {
                drop(ledger.open(&"c".repeat(100), "camera.snap", "ab12".to_owned()));
            }
            written(&ledger).await;
        }
        for path in [ledger.path().to_owned(), ledger.before()] {
            let size = fs::metadata(&path).expect("there").len();
            assert!(size < FILE_BYTES + 2 * WAITING_BYTES as u64, "{size}");
            assert!(!records(&path).is_empty());
        }
        let files = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(files, 2);
    }
}
