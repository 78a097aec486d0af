//! What arrived from the channels, and how far each platform was read. Stored before the platform is told; every row ends in a
//! state that somebody can see. Never decides who may speak.

use atoll_channels::port::{AccountRef, Content, Inbound, Place, Sender};
use atoll_protocol::id::{RunId, SessionKey};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::JournalError;
use super::column::{json, parsed, parsed_option, to_json, words};

words! {
    /// How far an arrived thing got.
    pub enum InboxState {
        /// Stored, nothing decided.
        Received = "received",
        /// A run was queued for it.
        Admitted = "admitted",
        /// Nothing will be done; the row says why.
        Ignored = "ignored",
        /// Its run has begun.
        Running = "running",
        /// Answered or acted upon.
        Done = "done",
        /// Could not be; the row says why.
        Failed = "failed",
        /// Nobody knows how far it got.
        Uncertain = "uncertain",
    }
}

/// One arrived thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxRow {
    /// Its number here; grows in the order of arrival.
    pub id: i64,
    /// The thing itself.
    pub inbound: Inbound,
    /// When it was stored, Unix milliseconds.
    pub received_at: i64,
    /// How far it got.
    pub state: InboxState,
    /// Why it was ignored or failed.
    pub reason: Option<String>,
    /// The run that works on it.
    pub run: Option<RunId>,
    /// The session it belongs to.
    pub session: Option<SessionKey>,
}

/// A row that is there and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its number.
    pub id: i64,
    /// Why.
    pub reason: String,
}

/// What the reason of a row begins with that was set aside.
const SET_ASIDE: &str = "set aside: ";

const COLUMNS: &str =
    "id, channel, account, inbound, place, sender, content, sent_at, received_at, state, reason, run, session";

/// Stores what arrived and where its account stopped reading, together. Gives the numbers of what is new: a thing whose id is
/// stored already is skipped.
///
/// # Errors
/// Any SQL error; then nothing of it is stored.
pub fn commit(
    db: &Connection,
    account: &AccountRef,
    cursor: &str,
    arrived: &[Inbound],
    now: i64,
) -> Result<Vec<i64>, JournalError> {
    let mut insert = db.prepare_cached(
        "INSERT INTO inbox (channel, account, inbound, place, sender, content, sent_at, received_at, updated_at, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, 'received') ON CONFLICT (channel, account, inbound) DO NOTHING",
    )?;
    let mut new = Vec::with_capacity(arrived.len());
    for inbound in arrived {
        let inserted = insert.execute(params![
            account.channel,
            account.account,
            inbound.id,
            to_json(&inbound.place)?,
            to_json(&inbound.sender)?,
            to_json(&inbound.content)?,
            i64::try_from(inbound.sent_at_ms).unwrap_or(i64::MAX),
            now,
        ])?;
        if inserted == 1 {
            new.push(db.last_insert_rowid());
        }
    }
    db.prepare_cached(
        "INSERT INTO cursor (channel, account, value, updated_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (channel, account) DO UPDATE SET value = ?3, updated_at = ?4",
    )?
    .execute(params![account.channel, account.account, cursor, now])?;
    Ok(new)
}

/// Where the account stopped reading.
///
/// # Errors
/// Any SQL error.
pub fn cursor(db: &Connection, account: &AccountRef) -> Result<Option<String>, JournalError> {
    let mut query = db.prepare_cached("SELECT value FROM cursor WHERE channel = ?1 AND account = ?2")?;
    Ok(query
        .query_row(params![account.channel, account.account], |row| row.get(0))
        .optional()?)
}

/// One row.
///
/// # Errors
/// Any SQL error.
pub fn find(db: &Connection, id: i64) -> Result<Option<InboxRow>, JournalError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM inbox WHERE id = ?1"))?;
    Ok(query.query_row([id], read).optional()?)
}

/// Everything that has not ended, in the order of arrival: what a start has to take up again.
///
/// # Errors
/// Any SQL error.
pub fn unfinished(db: &Connection) -> Result<Vec<InboxRow>, JournalError> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM inbox WHERE state IN ('received', 'admitted', 'running') ORDER BY id"
    ))?;
    let rows = query.query_map([], read)?.collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Rows behind `after` about which nothing is decided, in the order of arrival; each for itself, so that one that cannot be read
/// holds up no other.
///
/// # Errors
/// Any SQL error.
pub fn received(db: &Connection, after: i64, limit: u32) -> Result<Vec<Result<InboxRow, Unreadable>>, JournalError> {
    // The first condition is the index's own; without it every row behind `after` would be looked at.
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM inbox WHERE state IN ('received', 'admitted', 'running') AND state = 'received' AND id > ?1
         ORDER BY id LIMIT ?2"
    ))?;
    let each = |row: &Row<'_>| {
        let id = row.get("id")?;
        Ok(read(row).map_err(|error| Unreadable {
            id,
            reason: error.to_string(),
        }))
    };
    let rows = query
        .query_map(params![after, limit], each)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Ends a row that cannot be read, or that breaks whatever is done with it. Only from `received`.
///
/// # Errors
/// Any SQL error.
pub fn set_aside(db: &Connection, row: &Unreadable, now: i64) -> Result<(), JournalError> {
    let reason = format!("{SET_ASIDE}{}", row.reason);
    settle(db, row.id, InboxState::Failed, Some(&reason), now).map(drop)
}

