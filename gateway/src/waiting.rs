//! Calls that wait for a node that is away: which there are, when each is given up, and their delivery. One owner task holds them; the
//! journal has each from before it is accepted until its end. A call is decided anew when its node is there: by then its caller may
//! have been removed, and the rules may be others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_pairing::access::{Door, Kind, Principal, Recorded};
use atoll_protocol::calls::Failure;
use atoll_protocol::dialect::denial;
use atoll_protocol::error::WireError;
use atoll_protocol::frame::SignedPlan;
use atoll_protocol::id::{CallId, DeviceId};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::house::House;
use crate::journal::Durability;
use crate::journal::calls::{self, CallEnd, CallRow, CallState, Details, NewCall};
use crate::repeats::{End, Key};
use crate::ring::{Call, CallRefused, Idempotency};

/// Requests that wait for the owner; callers wait for room.
const QUEUE: usize = 64;

/// A call that did not reach its node although the node was there waits at least so long before it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// A call that waits, as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    params: Option<Json>,
    timeout_ms: u64,
    deadline_ms: Option<u64>,
    plan: Option<SignedPlan>,
    who: Recorded,
    /// The shared proof that was in force then.
    auth: String,
    until_ms: u64,
}

/// One call that waits.
#[derive(Debug)]
struct Waiter {
    call: CallId,
    node: DeviceId,
    command: String,
    caller: String,
    idempotency: Option<Idempotency>,
    since: Instant,
    until: Instant,
    stored: Stored,
    ended: Option<oneshot::Sender<End>>,
}

impl Waiter {
    fn bytes(&self) -> usize {
        self.stored.params.as_ref().map_or(0, |params| params.as_str().len())
    }
}

/// A call that waits, for lists.
#[derive(Debug, Clone)]
pub(crate) struct WaitingRow {
    /// The call.
    pub(crate) call: CallId,
    /// Its node.
    pub(crate) node: DeviceId,
    /// Its command.
    pub(crate) command: String,
    /// On whose behalf.
    pub(crate) caller: String,
    /// The caller's key.
    pub(crate) idempotency_key: Option<String>,
    /// Since when.
    pub(crate) since: Instant,
    /// When it is given up.
    pub(crate) until: Instant,
    /// The same, Unix milliseconds.
    pub(crate) until_ms: u64,
}

enum Request {
    Wait(Box<Waiter>),
    Cancel(CallId, oneshot::Sender<bool>),
    Rows(oneshot::Sender<Vec<WaitingRow>>),
}

/// A handle to the owner.
#[derive(Debug, Clone)]
pub(crate) struct Waiting(mpsc::Sender<Request>);

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request")
    }
}

/// What the owner works on.
pub(crate) struct Waits(mpsc::Receiver<Request>);

/// Makes both ends.
pub(crate) fn waiting() -> (Waiting, Waits) {
    let (sender, requests) = mpsc::channel(QUEUE);
    (Waiting(sender), Waits(requests))
}

impl Waiting {
    /// Writes a call down, and delivers it when its node is there. Its end comes at `until_ms` at the latest when it never is.
    ///
    /// # Errors
    /// It could not be written down, or its caller is nobody who may come back to it.
    pub(crate) async fn wait(
        &self,
        house: &House,
        principal: &Principal,
        call: Call,
        until_ms: u64,
    ) -> Result<oneshot::Receiver<End>, WireError> {
        let who = Recorded::of(principal)
            .ok_or_else(|| WireError::invalid("only an operator's call can wait for its node"))?;
        let (ended, end) = oneshot::channel();
        let waiter = Waiter {
            call: call.id,
            node: call.node,
            command: call.command,
            caller: principal.label(),
            idempotency: call.idempotency,
            since: clock::instant(),
            until: clock::instant_at(until_ms),
            stored: Stored {
                params: call.params,
                timeout_ms: u64::try_from(call.timeout.as_millis()).unwrap_or(u64::MAX),
                deadline_ms: call.deadline_ms,
                plan: call.plan,
                who,
                auth: house.auth.policy(&house.config()).fingerprint(),
                until_ms,
            },
            ended: Some(ended),
        };
        let new = row_of(&waiter)?;
        let open = move |db: &rusqlite::Connection| calls::open(db, &new, clock::now()).map(drop);
        let written = house.journal.write(Durability::Durable, open).await;
        written.map_err(|error| WireError::unavailable(format!("the call could not be recorded: {error}")))?;
        self.tell(Request::Wait(Box::new(waiter))).await;
        Ok(end)
    }

    /// Takes up a call from before a restart; false when it is none that waited.
    pub(crate) async fn restore(&self, row: &CallRow) -> bool {
        let Some(waiter) = restored(row) else { return false };
        self.tell(Request::Wait(Box::new(waiter))).await;
        true
    }

    /// Gives a waiting call up; false when it does not wait.
    pub(crate) async fn cancel(&self, call: CallId) -> bool {
        let (reply, answer) = oneshot::channel();
        self.tell(Request::Cancel(call, reply)).await;
        answer.await.unwrap_or_default()
    }

