//! `node.*`: what is in the ring, calls to it, and what nodes report.

use std::time::Duration;

use atoll_protocol::dialect::denial;
use atoll_protocol::error::WireError;
use atoll_protocol::id::DeviceId;
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::method::NoParams;
use atoll_protocol::method::node::{NodeInvoke, NodeNamed, NodeRename};
use serde_json::json;

use super::{Answer, Ask, device, done};
use crate::clock;
use crate::house::House;
use crate::ring::Call;

mod event;
mod run;

pub(super) use event::event;

pub(super) async fn list(house: &House, ask: Ask) -> Answer {
    let _: NoParams = ask.read()?;
    done(json!({"ts": clock::now_ms(), "nodes": house.ring.rows().await}))
}

pub(super) async fn describe(house: &House, ask: Ask) -> Answer {
    let node = ask
        .read::<NodeNamed>()?
        .node_id
        .parse()
        .map_err(|_| denial::unknown_node())?;
    let mut row = house.ring.row(node).await.ok_or_else(denial::unknown_node)?;
    row["ts"] = json!(clock::now_ms());
    done(row)
}

pub(super) async fn rename(house: &House, ask: Ask) -> Answer {
    let params: NodeRename = ask.read()?;
    if params.display_name.trim().is_empty() {
        return Err(WireError::invalid("displayName required"));
    }
    let node = params.node_id.parse().map_err(|_| denial::unknown_node())?;
    device::rename_device(house, &ask, node, params.display_name.as_str()).await?;
    done(json!({"nodeId": node, "displayName": params.display_name}))
}

pub(super) async fn invoke(house: &House, ask: Ask) -> Answer {
    let params: NodeInvoke = ask.read()?;
    let node: DeviceId = params
        .node_id
        .parse()
        .map_err(|_| denial::pairing_changed(denial::Interrupted::Invocation))?;
    let command = params.command.trim().to_owned();
    if command.is_empty() {
        return Err(WireError::invalid("nodeId and command required"));
    }
    // Clients send 0 for a call without a limit of theirs; every call has one of ours.
    let timeout = params.timeout_ms.filter(|timeout| *timeout > 0);
    let timeout = timeout.map_or(limits::CALL_DEADLINE, Duration::from_millis);
    let mut call = Call::new(node, command.clone(), params.params, timeout);
    call.idempotency_key = Some(params.idempotency_key.into_string());
    // Nobody else waits for it, so it ends with the link of whoever asked.
    call.cancel = ask.caller.gone.clone();
    if command == "system.run" {
        run::prepare(house, &ask, &mut call).await?;
    }
    let payload = house.ring.call(&ask.caller.principal, call).await?;
    let text = payload.as_ref().map(Json::as_str);
    done(json!({"ok": true, "nodeId": node, "command": command, "payload": payload, "payloadJSON": text}))
}

/// Answers of nodes are frames; one that arrives here came over a native link as a request and has no place.
pub(super) async fn result(_: &House, _: Ask) -> Answer {
    done(json!({"ok": true, "ignored": true}))
}

pub(super) async fn progress(_: &House, _: Ask) -> Answer {
    done(json!({"ok": true, "ignored": true}))
}

/// Skills of nodes are not used yet; the list is taken note of so that nodes do not retry.
pub(super) async fn skills(house: &House, ask: Ask) -> Answer {
    let node = ask.caller.principal.device_id();
    let params: atoll_protocol::method::node::SkillsUpdate = ask.read()?;
    let _ = house;
    done(json!({"nodeId": node, "skills": params.skills}))
}

/// Tools of nodes are not used yet; the list is taken note of so that nodes do not retry.
pub(super) async fn plugin_tools(house: &House, ask: Ask) -> Answer {
    let node = ask.caller.principal.device_id();
    let params: atoll_protocol::method::node::PluginToolsUpdate = ask.read()?;
    let _ = house;
    done(json!({"nodeId": node, "tools": params.tools}))
}

pub(super) async fn runner_inventory(house: &House, ask: Ask) -> Answer {
    let node = own_node(house, &ask).await?;
    done(json!({"nodeId": node}))
}

/// The node that asks, once its surface is approved.
async fn own_node(house: &House, ask: &Ask) -> Result<DeviceId, WireError> {
    let changed = || denial::pairing_changed(denial::Interrupted::Dispatch);
    let node = ask.caller.principal.device_id().ok_or_else(changed)?;
    let live = house.ring.live(node).ok_or_else(changed)?;
    let is_pending = matches!(live.approval, atoll_pairing::book::SurfaceApproval::Pending(_));
    if is_pending { Err(changed()) } else { Ok(node) }
}
