//! The gateway's methods: which there are, who may call each, and where each is answered. Owns nothing else; one family a file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use atoll_pairing::access::{self, Granted, Method};
use atoll_protocol::dialect::denial;
use atoll_protocol::error::WireError;
use atoll_protocol::frame::{Frame, FrameError, Request, Response};
use atoll_protocol::id::RequestId;
use atoll_protocol::json::Json;
use atoll_protocol::method::read_params;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::house::House;
use crate::hub::{Outgoing, Outlet};

mod table;

mod approval;
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
    violations: AtomicU32,
}

impl Caller {
    /// Somebody on a link.
    pub(crate) fn new(principal: Arc<access::Principal>) -> Self {
        Self {
            principal,
            gone: CancellationToken::new(),
            violations: AtomicU32::new(0),
        }
    }

    /// Waits, but not longer than there is somebody who hears the end.
    async fn waits<T>(&self, wait: impl Future<Output = T>) -> Result<T, WireError> {
        let ended = self.gone.run_until_cancelled(wait).await;
        ended.ok_or_else(|| WireError::unavailable("the link ended first"))
    }
}

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

    /// Decides a further action of the same caller.
    pub(crate) fn decide<A: access::Action>(&self, house: &House, action: A) -> Result<Granted<A>, WireError> {
        access::decide(&self.caller.principal, action, &house.policy(), clock::now_ms()).map_err(WireError::from)
    }
}

/// What a method answers.
pub(crate) enum Reply {
    /// The answer.
    Done(Json),
    /// "Accepted" now, and the answer under the same id when it is there.
    Accepted {
        /// The first answer.
        first: Json,
        /// The second.
        then: BoxFuture<'static, Result<Json, WireError>>,
    },
    /// The same, where something else bounds how many there are: it leaves its place among the caller's requests.
    Later {
        /// The first answer.
        first: Json,
        /// The second.
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
    let answer = std::panic::AssertUnwindSafe(dispatched).catch_unwind().await;
    let answer = answer.unwrap_or_else(|_| {
        tracing::error!(method, "a method panicked");
        Err(WireError::unavailable(format!(
            "{method} failed inside the gateway; see `atoll logs`"
        )))
    });
    match answer {
        Ok(Reply::Done(reply)) => send(&replies, id, Ok(reply)).await,
        Ok(Reply::Accepted { first, then }) => Box::pin(send_both(&replies, id, first, then)).await,
        Ok(Reply::Later { first, then }) => {
            drop(place);
            Box::pin(send_both(&replies, id, first, then)).await;
        }
        Err(error) => send(&replies, id, Err(error)).await,
    }
    if caller.violations.load(Ordering::Relaxed) > ROLE_VIOLATIONS {
        replies.close(1008, "repeated unauthorized calls");
    }
}

async fn send_both(replies: &Outlet, id: RequestId, first: Json, then: BoxFuture<'static, Result<Json, WireError>>) {
    send(replies, id.clone(), Ok(first)).await;
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
    let granted = access::decide(&caller.principal, action, &house.policy(), clock::now_ms()).map_err(|denied| {
        if matches!(denied, access::Denied::Role(_)) {
            caller.violations.fetch_add(1, Ordering::Relaxed);
        }
        WireError::from(denied)
    })?;
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
