//! What was under way when the last life of the gateway ended: calls, messages, conversations and turns, taken up in this order.

use std::time::{Duration, Instant};

use crate::clock;
use crate::house::House;
use crate::hub::Restored;
use crate::intake;
use crate::journal::Durability;
use crate::journal::calls::{self, CallEnd, CallRow, CallState};
use crate::sessions::SessionError;

/// A call from before a restart is given up after this, when its node does not come back.
const RESTORED: Duration = Duration::from_secs(10 * 60);

/// Takes up what was under way when the last life ended, before anybody can connect.
///
/// # Errors
/// The journal or a folder of conversations cannot be read.
pub(super) async fn recover(house: &House) -> Result<(), SessionError> {
    let open = house.journal.read(calls::unfinished).await?;
    let (kept, lost): (Vec<_>, Vec<_>) = open.into_iter().partition(is_with_a_node);
    let restored = kept.iter().filter_map(restored).collect();
    house.hub.restore(restored).await;
    house
        .journal
        .write(Durability::Lazy, move |db| {
            lost.iter().try_for_each(|row| close_lost(db, row))
        })
        .await?;
    let uncertain = house.outbox.recover().await?;
    if uncertain > 0 {
        tracing::warn!(
            uncertain,
            "messages were being sent when the gateway ended; their chats are told"
        );
    }
    let agents = house
        .config()
        .agents
        .list
        .iter()
        .map(|agent| agent.id.clone())
        .collect();
    let found = house.sessions.rebuild(agents).await?;
    if found > 0 {
        tracing::info!(found, "conversations were missing in the index and are listed again");
    }
    intake::recover(house).await?;
    Ok(())
}

fn restored(row: &CallRow) -> Option<Restored> {
    Some(Restored {
        call: row.new.call.clone(),
        node: row.new.node.parse().ok()?,
        command: row.new.command.clone(),
        deadline: Instant::now() + RESTORED,
    })
}

/// A tool's call that its node may still know.
fn is_with_a_node(row: &CallRow) -> bool {
    row.new.key.is_some() && row.sent_at.is_some() && restored(row).is_some()
}

/// A tool's call that was never sent is made anew by its turn; an operator's has nobody left who waits; one that ran on
/// this machine ran inside the process that is gone.
fn close_lost(db: &rusqlite::Connection, row: &CallRow) -> Result<(), crate::journal::JournalError> {
    if row.new.key.is_some() && row.sent_at.is_none() {
        return Ok(());
    }
    let state = if row.sent_at.is_some() {
        CallState::Uncertain
    } else {
        CallState::Cancelled
    };
    let end = CallEnd {
        state,
        error_code: None,
        result: Some("the gateway ended while this call was open".to_owned()),
    };
    calls::close(db, &row.new.call, &end, clock::now()).map(drop)
}
