//! Calls of commands on nodes, and what became of each. The key (run, tool call) makes a tool call one call for ever. Never
//! waits for a node.

use atoll_protocol::id::{CallId, RunId, SessionKey};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::column::{parsed, parsed_option, words};
use super::{JournalError, audit};

/// Text of a result that is kept, bytes. More: the rest is cut at a character, with a mark.
pub const RESULT_BYTES: usize = 512 * 1024;

words! {
    /// How far a call got.
    pub enum CallState {
        /// Not yet with the node.
        Queued = "queued",
        /// On its way.
        Sent = "sent",
        /// The node has begun.
        Running = "running",
        /// It gave a result.
        Ok = "ok",
        /// It gave an error.
        Error = "error",
        /// Its deadline passed.
        TimedOut = "timed_out",
        /// Somebody stopped it.
        Cancelled = "cancelled",
        /// The node was not there, and it was never sent.
        NodeAway = "node_away",
        /// Nobody knows whether it ran.
        Uncertain = "uncertain",
    }
}

impl CallState {
    /// Whether it will not change again.
    pub fn is_end(self) -> bool {
        match self {
            Self::Queued | Self::Sent | Self::Running => false,
            Self::Ok | Self::Error | Self::TimedOut | Self::Cancelled | Self::NodeAway | Self::Uncertain => true,
        }
    }
}

/// Names one tool call of one run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ToolKey {
    /// The turn.
    pub run: RunId,
    /// The model's id for its tool call.
    pub tool_call: String,
}

/// A call to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCall {
    /// Its id.
    pub call: CallId,
    /// The tool call it serves; none for an operator's.
    pub key: Option<ToolKey>,
    /// The node's device id, or `gateway` for its own machine.
    pub node: String,
    /// The command.
    pub command: String,
    /// On whose behalf, in words for a person.
    pub caller: String,
    /// The conversation it belongs to.
    pub session: Option<SessionKey>,
    /// What more there is to know of it.
    pub details: Details,
}

/// What is not known of every call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// When it ends at the latest, Unix milliseconds.
    pub deadline_at: Option<i64>,
    /// The caller's key.
    pub idempotency_key: Option<String>,
    /// What the key stands for: a digest of node, command and parameters.
    pub fingerprint: Option<Fingerprint>,
    /// What the node remembered when it was sent; only where the node keeps the end until it is committed here.
    pub memory: Option<String>,
    /// All that is needed to make it later, JSON; only until it is sent.
    pub waiting: Option<String>,
}

/// A digest.
pub type Fingerprint = [u8; 16];

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRow {
    /// What was opened.
    pub new: NewCall,
    /// Grows in the order of opening.
    pub number: i64,
    /// How far it got.
    pub state: CallState,
    /// When it was opened, Unix milliseconds.
    pub opened_at: i64,
    /// When it left for the node.
    pub sent_at: Option<i64>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Its error's code.
    pub error_code: Option<String>,
    /// Its result, or its error's message.
    pub result: Option<String>,
}

/// What came of opening a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It is new.
    New,
    /// The same tool call (or call id) was opened before; this is how far it got. It must not be sent again.
    Before(Box<CallRow>),
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallEnd {
    /// One of the ends.
    pub state: CallState,
    /// Its error's code.
    pub error_code: Option<String>,
    /// Its result, or its error's message; cut at [`RESULT_BYTES`].
    pub result: Option<String>,
}

/// So many of the last calls are looked through for a list.
const LATELY: u32 = 20_000;

/// Which of the ended calls.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// On this node alone.
    pub node: Option<String>,
    /// Ended so.
    pub state: Option<CallState>,
}

const COLUMNS: &str = "call, number, run, tool_call, node, command, caller, session, state, opened_at, sent_at, ended_at, \
                       error_code, result, deadline_at, idempotency_key, fingerprint, memory, waiting";

/// Opens a call, unless its key or id is known.
///
/// # Errors
/// Any SQL error.
pub fn open(db: &Connection, new: &NewCall, now: i64) -> Result<Opened, JournalError> {
    if let Some(row) = find(db, &new.call)? {
        return Ok(Opened::Before(Box::new(row)));
    }
    if let Some(key) = &new.key
        && let Some(row) = by_key(db, key)?
    {
        return Ok(Opened::Before(Box::new(row)));
    }
    insert(db, new, CallState::Queued, now, None, None)?;
    Ok(Opened::New)
}

/// Opens a call that leaves now; it serves no tool call, and its id is new.
///
/// # Errors
/// Any SQL error, also that its id is known.
pub fn open_sent(db: &Connection, new: &NewCall, now: i64) -> Result<(), JournalError> {
    insert(db, new, CallState::Sent, now, Some(now), None)
}

