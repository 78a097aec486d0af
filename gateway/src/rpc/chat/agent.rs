//! `agent` and `agent.wait`: one turn, and its end.

use std::sync::Arc;
use std::time::Duration;

use atoll_channels::telegram::CHANNEL;
use atoll_protocol::error::WireError;
use atoll_protocol::id::{AgentId, RunId};
use atoll_protocol::limits;
use atoll_protocol::method::agent::{Agent, AgentAccepted, AgentDone, AgentWait, AgentWaited};
use atoll_protocol::scope::Scope;
use serde_json::json;

use super::{Saying, attachments, json_of, limit, no_thinking, not_yet, run_id, run_named, say};
use crate::clock;
use crate::house::House;
use crate::journal::runs::RunState;
use crate::rpc::{Answer, Ask, Reply, done, session};
use crate::turns::{self, Ended};

/// How long `agent.wait` waits, if the caller does not say.
const WAIT: Duration = Duration::from_secs(30);

/// What a turn may take beyond its own deadline until it counts as lost.
const SLACK: Duration = Duration::from_secs(60);

pub(in crate::rpc) async fn agent(house: &Arc<House>, ask: Ask) -> Answer {
    let params: Agent = ask.read()?;
    no_folder(params.cwd.as_deref())?;
    let model = model(house, &ask, &params)?;
    not_yet("extraSystemPrompt", params.extra_system_prompt.is_some())?;
    no_thinking(params.thinking.as_deref())?;
    no_delivery(&params)?;
    check_channel(params.channel.as_deref())?;
    check_channel(params.reply_channel.as_deref())?;
    let (session, agent) = session::of_agent(house, &params).await?;
    let expected = params.expected_existing_session_id.as_deref();
    session::is_still(house, &session, expected).await?;
    let run = run_id(&params.idempotency_key)?;
    let patience = patience(house, &agent, params.timeout);
    let place = ask.wait_place()?;
    let saying = Saying {
        run: run.clone(),
        session: session.clone(),
        agent,
        text: params.message.into_string(),
        pictures: attachments::keep(house, params.attachments).await?,
        is_plain: false,
        limit: limit(params.timeout.map(|seconds| seconds.saturating_mul(1000))),
        model,
    };
    let known = say(house, ask.caller.principal.clone(), saying).await?;
    if known.as_ref().is_some_and(|row| row.state.is_end()) {
        let ended = house.turns.wait(run.clone(), Duration::ZERO).await;
        return done(agent_done(&run, ended));
    }
    let status = if known.is_some() { "in_flight" } else { "accepted" };
    let first = AgentAccepted {
        run_id: run.to_string(),
        status: status.to_owned(),
        accepted_at: Some(clock::now_ms()),
        session_key: Some(session.to_string()),
    };
    let turns = house.turns.clone();
    let then = async move {
        let ended = turns.wait(run.clone(), patience).await;
        json_of(&agent_done(&run, ended))
    };
    Ok(Reply::Later {
        place,
        first: Some(json_of(&first)?),
        then: Box::pin(then),
    })
}

/// A run's folder is the agent's workspace: OpenClaw leaves another one to its plugins, and refuses it in these words.
fn no_folder(cwd: Option<&str>) -> Result<(), WireError> {
    match cwd {
        None => Ok(()),
        Some(cwd) if !cwd.starts_with('/') => Err(WireError::invalid("cwd must be absolute")),
        Some(_) => Err(WireError::invalid("cwd is reserved for plugin-owned subagent runs")),
    }
}

/// The model that was asked for, as `provider/model`: an admin may choose one for a single turn.
fn model(house: &House, ask: &Ask, params: &Agent) -> Result<Option<String>, WireError> {
    let word = |word: &Option<String>| word.clone().filter(|word| !word.trim().is_empty());
    let (provider, model) = (word(&params.provider), word(&params.model));
    if provider.is_none() && model.is_none() {
        return Ok(None);
    }
    if !ask.caller.principal.scopes().give(Scope::Admin) {
        return Err(WireError::invalid(
            "provider/model overrides are not authorized for this caller.",
        ));
    }
    let Some(model) = model else {
        return Err(WireError::invalid("provider: name the model of it too"));
    };
    let name = match provider {
        Some(provider) => format!("{provider}/{model}"),
        None => model,
    };
    turns::can_be_asked(&house.config(), &name).map_err(|why| WireError::invalid(format!("model: {why}")))?;
    Ok(Some(name))
}

