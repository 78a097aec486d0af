//! Pairing records and pending pairing requests as opaque JSON text; the book decides what is in them. Never looks inside.

use atoll_protocol::id::{DeviceId, PairingId};
use rusqlite::{Connection, params};

use super::JournalError;
use super::column::parsed;

/// Stores a device's record, replacing the one before.
///
/// # Errors
/// Any SQL error.
pub fn put(db: &Connection, device: &DeviceId, record: &str) -> Result<(), JournalError> {
    db.prepare_cached(
        "INSERT INTO devices (device, record) VALUES (?1, ?2) ON CONFLICT (device) DO UPDATE SET record = ?2",
    )?
    .execute(params![device.to_string(), record])?;
    Ok(())
}

/// Forgets a device. False when it is unknown.
///
/// # Errors
/// Any SQL error.
pub fn remove(db: &Connection, device: &DeviceId) -> Result<bool, JournalError> {
    let removed = db
        .prepare_cached("DELETE FROM devices WHERE device = ?1")?
        .execute([device.to_string()])?;
    Ok(removed == 1)
}

/// Every device and its record.
///
/// # Errors
/// Any SQL error.
pub fn all(db: &Connection) -> Result<Vec<(DeviceId, String)>, JournalError> {
    let mut query = db.prepare_cached("SELECT device, record FROM devices ORDER BY device")?;
    let rows = query
        .query_map([], |row| Ok((parsed(row, "device")?, row.get("record")?)))?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Stores a pending request, replacing the one before.
///
/// # Errors
/// Any SQL error.
pub fn put_pending(db: &Connection, pairing: &PairingId, record: &str) -> Result<(), JournalError> {
    db.prepare_cached(
        "INSERT INTO pairings (pairing, record) VALUES (?1, ?2) ON CONFLICT (pairing) DO UPDATE SET record = ?2",
    )?
    .execute(params![pairing.as_str(), record])?;
    Ok(())
}

/// Forgets a pending request. False when it is unknown.
///
/// # Errors
/// Any SQL error.
pub fn remove_pending(db: &Connection, pairing: &PairingId) -> Result<bool, JournalError> {
    let removed = db
        .prepare_cached("DELETE FROM pairings WHERE pairing = ?1")?
        .execute([pairing.as_str()])?;
    Ok(removed == 1)
}

/// Every pending request.
///
/// # Errors
/// Any SQL error.
pub fn all_pending(db: &Connection) -> Result<Vec<(PairingId, String)>, JournalError> {
    let mut query = db.prepare_cached("SELECT pairing, record FROM pairings ORDER BY pairing")?;
    let rows = query
        .query_map([], |row| Ok((parsed(row, "pairing")?, row.get("record")?)))?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::database;

    #[test]
    fn records_are_replaced_listed_and_forgotten() {
        let db = database();
        let device = DeviceId::from_digest([7; 32]);
        put(&db, &device, "{}").expect("puts");
        put(&db, &device, r#"{"a":1}"#).expect("puts");
        assert_eq!(all(&db).expect("reads"), [(device, r#"{"a":1}"#.to_owned())]);
        assert!(remove(&db, &device).expect("removes"));
        assert!(!remove(&db, &device).expect("removes"));
    }

    #[test]
    fn pending_requests_are_replaced_listed_and_forgotten() {
        let db = database();
        let pairing = PairingId::new("q1").expect("id");
        put_pending(&db, &pairing, "{}").expect("puts");
        put_pending(&db, &pairing, "[]").expect("puts");
        assert_eq!(all_pending(&db).expect("reads"), [(pairing.clone(), "[]".to_owned())]);
        assert!(remove_pending(&db, &pairing).expect("removes"));
        assert!(all_pending(&db).expect("reads").is_empty());
    }
}