/// As [`open_sent`], for a call whose end is known already, with the time when it ended.
///
/// # Errors
/// As there; a state that is no end is refused.
pub fn open_ended(
    db: &Connection,
    new: &NewCall,
    sent_at: i64,
    end: &CallEnd,
    ended_at: i64,
) -> Result<(), JournalError> {
    must_be_end(end)?;
    insert(db, new, end.state, sent_at, Some(sent_at), Some((end, ended_at)))
}

fn insert(
    db: &Connection,
    new: &NewCall,
    state: CallState,
    now: i64,
    sent_at: Option<i64>,
    end: Option<(&CallEnd, i64)>,
) -> Result<(), JournalError> {
    db.prepare_cached(
        "INSERT INTO calls (call, number, run, tool_call, node, command, caller, session, state, opened_at,
                            deadline_at, idempotency_key, fingerprint, memory, waiting, sent_at,
                            ended_at, error_code, result)
         VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM calls), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,
                 ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
    )?
    .execute(params![
        new.call.as_str(),
        new.key.as_ref().map(|key| key.run.as_str()),
        new.key.as_ref().map(|key| &key.tool_call),
        new.node,
        new.command,
        new.caller,
        new.session.as_ref().map(SessionKey::as_str),
        state,
        now,
        new.details.deadline_at,
        new.details.idempotency_key,
        new.details.fingerprint,
        new.details.memory,
        new.details.waiting,
        sent_at,
        end.map(|(_, at)| at),
        end.and_then(|(end, _)| end.error_code.as_deref()),
        end.and_then(|(end, _)| end.result.as_deref()).map(bounded),
    ])?;
    Ok(())
}

fn must_be_end(end: &CallEnd) -> Result<(), JournalError> {
    if end.state.is_end() {
        return Ok(());
    }
    let state = end.state.as_str();
    Err(JournalError::Value(format!("{state} is not an end of a call")))
}

/// Marks a queued call as sent: commit it before the frame leaves. False when it is not queued.
///
/// # Errors
/// Any SQL error.
pub fn sent(db: &Connection, call: &CallId, now: i64) -> Result<bool, JournalError> {
    let changed = db
        .prepare_cached("UPDATE calls SET state = 'sent', sent_at = ?2 WHERE call = ?1 AND state = 'queued'")?
        .execute(params![call.as_str(), now])?;
    Ok(changed == 1)
}

/// As [`sent`], for whoever must not send a call that was sent before.
///
/// # Errors
/// Any SQL error; a call that is not queued is refused.
pub fn sent_once(db: &Connection, call: &CallId, now: i64) -> Result<(), JournalError> {
    if sent(db, call, now)? {
        return Ok(());
    }
    Err(JournalError::Value(format!("call {call} was made before")))
}

/// As [`sent_once`], for a call that has waited: it gets its deadline and its node's memory now.
///
/// # Errors
/// As there.
pub fn sent_after_waiting(
    db: &Connection,
    call: &CallId,
    deadline_at: i64,
    memory: Option<&str>,
    now: i64,
) -> Result<(), JournalError> {
    sent_once(db, call, now)?;
    db.prepare_cached("UPDATE calls SET deadline_at = ?2, memory = ?3 WHERE call = ?1")?
        .execute(params![call.as_str(), deadline_at, memory])?;
    Ok(())
}

/// Takes a call back that was sent and certainly never began: it is queued again.
///
/// # Errors
/// Any SQL error.
pub fn unsent(db: &Connection, call: &CallId) -> Result<(), JournalError> {
    db.prepare_cached(
        "UPDATE calls SET state = 'queued', sent_at = NULL, ended_at = NULL, error_code = NULL, result = NULL
         WHERE call = ?1 AND (ended_at IS NULL OR state = 'node_away')",
    )?
    .execute([call.as_str()])?;
    Ok(())
}

/// Marks a sent call as begun on the node. False when it is not on its way.
///
/// # Errors
/// Any SQL error.
pub fn running(db: &Connection, call: &CallId) -> Result<bool, JournalError> {
    let changed = db
        .prepare_cached("UPDATE calls SET state = 'running' WHERE call = ?1 AND state = 'sent'")?
        .execute([call.as_str()])?;
    Ok(changed == 1)
}

/// Ends a call. An uncertain one may still learn its real end, when the node comes back with it; any other end is final.
/// False when nothing changed.
///
/// # Errors
/// Any SQL error; a state that is no end is refused.
pub fn close(db: &Connection, call: &CallId, end: &CallEnd, now: i64) -> Result<bool, JournalError> {
    must_be_end(end)?;
    let result = end.result.as_deref().map(bounded);
    let changed = db
        .prepare_cached(
            "UPDATE calls SET state = ?2, ended_at = ?3, error_code = ?4, result = ?5
             WHERE call = ?1 AND (ended_at IS NULL OR state = 'uncertain' AND ?2 <> 'uncertain')",
        )?
        .execute(params![call.as_str(), end.state, now, end.error_code, result])?;
    Ok(changed == 1)
}

