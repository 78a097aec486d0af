//! `node.*`: parameters, replies and events.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::id::{CallId, DeviceId, PairingId};
use crate::json::Json;
use crate::limits;
use crate::method::device::PairingDecision;
use crate::method::{Int, Text};
use crate::plugin_tool::PluginTool;
use crate::strict::{closed, open, words};

words! {
    /// How far a node's surface is approved.
    ApprovalState {
        /// All of it.
        Approved = "approved",
        /// None of it.
        Pending = "pending-approval",
        /// What it had before, and it wants more.
        Reapproval = "pending-reapproval",
    }
}

/// What becomes of a call whose node is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Offline {
    /// It fails at once.
    Fail,
    /// It waits for its node until then, Unix milliseconds, through restarts of the gateway too.
    QueueUntil(u64),
}

words! {
    /// How the blobs of a result are handed over.
    BlobForm {
        /// As `base64` in the result, as far as that goes.
        Inline = "inline",
        /// As handles, to be fetched from `/media/<id>`.
        Handles = "handles",
    }
}

closed! {
    /// `node.describe` and `node.pair.remove`.
    pub struct NodeNamed {
        /// The node.
        node_id: Text;
    }

    /// `node.rename`.
    pub struct NodeRename {
        /// The node.
        node_id: Text,
        /// Its new name.
        display_name: Text;
    }

    /// `node.invoke`.
    pub struct NodeInvoke {
        /// The node.
        node_id: Text,
        /// The command.
        command: Text,
        /// Passed through to the node. For five minutes, the same key of the same caller for the same node, command and
        /// parameters is the same call.
        idempotency_key: Text;
        /// Its parameters.
        params?: Json,
        /// How long it may take.
        timeout_ms?: u64,
        /// When it ends at the latest, Unix milliseconds; with `timeoutMs` the earlier of the two.
        deadline?: u64,
        /// What becomes of it when the node is away; `fail` if left out.
        offline?: Offline,
        /// How the caller takes blobs of the result; as base64 if it does not say.
        blobs?: BlobForm,
        /// Whether the caller hears what it says while it runs, as events `node.invoke.progress`. Whoever repeats a call hears its end alone.
        progress?: bool,
        /// The session that wants it.
        session_key?: Text,
        /// Where the wish came from.
        turn_source_channel?: String,
        /// Where the wish came from.
        turn_source_to?: String,
        /// Where the wish came from.
        turn_source_account_id?: String,
        /// Where the wish came from: text or a number.
        turn_source_thread_id?: Json,
    }

    /// `node.invoke.cancel`.
    pub struct InvokeCancel {
        /// The call, as `node.calls.list` names it.
        call_id: Text;
    }

    /// `node.calls.list`.
    #[derive(Default)]
    pub struct CallsList {;
        /// On this node alone.
        node_id?: Text,
        /// In this state alone; or `open`, or `ended`.
        state?: Text,
        /// So many at most; 100 if left out.
        limit?: Int<1, 1000>,
    }

    /// `node.invoke.result`, from a node.
    pub struct InvokeResult {
        /// The call.
        id: Text,
        /// The node's own device id.
        node_id: Text,
        /// Whether there is a payload or an error.
        ok: bool;
        /// The payload as a value.
        payload?: Json,
        /// The payload as JSON text; it wins. Null is as good as absent.
        #[serde(rename = "payloadJSON")]
        payload_json?: Option<String>,
        /// Why there is none. Null is as good as absent.
        error?: Option<NodeFault>,
    }

    /// Why a node gives no payload.
    pub struct NodeFault {;
        /// An upper-case word.
        code?: Text,
        /// One sentence.
        message?: Text,
    }

    /// `node.invoke.progress`, from a node.
    pub struct InvokeProgress {
        /// The call.
        invoke_id: Text,
        /// The node's own device id.
        node_id: Text,
        /// From 0.
        seq: u64,
        /// Text of at most [`limits::PROGRESS_CHUNK`] characters.
        #[serde(deserialize_with = "chunk")]
        chunk: String;
    }

    /// `node.event`, from a node.
    pub struct NodeEvent {
        /// Its name.
        event: Text;
        /// Its facts as a value.
        payload?: Json,
        /// Its facts as JSON text; they win.
        #[serde(rename = "payloadJSON")]
        payload_json?: String,
    }

    /// `node.stream.chunk`, from a node that speaks the dialect.
    pub struct StreamPart {
        /// The stream, as `node.stream.open` called it.
        stream_id: Text,
        /// Base64.
        data: String;
        /// Whether one can begin here.
        key?: bool,
    }

    /// `node.stream.end`, from a node that speaks the dialect.
    pub struct StreamEnd {
        /// The stream, as `node.stream.open` called it.
        stream_id: Text;
        /// Why, where it did not end as it should: `CODE: sentence`.
        reason?: String,
    }

    /// `node.skills.update`, from a node.
    pub struct SkillsUpdate {
        /// `{name, description, content}` each.
        skills: Vec<Json>;
    }

    /// `node.pluginTools.update`, from a node.
    pub struct PluginToolsUpdate {
        /// All of them; those of before are gone.
        tools: Vec<PluginTool>;
    }

    /// `node.runnerInventory.update`, from a node.
    pub struct RunnerInventoryUpdate {;
        /// Names of extras.
        protocol_features?: Vec<Text>,
        /// `{enabled}`.
        worker_host?: Json,
    }

    /// The facts of the node event `node.host.stats`.
    pub struct HostStats {
        /// 1 to 4096.
        cpu_count: u64,
        /// Bytes.
        memory_total_bytes: u64,
        /// Bytes.
        memory_free_bytes: u64;
        /// Over 1, 5 and 15 minutes.
        load_average?: [f64; 3],
        /// Bytes.
        disk_total_bytes?: u64,
        /// Bytes.
        disk_available_bytes?: u64,
    }

    /// `exec.approvals.node.get`.
    pub struct NodeApprovalsGet {
        /// The node.
        node_id: Text;
    }

    /// `exec.approvals.node.set`.
    pub struct NodeApprovalsSet {
        /// The node.
        node_id: Text,
        /// The whole document.
        file: Json;
        /// The hash of what it replaces.
        base_hash?: Text,
    }
}

