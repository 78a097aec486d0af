//! What the fake model servers share: a script of answers, a record of questions, and an HTTP server on a free port.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a fake does with one question.
#[derive(Debug, Clone)]
pub enum Step {
    /// Answers.
    Say(Saying),
    /// Answers with an error status. `kind` is the API's word, e.g. `rate_limit_error`.
    Refuse {
        /// HTTP.
        status: u16,
        /// The API's word.
        kind: &'static str,
        /// The API's sentence.
        message: String,
        /// The header `retry-after`, seconds.
        retry_after: Option<u64>,
    },
    /// Takes the question and never answers.
    Hang,
    /// Begins to answer, then says nothing more and keeps the connection.
    Stall(Saying),
    /// Begins to answer, then drops the connection.
    Disconnect(Saying),
    /// Begins to answer, then sends an error inside the stream.
    FailInStream(Saying, &'static str),
    /// Sends these bytes with status 200, as a broken proxy would.
    Raw(String),
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Saying {
    /// Pieces of text.
    pub text: Vec<String>,
    /// Calls of tools, after the text.
    pub calls: Vec<Call>,
    /// Before the first byte of the body.
    pub delay: Duration,
    /// The output limit ended it.
    pub cut: bool,
}

/// A call of a tool.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its id; none makes a new one.
    pub id: Option<String>,
    /// The tool.
    pub name: String,
    /// Its arguments as text, so that broken ones can be sent.
    pub args: String,
}

impl Step {
    /// Answers with one text.
    pub fn say(text: impl Into<String>) -> Self {
        Self::Say(Saying::text(text))
    }

    /// Calls one tool.
    pub fn call(name: &str, args: &Value) -> Self {
        Self::Say(Saying::default().and_call(name, args))
    }

    /// Refuses as a busy service does.
    pub fn refuse(status: u16, kind: &'static str, message: &str) -> Self {
        Self::Refuse {
            status,
            kind,
            message: message.to_owned(),
            retry_after: None,
        }
    }
}

impl Saying {
    /// One text, in a few pieces.
    pub fn text(text: impl Into<String>) -> Self {
        let characters: Vec<char> = text.into().chars().collect();
        Self {
            text: characters.chunks(7).map(|piece| piece.iter().collect()).collect(),
            ..Self::default()
        }
    }

    /// Adds a call.
    #[must_use]
    pub fn and_call(mut self, name: &str, args: &Value) -> Self {
        self.calls.push(Call {
            id: None,
            name: name.to_owned(),
            args: args.to_string(),
        });
        self
    }
}

/// One question, as the script sees it: the same for every API.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Counts the accepted questions from 0.
    pub number: usize,
    /// The whole body.
    pub body: Value,
    /// The last thing a person said.
    pub last_user: String,
    /// The texts of the tool results since then.
    pub results: Vec<String>,
    /// The pictures since then, decodable JPEGs.
    pub pictures: Vec<Vec<u8>>,
    /// The names of the tools on offer.
    pub tools: Vec<String>,
}

/// Decides what to do with a question.
pub type Script = Box<dyn Fn(&Asked) -> Step + Send + Sync>;

/// Why a question was refused.
#[derive(Debug, Clone)]
pub struct Refused {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }
}

/// The events of one answer, ready to be sent.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Up to and including the text.
    pub begin: Vec<String>,
    /// Calls, and the end.
    pub rest: Vec<String>,
}

/// What differs between the APIs.
pub(crate) struct Dialect {
    pub path: &'static str,
    /// Refuses what the real service refuses.
    pub check: fn(&HeaderMap, &Value, &str) -> Result<(), Refused>,
    /// The question in common terms.
    pub asked: fn(Value, usize) -> Asked,
    pub frames: fn(&Saying, &Value, &mut dyn FnMut() -> String) -> Frames,
    /// The body of an error.
    pub error: fn(&Refused) -> Value,
    /// An error inside a stream.
    pub stream_error: fn(&Refused) -> String,
}

/// A fake model server; stops when dropped.
pub struct ModelServer {
    address: SocketAddr,
    house: Arc<House>,
    task: JoinHandle<()>,
}

struct House {
    dialect: Dialect,
    key: String,
    script: Script,
    /// The answer to every question, looked at by nobody; for benchmarks.
    instant: Option<Bytes>,
    ids: AtomicUsize,
    asked: Mutex<Vec<Asked>>,
    refused: Mutex<Vec<String>>,
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ModelServer {
    pub(crate) async fn start(dialect: Dialect, key: &str, script: Script) -> Self {
        Self::serve(dialect, key, script, None).await
    }

    /// Answers every question with the same text at once, and neither checks nor keeps it.
    pub(crate) async fn instant(dialect: Dialect, text: &str) -> Self {
        let frames = (dialect.frames)(&Saying::text(text), &Value::Null, &mut String::new);
        let body: String = frames.begin.into_iter().chain(frames.rest).collect();
        let never: Script = Box::new(|_| Step::Hang);
        Self::serve(dialect, "", never, Some(body.into())).await
    }

    async fn serve(dialect: Dialect, key: &str, script: Script, instant: Option<Bytes>) -> Self {
        let house = Arc::new(House {
            dialect,
            key: key.to_owned(),
            script,
            instant,
            ids: AtomicUsize::new(0),
            asked: Mutex::default(),
            refused: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&house));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serves until it is dropped");
        });
        Self { address, house, task }
    }

    /// `http://127.0.0.1:<port>`
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The questions that passed the checks, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.house.asked.lock().expect("no panic while held").clone()
    }

    /// Why questions were refused. Empty, unless a test asks badly on purpose.
    pub fn refused(&self) -> Vec<String> {
        self.house.refused.lock().expect("no panic while held").clone()
    }
}

