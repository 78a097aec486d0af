//! Writes that are not given up: what they say is known here and nowhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::{Durability, Journal, JournalError};

/// The pause after the first failure; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Journal {
    /// As [`Self::write`], for what is known here and nowhere else, e.g. how a send ended: tried again with growing pauses until it
    /// holds. Gives up when the gateway ends. Counted in [`Self::insisting`] from the first failure on.
    ///
    /// # Errors
    /// What the last try gave, when the gateway ended or the journal was closed first.
    pub async fn insist<F>(
        &self,
        durability: Durability,
        what: &'static str,
        stop: &CancellationToken,
        work: F,
    ) -> Result<(), JournalError>
    where
        F: Fn(&Connection) -> Result<(), JournalError> + Clone + Send + 'static,
    {
        let mut pause = FIRST_PAUSE;
        let mut counted = None;
        loop {
            let Err(error) = self.write(durability, work.clone()).await else {
                return Ok(());
            };
            tracing::error!(what, %error, "could not be stored; it is tried again");
            counted.get_or_insert_with(|| Insisting::new(&self.insisting));
            let is_closed = matches!(error, JournalError::Closed);
            if is_closed || stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Err(error);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// How many outcomes could not be stored so far and are tried again.
    pub fn insisting(&self) -> u64 {
        self.insisting.load(Ordering::Relaxed)
    }
}

/// One outcome that waits to be stored, counted.
struct Insisting(Arc<AtomicU64>);

impl Insisting {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Insisting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(db: &Connection) -> Result<(), JournalError> {
        db.execute(
            "INSERT INTO audit (at, actor, action, target, outcome, detail) VALUES (1, '', '', '', '', '{}')",
            [],
        )?;
        Ok(())
    }

    async fn sql(journal: &Journal, text: &'static str) {
        let done = journal.write(Durability::Lazy, move |db| Ok(db.execute_batch(text)?));
        done.await.expect("runs");
    }

    async fn refusing() -> (Journal, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("state.db")).expect("opens");
        sql(
            &journal,
            "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END",
        )
        .await;
        (journal, folder)
    }

    async fn until_counted(journal: &Journal, count: u64) {
        while journal.insisting() != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn what_could_not_be_stored_is_stored_as_soon_as_it_can_be() {
        let (journal, _folder) = refusing().await;
        let (inside, stop) = (journal.clone(), CancellationToken::new());
        let insisting = tokio::spawn(async move { inside.insist(Durability::Lazy, "a test", &stop, add).await });
        until_counted(&journal, 1).await;
        sql(&journal, "DROP TRIGGER full").await;
        insisting.await.expect("runs").expect("is stored");
        assert_eq!(journal.insisting(), 0);
    }

    #[tokio::test]
    async fn the_end_of_the_gateway_ends_it() {
        let (journal, _folder) = refusing().await;
        let stop = CancellationToken::new();
        stop.cancel();
        let refused = journal.insist(Durability::Lazy, "a test", &stop, add).await;
        assert!(matches!(refused, Err(JournalError::Sql(_))), "{refused:?}");
        assert_eq!(journal.insisting(), 0);
    }
}
