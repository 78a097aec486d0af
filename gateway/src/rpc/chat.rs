//! `chat.*`, `agent*` and `sessions.send`: what operators' programs say to agents, and what was said.

use std::sync::Arc;
use std::time::Duration;

use atoll_agent::message::Media;
use atoll_agent::turn::Outcome;
use atoll_pairing::access::Principal;
use atoll_protocol::error::WireError;
use atoll_protocol::id::{AgentId, RunId, SessionKey};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::method::chat::{ChatAbort, ChatAborted, ChatSend, ChatStarted, QueueMode};
use atoll_protocol::method::session::SessionsSend;

use super::{Answer, Ask, done, session};
use crate::clock;
use crate::command::{self, Command, Usage};
use crate::config::SendPolicy;
use crate::direct::{self, Asker};
use crate::house::House;
use crate::intake;
use crate::journal::runs::{self, NewRun, RunRow, RunState};
use crate::journal::sessions;
use crate::journal::{Durability, JournalError};
use crate::lane::{self, Job};
use crate::turns::{Said, Source};

mod agent;
mod attachments;
mod history;

pub(super) use agent::{agent, agent_wait};
pub(super) use history::{history, startup};

pub(super) async fn send(house: &Arc<House>, ask: Ask) -> Answer {
    let params: ChatSend = ask.read()?;
    no_thinking(params.thinking.as_deref())?;
    not_yet("deliver", params.deliver.unwrap_or_default())?;
    not_yet(
        "queueMode",
        params.queue_mode.is_some_and(|mode| mode != QueueMode::Followup),
    )?;
    not_yet("replyToId", params.reply_to_id.is_some())?;
    let agent = params.agent_id.as_deref();
    let (session, agent) = session::named(house, &params.session_key, agent)?;
    session::is_still(house, &session, params.session_id.as_deref()).await?;
    may_answer(house, &session).await?;
    let saying = Saying {
        run: run_id(&params.idempotency_key)?,
        session,
        agent,
        text: params.message,
        pictures: attachments::keep(house, params.attachments).await?,
        is_plain: params.suppress_command_interpretation.unwrap_or_default(),
        limit: limit(params.timeout_ms),
        model: None,
    };
    done(started(house, &ask, saying).await?)
}

pub(super) async fn send_to_session(house: &Arc<House>, ask: Ask) -> Answer {
    let params: SessionsSend = ask.read()?;
    no_thinking(params.thinking.as_deref())?;
    let agent = params.agent_id.as_deref();
    let (session, agent) = session::named(house, &params.key, agent)?;
    may_answer(house, &session).await?;
    let run = params
        .idempotency_key
        .map_or_else(|| Ok(uuid::Uuid::new_v4().into()), |key| run_id(&key))?;
    let saying = Saying {
        run,
        session,
        agent,
        text: params.message,
        pictures: attachments::keep(house, params.attachments).await?,
        is_plain: false,
        limit: limit(params.timeout_ms),
        model: None,
    };
    done(started(house, &ask, saying).await?)
}

/// Refuses where `session.sendPolicy` does not let an agent answer.
async fn may_answer(house: &House, session: &SessionKey) -> Result<(), WireError> {
    let config = house.config();
    let policy = &config.session.send_policy;
    if *policy == SendPolicy::default() {
        return Ok(());
    }
    let key = session.clone();
    let row = house.journal.read(move |db| sessions::find(db, &key)).await;
    let row = row.map_err(unstored)?;
    let place = row.as_ref().and_then(|row| row.delivery.as_ref());
    let channel = place.map(|place| place.account.channel.as_str());
    if policy.allows(session, channel, place.map(|place| place.kind.into())) {
        return Ok(());
    }
    Err(WireError::invalid("send blocked by session policy"))
}

