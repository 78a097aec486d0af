//! Questions to a person and their answers. The first answer wins, for ever; a question survives the process. Never decides who may
//! answer.

use atoll_channels::port::Place;
use atoll_protocol::id::{ApprovalId, RunId};
use atoll_protocol::json::Json;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::JournalError;
use super::calls::ToolKey;
use super::column::{json, parsed, parsed_option, to_json, words};

words! {
    /// Where a question stands.
    pub enum ApprovalState {
        /// Nobody has answered.
        Pending = "pending",
        /// Answered.
        Resolved = "resolved",
        /// Nobody answered in time.
        Expired = "expired",
        /// It is no longer of interest.
        Cancelled = "cancelled",
    }
}

words! {
    /// An answer, in the words of the wire.
    pub enum Decision {
        /// This once.
        AllowOnce = "allow-once",
        /// This, and the same again.
        AllowAlways = "allow-always",
        /// No.
        Deny = "deny",
    }
}

/// A message that shows the question in a chat, to be edited when it is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Where it is.
    pub place: Place,
    /// The platform's id of the message.
    pub message: String,
}

/// A question to be asked.
#[derive(Debug, Clone)]
pub struct NewApproval {
    /// Its id.
    pub approval: ApprovalId,
    /// The tool call that waits for it; none for an operator's.
    pub key: Option<ToolKey>,
    /// What is asked, as clients see it.
    pub request: Json,
    /// The plan's encoded bytes.
    pub plan: Vec<u8>,
    /// When it expires, Unix milliseconds.
    pub expires_at: i64,
}

/// One question.
#[derive(Debug, Clone)]
pub struct ApprovalRow {
    /// What was asked.
    pub new: NewApproval,
    /// Where it stands.
    pub state: ApprovalState,
    /// The answer.
    pub decision: Option<Decision>,
    /// Who answered, in words for a person.
    pub resolved_by: Option<String>,
    /// When it was asked, Unix milliseconds.
    pub created_at: i64,
    /// When it was answered, expired or withdrawn.
    pub resolved_at: Option<i64>,
    /// Where it is shown.
    pub cards: Vec<Card>,
}

/// What came of an answer.
#[derive(Debug, Clone)]
pub enum Resolved {
    /// It is the answer.
    First(Box<ApprovalRow>),
    /// Somebody was earlier, or it has expired.
    Before(Box<ApprovalRow>),
    /// There is no such question.
    Unknown,
}

const COLUMNS: &str = "approval, run, tool_call, request, plan, state, decision, resolved_by, created_at, expires_at, \
                       resolved_at, cards";

/// Stores a question. False when its id is known.
///
/// # Errors
/// Any SQL error.
pub fn ask(db: &Connection, new: &NewApproval, now: i64) -> Result<bool, JournalError> {
    let inserted = db
        .prepare_cached(
            "INSERT INTO approvals (approval, run, tool_call, request, plan, state, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 'pending', ?6, ?7) ON CONFLICT (approval) DO NOTHING",
        )?
        .execute(params![
            new.approval.as_str(),
            new.key.as_ref().map(|key| key.run.as_str()),
            new.key.as_ref().map(|key| &key.tool_call),
            new.request.as_str(),
            new.plan,
            now,
            new.expires_at,
        ])?;
    Ok(inserted == 1)
}

/// Answers a question, when it is pending and not past its time.
///
/// # Errors
/// Any SQL error.
pub fn resolve(
    db: &Connection,
    approval: &ApprovalId,
    decision: Decision,
    by: &str,
    now: i64,
) -> Result<Resolved, JournalError> {
    let changed = db
        .prepare_cached(
            "UPDATE approvals SET state = 'resolved', decision = ?2, resolved_by = ?3, resolved_at = ?4
             WHERE approval = ?1 AND state = 'pending' AND expires_at > ?4",
        )?
        .execute(params![approval.as_str(), decision, by, now])?;
    Ok(match find(db, approval)? {
        None => Resolved::Unknown,
        Some(row) if changed == 1 => Resolved::First(Box::new(row)),
        Some(row) => Resolved::Before(Box::new(row)),
    })
}

/// Withdraws a pending question (its run ended). False when it is not pending.
///
/// # Errors
/// Any SQL error.
pub fn cancel(db: &Connection, approval: &ApprovalId, now: i64) -> Result<bool, JournalError> {
    let changed = db
        .prepare_cached(
            "UPDATE approvals SET state = 'cancelled', resolved_at = ?2 WHERE approval = ?1 AND state = 'pending'",
        )?
        .execute(params![approval.as_str(), now])?;
    Ok(changed == 1)
}

