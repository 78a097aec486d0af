//! Standing permissions: "allow always" for exactly this program with these arguments in this folder on this node. Never matches by
//! pattern.

use atoll_protocol::id::AgentId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::JournalError;
use super::column::{json, parsed, to_json};

/// What is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGrant {
    /// For this agent.
    pub agent: AgentId,
    /// On this node: its device id, or `gateway`.
    pub node: String,
    /// The program (absolute) and its arguments.
    pub argv: Vec<String>,
    /// The working folder (absolute).
    pub cwd: String,
}

/// One permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// Its number, by which it is removed.
    pub id: i64,
    /// What is allowed.
    pub new: NewGrant,
    /// When it was given, Unix milliseconds.
    pub created_at: i64,
    /// Who gave it, in words for a person.
    pub created_by: String,
    /// When it was last used.
    pub last_used_at: Option<i64>,
}

const COLUMNS: &str = "id, agent, node, argv, cwd, created_at, created_by, last_used_at";

/// Gives a permission and its number; the same again is the one that exists.
///
/// # Errors
/// Any SQL error.
pub fn allow(db: &Connection, new: &NewGrant, by: &str, now: i64) -> Result<i64, JournalError> {
    if let Some(row) = matching(db, new)? {
        return Ok(row.id);
    }
    db.prepare_cached(
        "INSERT INTO grants (agent, node, argv, cwd, created_at, created_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        new.agent.as_str(),
        new.node,
        to_json(&new.argv)?,
        new.cwd,
        now,
        by
    ])?;
    Ok(db.last_insert_rowid())
}

/// The permission for exactly this.
///
/// # Errors
/// Any SQL error.
pub fn matching(db: &Connection, wanted: &NewGrant) -> Result<Option<GrantRow>, JournalError> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM grants WHERE agent = ?1 AND node = ?2 AND argv = ?3 AND cwd = ?4"
    ))?;
    let argv = to_json(&wanted.argv)?;
    Ok(query
        .query_row(params![wanted.agent.as_str(), wanted.node, argv, wanted.cwd], read)
        .optional()?)
}

/// Notes that it was used.
///
/// # Errors
/// Any SQL error.
pub fn used(db: &Connection, id: i64, now: i64) -> Result<(), JournalError> {
    db.prepare_cached("UPDATE grants SET last_used_at = ?2 WHERE id = ?1")?
        .execute([id, now])?;
    Ok(())
}

/// All of them, oldest first.
///
/// # Errors
/// Any SQL error.
pub fn all(db: &Connection) -> Result<Vec<GrantRow>, JournalError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM grants ORDER BY id"))?;
    let rows = query.query_map([], read)?.collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Withdraws one. False when there is none.
///
/// # Errors
/// Any SQL error.
pub fn remove(db: &Connection, id: i64) -> Result<bool, JournalError> {
    Ok(db.execute("DELETE FROM grants WHERE id = ?1", [id])? == 1)
}

/// Withdraws everything that was allowed on a node; gives how many. Called when the node is removed, so that a device that later
/// has its name inherits nothing.
///
/// # Errors
/// Any SQL error.
pub fn remove_of_node(db: &Connection, node: &str) -> Result<usize, JournalError> {
    Ok(db.execute("DELETE FROM grants WHERE node = ?1", [node])?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<GrantRow> {
    Ok(GrantRow {
        id: row.get("id")?,
        new: NewGrant {
            agent: parsed(row, "agent")?,
            node: row.get("node")?,
            argv: json(row, "argv")?,
            cwd: row.get("cwd")?,
        },
        created_at: row.get("created_at")?,
        created_by: row.get("created_by")?,
        last_used_at: row.get("last_used_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::database;

    fn grant() -> NewGrant {
        NewGrant {
            agent: AgentId::new("main").expect("id"),
            node: "n1".into(),
            argv: vec!["/bin/echo".into(), "a b".into()],
            cwd: "/home".into(),
        }
    }

    #[test]
    fn a_grant_covers_exactly_what_it_says() {
        let db = database();
        let id = allow(&db, &grant(), "ann", 1).expect("allows");
        assert_eq!(allow(&db, &grant(), "bob", 2).expect("allows"), id);
        used(&db, id, 9).expect("notes");
        let found = matching(&db, &grant()).expect("reads").expect("matches");
        assert_eq!((found.created_by.as_str(), found.last_used_at), ("ann", Some(9)));
        let mut others = [grant(), grant(), grant(), grant(), grant()];
        others[0].agent = AgentId::new("other").expect("id");
        others[1].node = "n2".into();
        others[2].cwd = "/".into();
        others[3].argv = vec!["/bin/echo".into(), "a".into(), "b".into()];
        others[4].argv.push(String::new());
        for other in others {
            assert_eq!(matching(&db, &other).expect("reads"), None, "{other:?}");
        }
    }

    #[test]
    fn a_removed_node_leaves_no_grant() {
        let db = database();
        let id = allow(&db, &grant(), "ann", 1).expect("allows");
        assert_eq!(remove_of_node(&db, "n2").expect("removes"), 0);
        assert_eq!(remove_of_node(&db, "n1").expect("removes"), 1);
        assert!(!remove(&db, id).expect("removes"));
        assert!(all(&db).expect("reads").is_empty());
    }
}
