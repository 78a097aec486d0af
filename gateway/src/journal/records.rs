//! Devices, setup codes, exec approvals and grants, each as opaque JSON text: the state machines that own them decide what is in them. Never looks
//! inside.

use rusqlite::{Connection, params};

use super::JournalError;

/// What a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A paired device.
    Device,
    /// A setup code.
    SetupCode,
    /// A question whether a command may run.
    Approval,
    /// A command that a person allowed for good.
    Grant,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::SetupCode => "setup-code",
            Self::Approval => "approval",
            Self::Grant => "grant",
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Store a record under its id, replacing the one before.
    Put(Kind, String, String),
    /// Forget the record of this id, if there is one.
    Remove(Kind, String),
}

/// Makes one change.
///
/// # Errors
/// Any SQL error.
pub fn edit(db: &Connection, edit: &Edit) -> Result<(), JournalError> {
    match edit {
        Edit::Put(kind, id, record) => db
            .prepare_cached(
                "INSERT INTO records (kind, id, record) VALUES (?1, ?2, ?3) ON CONFLICT (kind, id) DO UPDATE SET record = ?3",
            )?
            .execute(params![kind.as_str(), id, record])?,
        Edit::Remove(kind, id) => {
            db.prepare_cached("DELETE FROM records WHERE kind = ?1 AND id = ?2")?.execute(params![kind.as_str(), id])?
        }
    };
    Ok(())
}

/// Every record of a kind, by id.
///
/// # Errors
/// Any SQL error.
pub fn all(db: &Connection, kind: Kind) -> Result<Vec<String>, JournalError> {
    let mut query = db.prepare_cached("SELECT record FROM records WHERE kind = ?1 ORDER BY id")?;
    let rows = query
        .query_map([kind.as_str()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::database;

    #[test]
    fn kinds_are_kept_apart_and_the_last_record_counts() {
        let db = database();
        let put = |kind, record: &str| Edit::Put(kind, "a".to_owned(), record.to_owned());
        for change in [put(Kind::Device, "1"), put(Kind::Grant, "2"), put(Kind::Device, "3")] {
            edit(&db, &change).expect("stores");
        }
        assert_eq!(all(&db, Kind::Device).expect("reads"), ["3"]);
        edit(&db, &Edit::Remove(Kind::Device, "a".to_owned())).expect("removes");
        assert!(all(&db, Kind::Device).expect("reads").is_empty());
        assert_eq!(all(&db, Kind::Grant).expect("reads"), ["2"]);
    }
}
