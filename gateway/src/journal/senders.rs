//! Strangers who may ask for direct-message access by a code, and those who have it. Never gives more than direct messages; never
//! makes a code up.

use std::time::Duration;

use atoll_channels::port::{AccountRef, Sender};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::JournalError;

/// How long a code can be approved.
pub const CODE_TTL: Duration = Duration::from_secs(60 * 60);

/// Pending codes of one account. More: the stranger gets no code and no answer.
pub const PENDING_CODES: usize = 3;

/// The letters and digits of a code: none that look alike. 32 of them, so that 5 random bits choose one.
pub const CODE_ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// The length of a code.
pub const CODE_CHARS: usize = 8;

/// One stranger who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeRow {
    /// The bot that was written to.
    pub account: AccountRef,
    /// The platform's immutable user id.
    pub sender: String,
    /// What the platform showed; never to be trusted.
    pub name: String,
    /// What the owner approves.
    pub code: String,
    /// When it was made, Unix milliseconds.
    pub created_at: i64,
    /// When it ends, Unix milliseconds.
    pub expires_at: i64,
}

/// One person who may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderRow {
    /// To this bot.
    pub account: AccountRef,
    /// The platform's immutable user id.
    pub sender: String,
    /// What the platform showed; never to be trusted.
    pub name: String,
    /// Since when, Unix milliseconds.
    pub approved_at: i64,
    /// Who allowed it, in words for a person.
    pub approved_by: String,
}

/// What a stranger who writes is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A new code: tell it once.
    New(String),
    /// A code is pending already and was told: say nothing.
    Again,
    /// Too many wait: say nothing.
    Full,
}

/// Notes that a stranger wants in, under a code that the caller drew from [`CODE_ALPHABET`].
///
/// # Errors
/// Any SQL error; [`JournalError::is_conflict`] when another one of the channel has this very code: draw again.
pub fn ask(
    db: &Connection,
    account: &AccountRef,
    sender: &Sender,
    code: &str,
    now: i64,
) -> Result<Asked, JournalError> {
    expire(db, now)?;
    let waits = db
        .prepare_cached("SELECT 1 FROM sender_codes WHERE channel = ?1 AND account = ?2 AND sender = ?3")?
        .exists(params![account.channel, account.account, sender.id])?;
    if waits {
        return Ok(Asked::Again);
    }
    let pending: i64 = db
        .prepare_cached("SELECT count(*) FROM sender_codes WHERE channel = ?1 AND account = ?2")?
        .query_row(params![account.channel, account.account], |row| row.get(0))?;
    if usize::try_from(pending).unwrap_or(usize::MAX) >= PENDING_CODES {
        return Ok(Asked::Full);
    }
    db.prepare_cached(
        "INSERT INTO sender_codes (channel, account, sender, name, code, created_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        account.channel,
        account.account,
        sender.id,
        sender.name,
        code,
        now,
        now.saturating_add(CODE_TTL.as_millis() as i64),
    ])?;
    Ok(Asked::New(code.to_owned()))
}

/// Lets in whoever has the code, in any case of letters, on one account or on any of the channel. None when no pending code is
/// this one.
///
/// # Errors
/// Any SQL error.
pub fn approve(
    db: &Connection,
    channel: &str,
    account: Option<&str>,
    code: &str,
    by: &str,
    now: i64,
) -> Result<Option<SenderRow>, JournalError> {
    expire(db, now)?;
    let code = code.trim().to_ascii_uppercase();
    let mut take = db.prepare_cached(
        "DELETE FROM sender_codes WHERE channel = ?1 AND code = ?2 AND (?3 IS NULL OR account = ?3)
         RETURNING channel, account, sender, name, code, created_at, expires_at",
    )?;
    let Some(row) = take.query_row(params![channel, code, account], read_code).optional()? else {
        return Ok(None);
    };
    let allowed = SenderRow {
        account: row.account,
        sender: row.sender,
        name: row.name,
        approved_at: now,
        approved_by: by.to_owned(),
    };
    allow(db, &allowed)?;
    Ok(Some(allowed))
}

/// Lets somebody in without a code.
///
/// # Errors
/// Any SQL error.
pub fn allow(db: &Connection, row: &SenderRow) -> Result<(), JournalError> {
    db.prepare_cached(
        "INSERT INTO senders (channel, account, sender, name, approved_at, approved_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (channel, account, sender) DO UPDATE SET name = ?4, approved_at = ?5, approved_by = ?6",
    )?
    .execute(params![
        row.account.channel,
        row.account.account,
        row.sender,
        row.name,
        row.approved_at,
        row.approved_by,
    ])?;
    Ok(())
}

/// Shuts somebody out again. False when they were not in.
///
/// # Errors
/// Any SQL error.
pub fn revoke(db: &Connection, account: &AccountRef, sender: &str) -> Result<bool, JournalError> {
    let removed = db
        .prepare_cached("DELETE FROM senders WHERE channel = ?1 AND account = ?2 AND sender = ?3")?
        .execute(params![account.channel, account.account, sender])?;
    Ok(removed == 1)
}

