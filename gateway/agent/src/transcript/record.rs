//! The records of a transcript as JSON, and as what this crate works with. One line of text is one record.

use std::borrow::Cow;
use std::sync::Arc;

use atoll_protocol::id::RunId;
use atoll_protocol::json::Json;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{Header, VERSION};
use crate::message::{Assistant, Message, Part, StopReason, ToolCall, ToolResult, Usage, User};

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
    },
    /// Any other record, whole.
    Other(Json),
    /// A record before the latest reset, which was not read.
    Skimmed,
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

/// Borrowed, and `message` unparsed: most lines of a long transcript are looked at no closer than this.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "parentId")]
    parent: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "runId")]
    run: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    summary: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "firstKeptEntryId")]
    first_kept: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
    #[serde(default)]
    version: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageLine<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
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
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Details {
    uncertain: bool,
}

/// The session's id, if the line is a header that this version knows.
pub(super) fn read_header(line: &[u8]) -> Option<String> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let known = line.r#type == "session" && matches!(line.version, Some(3 | VERSION));
    known.then(|| line.id.unwrap_or_default().into_owned())
}

pub(super) fn header_line(header: &Header, at: i64) -> Vec<u8> {
    let record = json!({
        "type": "session", "version": VERSION, "id": header.session_id, "timestamp": iso(at), "cwd": header.cwd,
    });
    ended(&record)
}

/// Whether a line surely begins a new window. A reset written in another way is found when the line is read.
pub(super) fn is_reset(line: &[u8]) -> bool {
    line.starts_with(br#"{"type":"reset""#)
}

/// A record of which only the frame is looked at.
pub(super) fn skim(line: &[u8]) -> Option<Entry> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let body = match &*line.r#type {
        "reset" => Body::Reset { reason: String::new() },
        _ => Body::Skimmed,
    };
    Some(entry(&line, body))
}

/// A record, whole.
pub(super) fn read(text: &[u8]) -> Option<Entry> {
    let line: Line<'_> = serde_json::from_slice(text).ok()?;
    let mut at = None;
    let body = match &*line.r#type {
        "message" => match line.message.and_then(|message| read_message(message.get())) {
            Some((message, said_at)) => {
                at = said_at;
                Body::Message(Arc::new(message))
            }
            None => other(text)?,
        },
        "compaction" => Body::Compaction {
            summary: line.summary.as_deref().unwrap_or_default().to_owned(),
            first_kept: line.first_kept.as_deref().map(str::to_owned),
        },
        "reset" => Body::Reset {
            reason: line.reason.as_deref().unwrap_or_default().to_owned(),
        },
        _ => other(text)?,
    };
    let mut entry = entry(&line, body);
    entry.at = at.unwrap_or(entry.at);
    Some(entry)
}

fn other(text: &[u8]) -> Option<Body> {
    Json::parse(std::str::from_utf8(text).ok()?).ok().map(Body::Other)
}

fn entry(line: &Line<'_>, body: Body) -> Entry {
    Entry {
        id: line.id.as_deref().unwrap_or_default().to_owned(),
        parent: line.parent.as_deref().map(str::to_owned),
        at: line.timestamp.and_then(|at| milliseconds(at.get())).unwrap_or(0),
        run: line.run.as_deref().and_then(|run| RunId::new(run).ok()),
        body,
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

fn read_message(raw: &str) -> Option<(Message, Option<i64>)> {
    let line: MessageLine<'_> = serde_json::from_str(raw).ok()?;
    let content = line
        .content
        .map_or_else(|| Some(Vec::new()), |content| read_parts(content.get()))?;
    let at = line.timestamp;
    let message = match &*line.role {
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
    };
    Some((message, at))
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

/// A list of parts, or one text alone.
fn read_parts(raw: &str) -> Option<Vec<Part>> {
    if raw.starts_with('"') {
        return serde_json::from_str(raw).ok().map(|text| vec![Part::Text(text)]);
    }
    let parts: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
    Some(parts.into_iter().map(|part| read_part(part.get())).collect())
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
        Body::Reset { reason } => ("reset", vec![("reason", reason.clone().into())]),
        Body::Other(raw) => return other_line(entry, raw),
        Body::Skimmed => ("custom", Vec::new()),
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
    let mut history = Vec::with_capacity(before.len());
    let compaction = before
        .iter()
        .enumerate()
        .rev()
        .find_map(|(index, entry)| match &entry.body {
            Body::Compaction { summary, first_kept } => Some((index, summary, first_kept.as_deref())),
            Body::Message(_) | Body::Reset { .. } | Body::Other(_) | Body::Skimmed => None,
        });
    let mut kept = before;
    if let Some((index, summary, first_kept)) = compaction {
        let from = before
            .iter()
            .position(|entry| Some(entry.id.as_str()) == first_kept)
            .unwrap_or(index);
        kept = &before[from..];
        let text = format!("[Summary of the conversation so far]\n{summary}");
        history.push(Arc::new(Message::User(User::text(text))));
    }
    history.extend(messages(kept));
    (history, messages(own).collect())
}

fn messages(entries: &[Arc<Entry>]) -> impl Iterator<Item = Arc<Message>> {
    entries.iter().filter_map(|entry| match &entry.body {
        Body::Message(message) => Some(Arc::clone(message)),
        Body::Compaction { .. } | Body::Reset { .. } | Body::Other(_) | Body::Skimmed => None,
    })
}
