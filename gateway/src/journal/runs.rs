//! Agent turns: queued together with the inbox row they answer, ended together with their answer. Never runs one.

use atoll_protocol::id::{AgentId, RunId, SessionKey};
use atoll_protocol::json::Json;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::JournalError;
use super::column::{json, parsed, words};
use super::inbox::{self, InboxState};
use super::outbox::{self, NewOutbound};

words! {
    /// How far a turn got.
    pub enum RunState {
        /// Waits for its session's lane.
        Queued = "queued",
        /// Has begun.
        Running = "running",
        /// Ended with an answer.
        Done = "done",
        /// Ended with an error.
        Failed = "failed",
        /// Somebody stopped it.
        Aborted = "aborted",
        /// Nobody knows what it did.
        Uncertain = "uncertain",
    }
}

impl RunState {
    /// Whether it will not change again.
    pub fn is_end(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Done | Self::Failed | Self::Aborted | Self::Uncertain => true,
        }
    }
}

/// A turn to be queued.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its id; the same id again is the same turn.
    pub run: RunId,
    /// The conversation.
    pub session: SessionKey,
    /// The agent.
    pub agent: AgentId,
    /// The arrived message that it answers.
    pub inbox: Option<i64>,
    /// Where to answer; its shape belongs to the one who queues.
    pub origin: Json,
    /// What was asked; its shape belongs to the one who queues.
    pub input: Json,
}

/// One turn.
#[derive(Debug, Clone)]
pub struct RunRow {
    /// What was queued.
    pub new: NewRun,
    /// Grows in the order of queueing.
    pub number: i64,
    /// How far it got.
    pub state: RunState,
    /// When it was queued, Unix milliseconds.
    pub created_at: i64,
    /// When it began.
    pub started_at: Option<i64>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Why it did not end well.
    pub error: Option<String>,
    /// The whole answer.
    pub final_text: Option<String>,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// One of the ends.
    pub state: RunState,
    /// Why, where it did not end well.
    pub error: Option<String>,
    /// The whole answer, where there is one.
    pub final_text: Option<String>,
}

const COLUMNS: &str =
    "run, number, session, agent, inbox, origin, input, state, created_at, started_at, ended_at, error, final_text";

/// Queues a turn and marks its inbox row admitted. False when this run id is known already: nothing is changed then.
///
/// # Errors
/// Any SQL error.
pub fn queue(db: &Connection, new: &NewRun, now: i64) -> Result<bool, JournalError> {
    let inserted = db
        .prepare_cached(
            "INSERT INTO runs (run, number, session, agent, inbox, origin, input, state, created_at)
             VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM runs), ?2, ?3, ?4, ?5, ?6, 'queued', ?7)
             ON CONFLICT (run) DO NOTHING",
        )?
        .execute(params![
            new.run.as_str(),
            new.session.as_str(),
            new.agent.as_str(),
            new.inbox,
            new.origin.as_str(),
            new.input.as_str(),
            now,
        ])?;
    if inserted == 0 {
        return Ok(false);
    }
    if let Some(id) = new.inbox {
        inbox::follow(db, id, InboxState::Admitted, &new.run, &new.session, None, now)?;
    }
    Ok(true)
}

/// Marks a queued turn as begun. False when it is not queued. A turn found running after a restart stays running and is taken
/// up again without this.
///
/// # Errors
/// Any SQL error.
pub fn start(db: &Connection, run: &RunId, now: i64) -> Result<bool, JournalError> {
    let mut update = db.prepare_cached(
        "UPDATE runs SET state = 'running', started_at = ?2 WHERE run = ?1 AND state = 'queued' RETURNING session, inbox",
    )?;
    let started = update
        .query_row(params![run.as_str(), now], |row| {
            Ok((
                parsed::<SessionKey>(row, "session")?,
                row.get::<_, Option<i64>>("inbox")?,
            ))
        })
        .optional()?;
    let Some((session, inbox)) = started else {
        return Ok(false);
    };
    if let Some(id) = inbox {
        inbox::follow(db, id, InboxState::Running, run, &session, None, now)?;
    }
    Ok(true)
}

