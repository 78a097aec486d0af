//! What takes the place of a message once what it asks is over: an edit where it was sent, and nothing where it was not.

use atoll_channels::port::Outbound;
use rusqlite::{Connection, OptionalExtension, params};

use super::{NewOutbound, OutboxState, Settlement, by_key, enqueue, find};
use crate::journal::JournalError;
use crate::journal::column::to_json;

/// Why a message that was over before it was sent is never sent.
const OVER: &str = "it was over before it was sent";

/// Puts a text in the place of what was handed in under this key. What waits is never sent; what is being sent is edited as soon as
/// its platform has named it, and never sent a second time. The same again changes nothing.
///
/// # Errors
/// Any SQL error; then nothing is changed.
pub fn end(db: &Connection, key: &str, text: &str, now: i64) -> Result<(), JournalError> {
    let Some(row) = by_key(db, key)? else { return Ok(()) };
    let message = match row.state {
        OutboxState::Pending => return refuse(db, row.id, now),
        OutboxState::Refused | OutboxState::Uncertain => return Ok(()),
        // Not known yet; `follow` puts it in.
        OutboxState::Sending => String::new(),
        OutboxState::Sent => match row.receipt.and_then(|receipt| receipt.message) {
            Some(message) => message,
            None => return Ok(()),
        },
    };
    let text = text.to_owned();
    let edit = NewOutbound {
        place: row.item.place,
        outbound: Outbound::Edit { message, text },
        run: None,
        part: 0,
        key: end_key(key),
    };
    enqueue(db, &[edit], now).map(drop)
}

/// Whether the end of this one was handed in, or was never needed.
///
/// # Errors
/// Any SQL error.
pub fn is_ended(db: &Connection, key: &str) -> Result<bool, JournalError> {
    let state = by_key(db, key)?.map(|row| row.state);
    Ok(match state {
        None | Some(OutboxState::Refused | OutboxState::Uncertain) => true,
        Some(OutboxState::Pending) => false,
        Some(OutboxState::Sending | OutboxState::Sent) => by_key(db, &end_key(key))?.is_some(),
    })
}

