//! The messages of a conversation: one shape for every model API and for the transcript. Owns no format; each reader and writer of one
//! converts.

use atoll_protocol::json::Json;

/// The only key of the arguments of a tool call whose text was not a JSON object; its value is that text, bounded.
pub const MALFORMED_ARGS: &str = "__malformed";

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// From a person, or from whatever started the turn.
    User(User),
    /// From the model.
    Assistant(Assistant),
    /// The one result of one tool call.
    ToolResult(ToolResult),
}

/// What a person said.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Its parts, mostly one text.
    pub content: Vec<Part>,
}

impl User {
    /// One text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            content: vec![Part::Text(text.into())],
        }
    }

    /// A text, which may be empty, and pictures that came with it.
    pub fn with_media(text: impl Into<String>, media: impl IntoIterator<Item = Media>) -> Self {
        let text = Some(text.into()).filter(|text| !text.is_empty()).map(Part::Text);
        Self {
            content: text.into_iter().chain(media.into_iter().map(Part::Media)).collect(),
        }
    }
}

impl Message {
    /// Its parts, in their order.
    pub fn parts(&self) -> &[Part] {
        match self {
            Self::User(user) => &user.content,
            Self::Assistant(assistant) => &assistant.content,
            Self::ToolResult(result) => &result.content,
        }
    }
}

/// What a model said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assistant {
    /// Text, thinking and tool calls, in the order they came.
    pub content: Vec<Part>,
    /// Who served it, as in `provider/model`.
    pub provider: String,
    /// The model, as in `provider/model`.
    pub model: String,
    /// What it cost.
    pub usage: Usage,
    /// Why it ended.
    pub stop: StopReason,
    /// What the person was told when the turn failed here.
    pub error: Option<String>,
}

impl Assistant {
    /// All text parts, one after the other.
    pub fn text(&self) -> String {
        joined_text(&self.content)
    }

    /// The tool calls, in order.
    pub fn calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.content.iter().filter_map(Part::as_call)
    }
}

/// What a tool gave back.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult {
    /// The id of the call.
    pub call: String,
    /// The tool.
    pub tool: String,
    /// Mostly one text.
    pub content: Vec<Part>,
    /// Whether the tool failed.
    pub is_error: bool,
    /// Whether the effect is unknown. For people and for a resumed turn; the model reads it in the text.
    pub uncertain: bool,
}

impl ToolResult {
    /// All text parts, one after the other.
    pub fn text(&self) -> String {
        joined_text(&self.content)
    }
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// The model's thinking; kept for people, never sent back.
    Thinking(String),
    /// A request to run a tool.
    ToolCall(ToolCall),
    /// Bytes that a tool gave or a person sent, by their handle.
    Media(Media),
    /// A piece of a kind this version does not know (images of an imported transcript, …); kept, never sent.
    Other(Json),
}

impl Part {
    /// The call, if it is one.
    pub fn as_call(&self) -> Option<&ToolCall> {
        match self {
            Self::ToolCall(call) => Some(call),
            Self::Text(_) | Self::Thinking(_) | Self::Media(_) | Self::Other(_) => None,
        }
    }

    /// The bytes, if it names some.
    pub fn as_media(&self) -> Option<&Media> {
        match self {
            Self::Media(media) => Some(media),
            Self::Text(_) | Self::Thinking(_) | Self::ToolCall(_) | Self::Other(_) => None,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::ToolCall(_) | Self::Thinking(_) | Self::Media(_) | Self::Other(_) => None,
        }
    }
}

/// Bytes in the house's media store. Never the bytes themselves: those are read when somebody is shown them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// The store's handle.
    pub handle: String,
    /// A file name, in the words of whoever gave it.
    pub name: String,
    /// What its first bytes say it is, e.g. `image/jpeg`.
    pub mime: String,
    /// Bytes.
    pub size: u64,
    /// What a model can look at; none: it is only told of it.
    pub view: Option<View>,
}

/// A small JPEG of a picture, in the store as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The store's handle.
    pub handle: String,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl View {
    /// Its media type.
    pub const MIME: &str = "image/jpeg";
}

/// A model's wish to run a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Unique in the conversation.
    pub id: String,
    /// The tool.
    pub name: String,
    /// A JSON object, or [`MALFORMED_ARGS`].
    pub args: Json,
}

/// Tokens, as the model's service counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Read without cache.
    pub input: u64,
    /// Written.
    pub output: u64,
    /// Read from the service's cache.
    pub cache_read: u64,
    /// Written to the service's cache.
    pub cache_write: u64,
}

impl Usage {
    /// Everything together.
    pub fn total(&self) -> u64 {
        [self.input, self.output, self.cache_read, self.cache_write]
            .iter()
            .fold(0, |sum, part| sum.saturating_add(*part))
    }

    /// Adds another request's cost.
    pub fn add(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
    }
}

/// Why a model's message ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StopReason {
    /// It had said everything.
    #[default]
    Stop,
    /// It ran into its output limit.
    Length,
    /// It wants tools.
    ToolUse,
    /// The turn failed.
    Error,
    /// The turn was stopped.
    Aborted,
}

/// All text parts, one after the other.
pub fn joined_text(parts: &[Part]) -> String {
    let mut texts = parts.iter().filter_map(Part::as_text);
    let mut all = texts.next().unwrap_or_default().to_owned();
    texts.for_each(|text| all.push_str(text));
    all
}
