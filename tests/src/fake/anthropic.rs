//! A fake of the Anthropic Messages API. Sources: <https://docs.anthropic.com/en/api/messages>,
//! <https://docs.anthropic.com/en/api/errors>, <https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/implement-tool-use>

use std::collections::HashSet;
use std::ops::Deref;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::model::{
    Asked, Dialect, Frames, ModelServer, Refused, Saying, Script, Step, is_name, list, only, picture, text,
};

/// The server; stops when dropped.
pub struct FakeAnthropic(ModelServer);

impl Deref for FakeAnthropic {
    type Target = ModelServer;

    fn deref(&self) -> &ModelServer {
        &self.0
    }
}

impl FakeAnthropic {
    /// A strict server that knows one key.
    pub async fn start(key: &str, script: impl Fn(&Asked) -> Step + Send + Sync + 'static) -> Self {
        let script: Script = Box::new(script);
        Self(ModelServer::start(DIALECT, key, script).await)
    }

    /// A server for benchmarks: one text for every question, at once and unchecked.
    pub async fn instant(text: &str) -> Self {
        Self(ModelServer::instant(DIALECT, text).await)
    }

    /// For `models.providers.<id>.baseUrl`.
    pub fn base_url(&self) -> String {
        self.origin()
    }
}

const DIALECT: Dialect = Dialect {
    path: "/v1/messages",
    check,
    asked,
    frames,
    error,
    stream_error: |refused| event("error", &error(refused)),
};

const KNOWN: [&str; 17] = [
    "model",
    "max_tokens",
    "messages",
    "system",
    "stream",
    "tools",
    "tool_choice",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "metadata",
    "thinking",
    "service_tier",
    "container",
    "context_management",
    "mcp_servers",
];

/// Blocks that may be marked for the cache in one request.
const CACHE_MARKS: usize = 4;

fn check(headers: &HeaderMap, body: &Value, key: &str) -> Result<(), Refused> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match header("x-api-key") {
        None => {
            return Err(Refused::new(
                401,
                "authentication_error",
                "x-api-key header is required",
            ));
        }
        Some(given) if given != key => return Err(Refused::new(401, "authentication_error", "invalid x-api-key")),
        Some(_) => {}
    }
    if header("anthropic-version") != Some("2023-06-01") {
        return Err(Refused::invalid("anthropic-version: header is required"));
    }
    check_body(body).map_err(Refused::invalid)
}

fn check_body(body: &Value) -> Result<(), String> {
    only("", body, &KNOWN)?;
    if text(&body["model"]).is_empty() {
        return Err("model: Field required".to_owned());
    }
    if body["max_tokens"].is_null() {
        return Err("max_tokens: Field required".to_owned());
    }
    if body["max_tokens"].as_u64().is_none_or(|tokens| tokens == 0) {
        return Err("max_tokens: Input should be greater than or equal to 1".to_owned());
    }
    if body["stream"] != true {
        return Err("stream: this fake only streams".to_owned());
    }
    let mut marks = 0;
    for (index, block) in list(&body["system"]).iter().enumerate() {
        check_text(&format!("system.{index}"), block, &mut marks)?;
    }
    let tools = check_tools(&body["tools"])?;
    check_messages(list(&body["messages"]), &tools, &mut marks)?;
    if marks > CACHE_MARKS {
        return Err(format!(
            "A maximum of 4 blocks with cache_control may be provided. Found {marks}."
        ));
    }
    Ok(())
}

fn check_tools(tools: &Value) -> Result<HashSet<String>, String> {
    let mut names = HashSet::new();
    for (index, tool) in list(tools).iter().enumerate() {
        let at = format!("tools.{index}");
        only(
            &at,
            tool,
            &["name", "description", "input_schema", "cache_control", "type", "strict"],
        )?;
        let name = text(&tool["name"]);
        if !is_name(name, 128) {
            return Err(format!(
                "{at}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
            ));
        }
        if tool["input_schema"]["type"] != "object" {
            return Err(format!("{at}.input_schema.type: Field required"));
        }
        if !names.insert(name.to_owned()) {
            return Err("tools: Tool names must be unique.".to_owned());
        }
    }
    Ok(names)
}

