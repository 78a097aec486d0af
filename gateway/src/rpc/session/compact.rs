//! `sessions.compact`: a summary in the place of a long conversation, or only its newest messages.

use std::sync::Arc;

use atoll_agent::compact::{self, CompactError, Compacted};
use atoll_agent::transcript::Transcript;
use atoll_protocol::error::WireError;
use atoll_protocol::id::SessionKey;
use atoll_protocol::json::Json;
use atoll_protocol::method::session::{SessionCompacted, SessionsCompact};
use serde_json::json;

use super::{failed, named};
use crate::house::House;
use crate::rpc::{Answer, Ask, Reply, done};
use crate::turns;

pub(in crate::rpc) async fn compact(house: &Arc<House>, ask: Ask) -> Answer {
    let params: SessionsCompact = ask.read()?;
    let (session, _) = named(house, &params.key, params.agent_id.as_deref())?;
    let Some((row, transcript)) = house.sessions.find(&session).await.map_err(failed)? else {
        return done(unchanged(&session, true, "no sessionId"));
    };
    if transcript.facts().messages == 0 {
        return done(unchanged(&session, true, "no transcript"));
    }
    is_quiet(house, &session).await?;
    let by = ask.caller.principal.label();
    if let Some(lines) = params.max_lines {
        let lines = usize::try_from(lines.value()).unwrap_or(usize::MAX);
        return cut(house, by, &session, transcript, lines).await;
    }
    let config = house.config();
    let agent = config.agent(&row.agent).unwrap_or_else(|| config.default_agent());
    let chain = turns::models_of(&config, agent).map_err(WireError::unavailable)?;
    let place = ask.wait_place()?;
    let house = house.clone();
    let then = async move {
        let compacted = compact::compact(&transcript, &*house.turns.models, &chain).await;
        let reply = told(&session, compacted)?;
        if reply.compacted {
            noted(&house, by, &session).await;
        }
        Json::of(&reply).map_err(|error| WireError::unavailable(error.to_string()))
    };
    Ok(Reply::Later {
        place,
        first: None,
        then: Box::pin(then),
    })
}

/// Nothing of the conversation runs or waits: what a turn has read would not be what it goes on with.
async fn is_quiet(house: &House, session: &SessionKey) -> Result<(), WireError> {
    let lanes = house.lanes.list().await;
    let what = match lanes.iter().find(|lane| lane.session == *session) {
        Some(lane) if lane.waiting > 0 => "queued work",
        Some(lane) if lane.running.is_some() => "an active run",
        Some(_) | None => return Ok(()),
    };
    Err(WireError::invalid(format!(
        "Session {session} has {what}; retry after it finishes."
    )))
}

async fn cut(house: &House, by: String, session: &SessionKey, transcript: Transcript, lines: usize) -> Answer {
    let cutting = tokio::task::spawn_blocking(move || transcript.keep_last(lines)).await;
    let cut = cutting.map_err(|error| WireError::unavailable(error.to_string()))?;
    let (kept, compacted) = cut.map_err(|error| WireError::unavailable(error.to_string()))?;
    if compacted {
        noted(house, by, session).await;
    }
    done(SessionCompacted {
        ok: true,
        key: session.to_string(),
        compacted,
        reason: None,
        kept: u64::try_from(kept).ok(),
        result: None,
    })
}

async fn noted(house: &House, by: String, session: &SessionKey) {
    house.turns.watchers.changed(session, "compact");
    let target = session.to_string();
    house.audit(by, "sessions.compact", target, json!({})).await;
}

fn told(session: &SessionKey, compacted: Result<Compacted, CompactError>) -> Result<SessionCompacted, WireError> {
    match compacted {
        Ok(Compacted {
            summary,
            tokens_before,
            tokens_after,
        }) => {
            let result = json!({"summary": summary, "tokensBefore": tokens_before, "tokensAfter": tokens_after});
            Ok(SessionCompacted {
                ok: true,
                key: session.to_string(),
                compacted: true,
                reason: None,
                kept: None,
                result: Some(result.into()),
            })
        }
        Err(error @ CompactError::Nothing) => Ok(unchanged(session, false, &error.to_string())),
        Err(CompactError::Changed) => Err(WireError::invalid(format!(
            "Session {session} changed before compaction completed. Retry."
        ))),
        Err(
            error @ (CompactError::NoModel | CompactError::Model { .. } | CompactError::Late | CompactError::Append(_)),
        ) => Err(WireError::unavailable(error.to_string())),
    }
}

fn unchanged(session: &SessionKey, ok: bool, reason: &str) -> SessionCompacted {
    SessionCompacted {
        ok,
        key: session.to_string(),
        compacted: false,
        reason: Some(reason.to_owned()),
        kept: None,
        result: None,
    }
}
