//! A fake of the OpenAI Chat Completions API. Sources: <https://platform.openai.com/docs/api-reference/chat>,
//! <https://platform.openai.com/docs/guides/error-codes>

use std::collections::HashSet;
use std::ops::Deref;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::model::{Asked, Dialect, Frames, ModelServer, Refused, Saying, Script, Step, is_name, list, picture, text};

/// The server; stops when dropped.
pub struct FakeOpenAi(ModelServer);

impl Deref for FakeOpenAi {
    type Target = ModelServer;

    fn deref(&self) -> &ModelServer {
        &self.0
    }
}

impl FakeOpenAi {
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
        format!("{}/v1", self.origin())
    }
}

const DIALECT: Dialect = Dialect {
    path: "/v1/chat/completions",
    check,
    asked,
    frames,
    error,
    stream_error: |refused| event(&error(refused)),
};

const KNOWN: [&str; 22] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "n",
    "stop",
    "seed",
    "user",
    "metadata",
    "store",
    "reasoning_effort",
    "response_format",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
];

fn check(headers: &HeaderMap, body: &Value, key: &str) -> Result<(), Refused> {
    let given = headers.get("authorization").and_then(|value| value.to_str().ok());
    match given.and_then(|given| given.strip_prefix("Bearer ")) {
        Some(given) if given == key => check_body(body).map_err(Refused::invalid),
        Some(given) => {
            let message = format!("Incorrect API key provided: {given}. You can find your API key in your settings.");
            Err(Refused::new(401, "invalid_api_key", message))
        }
        None => Err(Refused::new(
            401,
            "invalid_request_error",
            "You didn't provide an API key.",
        )),
    }
}

fn check_body(body: &Value) -> Result<(), String> {
    let object = body
        .as_object()
        .ok_or("We could not parse the JSON body of your request.")?;
    if let Some(key) = object.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(format!("Unrecognized request argument supplied: {key}"));
    }
    if text(&body["model"]).is_empty() {
        return Err("you must provide a model parameter".to_owned());
    }
    if body["stream"] != true {
        return Err("this fake only streams".to_owned());
    }
    if object.contains_key("max_tokens") && object.contains_key("max_completion_tokens") {
        return Err("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.".to_owned());
    }
    for limit in ["max_tokens", "max_completion_tokens"] {
        if object
            .get(limit)
            .is_some_and(|tokens| tokens.as_u64().is_none_or(|tokens| tokens == 0))
        {
            return Err(format!("Invalid '{limit}': integer below minimum value."));
        }
    }
    if object.contains_key("tools") {
        check_tools(list(&body["tools"]))?;
    }
    check_messages(list(&body["messages"]))
}

fn check_tools(tools: &[Value]) -> Result<(), String> {
    if tools.is_empty() {
        return Err("Invalid 'tools': empty array. Expected an array with minimum length 1.".to_owned());
    }
    for (index, tool) in tools.iter().enumerate() {
        let name = text(&tool["function"]["name"]);
        if tool["type"] != "function" || !is_name(name, 64) {
            return Err(format!(
                "Invalid 'tools[{index}].function.name': string does not match pattern."
            ));
        }
        if tool["function"]["parameters"]["type"] != "object" {
            return Err(format!(
                "Invalid schema for function '{name}': schema must be of type 'object'."
            ));
        }
    }
    Ok(())
}

fn check_messages(messages: &[Value]) -> Result<(), String> {
    if messages.is_empty() {
        return Err("Invalid 'messages': empty array. Expected an array with minimum length 1.".to_owned());
    }
    let mut ids = HashSet::new();
    let mut open: Vec<String> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let at = format!("messages.[{index}]");
        let role = text(&message["role"]);
        if role == "tool" {
            answered(&at, message, &mut open)?;
            continue;
        }
        all_answered(&open)?;
        match role {
            "system" | "developer" => check_content(&at, &message["content"])?,
            "user" => {
                check_content(&at, &message["content"])?;
                pictures_of(&at, &message["content"])?;
            }
            "assistant" => open = check_assistant(&at, message, &mut ids)?,
            other => {
                return Err(format!(
                    "Invalid value: '{other}'. Supported values are: 'system', 'assistant', 'user', …"
                ));
            }
        }
    }
    all_answered(&open)
}