fn check_messages(messages: &[Value], tools: &HashSet<String>, marks: &mut usize) -> Result<(), String> {
    if messages.is_empty() {
        return Err("messages: at least one message is required".to_owned());
    }
    let mut ids = HashSet::new();
    let mut open: Vec<String> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let at = format!("messages.{index}");
        only(&at, message, &["role", "content"])?;
        let role = if index % 2 == 0 { "user" } else { "assistant" };
        if message["role"] != role {
            return Err(format!(
                "{at}: roles must alternate between \"user\" and \"assistant\", starting with \"user\""
            ));
        }
        let blocks = blocks(&at, &message["content"])?;
        if role == "user" {
            check_user(&at, &blocks, std::mem::take(&mut open), marks)?;
        } else {
            open = check_assistant(&at, &blocks, &mut ids, marks)?;
        }
    }
    if messages.len().is_multiple_of(2) {
        return Err("This model does not support assistant message prefill.".to_owned());
    }
    if !ids.is_empty() && tools.is_empty() {
        return Err("Requests which include `tool_use` or `tool_result` blocks must define tools.".to_owned());
    }
    Ok(())
}

fn blocks(at: &str, content: &Value) -> Result<Vec<Value>, String> {
    let blocks = match content {
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        Value::Array(blocks) => blocks.clone(),
        _ => return Err(format!("{at}.content: Input should be a valid list")),
    };
    if blocks.is_empty() {
        return Err(format!(
            "{at}: all messages must have non-empty content except for the optional final assistant message"
        ));
    }
    Ok(blocks)
}

fn check_text(at: &str, block: &Value, marks: &mut usize) -> Result<(), String> {
    only(at, block, &["type", "text", "cache_control", "citations"])?;
    if block["type"] != "text" {
        return Err(format!(
            "{at}.type: Input tag {} does not match any of the expected tags",
            block["type"]
        ));
    }
    if text(&block["text"]).is_empty() {
        return Err(format!("{at}: text content blocks must be non-empty"));
    }
    if text(&block["text"]).trim().is_empty() {
        return Err(format!("{at}: text content blocks must contain non-whitespace text"));
    }
    mark(at, block, marks)
}

fn mark(at: &str, block: &Value, marks: &mut usize) -> Result<(), String> {
    match &block["cache_control"] {
        Value::Null => Ok(()),
        control if control["type"] == "ephemeral" => {
            *marks += 1;
            Ok(())
        }
        _ => Err(format!(
            "{at}.cache_control: Input tag does not match any of the expected tags: 'ephemeral'"
        )),
    }
}

/// Results come first, one for each open call and no other.
fn check_user(at: &str, blocks: &[Value], mut open: Vec<String>, marks: &mut usize) -> Result<(), String> {
    let mut after_text = false;
    for (index, block) in blocks.iter().enumerate() {
        let at = format!("{at}.content.{index}");
        if block["type"] == "image" {
            after_text = true;
            check_image(&at, block)?;
            mark(&at, block, marks)?;
            continue;
        }
        if block["type"] != "tool_result" {
            after_text = true;
            check_text(&at, block, marks)?;
            continue;
        }
        only(
            &at,
            block,
            &["type", "tool_use_id", "content", "is_error", "cache_control"],
        )?;
        mark(&at, block, marks)?;
        let id = text(&block["tool_use_id"]);
        let Some(place) = open.iter().position(|open| open == id) else {
            return Err(format!(
                "{at}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a \
                 corresponding `tool_use` block in the previous message."
            ));
        };
        open.remove(place);
        if after_text {
            return Err(format!("{at}: `tool_result` blocks must come before other content"));
        }
        check_result(&at, block)?;
        if !(block["is_error"].is_null() || block["is_error"].is_boolean()) {
            return Err(format!("{at}.is_error: Input should be a valid boolean"));
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must have a \
         corresponding `tool_result` block in the next message.",
        open.join(", ")
    ))
}

