//! The gateway's memory that survives `kill -9`: one SQLite file, one thread that writes, a few that read. Owns the file and
//! the order of writes; what the rows mean is in one file per table. Never rewrites or recreates a file it cannot read.
//!
//! Table functions take a [`Connection`] and are called inside [`Journal::write`] or [`Journal::read`], so that several of
//! them can share one transaction:
//!
//! ```ignore
//! let ids = journal.write(Durability::Durable, move |db| inbox::commit(db, &account, &cursor, &arrived, now)).await?;
//! ```

mod ahead;
pub mod audit;
pub mod calls;
mod column;
pub mod inbox;
mod insist;
pub mod outbox;
mod readers;
pub mod records;
pub mod runs;
mod schema;
pub mod senders;
pub mod sessions;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use atoll_protocol::id::CallId;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use ahead::Ahead;
use calls::{CallEnd, NewCall};
use readers::{Ask, READERS};
use schema::SchemaError;
use writer::{Order, Write};

/// Writes that wait for the thread. More: the writer's caller waits for room, which slows down whoever sends too much.
const WRITE_QUEUE: usize = 4096;

/// Reads that wait for a thread. More: the caller waits for room.
const READ_QUEUE: usize = 256;

/// Files up to this size, bytes, are checked whole when opened; a larger one would cost more than a start may take, and is
/// checked page by page as it is used.
const CHECK_UP_TO: u64 = 16 * 1024 * 1024;

/// How long SQLite waits for another process that holds the file (a backup, a person with `sqlite3`).
const BUSY: Duration = Duration::from_secs(5);

/// When a write may be called done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// The operating system has it: survives a kill of this process, not a power cut.
    Lazy,
    /// The disk has it.
    Durable,
}

/// Why the journal did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file could not be opened or made.
    #[error("cannot open the journal {path}: {source}", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite or the system said.
        source: rusqlite::Error,
    },
    /// The file is damaged. It was left as it is.
    #[error(
        "the journal {path} is damaged ({reason}). It was not changed. Move it (and its -wal and -shm) away and restore a backup, or start without it to begin anew",
        path = .path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The first thing found wrong.
        reason: String,
    },
    /// The file is a database of something else. It was left as it is.
    #[error("{path} is not a journal of atoll; it was not changed", path = .0.display())]
    Foreign(PathBuf),
    /// A newer atoll wrote the file. It was left as it is.
    #[error("the journal {path} was written by a newer atoll (version {found}); update this one", path = .path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
    },
    /// A thread could not be started.
    #[error("cannot start the journal's threads: {0}")]
    Thread(std::io::Error),
    /// A statement failed; its write was undone, others were not touched.
    #[error("the journal refused a statement: {0}")]
    Sql(#[from] rusqlite::Error),
    /// The shared commit failed (disk full, disk gone): nothing of it was stored.
    #[error("the journal could not commit: {0}")]
    Commit(Arc<rusqlite::Error>),
    /// A value has no place in a column.
    #[error("a value cannot be stored: {0}")]
    Value(String),
    /// The code that was to write or read panicked; its write was undone.
    #[error("a journal operation panicked: {0}")]
    Panicked(String),
    /// The journal is closed.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    /// Whether the same operation can succeed later without a person doing something.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Sql(error) => is_busy(error),
            Self::Commit(error) => is_busy(error),
            Self::Open { source, .. } => is_busy(source),
            Self::Corrupt { .. }
            | Self::Foreign(_)
            | Self::TooNew { .. }
            | Self::Thread(_)
            | Self::Value(_)
            | Self::Panicked(_)
            | Self::Closed => false,
        }
    }

    /// Whether it is about what was written or read, and not about the disk: the same again fails the same way, and other things do
    /// not.
    pub fn is_about_data(&self) -> bool {
        match self {
            Self::Sql(error) => is_about_data(error),
            Self::Value(_) | Self::Panicked(_) => true,
            Self::Open { .. }
            | Self::Corrupt { .. }
            | Self::Foreign(_)
            | Self::TooNew { .. }
            | Self::Thread(_)
            | Self::Commit(_)
            | Self::Closed => false,
        }
    }

    /// Whether a uniqueness or other rule of the table said no.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Sql(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation))
    }
}

/// What SQLite itself did not refuse could not be read as what it should be.
fn is_about_data(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        None => true,
        Some(code) => matches!(
            code,
            ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig
        ),
    }
}

