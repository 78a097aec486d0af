//! `chat.*`, `agent*` and `sessions.send`: what operators' programs say to agents, and what was said.

use std::sync::Arc;
use std::time::Duration;

use atoll_agent::turn::Outcome;
use atoll_pairing::access::Principal;
use atoll_protocol::error::WireError;
use atoll_protocol::id::{AgentId, RunId, SessionKey};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::method::Int;
use atoll_protocol::method::agent::{Agent, AgentAccepted, AgentDone, AgentWait, AgentWaited};
use atoll_protocol::method::chat::{ChatAbort, ChatAborted, ChatHistory, ChatMessages, ChatSend, ChatStarted};
use atoll_protocol::method::session::{SessionsHistory, SessionsSend};
use serde_json::{Value, json};

use super::{Answer, Ask, Reply, done, session};
use crate::clock;
use crate::command::{self, Command, Usage};
use crate::direct::{self, Asker};
use crate::house::House;
use crate::intake;
use crate::journal::runs::{self, NewRun, RunRow, RunState};
use crate::journal::{Durability, JournalError};
use crate::lane::Job;
use crate::turns::{Ended, Said, Source};

/// Messages of `chat.history`, if the caller does not say.
const MESSAGES: u64 = 200;

/// How long `agent.wait` waits, if the caller does not say.
const WAIT: Duration = Duration::from_secs(30);

/// What a turn may take beyond its own deadline until it counts as lost.
const SLACK: Duration = Duration::from_secs(60);

pub(super) async fn send(house: &Arc<House>, ask: Ask) -> Answer {
    let params: ChatSend = ask.read()?;
    no_files(params.attachments.as_deref())?;
    let agent = params.agent_id.as_deref();
    let (session, agent) = session::named(house, &params.session_key, agent)?;
    session::is_still(house, &session, params.session_id.as_deref()).await?;
    let is_plain = params.suppress_command_interpretation.unwrap_or_default();
    let run = run_id(&params.idempotency_key)?;
    done(
        started(
            house,
            &ask,
            Saying {
                run,
                session,
                agent,
                text: params.message,
                is_plain,
            },
        )
        .await?,
    )
}

pub(super) async fn send_to_session(house: &Arc<House>, ask: Ask) -> Answer {
    let params: SessionsSend = ask.read()?;
    no_files(params.attachments.as_deref())?;
    let agent = params.agent_id.as_deref();
    let (session, agent) = session::named(house, &params.key, agent)?;
    let run = params
        .idempotency_key
        .map_or_else(|| Ok(uuid::Uuid::new_v4().into()), |key| run_id(&key))?;
    done(
        started(
            house,
            &ask,
            Saying {
                run,
                session,
                agent,
                text: params.message,
                is_plain: false,
            },
        )
        .await?,
    )
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
    /// A slash at its beginning means nothing.
    is_plain: bool,
}

/// Says it, once: gives the turn that has this id already, if there is one.
async fn say(house: &Arc<House>, principal: Arc<Principal>, saying: Saying) -> Result<Option<RunRow>, WireError> {
    let Saying {
        run,
        session,
        agent,
        text,
        is_plain,
    } = saying;
    if text.trim().is_empty() {
        return Err(WireError::invalid("the message is empty"));
    }
    let parsed = if is_plain { None } else { command::parse(&text, None) };
    let input = match parsed {
        Some(_) => intake::command_input(&text),
        None => json_of(&Said { text })?,
    };
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
        None => submit(house, Job { run, session }).await?,
    }
    Ok(None)
}

async fn submit(house: &House, job: Job) -> Result<(), WireError> {
    let run = job.run.clone();
    let Err(full) = house.lanes.submit(job).await else {
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
        let Some(text) = stop.run_until_cancelled(direct::execute(&house, &asker, parsed)).await else {
            return;
        };
        house
            .turns
            .end_unstarted(&run, Outcome::Answer { text }, Vec::new())
            .await;
    });
}

pub(super) async fn history(house: &Arc<House>, ask: Ask) -> Answer {
    let wanted = if ask.granted.action().name == "sessions.history" {
        let params: SessionsHistory = ask.read()?;
        let (session, _) = session::named(house, &params.key, params.agent_id.as_deref())?;
        Page {
            session,
            limit: params.limit.map(Int::value),
            offset: params.offset,
            chars: None,
            bytes: None,
        }
    } else {
        let params: ChatHistory = ask.read()?;
        let (session, _) = session::named(house, &params.session_key, params.agent_id.as_deref())?;
        let (chars, bytes) = (params.max_chars.map(Int::value), params.max_bytes.map(Int::value));
        Page {
            session,
            limit: params.limit.map(Int::value),
            offset: params.offset,
            chars,
            bytes,
        }
    };
    let session_key = wanted.session.to_string();
    let found = house.sessions.find(&wanted.session).await.map_err(session::failed)?;
    let (messages, session_id) = match found {
        Some((_, transcript)) => {
            let shown = transcript.history().iter().filter_map(|entry| entry.shown()).collect();
            (wanted.cut(shown), Some(transcript.session_id()))
        }
        None => (Vec::new(), None),
    };
    let messages = messages.iter().map(Json::from).collect();
    done(ChatMessages {
        session_key,
        messages,
        session_id,
        thinking_level: None,
    })
}

