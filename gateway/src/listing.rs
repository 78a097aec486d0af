//! The list of calls: those in flight, those that wait, those that ended lately. Joins the hub, the queue and the journal; owns none.

use std::collections::HashSet;
use std::time::Instant;

use atoll_protocol::error::WireError;
use atoll_protocol::method::node::{CallListed, CallsList};

use crate::clock;
use crate::house::House;
use crate::journal::Durability;
use crate::journal::calls::{self, CallRow, CallState, Filter};

/// Calls in one list when nobody says how many.
const LIMIT: u64 = 100;

/// Which states are asked for.
enum Wanted {
    All,
    Open,
    Ended,
    One(String),
}

impl Wanted {
    fn of(state: Option<&str>) -> Result<Self, WireError> {
        match state {
            None => Ok(Self::All),
            Some("open") => Ok(Self::Open),
            Some("ended") => Ok(Self::Ended),
            Some(word) if OPEN.contains(&word) || ended(word).is_some() => Ok(Self::One(word.to_owned())),
            Some(_) => Err(WireError::invalid(
                "invalid node.calls.list params: at /state: must be equal to one of the allowed values",
            )),
        }
    }

    fn takes(&self, row: &CallListed) -> bool {
        match self {
            Self::All => true,
            Self::Open => row.open,
            Self::Ended => !row.open,
            Self::One(word) => *word == row.state,
        }
    }

    /// Which ended calls to read; none when there is nothing to read.
    fn filter(&self, node: Option<&str>) -> Option<Filter> {
        let state = match self {
            Self::All | Self::Ended => None,
            Self::Open => return None,
            Self::One(word) => Some(ended(word)?),
        };
        Some(Filter {
            node: node.map(str::to_owned),
            state,
        })
    }
}

const OPEN: [&str; 4] = ["queued", "sent", "running", "running (node away)"];

fn ended(word: &str) -> Option<CallState> {
    ENDS.iter().find(|(known, _)| *known == word).map(|(_, state)| *state)
}

const ENDS: [(&str, CallState); 6] = [
    ("ok", CallState::Ok),
    ("error", CallState::Error),
    ("timed out", CallState::TimedOut),
    ("cancelled", CallState::Cancelled),
    ("node away", CallState::NodeAway),
    ("uncertain", CallState::Uncertain),
];

fn word(state: CallState) -> &'static str {
    let known = ENDS.iter().find(|(_, known)| *known == state);
    known.map_or(state.as_str(), |(word, _)| word)
}

/// The list that somebody asks for.
///
/// # Errors
/// There is no such state, or the journal cannot be read.
pub(crate) async fn calls(house: &House, asked: &CallsList) -> Result<Vec<CallListed>, WireError> {
    let wanted = Wanted::of(asked.state.as_deref())?;
    let limit = asked.limit.map_or(LIMIT, |limit| limit.value());
    let node = asked.node_id.as_deref();
    let filter = wanted.filter(node);
    let most = u32::try_from(limit).unwrap_or(u32::MAX);
    let look = move |db: &rusqlite::Connection| {
        let ended = filter
            .map(|filter| calls::ended_lately(db, &filter, most))
            .transpose()?;
        Ok((calls::unfinished(db)?, ended.unwrap_or_default()))
    };
    let live = live(house).await;
    // Asked of the writer, behind every end that was handed to it before.
    let looked = house.journal.write(Durability::Lazy, look).await;
    let (unfinished, ended) =
        looked.map_err(|error| WireError::unavailable(format!("the calls cannot be read: {error}")))?;
    let known: HashSet<_> = live.iter().map(|row| row.call_id.clone()).collect();
    let here = unfinished
        .iter()
        .filter(|row| !known.contains(&row.new.call))
        .map(of_row);
    let mut open: Vec<_> = live.into_iter().chain(here).collect();
    let over: HashSet<_> = ended.iter().map(|row| row.new.call.clone()).collect();
    open.retain(|row| node.is_none_or(|node| node == row.node_id) && !over.contains(&row.call_id));
    open.sort_by_key(|row| std::cmp::Reverse(row.since_ms));
    let all = open.into_iter().chain(ended.iter().map(of_row));
    let wanted = all.filter(|row| wanted.takes(row));
    Ok(wanted.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect())
}

/// Those in flight and those that wait.
async fn live(house: &House) -> Vec<CallListed> {
    let clock = Clock::now();
    let in_flight = house.hub.calls().await.into_iter().map(|(row, caller)| CallListed {
        call_id: row.call,
        node_id: row.node.to_string(),
        command: row.command,
        state: row.state.as_str().to_owned(),
        open: true,
        since_ms: clock.wall(row.since),
        caller: caller.to_string(),
        deadline_ms: Some(clock.wall(row.deadline)),
        idempotency_key: row.idempotency_key,
        error_code: None,
    });
    let waiting = house.waiting.rows().await.into_iter().map(|row| CallListed {
        call_id: row.call,
        node_id: row.node.to_string(),
        command: row.command,
        state: CallState::Queued.as_str().to_owned(),
        open: true,
        since_ms: clock.wall(row.since),
        caller: row.caller,
        deadline_ms: Some(clock.wall(row.until)),
        idempotency_key: row.idempotency_key,
        error_code: None,
    });
    in_flight.chain(waiting).collect()
}

/// As written down: an ended one, or one that runs on the gateway's own machine.
fn of_row(row: &CallRow) -> CallListed {
    let time = |at: i64| u64::try_from(at).unwrap_or_default();
    let since = row.ended_at.or(row.sent_at).unwrap_or(row.opened_at);
    CallListed {
        call_id: row.new.call.clone(),
        node_id: row.new.node.clone(),
        command: row.new.command.clone(),
        state: word(row.state).to_owned(),
        open: !row.state.is_end(),
        since_ms: time(since),
        caller: row.new.caller.clone(),
        deadline_ms: row.new.details.deadline_at.map(time),
        idempotency_key: row.new.details.idempotency_key.clone(),
        error_code: row.error_code.clone(),
    }
}

/// One moment on both clocks.
struct Clock {
    wall_ms: u64,
    instant: Instant,
}

impl Clock {
    fn now() -> Self {
        Self {
            wall_ms: clock::now_ms(),
            instant: clock::instant(),
        }
    }

    fn wall(&self, at: Instant) -> u64 {
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match at.checked_duration_since(self.instant) {
            Some(ahead) => self.wall_ms.saturating_add(ms(ahead)),
            None => self.wall_ms.saturating_sub(ms(self.instant - at)),
        }
    }
}
