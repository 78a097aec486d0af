//! What is to be sent, in order for each place, each at most once. A row is claimed durably before the platform is asked; one
//! that was claimed when the process died is `uncertain` and is never sent again on its own.

use atoll_channels::port::{AccountRef, Outbound, Place, Receipt};
use atoll_protocol::id::RunId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::JournalError;
use super::column::{json, json_option, parsed, parsed_option, to_json, words};

mod end;

pub use end::{end, is_ended, open_keys};

words! {
    /// How far a send got.
    pub enum OutboxState {
        /// Waits for its turn or its time.
        Pending = "pending",
        /// The platform is being asked.
        Sending = "sending",
        /// The platform confirmed it.
        Sent = "sent",
        /// The platform will never take it.
        Refused = "refused",
        /// Nobody knows whether it was sent.
        Uncertain = "uncertain",
    }
}

/// One thing to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOutbound {
    /// Where to.
    pub place: Place,
    /// What.
    pub outbound: Outbound,
    /// The run it comes from.
    pub run: Option<RunId>,
    /// Its place among the parts of one answer.
    pub part: u32,
    /// Unique for ever: the same key again is the same send, and is skipped.
    pub key: String,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its number; grows in the order of sending.
    pub id: i64,
    /// What was handed in.
    pub item: NewOutbound,
    /// How far it got.
    pub state: OutboxState,
    /// How often the platform was asked.
    pub attempts: u32,
    /// Not to be claimed earlier, Unix milliseconds.
    pub not_before: i64,
    /// What the platform said.
    pub receipt: Option<Receipt>,
    /// The last error.
    pub error: Option<String>,
    /// When it was handed in, Unix milliseconds.
    pub created_at: i64,
    /// When it last changed, Unix milliseconds.
    pub updated_at: i64,
}

/// How a claimed send ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Confirmed.
    Sent(Receipt),
    /// Certainly not sent; again at that time (Unix milliseconds).
    Retry {
        /// When.
        not_before: i64,
        /// Why.
        error: String,
    },
    /// Certainly not sent, and never will be.
    Refused(String),
    /// Perhaps sent.
    Uncertain(String),
}

const COLUMNS: &str =
    "id, place, outbound, run, part, key, state, attempts, not_before, receipt, error, created_at, updated_at";

/// Hands in several, in order; gives the numbers of the new ones. One whose key is known already is skipped.
///
/// # Errors
/// Any SQL error; then none is stored.
pub fn enqueue(db: &Connection, items: &[NewOutbound], now: i64) -> Result<Vec<i64>, JournalError> {
    let mut insert = db.prepare_cached(
        "INSERT INTO outbox (lane, place, outbound, run, part, key, state, not_before, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'pending', ?7, ?7, ?7) ON CONFLICT (key) DO NOTHING",
    )?;
    let mut new = Vec::with_capacity(items.len());
    for item in items {
        let inserted = insert.execute(params![
            lane(&item.place)?,
            to_json(&item.place)?,
            to_json(&item.outbound)?,
            item.run.as_ref().map(RunId::as_str),
            item.part,
            item.key,
            now,
        ])?;
        if inserted == 1 {
            new.push(db.last_insert_rowid());
        }
    }
    Ok(new)
}

