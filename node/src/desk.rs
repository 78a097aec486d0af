//! The calls of this node: which run, which have ended and wait to be acknowledged. Outlives links; knows nothing of sockets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_capabilities::{Call, Capabilities, Capability};
use atoll_protocol::calls::{NodeCalls, Said, Start};
use atoll_protocol::capability::Surface;
use atoll_protocol::error::CallError;
use atoll_protocol::frame::{Frame, Invoke, Outcome, Output, Progress, Request, Resume};
use atoll_protocol::id::{CallId, DeviceId};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::shown::one_line;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blobs::Shelf;
use crate::config::Dialect;
use crate::exec_event::ExecRun;
use crate::worker::{self, News};

/// News on their way to the link. More: the calls that have some wait, and with them their commands.
const NEWS: usize = 64;

/// A reason why a command is not on offer, characters at most; and all of them together. More is left out.
const WHY_CHARS: usize = 300;
const MISSING_CHARS: usize = 10_000;

/// What one piece of news makes at most: an event and an outcome.
pub(crate) const NEWS_FRAMES: usize = 2;

/// Owns the calls.
pub(crate) struct Desk {
    node: DeviceId,
    dialect: Dialect,
    boot: String,
    capabilities: Capabilities,
    surface: Surface,
    /// What is not on offer, and why.
    missing: Vec<(String, String)>,
    /// Those that were ever on offer; one that is denied by now says so itself.
    by_command: HashMap<&'static str, Arc<dyn Capability>>,
    calls: NodeCalls,
    running: HashMap<CallId, Running>,
    tasks: TaskTracker,
    shelf: Arc<Shelf>,
    news: mpsc::Receiver<News>,
    reporter: mpsc::Sender<News>,
}

struct Running {
    cancel: CancellationToken,
    seq: u64,
    exec: Option<ExecRun>,
}

impl Desk {
    /// No calls yet.
    pub(crate) fn new(node: DeviceId, dialect: Dialect, capabilities: Capabilities) -> Self {
        let (reporter, news) = mpsc::channel(NEWS);
        let mut desk = Self {
            node,
            dialect,
            boot: uuid::Uuid::new_v4().to_string(),
            capabilities,
            surface: Surface::default(),
            missing: Vec::new(),
            by_command: HashMap::new(),
            calls: NodeCalls::new(),
            running: HashMap::new(),
            tasks: TaskTracker::new(),
            shelf: Arc::new(Shelf::new()),
            news,
            reporter,
        };
        desk.refresh();
        desk
    }

    /// Looks again what this device can and may do.
    pub(crate) fn refresh(&mut self) {
        let mut surface = Surface::default();
        self.missing.clear();
        for capability in &self.capabilities {
            let description = capability.describe();
            if !description.commands.is_empty() {
                surface.caps.push(description.cap.to_owned());
            }
            for command in description.commands {
                surface.commands.push(command.to_owned());
                self.by_command.insert(command, Arc::clone(capability));
            }
            let missing = description.missing.into_iter();
            self.missing
                .extend(missing.map(|(command, why)| (command.to_string(), why)));
        }
        self.surface = surface.sorted();
    }

    /// What this node offers.
    pub(crate) fn surface(&self) -> &Surface {
        &self.surface
    }

    /// What to say of commands that are not on offer; nothing to an OpenClaw gateway, which would not know what to do with it.
    pub(crate) fn missing(&self) -> Option<Frame> {
        let mut room = MISSING_CHARS;
        let fits = |(command, why): &&(String, String)| {
            let size = command.chars().count() + why.chars().count().min(WHY_CHARS);
            room = room.saturating_sub(size);
            room > 0
        };
        let rows = self.missing.iter().take_while(fits);
        let rows: Vec<Value> = rows
            .map(|(command, why)| json!({"command": command, "why": one_line(why, WHY_CHARS)}))
            .collect();
        (self.dialect == Dialect::Native).then(|| node_event("node.commands.missing", &json!(rows)))
    }

    /// This start of the program.
    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// The blobs of its calls.
    pub(crate) fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// How many calls run.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// What to say first on a new link, and the calls whose results to offer again after it: [`Self::outcome`].
    pub(crate) fn resume(&mut self) -> (Resume, Vec<CallId>) {
        self.calls.handle_timeout(Instant::now());
        (self.calls.resume(&self.boot), self.calls.kept().cloned().collect())
    }

    /// The result of a call as long as it is kept.
    pub(crate) fn outcome(&self, call: &CallId) -> Option<Outcome> {
        self.calls.outcome(call)
    }

