//! `node.invoke`, `node.invoke.cancel` and `node.calls.list`: calls of operators, made once however often they are asked for.

use std::pin::pin;
use std::time::Duration;

use atoll_protocol::blob;
use atoll_protocol::dialect::denial;
use atoll_protocol::error::{CallError, WireError};
use atoll_protocol::id::{CallId, DeviceId};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::method::node::{
    BlobForm, CallsList, CallsListed, InvokeCancel, InvokeCancelled, InvokeQueued, NodeInvoke, Offline,
};
use futures_util::FutureExt;
use serde::Serialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::{Answer, Ask, Reply, WaitPlace, done, node};
use crate::clock;
use crate::house::House;
use crate::journal::Durability;
use crate::journal::calls::{self, CallRow, CallState};
use crate::listing;
use crate::media::{Media, as_base64};
use crate::repeats::{Begun, End, Key, Repeats, fingerprint};
use crate::ring::{Call, CallRefused, Idempotency};

mod heard;

/// How often it is looked whether anybody still waits for a call whose first caller has gone.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn invoke(house: &House, ask: Ask) -> Answer {
    let params: NodeInvoke = ask.read()?;
    if params.node_id.parse::<DeviceId>().is_err() {
        let (ring, by, why) = (&house.ring, &ask.caller.principal, CallRefused::Unknown);
        let unmade = ring.unmade(by, &*params.node_id, &params.command, "unknown_node", why);
        Box::pin(unmade).await;
    }
    let form = params.blobs.unwrap_or(BlobForm::Inline);
    let is_watched = params.progress.unwrap_or_default();
    let (mut call, offline) = call_of(&ask, params)?;
    let about = About {
        node: call.node,
        command: call.command.clone(),
        form,
        media: house.media.clone(),
    };
    let Some(idempotency) = &call.idempotency else {
        let end = first(house, &ask, &mut call).await;
        return about.reply(end.map_err(WireError::from)).await;
    };
    let Idempotency { key, fingerprint, .. } = *idempotency;
    let place = match offline {
        Offline::Fail => None,
        Offline::QueueUntil(_) => Some(ask.wait_place()?),
    };
    let end = match house.ring.repeats.begin(key, fingerprint, &call.id, clock::instant()) {
        Begun::Conflict => return Err(conflict()),
        Begun::Over(call) => Box::pin(before(house, &call)).await,
        Begun::UnderWay(call, end) => {
            let place = place.map_or_else(|| ask.wait_place(), Ok)?;
            let until_ms = Box::pin(waiting(house, &call)).await;
            let first = until_ms.map(|until_ms| about.queued(call, until_ms));
            return Ok(later(place, first, end, about));
        }
        Begun::First => {
            let noted = Noted::new(&house.ring.repeats, key);
            if let (Offline::QueueUntil(until_ms), Some(place)) = (offline, place) {
                return Box::pin(queue(house, &ask, call, until_ms, noted, about, place)).await;
            }
            let end = if is_watched {
                Box::pin(heard::first(house, &ask, &mut call)).await
            } else {
                first(house, &ask, &mut call).await
            };
            noted.end(end)
        }
    };
    about.reply(end).await
}

/// What a call asks for, checked.
fn call_of(ask: &Ask, params: NodeInvoke) -> Result<(Call, Offline), WireError> {
    let node: DeviceId = params
        .node_id
        .parse()
        .map_err(|_| denial::pairing_changed(denial::Interrupted::Invocation))?;
    let now = clock::now_ms();
    if let Some(deadline) = params.deadline.filter(|deadline| *deadline <= now) {
        let late = now - deadline;
        let error = WireError::invalid(format!("the deadline of this call was {late} ms ago; it was not made"));
        return Err(error.with_details(&json!({"code": "DEADLINE_PASSED"})));
    }
    let offline = params.offline.unwrap_or(Offline::Fail);
    check_wait(offline, now)?;
    // Clients send 0 for a call without a limit of theirs; every call has one of ours.
    let timeout_ms = params.timeout_ms.filter(|timeout| *timeout > 0);
    let timeout = match (timeout_ms, params.deadline) {
        (Some(ms), _) => Duration::from_millis(ms),
        (None, Some(_)) => limits::CALL_DEADLINE_MAX,
        (None, None) => limits::CALL_DEADLINE,
    };
    let command = params.command.trim().to_owned();
    if command.is_empty() {
        return Err(WireError::invalid("nodeId and command required"));
    }
    let caller = ask.caller.principal.label();
    let idempotency = Idempotency {
        key: Key::of(&caller, &params.idempotency_key),
        fingerprint: fingerprint(node, &command, params.params.as_ref()),
        text: params.idempotency_key.into_string(),
    };
    let is_bound_to_link = params.deadline.is_none() && matches!(offline, Offline::Fail);
    let mut call = Call {
        deadline_ms: params.deadline,
        idempotency: Some(idempotency),
        ..Call::new(node, command, params.params, timeout)
    };
    // A call that says itself until when it is wanted outlives the link of whoever asked; nobody else waits for any other.
    if is_bound_to_link {
        call.cancel = ask.caller.gone.clone();
    }
    Ok((call, offline))
}

