//! Who did what to what, and how it ended. Only ever added to, until it is old. Never holds a secret or message text.

use atoll_protocol::json::Json;
use rusqlite::{Connection, Row, named_params, params};

use super::JournalError;
use super::column::json;

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
    /// Grows with time.
    pub id: i64,
    /// When, Unix milliseconds.
    pub at: i64,
    /// What.
    pub entry: Entry,
}

/// Which entries are wanted; every condition that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// At or after, Unix milliseconds.
    pub since: Option<i64>,
    /// Only entries with a smaller id: the way to the next page.
    pub before: Option<i64>,
    /// Exactly this actor.
    pub actor: Option<String>,
    /// Exactly this action.
    pub action: Option<String>,
    /// Exactly this target.
    pub target: Option<String>,
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
        entry.actor,
        entry.action,
        entry.target,
        entry.outcome,
        entry.detail.as_str()
    ])?;
    Ok(())
}

/// The latest entries that match, newest first.
///
/// # Errors
/// Any SQL error.
pub fn query(db: &Connection, query: &Query, limit: u32) -> Result<Vec<AuditRow>, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT id, at, actor, action, target, outcome, detail FROM audit
         WHERE (:since IS NULL OR at >= :since) AND (:before IS NULL OR id < :before)
           AND (:actor IS NULL OR actor = :actor) AND (:action IS NULL OR action = :action)
           AND (:target IS NULL OR target = :target)
         ORDER BY id DESC LIMIT :limit",
    )?;
    let wanted = named_params! {
        ":since": query.since, ":before": query.before, ":actor": query.actor, ":action": query.action,
        ":target": query.target, ":limit": limit,
    };
    let rows = statement.query_map(wanted, read)?.collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Forgets entries from before the time; gives how many.
///
/// # Errors
/// Any SQL error.
pub fn prune(db: &Connection, before: i64) -> Result<usize, JournalError> {
    Ok(db.execute("DELETE FROM audit WHERE at < ?1", [before])?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        id: row.get("id")?,
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
    use crate::journal::tests::database;

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
    fn entries_are_found_by_every_condition_newest_first() {
        let db = database();
        for (at, actor, action) in [(1, "ann", "invoke"), (2, "bob", "invoke"), (3, "ann", "approve")] {
            append(&db, &entry(actor, action), at).expect("appends");
        }
        let found = |wanted: Query| {
            let rows = query(&db, &wanted, 10).expect("reads");
            rows.iter().map(|row| row.at).collect::<Vec<_>>()
        };
        assert_eq!(found(Query::default()), [3, 2, 1]);
        let actor = Some("ann".to_owned());
        let action = Some("invoke".to_owned());
        assert_eq!(
            found(Query {
                actor: actor.clone(),
                ..Query::default()
            }),
            [3, 1]
        );
        assert_eq!(
            found(Query {
                actor,
                action,
                ..Query::default()
            }),
            [1]
        );
        assert_eq!(
            found(Query {
                since: Some(2),
                ..Query::default()
            }),
            [3, 2]
        );
        assert_eq!(
            found(Query {
                before: Some(2),
                ..Query::default()
            }),
            [1]
        );
        assert_eq!(
            found(Query {
                target: Some("n2".into()),
                ..Query::default()
            }),
            [0; 0]
        );
    }

    #[test]
    fn old_entries_are_forgotten() {
        let db = database();
        append(&db, &entry("ann", "invoke"), 1).expect("appends");
        append(&db, &entry("ann", "invoke"), 5).expect("appends");
        assert_eq!(prune(&db, 5).expect("prunes"), 1);
        assert_eq!(query(&db, &Query::default(), 10).expect("reads").len(), 1);
    }
}