    /// Starts a call, once. A call that does not run has its outcome at once.
    pub(crate) fn begin(&mut self, invoke: Invoke) -> Option<Outcome> {
        let now = Instant::now();
        let refusal = match self.calls.start(&invoke.call, now) {
            Start::Duplicate => return None,
            Start::Busy => Some(CallError::new(
                "BUSY",
                format!(
                    "{} calls run on this node already; try again when one has ended",
                    limits::NODE_CALLS
                ),
            )),
            Start::Run => self.refusal(&invoke),
        };
        match refusal {
            Some(error) => self.calls.finish(&invoke.call, Err(error), now),
            None => {
                self.run(invoke);
                None
            }
        }
    }

    fn refusal(&self, invoke: &Invoke) -> Option<CallError> {
        if invoke.node != self.node {
            return Some(CallError::new("INVALID_REQUEST", "this call is for another node"));
        }
        let command = invoke.command.as_str();
        (!self.by_command.contains_key(command))
            .then(|| CallError::new("INVALID_REQUEST", format!("{command:?} is not a command of this node")))
    }

    fn run(&mut self, invoke: Invoke) {
        let Some(capability) = self.by_command.get(invoke.command.as_str()) else {
            return;
        };
        let tells_exec = self.dialect == Dialect::Openclaw && invoke.command == "system.run";
        let exec = tells_exec.then(|| ExecRun::of(invoke.params.as_ref())).flatten();
        let (progress, listener) = worker::progress();
        let cancel = CancellationToken::new();
        let call = Call {
            id: invoke.call.clone(),
            command: invoke.command,
            params: invoke.params,
            deadline: deadline(invoke.timeout_ms, self.dialect),
            plan: invoke.plan,
            cancel: cancel.clone(),
            progress,
            blobs: (self.dialect == Dialect::Native).then(|| Arc::clone(&self.shelf) as _),
            silent: None,
        };
        self.running.insert(invoke.call, Running { cancel, seq: 0, exec });
        let work = worker::work(Arc::clone(capability), call, listener, self.reporter.clone());
        self.tasks.spawn(work);
    }

    /// Stops a call; its end is reported as that of any other.
    pub(crate) fn cancel(&self, call: &CallId) {
        if let Some(running) = self.running.get(call) {
            running.cancel.cancel();
        }
    }

    /// Stops all of them.
    pub(crate) fn cancel_all(&self) {
        self.running.values().for_each(|running| running.cancel.cancel());
    }

    /// The gateway has it safe.
    pub(crate) fn acknowledge(&mut self, call: &CallId) {
        self.calls.acknowledge(call, Instant::now());
    }

