//! The body of a request. Borrows what it can and is written straight into bytes: a conversation is sent whole with every step of a turn, and
//! no tree is made of it.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::message::{Assistant, Message, Part, ToolCall, ToolResult, User, View, joined_text};
use crate::model::{Album, ModelRequest};
use crate::tool::ToolDescriptor;

#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    stream: bool,
    stream_options: StreamOptions,
    messages: Vec<Said<'a>>,
    #[serde(flatten)]
    limit: Limit,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// OpenAI's own newer models refuse the old name; other servers know only the old one.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Limit {
    MaxTokens(u32),
    MaxCompletionTokens(u32),
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
enum Said<'a> {
    System {
        content: String,
    },
    User {
        content: Content<'a>,
    },
    Assistant {
        /// Null where there are only calls.
        content: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Called<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: String,
    },
}

/// Words alone are a text, which every server takes; with pictures they are a list.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Words(String),
    List(Vec<Piece<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: Picture },
}

#[derive(Serialize)]
struct Picture {
    url: String,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "function")]
struct Called<'a> {
    id: &'a str,
    function: Arguments<'a>,
}

#[derive(Serialize)]
struct Arguments<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "function")]
struct Tool<'a> {
    function: Offered<'a>,
}

#[derive(Serialize)]
struct Offered<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

pub(super) fn body(request: &ModelRequest) -> Body<'_> {
    let config = &request.config;
    let mut messages = vec![Said::System {
        content: request.system.whole(),
    }];
    conversation(&request.messages, &request.album, &mut messages);
    Body {
        model: &config.name.model,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        messages,
        limit: if config.base_url.contains("//api.openai.com") {
            Limit::MaxCompletionTokens(config.max_tokens)
        } else {
            Limit::MaxTokens(config.max_tokens)
        },
        tools: request.tools.iter().map(tool).collect(),
    }
}

fn tool(descriptor: &ToolDescriptor) -> Tool<'_> {
    Tool {
        function: Offered {
            name: &descriptor.name,
            description: &descriptor.description,
            parameters: &descriptor.parameters,
        },
    }
}

/// A message with the result of a tool holds text alone, so pictures follow all results of one step as a message of the user's.
fn conversation<'a>(messages: &'a [Arc<Message>], album: &Album, wired: &mut Vec<Said<'a>>) {
    let mut pictures = Vec::new();
    for message in messages {
        if let Message::ToolResult(result) = &**message {
            wired.push(tool_result(result, album, &mut pictures));
            continue;
        }
        wired.extend(looked_at(std::mem::take(&mut pictures)));
        wired.extend(match &**message {
            Message::User(said) => user(said, album),
            Message::Assistant(said) => assistant(said),
            Message::ToolResult(_) => None,
        });
    }
    wired.extend(looked_at(pictures));
}

fn tool_result<'a>(result: &'a ToolResult, album: &Album, pictures: &mut Vec<Piece<'a>>) -> Said<'a> {
    let content = with_pictures(&result.content, result.text(), album, pictures);
    Said::Tool {
        tool_call_id: &result.call,
        content,
    }
}

/// The text, with a word for each picture that cannot be shown; the others go to the list.
fn with_pictures(parts: &[Part], mut text: String, album: &Album, pictures: &mut Vec<Piece<'_>>) -> String {
    let media = parts.iter().filter_map(Part::as_media);
    for media in media.filter(|media| media.view.is_some()) {
        match album.show(media) {
            Ok(data) => pictures.push(image(data)),
            Err(words) => text.push_str(&words),
        }
    }
    text
}

fn image<'a>(data: &str) -> Piece<'a> {
    let url = format!("data:{};base64,{data}", View::MIME);
    Piece::ImageUrl {
        image_url: Picture { url },
    }
}

fn looked_at<'a>(mut pictures: Vec<Piece<'a>>) -> Option<Said<'a>> {
    if pictures.is_empty() {
        return None;
    }
    let text = "[The pictures of the tool results above, in their order]".into();
    pictures.insert(0, Piece::Text { text });
    Some(Said::User {
        content: Content::List(pictures),
    })
}

fn user<'a>(user: &'a User, album: &Album) -> Option<Said<'a>> {
    let mut pictures = Vec::new();
    let text = with_pictures(&user.content, joined_text(&user.content), album, &mut pictures);
    let has_text = !text.trim().is_empty();
    let content = match (has_text, pictures.is_empty()) {
        (false, true) => return None,
        (true, true) => Content::Words(text),
        (_, false) => {
            if has_text {
                pictures.insert(0, Piece::Text { text: text.into() });
            }
            Content::List(pictures)
        }
    };
    Some(Said::User { content })
}

fn assistant(said: &Assistant) -> Option<Said<'_>> {
    let text = said.text();
    let has_text = !text.trim().is_empty();
    let tool_calls: Vec<_> = said.calls().map(call).collect();
    (has_text || !tool_calls.is_empty()).then(|| Said::Assistant {
        content: has_text.then_some(text),
        tool_calls,
    })
}

fn call(call: &ToolCall) -> Called<'_> {
    Called {
        id: &call.id,
        function: Arguments {
            name: &call.name,
            arguments: call.args.as_str(),
        },
    }
}