fn check_wait(offline: Offline, now: u64) -> Result<(), WireError> {
    let Offline::QueueUntil(until) = offline else {
        return Ok(());
    };
    let longest = u64::try_from(limits::QUEUE_WAIT_MAX.as_millis()).unwrap_or(u64::MAX);
    if until <= now {
        return Err(WireError::invalid(
            "offline.queueUntil is over already; it is Unix milliseconds",
        ));
    }
    if until - now > longest {
        return Err(WireError::invalid("offline.queueUntil is more than 30 days ahead"));
    }
    Ok(())
}

/// The call ends with the link of whoever asked, unless somebody else asked for the same and waits for it.
async fn first(house: &House, ask: &Ask, call: &mut Call) -> Result<Option<Json>, CallRefused> {
    if call.command == "system.run" {
        Box::pin(prepare(house, ask, call)).await?;
    }
    let mut ended = pin!(house.ring.call(&ask.caller.principal, call));
    tokio::select! {
        biased;
        end = &mut ended => return end,
        () = ask.caller.gone.cancelled() => {}
    }
    let key = call.idempotency.as_ref().map(|idempotency| idempotency.key);
    while key.is_some_and(|key| house.ring.repeats.is_awaited(key)) {
        if let Ok(end) = tokio::time::timeout(LOOK, &mut ended).await {
            return end;
        }
    }
    call.cancel.cancel();
    ended.await
}

/// Makes a command exact, which may be refused.
async fn prepare(house: &House, ask: &Ask, call: &mut Call) -> Result<(), CallRefused> {
    let Err(refusal) = node::run::prepare(house, ask, call).await else {
        return Ok(());
    };
    let (ring, by) = (&house.ring, &ask.caller.principal);
    ring.unmade(by, call.node, &call.command, "denied", &refusal.message)
        .await;
    Err(CallRefused::Denied(refusal))
}

/// A call that may wait. When its node is there it is made like any other, but written down first.
async fn queue(
    house: &House,
    ask: &Ask,
    mut call: Call,
    until_ms: u64,
    noted: Noted,
    about: About,
    place: WaitPlace,
) -> Answer {
    if call.command == "system.run"
        && let Err(refused) = prepare(house, ask, &mut call).await
    {
        return about.reply(noted.end(Err(refused))).await;
    }
    let until_ms = call.deadline_ms.map_or(until_ms, |deadline| until_ms.min(deadline));
    let is_away = house.hub.node(call.node).is_none();
    let id = call.id.clone();
    let waits = house.waiting.wait(house, &ask.caller.principal, call, until_ms).await;
    let ended = match waits {
        Ok(ended) => ended,
        Err(refusal) => return about.reply(noted.end(Err(CallRefused::Denied(refusal)))).await,
    };
    // From here on, whoever delivers it says how it ended.
    noted.leave();
    let first = is_away.then(|| about.queued(id, until_ms));
    Ok(later(place, first, ended, about))
}

/// Until when a call waits; none when it does not.
async fn waiting(house: &House, call: &CallId) -> Option<u64> {
    let rows = house.waiting.rows().await;
    rows.iter().find(|row| row.call == *call).map(|row| row.until_ms)
}

/// The end of a call as the answer, which may be in days.
fn later(place: WaitPlace, first: Option<Json>, end: oneshot::Receiver<End>, about: About) -> Reply {
    let then = async move { about.hand_over(end_of(end).await?).await };
    Reply::Later {
        place,
        first,
        then: then.boxed(),
    }
}

/// Dropped when whoever made the call was dropped in the middle of it.
async fn end_of(ended: oneshot::Receiver<End>) -> End {
    ended.await.unwrap_or_else(|_| Err(unknown_end()))
}

/// What the reply names beside the payload.
struct About {
    node: DeviceId,
    command: String,
    form: BlobForm,
    media: Media,
}

impl About {
    /// What is said at once of a call that waits for its node.
    fn queued(&self, call: CallId, until_ms: u64) -> Json {
        let queued = InvokeQueued {
            status: "accepted".to_owned(),
            call_id: call,
            state: "queued".to_owned(),
            node_id: self.node,
            until_ms,
        };
        json!(queued).into()
    }

    async fn reply(&self, end: End) -> Answer {
        self.hand_over(end?).await.map(Reply::Done)
    }

    async fn hand_over(&self, payload: Option<Json>) -> Result<Json, WireError> {
        let payload = self.with_blobs(payload).await?;
        let reply = Handed {
            ok: true,
            node_id: self.node,
            command: &self.command,
            payload: payload.as_ref(),
            payload_json: payload.as_ref().map(Json::as_str),
        };
        let written = Json::of(&reply);
        written.map_err(|error| WireError::unavailable(format!("the reply cannot be written: {error}")))
    }

