//! The records of a transcript as JSON, and as what this crate works with. One line of text is one record.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use atoll_protocol::id::RunId;
use atoll_protocol::json::Json;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::media::{self, MediaLine, ViewLine};
use super::{Header, VERSION};
use crate::message::{Assistant, Message, Part, StopReason, ToolCall, ToolResult, Usage, User};

/// What models are shown in the place of messages that were taken out without a summary.
const TAKEN_OUT: &str = "[Earlier messages of this conversation were taken out of it.]";

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Unique in the file.
    pub id: String,
    /// The record before it.
    pub parent: Option<String>,
    /// Milliseconds since 1970.
    pub at: i64,
    /// The turn that appended it.
    pub run: Option<RunId>,
    /// What it says.
    pub body: Body,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A message.
    Message(Arc<Message>),
    /// A summary stands for everything before `first_kept`.
    Compaction {
        /// The summary.
        summary: String,
        /// The id of the first record that it does not replace.
        first_kept: Option<String>,
    },
    /// A new beginning.
    Reset {
        /// `new`, `reset`, `idle`, …
        reason: String,
        /// The session's id from here on; none: as before.
        session_id: Option<String>,
    },
    /// Any other record, whole.
    Other(Json),
}

impl Entry {
    /// The record as `chat.history` and `sessions.history` show it: the message with its id and time; `None` for what is no message.
    pub fn shown(&self) -> Option<Value> {
        let Body::Message(message) = &self.body else {
            return None;
        };
        let mut shown = message_json(message, self.at);
        shown.insert("id".to_owned(), self.id.clone().into());
        if let Some(run) = &self.run {
            shown.insert("runId".to_owned(), run.as_str().into());
        }
        Some(shown.into())
    }
}

/// One pass over the text and few copies: a long session is read in a moment. A line that does not fit is read again, as [`Odd`].
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default, rename = "parentId")]
    parent: Option<String>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(default, rename = "runId")]
    run: Option<RunId>,
    #[serde(borrow, default)]
    message: Option<MessageLine<'a>>,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default, rename = "firstKeptEntryId")]
    first_kept: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default, rename = "sessionId")]
    session_id: Option<String>,
}

/// A record whose message holds parts that are not known here; those are kept as text.
#[derive(Deserialize)]
struct Odd<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default, rename = "parentId")]
    parent: Option<String>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OddMessage<'a> {
    #[serde(borrow, default)]
    content: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct HeaderLine<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(default)]
    id: String,
    #[serde(default)]
    version: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageLine<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Content<'a>,
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(default)]
    provider: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<UsageLine>,
    #[serde(borrow, default)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    error_message: Option<String>,
    #[serde(default)]
    tool_call_id: Option<String>,
    #[serde(default)]
    tool_name: Option<String>,
    #[serde(default)]
    is_error: Option<bool>,
    #[serde(borrow, default)]
    details: Option<&'a RawValue>,
}

/// A list of parts, or one text alone.
#[derive(Default)]
struct Content<'a>(Vec<PartLine<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor(PhantomData))
    }
}