/// Rows whose turn and time have come: the first open one of each place, unless it is being sent. Oldest first; without those of
/// the accounts in `full`.
///
/// # Errors
/// Any SQL error.
pub fn due(db: &Connection, now: i64, limit: u32, full: &[AccountRef]) -> Result<Vec<OutboxRow>, JournalError> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM outbox
         WHERE id IN (SELECT min(id) FROM outbox WHERE state IN ('pending', 'sending') GROUP BY lane)
           AND state = 'pending' AND not_before <= ?1
           AND json_array(lane ->> 0, lane ->> 1) NOT IN (SELECT value FROM json_each(?3))
         ORDER BY id LIMIT ?2"
    ))?;
    let rows = query
        .query_map(params![now, limit, accounts(full)?], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// When the next row can be due, Unix milliseconds; none when nothing waits. Without those of the accounts in `full`.
///
/// # Errors
/// Any SQL error.
pub fn next_due(db: &Connection, full: &[AccountRef]) -> Result<Option<i64>, JournalError> {
    let mut query = db.prepare_cached(
        "SELECT min(not_before) FROM outbox
         WHERE id IN (SELECT min(id) FROM outbox WHERE state IN ('pending', 'sending') GROUP BY lane)
           AND state = 'pending' AND json_array(lane ->> 0, lane ->> 1) NOT IN (SELECT value FROM json_each(?1))",
    )?;
    Ok(query.query_row([accounts(full)?], |row| row.get(0))?)
}

/// Takes a row for sending: commit it [`super::Durability::Durable`] before the platform is asked. None when it is not its turn
/// (an earlier one of the same place is open), not its time, or not pending.
///
/// # Errors
/// Any SQL error.
pub fn claim(db: &Connection, id: i64, now: i64) -> Result<Option<OutboxRow>, JournalError> {
    let mut update = db.prepare_cached(&format!(
        "UPDATE outbox SET state = 'sending', attempts = attempts + 1, updated_at = ?2
         WHERE id = ?1 AND state = 'pending' AND not_before <= ?2
           AND NOT EXISTS (SELECT 1 FROM outbox AS earlier WHERE earlier.lane = outbox.lane AND earlier.id < outbox.id
                           AND earlier.state IN ('pending', 'sending'))
         RETURNING {COLUMNS}"
    ))?;
    Ok(update.query_row(params![id, now], read).optional()?)
}

/// Says how a claimed send ended. False when the row was not being sent.
///
/// # Errors
/// Any SQL error.
pub fn settle(db: &Connection, id: i64, settlement: &Settlement, now: i64) -> Result<bool, JournalError> {
    let (state, not_before, receipt, error) = match settlement {
        Settlement::Sent(receipt) => (OutboxState::Sent, None, Some(to_json(receipt)?), None),
        Settlement::Retry { not_before, error } => (OutboxState::Pending, Some(not_before), None, Some(error)),
        Settlement::Refused(error) => (OutboxState::Refused, None, None, Some(error)),
        Settlement::Uncertain(error) => (OutboxState::Uncertain, None, None, Some(error)),
    };
    let changed = db
        .prepare_cached(
            "UPDATE outbox SET state = ?2, not_before = coalesce(?3, not_before), receipt = ?4, error = ?5, updated_at = ?6
             WHERE id = ?1 AND state = 'sending'",
        )?
        .execute(params![id, state, not_before, receipt, error, now])?;
    if changed == 1 {
        end::follow(db, id, settlement, now)?;
    }
    Ok(changed == 1)
}

/// On start: what was being sent when the process died becomes `uncertain`, and is given so that somebody is told. What does no harm
/// twice ([`is_repeatable`]) waits to be sent again instead.
///
/// # Errors
/// Any SQL error.
pub fn recover(db: &Connection, now: i64) -> Result<Vec<OutboxRow>, JournalError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM outbox WHERE state = 'sending'"))?;
    let open: Vec<OutboxRow> = query.query_map([], read)?.collect::<Result<_, _>>()?;
    for row in open.iter().filter(|row| is_repeatable(&row.item.outbound)) {
        let again = Settlement::Retry {
            not_before: now,
            error: "the gateway ended while this was being sent".to_owned(),
        };
        settle(db, row.id, &again, now)?;
    }
    let mut update = db.prepare_cached(&format!(
        "UPDATE outbox SET state = 'uncertain', error = 'the gateway ended while this was being sent', updated_at = ?1
         WHERE state = 'sending' RETURNING {COLUMNS}"
    ))?;
    let mut rows: Vec<OutboxRow> = update.query_map([now], read)?.collect::<Result<_, _>>()?;
    rows.sort_by_key(|row| row.id);
    Ok(rows)
}

/// Whether it does no harm to send this again: the first answer to a question counts, however often it is asked.
pub fn is_repeatable(outbound: &Outbound) -> bool {
    match outbound {
        Outbound::Text { .. } | Outbound::File { .. } => false,
        Outbound::Card { .. } | Outbound::Edit { .. } | Outbound::ClickAnswer { .. } => true,
    }
}

