//! The OpenAI Chat Completions API, as OpenAI and the many servers that imitate it speak it.
//! Source: <https://platform.openai.com/docs/api-reference/chat-streaming>

use std::collections::BTreeMap;

use reqwest::{Client, RequestBuilder};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{ModelError, Refusal};
use super::http::{ErrorBody, Heard, Reader as Reads};
use super::sse::SseEvent;
use super::{ModelRequest, arguments, read_event};
use crate::message::{Assistant, Part, StopReason, ToolCall, Usage};

mod body;

/// Calls in one message; an index beyond it is a broken stream.
const CALLS: u64 = 128;

pub(super) fn request(client: &Client, request: &ModelRequest) -> RequestBuilder {
    let config = &request.config;
    let url = format!("{}/chat/completions", config.base_url.trim_end_matches('/'));
    let mut http = client.post(url);
    if let Some(key) = &config.api_key {
        http = http.bearer_auth(key.expose_secret());
    }
    http.json(&body::body(request))
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
