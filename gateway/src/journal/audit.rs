//! Who did what to what, and how it ended. Only ever added to, until it is old. Never holds a secret or message text. Calls that were made
//! stand in their own table, which is read along, and come here when they are forgotten there.

use atoll_protocol::json::Json;
use rusqlite::{Connection, Row, params};

use super::JournalError;
use super::column::json;

/// What is kept of each text of an entry, bytes. More: the rest is cut at a character.
const TEXT_BYTES: usize = 256;

/// Entries that are kept. More: the oldest are forgotten.
const MOST: i64 = 500_000;

/// A call as an entry.
const CALL: &str = "caller, 'node.invoke', node, state, json_patch(json_object('callId', call, 'command', command), json_object('code', error_code))";

/// One entry to be added.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who: `operator <device>`, `agent main`, `telegram:123`, `local uid 1000`.
    pub actor: String,
    /// What: the method, command or decision.
    pub action: String,
    /// To what: the node, approval or device.
    pub target: String,
    /// How it ended: `ok`, `denied`, an error's code.
    pub outcome: String,
    /// More facts.
    pub detail: Json,
}

/// One entry.
#[derive(Debug, Clone)]
pub struct AuditRow {
    /// When, Unix milliseconds.
    pub at: i64,
    /// What.
    pub entry: Entry,
}

/// The beginning of a text, as much as an entry keeps.
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}

/// Adds an entry.
///
/// # Errors
/// Any SQL error.
pub fn append(db: &Connection, entry: &Entry, now: i64) -> Result<(), JournalError> {
    db.prepare_cached(
        "INSERT INTO audit (at, actor, action, target, outcome, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        now,
        cut(&entry.actor),
        cut(&entry.action),
        cut(&entry.target),
        cut(&entry.outcome),
        entry.detail.as_str()
    ])?;
    Ok(())
}

