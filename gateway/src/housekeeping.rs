//! Forgets what is long over, so that the journal does not grow for ever. Never touches what is open.

use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::ConfigStore;
use crate::journal::{Durability, Journal, JournalError, audit, calls, inbox, outbox, runs};
use crate::media::Media;

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(60 * 60);

/// Messages, turns and calls are kept so long after their end; the conversations themselves stay in their transcripts.
const KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// Who did what is kept longer.
const AUDIT_KEPT_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// Works until stopped.
pub(crate) async fn run(journal: Journal, media: Media, config: ConfigStore, stop: CancellationToken) {
    let mut period = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = period.tick() => {}
        }
        match journal.write(Durability::Lazy, |db| prune(db, clock::now())).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "forgot what is long over"),
            Err(error) => tracing::warn!(%error, "the journal could not be cleared of what is long over"),
        }
        let (media, bounds) = (media.clone(), config.current().media.bounds());
        let swept = tokio::task::spawn_blocking(move || media.sweep(bounds, SystemTime::now())).await;
        if let Ok(count @ 1..) = swept {
            tracing::info!(count, "deleted blobs that were too old or too much");
        }
    }
}

fn prune(db: &Connection, now: i64) -> Result<usize, JournalError> {
    let before = now - KEPT_MS;
    Ok(outbox::prune(db, before)?
        + runs::prune(db, before)?
        + calls::prune(db, before)?
        + inbox::prune(db, before)?
        + audit::prune(db, now - AUDIT_KEPT_MS)?)
}