async fn started(house: &Arc<House>, ask: &Ask, saying: Saying) -> Result<ChatStarted, WireError> {
    let run_id = saying.run.to_string();
    let status = match say(house, ask.caller.principal.clone(), saying).await? {
        None => "started",
        Some(row) if row.state.is_end() => "ok",
        Some(_) => "in_flight",
    };
    Ok(ChatStarted {
        run_id,
        status: status.to_owned(),
    })
}

/// Something that an operator says.
struct Saying {
    run: RunId,
    session: SessionKey,
    agent: AgentId,
    text: String,
    /// What came with it.
    pictures: Vec<Media>,
    /// A slash at its beginning means nothing.
    is_plain: bool,
    /// How long its turn may take; none: as configured.
    limit: Option<Duration>,
    /// The model that answers, as `provider/model`; none: the agent's.
    model: Option<String>,
}

/// Says it, once: gives the turn that has this id already, if there is one.
async fn say(house: &Arc<House>, principal: Arc<Principal>, saying: Saying) -> Result<Option<RunRow>, WireError> {
    let (parsed, input) = read(house, &saying)?;
    let Saying {
        run, session, agent, ..
    } = saying;
    let begins_anew = parsed.is_none() && input.read::<Said>().is_ok_and(|said| said.anew.is_some());
    let origin = json_of(&Source::Operator)?;
    let new = NewRun {
        run: run.clone(),
        session: session.clone(),
        agent,
        inbox: None,
        origin,
        input,
    };
    let queue = move |db: &rusqlite::Connection| {
        let is_new = runs::queue(db, &new, clock::now())?;
        if is_new { Ok(None) } else { runs::find(db, &new.run) }
    };
    if let Some(known) = house
        .journal
        .write(Durability::Durable, queue)
        .await
        .map_err(unstored)?
    {
        return Ok(Some(known));
    }
    match parsed {
        Some(parsed) => obey(
            house,
            Asker {
                principal,
                session,
                run,
            },
            parsed,
        ),
        None => {
            if begins_anew {
                direct::stop_session(house, &session).await;
            }
            submit(house, Job { run, session }).await?;
        }
    }
    Ok(None)
}

/// What an operator's text means: a direct command, or words for the agent, with which the conversation may begin anew.
fn read(house: &House, saying: &Saying) -> Result<(Option<Result<Command, Usage>>, Json), WireError> {
    let Saying { text, pictures, .. } = saying;
    if text.trim().is_empty() && pictures.is_empty() {
        return Err(WireError::invalid("message or attachment required"));
    }
    let said = |text: &str| Said {
        limit: saying.limit,
        model: saying.model.clone(),
        pictures: pictures.iter().cloned().map(Into::into).collect(),
        ..Said::of(text)
    };
    let config = house.config();
    let triggers: &[String] = if saying.is_plain {
        &[]
    } else {
        &config.session.reset_triggers
    };
    let anew = command::anew(text, triggers, None);
    if let Some(anew) = anew.filter(|anew| !anew.rest.is_empty() || !pictures.is_empty()) {
        let said = Said {
            anew: Some(anew.reason.to_owned()),
            ..said(anew.rest)
        };
        return Ok((None, json_of(&said)?));
    }
    match command::parse(text, None).filter(|_| !saying.is_plain) {
        Some(_) if !pictures.is_empty() => Err(WireError::invalid(
            "a command takes no attachments; send them with words for the agent",
        )),
        Some(parsed) => Ok((Some(parsed), intake::command_input(text))),
        None => Ok((None, json_of(&said(text))?)),
    }
}

async fn submit(house: &House, job: Job) -> Result<(), WireError> {
    let run = job.run.clone();
    let Err(full) = house.lanes.submit(job, lane::WAITING).await else {
        return Ok(());
    };
    house
        .turns
        .end_unstarted(
            &run,
            Outcome::Failed {
                message: full.to_string(),
            },
            Vec::new(),
        )
        .await;
    Err(WireError::unavailable(full.to_string()).with_retry(true, None))
}