/// Text, or a list of texts and pictures; no pictures of what failed.
fn check_result(at: &str, block: &Value) -> Result<(), String> {
    let parts = match &block["content"] {
        Value::Null | Value::String(_) => return Ok(()),
        Value::Array(parts) => parts,
        _ => return Err(format!("{at}.content: Input should be a valid string")),
    };
    for (index, part) in parts.iter().enumerate() {
        let at = format!("{at}.content.{index}");
        match text(&part["type"]) {
            "image" if block["is_error"] == true => {
                return Err(format!(
                    "{at}: all content must be type \"text\" if \"is_error\" is true"
                ));
            }
            "image" => drop(check_image(&at, part)?),
            _ => check_text(&at, part, &mut 0)?,
        }
    }
    Ok(())
}

fn check_image(at: &str, block: &Value) -> Result<Vec<u8>, String> {
    only(at, block, &["type", "source", "cache_control"])?;
    let source = &block["source"];
    only(&format!("{at}.source"), source, &["type", "media_type", "data"])?;
    if source["type"] != "base64" {
        return Err(format!("{at}.source.type: this fake takes base64 alone"));
    }
    picture(
        &format!("{at}.source"),
        text(&source["media_type"]),
        text(&source["data"]),
    )
}

fn check_assistant(
    at: &str,
    blocks: &[Value],
    ids: &mut HashSet<String>,
    marks: &mut usize,
) -> Result<Vec<String>, String> {
    let mut open = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let at = format!("{at}.content.{index}");
        if block["type"] != "tool_use" {
            check_text(&at, block, marks)?;
            continue;
        }
        only(&at, block, &["type", "id", "name", "input", "cache_control"])?;
        mark(&at, block, marks)?;
        let id = text(&block["id"]);
        if !is_name(id, 256) {
            return Err(format!("{at}.id: String should match pattern '^[a-zA-Z0-9_-]+$'"));
        }
        if !is_name(text(&block["name"]), 200) {
            return Err(format!(
                "{at}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,200}}$'"
            ));
        }
        if !block["input"].is_object() {
            return Err(format!("{at}.input: Input should be a valid dictionary"));
        }
        if !ids.insert(id.to_owned()) {
            return Err(format!("{at}: `tool_use` ids must be unique"));
        }
        open.push(id.to_owned());
    }
    Ok(open)
}

fn asked(body: Value, number: usize) -> Asked {
    let mut asked = Asked {
        number,
        last_user: String::new(),
        results: Vec::new(),
        pictures: Vec::new(),
        tools: list(&body["tools"])
            .iter()
            .map(|tool| text(&tool["name"]).to_owned())
            .collect(),
        body: Value::Null,
    };
    let from_user = list(&body["messages"])
        .iter()
        .filter(|message| message["role"] == "user");
    for message in from_user {
        if let Some(said) = message["content"].as_str() {
            hears(&mut asked, said);
        }
        let mut shown = Vec::new();
        for block in list(&message["content"]) {
            match text(&block["type"]) {
                "tool_result" => is_told(&mut asked, &block["content"]),
                "image" => shown.extend(check_image("", block)),
                _ => hears(&mut asked, text(&block["text"])),
            }
        }
        asked.pictures.extend(shown);
    }
    asked.body = body;
    asked
}

fn hears(asked: &mut Asked, said: &str) {
    said.clone_into(&mut asked.last_user);
    asked.results.clear();
    asked.pictures.clear();
}

fn is_told(asked: &mut Asked, content: &Value) {
    let mut words = text(content).to_owned();
    for part in list(content) {
        words.push_str(text(&part["text"]));
        if part["type"] == "image" {
            asked.pictures.extend(check_image("", part));
        }
    }
    asked.results.push(words);
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn frames(saying: &Saying, body: &Value, id: &mut dyn FnMut() -> String) -> Frames {
    let message = json!({"id": format!("msg_{}", id()), "type": "message", "role": "assistant", "content": [],
        "model": body["model"], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 25, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 3, "output_tokens": 1}});
    let mut frames = Frames::default();
    frames.begin.push(event(
        "message_start",
        &json!({"type": "message_start", "message": message}),
    ));
    let mut index = 0;
    if !saying.text.is_empty() {
        let start = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
        frames.begin.push(event("content_block_start", &start));
        frames.begin.push(event("ping", &json!({"type": "ping"})));
        for piece in &saying.text {
            let delta =
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}});
            frames.begin.push(event("content_block_delta", &delta));
        }
        frames.rest.push(event(
            "content_block_stop",
            &json!({"type": "content_block_stop", "index": 0}),
        ));
        index = 1;
    }
    for call in &saying.calls {
        let id = call.id.clone().unwrap_or_else(|| format!("toolu_{}", id()));
        frames.rest.extend(call_frames(index, &id, &call.name, &call.args));
        index += 1;
    }
    let stop = match (saying.cut, saying.calls.is_empty()) {
        (true, _) => "max_tokens",
        (false, true) => "end_turn",
        (false, false) => "tool_use",
    };
    let delta = json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null},
        "usage": {"output_tokens": 15}});
    frames.rest.push(event("message_delta", &delta));
    frames
        .rest
        .push(event("message_stop", &json!({"type": "message_stop"})));
    frames
}

