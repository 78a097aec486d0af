//! `sessions.*`, `agents.list`, `models.list`: which conversations there are, who leads them and with what.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use atoll_protocol::error::WireError;
use atoll_protocol::id::{AgentId, SessionKey};
use atoll_protocol::method::NoParams;
use atoll_protocol::method::agent::{Agent as AgentParams, AgentSummary, Agents};
use atoll_protocol::method::session::{
    ModelChoice, Models, ModelsList, SessionDeleted, SessionRow, SessionSort, SessionStarted, Sessions, SessionsDelete,
    SessionsList, SessionsReset,
};
use serde_json::json;

use super::{Answer, Ask, done};
use crate::clock;
use crate::config::{Agent, Config, Provider, SessionScope};
use crate::direct;
use crate::house::House;
use crate::journal::sessions::{self, ChatType, SessionRow as Row};
use crate::route;
use crate::sessions::SessionError;

mod compact;
mod watch;

pub(super) use compact::compact;
pub(super) use watch::{subscribe, subscribe_messages, subscribed, unsubscribe_messages};

/// Sessions of `sessions.list`, if the caller does not say.
const SESSIONS: u64 = 200;

/// The session that a caller names, and its agent: the key's own, else the named one, else the default one.
pub(super) fn named(house: &House, key: &str, agent: Option<&str>) -> Result<(SessionKey, AgentId), WireError> {
    let config = house.config();
    let default = &config.default_agent().id;
    let agent = match agent {
        Some(agent) => configured(&config, agent)?,
        None => default.clone(),
    };
    let session =
        route::canonical(key, &agent).ok_or_else(|| WireError::invalid(format!("no session key: \"{key}\"")))?;
    match route::agent_of(&session) {
        Some(own) => Ok((session, configured(&config, own.as_str())?)),
        None => Ok((session, agent)),
    }
}

pub(super) fn configured(config: &Config, agent: &str) -> Result<AgentId, WireError> {
    let id = AgentId::new(agent).ok().filter(|id| config.agent(id).is_some());
    id.ok_or_else(|| WireError::invalid(format!("unknown agent id \"{agent}\"; see `agents.list`")))
}

/// Refuses when the conversation is another one by now.
pub(super) async fn is_still(house: &House, session: &SessionKey, expected: Option<&str>) -> Result<(), WireError> {
    let Some(expected) = expected else { return Ok(()) };
    let key = session.clone();
    let row = house
        .journal
        .read(move |db| sessions::find(db, &key))
        .await
        .map_err(|error| failed(error.into()))?;
    match row {
        Some(row) if row.id == expected => Ok(()),
        Some(_) | None => Err(WireError::invalid(
            "the session has begun anew meanwhile; read it again",
        )),
    }
}

/// The session that `agent` means: the key, the conversation's id, or the agent's main one.
pub(super) async fn of_agent(house: &House, params: &AgentParams) -> Result<(SessionKey, AgentId), WireError> {
    let agent = params.agent_id.as_deref();
    if let Some(key) = params.session_key.as_deref().filter(|key| !key.is_empty()) {
        return named(house, key, agent);
    }
    let Some(id) = params.session_id.clone().filter(|id| !id.is_empty()) else {
        let main = match agent {
            Some(agent) => format!("agent:{agent}:main"),
            None => "main".to_owned(),
        };
        return named(house, &main, agent);
    };
    let row = house
        .journal
        .read(move |db| sessions::by_id(db, &id))
        .await
        .map_err(|error| failed(error.into()))?;
    let row = row.ok_or_else(|| WireError::invalid("no session has this sessionId"))?;
    Ok((row.session, row.agent))
}

/// A session that cannot be used, as a caller sees it.
pub(super) fn failed(error: SessionError) -> WireError {
    WireError::unavailable(error.to_string())
}

pub(super) async fn list(house: &Arc<House>, ask: Ask) -> Answer {
    done(listed(house, ask.read()?).await?)
}

async fn listed(house: &Arc<House>, params: SessionsList) -> Result<Sessions, WireError> {
    let config = house.config();
    let lanes = house.lanes.list().await;
    let running: HashMap<_, _> = lanes
        .into_iter()
        .map(|lane| (lane.session.clone(), lane.running.is_some()))
        .collect();
    let mut rows = house.sessions.list().await.map_err(failed)?;
    let now = clock::now();
    rows.retain(|row| is_wanted(row, &params, running.contains_key(&row.session), now));
    match params.sort_by.unwrap_or(SessionSort::UpdatedAt) {
        SessionSort::UpdatedAt => rows.sort_by_key(|row| Reverse(row.updated_at)),
        SessionSort::LastInteractionAt | SessionSort::Activity => rows.sort_by_key(|row| Reverse(row.last_activity_at)),
    }
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (total, offset) = (rows.len(), number(params.offset.unwrap_or_default()));
    let limit = number(params.limit.map_or(SESSIONS, |limit| limit.value()));
    let page: Vec<_> = rows.iter().skip(offset).take(limit).collect();
    let end = offset.saturating_add(page.len());
    let default = config.default_agent();
    let shown = page
        .iter()
        .map(|row| shown(row, &config, running.get(&row.session).copied()))
        .collect();
    Ok(Sessions {
        ts: clock::now_ms(),
        path: house.state.journal().display().to_string(),
        count: wide(page.len()),
        defaults: defaults(&config, default).into(),
        sessions: shown,
        total_count: Some(wide(total)),
        limit_applied: Some(wide(limit)),
        next_offset: Some(wide(end)).filter(|_| end < total),
        has_more: Some(end < total),
    })
}

