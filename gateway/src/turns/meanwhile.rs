//! Messages that go into a turn together with the one that it answers: those that waited with it, and those that come while it runs.

use std::time::Duration;

use async_trait::async_trait;
use atoll_agent::port::Meanwhile;
use atoll_protocol::id::RunId;
use atoll_protocol::json::Json;
use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::{Ended, Said, Source, Turns};
use crate::clock;
use crate::config::QueueMode;
use crate::journal::runs::{self, RunRow, RunState};
use crate::journal::{Durability, JournalError};
use crate::queue::{self, Waiting};

/// A conversation that is never quiet is answered after so many silences that were too short.
const ROUNDS: u32 = 20;

impl Turns {
    /// With `messages.queue.mode` collect, a turn that had to wait answers everything that waits and goes with it. Gives the row as it
    /// is then.
    pub(super) async fn collect(&self, row: RunRow, cancel: &CancellationToken) -> RunRow {
        let source = row.new.origin.read::<Source>().unwrap_or(Source::Operator);
        let Some(channel) = source.place().map(|place| place.account.channel.clone()) else {
            return row;
        };
        let queue = &self.config.current().messages.queue;
        if row.state != RunState::Queued || queue.mode_of(&channel) != QueueMode::Collect {
            return row;
        }
        self.quiet(&row, &source, queue.debounce_of(&channel), cancel).await;
        let run = row.new.run.clone();
        let take = move |db: &Connection| take_over(db, &run, RunState::Queued, Way::Collect);
        match self.journal.write(Durability::Durable, take).await {
            Ok(Some(taken)) => {
                self.taken_over(&taken.others).await;
                let mut row = row;
                row.new.input = taken.input;
                row
            }
            Ok(None) => row,
            Err(error) => {
                tracing::error!(run = %row.new.run, %error, "what waits could not be collected; it is answered one by one");
                row
            }
        }
    }

    /// Waits until nobody has written for a while, where this turn had to wait at all.
    async fn quiet(&self, row: &RunRow, source: &Source, silence: Duration, cancel: &CancellationToken) {
        for _ in 0..ROUNDS {
            let (session, number) = (row.new.session.clone(), row.number);
            let look = move |db: &Connection| Ok((runs::last_end(db, &session, number)?, runs::queued(db, &session)?));
            let Ok((last_end, rows)) = self.journal.read(look).await else {
                return;
            };
            if last_end.is_none_or(|end| end < row.created_at) {
                return;
            }
            let waiting: Vec<_> = rows.iter().filter_map(waiting).collect();
            let company = queue::company(source, &waiting);
            let newest = company.iter().map(|waiting| waiting.created_at).max();
            let quiet_at = newest.unwrap_or(row.created_at) + i64::try_from(silence.as_millis()).unwrap_or_default();
            let left = u64::try_from(quiet_at - clock::now()).unwrap_or_default();
            if left == 0
                || cancel
                    .run_until_cancelled(tokio::time::sleep(Duration::from_millis(left)))
                    .await
                    .is_none()
            {
                return;
            }
        }
    }

    /// Ends a turn that never began, and tells a later one of the same person how its message began; false when that cannot be.
    pub(crate) async fn summarise(&self, dropped: &RunId, kept: &RunId) -> bool {
        let (one, other) = (dropped.clone(), kept.clone());
        let change = move |db: &Connection| {
            let rows = (runs::find(db, &one)?, runs::find(db, &other)?);
            let (Some(one), Some(other)) = (rows.0.as_ref().and_then(waiting), rows.1.as_ref().and_then(waiting))
            else {
                return Ok(false);
            };
            if !queue::go_together(&one.source, &other.source) || other.said.anew.is_some() {
                return Ok(false);
            }
            let said = Said {
                text: queue::with_summary(&one.said.text, &other.said.text),
                ..other.said
            };
            let input = Json::of(&said).map_err(|error| JournalError::Value(error.to_string()))?;
            runs::take_over(db, &other.run, &input, &[one.run], clock::now())?;
            Ok(true)
        };
        let done = self.journal.write(Durability::Durable, change).await;
        let is_done = done.unwrap_or_else(|error| {
            tracing::error!(run = %dropped, %error, "a message that was dropped could not be summarised");
            false
        });
        if is_done {
            self.taken_over(std::slice::from_ref(dropped)).await;
        }
        is_done
    }