open! {
    /// The reply of `node.list`.
    pub struct Nodes {
        /// Unix milliseconds.
        ts: u64,
        /// Every node that was approved or is linked.
        nodes: Vec<NodeRow>;
    }

    /// One node; with `ts`, the reply of `node.describe`.
    pub struct NodeRow {
        /// The node.
        node_id: DeviceId,
        /// What may be called now: declared, approved, let through.
        caps: Vec<String>,
        /// What may be called now.
        commands: Vec<String>,
        /// How far it is approved.
        approval_state: ApprovalState,
        /// Whether the device is in the book.
        paired: bool,
        /// Whether it is linked now.
        connected: bool;
        /// Unix milliseconds, in the reply of `node.describe`.
        ts?: u64,
        /// What a person calls it.
        display_name?: String,
        /// Its system.
        platform?: String,
        /// Its version.
        version?: String,
        /// Its program.
        client_id?: String,
        /// How that is used.
        client_mode?: String,
        /// Its kind.
        device_family?: String,
        /// Its hardware.
        model_identifier?: String,
        /// Its address.
        remote_ip?: String,
        /// Whether it hosts sessions; ours never do.
        session_host?: bool,
        /// Tools of its own.
        node_plugin_tools?: Vec<Json>,
        /// Its `PATH`.
        path_env?: String,
        /// What its system has permitted.
        permissions?: BTreeMap<String, bool>,
        /// The last `node.host.stats`, with `updatedAtMs`.
        host_stats?: Json,
        /// Commands that it does not offer here and now, each with the reason: `node.commands.missing`. In `node.describe` alone.
        missing_commands?: Json,
        /// The request that would approve the rest.
        pending_request_id?: PairingId,
        /// The rest.
        pending_declared_caps?: Vec<String>,
        /// The rest.
        pending_declared_commands?: Vec<String>,
        /// Unix milliseconds.
        connected_at_ms?: u64,
        /// Unix milliseconds.
        last_connected_at_ms?: u64,
        /// Unix milliseconds.
        last_disconnected_at_ms?: u64,
        /// Unix milliseconds.
        last_seen_at_ms?: u64,
        /// What was last heard of it.
        last_seen_reason?: String,
        /// Unix milliseconds.
        approved_at_ms?: u64,
    }

    /// The reply of `node.rename`.
    pub struct NodeRenamed {
        /// The node.
        node_id: DeviceId,
        /// Its new name.
        display_name: String;
    }

    /// The reply of `node.invoke`.
    pub struct Invoked {
        /// True.
        ok: bool,
        /// The node.
        node_id: DeviceId,
        /// The command.
        command: String;
        /// What it gave.
        payload?: Json,
        /// The same as text.
        #[serde(rename = "payloadJSON")]
        payload_json?: String,
    }

    /// The first reply of a `node.invoke` that waits for its node; a second one follows with its end.
    pub struct InvokeQueued {
        /// `accepted`.
        status: String,
        /// The call.
        call_id: CallId,
        /// `queued`.
        state: String,
        /// The node.
        node_id: DeviceId,
        /// Until when it waits, Unix milliseconds.
        until_ms: u64;
    }

    /// The reply of `node.invoke.cancel`.
    pub struct InvokeCancelled {
        /// True.
        ok: bool,
        /// The call.
        call_id: CallId;
    }

    /// The reply of `node.calls.list`.
    pub struct CallsListed {
        /// Unix milliseconds.
        ts: u64,
        /// Open ones first, then those that ended lately; newest first.
        calls: Vec<CallListed>;
    }

    /// One call.
    pub struct CallListed {
        /// The call.
        call_id: CallId,
        /// Where it runs: a device id, or `gateway`.
        node_id: String,
        /// What runs.
        command: String,
        /// `queued`, `sent`, `running`, `running (node away)`; ended: `ok`, `error`, `timed out`, `cancelled`, `node away`,
        /// `uncertain`.
        state: String,
        /// Whether it has not ended.
        open: bool,
        /// Since when it is in this state, Unix milliseconds.
        since_ms: u64,
        /// On whose behalf.
        caller: String;
        /// When it ends at the latest, Unix milliseconds.
        deadline_ms?: u64,
        /// The caller's key.
        idempotency_key?: String,
        /// The code of its error.
        error_code?: String,
    }

    /// The event `node.calls.changed`: `node.calls.list` would say something else now.
    pub struct CallsChanged {
        /// Unix milliseconds.
        ts: u64;
    }

    /// The reply of `node.event`.
    pub struct NodeEventTaken {
        /// True.
        ok: bool;
        /// Its name.
        event?: String,
        /// Whether it did anything.
        handled?: bool,
        /// Why not.
        reason?: String,
    }

    /// The reply of `node.pair.list`.
    pub struct NodePairings {
        /// To be decided.
        pending: Vec<PendingNode>,
        /// Decided.
        paired: Vec<PairedNode>;
    }

    /// A node whose surface waits; also the event `node.pair.requested`.
    pub struct PendingNode {
        /// The request.
        request_id: PairingId,
        /// The node.
        node_id: DeviceId,
        /// What it offers.
        caps: Vec<String>,
        /// What it offers, as far as policy lets it through.
        commands: Vec<String>,
        /// What an approver must hold.
        required_approve_scopes: Vec<String>,
        /// When it asked, Unix milliseconds.
        ts: u64;
        /// Its program.
        client_id?: String,
        /// How that is used.
        client_mode?: String,
        /// What a person calls it.
        display_name?: String,
        /// Its system.
        platform?: String,
        /// Its version.
        version?: String,
        /// Its kind.
        device_family?: String,
        /// What its system has permitted.
        permissions?: BTreeMap<String, bool>,
    }

    /// A node whose surface is approved.
    pub struct PairedNode {
        /// The node.
        node_id: DeviceId,
        /// What it may offer.
        caps: Vec<String>,
        /// What it may offer.
        commands: Vec<String>;
        /// Its program.
        client_id?: String,
        /// How that is used.
        client_mode?: String,
        /// What a person calls it.
        display_name?: String,
        /// Its system.
        platform?: String,
        /// Its version.
        version?: String,
        /// Its kind.
        device_family?: String,
        /// Unix milliseconds.
        created_at_ms?: u64,
        /// Unix milliseconds.
        approved_at_ms?: u64,
        /// Unix milliseconds.
        last_seen_at_ms?: u64,
        /// What was last heard of it.
        last_seen_reason?: String,
    }

    /// The reply of `node.pair.approve`.
    pub struct NodeApproved {
        /// The request.
        request_id: PairingId,
        /// The node.
        node: PairedNode;
    }

    /// The reply of `node.pair.reject`.
    pub struct NodeRejected {
        /// The request.
        request_id: PairingId,
        /// The node.
        node_id: DeviceId;
    }

    /// The reply of `node.pair.remove`.
    pub struct NodeRemoved {
        /// The node.
        node_id: DeviceId;
    }

    /// The event `node.pair.resolved`, to operators and to the node itself.
    pub struct NodeResolved {
        /// The request; empty for a removal.
        request_id: String,
        /// The node.
        node_id: DeviceId,
        /// How it ended.
        decision: PairingDecision,
        /// Unix milliseconds.
        ts: u64;
    }

    /// The reply of `exec.approvals.node.get` and `.set`.
    pub struct NodeApprovals {
        /// The file on the node.
        path: String,
        /// Whether there is one.
        exists: bool,
        /// The document.
        file: Json,
        /// The hash to give as `baseHash`.
        hash: String;
    }
}

fn chunk<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > limits::PROGRESS_CHUNK && text.chars().count() > limits::PROGRESS_CHUNK {
        let limit = limits::PROGRESS_CHUNK;
        return Err(de::Error::custom(format!("must not have more than {limit} characters")));
    }
    Ok(text)
}