/// What a new conversation of an agent starts with.
pub(super) fn defaults(config: &Config, agent: &Agent) -> serde_json::Value {
    let primary = config.models_of(agent).into_iter().next();
    let (provider, model) = provider_and_model(primary);
    let window = all_models(config)
        .into_iter()
        .find(|known| provider.as_deref() == Some(&known.provider) && model.as_deref() == Some(&known.id))
        .and_then(|known| known.context_window);
    json!({"modelProvider": provider, "model": model, "contextTokens": window})
}

/// The two halves of `provider/model`.
fn provider_and_model(name: Option<String>) -> (Option<String>, Option<String>) {
    match name.as_deref().and_then(|name| name.split_once('/')) {
        Some((provider, model)) => (Some(provider.to_owned()), Some(model.to_owned())),
        None => (None, name),
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn is_wanted(row: &Row, params: &SessionsList, is_active: bool, now: i64) -> bool {
    let same = |wanted: Option<&str>, found: Option<&str>| wanted.is_none() || wanted == found;
    let is_recent = params.active_minutes.is_none_or(|minutes| {
        let since = i64::try_from(minutes.value().saturating_mul(60_000)).unwrap_or(i64::MAX);
        row.last_activity_at >= now.saturating_sub(since)
    });
    let is_found = params.search.as_deref().map(str::to_lowercase).is_none_or(|search| {
        let texts = [
            Some(row.session.as_str()),
            row.label.as_deref(),
            row.display_name.as_deref(),
        ];
        texts
            .into_iter()
            .flatten()
            .any(|text| text.to_lowercase().contains(&search))
    });
    same(params.agent_id.as_deref(), Some(row.agent.as_str()))
        && same(params.label.as_deref(), row.label.as_deref())
        && (is_active || !params.active_only.unwrap_or_default())
        && is_recent
        && is_found
}

fn shown(row: &Row, config: &Config, running: Option<bool>) -> SessionRow {
    let agent = config.agent(&row.agent).unwrap_or_else(|| config.default_agent());
    let model = row.model.clone().or_else(|| config.models_of(agent).into_iter().next());
    let (provider, model) = provider_and_model(model);
    let place = row.delivery.as_ref();
    SessionRow {
        key: row.session.to_string(),
        kind: kind(row).to_owned(),
        session_id: Some(row.id.clone()),
        label: row.label.clone(),
        display_name: row.display_name.clone(),
        derived_title: None,
        last_message_preview: None,
        channel: place.map(|place| place.account.channel.clone()),
        account_id: place.map(|place| place.account.account.clone()),
        agent_id: Some(row.agent.to_string()),
        chat_type: Some(row.chat_type.as_str().to_owned()),
        updated_at: u64::try_from(row.updated_at).ok(),
        last_interaction_at: u64::try_from(row.last_activity_at).ok(),
        status: running.map(|is_running| if is_running { "running" } else { "queued" }.to_owned()),
        model_provider: provider,
        model,
        total_tokens: u64::try_from(row.counts.total_tokens).ok(),
        context_tokens: row.counts.context_tokens.and_then(|tokens| u64::try_from(tokens).ok()),
        thinking_level: None,
    }
}

/// A session's row for whoever shows it alone, with its turn.
pub(super) async fn info(house: &House, row: &Row) -> serde_json::Value {
    let lanes = house.lanes.list().await;
    let lane = lanes.into_iter().find(|lane| lane.session == row.session);
    let is_running = lane.as_ref().map(|lane| lane.running.is_some());
    let mut info = serde_json::to_value(shown(row, &house.config(), is_running)).unwrap_or_default();
    let runs: Vec<_> = lane.into_iter().filter_map(|lane| lane.running).collect();
    info["hasActiveRun"] = json!(!runs.is_empty());
    info["activeRunIds"] = json!(runs);
    info
}

fn kind(row: &Row) -> &'static str {
    match row.chat_type {
        _ if row.session.as_str() == "global" => "global",
        ChatType::Direct => "direct",
        ChatType::Group | ChatType::Channel => "group",
    }
}

pub(super) async fn reset(house: &Arc<House>, ask: Ask) -> Answer {
    let params: SessionsReset = ask.read()?;
    let (session, _) = named(house, &params.key, params.agent_id.as_deref())?;
    is_still(house, &session, params.expected_session_id.as_deref()).await?;
    let reason = params.reason.map_or("reset", |reason| reason.as_str());
    let id = direct::reset(house, &session, reason).await.map_err(failed)?;
    let by = ask.caller.principal.label();
    house
        .audit(by, "sessions.reset", session.to_string(), json!({"reason": reason}))
        .await;
    house.turns.watchers.changed(&session, reason);
    let entry = json!({"sessionId": id, "updatedAt": clock::now_ms()}).into();
    done(SessionStarted {
        ok: true,
        key: session.to_string(),
        entry,
    })
}

pub(super) async fn delete(house: &Arc<House>, ask: Ask) -> Answer {
    let params: SessionsDelete = ask.read()?;
    let (session, agent) = named(house, &params.key, params.agent_id.as_deref())?;
    if session.as_str() == format!("agent:{agent}:main") {
        return Err(WireError::invalid(format!(
            "cannot delete the main session ({session}); reset it instead"
        )));
    }
    is_still(house, &session, params.expected_session_id.as_deref()).await?;
    direct::stop_session(house, &session).await;
    let deleted = house.sessions.delete(&session).await.map_err(failed)?;
    let by = ask.caller.principal.label();
    house
        .audit(by, "sessions.delete", session.to_string(), json!({"deleted": deleted}))
        .await;
    house.turns.watchers.changed(&session, "delete");
    done(SessionDeleted {
        ok: true,
        key: session.to_string(),
        deleted,
        archived: Vec::new(),
    })
}

pub(super) async fn agents(house: &Arc<House>, ask: Ask) -> Answer {
    let _: NoParams = ask.read()?;
    let config = house.config();
    let scope = match config.session.scope {
        SessionScope::PerSender => "per-sender",
        SessionScope::Global => "global",
    };
    done(Agents {
        default_id: config.default_agent().id.to_string(),
        main_key: "main".to_owned(),
        scope: scope.to_owned(),
        agents: config.agents.list.iter().map(|agent| summary(&config, agent)).collect(),
    })
}

fn summary(config: &Config, agent: &Agent) -> AgentSummary {
    let identity = &agent.identity;
    let is_known = identity.name.is_some() || identity.emoji.is_some() || identity.theme.is_some();
    AgentSummary {
        id: agent.id.to_string(),
        name: agent.name.clone().or_else(|| identity.name.clone()),
        identity: is_known
            .then(|| json!({"name": identity.name, "emoji": identity.emoji, "theme": identity.theme}).into()),
        workspace: agent.workspace.clone(),
        model: config
            .models_of(agent)
            .first()
            .map(|primary| json!({"primary": primary}).into()),
    }
}

pub(super) async fn models(house: &Arc<House>, ask: Ask) -> Answer {
    let params: ModelsList = ask.read()?;
    let config = house.config();
    let mut models = all_models(&config);
    models.retain(|model| {
        params
            .provider
            .as_deref()
            .is_none_or(|provider| provider == model.provider)
    });
    let primary = config.models_of(config.default_agent()).into_iter().next();
    for model in &mut models {
        let is_default = primary.as_deref() == Some(&format!("{}/{}", model.provider, model.id));
        model.tags = Some(is_default.then(|| "default".to_owned()).into_iter().collect());
    }
    done(Models { models })
}

/// What the providers list, and what agents name beside it.
fn all_models(config: &Config) -> Vec<ModelChoice> {
    let listed = config.models.providers.iter().flat_map(|(name, provider)| {
        provider.models.iter().map(move |model| ModelChoice {
            id: model.id.clone(),
            name: model.name.clone().unwrap_or_else(|| model.id.clone()),
            context_window: model.context_window,
            reasoning: Some(model.reasoning),
            input: Some(model.input.clone()),
            ..choice(name, &model.id, Some(provider))
        })
    });
    let mut models: Vec<ModelChoice> = listed.collect();
    let named = config.agents.list.iter().flat_map(|agent| config.models_of(agent));
    for name in named {
        let Some((provider, model)) = name.split_once('/') else {
            continue;
        };
        if !models
            .iter()
            .any(|known| known.provider == provider && known.id == model)
        {
            models.push(choice(provider, model, config.models.providers.get(provider)));
        }
    }
    models
}

fn choice(provider: &str, model: &str, configured: Option<&Provider>) -> ModelChoice {
    // A server of one's own may want no key.
    let is_usable = configured.is_some_and(|provider| provider.api_key.is_some() || provider.base_url.is_some());
    ModelChoice {
        id: model.to_owned(),
        name: model.to_owned(),
        provider: provider.to_owned(),
        tags: None,
        alias: None,
        available: Some(is_usable),
        unavailable_reason: (!is_usable).then(|| "missing-auth".to_owned()),
        context_window: None,
        reasoning: None,
        input: None,
    }
}
