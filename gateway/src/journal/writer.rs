//! The one thread that writes. It takes everything that waits, runs each write in a savepoint, commits once and only then
//! answers. Owns the writing connection; never decides what is written.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::ahead::{self, Ahead};
use super::{Durability, JournalError};

/// Writes that share one commit at most. More wait for the next commit.
pub(super) const BATCH: usize = 512;

/// What the thread is told.
pub(super) enum Order {
    /// One write.
    Write(Box<dyn Job>),
    /// There are calls without rows.
    Calls,
    /// Something that catches its own panic.
    Between(Box<dyn FnOnce() + Send>),
    /// Commit what came before, close the file, answer.
    Close(oneshot::Sender<()>),
}

/// A write whose result type is known only to the one who waits for it.
pub(super) trait Job: Send {
    fn durability(&self) -> Durability;
    /// Does the work inside a savepoint; whether its changes are to be kept.
    fn run(&mut self, conn: &Connection) -> bool;
    /// Answers, once its commit has happened or failed.
    fn answer(self: Box<Self>, commit: Result<(), Arc<rusqlite::Error>>);
}

/// A closure, its outcome so far, and where the outcome goes.
pub(super) struct Write<T, F, A> {
    durability: Durability,
    work: Option<F>,
    outcome: Option<Result<T, JournalError>>,
    answer: A,
}

impl<T, F, A> Write<T, F, A>
where
    F: FnOnce(&Connection) -> Result<T, JournalError>,
{
    pub(super) fn new(durability: Durability, work: F, answer: A) -> Self {
        Self {
            durability,
            work: Some(work),
            outcome: None,
            answer,
        }
    }
}

impl<T, F, A> Job for Write<T, F, A>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, JournalError> + Send,
    A: FnOnce(Result<T, JournalError>) + Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, conn: &Connection) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        let outcome = guarded(|| work(conn));
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn answer(self: Box<Self>, commit: Result<(), Arc<rusqlite::Error>>) {
        let outcome = match (commit, self.outcome) {
            (_, Some(Err(error))) => Err(error),
            (Err(error), _) => Err(JournalError::Commit(error)),
            (Ok(()), Some(Ok(value))) => Ok(value),
            (Ok(()), None) => Err(JournalError::Closed),
        };
        (self.answer)(outcome);
    }
}

/// Runs someone's closure; its panic is its own failure and nobody else's.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, JournalError>) -> Result<T, JournalError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(JournalError::Panicked(panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// The thread's body: until the queue closes.
pub(super) fn run(conn: Connection, ahead: &Ahead, durable_commits: &AtomicU64, mut queue: mpsc::Receiver<Order>) {
    let mut writer = Writer {
        conn,
        durable_commits,
        level: None,
        refuses_calls: false,
    };
    let mut orders = Vec::with_capacity(BATCH);
    let (mut between, mut closers) = (Vec::new(), Vec::new());
    while queue.blocking_recv_many(&mut orders, BATCH) > 0 {
        let mut jobs = Vec::with_capacity(orders.len());
        for order in orders.drain(..) {
            match order {
                Order::Write(job) => jobs.push(job),
                Order::Calls => {}
                Order::Between(work) => between.push(work),
                Order::Close(answer) => {
                    queue.close();
                    closers.push(answer);
                }
            }
        }
        // First: whoever asks for something behind a call finds the call.
        writer.commit_calls(ahead);
        writer.commit_all(jobs);
        between.drain(..).for_each(|work| work());
    }
    writer.commit_calls(ahead);
    writer.finish();
    for closer in closers {
        // The one who asked may have stopped waiting.
        let _ = closer.send(());
    }
}

struct Writer<'a> {
    conn: Connection,
    durable_commits: &'a AtomicU64,
    level: Option<Durability>,
    refuses_calls: bool,
}

impl Writer<'_> {
    fn commit_calls(&mut self, ahead: &Ahead) {
        let taken = ahead.take();
        if taken.is_empty() {
            return;
        }
        let committed = self.begin(Durability::Lazy).map_err(JournalError::from);
        let committed = committed.and_then(|()| {
            ahead::store(&self.conn, &taken)?;
            Ok(self.execute("COMMIT")?)
        });
        if !self.conn.is_autocommit() {
            let _ = self.execute("ROLLBACK");
        }
        match committed {
            Ok(()) => {
                self.refuses_calls = false;
                ahead.stored();
            }
            Err(error) => {
                // Once: it is tried again with every write.
                if !std::mem::replace(&mut self.refuses_calls, true) {
                    tracing::error!(%error, "calls cannot be stored; they are kept until they can");
                }
                ahead.give_back(taken);
            }
        }
    }

    fn commit_all(&mut self, jobs: Vec<Box<dyn Job>>) {
        let mut rest = jobs;
        while !rest.is_empty() {
            rest = self.commit(rest);
        }
    }

    /// Commits a batch and gives back the jobs that it did not reach.
    fn commit(&mut self, jobs: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        let durability = jobs
            .iter()
            .map(|job| job.durability())
            .max()
            .unwrap_or(Durability::Lazy);
        let mut waiting = jobs.into_iter();
        let mut done = Vec::with_capacity(waiting.len());
        let committed = self.begin(durability).and_then(|()| {
            for mut job in waiting.by_ref() {
                let survived = self.run_in_savepoint(&mut *job);
                done.push(job);
                survived?;
            }
            self.execute("COMMIT")
        });
        if committed.is_ok() && durability == Durability::Durable {
            self.durable_commits.fetch_add(1, Ordering::Relaxed);
        }
        if !self.conn.is_autocommit() {
            // A commit that failed half-way must not leak into the next one. Nothing more can be done if this fails too:
            // the next BEGIN will say so.
            let _ = self.execute("ROLLBACK");
        }
        let committed = committed.map_err(Arc::new);
        if done.is_empty() {
            // BEGIN itself failed: all of them share the reason, or the loop would try for ever.
            done.extend(waiting.by_ref());
        }
        for job in done {
            job.answer(committed.clone());
        }
        waiting.collect()
    }

    /// `synchronous` cannot change inside a transaction, so it is set before. FULL flushes the whole log, earlier lazy commits
    /// included.
    fn begin(&mut self, durability: Durability) -> Result<(), rusqlite::Error> {
        if self.level != Some(durability) {
            let level = match durability {
                Durability::Lazy => "NORMAL",
                Durability::Durable => "FULL",
            };
            self.conn.pragma_update(None, "synchronous", level)?;
            self.level = Some(durability);
        }
        self.execute("BEGIN IMMEDIATE")
    }

    fn run_in_savepoint(&self, job: &mut dyn Job) -> Result<(), rusqlite::Error> {
        self.execute("SAVEPOINT one")?;
        if !job.run(&self.conn) {
            // SQLite gives up the whole transaction on some errors (disk full); then this fails and so does the batch.
            self.execute("ROLLBACK TO one")?;
        }
        self.execute("RELEASE one")
    }

    fn execute(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn finish(self) {
        if let Err(error) = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the journal's log was not folded into its file; the next start does it");
        }
        if let Err((_, error)) = self.conn.close() {
            tracing::warn!(%error, "the journal's file did not close cleanly");
        }
    }
}
