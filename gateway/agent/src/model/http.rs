//! Asking a model over HTTP: one client for all, deadlines for connection, first content and silence, errors without secrets.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::error::{ModelError, Refusal};
use super::sse::{Sse, SseEvent};
use super::{Api, ModelConfig, ModelRequest, Models, anthropic, openai};
use crate::message::Assistant;

/// An error page, bytes; the rest is not read.
const ERROR_BODY: usize = 64 * 1024;
/// What is shown of it, characters.
const ERROR_DETAIL: usize = 300;

/// The TLS roots or the resolver could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for models could not be made")]
pub struct BuildError(#[from] reqwest::Error);

/// Models behind HTTP.
#[derive(Debug, Clone)]
pub struct HttpModels {
    client: Client,
}

impl HttpModels {
    /// One is enough for the process: it keeps connections. `connect` bounds the making of one, TLS included.
    ///
    /// # Errors
    /// The HTTP client could not be made.
    pub fn new(connect: Duration) -> Result<Self, BuildError> {
        let client = Client::builder()
            .user_agent(concat!("atoll/", env!("CARGO_PKG_VERSION")))
            // A key must not follow a redirect to another host.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(connect)
            .pool_idle_timeout(Duration::from_secs(90))
            .build()?;
        Ok(Self { client })
    }
}

#[async_trait]
impl Models for HttpModels {
    async fn ask(&self, request: ModelRequest, pieces: &mpsc::Sender<String>) -> Result<Assistant, ModelError> {
        let config = Arc::clone(&request.config);
        let mut message = match config.api {
            Api::AnthropicMessages => {
                let http = anthropic::request(&self.client, &request);
                converse(http, &config, anthropic::Reader::default(), pieces).await
            }
            Api::OpenAiCompletions => {
                let http = openai::request(&self.client, &request);
                converse(http, &config, openai::Reader::default(), pieces).await
            }
        }?;
        message.provider.clone_from(&config.name.provider);
        message.model.clone_from(&config.name.model);
        Ok(message)
    }
}

/// What an event of the stream meant.
pub(super) enum Heard {
    /// More text of the answer.
    Text(String),
    /// Content that is not text: thinking, arguments of a call.
    Content,
    /// Nothing that counts as content.
    Nothing,
    /// The message is whole.
    End,
}

/// The reader of one API's stream.
pub(super) trait Reader {
    fn hear(&mut self, event: &SseEvent) -> Result<Heard, ModelError>;
    /// The message, if the stream ended where it may.
    fn message(self) -> Result<Assistant, ModelError>;
}

async fn converse<R: Reader>(
    http: RequestBuilder,
    config: &ModelConfig,
    mut reader: R,
    pieces: &mpsc::Sender<String>,
) -> Result<Assistant, ModelError> {
    let deadlines = config.deadlines;
    let mut clock = Clock::starting(deadlines.first_token);
    let response = clock
        .wait(http.send())
        .await?
        .map_err(|error| unreachable_server(&error, config))?;
    if !response.status().is_success() {
        return Err(refusal(response, config, &mut clock).await);
    }
    let mut sse = Sse::default();
    let mut body = response.bytes_stream();
    loop {
        let chunk = clock.wait(body.next()).await?;
        let events = match chunk {
            Some(Ok(bytes)) => sse.feed(&bytes).map_err(|error| protocol(&error))?,
            Some(Err(error)) => return Err(unreachable_server(&error, config)),
            None => {
                if let Some(event) = sse.end() {
                    reader.hear(&event).map_err(|error| without_key(error, config))?;
                }
                return reader.message();
            }
        };
        for event in &events {
            match reader.hear(event).map_err(|error| without_key(error, config))? {
                Heard::Text(text) => {
                    clock.heard(deadlines.silence);
                    // Whoever reads the pieces may have gone; the message still counts.
                    let _ = pieces.send(text).await;
                }
                Heard::Content => clock.heard(deadlines.silence),
                Heard::Nothing => {}
                Heard::End => return reader.message(),
            }
        }
    }
}

/// The deadline that runs now, with its reason.
struct Clock {
    until: Instant,
    after: Duration,
}

impl Clock {
    fn starting(after: Duration) -> Self {
        Self {
            until: Instant::now() + after,
            after,
        }
    }

    fn heard(&mut self, after: Duration) {
        *self = Self::starting(after);
    }

    async fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, ModelError> {
        timeout_at(self.until, future)
            .await
            .map_err(|_| ModelError::Silent { after: self.after })
    }
}

fn protocol(error: &dyn std::error::Error) -> ModelError {
    ModelError::Protocol {
        detail: error.to_string(),
    }
}

/// The innermost cause says what happened ("connection refused"); the outer ones repeat the address.
fn unreachable_server(error: &reqwest::Error, config: &ModelConfig) -> ModelError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    ModelError::Connection {
        detail: shown(&cause.to_string(), config.api_key.as_ref()),
    }
}

async fn refusal(response: Response, config: &ModelConfig, clock: &mut Clock) -> ModelError {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    clock.heard(Duration::from_secs(5));
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Ok(Some(Ok(chunk))) = clock.wait(stream.next()).await {
        body.extend_from_slice(&chunk);
        if body.len() >= ERROR_BODY {
            body.truncate(ERROR_BODY);
            break;
        }
    }
    let said = ErrorBody::read(&body);
    Refusal {
        status,
        kind: &said.kind,
        detail: shown(&said.message, config.api_key.as_ref()),
        retry_after,
    }
    .into()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms")
        .map(|ms| ms / 1000.0)
        .or_else(|| number("retry-after"))?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Both APIs say `{"error": {"type", "message", …}}`; OpenAI's has a finer `code`, and servers that imitate it say all sorts.
#[derive(Debug, Default)]
pub(super) struct ErrorBody {
    pub kind: String,
    pub message: String,
}

#[derive(Deserialize)]
struct ErrorEnvelope {
    error: ErrorFields,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ErrorFields {
    r#type: serde_json::Value,
    code: serde_json::Value,
    message: String,
}

impl ErrorBody {
    pub(super) fn read(body: &[u8]) -> Self {
        let Ok(ErrorEnvelope { error }) = serde_json::from_slice(body) else {
            let message = String::from_utf8_lossy(body).into_owned();
            return Self {
                kind: String::new(),
                message,
            };
        };
        let kind = error.code.as_str().or(error.r#type.as_str()).unwrap_or_default();
        Self {
            kind: kind.to_owned(),
            message: error.message,
        }
    }
}

/// One bounded line without the key, which some services repeat in their refusal.
fn shown(text: &str, key: Option<&SecretString>) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(key) = key.map(ExposeSecret::expose_secret).filter(|key| !key.is_empty()) {
        text = text.replace(key, "[key]");
    }
    if text.is_empty() {
        "no reason given".clone_into(&mut text);
    }
    if text.chars().count() > ERROR_DETAIL {
        text = text.chars().take(ERROR_DETAIL).chain(['…']).collect();
    }
    text
}

fn without_key(mut error: ModelError, config: &ModelConfig) -> ModelError {
    if let Some(detail) = error.detail_mut() {
        *detail = shown(detail, config.api_key.as_ref());
    }
    error
}
