//! The OpenAI Chat Completions API, as OpenAI and the many servers that imitate it speak it.
//! Source: <https://platform.openai.com/docs/api-reference/chat-streaming>

use std::collections::BTreeMap;
use std::sync::Arc;

use reqwest::{Client, RequestBuilder};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::{ModelError, Refusal};
use super::http::{ErrorBody, Heard, Reader as Reads};
use super::sse::SseEvent;
use super::{Album, ModelRequest, arguments, read_event};
use crate::message::{Assistant, Message, Part, StopReason, ToolCall, ToolResult, Usage, User, View};
use crate::tool::ToolDescriptor;

/// Calls in one message; an index beyond it is a broken stream.
const CALLS: u64 = 128;

pub(super) fn request(client: &Client, request: &ModelRequest) -> RequestBuilder {
    let config = &request.config;
    let url = format!("{}/chat/completions", config.base_url.trim_end_matches('/'));
    let mut http = client.post(url);
    if let Some(key) = &config.api_key {
        http = http.bearer_auth(key.expose_secret());
    }
    http.json(&body(request))
}

fn body(request: &ModelRequest) -> Value {
    let config = &request.config;
    let mut messages = vec![json!({"role": "system", "content": request.system.whole()})];
    messages.extend(conversation(&request.messages, &request.album));
    let mut body = json!({
        "model": config.name.model,
        "stream": true,
        "stream_options": {"include_usage": true},
        "messages": messages,
    });
    // OpenAI's own newer models refuse the old name; other servers know only the old one.
    let limit = if config.base_url.contains("//api.openai.com") {
        "max_completion_tokens"
    } else {
        "max_tokens"
    };
    body[limit] = config.max_tokens.into();
    if !request.tools.is_empty() {
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    body
}

fn tool(descriptor: &ToolDescriptor) -> Value {
    json!({"type": "function", "function": {
        "name": descriptor.name,
        "description": descriptor.description,
        "parameters": descriptor.parameters,
    }})
}

/// A message with the result of a tool holds text alone, so pictures follow all results of one step as a message of the user's.
fn conversation(messages: &[Arc<Message>], album: &Album) -> Vec<Value> {
    let mut wired = Vec::with_capacity(messages.len());
    let mut pictures = Vec::new();
    for message in messages {
        if let Message::ToolResult(result) = &**message {
            wired.push(tool_result(result, album, &mut pictures));
            continue;
        }
        wired.extend(looked_at(std::mem::take(&mut pictures)));
        wired.extend(wire(message, album));
    }
    wired.extend(looked_at(pictures));
    wired
}

fn tool_result(result: &ToolResult, album: &Album, pictures: &mut Vec<Value>) -> Value {
    let mut text = result.text();
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
    json!({"role": "tool", "tool_call_id": result.call, "content": text})
}

fn image(data: &str) -> Value {
    let url = format!("data:{};base64,{data}", View::MIME);
    json!({"type": "image_url", "image_url": {"url": url}})
}

fn looked_at(pictures: Vec<Value>) -> Option<Value> {
    if pictures.is_empty() {
        return None;
    }
    let words = json!({"type": "text", "text": "[The pictures of the tool results above, in their order]"});
    let content: Vec<_> = std::iter::once(words).chain(pictures).collect();
    Some(json!({"role": "user", "content": content}))
}

/// Words alone are a text, which every server takes; with pictures they are a list.
fn user(user: &User, album: &Album) -> Option<Value> {
    let mut text = crate::message::joined_text(&user.content);
    let mut pictures = Vec::new();
    let media = user.content.iter().filter_map(Part::as_media);
    for media in media.filter(|media| media.view.is_some()) {
        match album.show(media) {
            Ok(data) => pictures.push(image(data)),
            Err(words) => text.push_str(&words),
        }
    }
    let has_text = !text.trim().is_empty();
    match (has_text, pictures.is_empty()) {
        (false, true) => None,
        (true, true) => Some(json!({"role": "user", "content": text})),
        (_, false) => {
            let words = has_text.then(|| json!({"type": "text", "text": text}));
            let content: Vec<_> = words.into_iter().chain(pictures).collect();
            Some(json!({"role": "user", "content": content}))
        }
    }
}

fn wire(message: &Message, album: &Album) -> Option<Value> {
    match message {
        Message::User(said) => user(said, album),
        Message::Assistant(assistant) => {
            let text = assistant.text();
            let calls: Vec<Value> = assistant.calls().map(call).collect();
            let mut message = Map::new();
            message.insert("role".to_owned(), "assistant".into());
            match (text.trim().is_empty(), calls.is_empty()) {
                (true, true) => return None,
                (true, false) => message.insert("content".to_owned(), Value::Null),
                (false, _) => message.insert("content".to_owned(), text.into()),
            };
            if !calls.is_empty() {
                message.insert("tool_calls".to_owned(), calls.into());
            }
            Some(message.into())
        }
        Message::ToolResult(_) => None,
    }
}

fn call(call: &ToolCall) -> Value {
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.args.as_str()}})
}

