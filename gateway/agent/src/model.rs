//! Models: their names, how they are reached, and one question with its streamed answer. Owns no retry (that is the turn's) and
//! no conversation.

pub mod error;

mod anthropic;
mod http;
mod openai;
mod sse;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::json::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use tokio::sync::mpsc;

pub use http::{BuildError, HttpModels};

use crate::message::{Assistant, MALFORMED_ARGS, Media, Message, Part};
use crate::port::Pictures;
use crate::prompt::SystemPrompt;
use crate::tool::ToolDescriptor;
use crate::turn::view;
use error::ModelError;

/// A model as people write it: `provider/model`. The model's own name may hold further slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelRef {
    /// The key under `models.providers`.
    pub provider: String,
    /// What that provider calls it.
    pub model: String,
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

/// Not `provider/model`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a model is written provider/model, for example anthropic/claude-sonnet-4-5; got {0:?}")]
pub struct BadModelRef(String);

impl FromStr for ModelRef {
    type Err = BadModelRef;

    fn from_str(text: &str) -> Result<Self, BadModelRef> {
        match text.split_once('/') {
            Some((provider, model)) if !provider.trim().is_empty() && !model.trim().is_empty() => Ok(Self {
                provider: provider.trim().to_owned(),
                model: model.trim().to_owned(),
            }),
            Some(_) | None => Err(BadModelRef(text.to_owned())),
        }
    }
}

/// The language of a model's service; the names are those of `models.providers.<id>.api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `anthropic-messages`
    AnthropicMessages,
    /// `openai-completions`
    OpenAiCompletions,
}

impl Api {
    /// The configuration's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "anthropic-messages",
            Self::OpenAiCompletions => "openai-completions",
        }
    }
}

/// Not the name of an API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown model API {0:?}; allowed: anthropic-messages, openai-completions")]
pub struct BadApi(String);

impl FromStr for Api {
    type Err = BadApi;

    fn from_str(text: &str) -> Result<Self, BadApi> {
        [Self::AnthropicMessages, Self::OpenAiCompletions]
            .into_iter()
            .find(|api| api.as_str() == text)
            .ok_or_else(|| BadApi(text.to_owned()))
    }
}

/// How one model is reached.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// Its name, for people and for the transcript.
    pub name: ModelRef,
    /// Where: `https://api.anthropic.com`, `https://api.openai.com/v1`, …
    pub base_url: String,
    /// The key; a local server may need none.
    pub api_key: Option<SecretString>,
    /// The language.
    pub api: Api,
    /// What it can hold, tokens.
    pub context_window: u32,
    /// The longest answer to ask for, tokens.
    pub max_tokens: u32,
    /// Whether it can look at pictures (`models[].input` names `image`).
    pub sees: bool,
    /// How long to wait for it.
    pub deadlines: ModelDeadlines,
}

/// How long to wait for a connection to a model's server.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait for a model; each must be shorter than the turn.
#[derive(Debug, Clone, Copy)]
pub struct ModelDeadlines {
    /// From the question to the first piece of content.
    pub first_token: Duration,
    /// Between two pieces of content; keep-alives do not count.
    pub silence: Duration,
}

impl Default for ModelDeadlines {
    fn default() -> Self {
        Self {
            first_token: Duration::from_secs(120),
            silence: Duration::from_secs(60),
        }
    }
}

/// One question.
#[derive(Debug)]
pub struct ModelRequest {
    /// To whom.
    pub config: Arc<ModelConfig>,
    /// Who the agent is.
    pub system: Arc<SystemPrompt>,
    /// What it can use.
    pub tools: Arc<[ToolDescriptor]>,
    /// The conversation, fitted, calls and results paired.
    pub messages: Vec<Arc<Message>>,
    /// The pictures that it names and that are still there.
    pub album: Album,
}

/// The bytes of the pictures of one request as base64, by the handles of their views.
#[derive(Debug, Default)]
pub struct Album(HashMap<String, String>);

/// What stands in a request for a picture that is not there any more.
const GONE: &str = "it is not in the media store any more";

impl Album {
    /// Reads every picture that these messages show.
    pub async fn of(messages: &[Arc<Message>], pictures: &dyn Pictures) -> Self {
        let mut album = HashMap::new();
        for handle in shown(messages) {
            if let Some(bytes) = pictures.view(&handle).await {
                album.insert(handle, STANDARD.encode(bytes));
            }
        }
        Self(album)
    }

    /// The base64 of a picture, or the words for one that has none.
    fn show<'a>(&'a self, media: &Media) -> Result<&'a str, String> {
        let view = media.view.as_ref().and_then(|view| self.0.get(&view.handle));
        view.map(String::as_str).ok_or_else(|| view::not_shown(media, GONE))
    }
}

/// The pictures that messages show, each once.
fn shown(messages: &[Arc<Message>]) -> BTreeSet<String> {
    let mut handles = BTreeSet::new();
    for message in messages {
        let media = message.parts().iter().filter_map(Part::as_media);
        let views = media.filter_map(|media| media.view.as_ref());
        handles.extend(views.map(|view| view.handle.clone()));
    }
    handles
}

/// Whoever can ask models. The gateway uses [`HttpModels`]; tests script it.
#[async_trait]
pub trait Models: Send + Sync {
    /// Asks, sends the pieces of text as they come, and gives the whole message. Dropping the future ends the request.
    ///
    /// # Errors
    /// No whole message, for the reason given. Pieces that were sent before it are void.
    async fn ask(&self, request: ModelRequest, pieces: &mpsc::Sender<String>) -> Result<Assistant, ModelError>;
}

/// The JSON of an event; `None` for an event without any.
fn read_event<T: serde::de::DeserializeOwned>(data: &str) -> Result<Option<T>, ModelError> {
    if data.trim().is_empty() {
        return Ok(None);
    }
    serde_json::from_str(data)
        .map(Some)
        .map_err(|error| ModelError::Protocol {
            detail: format!("an event that is not the API's: {error}"),
        })
}

/// How much of unreadable arguments is kept, characters.
const MALFORMED_KEPT: usize = 2_000;

/// The arguments of a call, put together from its pieces. What is not a JSON object is kept as text, for the model to see.
fn arguments(text: &str) -> Json {
    let text = if text.trim().is_empty() { "{}" } else { text };
    match Json::parse(text) {
        Ok(json) if text.trim_start().starts_with('{') => json,
        Ok(_) | Err(_) => {
            let kept: String = text.chars().take(MALFORMED_KEPT).collect();
            Json::from(serde_json::json!({ MALFORMED_ARGS: kept }))
        }
    }
}
