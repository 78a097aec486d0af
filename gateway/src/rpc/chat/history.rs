//! `chat.history`, `chat.startup` and `sessions.history`: what was said, as much of it as is wanted and fits.

use std::sync::Arc;

use atoll_protocol::error::WireError;
use atoll_protocol::id::{AgentId, SessionKey};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::method::Int;
use atoll_protocol::method::chat::{ChatHistory, ChatMessages, ChatStartup};
use atoll_protocol::method::session::SessionsHistory;
use serde_json::{Value, json};

use crate::house::House;
use crate::rpc::{Answer, Ask, done, session};

/// Messages of `chat.history`, if the caller does not say.
const MESSAGES: u64 = 200;

pub(in crate::rpc) async fn history(house: &Arc<House>, ask: Ask) -> Answer {
    let wanted = if ask.granted.action().name == "sessions.history" {
        let params: SessionsHistory = ask.read()?;
        let (session, agent) = session::named(house, &params.key, params.agent_id.as_deref())?;
        Page {
            session,
            agent,
            limit: params.limit.map(Int::value),
            offset: params.offset,
            chars: None,
            bytes: None,
        }
    } else {
        Page::of(house, ask.read()?)?
    };
    done(page(house, wanted).await?)
}

/// What a client shows first: the history, and how the session stands.
pub(in crate::rpc) async fn startup(house: &Arc<House>, ask: Ask) -> Answer {
    let is_named = ask.params.as_ref().is_some_and(|params| {
        let fields = params.read::<Value>();
        fields.is_ok_and(|fields| fields.get("shortId").is_some())
    });
    if !is_named {
        return done(page(house, Page::of(house, ask.read()?)?).await?);
    }
    let params: ChatStartup = ask.read()?;
    session::subscribed(house, &ask.caller);
    let agent = session::configured(&house.config(), &params.agent_id)?;
    let rows = house.sessions.list().await.map_err(session::failed)?;
    let mut found = rows
        .into_iter()
        .filter(|row| row.agent == agent && row.id.starts_with(params.short_id.as_str()))
        .map(|row| row.session);
    let (Some(session), rest) = (found.next(), found.collect::<Vec<_>>()) else {
        return done(json!({"resolution": {"ok": false}}));
    };
    if !rest.is_empty() {
        let candidates: Vec<_> = std::iter::once(session).chain(rest).collect();
        return done(json!({"resolution": {"ok": false, "candidates": candidates}}));
    }
    let resolution = json!({"ok": true, "key": session, "agentId": agent});
    let wanted = Page {
        session,
        agent,
        limit: params.limit.map(Int::value),
        offset: None,
        chars: None,
        bytes: params.max_bytes.map(Int::value),
    };
    done(ChatMessages {
        resolution: Some(resolution.into()),
        ..page(house, wanted).await?
    })
}

async fn page(house: &Arc<House>, wanted: Page) -> Result<ChatMessages, WireError> {
    let session_key = wanted.session.to_string();
    let found = house.sessions.find(&wanted.session).await.map_err(session::failed)?;
    let session_id = found.as_ref().map(|(_, transcript)| transcript.session_id());
    let all: Vec<Value> = match &found {
        Some((_, transcript)) => transcript.history().iter().filter_map(|entry| entry.shown()).collect(),
        None => Vec::new(),
    };
    let total = all.len();
    let messages = wanted.cut(all);
    let passed = messages.len().saturating_add(number(wanted.offset.unwrap_or_default()));
    let config = house.config();
    let agent = config.agent(&wanted.agent).unwrap_or_else(|| config.default_agent());
    Ok(ChatMessages {
        session_key,
        messages: messages.iter().map(Json::from).collect(),
        has_more: passed < total,
        total_messages: u64::try_from(total).unwrap_or(u64::MAX),
        session_id,
        defaults: Some(session::defaults(&config, agent).into()),
        session_info: match &found {
            Some((row, _)) => Some(session::info(house, row).await.into()),
            None => None,
        },
        resolution: None,
        thinking_level: None,
    })
}

/// Which part of a history is wanted.
struct Page {
    session: SessionKey,
    agent: AgentId,
    limit: Option<u64>,
    /// From the newest.
    offset: Option<u64>,
    /// Of one text.
    chars: Option<u64>,
    /// Of all.
    bytes: Option<u64>,
}

impl Page {
    fn of(house: &House, params: ChatHistory) -> Result<Self, WireError> {
        let (session, agent) = session::named(house, &params.session_key, params.agent_id.as_deref())?;
        Ok(Self {
            session,
            agent,
            limit: params.limit.map(Int::value),
            offset: params.offset,
            chars: params.max_chars.map(Int::value),
            bytes: params.max_bytes.map(Int::value),
        })
    }

    /// The newest messages that fit, oldest first.
    fn cut(&self, mut all: Vec<Value>) -> Vec<Value> {
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

fn number(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn page(limit: u64, offset: u64, chars: Option<u64>, bytes: Option<u64>) -> Page {
        let session = SessionKey::new("agent:main:main").expect("a key");
        Page {
            session,
            agent: AgentId::new("main").expect("an id"),
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
}
