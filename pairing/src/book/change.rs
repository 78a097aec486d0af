//! What a change of the book asks of the shell around it: store, then tell, then close.

use atoll_protocol::id::{DeviceId, SetupId};
use atoll_protocol::json::Json;
use atoll_protocol::scope::Role;
use serde_json::json;

use super::code::SetupCode;
use super::device::DeviceRecord;
use super::pending::PendingRequest;
use super::rows;

/// One consequence. `Put` and `Remove` must be durable before anybody is told of the others or answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Store this record, durably.
    Put(Box<DeviceRecord>),
    /// Store this record when convenient: only times of use have changed.
    Seen(Box<DeviceRecord>),
    /// Forget this device, durably.
    Remove(DeviceId),
    /// Store this setup code, durably and in one step with the other changes of the list.
    PutCode(Box<SetupCode>),
    /// Forget this setup code.
    ForgetCode(SetupId),
    /// Broadcast to operators with `operator.pairing`.
    Event {
        /// e.g. `device.pair.requested`.
        name: &'static str,
        /// Its facts.
        payload: Json,
        /// The device's own link hears it too.
        to_device: Option<DeviceId>,
    },
    /// The device's links in force must learn that what they may do has changed.
    Surface(DeviceId),
    /// Close the device's links, in this role or in all.
    Close {
        /// Whose.
        device: DeviceId,
        /// In which role; none: all.
        role: Option<Role>,
        /// The close code.
        code: u16,
        /// The close reason.
        reason: &'static str,
    },
}

impl Change {
    /// Whether this must be stored before anything else happens.
    pub fn is_durable(&self) -> bool {
        matches!(
            self,
            Self::Put(_) | Self::Remove(_) | Self::PutCode(_) | Self::ForgetCode(_)
        )
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Approved,
    Rejected,
    Removed,
}

impl Decision {
    fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Removed => "removed",
        }
    }
}

pub(super) fn event(name: &'static str, payload: serde_json::Value) -> Change {
    Change::Event {
        name,
        payload: payload.into(),
        to_device: None,
    }
}

pub(super) fn requested(request: &PendingRequest) -> Change {
    if request.reason.keeps_out() {
        event("device.pair.requested", rows::device_request(request))
    } else {
        event("node.pair.requested", rows::node_request(request))
    }
}

/// A request ended: told in the view or views that it showed in.
pub(super) fn resolved(request: &PendingRequest, decision: Decision, now_ms: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    if request.reason.keeps_out() {
        changes.push(event(
            "device.pair.resolved",
            json!({
                "requestId": request.id, "deviceId": request.device.id, "decision": decision.as_str(), "ts": now_ms,
            }),
        ));
    }
    if request.role == Role::Node {
        changes.push(node_resolved(request.id.as_str(), request.device.id, decision, now_ms));
    }
    changes
}

pub(super) fn node_resolved(request: &str, node: DeviceId, decision: Decision, now_ms: u64) -> Change {
    Change::Event {
        name: "node.pair.resolved",
        payload: json!({"requestId": request, "nodeId": node, "decision": decision.as_str(), "ts": now_ms}).into(),
        to_device: Some(node),
    }
}

pub(super) fn changed() -> Change {
    event("device.pair.changed", json!({}))
}

pub(super) fn close(device: DeviceId, role: Option<Role>) -> Change {
    Change::Close {
        device,
        role,
        code: 4001,
        reason: "device removed",
    }
}
