//! The gateway's methods: which there are, who may call each, and where each is answered. Owns nothing else; one family a file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use atoll_pairing::access::{self, Granted, Method};
use atoll_protocol::dialect::denial;
use atoll_protocol::error::WireError;
use atoll_protocol::frame::{Frame, FrameError, Request, Response};
use atoll_protocol::id::RequestId;
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::method::read_params;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::house::House;
use crate::hub::{Outgoing, Outlet};

mod table;

mod approval;
mod audit;
mod channel;
mod chat;
mod config;
mod device;
mod gateway;
pub(crate) mod health;
mod invocation;
mod media;
mod node;
mod policy;
mod session;
mod setup;

pub(crate) use health::LastHealth;
pub(crate) use setup::follow;
pub(crate) use table::names;

/// Calls of another role that a peer may make before it is cut off.
const ROLE_VIOLATIONS: u32 = 10;

/// Who asks.
#[derive(Debug)]
pub(crate) struct Caller {
    /// What it may do.
    pub(crate) principal: Arc<access::Principal>,
    /// Its link has ended: what only waits for it can stop.
    pub(crate) gone: CancellationToken,
    waits: Arc<Semaphore>,
    violations: AtomicU32,
}

impl Caller {
    /// Somebody on a link.
    pub(crate) fn new(principal: Arc<access::Principal>) -> Self {
        Self {
            principal,
            gone: CancellationToken::new(),
            waits: Arc::new(Semaphore::new(limits::OPERATOR_WAITS)),
            violations: AtomicU32::new(0),
        }
    }
}

/// Whether a request ends others. It has places of its own, so that a caller whose others all take long can still end them.
pub(crate) fn is_urgent(method: &str) -> bool {
    matches!(
        method,
        "chat.abort" | "exec.approval.resolve" | "health" | "node.invoke.cancel"
    )
}

/// A place among those requests of a caller that only wait, of which there are [`limits::OPERATOR_WAITS`].
#[derive(Debug)]
pub(crate) struct WaitPlace(OwnedSemaphorePermit);

/// The answer in place of one that does not fit into a frame.
pub(crate) fn too_large(id: &RequestId, error: &FrameError) -> Response {
    let error = WireError::unavailable(format!("PAYLOAD_TOO_LARGE: the reply does not fit: {error}"));
    Response {
        id: id.clone(),
        result: Err(error),
    }
}

/// One call that was decided: a handler cannot be reached without it.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The decision.
    pub(crate) granted: Granted<Method>,
    /// Who asks.
    pub(crate) caller: Arc<Caller>,
    /// With these parameters.
    pub(crate) params: Option<Json>,
    /// Where its link is written to.
    pub(crate) replies: Outlet,
}

impl Ask {
    /// The parameters as a type.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, WireError> {
        read_params(&self.granted.action().name, self.params.as_ref())
    }

    /// Takes a place for an answer that comes [`Reply::Later`]; before anything is done that could not be refused any more.
    fn wait_place(&self) -> Result<WaitPlace, WireError> {
        let place = self.caller.waits.clone().try_acquire_owned();
        place.map(WaitPlace).map_err(|_| {
            let message = format!(
                "{} requests of this link wait already; let some end, or open another link",
                limits::OPERATOR_WAITS
            );
            let refusal = WireError::unavailable(message).with_details(&json!({"code": "TOO_MANY_WAITING"}));
            refusal.with_retry(true, None)
        })
    }

    /// Decides a further action of the same caller.
    pub(crate) fn decide<A: access::Action>(&self, house: &House, action: A) -> Result<Granted<A>, WireError> {
        access::decide(&self.caller.principal, action, &house.policy(), clock::now_ms()).map_err(WireError::from)
    }
}