fn answered(at: &str, message: &Value, open: &mut Vec<String>) -> Result<(), String> {
    let id = text(&message["tool_call_id"]);
    let Some(place) = open.iter().position(|open| open == id) else {
        return Err(format!(
            "Invalid parameter: {at}: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
        ));
    };
    open.remove(place);
    if message["content"].is_string() {
        return Ok(());
    }
    if list(&message["content"]).iter().any(|part| part["type"] != "text") {
        return Err(format!(
            "Invalid {at}.content: messages with role 'tool' hold text alone."
        ));
    }
    if message["content"].is_array() {
        return Ok(());
    }
    Err(format!(
        "Invalid value for 'content' of {at}: expected a string, got null."
    ))
}

fn all_answered(open: &[String]) -> Result<(), String> {
    if open.is_empty() {
        return Ok(());
    }
    Err(format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The \
         following tool_call_ids did not have response messages: {}",
        open.join(", ")
    ))
}

fn check_content(at: &str, content: &Value) -> Result<(), String> {
    let empty = match content {
        Value::String(text) => text.is_empty(),
        Value::Array(parts) => parts.is_empty(),
        _ => true,
    };
    if empty {
        Err(format!(
            "Invalid value for 'content' of {at}: expected a string, got null."
        ))
    } else {
        Ok(())
    }
}

/// The pictures of a message whose content is a list.
fn pictures_of(at: &str, content: &Value) -> Result<Vec<Vec<u8>>, String> {
    let mut pictures = Vec::new();
    for (index, part) in list(content).iter().enumerate() {
        let at = format!("{at}.content.[{index}]");
        match text(&part["type"]) {
            "text" => check_content(&at, &part["text"])?,
            "image_url" => {
                let url = text(&part["image_url"]["url"]).strip_prefix("data:");
                let (media_type, data) = url
                    .and_then(|url| url.split_once(";base64,"))
                    .ok_or_else(|| format!("{at}: this fake takes data URLs alone"))?;
                pictures.push(picture(&at, media_type, data)?);
            }
            other => return Err(format!("Invalid value: '{other}' in {at}.")),
        }
    }
    Ok(pictures)
}

fn check_assistant(at: &str, message: &Value, ids: &mut HashSet<String>) -> Result<Vec<String>, String> {
    let Some(calls) = message.get("tool_calls") else {
        return check_content(at, &message["content"]).map(|()| Vec::new());
    };
    if list(calls).is_empty() {
        return Err(format!("[] is too short - '{at}.tool_calls'"));
    }
    let mut open = Vec::new();
    for call in list(calls) {
        let id = text(&call["id"]);
        if id.is_empty() || id.len() > 40 {
            return Err(format!(
                "Invalid '{at}.tool_calls.id': string too long or missing, 40 at most."
            ));
        }
        if call["type"] != "function" || !is_name(text(&call["function"]["name"]), 64) {
            return Err(format!("Invalid '{at}.tool_calls.function.name'."));
        }
        let args = serde_json::from_str::<Value>(text(&call["function"]["arguments"]));
        if !args.is_ok_and(|args| args.is_object()) {
            return Err(format!(
                "Invalid '{at}.tool_calls.function.arguments': expected an object as a string."
            ));
        }
        if !ids.insert(id.to_owned()) {
            return Err(format!("Duplicate value for 'tool_call_id' of '{id}' in {at}"));
        }
        open.push(id.to_owned());
    }
    Ok(open)
}

/// A text, or the texts of a list.
fn words(content: &Value) -> String {
    let parts = list(content).iter().map(|part| text(&part["text"]));
    std::iter::once(text(content)).chain(parts).collect()
}