/// How many rows of an account were set aside and are not forgotten yet.
///
/// # Errors
/// Any SQL error.
pub fn count_set_aside(db: &Connection, account: &AccountRef) -> Result<u64, JournalError> {
    let mut query = db.prepare_cached(
        "SELECT count(*) FROM inbox
         WHERE channel = ?1 AND account = ?2 AND state = 'failed' AND substr(reason, 1, length(?3)) = ?3",
    )?;
    let count: i64 = query.query_row(params![account.channel, account.account, SET_ASIDE], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Forgets what a message said and quoted: a stranger's words are not kept.
///
/// # Errors
/// Any SQL error.
pub fn drop_text(db: &Connection, id: i64) -> Result<(), JournalError> {
    let Some(row) = find(db, id)? else { return Ok(()) };
    let Content::Message {
        message, mentions_bot, ..
    } = row.inbound.content
    else {
        return Ok(());
    };
    let empty = Content::Message {
        text: String::new(),
        message,
        mentions_bot,
        quoted: None,
    };
    db.prepare_cached("UPDATE inbox SET content = ?2 WHERE id = ?1")?
        .execute(params![id, to_json(&empty)?])?;
    Ok(())
}

/// Ends a row that no run works on (ignored, a direct command, a click): only from `received`. False when it was not there.
///
/// # Errors
/// Any SQL error.
pub fn settle(
    db: &Connection,
    id: i64,
    state: InboxState,
    reason: Option<&str>,
    now: i64,
) -> Result<bool, JournalError> {
    let changed = db
        .prepare_cached(
            "UPDATE inbox SET state = ?2, reason = ?3, updated_at = ?4 WHERE id = ?1 AND state = 'received'",
        )?
        .execute(params![id, state, reason, now])?;
    Ok(changed == 1)
}

/// Forgets rows that ended before the time; gives how many.
///
/// # Errors
/// Any SQL error.
pub fn prune(db: &Connection, before: i64) -> Result<usize, JournalError> {
    Ok(db.execute(
        "DELETE FROM inbox WHERE updated_at < ?1 AND state NOT IN ('received', 'admitted', 'running')",
        [before],
    )?)
}

/// Moves a row along with its run; the run table calls it in its own transactions.
pub(super) fn follow(
    db: &Connection,
    id: i64,
    state: InboxState,
    run: &RunId,
    session: &SessionKey,
    reason: Option<&str>,
    now: i64,
) -> Result<(), JournalError> {
    db.prepare_cached(
        "UPDATE inbox SET state = ?2, run = ?3, session = ?4, reason = ?5, updated_at = ?6
         WHERE id = ?1 AND state IN ('received', 'admitted', 'running')",
    )?
    .execute(params![id, state, run.as_str(), session.as_str(), reason, now])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<InboxRow> {
    let place: Place = json(row, "place")?;
    let sender: Sender = json(row, "sender")?;
    let content: Content = json(row, "content")?;
    let sent_at: i64 = row.get("sent_at")?;
    Ok(InboxRow {
        id: row.get("id")?,
        inbound: Inbound {
            id: row.get("inbound")?,
            place,
            sender,
            content,
            sent_at_ms: u64::try_from(sent_at).unwrap_or_default(),
        },
        received_at: row.get("received_at")?,
        state: parsed(row, "state")?,
        reason: row.get("reason")?,
        run: parsed_option(row, "run")?,
        session: parsed_option(row, "session")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{account, database, message};

    #[test]
    fn what_arrives_twice_is_stored_once_and_the_cursor_moves() {
        let db = database();
        let first = commit(&db, &account(), "5", &[message("a"), message("b")], 1).expect("commits");
        assert_eq!(first.len(), 2);
        let second = commit(&db, &account(), "6", &[message("b"), message("c")], 2).expect("commits");
        assert_eq!(second.len(), 1);
        assert_eq!(cursor(&db, &account()).expect("reads"), Some("6".to_owned()));
        let rows = unfinished(&db).expect("reads");
        let ids: Vec<_> = rows.iter().map(|row| row.inbound.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        assert_eq!(rows[0].inbound, message("a"));
    }

    #[test]
    fn the_same_id_on_another_account_is_another_thing() {
        let db = database();
        let mut other = account();
        other.account = "second".into();
        assert_eq!(
            commit(&db, &account(), "1", &[message("a")], 1).expect("commits").len(),
            1
        );
        assert_eq!(commit(&db, &other, "1", &[message("a")], 1).expect("commits").len(), 1);
    }

    #[test]
    fn a_settled_row_is_no_longer_unfinished_and_cannot_be_settled_again() {
        let db = database();
        let ids = commit(&db, &account(), "1", &[message("a")], 1).expect("commits");
        assert!(settle(&db, ids[0], InboxState::Ignored, Some("not allowed"), 2).expect("settles"));
        assert!(!settle(&db, ids[0], InboxState::Done, None, 3).expect("settles"));
        assert!(unfinished(&db).expect("reads").is_empty());
        let row = find(&db, ids[0]).expect("reads").expect("is there");
        assert_eq!(
            (row.state, row.reason.as_deref()),
            (InboxState::Ignored, Some("not allowed"))
        );
    }

    #[test]
    fn pruning_keeps_what_has_not_ended() {
        let db = database();
        let ids = commit(&db, &account(), "1", &[message("a"), message("b")], 1).expect("commits");
        settle(&db, ids[0], InboxState::Done, None, 1).expect("settles");
        assert_eq!(prune(&db, 100).expect("prunes"), 1);
        assert!(find(&db, ids[1]).expect("reads").is_some());
    }
}
