//! Telegram's Bot API for one bot, over real HTTP on a port of its own. Owns the connection and the faults a test asks
//! for; what the methods mean is in `world`. Never sleeps to wait for a client: every wait is for a condition.

mod form;
mod html;
mod world;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use form::Upload;
pub use html::visible;
pub use world::{ClickAnswer, Person, Post, Sent, SentFile};
use world::{Refusal, World};

/// How long a test waits for the program under test before it fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest request without a file that the Bot API takes from us.
const MAX_BODY: usize = 1 << 20;
/// The largest with one.
const MAX_UPLOAD: usize = 51 << 20;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before anything is done.
    DropBefore,
    /// It is done, and the connection ends before the answer.
    DropAfter,
    /// 429, asking for so many seconds.
    TooManyRequests(u32),
    /// Refused with this code and description.
    Refuse(u16, &'static str),
    /// Refused, since the group has become the supergroup with this id.
    Moved(i64),
    /// 502 from a proxy, before anything is done.
    BadGateway,
    /// It is done, and the answer is a 500.
    ErrorAfter,
    /// It is done so much later.
    Delay(Duration),
}

/// The running server; it stops when dropped.
pub struct FakeTelegram {
    address: SocketAddr,
    token: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

struct State {
    world: World,
    token: String,
    faults: VecDeque<(String, Fault)>,
    calls: Vec<(String, Value)>,
    poller: u64,
}

impl Drop for FakeTelegram {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeTelegram {
    /// Serves the bot with this token, named `@atoll_test_bot`.
    pub async fn start(token: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let bot = token.split(':').next().and_then(|id| id.parse().ok());
        let state = State {
            world: World::new(bot.expect("a token starts with the bot's id")),
            token: token.to_owned(),
            faults: VecDeque::new(),
            calls: Vec::new(),
            poller: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self {
            address,
            token: token.to_owned(),
            shared,
            server,
        }
    }

    /// What goes into `apiRoot`.
    pub fn api_root(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What goes into `botToken`.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// From now on another token is the right one, as after a revocation at @BotFather.
    pub fn change_token(&self, token: &str) {
        self.change(|state| token.clone_into(&mut state.token));
    }

    /// Somebody opens a chat with the bot, which may write to them from now on. The chat's id is the person's.
    pub fn meet(&self, person: &Person) {
        self.change(|state| state.world.meet(person));
    }

    /// The bot is added to a supergroup, with these topics.
    pub fn add_group(&self, chat: i64, topics: &[i64]) {
        self.change(|state| state.world.add_group(chat, topics));
    }

    /// From now on the bot is blocked there.
    pub fn block(&self, chat: i64) {
        self.change(|state| state.world.block(chat));
    }

    /// Somebody writes; gives the message's id.
    pub fn write(&self, person: &Person, chat: i64, text: &str) -> i64 {
        self.post(person, chat, Post::text(text))
    }

    /// Somebody writes into a topic, as a reply, or forwards something; gives the message's id.
    pub fn post(&self, person: &Person, chat: i64, post: Post) -> i64 {
        self.change(|state| state.world.post(person, chat, post))
    }

    /// Somebody presses a button; gives the click's id.
    ///
    /// # Panics
    /// When no such button is shown there.
    pub fn click(&self, person: &Person, chat: i64, message: i64, data: &str) -> String {
        self.change(|state| state.world.click(person, chat, message, data))
    }

    /// An update of any shape; gives its id.
    pub fn push(&self, update: Value) -> i64 {
        self.change(|state| state.world.push(update))
    }

    /// Clicks that are not answered yet are too old from now on.
    pub fn expire_clicks(&self) {
        self.change(|state| state.world.expire_clicks());
    }

    /// The next request of this method that has no fault yet goes wrong.
    pub fn fail_next(&self, method: &str, fault: Fault) {
        self.change(|state| state.faults.push_back((method.to_lowercase(), fault)));
    }

    /// Whether every fault asked for has happened.
    pub fn faults_are_used_up(&self) -> bool {
        self.state().faults.is_empty()
    }

    /// What the bot wrote in a chat, as it is shown now, oldest first.
    pub fn sent(&self, chat: i64) -> Vec<Sent> {
        self.state().world.sent(chat)
    }

    /// Answers to clicks, oldest first.
    pub fn click_answers(&self) -> Vec<ClickAnswer> {
        self.state().world.click_answers()
    }

    /// Updates that Telegram would still deliver.
    pub fn unconfirmed(&self) -> usize {
        self.state().world.unconfirmed()
    }

    /// The parameters of every request of a method, refused ones included, oldest first.
    pub fn calls(&self, method: &str) -> Vec<Value> {
        let state = self.state();
        let of_method = state.calls.iter().filter(|(name, _)| name.eq_ignore_ascii_case(method));
        of_method.map(|(_, parameters)| parameters.clone()).collect()
    }

    /// Waits until the bot shows such a message in a chat.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn wait_sent(&self, chat: i64, what: impl Fn(&Sent) -> bool) -> Sent {
        let found = || self.sent(chat).into_iter().find(&what);
        self.wait_for(&format!("a message in {chat}"), found).await
    }

    /// Waits until a condition on this fake holds.
    ///
    /// # Panics
    /// When that takes too long; says what was waited for and what was sent instead.
    pub async fn wait_for<T>(&self, what: &str, condition: impl Fn() -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = condition() {
                return found;
            }
            let more = tokio::time::timeout_at(deadline, changed.changed()).await;
            assert!(more.is_ok(), "no {what}; calls so far: {:#?}", self.state().calls);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.shared.changed.send_modify(|version| *version += 1);
        result
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the lock")
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, Arc::clone(&shared)));
    }
}

/// Serves one connection. A request that fails with [`Dropped`] ends it without an answer.
async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = hyper::service::service_fn(move |request| answer(Arc::clone(&shared), request));
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Clients hang up and faults drop connections: both end here as errors that mean nothing.
    let _ = served.await;
}

