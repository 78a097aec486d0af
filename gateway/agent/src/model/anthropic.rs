//! The Anthropic Messages API: a conversation to its request, its stream to a message.
//! Source: <https://docs.anthropic.com/en/api/messages-streaming>

use std::collections::BTreeMap;
use std::sync::Arc;

use reqwest::{Client, RequestBuilder};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{ModelError, Refusal};
use super::http::{Heard, Reader as Reads};
use super::sse::SseEvent;
use super::{Album, ModelRequest, arguments, read_event};
use crate::message::{Assistant, Message, Part, StopReason, ToolCall, ToolResult, Usage, User, View};
use crate::tool::ToolDescriptor;

/// The version of the API that this file speaks.
const VERSION: &str = "2023-06-01";

pub(super) fn request(client: &Client, request: &ModelRequest) -> RequestBuilder {
    let config = &request.config;
    let base = config.base_url.trim_end_matches('/');
    let url = if base.ends_with("/v1") {
        format!("{base}/messages")
    } else {
        format!("{base}/v1/messages")
    };
    let mut http = client.post(url).header("anthropic-version", VERSION);
    if let Some(key) = &config.api_key {
        http = http.header("x-api-key", key.expose_secret());
    }
    http.json(&body(request))
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    system: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    messages: Vec<Turn>,
}

#[derive(Serialize)]
struct Turn {
    role: &'static str,
    content: Vec<Value>,
}

fn body(request: &ModelRequest) -> Body<'_> {
    let mut messages = turns(&request.messages, Calls::of(request), &request.album);
    // The conversation only grows, so its end is where the next request's cached prefix ends.
    if let Some(Value::Object(last)) = messages.last_mut().and_then(|turn| turn.content.last_mut()) {
        last.insert("cache_control".to_owned(), json!({"type": "ephemeral"}));
    }
    let mut system = vec![json!({
        "type": "text", "text": request.system.stable, "cache_control": {"type": "ephemeral"},
    })];
    if !request.system.volatile.is_empty() {
        system.push(json!({"type": "text", "text": request.system.volatile}));
    }
    Body {
        model: &request.config.name.model,
        max_tokens: request.config.max_tokens,
        stream: true,
        system,
        tools: request.tools.iter().map(tool).collect(),
        messages,
    }
}

fn tool(descriptor: &ToolDescriptor) -> Value {
    json!({
        "name": descriptor.name,
        "description": descriptor.description,
        "input_schema": descriptor.parameters,
    })
}

/// How earlier calls and their results are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calls {
    /// As what they were.
    Typed,
    /// As text: blocks of calls are refused in a request that offers no tools.
    Told,
}

impl Calls {
    fn of(request: &ModelRequest) -> Self {
        if request.tools.is_empty() {
            Self::Told
        } else {
            Self::Typed
        }
    }
}

/// Roles must alternate and results come first in the message after their calls, so neighbours of one role become one message.
fn turns(messages: &[Arc<Message>], calls: Calls, album: &Album) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for message in messages {
        let (role, content) = blocks(message, calls, album);
        match turns.last_mut() {
            Some(last) if last.role == role => last.content.extend(content),
            Some(_) | None => turns.push(Turn { role, content }),
        }
    }
    turns.retain(|turn| !turn.content.is_empty());
    turns
}

fn blocks(message: &Message, calls: Calls, album: &Album) -> (&'static str, Vec<Value>) {
    match message {
        Message::User(user) => ("user", user_blocks(user, album)),
        Message::Assistant(assistant) => {
            let blocks = assistant.content.iter().filter_map(|part| block(part, calls));
            ("assistant", blocks.collect())
        }
        Message::ToolResult(result) => ("user", result_blocks(result, calls, album)),
    }
}

