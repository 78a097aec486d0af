//! `node.*`: what is in the ring, what an approved command is, and what nodes report. Calls are in `invocation.rs`.

use std::sync::Arc;

use atoll_pairing::link::stream::Chunk;
use atoll_protocol::dialect::denial;
use atoll_protocol::error::WireError;
use atoll_protocol::id::DeviceId;
use atoll_protocol::method::NoParams;
use atoll_protocol::method::node::{NodeNamed, NodeRename, PluginToolsUpdate, StreamEnd, StreamPart};
use atoll_protocol::plugin_tool;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Answer, Ask, device, done};
use crate::clock;
use crate::house::House;

mod event;
pub(super) mod run;

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
    if let Some(missing) = house.ring.live(node).and_then(|live| live.missing_commands.clone()) {
        row["missingCommands"] = missing.tree();
    }
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

/// Answers of nodes are frames; one that arrives here came over a native link as a request and has no place.
pub(super) async fn result(_: &House, _: Ask) -> Answer {
    done(json!({"ok": true, "ignored": true}))
}

pub(super) async fn progress(_: &House, _: Ask) -> Answer {
    done(json!({"ok": true, "ignored": true}))
}

/// A part of a stream that somebody watches; answered when there is room for the next.
pub(super) async fn stream_part(house: &House, ask: Ask) -> Answer {
    let node = own_node(house, &ask).await?;
    let params: StreamPart = ask.read()?;
    let data = STANDARD
        .decode(params.data.as_bytes())
        .map_err(|_| WireError::invalid("invalid node.stream.chunk params: at /data: must be base64"))?;
    let part = match params.key.unwrap_or_default() {
        true => Chunk::Key(data.into()),
        false => Chunk::Data(data.into()),
    };
    let is_wanted = house.ring.live.told.part(node, params.stream_id.as_str(), part).await;
    done(json!({"ok": true, "wanted": is_wanted}))
}

pub(super) async fn stream_end(house: &House, ask: Ask) -> Answer {
    let node = own_node(house, &ask).await?;
    let params: StreamEnd = ask.read()?;
    let told = &house.ring.live.told;
    told.end(node, params.stream_id.as_str(), params.reason.as_deref());
    done(json!({"ok": true}))
}

/// Skills of nodes are not used yet; the list is taken note of so that nodes do not retry.
pub(super) async fn skills(house: &House, ask: Ask) -> Answer {
    let node = ask.caller.principal.device_id();
    let params: atoll_protocol::method::node::SkillsUpdate = ask.read()?;
    let _ = house;
    done(json!({"nodeId": node, "skills": params.skills}))
}

/// The tools of a node, all of them each time; taken before its surface is approved, and offered to nobody until then. The answer names
/// those that were taken.
pub(super) async fn plugin_tools(house: &House, ask: Ask) -> Answer {
    let changed = || denial::pairing_changed(denial::Interrupted::Dispatch);
    let node = ask.caller.principal.device_id().ok_or_else(changed)?;
    let params: PluginToolsUpdate = ask.read()?;
    let (tools, left_out) = plugin_tool::kept(params.tools);
    if let Some((name, why)) = left_out.first() {
        let count = left_out.len();
        tracing::warn!(node = %node.short(), count, first = name, "tools of a node are left out: {why}");
    }
    let tools: Arc<[_]> = tools.into();
    house.hub.tools(node, Arc::clone(&tools)).await;
    done(json!({"nodeId": node, "tools": tools[..]}))
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