fn asked(body: Value, number: usize) -> Asked {
    let mut last_user = String::new();
    let (mut results, mut pictures) = (Vec::new(), Vec::new());
    let mut before = "";
    for message in list(&body["messages"]) {
        let role = text(&message["role"]);
        let shown = pictures_of("", &message["content"]).unwrap_or_default();
        match role {
            // Pictures of tools are no words of a person.
            "user" if before == "tool" && !shown.is_empty() => pictures.extend(shown),
            "user" => {
                last_user = words(&message["content"]);
                results.clear();
                pictures = shown;
            }
            "tool" => results.push(text(&message["content"]).to_owned()),
            _ => {}
        }
        before = role;
    }
    let tools = list(&body["tools"])
        .iter()
        .map(|tool| text(&tool["function"]["name"]).to_owned())
        .collect();
    Asked {
        number,
        body,
        last_user,
        results,
        pictures,
        tools,
    }
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn frames(saying: &Saying, body: &Value, id: &mut dyn FnMut() -> String) -> Frames {
    let completion = format!("chatcmpl-{}", id());
    let chunk = |choices: Value, usage: Value| {
        event(
            &json!({"id": completion, "object": "chat.completion.chunk", "created": 1, "model": body["model"],
            "choices": choices, "usage": usage}),
        )
    };
    let delta = |delta: Value| {
        chunk(
            json!([{"index": 0, "delta": delta, "finish_reason": null}]),
            Value::Null,
        )
    };
    let mut frames = Frames::default();
    frames.begin.push(delta(json!({"role": "assistant", "content": ""})));
    frames
        .begin
        .extend(saying.text.iter().map(|piece| delta(json!({"content": piece}))));
    for (index, call) in saying.calls.iter().enumerate() {
        let id = call.id.clone().unwrap_or_else(|| format!("call_{}", id()));
        let function = json!({"name": call.name, "arguments": ""});
        let start = json!([{"index": index, "id": id, "type": "function", "function": function}]);
        frames.rest.push(delta(json!({"tool_calls": start})));
        let characters: Vec<char> = call.args.chars().collect();
        for piece in characters.chunks(5) {
            let piece: String = piece.iter().collect();
            let more = json!([{"index": index, "function": {"arguments": piece}}]);
            frames.rest.push(delta(json!({"tool_calls": more})));
        }
    }
    let stop = match (saying.cut, saying.calls.is_empty()) {
        (true, _) => "length",
        (false, true) => "stop",
        (false, false) => "tool_calls",
    };
    frames.rest.push(chunk(
        json!([{"index": 0, "delta": {}, "finish_reason": stop}]),
        Value::Null,
    ));
    if body["stream_options"]["include_usage"] == true {
        let usage = json!({"prompt_tokens": 28, "completion_tokens": 15, "total_tokens": 43,
            "prompt_tokens_details": {"cached_tokens": 3}});
        frames.rest.push(chunk(json!([]), usage));
    }
    frames.rest.push("data: [DONE]\n\n".to_owned());
    frames
}

fn error(refused: &Refused) -> Value {
    let code = if refused.kind == "invalid_request_error" {
        Value::Null
    } else {
        refused.kind.into()
    };
    json!({"error": {"message": refused.message, "type": "invalid_request_error", "param": null, "code": code}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(messages: Value) -> Value {
        json!({"model": "m", "stream": true, "messages": messages})
    }

    #[test]
    fn what_the_service_refuses_is_refused() {
        let user = json!({"role": "user", "content": "hi"});
        let function = json!({"name": "exec", "arguments": "{}"});
        let calls = json!([{"id": "c1", "type": "function", "function": function}]);
        let calling = json!({"role": "assistant", "content": null, "tool_calls": calls});
        let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": ""});
        let good = asking(json!([user, calling, result("c1")]));
        assert_eq!(check_body(&good), Ok(()));
        let with = |key: &str, value: Value| {
            let mut body = good.clone();
            body[key] = value;
            body
        };
        for (body, words) in [
            (
                with("prompt", json!("x")),
                "Unrecognized request argument supplied: prompt",
            ),
            (with("tools", json!([])), "empty array"),
            (
                asking(
                    json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,aGk="}}]}]),
                ),
                "Could not process",
            ),
            (
                asking(
                    json!([user, calling, {"role": "tool", "tool_call_id": "c1", "content": [{"type": "image_url"}]}]),
                ),
                "hold text alone",
            ),
            (with("max_tokens", json!(0)), "max_tokens"),
            (asking(json!([])), "empty array"),
            (asking(json!([{"role": "user", "content": ""}])), "content"),
            (asking(json!([{"role": "assistant", "content": null}])), "content"),
            (
                asking(json!([{"role": "assistant", "content": "x", "tool_calls": []}])),
                "too short",
            ),
            (asking(json!([user, result("c1")])), "must be a response"),
            (asking(json!([user, calling, user])), "did not have response"),
            (asking(json!([user, calling])), "did not have response"),
            (
                asking(json!([user, calling, result("c1"), result("c1")])),
                "must be a response",
            ),
            (
                asking(json!([user, calling, result("c1"), calling, result("c1")])),
                "Duplicate",
            ),
        ] {
            let refused = check_body(&body).expect_err(words);
            assert!(refused.contains(words), "{refused}");
        }
    }
}
