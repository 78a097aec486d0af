//! `sessions.subscribe` and `sessions.messages.*`: a link that wants to hear of conversations, until it ends.

use std::sync::Arc;

use atoll_protocol::error::WireError;
use atoll_protocol::method::session::{SessionSubscribe, SessionUnsubscribe, SessionsList};
use serde_json::{Value, json};

use super::{listed, named};
use crate::house::House;
use crate::rpc::{Answer, Ask, Caller, done};
use crate::watchers::Watchers;

pub(in crate::rpc) async fn subscribe(house: &Arc<House>, ask: Ask) -> Answer {
    let params: SessionsList = ask.read()?;
    let is_asked = ask.params.as_ref().is_some_and(|params| {
        let fields = params.read::<Value>();
        fields.is_ok_and(|fields| fields.as_object().is_some_and(|fields| !fields.is_empty()))
    });
    let is_watching = subscribed(house, &ask.caller);
    if !is_asked || !is_watching {
        return done(json!({"subscribed": is_watching}));
    }
    done(json!({"subscribed": true, "list": listed(house, params).await?}))
}

/// Notes that a link wants to hear of changes in the list; false for a caller without a link.
pub(in crate::rpc) fn subscribed(house: &House, caller: &Caller) -> bool {
    watch(house, caller, |watchers, connection| watchers.all(connection))
}

pub(in crate::rpc) async fn subscribe_messages(house: &Arc<House>, ask: Ask) -> Answer {
    let params: SessionSubscribe = ask.read()?;
    if params.include_approvals == Some(true) {
        return Err(WireError::invalid(
            "includeApprovals: this gateway tells of approvals by exec.approval.requested alone",
        ));
    }
    let (session, _) = named(house, &params.key, params.agent_id.as_deref())?;
    let mut is_full = false;
    let is_watching = watch(house, &ask.caller, |watchers, connection| {
        is_full = !watchers.one(connection, &session);
    });
    if is_full {
        return Err(WireError::unavailable(
            "this link watches too many sessions; unsubscribe from some, or open another link",
        ));
    }
    done(json!({"subscribed": is_watching, "key": session}))
}

pub(in crate::rpc) async fn unsubscribe_messages(house: &Arc<House>, ask: Ask) -> Answer {
    let params: SessionUnsubscribe = ask.read()?;
    let (session, _) = named(house, &params.key, params.agent_id.as_deref())?;
    if let Some(connection) = ask.caller.principal.connection() {
        house.turns.watchers.not(connection, &session);
    }
    done(json!({"subscribed": false, "key": session}))
}

/// Notes a wish of a link's, until the link ends; false for a caller without a link.
fn watch(house: &House, caller: &Caller, wish: impl FnOnce(&Watchers, &str)) -> bool {
    let Some(connection) = caller.principal.connection() else {
        return false;
    };
    let watchers = &house.turns.watchers;
    let is_known = watchers.knows(connection);
    wish(watchers, connection);
    if !is_known {
        let (watchers, gone, connection) = (watchers.clone(), caller.gone.clone(), connection.to_owned());
        house.tasks.spawn(async move {
            gone.cancelled().await;
            watchers.gone(&connection);
        });
    }
    true
}