struct ContentVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ContentVisitor<'a> {
    type Value = Content<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or a list of parts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Content<'a>, E> {
        Ok(Content(vec![PartLine {
            r#type: Cow::Borrowed("text"),
            text: Some(text.to_owned()),
            thinking: None,
            id: None,
            name: None,
            arguments: None,
            media: None,
            view: None,
        }]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content<'a>, A::Error> {
        let mut content = Vec::new();
        while let Some(part) = parts.next_element()? {
            content.push(part);
        }
        Ok(Content(content))
    }
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct UsageLine {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
}

#[derive(Deserialize)]
struct PartLine<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<Json>,
    #[serde(default)]
    media: Option<MediaLine>,
    #[serde(default)]
    view: Option<ViewLine>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Details {
    uncertain: bool,
}

/// The session's id, if the line is a header that this version knows.
pub(super) fn read_header(line: &str) -> Option<String> {
    let line: HeaderLine<'_> = serde_json::from_str(line).ok()?;
    let known = line.r#type == "session" && matches!(line.version, Some(3 | VERSION));
    known.then_some(line.id)
}

pub(super) fn header_line(header: &Header, at: i64) -> Vec<u8> {
    let record = json!({
        "type": "session", "version": VERSION, "id": header.session_id, "timestamp": iso(at), "cwd": header.cwd,
    });
    ended(&record)
}

/// Whether a line surely begins a new window. A reset written in another way is found when the line is read.
pub(super) fn is_reset(line: &str) -> bool {
    line.starts_with(r#"{"type":"reset""#)
}

/// A record; `None` for a line that is none.
pub(super) fn read(text: &str) -> Option<Entry> {
    let Ok(mut line) = serde_json::from_str::<Line<'_>>(text) else {
        return read_odd(text);
    };
    let mut at = None;
    let body = match &*line.r#type {
        "message" => {
            let message = line.message.take();
            at = message.as_ref().and_then(|message| message.timestamp);
            match message.and_then(read_message) {
                Some(message) => Body::Message(Arc::new(message)),
                None => return read_odd(text),
            }
        }
        "compaction" => Body::Compaction {
            summary: line.summary.take().unwrap_or_default(),
            first_kept: line.first_kept.take(),
        },
        "reset" => Body::Reset {
            reason: line.reason.take().unwrap_or_default(),
            session_id: line.session_id.take(),
        },
        _ => Body::Other(Json::parse(text).ok()?),
    };
    Some(Entry {
        id: line.id.unwrap_or_default(),
        parent: line.parent,
        at: at.or_else(|| milliseconds(line.timestamp?.get())).unwrap_or(0),
        run: line.run,
        body,
    })
}

/// A message with parts of other kinds keeps them; anything else is kept whole.
fn read_odd(text: &str) -> Option<Entry> {
    let raw = Json::parse(text).ok()?;
    let line: Odd<'_> = serde_json::from_str(text).ok()?;
    let odd = line.message.and_then(|message| {
        let parts: OddMessage<'_> = serde_json::from_str(message.get()).ok()?;
        let parts = parts.content?.into_iter().map(|part| read_part(part.get())).collect();
        // The parts apart, the message must be one that is known.
        let mut tree: Map<String, Value> = serde_json::from_str(message.get()).ok()?;
        tree.insert("content".to_owned(), Value::Array(Vec::new()));
        let bare = Value::from(tree).to_string();
        let known: MessageLine<'_> = serde_json::from_str(&bare).ok()?;
        let at = known.timestamp;
        Some((with_parts(read_message(known)?, parts), at))
    });
    let (body, at) = match odd {
        Some((message, at)) => (Body::Message(Arc::new(message)), at),
        None => (Body::Other(raw.clone()), None),
    };
    Some(Entry {
        id: line.id.unwrap_or_default(),
        parent: line.parent,
        at: at.or_else(|| milliseconds(line.timestamp?.get())).unwrap_or(0),
        run: raw.tree()["runId"].as_str().and_then(|run| RunId::new(run).ok()),
        body,
    })
}

fn with_parts(message: Message, content: Vec<Part>) -> Message {
    match message {
        Message::User(_) => Message::User(User { content }),
        Message::Assistant(said) => Message::Assistant(Assistant { content, ..said }),
        Message::ToolResult(result) => Message::ToolResult(ToolResult { content, ..result }),
    }
}

/// ISO text, or the number itself.
fn milliseconds(raw: &str) -> Option<i64> {
    match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
        Some(text) => text
            .parse::<jiff::Timestamp>()
            .ok()
            .map(jiff::Timestamp::as_millisecond),
        None => raw.parse().ok(),
    }
}

/// `None` when the role or a part is not known.
fn read_message(mut line: MessageLine<'_>) -> Option<Message> {
    let parts = std::mem::take(&mut line.content).0;
    let content = parts.into_iter().map(known_part).collect::<Option<Vec<_>>>()?;
    Some(match &*line.role {
        "user" => Message::User(User { content }),
        "assistant" => Message::Assistant(read_assistant(line, content)),
        "toolResult" => Message::ToolResult(ToolResult {
            call: line.tool_call_id?,
            tool: line.tool_name.unwrap_or_default(),
            content,
            is_error: line.is_error.unwrap_or(false),
            uncertain: line
                .details
                .and_then(|details| serde_json::from_str::<Details>(details.get()).ok())
                .is_some_and(|details| details.uncertain),
        }),
        _ => return None,
    })
}

