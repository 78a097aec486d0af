//! What was under way when the last life of the gateway ended: calls, messages, conversations and turns, taken up in this order.

use std::time::{Duration, Instant};

use atoll_protocol::id::CallId;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::house::House;
use crate::hub::Restored;
use crate::intake;
use crate::journal::Durability;
use crate::journal::calls::{self, CallEnd, CallRow, CallState};
use crate::ring::Ring;
use crate::sessions::SessionError;

/// A call from before a restart is given up after this: as long as a command has that names no time.
const RESTORED: Duration = Duration::from_secs(30 * 60);

/// After that, calls that no turn has asked about get their end in the journal.
const LEFT: Duration = Duration::from_secs(60);

/// Takes up what was under way when the last life ended, before anybody can connect.
///
/// # Errors
/// The journal or a folder of conversations cannot be read.
pub(super) async fn recover(house: &House) -> Result<(), SessionError> {
    let open = house.journal.read(calls::unfinished).await?;
    let (kept, lost): (Vec<_>, Vec<_>) = open.into_iter().partition(is_with_a_node);
    let restored = kept.iter().filter_map(restored).collect();
    house.hub.restore(restored).await;
    let (ring, stop) = (house.ring.clone(), house.turns.stop.clone());
    house.tasks.spawn(async move {
        let kept = kept.into_iter().map(|row| row.new.call).collect();
        stop.run_until_cancelled(close_left(ring, kept)).await;
    });
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

/// A turn can have ended without its call: then nobody else would ever close it, nor tell its node to forget it.
async fn close_left(ring: Ring, calls: Vec<CallId>) {
    tokio::time::sleep(RESTORED + LEFT).await;
    for call in calls {
        let wanted = call.clone();
        let row = ring.journal.read(move |db| calls::find(db, &wanted)).await;
        if let Ok(Some(row)) = row.map(|row| row.filter(|row| !row.state.is_end())) {
            let _ = ring.attach(&row, &CancellationToken::new()).await;
        }
    }
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