    /// Whoever knows nothing of blobs gets them in the result.
    async fn with_blobs(&self, payload: Option<Json>) -> Result<Option<Json>, WireError> {
        match payload {
            Some(payload) if self.form == BlobForm::Inline && !blob::handles(&payload).is_empty() => {
                Box::pin(self.inline(payload)).await.map(Some)
            }
            payload => Ok(payload),
        }
    }

    async fn inline(&self, payload: Json) -> Result<Json, WireError> {
        let media = self.media.clone();
        let inlined = tokio::task::spawn_blocking(move || as_base64(&media, &payload)).await;
        let failed =
            |error: tokio::task::JoinError| WireError::unavailable(format!("the blobs could not be read: {error}"));
        inlined.map_err(failed)?
    }
}

/// What a caller is told of a call that went well. The payload goes through as it came: no tree is made of what a node says, which may
/// nest deeper than any tree here.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Handed<'a> {
    ok: bool,
    node_id: DeviceId,
    command: &'a str,
    payload: Option<&'a Json>,
    #[serde(rename = "payloadJSON")]
    payload_json: Option<&'a str>,
}

/// The first call of its key, until its end is known. Dropped without one, it may have run all the same.
struct Noted {
    repeats: Repeats,
    key: Option<Key>,
}

impl Noted {
    fn new(repeats: &Repeats, key: Key) -> Self {
        Self {
            repeats: repeats.clone(),
            key: Some(key),
        }
    }

    fn end(mut self, end: Result<Option<Json>, CallRefused>) -> End {
        let may_have_run = match &end {
            Ok(_) => true,
            Err(CallRefused::Failed(failure)) => failure.may_have_run(),
            Err(CallRefused::Denied(_) | CallRefused::Unknown | CallRefused::Away | CallRefused::Journal(_)) => false,
        };
        let end = end.map_err(WireError::from);
        match self.key.take() {
            Some(key) if may_have_run => self.repeats.end(key, &end, clock::instant()),
            Some(key) => self.repeats.release(key, &end),
            None => {}
        }
        end
    }

    fn leave(mut self) {
        self.key = None;
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.repeats.abandon(key, clock::instant());
        }
    }
}

fn conflict() -> WireError {
    let message = "this idempotencyKey was used for another call a short time ago; choose a fresh one";
    WireError::invalid(message).with_details(&json!({"code": "IDEMPOTENCY_CONFLICT"}))
}

fn unknown_end() -> WireError {
    let message = "the call of this idempotencyKey was given up before its end; see node.calls.list";
    denial::node_error(&CallError::new("UNCERTAIN", message))
}

/// How a call ended that is over, as it was written down. Asked of the writer, behind everything that was handed to it before.
async fn before(house: &House, call: &CallId) -> End {
    let id = call.clone();
    let row = house
        .journal
        .write(Durability::Lazy, move |db| calls::find(db, &id))
        .await;
    match row {
        Ok(Some(row)) => end_in(row),
        Ok(None) => Err(unknown_end()),
        Err(error) => Err(WireError::unavailable(format!(
            "the first call cannot be looked up: {error}"
        ))),
    }
}

fn end_in(row: CallRow) -> End {
    let code = row.error_code.unwrap_or_default();
    match (row.state, row.result) {
        (CallState::Ok, None) => Ok(None),
        (CallState::Ok, Some(text)) => Json::parse(&text).map(Some).map_err(|_| {
            let message = "the call went well, but its result was too large to be kept for a repetition";
            WireError::unavailable(message).with_details(&json!({"code": "RESULT_NOT_KEPT"}))
        }),
        (CallState::TimedOut, _) => Err(denial::node_timeout()),
        (CallState::Error | CallState::Cancelled | CallState::Uncertain | CallState::NodeAway, message) => {
            Err(denial::node_error(&CallError::new(code, message.unwrap_or_default())))
        }
        (CallState::Queued | CallState::Sent | CallState::Running, _) => Err(unknown_end()),
    }
}

pub(super) async fn cancel(house: &House, ask: Ask) -> Answer {
    let params: InvokeCancel = ask.read()?;
    let unknown = || WireError::invalid("no open call has this callId; see node.calls.list");
    let call: CallId = params.call_id.parse().map_err(|_| unknown())?;
    if !house.waiting.cancel(call.clone()).await {
        if !house.hub.calls().await.iter().any(|(row, _)| row.call == call) {
            return Err(unknown());
        }
        house.hub.cancel(call.clone()).await;
    }
    done(InvokeCancelled {
        ok: true,
        call_id: call,
    })
}

pub(super) async fn list(house: &House, ask: Ask) -> Answer {
    let params: CallsList = ask.read()?;
    let calls = listing::calls(house, &params).await?;
    done(CallsListed {
        ts: clock::now_ms(),
        calls,
    })
}