    /// The turns of these messages are over: nothing of them waits any more.
    async fn taken_over(&self, others: &[RunId]) {
        for run in others {
            if let Some(lanes) = self.lanes.get() {
                lanes.abort(run.clone()).await;
            }
            let ended = Ended {
                state: RunState::Done,
                text: None,
                started_at: None,
                ended_at: clock::now(),
            };
            self.waiting.tell(run, &ended);
        }
    }
}

#[async_trait]
impl Meanwhile for Turns {
    async fn said(&self, run: &RunId, had: usize) -> Vec<String> {
        let wanted = run.clone();
        let look = move |db: &Connection| {
            let Some(row) = runs::find(db, &wanted)? else {
                return Ok(None);
            };
            let waits = !runs::queued(db, &row.new.session)?.is_empty();
            Ok(Some((row, waits)))
        };
        let Ok(Some((row, waits))) = self.journal.read(look).await else {
            return Vec::new();
        };
        let mut input = row.new.input.clone();
        if waits && self.is_steered(&row) {
            let wanted = run.clone();
            let take = move |db: &Connection| take_over(db, &wanted, RunState::Running, Way::Steer);
            match self.journal.write(Durability::Durable, take).await {
                Ok(Some(taken)) => {
                    self.taken_over(&taken.others).await;
                    input = taken.input;
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%run, %error, "what was said meanwhile waits for a turn of its own"),
            }
        }
        let said = input.read::<Said>().map(|said| said.steered).unwrap_or_default();
        said.into_iter().skip(had).collect()
    }
}

impl Turns {
    fn is_steered(&self, row: &RunRow) -> bool {
        let source = row.new.origin.read::<Source>().unwrap_or(Source::Operator);
        let queue = &self.config.current().messages.queue;
        source
            .place()
            .is_some_and(|place| queue.mode_of(&place.account.channel) == QueueMode::Steer)
    }
}

/// How messages get into another one's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Into what is asked at its beginning.
    Collect,
    /// Into what is said while it runs.
    Steer,
}

struct Taken {
    input: Json,
    others: Vec<RunId>,
}

/// Ends the turns of everything that waits and goes with this one, and puts their words into it: all or nothing. None when nothing
/// does, or this turn is not in that state.
fn take_over(db: &Connection, run: &RunId, state: RunState, way: Way) -> Result<Option<Taken>, JournalError> {
    let Some(row) = runs::find(db, run)?.filter(|row| row.state == state) else {
        return Ok(None);
    };
    let (Ok(source), Ok(mut said)) = (row.new.origin.read::<Source>(), row.new.input.read::<Said>()) else {
        return Ok(None);
    };
    let rows = runs::queued(db, &row.new.session)?;
    let after = rows.iter().filter(|other| other.number > row.number);
    let waiting: Vec<_> = after.filter_map(waiting).collect();
    let company = queue::company(&source, &waiting);
    if company.is_empty() {
        return Ok(None);
    }
    let texts = company.iter().map(|other| other.said.text.as_str());
    match way {
        Way::Collect => said.text = queue::joined(std::iter::once(&*said.text).chain(texts)),
        Way::Steer => said.steered.extend(texts.map(str::to_owned)),
    }
    let input = Json::of(&said).map_err(|error| JournalError::Value(error.to_string()))?;
    let others: Vec<RunId> = company.iter().map(|other| other.run.clone()).collect();
    runs::take_over(db, run, &input, &others, clock::now())?;
    Ok(Some(Taken { input, others }))
}

fn waiting(row: &RunRow) -> Option<Waiting> {
    Some(Waiting {
        run: row.new.run.clone(),
        source: row.new.origin.read().ok()?,
        said: row.new.input.read().ok()?,
        created_at: row.created_at,
    })
}