/// Ends a turn, hands in its answer and ends its inbox row: all or nothing. Gives the numbers of the new outbox rows, or none
/// when the turn had ended before: then nothing is handed in, so that an answer never leaves twice.
///
/// # Errors
/// Any SQL error; a state that is no end is refused.
pub fn finish(
    db: &Connection,
    run: &RunId,
    end: &RunEnd,
    answer: &[NewOutbound],
    now: i64,
) -> Result<Option<Vec<i64>>, JournalError> {
    if !end.state.is_end() {
        return Err(JournalError::Value(format!(
            "{} is not an end of a run",
            end.state.as_str()
        )));
    }
    let mut update = db.prepare_cached(
        "UPDATE runs SET state = ?2, ended_at = ?3, error = ?4, final_text = ?5
         WHERE run = ?1 AND state IN ('queued', 'running') RETURNING session, inbox",
    )?;
    let ended = update
        .query_row(
            params![run.as_str(), end.state, now, end.error, end.final_text],
            |row| {
                Ok((
                    parsed::<SessionKey>(row, "session")?,
                    row.get::<_, Option<i64>>("inbox")?,
                ))
            },
        )
        .optional()?;
    let Some((session, inbox)) = ended else {
        return Ok(None);
    };
    if let Some(id) = inbox {
        inbox::follow(db, id, inbox_end(end.state), run, &session, end.error.as_deref(), now)?;
    }
    outbox::enqueue(db, answer, now).map(Some)
}

fn inbox_end(state: RunState) -> InboxState {
    match state {
        RunState::Done | RunState::Aborted => InboxState::Done,
        RunState::Failed => InboxState::Failed,
        RunState::Queued | RunState::Running | RunState::Uncertain => InboxState::Uncertain,
    }
}

/// Turns that have not ended, in the order of queueing: what a start has to take up again. One that cannot be read stays where it
/// is, and is said so: it must not keep the others from their end.
///
/// # Errors
/// Any SQL error.
pub fn unfinished(db: &Connection) -> Result<Vec<RunRow>, JournalError> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM runs WHERE state IN ('queued', 'running') ORDER BY number"
    ))?;
    let each = |row: &Row<'_>| {
        let number: i64 = row.get("number")?;
        let read =
            read(row).inspect_err(|error| tracing::error!(number, %error, "a turn cannot be read; it is not taken up"));
        Ok(read.ok())
    };
    let rows: Vec<Option<RunRow>> = query.query_map([], each)?.collect::<Result<_, _>>()?;
    Ok(rows.into_iter().flatten().collect())
}

/// Turns of a session that have not begun, oldest first.
///
/// # Errors
/// Any SQL error.
pub fn queued(db: &Connection, session: &SessionKey) -> Result<Vec<RunRow>, JournalError> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM runs WHERE session = ?1 AND state = 'queued' ORDER BY number"
    ))?;
    let rows = query.query_map([session.as_str()], read)?.collect::<Result<_, _>>()?;
    Ok(rows)
}

/// When the turn before this number ended in its session, Unix milliseconds; none when there is none, or it has not.
///
/// # Errors
/// Any SQL error.
pub fn last_end(db: &Connection, session: &SessionKey, number: i64) -> Result<Option<i64>, JournalError> {
    let mut query =
        db.prepare_cached("SELECT ended_at FROM runs WHERE session = ?1 AND number < ?2 ORDER BY number DESC LIMIT 1")?;
    let ended: Option<Option<i64>> = query
        .query_row(params![session.as_str(), number], |row| row.get(0))
        .optional()?;
    Ok(ended.flatten())
}

/// Ends turns that have not begun, since another one answers their messages too, and gives that one this input.
///
/// # Errors
/// Any SQL error.
pub fn take_over(db: &Connection, run: &RunId, input: &Json, others: &[RunId], now: i64) -> Result<(), JournalError> {
    let end = RunEnd {
        state: RunState::Done,
        error: Some(format!("answered together with {run}")),
        final_text: None,
    };
    for other in others {
        finish(db, other, &end, &[], now)?;
    }
    say_instead(db, run, input)
}

/// Gives a turn another input.
///
/// # Errors
/// Any SQL error.
pub fn say_instead(db: &Connection, run: &RunId, input: &Json) -> Result<(), JournalError> {
    db.prepare_cached("UPDATE runs SET input = ?2 WHERE run = ?1")?
        .execute(params![run.as_str(), input.as_str()])?;
    Ok(())
}

/// One turn.
///
/// # Errors
/// Any SQL error.
pub fn find(db: &Connection, run: &RunId) -> Result<Option<RunRow>, JournalError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM runs WHERE run = ?1"))?;
    Ok(query.query_row([run.as_str()], read).optional()?)
}

