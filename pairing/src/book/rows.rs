//! Records and requests as `device.pair.*` and `node.pair.*` show them (reference §7). Never a secret, never a hash.

use atoll_protocol::scope::Role;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::code::SetupCode;
use super::device::{DeviceRecord, RoleGrant};
use super::pending::PendingRequest;
use crate::access::commands::required_to_approve;

/// What the hub knows of a device's links, for the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// A link is up.
    pub connected: bool,
    /// Since when, Unix milliseconds.
    pub connected_ms: Option<u64>,
    /// When the last one ended, Unix milliseconds.
    pub disconnected_ms: Option<u64>,
    /// What it goes over, e.g. `wss`; empty without one.
    pub pipe: &'static str,
}

/// A pending row of `device.pair.list`, and `device.pair.requested`.
pub fn device_request(request: &PendingRequest) -> Value {
    let client = &request.client;
    let mut row = Map::new();
    row.insert("requestId".into(), json!(request.id));
    row.insert("deviceId".into(), json!(request.device.id));
    row.insert(
        "publicKey".into(),
        json!(URL_SAFE_NO_PAD.encode(request.device.public_key)),
    );
    insert_text(&mut row, "displayName", &client.display_name);
    row.insert("platform".into(), json!(client.platform));
    row.insert("deviceFamily".into(), json!(client.device_family));
    row.insert("clientId".into(), json!(client.id));
    row.insert("clientMode".into(), json!(client.mode));
    row.insert("role".into(), json!(request.role));
    row.insert("roles".into(), json!([request.role]));
    row.insert("scopes".into(), json!(request.scopes));
    if request.role == Role::Node {
        // One approval covers these too, so whoever approves sees them here.
        row.insert("caps".into(), json!(request.surface.caps));
        row.insert("commands".into(), json!(request.surface.commands));
    }
    insert_code(&mut row, request);
    row.insert("silent".into(), json!(false));
    row.insert("isRepair".into(), json!(request.is_repair));
    row.insert("ts".into(), json!(request.created_ms));
    row.into()
}

/// A pending row of `node.pair.list`, and `node.pair.requested`.
pub fn node_request(request: &PendingRequest) -> Value {
    let client = &request.client;
    let mut row = Map::new();
    row.insert("requestId".into(), json!(request.id));
    row.insert("nodeId".into(), json!(request.device.id));
    row.insert("clientId".into(), json!(client.id));
    row.insert("clientMode".into(), json!(client.mode));
    insert_text(&mut row, "displayName", &client.display_name);
    row.insert("platform".into(), json!(client.platform));
    row.insert("version".into(), json!(client.version));
    row.insert("deviceFamily".into(), json!(client.device_family));
    row.insert("caps".into(), json!(request.surface.caps));
    row.insert("commands".into(), json!(request.surface.commands));
    if !request.surface.permissions.is_empty() {
        row.insert("permissions".into(), json!(request.surface.permissions));
    }
    insert_code(&mut row, request);
    let required = required_to_approve(&request.surface);
    row.insert("requiredApproveScopes".into(), json!(required));
    row.insert("ts".into(), json!(request.created_ms));
    row.into()
}

/// A paired row of `device.pair.list`; without `presence`, the `device` of `device.pair.approve`.
pub fn device(record: &DeviceRecord, presence: Option<Presence>) -> Value {
    let client = &record.client;
    let mut row = Map::new();
    row.insert("deviceId".into(), json!(record.id));
    row.insert("publicKey".into(), json!(URL_SAFE_NO_PAD.encode(record.public_key)));
    insert_text(&mut row, "displayName", record.display_name());
    row.insert("platform".into(), json!(client.platform));
    row.insert("deviceFamily".into(), json!(client.device_family));
    row.insert("clientId".into(), json!(client.id));
    row.insert("clientMode".into(), json!(client.mode));
    if let Some(role) = record.roles.keys().next() {
        row.insert("role".into(), json!(role));
    }
    row.insert("roles".into(), json!(record.roles.keys().collect::<Vec<_>>()));
    let scopes: atoll_protocol::scope::Scopes = record.roles.values().flat_map(|grant| grant.scopes.iter()).collect();
    row.insert("scopes".into(), json!(scopes));
    row.insert("approvedVia".into(), json!(record.approved_via.as_str()));
    row.insert("createdAtMs".into(), json!(record.created_ms));
    row.insert("approvedAtMs".into(), json!(record.approved_ms));
    insert_last_seen(&mut row, record);
    insert_text(&mut row, "remoteIp", &record.last_address);
    let generation = record.roles.values().map(|grant| grant.generation).max();
    row.insert("generation".into(), json!(generation));
    if let Some(presence) = &presence {
        row.insert("connected".into(), json!(presence.connected));
        insert_text(&mut row, "pipe", presence.pipe);
    }
    if !record.denied.is_empty() {
        row.insert("deniedCommands".into(), json!(record.denied));
    }
    let tokens: Vec<Value> = record
        .roles
        .iter()
        .filter_map(|(role, grant)| token(*role, grant))
        .collect();
    row.insert("tokens".into(), tokens.into());
    if let (Some(presence), true) = (presence, record.roles.contains_key(&Role::Node)) {
        row.insert("nodeSurface".into(), node_surface(record, &presence));
    }
    row.into()
}