/// Calls that have not ended, oldest first. After a restart a queued one was certainly never sent; a sent or running one may be
/// with its node, which offers the outcome when it is back.
///
/// # Errors
/// Any SQL error.
pub fn unfinished(db: &Connection) -> Result<Vec<CallRow>, JournalError> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM calls WHERE ended_at IS NULL ORDER BY number"
    ))?;
    let rows = query.query_map([], read)?.collect::<Result<_, _>>()?;
    Ok(rows)
}

/// The calls that ended lately, newest first, without their results: `limit` at most of the last `LATELY` that pass the filter.
///
/// # Errors
/// Any SQL error.
pub fn ended_lately(db: &Connection, filter: &Filter, limit: u32) -> Result<Vec<CallRow>, JournalError> {
    let columns = COLUMNS.replace("result", "NULL AS result");
    let mut query = db.prepare_cached(&format!(
        "SELECT {columns} FROM (SELECT * FROM calls ORDER BY number DESC LIMIT {LATELY})
         WHERE ended_at IS NOT NULL AND (?1 IS NULL OR node = ?1) AND (?2 IS NULL OR state = ?2)
         ORDER BY number DESC LIMIT ?3"
    ))?;
    let rows = query
        .query_map(params![filter.node, filter.state, limit], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Calls that were opened with a key since then, newest first, `limit` at most.
///
/// # Errors
/// Any SQL error.
pub fn keyed_since(db: &Connection, since: i64, limit: usize) -> Result<Vec<CallRow>, JournalError> {
    let columns = COLUMNS.replace("result", "NULL AS result");
    let mut query = db.prepare_cached(&format!("SELECT {columns} FROM calls ORDER BY number DESC LIMIT ?1"))?;
    let mut keyed = Vec::new();
    // Numbers grow with time, so the first one that is too old ends the search.
    for row in query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], read)? {
        let row = row?;
        if row.opened_at < since {
            break;
        }
        if row.new.details.fingerprint.is_some() {
            keyed.push(row);
        }
    }
    Ok(keyed)
}

/// One call.
///
/// # Errors
/// Any SQL error.
pub fn find(db: &Connection, call: &CallId) -> Result<Option<CallRow>, JournalError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM calls WHERE call = ?1"))?;
    Ok(query.query_row([call.as_str()], read).optional()?)
}

/// The call of a tool call.
///
/// # Errors
/// Any SQL error.
pub fn by_key(db: &Connection, key: &ToolKey) -> Result<Option<CallRow>, JournalError> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM calls WHERE run = ?1 AND tool_call = ?2"
    ))?;
    Ok(query
        .query_row(params![key.run.as_str(), key.tool_call], read)
        .optional()?)
}

/// Forgets calls that ended before the time but for what the audit says of them; gives how many. Keep them longer than runs can be open.
///
/// # Errors
/// Any SQL error.
pub fn prune(db: &Connection, before: i64) -> Result<usize, JournalError> {
    audit::keep_calls(db, before)?;
    // The newest stays, so that numbers keep growing.
    Ok(db.execute(
        "DELETE FROM calls WHERE ended_at < ?1 AND number < (SELECT max(number) FROM calls)",
        [before],
    )?)
}

fn bounded(text: &str) -> String {
    if text.len() <= RESULT_BYTES {
        return text.to_owned();
    }
    let cut = text.floor_char_boundary(RESULT_BYTES);
    format!("{}\n[cut: {} more bytes]", &text[..cut], text.len() - cut)
}

fn read(row: &Row<'_>) -> rusqlite::Result<CallRow> {
    let run: Option<RunId> = parsed_option(row, "run")?;
    let tool_call: Option<String> = row.get("tool_call")?;
    Ok(CallRow {
        new: NewCall {
            call: parsed(row, "call")?,
            key: run.zip(tool_call).map(|(run, tool_call)| ToolKey { run, tool_call }),
            node: row.get("node")?,
            command: row.get("command")?,
            caller: row.get("caller")?,
            session: parsed_option(row, "session")?,
            details: Details {
                deadline_at: row.get("deadline_at")?,
                idempotency_key: row.get("idempotency_key")?,
                fingerprint: row.get("fingerprint")?,
                memory: row.get("memory")?,
                waiting: row.get("waiting")?,
            },
        },
        number: row.get("number")?,
        state: parsed(row, "state")?,
        opened_at: row.get("opened_at")?,
        sent_at: row.get("sent_at")?,
        ended_at: row.get("ended_at")?,
        error_code: row.get("error_code")?,
        result: row.get("result")?,
    })
}

#[cfg(test)]
mod tests;