/// The latest entries and calls since then (Unix milliseconds), newest first.
///
/// # Errors
/// Any SQL error.
pub fn latest(db: &Connection, since: i64, limit: u32) -> Result<Vec<AuditRow>, JournalError> {
    // Numbers of calls grow with time, so the newest one that is too old bounds the search.
    let mut statement = db.prepare_cached(&format!(
        "SELECT * FROM (
           SELECT * FROM (SELECT at, id AS place, actor, action, target, outcome, detail FROM audit
                          WHERE at >= ?1 ORDER BY at DESC, id DESC LIMIT ?2)
           UNION ALL
           SELECT * FROM (SELECT opened_at, number, {CALL} FROM calls
                          WHERE number > coalesce((SELECT number FROM calls WHERE opened_at < ?1 ORDER BY number DESC LIMIT 1), 0)
                          ORDER BY number DESC LIMIT ?2))
         ORDER BY at DESC, place DESC LIMIT ?2"
    ))?;
    let rows = statement
        .query_map(params![since, limit], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Takes over what [`super::calls::prune`] is about to forget.
pub(super) fn keep_calls(db: &Connection, ended_before: i64) -> Result<(), JournalError> {
    db.execute(
        &format!(
            "INSERT INTO audit (at, actor, action, target, outcome, detail) SELECT opened_at, {CALL} FROM calls
             WHERE ended_at < ?1 AND number < (SELECT max(number) FROM calls) ORDER BY number"
        ),
        [ended_before],
    )?;
    Ok(())
}

/// Forgets entries from before the time, and the oldest where there are too many; gives how many.
///
/// # Errors
/// Any SQL error.
pub fn prune(db: &Connection, before: i64) -> Result<usize, JournalError> {
    forget(db, before, MOST)
}

fn forget(db: &Connection, before: i64, most: i64) -> Result<usize, JournalError> {
    Ok(db.execute(
        "DELETE FROM audit
         WHERE at < max(?1, coalesce((SELECT at FROM audit ORDER BY at DESC LIMIT 1 OFFSET ?2 - 1), ?1))",
        [before, most],
    )?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        at: row.get("at")?,
        entry: Entry {
            actor: row.get("actor")?,
            action: row.get("action")?,
            target: row.get("target")?,
            outcome: row.get("outcome")?,
            detail: json(row, "detail")?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::calls::{self, CallEnd, CallState, Details, NewCall};
    use crate::journal::tests::database;

    fn call(name: &str) -> NewCall {
        NewCall {
            call: name.parse().expect("an id"),
            key: None,
            node: "n1".to_owned(),
            command: "camera.snap".to_owned(),
            caller: "cy".to_owned(),
            session: None,
            details: Details::default(),
        }
    }

    fn entry(actor: &str, action: &str) -> Entry {
        Entry {
            actor: actor.into(),
            action: action.into(),
            target: "n1".into(),
            outcome: "ok".into(),
            detail: Json::parse("{}").expect("json"),
        }
    }

    #[test]
    fn entries_and_calls_are_read_together_newest_first() {
        let db = database();
        append(&db, &entry("ann", "config.set"), 1).expect("appends");
        calls::open(&db, &call("c1"), 2).expect("opens");
        append(&db, &entry("bob", "config.set"), 3).expect("appends");
        calls::open(&db, &call("c2"), 4).expect("opens");
        let found = |since, limit| {
            let rows = latest(&db, since, limit).expect("reads");
            rows.into_iter()
                .map(|row| (row.at, row.entry.actor))
                .collect::<Vec<_>>()
        };
        let row = |at, actor: &str| (at, actor.to_owned());
        assert_eq!(found(0, 10), [row(4, "cy"), row(3, "bob"), row(2, "cy"), row(1, "ann")]);
        assert_eq!(found(2, 10), [row(4, "cy"), row(3, "bob"), row(2, "cy")]);
        assert_eq!(found(0, 1), [row(4, "cy")]);
        assert_eq!(found(5, 10), []);
        let call = latest(&db, 4, 1).expect("reads").remove(0).entry;
        assert_eq!(
            (&*call.action, &*call.target, &*call.outcome),
            ("node.invoke", "n1", "queued")
        );
        assert_eq!(call.detail.as_str(), r#"{"callId":"c2","command":"camera.snap"}"#);
    }

    #[test]
    fn a_call_that_is_forgotten_stays_in_the_audit() {
        let db = database();
        for name in ["c1", "c2"] {
            calls::open(&db, &call(name), 1).expect("opens");
            let end = CallEnd {
                state: CallState::Error,
                error_code: Some("NO".to_owned()),
                result: None,
            };
            calls::close(&db, &call(name).call, &end, 2).expect("closes");
        }
        let before: Vec<_> = latest(&db, 0, 9)
            .expect("reads")
            .into_iter()
            .map(|row| row.entry)
            .collect();
        // The newest row stays.
        assert_eq!(calls::prune(&db, 3).expect("prunes"), 1);
        let after: Vec<_> = latest(&db, 0, 9)
            .expect("reads")
            .into_iter()
            .map(|row| row.entry)
            .collect();
        assert_eq!(after.len(), 2);
        let told = |entry: &Entry| (entry.outcome.clone(), entry.detail.as_str().to_owned());
        assert!(
            before
                .iter()
                .all(|entry| after.iter().any(|kept| told(kept) == told(entry)))
        );
        assert!(told(&after[0]).1.contains(r#""code":"NO""#), "{after:?}");
    }

    #[test]
    fn old_entries_are_forgotten_and_so_are_too_many() {
        let db = database();
        for at in [1, 5, 6, 7] {
            append(&db, &entry("ann", "config.set"), at).expect("appends");
        }
        let left = || {
            let rows = latest(&db, 0, 10).expect("reads");
            rows.iter().map(|row| row.at).collect::<Vec<_>>()
        };
        assert_eq!(forget(&db, 5, 3).expect("prunes"), 1);
        assert_eq!(left(), [7, 6, 5]);
        assert_eq!(forget(&db, 0, 2).expect("prunes"), 1);
        assert_eq!(left(), [7, 6]);
    }

    #[test]
    fn a_long_text_is_cut() {
        let db = database();
        append(&db, &entry(&"é".repeat(500), "x"), 1).expect("appends");
        let kept = latest(&db, 0, 1).expect("reads").remove(0).entry.actor;
        assert_eq!(kept, "é".repeat(TEXT_BYTES / 2));
    }
}