/// Does a direct command; its answer ends its turn. Interrupted by the gateway's end, it is the next start's to end.
fn obey(house: &Arc<House>, asker: Asker, parsed: Result<Command, Usage>) {
    let (house, stop) = (house.clone(), house.turns.stop.clone());
    house.clone().tasks.spawn(async move {
        let run = asker.run.clone();
        let Some(reply) = stop.run_until_cancelled(direct::execute(&house, &asker, parsed)).await else {
            return;
        };
        let text = direct::in_words(&reply);
        house
            .turns
            .end_unstarted(&run, Outcome::Answer { text }, Vec::new())
            .await;
    });
}

pub(super) async fn abort(house: &Arc<House>, ask: Ask) -> Answer {
    let params: ChatAbort = ask.read()?;
    let (session, _) = session::named(house, &params.session_key, params.agent_id.as_deref())?;
    let runs = match params.run_id {
        None => direct::stop_session(house, &session).await,
        Some(run) => abort_one(house, &session, run_named(&run)?)
            .await?
            .into_iter()
            .collect(),
    };
    done(ChatAborted {
        ok: true,
        aborted: !runs.is_empty(),
        run_ids: runs.iter().map(ToString::to_string).collect(),
    })
}

async fn abort_one(house: &House, session: &SessionKey, run: RunId) -> Result<Option<RunId>, WireError> {
    let wanted = run.clone();
    let row = house
        .journal
        .read(move |db| runs::find(db, &wanted))
        .await
        .map_err(unstored)?;
    let Some(row) = row.filter(|row| row.new.session == *session) else {
        return Ok(None);
    };
    if house.typed.abort(&run) {
        return Ok(Some(run));
    }
    if !house.lanes.abort(run.clone()).await {
        return Ok(None);
    }
    if row.state == RunState::Queued {
        let outcome = Outcome::Aborted {
            message: "Stopped before it began.".to_owned(),
        };
        house.turns.end_unstarted(&run, outcome, Vec::new()).await;
    }
    Ok(Some(run))
}

/// The turn that a key names. Those that answer chats have names of their own, which nobody else may take.
fn run_id(key: &str) -> Result<RunId, WireError> {
    if intake::is_reserved(key) {
        return Err(WireError::invalid(
            "this idempotencyKey is reserved; choose another, e.g. a UUID",
        ));
    }
    run_named(key)
}

fn run_named(name: &str) -> Result<RunId, WireError> {
    RunId::new(name).map_err(|error| WireError::invalid(format!("the run's id: {error}")))
}

/// Off is what an agent does anyway.
fn no_thinking(thinking: Option<&str>) -> Result<(), WireError> {
    not_yet("thinking", !matches!(thinking, None | Some("" | "off" | "default")))
}

/// Clients send 0 for a turn without a limit of theirs; every turn has one of ours.
fn limit(timeout_ms: Option<u64>) -> Option<Duration> {
    let limit = timeout_ms.filter(|ms| *ms > 0).map(Duration::from_millis)?;
    Some(limit.min(limits::CALL_DEADLINE_MAX))
}

/// Better than to do something else than was asked.
fn not_yet(what: &str, is_used: bool) -> Result<(), WireError> {
    if is_used {
        Err(WireError::invalid(format!("{what}: this gateway cannot do that yet")))
    } else {
        Ok(())
    }
}

fn json_of<T: serde::Serialize>(value: &T) -> Result<Json, WireError> {
    Json::of(value).map_err(|error| WireError::unavailable(format!("this cannot be written: {error}")))
}

fn unstored(error: JournalError) -> WireError {
    WireError::unavailable(error.to_string()).with_retry(error.is_retryable(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_chats_turn_is_refused() {
        assert!(run_id("in-7").is_err());
        assert!(run_id("").is_err());
        assert_eq!(run_id("k1").expect("fits").as_str(), "k1");
    }
}