/// The latest turns of a session, newest first.
///
/// # Errors
/// Any SQL error.
pub fn of_session(db: &Connection, session: &SessionKey, limit: u32) -> Result<Vec<RunRow>, JournalError> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM runs WHERE session = ?1 ORDER BY number DESC LIMIT ?2"
    ))?;
    let rows = query
        .query_map(params![session.as_str(), limit], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Forgets turns that ended before the time; gives how many.
///
/// # Errors
/// Any SQL error.
pub fn prune(db: &Connection, before: i64) -> Result<usize, JournalError> {
    // The newest stays, so that numbers keep growing.
    Ok(db.execute(
        "DELETE FROM runs WHERE ended_at < ?1 AND number < (SELECT max(number) FROM runs)",
        [before],
    )?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    Ok(RunRow {
        new: NewRun {
            run: parsed(row, "run")?,
            session: parsed(row, "session")?,
            agent: parsed(row, "agent")?,
            inbox: row.get("inbox")?,
            origin: json(row, "origin")?,
            input: json(row, "input")?,
        },
        number: row.get("number")?,
        state: parsed(row, "state")?,
        created_at: row.get("created_at")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
        error: row.get("error")?,
        final_text: row.get("final_text")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{account, database, message, new_run, outbound};

    fn done() -> RunEnd {
        RunEnd {
            state: RunState::Done,
            error: None,
            final_text: Some("hello".into()),
        }
    }

    #[test]
    fn a_run_carries_its_inbox_row_from_received_to_done() {
        let db = database();
        let id = inbox::commit(&db, &account(), "1", &[message("a")], 1).expect("commits")[0];
        let state = |db: &Connection| inbox::find(db, id).expect("reads").expect("is there").state;
        let new = new_run("r1", Some(id));
        assert!(queue(&db, &new, 2).expect("queues"));
        assert_eq!(state(&db), InboxState::Admitted);
        assert!(start(&db, &new.run, 3).expect("starts"));
        assert_eq!(state(&db), InboxState::Running);
        let sent = finish(&db, &new.run, &done(), &[outbound("1", "r1/0")], 4).expect("ends");
        assert_eq!(sent.map(|ids| ids.len()), Some(1));
        assert_eq!(state(&db), InboxState::Done);
        let row = find(&db, &new.run).expect("reads").expect("is there");
        assert_eq!((row.state, row.final_text.as_deref()), (RunState::Done, Some("hello")));
        assert_eq!(row.new.origin.as_str(), new.origin.as_str());
    }

    #[test]
    fn a_run_that_has_ended_answers_no_second_time() {
        let db = database();
        let new = new_run("r1", None);
        queue(&db, &new, 1).expect("queues");
        assert!(
            finish(&db, &new.run, &done(), &[outbound("1", "x")], 2)
                .expect("ends")
                .is_some()
        );
        assert!(
            finish(&db, &new.run, &done(), &[outbound("1", "y")], 3)
                .expect("ends")
                .is_none()
        );
        assert_eq!(outbox::open_count(&db).expect("counts"), 1);
        assert!(!start(&db, &new.run, 4).expect("asks"));
    }

    #[test]
    fn the_same_run_id_is_queued_once() {
        let db = database();
        assert!(queue(&db, &new_run("r1", None), 1).expect("queues"));
        assert!(!queue(&db, &new_run("r1", None), 2).expect("queues"));
        assert_eq!(unfinished(&db).expect("reads").len(), 1);
    }

    #[test]
    fn unfinished_runs_come_back_in_the_order_they_were_queued() {
        let db = database();
        for name in ["c", "a", "b"] {
            queue(&db, &new_run(name, None), 1).expect("queues");
        }
        start(&db, &RunId::new("a").expect("id"), 2).expect("starts");
        let rows = unfinished(&db).expect("reads");
        let names: Vec<_> = rows.iter().map(|row| row.new.run.as_str()).collect();
        assert_eq!(names, ["c", "a", "b"]);
        assert_eq!(of_session(&db, &rows[0].new.session, 2).expect("reads").len(), 2);
    }

    #[test]
    fn a_run_cannot_end_in_a_state_that_is_no_end() {
        let db = database();
        let new = new_run("r1", None);
        queue(&db, &new, 1).expect("queues");
        let end = RunEnd {
            state: RunState::Running,
            ..done()
        };
        assert!(finish(&db, &new.run, &end, &[], 2).is_err());
    }

    #[test]
    fn pruning_runs_keeps_the_open_ones_and_the_count() {
        let db = database();
        for name in ["a", "b", "c"] {
            queue(&db, &new_run(name, None), 1).expect("queues");
        }
        for name in ["a", "c"] {
            finish(&db, &RunId::new(name).expect("id"), &done(), &[], 2).expect("ends");
        }
        assert_eq!(prune(&db, 100).expect("prunes"), 1);
        queue(&db, &new_run("d", None), 3).expect("queues");
        let last = find(&db, &RunId::new("d").expect("id"))
            .expect("reads")
            .expect("is there");
        assert_eq!(last.number, 4);
    }
}