    /// All of them.
    pub(crate) async fn rows(&self) -> Vec<WaitingRow> {
        let (reply, answer) = oneshot::channel();
        self.tell(Request::Rows(reply)).await;
        answer.await.unwrap_or_default()
    }

    async fn tell(&self, request: Request) {
        // Closed only while the gateway goes down; what is written down is taken up by the next start.
        let _ = self.0.send(request).await;
    }
}

fn row_of(waiter: &Waiter) -> Result<NewCall, WireError> {
    let waiting = serde_json::to_string(&waiter.stored)
        .map_err(|error| WireError::unavailable(format!("the call cannot be written down: {error}")))?;
    let idempotency = waiter.idempotency.as_ref();
    Ok(NewCall {
        call: waiter.call.clone(),
        key: None,
        node: waiter.node.to_string(),
        command: waiter.command.clone(),
        caller: waiter.caller.clone(),
        session: None,
        details: Details {
            deadline_at: i64::try_from(waiter.stored.until_ms).ok(),
            idempotency_key: idempotency.map(|idempotency| idempotency.text.clone()),
            fingerprint: idempotency.map(|idempotency| idempotency.fingerprint),
            memory: None,
            waiting: Some(waiting),
        },
    })
}

fn restored(row: &CallRow) -> Option<Waiter> {
    let details = &row.new.details;
    let stored: Stored = serde_json::from_str(details.waiting.as_deref()?).ok()?;
    let age = Duration::from_millis(u64::try_from(clock::now() - row.opened_at).unwrap_or_default());
    let now = clock::instant();
    Some(Waiter {
        call: row.new.call.clone(),
        node: row.new.node.parse().ok()?,
        command: row.new.command.clone(),
        caller: row.new.caller.clone(),
        idempotency: idempotency_of(row),
        since: now.checked_sub(age).unwrap_or(now),
        until: clock::instant_at(stored.until_ms),
        stored,
        ended: None,
    })
}

/// The caller's key of a call that was written down.
pub(crate) fn idempotency_of(row: &CallRow) -> Option<Idempotency> {
    let text = row.new.details.idempotency_key.clone()?;
    Some(Idempotency {
        key: Key::of(&row.new.caller, &text),
        fingerprint: row.new.details.fingerprint?,
        text,
    })
}