/// The keys of what is open and begins like this.
///
/// # Errors
/// Any SQL error.
pub fn open_keys(db: &Connection, prefix: &str) -> Result<Vec<String>, JournalError> {
    let mut query = db.prepare_cached(
        "SELECT key FROM outbox WHERE state IN ('pending', 'sending') AND substr(key, 1, length(?1)) = ?1 ORDER BY id",
    )?;
    let keys = query.query_map([prefix], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(keys)
}

/// A send has an outcome: what waits to take its place learns which message it edits, or that there is none.
pub(super) fn follow(db: &Connection, id: i64, settlement: &Settlement, now: i64) -> Result<(), JournalError> {
    let waiting: Option<i64> = db
        .prepare_cached(
            "SELECT later.id FROM outbox AS sent JOIN outbox AS later ON later.key = sent.key || ':end'
             WHERE sent.id = ?1 AND later.state = 'pending'",
        )?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(end) = waiting.map(|end| find(db, end)).transpose()?.flatten() else {
        return Ok(());
    };
    let Outbound::Edit { text, .. } = end.item.outbound else {
        return Ok(());
    };
    match settlement {
        Settlement::Sent(receipt) if receipt.message.is_some() => {
            let message = receipt.message.clone().unwrap_or_default();
            db.prepare_cached("UPDATE outbox SET outbound = ?2 WHERE id = ?1")?
                .execute(params![end.id, to_json(&Outbound::Edit { message, text })?])?;
            Ok(())
        }
        Settlement::Sent(_) | Settlement::Retry { .. } | Settlement::Refused(_) | Settlement::Uncertain(_) => {
            refuse(db, id, now)?;
            refuse(db, end.id, now)
        }
    }
}

fn refuse(db: &Connection, id: i64, now: i64) -> Result<(), JournalError> {
    db.prepare_cached(
        "UPDATE outbox SET state = 'refused', error = ?2, updated_at = ?3 WHERE id = ?1 AND state = 'pending'",
    )?
    .execute(params![id, OVER, now])?;
    Ok(())
}

fn end_key(key: &str) -> String {
    format!("{key}:end")
}

#[cfg(test)]
mod tests {
    use atoll_channels::port::Receipt;

    use super::*;
    use crate::journal::outbox::{OutboxRow, claim, due, recover, settle};
    use crate::journal::tests::{database, place};

    fn card(db: &Connection) -> i64 {
        let card = NewOutbound {
            place: place("1"),
            outbound: Outbound::Card {
                text: "Run it?".to_owned(),
                buttons: Vec::new(),
            },
            run: None,
            part: 0,
            key: "card".to_owned(),
        };
        enqueue(db, &[card], 1).expect("enqueues")[0]
    }

    fn sent(message: &str) -> Settlement {
        Settlement::Sent(Receipt {
            message: Some(message.to_owned()),
        })
    }

    fn state(db: &Connection, key: &str) -> Option<OutboxState> {
        by_key(db, key).expect("reads").map(|row| row.state)
    }

    fn next(db: &Connection) -> Option<OutboxRow> {
        due(db, 99, 1, &[]).expect("reads").pop()
    }

    #[test]
    fn what_was_not_sent_yet_is_never_sent() {
        let db = database();
        card(&db);
        end(&db, "card", "over", 2).expect("ends");
        assert_eq!(next(&db), None);
        assert_eq!(state(&db, "card"), Some(OutboxState::Refused));
        assert!(is_ended(&db, "card").expect("reads"));
    }

    #[test]
    fn what_was_sent_is_edited_once() {
        let db = database();
        let id = card(&db);
        claim(&db, id, 1).expect("claims").expect("its turn");
        settle(&db, id, &sent("77"), 2).expect("settles");
        assert!(!is_ended(&db, "card").expect("reads"));
        for _ in 0..2 {
            end(&db, "card", "over", 3).expect("ends");
        }
        let edit = next(&db).expect("an edit");
        let expected = Outbound::Edit {
            message: "77".to_owned(),
            text: "over".to_owned(),
        };
        assert_eq!(edit.item.outbound, expected);
        claim(&db, edit.id, 4).expect("claims").expect("its turn");
        settle(&db, edit.id, &sent("77"), 5).expect("settles");
        assert_eq!(next(&db), None);
    }

    #[test]
    fn what_is_being_sent_is_edited_when_it_is_there_and_not_sent_again_when_it_is_not() {
        let arrived = database();
        let id = card(&arrived);
        claim(&arrived, id, 1).expect("claims").expect("its turn");
        end(&arrived, "card", "over", 2).expect("ends");
        settle(&arrived, id, &sent("78"), 3).expect("settles");
        let edit = next(&arrived).expect("an edit");
        assert!(matches!(edit.item.outbound, Outbound::Edit { message, .. } if message == "78"));

        let failed = database();
        let id = card(&failed);
        claim(&failed, id, 1).expect("claims").expect("its turn");
        end(&failed, "card", "over", 2).expect("ends");
        let retry = Settlement::Retry {
            not_before: 3,
            error: "429".to_owned(),
        };
        settle(&failed, id, &retry, 3).expect("settles");
        assert_eq!(next(&failed), None);
        assert_eq!(state(&failed, "card:end"), Some(OutboxState::Refused));
    }

    #[test]
    fn what_was_being_sent_when_the_process_died_is_not_sent_again_after_its_end() {
        let db = database();
        let id = card(&db);
        claim(&db, id, 1).expect("claims").expect("its turn");
        end(&db, "card", "over", 2).expect("ends");
        assert_eq!(recover(&db, 3).expect("recovers"), Vec::new());
        assert_eq!(next(&db), None);
    }

    #[test]
    fn open_keys_are_those_that_can_still_be_sent() {
        let db = database();
        let id = card(&db);
        assert_eq!(open_keys(&db, "card").expect("reads"), ["card"]);
        assert!(open_keys(&db, "cord").expect("reads").is_empty());
        claim(&db, id, 1).expect("claims").expect("its turn");
        settle(&db, id, &sent("77"), 2).expect("settles");
        assert!(open_keys(&db, "card").expect("reads").is_empty());
    }
}