/// An answer goes to whoever asked, and nowhere else.
fn no_delivery(params: &Agent) -> Result<(), WireError> {
    not_yet("deliver", params.deliver.unwrap_or_default())?;
    let is_session_named = params.session_key.is_some() || params.session_id.is_some();
    let elsewhere = [
        // Beside a session it would say where the answer goes, if it went anywhere.
        ("to", params.to.as_deref().filter(|_| !is_session_named)),
        ("replyTo", params.reply_to.as_deref()),
        ("threadId", params.thread_id.as_deref()),
        ("accountId", params.account_id.as_deref()),
        ("replyAccountId", params.reply_account_id.as_deref()),
        ("groupId", params.group_id.as_deref()),
        ("groupChannel", params.group_channel.as_deref()),
        ("groupSpace", params.group_space.as_deref()),
        ("label", params.label.as_deref()),
    ];
    let mut used = elsewhere.into_iter();
    used.try_for_each(|(name, value)| not_yet(name, value.is_some_and(|value| !value.is_empty())))
}

/// Refuses names of channels that no client means: `last` and `webchat` are the session's own.
fn check_channel(channel: Option<&str>) -> Result<(), WireError> {
    match channel.filter(|channel| !["", "last", "webchat", CHANNEL].contains(channel)) {
        Some(other) => Err(WireError::invalid(format!(
            "invalid agent params: unknown channel: {other}"
        ))),
        None => Ok(()),
    }
}

/// How long the end of a turn can be waited for.
fn patience(house: &House, agent: &AgentId, seconds: Option<u64>) -> Duration {
    let config = house.config();
    let agent = config.agent(agent).unwrap_or_else(|| config.default_agent());
    match seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        Some(_) | None => Duration::from_secs(config.timeout_of(agent)) + SLACK,
    }
}

fn agent_done(run: &RunId, ended: Option<Ended>) -> AgentDone {
    let run_id = run.to_string();
    let Some(ended) = ended else {
        let status = "timeout".to_owned();
        return AgentDone {
            run_id,
            status,
            summary: Some("timeout".to_owned()),
            result: None,
            error: None,
        };
    };
    let (status, summary) = words(ended.state);
    let payloads: Vec<_> = ended
        .text
        .iter()
        .map(|text| json!({"text": text, "mediaUrl": null}))
        .collect();
    let error = ended.text.clone().filter(|_| status == "error");
    let result = Some(json!({"payloads": payloads, "meta": {}}).into());
    AgentDone {
        run_id,
        status: status.to_owned(),
        summary: Some(summary.to_owned()),
        result,
        error,
    }
}

/// A turn's end, as `status` and as `summary`.
fn words(state: RunState) -> (&'static str, &'static str) {
    match state {
        RunState::Done => ("ok", "completed"),
        RunState::Failed => ("error", "failed"),
        RunState::Aborted => ("error", "aborted"),
        RunState::Uncertain => ("error", "uncertain"),
        RunState::Queued | RunState::Running => ("timeout", "running"),
    }
}

pub(in crate::rpc) async fn agent_wait(house: &Arc<House>, ask: Ask) -> Answer {
    let params: AgentWait = ask.read()?;
    let run = run_named(&params.run_id)?;
    let patience = params
        .timeout_ms
        .map_or(WAIT, Duration::from_millis)
        .min(limits::CALL_DEADLINE_MAX);
    let turns = house.turns.clone();
    let then = async move {
        let ended = turns.wait(run.clone(), patience).await;
        json_of(&waited(&run, ended))
    };
    Ok(Reply::Later {
        place: ask.wait_place()?,
        first: None,
        then: Box::pin(then),
    })
}

fn waited(run: &RunId, ended: Option<Ended>) -> AgentWaited {
    let status = ended.as_ref().map_or("timeout", |ended| words(ended.state).0);
    let unsigned = |at: i64| u64::try_from(at).ok();
    AgentWaited {
        run_id: run.to_string(),
        status: status.to_owned(),
        started_at: ended.as_ref().and_then(|ended| ended.started_at).and_then(unsigned),
        ended_at: ended.as_ref().and_then(|ended| unsigned(ended.ended_at)),
        error: ended.and_then(|ended| ended.text).filter(|_| status == "error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_turn_is_told_with_its_text() {
        let run = RunId::new("r").expect("an id");
        let ended = |state| {
            Some(Ended {
                state,
                text: Some("x".to_owned()),
                started_at: None,
                ended_at: 1,
            })
        };
        let ok = agent_done(&run, ended(RunState::Done));
        assert_eq!((ok.status.as_str(), ok.error), ("ok", None));
        assert_eq!(ok.result.expect("a result").tree()["payloads"][0]["text"], "x");
        assert_eq!(agent_done(&run, ended(RunState::Failed)).error.as_deref(), Some("x"));
        assert_eq!(agent_done(&run, None).status, "timeout");
    }
}