fn read_assistant(line: MessageLine<'_>, content: Vec<Part>) -> Assistant {
    let usage = line.usage.unwrap_or_default();
    Assistant {
        content,
        provider: line.provider.unwrap_or_default(),
        model: line.model.unwrap_or_default(),
        usage: Usage {
            input: usage.input,
            output: usage.output,
            cache_read: usage.cache_read,
            cache_write: usage.cache_write,
        },
        stop: match line.stop_reason.as_deref() {
            Some("length") => StopReason::Length,
            Some("toolUse") => StopReason::ToolUse,
            Some("error") => StopReason::Error,
            Some("aborted") => StopReason::Aborted,
            Some(_) | None => StopReason::Stop,
        },
        error: line.error_message,
    }
}

fn read_part(raw: &str) -> Part {
    serde_json::from_str::<PartLine<'_>>(raw)
        .ok()
        .and_then(known_part)
        .unwrap_or_else(|| Part::Other(Json::parse(raw).unwrap_or_else(|_| Json::from(Value::Null))))
}

fn known_part(part: PartLine<'_>) -> Option<Part> {
    match &*part.r#type {
        "text" => part.text.map(Part::Text),
        "thinking" => part.thinking.map(Part::Thinking),
        "toolCall" => Some(Part::ToolCall(ToolCall {
            id: part.id?,
            name: part.name?,
            args: part.arguments?,
        })),
        media::IMAGE | media::MEDIA => Some(Part::Media(part.media?.with(part.view))),
        _ => None,
    }
}

/// A record as a line, with its end.
pub(super) fn line(entry: &Entry) -> Vec<u8> {
    let mut record = Map::new();
    let (kind, rest) = match &entry.body {
        Body::Message(message) => {
            let message = message_json(message, entry.at);
            ("message", vec![("message", Value::from(message))])
        }
        Body::Compaction { summary, first_kept } => (
            "compaction",
            vec![
                ("summary", summary.clone().into()),
                ("firstKeptEntryId", first_kept.clone().into()),
            ],
        ),
        Body::Reset { reason, session_id } => (
            "reset",
            vec![
                ("reason", reason.clone().into()),
                ("sessionId", session_id.clone().into()),
            ],
        ),
        Body::Other(raw) => return other_line(entry, raw),
    };
    record.insert("type".to_owned(), kind.into());
    frame(&mut record, entry);
    record.extend(rest.into_iter().map(|(key, value)| (key.to_owned(), value)));
    ended(&record.into())
}

fn other_line(entry: &Entry, raw: &Json) -> Vec<u8> {
    let mut record = raw.read::<Map<String, Value>>().unwrap_or_default();
    frame(&mut record, entry);
    ended(&record.into())
}

fn frame(record: &mut Map<String, Value>, entry: &Entry) {
    record.insert("id".to_owned(), entry.id.clone().into());
    record.insert("parentId".to_owned(), entry.parent.clone().into());
    record.insert("timestamp".to_owned(), iso(entry.at).into());
    if let Some(run) = &entry.run {
        record.insert("runId".to_owned(), run.as_str().into());
    }
}