/// Pictures stand before the words about them, as the service advises.
fn user_blocks(user: &User, album: &Album) -> Vec<Value> {
    let (mut pictures, mut words) = (Vec::new(), Vec::new());
    for part in &user.content {
        match part.as_media().filter(|media| media.view.is_some()) {
            Some(media) => match album.show(media) {
                Ok(data) => pictures.push(image(data)),
                Err(told) => words.push(json!({"type": "text", "text": told})),
            },
            None => words.extend(block(part, Calls::Typed)),
        }
    }
    pictures.extend(words);
    pictures
}

fn image(data: &str) -> Value {
    json!({"type": "image", "source": {"type": "base64", "media_type": View::MIME, "data": data}})
}

fn result_blocks(result: &ToolResult, calls: Calls, album: &Album) -> Vec<Value> {
    let mut text = result.text();
    let mut pictures = Vec::new();
    for media in result
        .content
        .iter()
        .filter_map(Part::as_media)
        .filter(|media| media.view.is_some())
    {
        match album.show(media) {
            Ok(data) => pictures.push(image(data)),
            Err(words) => text.push_str(&words),
        }
    }
    if calls == Calls::Told {
        let told = json!({"type": "text", "text": format!("[Result of {}]\n{text}", result.tool)});
        return std::iter::once(told).chain(pictures).collect();
    }
    let mut block = json!({"type": "tool_result", "tool_use_id": result.call, "is_error": result.is_error});
    let has_text = !text.trim().is_empty();
    match (has_text, pictures.is_empty()) {
        (true, true) => block["content"] = Value::String(text),
        (false, true) => {}
        (_, false) => {
            let words = has_text.then(|| json!({"type": "text", "text": text}));
            block["content"] = words.into_iter().chain(pictures).collect();
        }
    }
    vec![block]
}

fn block(part: &Part, calls: Calls) -> Option<Value> {
    match part {
        Part::Text(text) if text.trim().is_empty() => None,
        Part::Text(text) => Some(json!({"type": "text", "text": text})),
        Part::ToolCall(call) if calls == Calls::Told => {
            let text = format!("[Called {} with {}]", call.name, call.args.as_str());
            Some(json!({"type": "text", "text": text}))
        }
        Part::ToolCall(call) => Some(json!({
            "type": "tool_use", "id": call.id, "name": call.name, "input": call.args.tree(),
        })),
        Part::Thinking(_) | Part::Media(_) | Part::Other(_) => None,
    }
}

/// Puts a streamed message together.
#[derive(Debug, Default)]
pub(super) struct Reader {
    blocks: BTreeMap<u64, Block>,
    usage: Usage,
    stop: Option<StopReason>,
    ended: bool,
}

