//! The shape of `state.db`, one frozen SQL file per version, applied in order. Never creates a table anywhere else.

use rusqlite::{Connection, TransactionBehavior};

/// What `PRAGMA application_id` says of our files ("ATOL").
const APPLICATION_ID: i32 = 0x4154_4f4c;

/// Each takes a file from the version before it (its index) to the next one.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/v1.sql"),
    include_str!("schema/v2.sql"),
    include_str!("schema/v3.sql"),
    include_str!("schema/v4.sql"),
];

/// Why a file cannot become ours.
#[derive(Debug)]
pub(super) enum SchemaError {
    /// It belongs to another program.
    Foreign,
    /// A newer atoll wrote it.
    TooNew(usize),
    /// SQLite refused.
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for SchemaError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Brings a file of any earlier version, or an empty one, to the present one.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), SchemaError> {
    let version = recognise(conn)?;
    for (index, step) in MIGRATIONS.iter().enumerate().skip(version) {
        apply(conn, index, step)?;
    }
    Ok(())
}

fn recognise(conn: &Connection) -> Result<usize, SchemaError> {
    let application: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let empty = application == 0 && version == 0 && tables == 0;
    if !empty && application != APPLICATION_ID {
        return Err(SchemaError::Foreign);
    }
    let version = usize::try_from(version).map_err(|_| SchemaError::Foreign)?;
    if version > MIGRATIONS.len() {
        return Err(SchemaError::TooNew(version));
    }
    Ok(version)
}

fn apply(conn: &mut Connection, index: usize, step: &str) -> Result<(), SchemaError> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(step)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", index as i64 + 1)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(conn: &Connection) -> Vec<(String, Option<String>)> {
        let mut statement = conn
            .prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")
            .expect("prepares");
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("queries");
        rows.collect::<Result<_, _>>().expect("reads")
    }

    #[test]
    fn every_earlier_version_becomes_the_present_one() {
        let mut fresh = Connection::open_in_memory().expect("opens");
        migrate(&mut fresh).expect("migrates");
        for version in 0..=MIGRATIONS.len() {
            let mut old = Connection::open_in_memory().expect("opens");
            for (index, step) in MIGRATIONS.iter().enumerate().take(version) {
                apply(&mut old, index, step).expect("applies");
            }
            migrate(&mut old).expect("migrates");
            assert_eq!(shape(&old), shape(&fresh), "from version {version}");
            assert_eq!(recognise(&old).expect("ours"), MIGRATIONS.len());
        }
    }

    #[test]
    fn a_file_of_another_program_is_left_alone() {
        let mut conn = Connection::open_in_memory().expect("opens");
        conn.execute_batch("CREATE TABLE theirs (x)").expect("creates");
        assert!(matches!(migrate(&mut conn), Err(SchemaError::Foreign)));
        assert_eq!(shape(&conn).len(), 1);
    }

    #[test]
    fn a_file_of_a_newer_version_is_left_alone() {
        let mut conn = Connection::open_in_memory().expect("opens");
        migrate(&mut conn).expect("migrates");
        let newer = MIGRATIONS.len() + 1;
        conn.pragma_update(None, "user_version", newer as i64).expect("sets");
        assert!(matches!(migrate(&mut conn), Err(SchemaError::TooNew(found)) if found == newer));
    }
}
