//! `node.event`: what nodes report on their own.

use atoll_protocol::id::DeviceId;
use atoll_protocol::json::Json;
use atoll_protocol::method::node::{HostStats, NodeEvent};
use atoll_protocol::scope::Scope;
use serde::Deserialize;
use serde_json::json;

use super::super::{Answer, Ask, done};
use super::own_node;
use crate::clock;
use crate::house::House;
use crate::hub::{Broadcast, MissingCommand};

/// Whether a report did anything, and the word for it.
type Taken = (bool, &'static str);

/// What a node may say of the commands that it does not offer, bytes. More: it is not taken.
const MISSING_BYTES: usize = 32 * 1024;

const BAD_PAYLOAD: Taken = (false, "invalid_payload");

pub(in crate::rpc) async fn event(house: &House, ask: Ask) -> Answer {
    let params: NodeEvent = ask.read()?;
    // Why a node offers less is of use before its owner approves it, too.
    let node = match (params.event.as_str(), ask.caller.principal.device_id()) {
        ("node.commands.missing", Some(node)) => node,
        _ => own_node(house, &ask).await?,
    };
    let payload = match params.payload_json {
        Some(text) => Json::parse(&text).ok(),
        None => params.payload,
    };
    let event = params.event.into_string();
    let (handled, reason) = match event.as_str() {
        "node.host.stats" => host_stats(house, node, payload.as_ref()).await,
        "node.commands.missing" => missing(house, node, payload.as_ref()).await,
        "node.presence.alive" => alive(house, node).await,
        "node.presence.activity" => activity(payload.as_ref()),
        // The result of the call says all that these do.
        "exec.started" | "exec.finished" | "exec.denied" => (false, "unmatched_exec_event"),
        _ => (false, "unsupported_event"),
    };
    done(json!({"ok": true, "event": event, "handled": handled, "reason": reason}))
}

async fn host_stats(house: &House, node: DeviceId, payload: Option<&Json>) -> Taken {
    let Some(stats) = payload.and_then(|payload| payload.read::<HostStats>().ok()) else {
        return BAD_PAYLOAD;
    };
    let mut stats = serde_json::to_value(stats).unwrap_or_default();
    stats["updatedAtMs"] = json!(clock::now_ms());
    house.hub.host_stats(node, Json::from(&stats)).await;
    let payload = json!({"nodeId": node, "hostStats": stats});
    house
        .hub
        .broadcast(Broadcast::to_scope("node.hostStats", payload, Scope::Read))
        .await;
    (true, "updated")
}

/// What a node says that it does not offer, for whoever looks at it.
async fn missing(house: &House, node: DeviceId, payload: Option<&Json>) -> Taken {
    let payload = payload.filter(|payload| payload.as_str().len() <= MISSING_BYTES);
    let Some(payload) = payload.filter(|payload| payload.read::<Vec<MissingCommand>>().is_ok()) else {
        return BAD_PAYLOAD;
    };
    house.hub.missing_commands(node, payload.clone()).await;
    (true, "updated")
}

async fn alive(house: &House, node: DeviceId) -> Taken {
    let seen = house.book.change(move |book, now| Ok(book.seen(node, now))).await;
    match seen {
        Ok(true) => (true, "persisted"),
        Ok(false) => (true, "throttled"),
        Err(_) => (false, "unavailable"),
    }
}

/// How long its user has been idle is nobody's business here; no device is permitted to tell.
fn activity(payload: Option<&Json>) -> Taken {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Activity {
        idle_seconds: Option<f64>,
        action: Option<String>,
    }
    let activity = payload.and_then(|payload| payload.read::<Activity>().ok());
    match activity {
        Some(Activity {
            idle_seconds: Some(_), ..
        }) => (false, "permission_required"),
        Some(Activity {
            action: Some(action), ..
        }) if action == "clear" => (false, "permission_required"),
        Some(_) | None => BAD_PAYLOAD,
    }
}