fn token(role: Role, grant: &RoleGrant) -> Option<Value> {
    let newest = grant.tokens.last()?;
    let mut row = Map::new();
    row.insert("role".into(), json!(role));
    row.insert("scopes".into(), json!(grant.scopes));
    row.insert("createdAtMs".into(), json!(newest.created_ms));
    if let Some(used) = grant.tokens.iter().filter_map(|token| token.last_used_ms).max() {
        row.insert("lastUsedAtMs".into(), json!(used));
    }
    Some(row.into())
}

fn node_surface(record: &DeviceRecord, presence: &Presence) -> Value {
    let mut row = Map::new();
    insert_text(&mut row, "displayName", record.display_name());
    row.insert("version".into(), json!(record.client.version));
    row.insert("caps".into(), json!(record.surface.caps));
    row.insert("commands".into(), json!(record.surface.commands));
    row.insert("createdAtMs".into(), json!(record.created_ms));
    row.insert(
        "approvedAtMs".into(),
        json!(record.surface_approved_ms.unwrap_or(record.approved_ms)),
    );
    if let Some(at) = presence.connected_ms {
        row.insert("lastConnectedAtMs".into(), json!(at));
    }
    if let Some(at) = presence.disconnected_ms {
        row.insert("lastDisconnectedAtMs".into(), json!(at));
    }
    row.into()
}

/// A setup code that waits for its device.
pub fn invite(code: &SetupCode) -> Value {
    let mut row = Map::new();
    row.insert("setupId".into(), json!(code.id));
    row.insert("role".into(), json!(code.gift.role));
    row.insert("scopes".into(), json!(code.gift.scopes));
    row.insert("commands".into(), json!(code.gift.commands));
    insert_text(&mut row, "displayName", code.gift.label.as_deref().unwrap_or_default());
    if let Some(replaced) = code.gift.replaces {
        row.insert("replaces".into(), json!(replaced));
    }
    row.insert("by".into(), json!(code.by));
    row.insert("createdAtMs".into(), json!(code.created_ms));
    row.insert("expiresAtMs".into(), json!(code.expires_ms));
    row.into()
}

/// A paired row of `node.pair.list`, and the `node` of `node.pair.approve`.
pub fn node(record: &DeviceRecord) -> Value {
    let client = &record.client;
    let mut row = Map::new();
    row.insert("nodeId".into(), json!(record.id));
    row.insert("clientId".into(), json!(client.id));
    row.insert("clientMode".into(), json!(client.mode));
    insert_text(&mut row, "displayName", record.display_name());
    row.insert("platform".into(), json!(client.platform));
    row.insert("version".into(), json!(client.version));
    row.insert("deviceFamily".into(), json!(client.device_family));
    row.insert("caps".into(), json!(record.surface.caps));
    row.insert("commands".into(), json!(record.surface.commands));
    row.insert("createdAtMs".into(), json!(record.created_ms));
    row.insert(
        "approvedAtMs".into(),
        json!(record.surface_approved_ms.unwrap_or(record.approved_ms)),
    );
    insert_last_seen(&mut row, record);
    row.into()
}

fn insert_last_seen(row: &mut Map<String, Value>, record: &DeviceRecord) {
    if let Some(at) = record.last_seen_ms {
        row.insert("lastSeenAtMs".into(), json!(at));
        row.insert("lastSeenReason".into(), json!("connect"));
    }
}

/// The digits to compare with those on the device.
fn insert_code(row: &mut Map<String, Value>, request: &PendingRequest) {
    if let Some(digits) = request.digits {
        row.insert("code".into(), json!(digits.to_string()));
    }
}

fn insert_text(row: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        row.insert(key.into(), json!(text));
    }
}