impl House {
    fn refusal(&self, refused: &Refused, retry_after: Option<u64>) -> Response<Body> {
        let status = StatusCode::from_u16(refused.status).expect("a status");
        let body = (self.dialect.error)(refused).to_string();
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }

    fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap, bytes: &[u8]) -> Result<Asked, Refused> {
        if uri.path() != self.dialect.path || method != Method::POST {
            return Err(Refused::new(
                404,
                "not_found_error",
                format!("Not found: {method} {uri}"),
            ));
        }
        if headers
            .get(header::CONTENT_TYPE)
            .is_none_or(|kind| kind != "application/json")
        {
            return Err(Refused::invalid("content-type must be application/json"));
        }
        let body = serde_json::from_slice(bytes)
            .map_err(|error| Refused::invalid(format!("The request body is not valid JSON: {error}")))?;
        (self.dialect.check)(headers, &body, &self.key)?;
        let mut all = self.asked.lock().expect("no panic while held");
        let asked = (self.dialect.asked)(body, all.len());
        all.push(asked.clone());
        Ok(asked)
    }

    fn frames(&self, saying: &Saying, body: &Value) -> Frames {
        let mut id = || format!("{:08}", self.ids.fetch_add(1, Ordering::Relaxed));
        (self.dialect.frames)(saying, body, &mut id)
    }
}

async fn answer(
    State(house): State<Arc<House>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response<Body> {
    if let Some(body) = &house.instant {
        return streamed(Body::from(body.clone()));
    }
    let asked = match house.admit(&method, &uri, &headers, &bytes) {
        Ok(asked) => asked,
        Err(refused) => {
            house
                .refused
                .lock()
                .expect("no panic while held")
                .push(refused.message.clone());
            return house.refusal(&refused, None);
        }
    };
    perform(&house, (house.script)(&asked), &asked.body).await
}

async fn perform(house: &House, step: Step, body: &Value) -> Response<Body> {
    match step {
        Step::Refuse {
            status,
            kind,
            message,
            retry_after,
        } => house.refusal(&Refused { status, kind, message }, retry_after),
        Step::Hang => std::future::pending().await,
        Step::Raw(text) => streamed(Body::from(text)),
        Step::Say(saying) => {
            let frames = house.frames(&saying, body);
            let all: Vec<String> = frames.begin.into_iter().chain(frames.rest).collect();
            let chunks = stream::iter(all).map(Ok::<_, Infallible>);
            tokio::time::sleep(saying.delay).await;
            streamed(Body::from_stream(chunks))
        }
        Step::Stall(saying) => {
            let begin = stream::iter(house.frames(&saying, body).begin).map(Ok::<_, Infallible>);
            streamed(Body::from_stream(begin.chain(stream::pending())))
        }
        Step::Disconnect(saying) => {
            let begin = stream::iter(house.frames(&saying, body).begin).map(Ok);
            let gone = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            streamed(Body::from_stream(begin.chain(stream::once(async { Err(gone) }))))
        }
        Step::FailInStream(saying, kind) => {
            let refused = Refused::new(200, kind, "It went wrong in the middle");
            let mut frames = house.frames(&saying, body).begin;
            frames.push((house.dialect.stream_error)(&refused));
            streamed(Body::from(frames.concat()))
        }
    }
}

fn streamed(body: Body) -> Response<Body> {
    ([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], body).into_response()
}

/// Refuses keys of an object that the service does not know.
pub(crate) fn only(at: &str, value: &Value, known: &[&str]) -> Result<(), String> {
    let object = value
        .as_object()
        .ok_or_else(|| format!("{at}: Input should be an object"))?;
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) if at.is_empty() => Err(format!("{key}: Extra inputs are not permitted")),
        Some(key) => Err(format!("{at}.{key}: Extra inputs are not permitted")),
        None => Ok(()),
    }
}

/// What services take as one picture, bytes.
const PICTURE: usize = 5 << 20;

/// The bytes of a picture that a service would take; what is wrong with it otherwise.
pub(crate) fn picture(at: &str, media_type: &str, data: &str) -> Result<Vec<u8>, String> {
    if !["image/jpeg", "image/png", "image/gif", "image/webp"].contains(&media_type) {
        return Err(format!(
            "{at}.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
        ));
    }
    let bytes = STANDARD
        .decode(data)
        .map_err(|_| format!("{at}.data: invalid base64 data"))?;
    if bytes.len() > PICTURE {
        return Err(format!(
            "{at}: image exceeds 5 MB maximum: {} bytes > {PICTURE} bytes",
            bytes.len()
        ));
    }
    if media_type != "image/jpeg" {
        return Err(format!("{at}: this fake reads image/jpeg alone"));
    }
    let seen = atoll_capabilities::capture::preview(&bytes, 8192);
    let seen = seen.ok_or_else(|| format!("{at}: Could not process image"))?;
    if seen.width.max(seen.height) > 2000 {
        return Err(format!("{at}: image dimensions exceed max allowed size"));
    }
    Ok(bytes)
}

/// A list of values, empty when it is none.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Text, empty when it is none.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether a name of a tool or an id of a call has the letters and the length that services take.
pub(crate) fn is_name(name: &str, longest: usize) -> bool {
    let fits = (1..=longest).contains(&name.len());
    fits && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