/// Whether this user was let in on this account.
///
/// # Errors
/// Any SQL error.
pub fn is_allowed(db: &Connection, account: &AccountRef, sender: &str) -> Result<bool, JournalError> {
    let mut query = db.prepare_cached("SELECT 1 FROM senders WHERE channel = ?1 AND account = ?2 AND sender = ?3")?;
    Ok(query.exists(params![account.channel, account.account, sender])?)
}

/// Everybody who was let in, of one channel or of all.
///
/// # Errors
/// Any SQL error.
pub fn allowed(db: &Connection, channel: Option<&str>) -> Result<Vec<SenderRow>, JournalError> {
    let mut query = db.prepare_cached(
        "SELECT channel, account, sender, name, approved_at, approved_by FROM senders
         WHERE ?1 IS NULL OR channel = ?1 ORDER BY channel, account, approved_at, sender",
    )?;
    let rows = query.query_map([channel], read_sender)?.collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Everybody who waits, of one channel or of all, oldest first.
///
/// # Errors
/// Any SQL error.
pub fn pending(db: &Connection, channel: Option<&str>, now: i64) -> Result<Vec<CodeRow>, JournalError> {
    let mut query = db.prepare_cached(
        "SELECT channel, account, sender, name, code, created_at, expires_at FROM sender_codes
         WHERE (?1 IS NULL OR channel = ?1) AND expires_at > ?2 ORDER BY created_at, channel, account, sender",
    )?;
    let rows = query
        .query_map(params![channel, now], read_code)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn expire(db: &Connection, now: i64) -> Result<(), JournalError> {
    db.prepare_cached("DELETE FROM sender_codes WHERE expires_at <= ?1")?
        .execute([now])?;
    Ok(())
}

fn read_account(row: &Row<'_>) -> rusqlite::Result<AccountRef> {
    Ok(AccountRef {
        channel: row.get("channel")?,
        account: row.get("account")?,
    })
}

fn read_code(row: &Row<'_>) -> rusqlite::Result<CodeRow> {
    Ok(CodeRow {
        account: read_account(row)?,
        sender: row.get("sender")?,
        name: row.get("name")?,
        code: row.get("code")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
    })
}

fn read_sender(row: &Row<'_>) -> rusqlite::Result<SenderRow> {
    Ok(SenderRow {
        account: read_account(row)?,
        sender: row.get("sender")?,
        name: row.get("name")?,
        approved_at: row.get("approved_at")?,
        approved_by: row.get("approved_by")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{account, database};

    fn stranger(id: &str) -> Sender {
        Sender {
            id: id.into(),
            name: "Eve".into(),
            is_bot: false,
        }
    }

    fn asks(db: &Connection, id: &str, code: &str, now: i64) -> Asked {
        ask(db, &account(), &stranger(id), code, now).expect("asks")
    }

    #[test]
    fn a_stranger_is_told_a_code_once() {
        let db = database();
        assert_eq!(asks(&db, "1", "AAAABBBB", 1), Asked::New("AAAABBBB".into()));
        assert_eq!(asks(&db, "1", "CCCCDDDD", 2), Asked::Again);
        assert_eq!(pending(&db, None, 2).expect("reads").len(), 1);
    }

    #[test]
    fn a_fourth_stranger_is_ignored_until_one_has_gone() {
        let db = database();
        for id in ["1", "2", "3"] {
            asks(&db, id, &id.repeat(8), 1);
        }
        assert_eq!(asks(&db, "4", "44444444", 2), Asked::Full);
        let hour = CODE_TTL.as_millis() as i64;
        assert_eq!(asks(&db, "4", "44444444", 1 + hour), Asked::New("44444444".into()));
    }

    #[test]
    fn an_approved_code_lets_in_this_sender_on_this_account_once() {
        let db = database();
        asks(&db, "1", "AAAABBBB", 1);
        let approved = |account, code| approve(&db, "telegram", account, code, "ann", 2).expect("approves");
        assert_eq!(approved(None, "AAAABBBX"), None);
        assert_eq!(approved(Some("other"), "AAAABBBB"), None);
        assert_eq!(approved(None, " aaaabbbb ").map(|row| row.sender), Some("1".into()));
        assert_eq!(approved(None, "AAAABBBB"), None);
        assert!(is_allowed(&db, &account(), "1").expect("reads"));
        assert!(!is_allowed(&db, &account(), "2").expect("reads"));
        let mut other = account();
        other.account = "other".into();
        assert!(!is_allowed(&db, &other, "1").expect("reads"));
        assert!(revoke(&db, &account(), "1").expect("revokes"));
        assert!(!is_allowed(&db, &account(), "1").expect("reads"));
    }

    #[test]
    fn a_code_ends_after_an_hour() {
        let db = database();
        asks(&db, "1", "AAAABBBB", 0);
        let hour = CODE_TTL.as_millis() as i64;
        assert_eq!(pending(&db, None, hour - 1).expect("reads").len(), 1);
        assert!(pending(&db, None, hour).expect("reads").is_empty());
        assert_eq!(
            approve(&db, "telegram", None, "AAAABBBB", "ann", hour).expect("asks"),
            None
        );
    }

    #[test]
    fn a_code_that_is_taken_is_a_conflict() {
        let db = database();
        asks(&db, "1", "AAAABBBB", 1);
        let error = ask(&db, &account(), &stranger("2"), "AAAABBBB", 1).expect_err("taken");
        assert!(error.is_conflict());
    }
}