/// Works until stopped.
pub(crate) async fn run(house: Arc<House>, mut requests: Waits, stop: CancellationToken) {
    let mut arrivals = house.hub.arrivals();
    let mut owner = Owner {
        house,
        stop: stop.clone(),
        nodes: HashMap::new(),
    };
    loop {
        let due = owner.due();
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            request = requests.0.recv() => match request {
                Some(request) => owner.handle(request).await,
                None => return,
            },
            arrived = arrivals.changed() => match arrived {
                Ok(()) => owner.deliver_all(),
                Err(_) => return,
            },
            () = until(due) => owner.give_up(clock::instant()).await,
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

struct Owner {
    house: Arc<House>,
    stop: CancellationToken,
    /// Oldest first.
    nodes: HashMap<DeviceId, VecDeque<Waiter>>,
}

impl Owner {
    async fn handle(&mut self, request: Request) {
        match request {
            Request::Wait(waiter) => self.take_in(*waiter).await,
            Request::Cancel(call, reply) => {
                let found = self.remove(&call);
                // Whoever asks may have left.
                let _ = reply.send(found.is_some());
                if let Some(waiter) = found {
                    let end = Err(CallRefused::Failed(Failure::Cancelled { sent: false }).into());
                    finish(&self.house, waiter, end, CallState::Cancelled).await;
                }
            }
            Request::Rows(reply) => {
                let rows = self.nodes.values().flatten().map(row).collect();
                let _ = reply.send(rows);
            }
        }
    }

    async fn take_in(&mut self, waiter: Waiter) {
        let all = || self.nodes.values().flatten();
        let bytes: usize = all().map(Waiter::bytes).sum();
        if all().count() >= limits::QUEUED_CALLS || bytes + waiter.bytes() > limits::QUEUED_BYTES {
            let refusal =
                WireError::unavailable("too many calls wait for their nodes already; see `atoll nodes calls`");
            return finish(&self.house, waiter, Err(refusal), CallState::Error).await;
        }
        let node = waiter.node;
        self.nodes.entry(node).or_default().push_back(waiter);
        self.house.hub.calls_changed().await;
        self.deliver(node);
    }

    fn remove(&mut self, call: &CallId) -> Option<Waiter> {
        for waiters in self.nodes.values_mut() {
            if let Some(place) = waiters.iter().position(|waiter| waiter.call == *call) {
                return waiters.remove(place);
            }
        }
        None
    }

    fn due(&self) -> Option<Instant> {
        self.nodes.values().flatten().map(|waiter| waiter.until).min()
    }

    async fn give_up(&mut self, now: Instant) {
        let mut over = Vec::new();
        for waiters in self.nodes.values_mut() {
            let (due, waiting) = std::mem::take(waiters)
                .into_iter()
                .partition(|waiter| waiter.until <= now);
            *waiters = waiting;
            let due: VecDeque<Waiter> = due;
            over.extend(due);
        }
        self.nodes.retain(|_, waiters| !waiters.is_empty());
        for waiter in over {
            finish(
                &self.house,
                waiter,
                Err(denial::node_not_connected()),
                CallState::NodeAway,
            )
            .await;
        }
    }

    fn deliver_all(&mut self) {
        let nodes: Vec<_> = self.nodes.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.deliver(node));
    }

    /// Sends what waits for a node that is there, oldest first.
    fn deliver(&mut self, node: DeviceId) {
        if self.house.hub.node(node).is_none() {
            return;
        }
        for waiter in self.nodes.remove(&node).into_iter().flatten() {
            let (house, stop) = (self.house.clone(), self.stop.clone());
            self.house.tasks.spawn(async move {
                stop.run_until_cancelled(deliver(house, waiter)).await;
            });
        }
    }
}

fn row(waiter: &Waiter) -> WaitingRow {
    WaitingRow {
        call: waiter.call.clone(),
        node: waiter.node,
        command: waiter.command.clone(),
        caller: waiter.caller.clone(),
        idempotency_key: waiter.idempotency.as_ref().map(|idempotency| idempotency.text.clone()),
        since: waiter.since,
        until: waiter.until,
        until_ms: waiter.stored.until_ms,
    }
}

/// Makes a call that has waited. One that did not reach its node after all waits on.
async fn deliver(house: Arc<House>, waiter: Waiter) {
    let principal = match allowed(&house, &waiter.stored) {
        Ok(principal) => principal,
        Err(refusal) => return finish(&house, waiter, Err(refusal), CallState::Error).await,
    };
    let stored = &waiter.stored;
    let call = Call {
        id: waiter.call.clone(),
        door: Door::Invoke,
        deadline_ms: stored.deadline_ms,
        idempotency: waiter.idempotency.clone(),
        has_waited: true,
        plan: stored.plan.clone(),
        ..Call::new(
            waiter.node,
            waiter.command.clone(),
            stored.params.clone(),
            Duration::from_millis(stored.timeout_ms),
        )
    };
    match house.ring.call(&principal, &call).await {
        Err(CallRefused::Failed(Failure::NotConnected) | CallRefused::Away) if waiter.until > clock::instant() => {
            if let Err(error) = house.ring.take_back(&waiter.call).await {
                return finish(&house, waiter, Err(error.into()), CallState::Error).await;
            }
            tokio::time::sleep(AGAIN).await;
            house.waiting.tell(Request::Wait(Box::new(waiter))).await;
        }
        // Its end is written down.
        Ok(payload) => tell(&house, waiter, Ok(payload)),
        Err(CallRefused::Failed(failure)) => tell(&house, waiter, Err(CallRefused::Failed(failure).into())),
        Err(refused) => finish(&house, waiter, Err(refused.into()), CallState::Error).await,
    }
}

/// Whether the caller is still who it was.
fn allowed(house: &House, stored: &Stored) -> Result<Arc<Principal>, WireError> {
    let principal = stored.who.clone().recall();
    let is_same = match principal.kind() {
        Kind::SharedSecret | Kind::Proxy { .. } => house.auth.policy(&house.config()).fingerprint() == stored.auth,
        Kind::Device(_) | Kind::LocalOwner { .. } | Kind::Agent { .. } | Kind::Sender { .. } => {
            house.book.is_current(&principal)
        }
    };
    if is_same {
        Ok(Arc::new(principal))
    } else {
        Err(WireError::unavailable(
            "whoever asked for this call is no longer the one who was let in",
        ))
    }
}

/// Writes down how a call ended that was not sent, and tells whoever waits.
async fn finish(house: &House, waiter: Waiter, end: End, state: CallState) {
    let row = CallEnd {
        state,
        error_code: end.as_ref().err().map(|error| error.code.as_str().to_owned()),
        result: end.as_ref().err().map(|error| error.message.clone()),
    };
    let id = waiter.call.clone();
    let close = move |db: &rusqlite::Connection| calls::close(db, &id, &row, clock::now()).map(drop);
    house.journal.post(Durability::Lazy, "waiting call ended", close).await;
    if let Some(idempotency) = &waiter.idempotency {
        house.ring.repeats.release(idempotency.key, &end);
    }
    if let Some(ended) = waiter.ended {
        // Whoever asked may have left; the list of calls shows it.
        let _ = ended.send(end);
    }
    house.hub.calls_changed().await;
}

fn tell(house: &House, waiter: Waiter, end: End) {
    if let Some(idempotency) = &waiter.idempotency {
        house.ring.repeats.end(idempotency.key, &end, clock::instant());
    }
    if let Some(ended) = waiter.ended {
        // Whoever asked may have left; the list of calls shows it.
        let _ = ended.send(end);
    }
}