/// Runs a part of a write on its own: its error or panic undoes this part alone.
///
/// # Errors
/// The part's own, or that of the savepoint around it.
pub(crate) fn in_savepoint<T>(
    conn: &Connection,
    part: impl FnOnce(&Connection) -> Result<T, JournalError>,
) -> Result<T, JournalError> {
    let execute = |sql: &str| conn.prepare_cached(sql)?.execute([]);
    execute("SAVEPOINT part")?;
    let done = writer::guarded(|| part(conn));
    if done.is_err() {
        execute("ROLLBACK TO part")?;
    }
    execute("RELEASE part")?;
    done
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// The handle. Cheap to clone; every clone speaks to the same file.
#[derive(Debug, Clone)]
pub struct Journal {
    writer: mpsc::Sender<Order>,
    readers: mpsc::Sender<Ask>,
    ahead: Arc<Ahead>,
    durable_commits: Arc<AtomicU64>,
    failed_posts: Arc<AtomicU64>,
    insisting: Arc<AtomicU64>,
}

impl Journal {
    /// Opens the file, makes it when there is none, and brings it to the present version.
    ///
    /// Blocks the caller for the few milliseconds this takes. Call it once per state folder, which its lock ensures.
    ///
    /// # Errors
    /// [`JournalError::Open`], [`JournalError::Corrupt`], [`JournalError::Foreign`], [`JournalError::TooNew`] and
    /// [`JournalError::Thread`]; in each case an existing file is left as it was.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let mut conn = open_writer(path)?;
        let ahead = Arc::new(Ahead::open(path, &mut conn)?);
        let connections = (0..READERS).map(|_| open_reader(path)).collect::<Result<_, _>>()?;
        let (writer, orders) = mpsc::channel(WRITE_QUEUE);
        let (readers, asks) = mpsc::channel(READ_QUEUE);
        let durable_commits = Arc::<AtomicU64>::default();
        thread::Builder::new()
            .name("journal-write".into())
            .spawn({
                let (ahead, durable_commits) = (Arc::clone(&ahead), Arc::clone(&durable_commits));
                move || writer::run(conn, &ahead, &durable_commits, orders)
            })
            .map_err(JournalError::Thread)?;
        readers::start(connections, asks).map_err(JournalError::Thread)?;
        Ok(Self {
            writer,
            readers,
            ahead,
            durable_commits,
            failed_posts: Arc::default(),
            insisting: Arc::default(),
        })
    }

    /// Runs a write and returns once it is committed. Its error or panic undoes this write alone.
    ///
    /// A caller that stops waiting does not stop the write. The closure must not end or begin transactions.
    ///
    /// # Errors
    /// What the closure returned, or [`JournalError::Commit`], [`JournalError::Panicked`], [`JournalError::Closed`].
    pub async fn write<T, F>(&self, durability: Durability, work: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, JournalError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        // The one who asked may have stopped waiting.
        let job = Write::new(durability, work, move |outcome| drop(answer.send(outcome)));
        self.order(Order::Write(Box::new(job))).await?;
        answered.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Hands over a write without waiting for its commit: for records whose loss costs nothing but information (audit of
    /// reads, last-used marks). Waits for room in the queue; a failure is logged under `what` and counted.
    pub async fn post<F>(&self, durability: Durability, what: &'static str, work: F)
    where
        F: FnOnce(&Connection) -> Result<(), JournalError> + Send + 'static,
    {
        let failed = Arc::clone(&self.failed_posts);
        let report = move |outcome: Result<(), JournalError>| {
            if let Err(error) = outcome {
                failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(what, %error, "a journal record was lost");
            }
        };
        let job = Write::new(durability, work, report.clone());
        if let Err(error) = self.order(Order::Write(Box::new(job))).await {
            report(Err(error));
        }
    }

    /// Adds an entry to the audit: [`Self::post`].
    pub async fn note(&self, entry: audit::Entry, now: i64) {
        self.post(Durability::Lazy, "audit", move |db| audit::append(db, &entry, now))
            .await;
    }

    /// Writes down that an operator's call leaves now: when this returns it survives a kill of this process. Its row follows; every
    /// [`Self::write`] that begins after this sees it.
    ///
    /// # Errors
    /// Its line cannot be written, or so many calls wait for their rows that something is wrong with the disk.
    pub async fn call_sent(&self, new: Box<NewCall>, now: i64) -> Result<(), JournalError> {
        if self.ahead.is_full() {
            Box::pin(self.write(Durability::Lazy, |_| Ok(()))).await?;
        }
        if self.ahead.sent(new, now)? {
            self.announce_calls();
        }
        Ok(())
    }

    /// Notes how such a call ended. Every [`Self::write`] that begins after this sees it; a kill within the next moment forgets
    /// it, and the call counts as one whose end is not known.
    pub fn call_ended(&self, call: CallId, end: CallEnd, now: i64) {
        if self.ahead.ended(call, end, now) {
            self.announce_calls();
        }
    }

    fn announce_calls(&self) {
        let writer = self.writer.clone();
        tokio::spawn(async move {
            tokio::time::sleep(ahead::LAG).await;
            // A journal that is closed has taken them already.
            let _ = writer.send(Order::Calls).await;
        });
    }

    /// Whether there is still a thread that writes.
    pub fn is_open(&self) -> bool {
        !self.writer.is_closed() && !self.readers.is_closed()
    }

    /// How many commits since the start waited for the disk.
    pub fn durable_commits(&self) -> u64 {
        self.durable_commits.load(Ordering::Relaxed)
    }

    /// How many [`Self::post`]s failed since the start.
    pub fn failed_posts(&self) -> u64 {
        self.failed_posts.load(Ordering::Relaxed)
    }

    /// Runs a read on one consistent snapshot, which holds everything committed before the call.
    ///
    /// # Errors
    /// What the closure returned, or [`JournalError::Panicked`], [`JournalError::Closed`].
    pub async fn read<T, F>(&self, work: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, JournalError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let read = move |conn: &Connection| {
            // The one who asked may have stopped waiting.
            let _ = answer.send(writer::guarded(|| in_snapshot(conn, work)));
        };
        self.readers
            .send(Ask::Read(Box::new(read)))
            .await
            .map_err(|_| JournalError::Closed)?;
        answered.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Runs something between two commits, on the thread that writes: syncs of other files. A file system lets whoever syncs beside
    /// another wait, in the hope that more comes to be synced with it; so one thread does it all. Returns when it has run.
    ///
    /// # Errors
    /// [`JournalError::Closed`].
    pub async fn between<T, F>(&self, work: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let run = move || {
            let done = writer::guarded(|| Ok(work()));
            // The one who asked may have stopped waiting.
            let _ = answer.send(done);
        };
        self.order(Order::Between(Box::new(run))).await?;
        answered.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Commits everything that was handed over, folds the log into the file and closes it. Later use answers
    /// [`JournalError::Closed`]; closing twice is no error.
    pub async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        let (said, closed) = oneshot::channel();
        // Each fails only when it is closed already.
        if self.readers.send(Ask::Close(said)).await.is_ok() {
            let _ = closed.await;
        }
        if self.order(Order::Close(answer)).await.is_ok() {
            let _ = answered.await;
        }
    }

    async fn order(&self, order: Order) -> Result<(), JournalError> {
        self.writer.send(order).await.map_err(|_| JournalError::Closed)
    }
}

fn in_snapshot<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, JournalError>,
) -> Result<T, JournalError> {
    // Dropping it ends the snapshot, also when the closure panics.
    let snapshot = conn.unchecked_transaction()?;
    work(&snapshot)
}

fn open_writer(path: &Path) -> Result<Connection, JournalError> {
    let mut conn = Connection::open(path).map_err(|error| refused(path, error))?;
    prepare(&conn).map_err(|error| refused(path, error))?;
    let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
    if size > 0 && size <= CHECK_UP_TO {
        check(&conn, path)?;
    }
    schema::migrate(&mut conn).map_err(|error| match error {
        SchemaError::Foreign => JournalError::Foreign(path.to_owned()),
        SchemaError::TooNew(found) => JournalError::TooNew {
            path: path.to_owned(),
            found,
        },
        SchemaError::Sql(error) => refused(path, error),
    })?;
    // Only now: it changes the file, which must not happen to a file that is not ours.
    let enabled = conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()));
    enabled.map_err(|error| refused(path, error))?;
    Ok(conn)
}

fn open_reader(path: &Path) -> Result<Connection, JournalError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(|error| refused(path, error))?;
    prepare(&conn).map_err(|error| refused(path, error))?;
    Ok(conn)
}

fn prepare(conn: &Connection) -> Result<(), rusqlite::Error> {
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(128);
    conn.pragma_update(None, "foreign_keys", true)?;
    // A damaged schema must not be able to run code; a thin process needs no big cache (KiB when negative).
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cache_size", -1024)
}

fn check(conn: &Connection, path: &Path) -> Result<(), JournalError> {
    let found: Result<String, _> = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match found {
        Ok(word) if word == "ok" => Ok(()),
        Ok(reason) => Err(JournalError::Corrupt {
            path: path.to_owned(),
            reason,
        }),
        Err(error) => Err(refused(path, error)),
    }
}

fn refused(path: &Path, source: rusqlite::Error) -> JournalError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => JournalError::Corrupt {
            path,
            reason: source.to_string(),
        },
        _ => JournalError::Open { path, source },
    }
}

#[cfg(test)]
mod tests;