/// Ends every pending question whose time has passed, and gives them.
///
/// # Errors
/// Any SQL error.
pub fn expire(db: &Connection, now: i64) -> Result<Vec<ApprovalRow>, JournalError> {
    let mut update = db.prepare_cached(&format!(
        "UPDATE approvals SET state = 'expired', resolved_at = ?1 WHERE state = 'pending' AND expires_at <= ?1
         RETURNING {COLUMNS}"
    ))?;
    let rows = update.query_map([now], read)?.collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Adds a message that shows the question.
///
/// # Errors
/// Any SQL error.
pub fn add_card(db: &Connection, approval: &ApprovalId, card: &Card) -> Result<(), JournalError> {
    db.prepare_cached("UPDATE approvals SET cards = json_insert(cards, '$[#]', json(?2)) WHERE approval = ?1")?
        .execute(params![approval.as_str(), to_json(card)?])?;
    Ok(())
}

/// Every pending question, oldest first.
///
/// # Errors
/// Any SQL error.
pub fn pending(db: &Connection) -> Result<Vec<ApprovalRow>, JournalError> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM approvals WHERE state = 'pending' ORDER BY created_at, approval"
    ))?;
    let rows = query.query_map([], read)?.collect::<Result<_, _>>()?;
    Ok(rows)
}

/// One question.
///
/// # Errors
/// Any SQL error.
pub fn find(db: &Connection, approval: &ApprovalId) -> Result<Option<ApprovalRow>, JournalError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM approvals WHERE approval = ?1"))?;
    Ok(query.query_row([approval.as_str()], read).optional()?)
}

/// The latest question that a tool call asked.
///
/// # Errors
/// Any SQL error.
pub fn by_key(db: &Connection, key: &ToolKey) -> Result<Option<ApprovalRow>, JournalError> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM approvals WHERE run = ?1 AND tool_call = ?2 ORDER BY created_at DESC LIMIT 1"
    ))?;
    Ok(query
        .query_row(params![key.run.as_str(), key.tool_call], read)
        .optional()?)
}

/// Forgets questions that ended before the time; gives how many.
///
/// # Errors
/// Any SQL error.
pub fn prune(db: &Connection, before: i64) -> Result<usize, JournalError> {
    Ok(db.execute(
        "DELETE FROM approvals WHERE state <> 'pending' AND resolved_at < ?1",
        [before],
    )?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<ApprovalRow> {
    let run: Option<RunId> = parsed_option(row, "run")?;
    let tool_call: Option<String> = row.get("tool_call")?;
    Ok(ApprovalRow {
        new: NewApproval {
            approval: parsed(row, "approval")?,
            key: run.zip(tool_call).map(|(run, tool_call)| ToolKey { run, tool_call }),
            request: json(row, "request")?,
            plan: row.get("plan")?,
            expires_at: row.get("expires_at")?,
        },
        state: parsed(row, "state")?,
        decision: parsed_option(row, "decision")?,
        resolved_by: row.get("resolved_by")?,
        created_at: row.get("created_at")?,
        resolved_at: row.get("resolved_at")?,
        cards: json(row, "cards")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{database, place};

    fn asked(db: &Connection) -> ApprovalId {
        let new = NewApproval {
            approval: ApprovalId::new("p1").expect("id"),
            key: Some(ToolKey {
                run: RunId::new("r1").expect("id"),
                tool_call: "t1".into(),
            }),
            request: Json::parse(r#"{"command":"uname"}"#).expect("json"),
            plan: vec![0, 1, 255],
            expires_at: 100,
        };
        assert!(ask(db, &new, 1).expect("asks"));
        assert!(!ask(db, &new, 2).expect("asks"));
        new.approval
    }

    #[test]
    fn the_first_answer_wins_and_later_ones_see_it() {
        let db = database();
        let id = asked(&db);
        let first = resolve(&db, &id, Decision::Deny, "ann", 5).expect("resolves");
        let Resolved::First(row) = first else {
            panic!("{first:?}")
        };
        assert_eq!(
            (row.decision, row.new.plan.as_slice()),
            (Some(Decision::Deny), [0, 1, 255].as_slice())
        );
        let second = resolve(&db, &id, Decision::AllowAlways, "bob", 6).expect("resolves");
        let Resolved::Before(row) = second else {
            panic!("{second:?}")
        };
        assert_eq!(
            (row.decision, row.resolved_by.as_deref()),
            (Some(Decision::Deny), Some("ann"))
        );
        let unknown = ApprovalId::new("p2").expect("id");
        assert!(matches!(
            resolve(&db, &unknown, Decision::Deny, "ann", 6).expect("resolves"),
            Resolved::Unknown
        ));
    }

    #[test]
    fn an_answer_after_its_time_is_none() {
        let db = database();
        let id = asked(&db);
        let late = resolve(&db, &id, Decision::AllowOnce, "ann", 100).expect("resolves");
        let Resolved::Before(row) = late else {
            panic!("{late:?}")
        };
        assert_eq!(row.decision, None);
        let expired = expire(&db, 100).expect("expires");
        assert_eq!(expired.len(), 1);
        assert_eq!(expired[0].state, ApprovalState::Expired);
        assert!(pending(&db).expect("reads").is_empty());
        assert!(!cancel(&db, &id, 101).expect("cancels"));
    }

    #[test]
    fn cards_are_kept_for_the_edit() {
        let db = database();
        let id = asked(&db);
        let card = |message: &str| Card {
            place: place("1"),
            message: message.into(),
        };
        add_card(&db, &id, &card("10")).expect("adds");
        add_card(&db, &id, &card("11")).expect("adds");
        let row = pending(&db).expect("reads").remove(0);
        assert_eq!(row.cards, [card("10"), card("11")]);
        let key = row.new.key.expect("has a key");
        assert_eq!(by_key(&db, &key).expect("reads").expect("is there").new.approval, id);
    }
}