/// The connection ends without an answer.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dropped on purpose")
    }
}

impl std::error::Error for Dropped {}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Dropped> {
    let path = request.uri().path().to_owned();
    let kind = request
        .headers()
        .get("content-type")
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let is_form = kind.starts_with("multipart/");
    let most = if is_form { MAX_UPLOAD } else { MAX_BODY };
    let body = to_bytes(Body::new(request.into_body()), most)
        .await
        .map_err(|_| Dropped)?;
    let (parameters, upload) = match read(&kind, &body) {
        Ok(read) => read,
        Err(refusal) => return Ok(reply(&Err(refusal))),
    };
    let Some((token, method)) = path.strip_prefix("/bot").and_then(|rest| rest.split_once('/')) else {
        return Ok(reply(&Err(Refusal::new(404, "Not Found"))));
    };
    let method = method.to_lowercase();
    let fault = admit(&shared, token, &method, &parameters);
    let fault = match fault {
        Ok(fault) => fault,
        Err(refusal) => return Ok(reply(&Err(refusal))),
    };
    match fault {
        Some(Fault::DropBefore) => return Err(Dropped),
        Some(Fault::TooManyRequests(seconds)) => return Ok(reply(&Err(Refusal::flood(seconds)))),
        Some(Fault::Refuse(code, description)) => return Ok(reply(&Err(Refusal::new(code, description)))),
        Some(Fault::Moved(chat)) => return Ok(reply(&Err(Refusal::moved(chat)))),
        Some(Fault::BadGateway) => {
            let gateway = Response::builder().status(502).body(Body::from("<html>502</html>"));
            return Ok(gateway.expect("a fixed answer is valid"));
        }
        Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::DropAfter | Fault::ErrorAfter) | None => {}
    }
    let result = perform(&shared, &method, &parameters, upload).await;
    shared.changed.send_modify(|version| *version += 1);
    match fault {
        Some(Fault::DropAfter) => Err(Dropped),
        Some(Fault::ErrorAfter) => Ok(reply(&Err(Refusal::new(500, "Internal Server Error")))),
        _ => Ok(reply(&result)),
    }
}

/// The parameters of a request, and its file.
fn read(kind: &str, body: &[u8]) -> Result<(Value, Option<Upload>), Refusal> {
    if kind.starts_with("multipart/") {
        return form::read(kind, body).map_err(|error| Refusal::bad(&format!("can't parse the form: {error}")));
    }
    let body = if kind == "application/json" && !body.is_empty() {
        body
    } else {
        b"{}"
    };
    let parameters = serde_json::from_slice(body).map_err(|_| Refusal::bad("can't parse JSON"))?;
    Ok((parameters, None))
}

/// Checks the token, notes the call, and takes the fault that waits for it.
fn admit(shared: &Shared, token: &str, method: &str, parameters: &Value) -> Result<Option<Fault>, Refusal> {
    let mut state = shared.state();
    if token != state.token {
        return Err(Refusal::new(401, "Unauthorized"));
    }
    state.calls.push((method.to_owned(), parameters.clone()));
    shared.changed.send_modify(|version| *version += 1);
    let waiting = state.faults.iter().position(|(name, _)| name == method);
    Ok(waiting.and_then(|at| state.faults.remove(at)).map(|(_, fault)| fault))
}

async fn perform(shared: &Shared, method: &str, parameters: &Value, upload: Option<Upload>) -> Result<Value, Refusal> {
    if method == "getupdates" {
        return updates(shared, parameters).await;
    }
    let mut state = shared.state();
    match (method, upload) {
        ("sendphoto" | "sendvideo" | "senddocument", Some(upload)) => state.world.send_file(method, parameters, upload),
        (_, Some(_)) => Err(Refusal::bad("this method takes no file")),
        (_, None) => state.world.perform(method, parameters),
    }
}

/// Holds the request until there is something to say. A second one ends the first, as the real API does.
async fn updates(shared: &Shared, parameters: &Value) -> Result<Value, Refusal> {
    let number = |name: &str, default: i64| parameters[name].as_i64().unwrap_or(default);
    let limit = usize::try_from(number("limit", 100).clamp(1, 100)).expect("1 to 100");
    let hold = Duration::from_secs(u64::try_from(number("timeout", 0).clamp(0, 50)).expect("0 to 50"));
    let deadline = Instant::now() + hold;
    let mut changed = shared.changed.subscribe();
    let mine = {
        let mut state = shared.state();
        state.poller += 1;
        state.poller
    };
    shared.changed.send_modify(|version| *version += 1);
    loop {
        {
            let mut state = shared.state();
            if state.poller != mine {
                let words = "Conflict: terminated by other getUpdates request; \
                             make sure that only one bot instance is running";
                return Err(Refusal::new(409, words));
            }
            let found = state
                .world
                .updates(number("offset", 0), limit, &parameters["allowed_updates"]);
            if !found.is_empty() || Instant::now() >= deadline {
                return Ok(Value::Array(found));
            }
        }
        // Either there is news or the time is up; both are looked at above.
        let _ = tokio::time::timeout_at(deadline, changed.changed()).await;
    }
}

fn reply(result: &Result<Value, Refusal>) -> Response<Body> {
    let (status, body) = match result {
        Ok(value) => (200, json!({"ok": true, "result": value})),
        Err(refusal) => (refusal.code, refusal.body()),
    };
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .expect("a status and a text are a valid answer")
}
