//! What was under way when the last life of the gateway ended: calls, messages, conversations and turns, taken up in this order.

use std::time::Duration;

use atoll_protocol::calls::Failure;
use atoll_protocol::id::CallId;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::house::House;
use crate::hub::Restored;
use crate::intake;
use crate::journal::Durability;
use crate::journal::calls::{self, CallEnd, CallRow, CallState};
use crate::repeats;
use crate::ring::{CallRefused, Ring};
use crate::sessions::SessionError;
use crate::waiting::{self, Waiting};

/// A call from before a restart is given up after this: as long as a command has that names no time.
const RESTORED: Duration = Duration::from_secs(30 * 60);

/// A call whose time was over while the gateway was away ends this long after the start at the latest: every state is final soon
/// after its deadline.
const MOMENT: Duration = Duration::from_secs(3);

/// After that, calls that no turn has asked about get their end in the journal.
const LEFT: Duration = Duration::from_secs(60);

/// Takes up what was under way when the last life ended, before anybody can connect.
///
/// # Errors
/// The journal or a folder of conversations cannot be read.
pub(super) async fn recover(house: &House) -> Result<(), SessionError> {
    let since = clock::now() - i64::try_from(repeats::KEPT.as_millis()).unwrap_or_default();
    let look =
        move |db: &rusqlite::Connection| Ok((calls::unfinished(db)?, calls::keyed_since(db, since, repeats::KEYS)?));
    let (open, keyed) = house.journal.read(look).await?;
    house.ring.repeats.restore(&keyed, clock::instant());
    let (kept, others): (Vec<_>, Vec<_>) = open.into_iter().partition(is_with_a_node);
    let restored = kept.iter().filter_map(restored).collect();
    house.hub.restore(restored).await;
    take_up(house, kept);
    let mut lost = Vec::new();
    for row in others {
        if !(row.state == CallState::Queued && house.waiting.restore(&row).await) {
            if let Some(idempotency) = waiting::idempotency_of(&row) {
                house.ring.repeats.abandon(idempotency.key, clock::instant());
            }
            lost.push(row);
        }
    }
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

/// Sees calls that are with their nodes to their ends.
fn take_up(house: &House, kept: Vec<CallRow>) {
    let (tools, operators): (Vec<_>, Vec<_>) = kept.into_iter().partition(|row| row.new.key.is_some());
    let (ring, stop) = (house.ring.clone(), house.turns.stop.clone());
    house.tasks.spawn(async move {
        let tools = tools.into_iter().map(|row| row.new.call).collect();
        stop.run_until_cancelled(close_left(ring, tools)).await;
    });
    for row in operators {
        let (ring, waiting, stop) = (house.ring.clone(), house.waiting.clone(), house.turns.stop.clone());
        house.tasks.spawn(async move {
            stop.run_until_cancelled(see_to_its_end(ring, waiting, row)).await;
        });
    }
}

/// Whoever asked for it is gone with the last life; its end is written down, and told to whoever repeats it. One that had waited and
/// turns out never to have begun waits on.
async fn see_to_its_end(ring: Ring, waiting: Waiting, row: CallRow) {
    let end = ring.attach(&row, &CancellationToken::new()).await;
    let never_began = end == Err(Failure::NotConnected) && row.new.details.waiting.is_some();
    if never_began && ring.take_back(&row.new.call).await.is_ok() && waiting.restore(&row).await {
        return;
    }
    let Some(idempotency) = waiting::idempotency_of(&row) else {
        return;
    };
    let may_have_run = end.as_ref().err().is_none_or(Failure::may_have_run);
    let end = end.map_err(|failure| CallRefused::Failed(failure).into());
    if may_have_run {
        ring.repeats.end(idempotency.key, &end, clock::instant());
    } else {
        ring.repeats.release(idempotency.key, &end);
    }
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
    let details = &row.new.details;
    let deadline = details.deadline_at.map_or_else(
        || clock::instant() + RESTORED,
        // Its node may have the end of a call whose time was over meanwhile, and has a moment to come back and say so.
        |at| clock::instant_at(u64::try_from(at).unwrap_or_default()).max(clock::instant() + MOMENT),
    );
    Some(Restored {
        call: row.new.call.clone(),
        node: row.new.node.parse().ok()?,
        command: row.new.command.clone(),
        deadline,
        caller: row.new.caller.as_str().into(),
        idempotency_key: details.idempotency_key.clone(),
        memory: details.memory.as_deref().map(Into::into),
    })
}

/// A call that its node may still know.
fn is_with_a_node(row: &CallRow) -> bool {
    row.sent_at.is_some() && restored(row).is_some()
}

/// A tool's call that was never sent is made anew by its turn; an operator's that was to go at once has nobody left who waits; one
/// that ran on this machine ran inside the process that is gone.
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