/// What a method answers.
pub(crate) enum Reply {
    /// The answer.
    Done(Json),
    /// The answer when something else has ended: the request leaves its place among those that are worked on.
    Later {
        /// Its place among those that wait.
        place: WaitPlace,
        /// "Accepted", to be said now under the same id.
        first: Option<Json>,
        /// The answer.
        then: BoxFuture<'static, Result<Json, WireError>>,
    },
}

/// A handler's result.
pub(crate) type Answer = Result<Reply, WireError>;

/// Wraps a reply.
pub(crate) fn done(reply: impl Serialize) -> Answer {
    Json::of(&reply)
        .map(Reply::Done)
        .map_err(|error| WireError::unavailable(format!("the reply cannot be written: {error}")))
}

/// Answers one request. Whatever happens, the caller gets an answer: a panic in a handler is one failed call. `place` is let go
/// of when the caller may ask for more.
pub(crate) async fn serve(
    house: Arc<House>,
    caller: Arc<Caller>,
    request: Request,
    replies: Outlet,
    place: OwnedSemaphorePermit,
) {
    let Request { id, method, params } = request;
    let dispatched = dispatch(&house, caller.clone(), &method, params, replies.clone());
    match guarded(&method, dispatched).await {
        Ok(Reply::Done(reply)) => send(&replies, id, Ok(reply)).await,
        Ok(Reply::Later {
            place: WaitPlace(_held),
            first,
            then,
        }) => {
            drop(place);
            Box::pin(send_later(&replies, id, first, guarded(&method, then))).await;
        }
        Err(error) => send(&replies, id, Err(error)).await,
    }
    if caller.violations.load(Ordering::Relaxed) > ROLE_VIOLATIONS {
        replies.close(1008, "repeated unauthorized calls");
    }
}

/// A panic is an error like any other.
async fn guarded<T>(method: &str, work: impl Future<Output = Result<T, WireError>>) -> Result<T, WireError> {
    let done = std::panic::AssertUnwindSafe(work).catch_unwind().await;
    done.unwrap_or_else(|_| {
        tracing::error!(method, "a method panicked");
        Err(WireError::unavailable(format!(
            "{method} failed inside the gateway; see `atoll logs`"
        )))
    })
}

async fn send_later(
    replies: &Outlet,
    id: RequestId,
    first: Option<Json>,
    then: impl Future<Output = Result<Json, WireError>>,
) {
    if let Some(first) = first {
        send(replies, id.clone(), Ok(first)).await;
    }
    tokio::select! {
        reply = then => send(replies, id, reply).await,
        // Nobody is left who waits for it.
        () = replies.closed() => {}
    }
}

async fn send(replies: &Outlet, id: RequestId, result: Result<Json, WireError>) {
    replies
        .send(Outgoing::Frame(Box::new(Frame::Response(Response { id, result }))))
        .await;
}

async fn dispatch(
    house: &Arc<House>,
    caller: Arc<Caller>,
    method: &str,
    params: Option<Json>,
    replies: Outlet,
) -> Answer {
    let entry = table::find(method);
    let action = entry.map_or_else(|| Method::unknown(method.to_owned()), table::Entry::action);
    if !house.book.is_current(&caller.principal) {
        return Err(denial::pairing_changed(denial::Interrupted::Dispatch));
    }
    let granted = match access::decide(&caller.principal, action, &house.policy(), clock::now_ms()) {
        Ok(granted) => granted,
        Err(denied) => {
            if matches!(denied, access::Denied::Role(_)) {
                caller.violations.fetch_add(1, Ordering::Relaxed);
            }
            let refusal = WireError::from(denied);
            Box::pin(audit::note_denied(
                house,
                &caller.principal,
                method,
                params.as_ref(),
                &refusal,
            ))
            .await;
            return Err(refusal);
        }
    };
    let Some(entry) = entry else {
        return Err(denial::unknown_method(method));
    };
    (entry.run)(
        house.clone(),
        Ask {
            granted,
            caller,
            params,
            replies,
        },
    )
    .await
}