/// Which part of a history is wanted.
struct Page {
    session: SessionKey,
    limit: Option<u64>,
    /// From the newest.
    offset: Option<u64>,
    /// Of one text.
    chars: Option<u64>,
    /// Of all.
    bytes: Option<u64>,
}

impl Page {
    /// The newest messages that fit, oldest first.
    fn cut(&self, mut all: Vec<Value>) -> Vec<Value> {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        all.truncate(all.len().saturating_sub(number(self.offset.unwrap_or_default())));
        let first = all.len().saturating_sub(number(self.limit.unwrap_or(MESSAGES)));
        let mut page = all.split_off(first);
        if let Some(chars) = self.chars {
            page.iter_mut().for_each(|message| shorten(message, number(chars)));
        }
        let mut room = number(self.bytes.unwrap_or(u64::MAX)).min(limits::NATIVE_FRAME / 2);
        let fitting = page.iter().rev().take_while(|message| {
            let size = message.to_string().len();
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        });
        let fitting = fitting.count();
        page.split_off(page.len() - fitting)
    }
}

fn shorten(message: &mut Value, chars: usize) {
    let parts = message.get_mut("content").and_then(Value::as_array_mut);
    for part in parts.into_iter().flatten() {
        let Some(Value::String(text)) = part.get_mut("text") else {
            continue;
        };
        if let Some((at, _)) = text.char_indices().nth(chars) {
            text.truncate(at);
            text.push('…');
        }
    }
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

pub(super) async fn agent(house: &Arc<House>, ask: Ask) -> Answer {
    let params: Agent = ask.read()?;
    no_files(params.attachments.as_deref())?;
    not_yet("model", params.model.is_some() || params.provider.is_some())?;
    not_yet("extraSystemPrompt", params.extra_system_prompt.is_some())?;
    not_yet("cwd", params.cwd.is_some())?;
    let (session, agent) = session::of_agent(house, &params).await?;
    let run = run_id(&params.idempotency_key)?;
    let patience = patience(house, &agent, params.timeout);
    let text = params.message.into_string();
    let saying = Saying {
        run: run.clone(),
        session: session.clone(),
        agent,
        text,
        is_plain: false,
    };
    let known = say(house, ask.caller.principal.clone(), saying).await?;
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
    Ok(Reply::Accepted {
        first: json_of(&first)?,
        then: Box::pin(then),
    })
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
    let payloads: Vec<_> = ended.text.iter().map(|text| json!({"text": text})).collect();
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

pub(super) async fn agent_wait(house: &Arc<House>, ask: Ask) -> Answer {
    let params: AgentWait = ask.read()?;
    let run = run_named(&params.run_id)?;
    let patience = params
        .timeout_ms
        .map_or(WAIT, Duration::from_millis)
        .min(limits::CALL_DEADLINE_MAX);
    let ended = house.turns.wait(run, patience).await;
    let status = ended.as_ref().map_or("timeout", |ended| words(ended.state).0);
    let unsigned = |at: i64| u64::try_from(at).ok();
    done(AgentWaited {
        run_id: params.run_id.into_string(),
        status: status.to_owned(),
        started_at: ended.as_ref().and_then(|ended| ended.started_at).and_then(unsigned),
        ended_at: ended.as_ref().and_then(|ended| unsigned(ended.ended_at)),
        error: ended.and_then(|ended| ended.text).filter(|_| status == "error"),
    })
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

fn no_files(attachments: Option<&[Json]>) -> Result<(), WireError> {
    not_yet("attachments", attachments.is_some_and(|files| !files.is_empty()))
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

    fn page(limit: u64, offset: u64, chars: Option<u64>, bytes: Option<u64>) -> Page {
        let session = SessionKey::new("agent:main:main").expect("a key");
        Page {
            session,
            limit: Some(limit),
            offset: Some(offset),
            chars,
            bytes,
        }
    }

    fn message(text: &str) -> Value {
        json!({"content": [{"type": "text", "text": text}]})
    }

    fn texts(messages: &[Value]) -> Vec<&str> {
        messages
            .iter()
            .filter_map(|message| message.pointer("/content/0/text")?.as_str())
            .collect()
    }

    #[test]
    fn a_page_holds_the_newest_that_fit_in_their_order() {
        let all = || vec![message("a"), message("b"), message("c")];
        assert_eq!(texts(&page(2, 0, None, None).cut(all())), ["b", "c"]);
        assert_eq!(texts(&page(2, 1, None, None).cut(all())), ["a", "b"]);
        assert_eq!(texts(&page(9, 9, None, None).cut(all())), [""; 0]);
        let size = u64::try_from(message("a").to_string().len()).expect("small");
        assert_eq!(texts(&page(9, 0, None, Some(2 * size)).cut(all())), ["b", "c"]);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let cut = page(9, 0, Some(2), None).cut(vec![message("äöü"), message("ab")]);
        assert_eq!(texts(&cut), ["äö…", "ab"]);
    }

    #[test]
    fn a_key_of_a_chats_turn_is_refused() {
        assert!(run_id("in-7").is_err());
        assert!(run_id("").is_err());
        assert_eq!(run_id("k1").expect("fits").as_str(), "k1");
    }

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
