//! `health` and the parts that `status` shares with it: the chat accounts, the agents, the sessions. Found out again once a second
//! at most, since monitors ask often and every event of that name goes to everybody.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use atoll_protocol::json::Json;
use serde_json::{Value, json};

use super::channel;
use crate::clock;
use crate::config::Agent;
use crate::hello;
use crate::house::House;
use crate::journal::sessions::SessionRow;

/// How long an answer is good.
const FRESH: Duration = Duration::from_secs(1);

/// The newest sessions that are shown.
const RECENT: usize = 5;

/// The last answer.
#[derive(Debug, Default)]
pub(crate) struct LastHealth(Mutex<Option<(Instant, Json)>>);

impl LastHealth {
    fn fresh(&self) -> Option<Json> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, health) = last.as_ref()?;
        (at.elapsed() < FRESH).then(|| health.clone())
    }

    fn set(&self, health: Json) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), health));
    }
}

/// What `health` answers.
pub(crate) async fn now(house: &House) -> Json {
    if let Some(health) = house.health.fresh() {
        return health;
    }
    let started = Instant::now();
    let rows = house.sessions.list().await.unwrap_or_default();
    let config = house.config();
    let default = config.default_agent();
    let agents: Vec<Value> = config
        .agents
        .list
        .iter()
        .map(|agent| of_agent(house, agent, &rows))
        .collect();
    let brief = channel::brief(house);
    let health: Json = json!({
        "ok": true, "ts": clock::now_ms(), "durationMs": hello::uptime_ms(started),
        "uptimeMs": hello::uptime_ms(house.started), "channels": brief.get("channels"),
        "channelOrder": brief.get("order"), "channelLabels": brief.get("labels"), "heartbeatSeconds": 0,
        "defaultAgentId": default.id, "agents": agents, "sessions": sessions(house, Some(default), &rows),
        "journal": {"failedPosts": house.journal.failed_posts(), "outcomesUnstored": house.journal.insisting()},
    })
    .into();
    house.health.set(health.clone());
    health
}

fn of_agent(house: &House, agent: &Agent, rows: &[SessionRow]) -> Value {
    let is_default = house.config().default_agent().id == agent.id;
    json!({
        "agentId": agent.id, "isDefault": is_default, "heartbeat": heartbeat(),
        "sessions": sessions(house, Some(agent), rows),
    })
}

/// Agents are not woken by a clock here.
fn heartbeat() -> Value {
    json!({"enabled": false, "every": "disabled", "everyMs": null})
}

/// The sessions of one agent, or all: `{path, count, recent}`.
fn sessions(house: &House, agent: Option<&Agent>, rows: &[SessionRow]) -> Value {
    let wanted = |row: &&SessionRow| agent.is_none_or(|agent| agent.id == row.agent);
    let now = clock::now();
    let recent: Vec<Value> = rows
        .iter()
        .filter(wanted)
        .take(RECENT)
        .map(|row| brief(row, now))
        .collect();
    json!({
        "path": house.state.journal().display().to_string(), "count": rows.iter().filter(wanted).count(),
        "recent": recent,
    })
}

fn brief(row: &SessionRow, now: i64) -> Value {
    json!({
        "key": row.session, "sessionId": row.id, "agentId": row.agent, "updatedAt": row.updated_at,
        "age": now.saturating_sub(row.updated_at).max(0),
    })
}

/// What `status` tells of agents and sessions.
pub(super) async fn overview(house: &House) -> Value {
    let rows = house.sessions.list().await.unwrap_or_default();
    let config = house.config();
    let all = sessions(house, None, &rows);
    let by_agent: Vec<Value> = config
        .agents
        .list
        .iter()
        .map(|agent| {
            let mut row = sessions(house, Some(agent), &rows);
            row["agentId"] = json!(agent.id);
            row
        })
        .collect();
    let beats: Vec<Value> = config
        .agents
        .list
        .iter()
        .map(|agent| {
            let mut beat = heartbeat();
            beat["agentId"] = json!(agent.id);
            beat
        })
        .collect();
    json!({
        "heartbeat": {"defaultAgentId": config.default_agent().id, "agents": beats},
        "sessions": {
            "paths": [all.get("path")], "count": all.get("count"), "recent": all.get("recent"), "byAgent": by_agent,
            "defaults": super::session::defaults(&config, config.default_agent()),
        },
    })
}
