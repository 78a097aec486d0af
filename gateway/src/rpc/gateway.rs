//! `health`, `status`, `system-presence`, `logs.tail`: how the gateway itself is.

use atoll_protocol::error::WireError;
use atoll_protocol::method::gateway::LogsTail;
use serde_json::json;

use super::{Answer, Ask, Reply, done};
use crate::hello;
use crate::house::House;
use crate::logs::Wanted;

/// Lines of `logs.tail`, if the caller does not say.
const LINES: u64 = 500;

/// Takes any parameters, as `status` and `system-presence` do: clients of every release send their own.
pub(super) async fn health(house: &House, _: Ask) -> Answer {
    Ok(Reply::Done(super::health::now(house).await))
}

pub(super) async fn status(house: &House, _: Ask) -> Answer {
    let lanes = house.lanes.list().await;
    let lanes: Vec<_> = lanes
        .iter()
        .map(|lane| json!({"sessionKey": lane.session, "running": lane.running, "waiting": lane.waiting}))
        .collect();
    let overview = super::health::overview(house).await;
    done(json!({
        "heartbeat": overview.get("heartbeat"), "sessions": overview.get("sessions"), "channelSummary": [],
        "queuedSystemEvents": [], "degradedSecretOwners": [], "degradedPlugins": [],
        "runtimeVersion": env!("CARGO_PKG_VERSION"), "uptimeMs": hello::uptime_ms(house.started), "pid": std::process::id(),
        "configProblems": problems(house), "port": house.port, "stateDir": house.state.root(), "nodesConnected": house.hub.nodes().len(),
        "callsInFlight": house.hub.calls().await.len(), "lanes": lanes, "outboxWaiting": house.outbox.waiting().await,
        "outcomesUnstored": house.journal.insisting(), "durableCommits": house.journal.durable_commits(),
        "deviceId": house.identity.device_id(),
        "tlsSha256": house.certificates.borrow().shown.fingerprint.to_string(),
        "processMemory": {"rssBytes": resident_bytes()},
    }))
}

/// What is wrong with the configuration file, where an earlier version of it is in force.
fn problems(house: &House) -> Vec<String> {
    let broken = house.config.broken();
    let errors = broken.iter().flat_map(|invalid| &invalid.errors);
    errors.map(ToString::to_string).collect()
}

pub(super) async fn presence(house: &House, _: Ask) -> Answer {
    let presence = house.hub.presence().await.tree();
    done(presence.get("presence").cloned().unwrap_or_default())
}

pub(super) async fn logs(house: &House, ask: Ask) -> Answer {
    let params: LogsTail = ask.read()?;
    let limit = params.limit.map_or(LINES, |limit| limit.value());
    let wanted = Wanted {
        after: params.cursor,
        lines: usize::try_from(limit).unwrap_or(usize::MAX),
        bytes: params.max_bytes.map_or(Wanted::default().bytes, |bytes| bytes.value()),
    };
    let logs = house.logs.clone();
    let tail = tokio::task::spawn_blocking(move || logs.tail(wanted)).await;
    let tail = tail
        .map_err(|error| WireError::unavailable(error.to_string()))?
        .map_err(|error| WireError::unavailable(format!("the log cannot be read: {error}")))?;
    let file = house.logs.path();
    done(
        json!({"file": file, "cursor": tail.cursor, "size": tail.size, "lines": tail.lines,
        "truncated": tail.truncated, "reset": tail.reset}),
    )
}

/// Memory that this process occupies, where the system says so.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