/// What a run has handed in, in order.
///
/// # Errors
/// Any SQL error.
pub fn of_run(db: &Connection, run: &RunId) -> Result<Vec<OutboxRow>, JournalError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM outbox WHERE run = ?1 ORDER BY id"))?;
    let rows = query.query_map([run.as_str()], read)?.collect::<Result<_, _>>()?;
    Ok(rows)
}

/// One row.
///
/// # Errors
/// Any SQL error.
pub fn find(db: &Connection, id: i64) -> Result<Option<OutboxRow>, JournalError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM outbox WHERE id = ?1"))?;
    Ok(query.query_row([id], read).optional()?)
}

/// The row of that key.
///
/// # Errors
/// Any SQL error.
pub fn by_key(db: &Connection, key: &str) -> Result<Option<OutboxRow>, JournalError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM outbox WHERE key = ?1"))?;
    Ok(query.query_row([key], read).optional()?)
}

/// How many wait or are being sent.
///
/// # Errors
/// Any SQL error.
pub fn open_count(db: &Connection) -> Result<u64, JournalError> {
    let count: i64 = db
        .prepare_cached("SELECT count(*) FROM outbox WHERE state IN ('pending', 'sending')")?
        .query_row([], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Forgets rows that ended before the time; gives how many. Keep them longer than any caller can retry with the same key.
///
/// # Errors
/// Any SQL error.
pub fn prune(db: &Connection, before: i64) -> Result<usize, JournalError> {
    Ok(db.execute(
        "DELETE FROM outbox WHERE updated_at < ?1 AND state NOT IN ('pending', 'sending')",
        [before],
    )?)
}

/// Sends to one lane keep their order. A JSON array, so that no two places share one.
fn lane(place: &Place) -> Result<String, JournalError> {
    to_json(&(
        &place.account.channel,
        &place.account.account,
        &place.chat,
        &place.thread,
    ))
}

/// A JSON array of what lanes begin with.
fn accounts(accounts: &[AccountRef]) -> Result<String, JournalError> {
    let begin = |account: &AccountRef| to_json(&(&account.channel, &account.account));
    to_json(&accounts.iter().map(begin).collect::<Result<Vec<_>, _>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<OutboxRow> {
    Ok(OutboxRow {
        id: row.get("id")?,
        item: NewOutbound {
            place: json(row, "place")?,
            outbound: json(row, "outbound")?,
            run: parsed_option(row, "run")?,
            part: row.get("part")?,
            key: row.get("key")?,
        },
        state: parsed(row, "state")?,
        attempts: row.get("attempts")?,
        not_before: row.get("not_before")?,
        receipt: json_option(row, "receipt")?,
        error: row.get("error")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{database, outbound, place};

    fn ids(rows: &[OutboxRow]) -> Vec<i64> {
        rows.iter().map(|row| row.id).collect()
    }

    fn sent() -> Settlement {
        Settlement::Sent(Receipt {
            message: Some("77".into()),
        })
    }

    #[test]
    fn a_later_part_waits_for_the_earlier_ones_of_its_place_only() {
        let db = database();
        let new = enqueue(&db, &[outbound("1", "a"), outbound("1", "b"), outbound("2", "c")], 10).expect("enqueues");
        assert_eq!(ids(&due(&db, 10, 9, &[]).expect("reads")), [new[0], new[2]]);
        assert_eq!(claim(&db, new[1], 10).expect("claims"), None);
        let first = claim(&db, new[0], 10).expect("claims").expect("its turn");
        assert_eq!((first.attempts, first.state), (1, OutboxState::Sending));
        assert_eq!(claim(&db, new[1], 10).expect("claims"), None);
        assert!(settle(&db, new[0], &sent(), 11).expect("settles"));
        assert!(claim(&db, new[1], 11).expect("claims").is_some());
    }

    #[test]
    fn the_same_key_is_sent_once() {
        let db = database();
        assert_eq!(enqueue(&db, &[outbound("1", "a")], 1).expect("enqueues").len(), 1);
        assert!(enqueue(&db, &[outbound("1", "a")], 2).expect("enqueues").is_empty());
    }

    #[test]
    fn a_claimed_row_cannot_be_claimed_again() {
        let db = database();
        let new = enqueue(&db, &[outbound("1", "a")], 1).expect("enqueues");
        assert!(claim(&db, new[0], 1).expect("claims").is_some());
        assert_eq!(claim(&db, new[0], 1).expect("claims"), None);
    }

    #[test]
    fn a_retry_waits_for_its_time_and_holds_back_its_place() {
        let db = database();
        let new = enqueue(&db, &[outbound("1", "a"), outbound("1", "b")], 1).expect("enqueues");
        claim(&db, new[0], 1).expect("claims").expect("its turn");
        let retry = Settlement::Retry {
            not_before: 50,
            error: "429".into(),
        };
        assert!(settle(&db, new[0], &retry, 2).expect("settles"));
        assert!(due(&db, 49, 9, &[]).expect("reads").is_empty());
        assert_eq!(next_due(&db, &[]).expect("reads"), Some(50));
        assert_eq!(ids(&due(&db, 50, 9, &[]).expect("reads")), [new[0]]);
        let again = claim(&db, new[0], 50).expect("claims").expect("its time");
        assert_eq!((again.attempts, again.error.as_deref()), (2, Some("429")));
    }

    #[test]
    fn what_was_being_sent_at_the_end_of_the_process_is_uncertain_and_not_sent_again() {
        let db = database();
        let new = enqueue(&db, &[outbound("1", "a"), outbound("1", "b")], 1).expect("enqueues");
        claim(&db, new[0], 1).expect("claims").expect("its turn");
        let lost = recover(&db, 2).expect("recovers");
        assert_eq!(ids(&lost), [new[0]]);
        assert_eq!(lost[0].item, outbound("1", "a"));
        assert!(recover(&db, 3).expect("recovers").is_empty());
        assert_eq!(claim(&db, new[0], 3).expect("claims"), None);
        assert_eq!(ids(&due(&db, 3, 9, &[]).expect("reads")), [new[1]]);
    }

    #[test]
    fn every_end_is_kept_with_its_reason() {
        for (settlement, state, error) in [
            (sent(), OutboxState::Sent, None),
            (
                Settlement::Refused("blocked".into()),
                OutboxState::Refused,
                Some("blocked"),
            ),
            (
                Settlement::Uncertain("reset".into()),
                OutboxState::Uncertain,
                Some("reset"),
            ),
        ] {
            let db = database();
            let new = enqueue(&db, &[outbound("1", "a")], 1).expect("enqueues");
            claim(&db, new[0], 1).expect("claims").expect("its turn");
            assert!(settle(&db, new[0], &settlement, 2).expect("settles"));
            assert!(!settle(&db, new[0], &sent(), 3).expect("settles"));
            let row = find(&db, new[0]).expect("reads").expect("is there");
            assert_eq!((row.state, row.error.as_deref()), (state, error));
            assert_eq!(open_count(&db).expect("counts"), 0);
        }
    }

    #[test]
    fn an_account_without_room_is_left_out() {
        let db = database();
        let mut other = outbound("1", "b");
        other.place.account.account = "se\"cond".to_owned();
        let new = enqueue(&db, &[outbound("1", "a"), other.clone()], 10).expect("enqueues");
        let full = [other.place.account];
        assert_eq!(ids(&due(&db, 10, 9, &full).expect("reads")), [new[0]]);
        claim(&db, new[0], 10).expect("claims").expect("its turn");
        assert_eq!(next_due(&db, &full).expect("reads"), None);
        assert_eq!(next_due(&db, &[]).expect("reads"), Some(10));
    }

    #[test]
    fn a_topic_is_a_place_of_its_own() {
        let mut topic = place("1");
        topic.thread = Some("7".into());
        assert_ne!(lane(&place("1")).expect("json"), lane(&topic).expect("json"));
    }
}