#[derive(Debug)]
enum Block {
    Text(String),
    Thinking(String),
    Call { id: String, name: String, args: String },
    Unknown,
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    #[serde(default)]
    index: u64,
    #[serde(default)]
    content_block: Option<BlockStart>,
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    message: Option<MessageStart>,
    #[serde(default)]
    usage: Option<WireUsage>,
    #[serde(default)]
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct BlockStart {
    r#type: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    input: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delta {
    text: Option<String>,
    thinking: Option<String>,
    partial_json: Option<String>,
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct MessageStart {
    #[serde(default)]
    usage: Option<WireUsage>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct WireError {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    message: String,
}

impl Reads for Reader {
    fn hear(&mut self, event: &SseEvent) -> Result<Heard, ModelError> {
        let Some(event) = read_event::<Event>(&event.data)? else {
            return Ok(Heard::Nothing);
        };
        if let Some(usage) = event.usage.or(event.message.and_then(|message| message.usage)) {
            self.count(&usage);
        }
        match event.r#type.as_str() {
            "content_block_start" => Ok(self.block_start(event.index, event.content_block)),
            "content_block_delta" => Ok(self.block_delta(event.index, event.delta.unwrap_or_default())),
            "message_delta" => {
                let reason = event.delta.and_then(|delta| delta.stop_reason);
                self.stop = reason.as_deref().map(stop_reason).or(self.stop);
                Ok(Heard::Nothing)
            }
            "message_stop" => {
                self.ended = true;
                Ok(Heard::End)
            }
            "error" => Err(refused(event.error)),
            _ => Ok(Heard::Nothing),
        }
    }

    fn message(self) -> Result<Assistant, ModelError> {
        if !self.ended && self.stop.is_none() {
            return Err(ModelError::Connection {
                detail: "the stream ended in the middle of the message".to_owned(),
            });
        }
        let content = self.blocks.into_values().filter_map(part).collect();
        Ok(Assistant {
            content,
            usage: self.usage,
            stop: self.stop.unwrap_or_default(),
            ..Assistant::default()
        })
    }
}

impl Reader {
    fn block_start(&mut self, index: u64, start: Option<BlockStart>) -> Heard {
        let Some(start) = start else {
            return Heard::Nothing;
        };
        let (block, heard) = match start.r#type.as_str() {
            "text" if start.text.is_empty() => (Block::Text(String::new()), Heard::Nothing),
            "text" => (Block::Text(start.text.clone()), Heard::Text(start.text)),
            "thinking" => (Block::Thinking(String::new()), Heard::Content),
            "tool_use" => {
                let whole = start
                    .input
                    .filter(|input| input.as_object().is_some_and(|map| !map.is_empty()));
                let args = whole.map(|input| input.to_string()).unwrap_or_default();
                (
                    Block::Call {
                        id: start.id,
                        name: start.name,
                        args,
                    },
                    Heard::Content,
                )
            }
            _ => (Block::Unknown, Heard::Content),
        };
        self.blocks.insert(index, block);
        heard
    }

    fn block_delta(&mut self, index: u64, delta: Delta) -> Heard {
        let Delta {
            text,
            thinking,
            partial_json,
            ..
        } = delta;
        match self.blocks.entry(index).or_insert(Block::Text(String::new())) {
            Block::Text(all) => match text {
                Some(text) if !text.is_empty() => {
                    all.push_str(&text);
                    Heard::Text(text)
                }
                Some(_) | None => Heard::Nothing,
            },
            Block::Thinking(all) => {
                all.push_str(&thinking.unwrap_or_default());
                Heard::Content
            }
            Block::Call { args, .. } => {
                args.push_str(&partial_json.unwrap_or_default());
                Heard::Content
            }
            Block::Unknown => Heard::Content,
        }
    }

    /// The counts are running totals: what comes later replaces what came before.
    fn count(&mut self, usage: &WireUsage) {
        self.usage.input = usage.input_tokens.unwrap_or(self.usage.input);
        self.usage.output = usage.output_tokens.unwrap_or(self.usage.output);
        self.usage.cache_read = usage.cache_read_input_tokens.unwrap_or(self.usage.cache_read);
        self.usage.cache_write = usage.cache_creation_input_tokens.unwrap_or(self.usage.cache_write);
    }
}

fn part(block: Block) -> Option<Part> {
    match block {
        Block::Text(text) => (!text.is_empty()).then_some(Part::Text(text)),
        Block::Thinking(text) => (!text.is_empty()).then_some(Part::Thinking(text)),
        Block::Call { id, name, args } => {
            let args = arguments(&args);
            Some(Part::ToolCall(ToolCall { id, name, args }))
        }
        Block::Unknown => None,
    }
}

fn stop_reason(reason: &str) -> StopReason {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
        "tool_use" => StopReason::ToolUse,
        _ => StopReason::Stop,
    }
}

fn refused(error: Option<WireError>) -> ModelError {
    let (kind, detail) = error.map_or_else(Default::default, |error| (error.r#type, error.message));
    // Inside a stream there is no status; the word says it all.
    Refusal {
        status: 200,
        kind: &kind,
        detail,
        retry_after: None,
    }
    .into()
}