    /// Waits for news and gives what to say about it. Loses nothing when dropped.
    pub(crate) async fn next(&mut self) -> Vec<Frame> {
        match self.news.recv().await {
            Some(News::Progress { call, said }) => self.progressed(call, said).into_iter().collect(),
            Some(News::Finished { call, result }) => self.finished(&call, result),
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Takes news while there is no link: results are kept, progress is not.
    pub(crate) async fn rest(&mut self) {
        loop {
            self.next().await;
        }
    }

    /// Stops all calls and takes their ends, for at most `patience`.
    pub(crate) async fn close(&mut self, patience: Duration) {
        self.cancel_all();
        self.tasks.close();
        let _ = tokio::time::timeout(patience, async {
            while !self.running.is_empty() {
                self.next().await;
            }
            self.tasks.wait().await;
        })
        .await;
    }

    fn progressed(&mut self, call: CallId, said: Said) -> Option<Frame> {
        let running = self.running.get_mut(&call)?;
        let seq = running.seq;
        running.seq += 1;
        let chunk = match said {
            Said::Wrote(stream, bytes) if self.dialect == Dialect::Native => {
                return Some(Frame::Output(Output {
                    call,
                    seq,
                    stream,
                    bytes,
                }));
            }
            Said::Wrote(_, bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Said::Words(text) => text,
        };
        Some(Frame::Progress(Progress {
            call,
            seq,
            chunk,
            receipt: None,
        }))
    }

    fn finished(&mut self, call: &CallId, result: Result<Option<Json>, CallError>) -> Vec<Frame> {
        let running = self.running.remove(call);
        let exec = running.and_then(|running| running.exec);
        let event = exec
            .map(|exec| exec.event(&result))
            .map(|(name, payload)| node_event(name, &payload));
        let outcome = self.calls.finish(call, result, Instant::now());
        event.into_iter().chain(outcome.map(Frame::Outcome)).collect()
    }
}

/// Our own gateway has taken off its margin already; an OpenClaw gateway has not.
fn deadline(timeout_ms: u64, dialect: Dialect) -> Duration {
    let given = Duration::from_millis(timeout_ms).min(limits::CALL_DEADLINE_MAX);
    match dialect {
        Dialect::Native => given,
        Dialect::Openclaw => given - limits::CALL_DEADLINE_MARGIN.min(given / 2),
    }
}

/// A `node.event`, which nobody waits for an answer to.
pub(crate) fn node_event(event: &str, payload: &Value) -> Frame {
    Frame::Request(Request {
        id: uuid::Uuid::new_v4().into(),
        method: "node.event".to_owned(),
        params: Some(Json::from(
            json!({ "event": event, "payloadJSON": payload.to_string() }),
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use atoll_capabilities::Description;

    /// Does what its command says.
    struct Fake;

    #[async_trait]
    impl Capability for Fake {
        fn describe(&self) -> Description {
            Description {
                cap: "fake",
                commands: vec!["fake.crash", "fake.obey", "fake.ignore", "fake.talk"],
                missing: Vec::new(),
            }
        }

        async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
            match call.command.as_str() {
                "fake.crash" => panic!("as told"),
                "fake.obey" => call.cancel.cancelled().await,
                "fake.talk" => call.progress.send(Said::Words("word".to_owned())).await.expect("heard"),
                _ => std::future::pending().await,
            }
            Ok(None)
        }
    }

    fn desk() -> Desk {
        let fake: Capabilities = vec![Arc::new(Fake)];
        Desk::new(DeviceId::from_digest([1; 32]), Dialect::Native, fake)
    }

    fn invoke(call: impl ToString, command: &str) -> Invoke {
        Invoke {
            call: CallId::new(call.to_string()).expect("fits"),
            node: DeviceId::from_digest([1; 32]),
            command: command.to_owned(),
            params: None,
            timeout_ms: 60_000,
            idempotency_key: None,
            plan: None,
        }
    }

    async fn end(desk: &mut Desk) -> (String, Result<Option<Json>, CallError>) {
        loop {
            for frame in desk.next().await {
                if let Frame::Outcome(outcome) = frame {
                    return (outcome.call.to_string(), outcome.result);
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_crash_is_one_failed_call() {
        let mut desk = desk();
        assert_eq!(desk.begin(invoke(1, "fake.crash")), None);
        assert_eq!(end(&mut desk).await.1.expect_err("failed").code, "CAPABILITY_CRASHED");
        assert_eq!(desk.begin(invoke(2, "fake.talk")), None);
        assert_eq!(end(&mut desk).await, ("2".to_owned(), Ok(None)));
        assert_eq!(desk.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_sixty_fifth_call_is_told_that_the_node_is_busy() {
        let mut desk = desk();
        for call in 0..limits::NODE_CALLS {
            assert_eq!(desk.begin(invoke(call, "fake.obey")), None);
        }
        let refused = desk.begin(invoke("extra", "fake.obey")).expect("an answer at once");
        assert_eq!(refused.result.expect_err("busy").code, "BUSY");
        assert_eq!(desk.running(), limits::NODE_CALLS);
        desk.cancel(&CallId::new("0").expect("fits"));
        assert_eq!(end(&mut desk).await.0, "0");
        assert_eq!(desk.begin(invoke("later", "fake.obey")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_capability_that_ignores_its_deadline_or_a_cancel_is_ended() {
        let mut desk = desk();
        desk.begin(invoke(1, "fake.ignore"));
        assert_eq!(end(&mut desk).await.1.expect_err("late").code, "TIMEOUT");
        desk.begin(invoke(2, "fake.ignore"));
        desk.cancel_all();
        assert_eq!(end(&mut desk).await.1.expect_err("cancelled").code, "CANCELLED");
    }

    #[tokio::test(start_paused = true)]
    async fn closing_takes_the_ends_of_all_calls() {
        let mut desk = desk();
        for call in 0..10 {
            desk.begin(invoke(call, "fake.obey"));
        }
        desk.close(Duration::from_secs(3)).await;
        assert_eq!(desk.running(), 0);
        assert_eq!(desk.resume().1.len(), 10);
    }

    #[test]
    fn an_openclaw_gateway_waits_a_little_longer_than_we_work() {
        assert_eq!(deadline(30_000, Dialect::Native), Duration::from_secs(30));
        assert_eq!(deadline(30_000, Dialect::Openclaw), Duration::from_millis(29_750));
        assert_eq!(deadline(100, Dialect::Openclaw), Duration::from_millis(50));
        assert_eq!(deadline(u64::MAX, Dialect::Native), limits::CALL_DEADLINE_MAX);
    }
}