/// Puts a streamed message together.
#[derive(Debug, Default)]
pub(super) struct Reader {
    text: String,
    thinking: String,
    calls: BTreeMap<u64, Call>,
    usage: Usage,
    stop: Option<StopReason>,
    done: bool,
}

#[derive(Debug, Default)]
struct Call {
    id: String,
    name: String,
    args: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<WireUsage>,
    error: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CallDelta {
    index: Option<u64>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

impl Reads for Reader {
    fn hear(&mut self, event: &SseEvent) -> Result<Heard, ModelError> {
        if event.data.trim() == "[DONE]" {
            self.done = true;
            return Ok(Heard::End);
        }
        let Some(chunk) = read_event::<Chunk>(&event.data)? else {
            return Ok(Heard::Nothing);
        };
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            return Err(refused(&error));
        }
        if let Some(usage) = chunk.usage {
            self.usage = counted(&usage);
        }
        let Some(choice) = chunk.choices.and_then(|choices| choices.into_iter().next()) else {
            return Ok(Heard::Nothing);
        };
        if let Some(reason) = choice.finish_reason.as_deref().filter(|reason| !reason.is_empty()) {
            self.stop = Some(stop_reason(reason));
        }
        self.delta(choice.delta.unwrap_or_default())
    }

    fn message(self) -> Result<Assistant, ModelError> {
        if !self.done && self.stop.is_none() {
            return Err(ModelError::Connection {
                detail: "the stream ended in the middle of the message".to_owned(),
            });
        }
        let mut content = Vec::new();
        if !self.thinking.is_empty() {
            content.push(Part::Thinking(self.thinking));
        }
        if !self.text.is_empty() {
            content.push(Part::Text(self.text));
        }
        let calls = self.calls.into_values().filter(|call| !call.name.is_empty());
        content.extend(calls.map(|call| {
            Part::ToolCall(ToolCall {
                args: arguments(&call.args),
                id: call.id,
                name: call.name,
            })
        }));
        Ok(Assistant {
            content,
            usage: self.usage,
            stop: self.stop.unwrap_or_default(),
            ..Assistant::default()
        })
    }
}

impl Reader {
    fn delta(&mut self, delta: Delta) -> Result<Heard, ModelError> {
        let mut heard = Heard::Nothing;
        if let Some(thinking) = delta
            .reasoning_content
            .or(delta.reasoning)
            .filter(|text| !text.is_empty())
        {
            self.thinking.push_str(&thinking);
            heard = Heard::Content;
        }
        for call in delta.tool_calls.unwrap_or_default() {
            self.call_delta(call)?;
            heard = Heard::Content;
        }
        if let Some(text) = delta.content.or(delta.refusal).filter(|text| !text.is_empty()) {
            self.text.push_str(&text);
            heard = Heard::Text(text);
        }
        Ok(heard)
    }

    fn call_delta(&mut self, delta: CallDelta) -> Result<(), ModelError> {
        let id = delta.id.filter(|id| !id.is_empty());
        let index = delta.index.unwrap_or_else(|| self.index_for(id.as_deref()));
        if index >= CALLS {
            return Err(ModelError::Protocol {
                detail: format!("more than {CALLS} tool calls"),
            });
        }
        let call = self.calls.entry(index).or_default();
        if let Some(id) = id {
            call.id = id;
        }
        let function = delta.function.unwrap_or_default();
        if let Some(name) = function.name.filter(|name| !name.is_empty()) {
            call.name = name;
        }
        call.args.push_str(&function.arguments.unwrap_or_default());
        Ok(())
    }

    /// Some servers leave the index out: a new id begins a new call, anything else continues the last one.
    fn index_for(&self, id: Option<&str>) -> u64 {
        let Some((last, call)) = self.calls.last_key_value() else {
            return 0;
        };
        match id {
            Some(id) if id != call.id => last + 1,
            Some(_) | None => *last,
        }
    }
}

/// Cached tokens are part of `prompt_tokens` here, and beside them in [`Usage`].
fn counted(usage: &WireUsage) -> Usage {
    let cached = usage
        .prompt_tokens_details
        .as_ref()
        .and_then(|details| details.cached_tokens)
        .unwrap_or(0);
    Usage {
        input: usage.prompt_tokens.unwrap_or(0).saturating_sub(cached),
        output: usage.completion_tokens.unwrap_or(0),
        cache_read: cached,
        cache_write: 0,
    }
}

fn stop_reason(reason: &str) -> StopReason {
    match reason {
        "length" => StopReason::Length,
        "tool_calls" | "function_call" => StopReason::ToolUse,
        _ => StopReason::Stop,
    }
}

fn refused(error: &Value) -> ModelError {
    let body = json!({"error": error}).to_string();
    let said = ErrorBody::read(body.as_bytes());
    let status = error
        .get("code")
        .and_then(Value::as_u64)
        .and_then(|code| u16::try_from(code).ok());
    Refusal {
        status: status.unwrap_or(200),
        kind: &said.kind,
        detail: said.message,
        retry_after: None,
    }
    .into()
}
