//! What the dialect tells a client that was let in.

use std::time::Instant;

use atoll_pairing::admission::Admitted;
use atoll_protocol::dialect::hello::{Auth, Features, HelloOk, Policy, SecretText, Server, SessionDefaults, Snapshot};
use atoll_protocol::frame::StateVersion;
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::scope::{Role, Scope};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::house::House;
use crate::media;
use crate::rpc;

/// Every event that can be heard.
const EVENTS: [&str; 22] = [
    "agent",
    "chat",
    "connect.challenge",
    "device.pair.changed",
    "device.pair.requested",
    "device.pair.resolved",
    "device.pair.setup.completed",
    "exec.approval.requested",
    "exec.approval.resolved",
    "health",
    "node.calls.changed",
    "node.hostStats",
    "node.invoke.cancel",
    "node.invoke.request",
    "node.pair.requested",
    "node.pair.resolved",
    media::STREAM_CLOSE,
    media::STREAM_OPEN,
    "presence",
    "session.message",
    "sessions.changed",
    "shutdown",
];

/// What clients look for before they ask: `models.list` tells what agents can use, and takes the parameters that go with it; nodes may
/// name streams in their results.
const CAPABILITIES: [&str; 2] = [media::STREAMS_CAPABILITY, "published-model-catalog"];

/// The hello for this client.
pub(crate) async fn build(house: &House, admitted: &Admitted, connection: &str) -> HelloOk {
    let principal = &admitted.principal;
    let token = admitted.grant.as_ref().and_then(|grant| grant.token.as_ref());
    let certificate = house.certificates.borrow().shown.fingerprint.to_string();
    HelloOk {
        server: Server {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            conn_id: connection.to_owned(),
            boot_id: Some(house.boot.to_string()),
            tls_sha256: Some(certificate),
            ..Server::default()
        },
        features: Features {
            methods: rpc::names(),
            events: EVENTS.iter().chain(&["tick"]).map(|name| (*name).to_owned()).collect(),
            capabilities: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        },
        snapshot: snapshot(house, admitted).await,
        auth: Some(Auth {
            role: principal.role().as_str().to_owned(),
            scopes: principal
                .scopes()
                .iter()
                .map(|scope| scope.as_str().to_owned())
                .collect(),
            method: Some(admitted.method.as_str().to_owned()),
            device_token: token.map(|token| SecretText(token.text.expose_secret().to_owned())),
            issued_at_ms: token.map(|token| token.issued_ms),
            ..Auth::default()
        }),
        policy: Some(Policy {
            attachments: Some(
                json!({"maxBytes": limits::ATTACHED_PICTURE, "maxImageBytes": limits::ATTACHED_PICTURE}).into(),
            ),
            ..Policy::default()
        }),
        ..HelloOk::default()
    }
}

async fn snapshot(house: &House, admitted: &Admitted) -> Snapshot {
    let principal = &admitted.principal;
    let reads = principal.role() == Role::Operator && principal.scopes().give(Scope::Read);
    let is_admin = principal.scopes().give(Scope::Admin);
    let presence = if reads {
        Some(house.hub.presence().await.tree())
    } else {
        None
    };
    let field = |name: &str| presence.as_ref().and_then(|presence| presence.get(name).cloned());
    let rows = field("presence")
        .and_then(|rows| serde_json::from_value::<Vec<Json>>(rows).ok())
        .unwrap_or_default();
    let version = field("stateVersion").and_then(|version| serde_json::from_value(version).ok());
    Snapshot {
        presence: rows,
        health: rpc::health::now(house).await,
        state_version: version.unwrap_or(StateVersion { presence: 0, health: 0 }),
        uptime_ms: uptime_ms(house.started),
        session_defaults: Some(SessionDefaults {
            default_agent_id: house.config().default_agent().id.to_string(),
            main_key: "main".to_owned(),
            main_session_key: format!("agent:{}:main", house.config().default_agent().id),
            ..SessionDefaults::default()
        }),
        config_path: is_admin.then(|| house.state.config().display().to_string()),
        state_dir: is_admin.then(|| house.state.root().display().to_string()),
        auth_mode: is_admin.then(|| house.auth.policy(&house.config()).as_str().to_owned()),
        ..Snapshot::default()
    }
}

/// Milliseconds since a moment.
pub(crate) fn uptime_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