fn ended(record: &Value) -> Vec<u8> {
    let mut line = record.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn iso(at: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    format!("{at:.3}")
}

fn message_json(message: &Message, at: i64) -> Map<String, Value> {
    let value = match message {
        Message::User(user) => json!({"role": "user", "content": parts(&user.content)}),
        Message::Assistant(assistant) => assistant_json(assistant),
        Message::ToolResult(result) => {
            let mut value = json!({
                "role": "toolResult", "toolCallId": result.call, "toolName": result.tool,
                "content": parts(&result.content), "isError": result.is_error,
            });
            if result.uncertain {
                value["details"] = json!({"uncertain": true});
            }
            value
        }
    };
    let Value::Object(mut map) = value else {
        return Map::new();
    };
    map.insert("timestamp".to_owned(), at.into());
    map
}

fn assistant_json(assistant: &Assistant) -> Value {
    let usage = assistant.usage;
    let mut value = json!({
        "role": "assistant", "content": parts(&assistant.content),
        "provider": assistant.provider, "model": assistant.model,
        "usage": {
            "input": usage.input, "output": usage.output, "cacheRead": usage.cache_read,
            "cacheWrite": usage.cache_write, "totalTokens": usage.total(),
        },
        "stopReason": match assistant.stop {
            StopReason::Stop => "stop",
            StopReason::Length => "length",
            StopReason::ToolUse => "toolUse",
            StopReason::Error => "error",
            StopReason::Aborted => "aborted",
        },
    });
    if let Some(error) = &assistant.error {
        value["errorMessage"] = error.clone().into();
    }
    value
}

fn parts(parts: &[Part]) -> Vec<Value> {
    parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => json!({"type": "text", "text": text}),
            Part::Thinking(text) => json!({"type": "thinking", "thinking": text}),
            Part::ToolCall(call) => {
                json!({"type": "toolCall", "id": call.id, "name": call.name, "arguments": call.args.tree()})
            }
            Part::Media(media) => media::json(media),
            Part::Other(raw) => raw.tree(),
        })
        .collect()
}

/// See [`super::Transcript::conversation`].
pub(super) fn conversation(window: &[Arc<Entry>], run: &RunId) -> (Vec<Arc<Message>>, Vec<Arc<Message>>) {
    let own = window
        .iter()
        .position(|entry| entry.run.as_ref() == Some(run))
        .unwrap_or(window.len());
    let (before, own) = window.split_at(own);
    (so_far(before), messages(own).collect())
}

/// See [`super::Transcript::so_far`].
pub(super) fn so_far(window: &[Arc<Entry>]) -> Vec<Arc<Message>> {
    let (kept, summary) = compacted(window);
    let stand_in = summary.map(|summary| match summary {
        "" => TAKEN_OUT.to_owned(),
        summary => format!("[Summary of the conversation so far]\n{summary}"),
    });
    let stand_in = stand_in.map(|text| Arc::new(Message::User(User::text(text))));
    stand_in.into_iter().chain(messages(kept)).collect()
}

/// The ids of the messages that models are shown as they were said.
pub(super) fn kept_ids(window: &[Arc<Entry>]) -> Vec<String> {
    let is_message = |entry: &&Arc<Entry>| matches!(entry.body, Body::Message(_));
    let kept = compacted(window).0.iter().filter(is_message);
    kept.map(|entry| entry.id.clone()).collect()
}

/// See [`super::Transcript::replaced`].
pub(super) fn replaced(window: &[Arc<Entry>]) -> Vec<Arc<Message>> {
    let kept = compacted(window).0.len();
    messages(&window[..window.len() - kept]).collect()
}

/// What is left of a window after its latest compaction, and the summary of the rest.
fn compacted(window: &[Arc<Entry>]) -> (&[Arc<Entry>], Option<&str>) {
    let compaction = window
        .iter()
        .enumerate()
        .rev()
        .find_map(|(index, entry)| match &entry.body {
            Body::Compaction { summary, first_kept } => Some((index, summary, first_kept.as_deref())),
            Body::Message(_) | Body::Reset { .. } | Body::Other(_) => None,
        });
    let Some((index, summary, first_kept)) = compaction else {
        return (window, None);
    };
    let from = window
        .iter()
        .position(|entry| Some(entry.id.as_str()) == first_kept)
        .unwrap_or(index);
    (&window[from..], Some(summary))
}

fn messages(entries: &[Arc<Entry>]) -> impl Iterator<Item = Arc<Message>> {
    entries.iter().filter_map(|entry| match &entry.body {
        Body::Message(message) => Some(Arc::clone(message)),
        Body::Compaction { .. } | Body::Reset { .. } | Body::Other(_) => None,
    })
}