/// The arguments come in pieces, cut anywhere, the first of them empty.
fn call_frames(index: usize, id: &str, name: &str, args: &str) -> Vec<String> {
    let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
    let start = json!({"type": "content_block_start", "index": index, "content_block": block});
    let mut frames = vec![event("content_block_start", &start)];
    let characters: Vec<char> = args.chars().collect();
    let pieces = std::iter::once(String::new()).chain(characters.chunks(5).map(|piece| piece.iter().collect()));
    for piece in pieces {
        let delta = json!({"type": "input_json_delta", "partial_json": piece});
        let delta = json!({"type": "content_block_delta", "index": index, "delta": delta});
        frames.push(event("content_block_delta", &delta));
    }
    frames.push(event(
        "content_block_stop",
        &json!({"type": "content_block_stop", "index": index}),
    ));
    frames
}

fn error(refused: &Refused) -> Value {
    json!({"type": "error", "error": {"type": refused.kind, "message": refused.message}, "request_id": "req_fake"})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(messages: Value) -> Value {
        json!({"model": "m", "max_tokens": 10, "stream": true, "messages": messages,
            "tools": [{"name": "exec", "input_schema": {"type": "object"}}]})
    }

    #[test]
    fn what_the_service_refuses_is_refused() {
        let user = json!({"role": "user", "content": "hi"});
        let use_one =
            json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "exec", "input": {}}]});
        let result = |id: &str| json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id}]});
        let image = |media_type: &str, data: &str| json!({"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}});
        let shown = |image: Value| {
            let result = json!({"type": "tool_result", "tool_use_id": "t1", "content": [image]});
            asking(json!([user, use_one, {"role": "user", "content": [result]}]))
        };
        let good = asking(json!([user, use_one, result("t1")]));
        assert_eq!(check_body(&good), Ok(()));
        let mut without_limit = good.clone();
        without_limit["max_tokens"] = Value::Null;
        let mut unknown = good.clone();
        unknown["prompt"] = json!("x");
        let mut toolless = good.clone();
        toolless["tools"] = json!([]);
        for (body, words) in [
            (shown(image("image/jpeg", "**")), "invalid base64"),
            (shown(image("image/jpeg", "aGk=")), "Could not process"),
            (shown(image("text/plain", "aGk=")), "media_type"),
            (without_limit, "max_tokens: Field required"),
            (unknown, "prompt: Extra inputs"),
            (toolless, "must define tools"),
            (asking(json!([])), "at least one message"),
            (asking(json!([use_one])), "roles must alternate"),
            (asking(json!([user, user])), "roles must alternate"),
            (asking(json!([{"role": "user", "content": []}])), "non-empty content"),
            (asking(json!([{"role": "user", "content": " "}])), "non-whitespace"),
            (asking(json!([user, use_one])), "prefill"),
            (asking(json!([user, use_one, user])), "without `tool_result`"),
            (asking(json!([user, use_one, result("t2")])), "unexpected `tool_use_id`"),
            (asking(json!([result("t1")])), "unexpected `tool_use_id`"),
            (
                asking(json!([user, use_one, result("t1"), use_one, result("t1")])),
                "ids must be unique",
            ),
        ] {
            let refused = check_body(&body).expect_err(words);
            assert!(refused.contains(words), "{refused}");
        }
    }
}
