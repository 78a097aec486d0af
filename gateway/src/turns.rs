//! Runs turns: reads what was queued, gives it to the agent, and ends it in one transaction with its answer. Owns who waits for a
//! turn and what watchers are told. A turn that the gateway's end interrupts is left as it is, and taken up at the next start.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use atoll_agent::driver::{Ports, run_turn};
use atoll_agent::message::Media;
use atoll_agent::model::Models;
use atoll_agent::port::Watch;
use atoll_agent::transcript::Transcript;
use atoll_agent::turn::{Outcome, TurnEnd};
use atoll_channels::port::{Outbound, Place};
use atoll_protocol::id::{RunId, SessionKey};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::config::ConfigStore;
use crate::deliver::{Accounts, Outbox};
use crate::exec::Commands;
use crate::hub::Hub;
use crate::journal::outbox::NewOutbound;
use crate::journal::runs::{self, RunEnd, RunRow, RunState};
use crate::journal::sessions::Counts;
use crate::journal::{Durability, Journal};
use crate::lane::{Job, Lanes, Runner};
use crate::pictures::Pictures;
use crate::sessions::{About, Sessions, reset};
use crate::watch::Broadcaster;
use crate::watchers::Watchers;

mod meanwhile;
mod said;
mod spec;
mod unstarted;

pub(crate) use said::Said;
pub(crate) use spec::{can_be_asked, models_of};

/// How often "is typing" is shown again.
const TYPING: Duration = Duration::from_secs(5);

/// Where a turn came from, and where its answer goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    /// A chat: the answer goes there.
    Chat {
        /// Where.
        place: Place,
        /// The message it answers.
        message: Option<String>,
        /// The platform's id of whoever wrote it.
        #[serde(default)]
        sender: Option<String>,
    },
    /// An operator's program: the answer is told to those who watch.
    Operator,
}

/// How a turn ended, for those who wait for it.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// Its end.
    pub(crate) state: RunState,
    /// What is said.
    pub(crate) text: Option<String>,
    /// When it began, Unix milliseconds.
    pub(crate) started_at: Option<i64>,
    /// When it ended.
    pub(crate) ended_at: i64,
}

/// What running a turn takes.
#[derive(Clone)]
pub(crate) struct Turns {
    pub(crate) journal: Journal,
    pub(crate) config: ConfigStore,
    pub(crate) hub: Hub,
    pub(crate) sessions: Sessions,
    pub(crate) outbox: Outbox,
    pub(crate) accounts: Accounts,
    pub(crate) exec: Commands,
    pub(crate) pictures: Pictures,
    pub(crate) models: Arc<dyn Models>,
    pub(crate) state: crate::state::StateDir,
    /// The gateway goes down.
    pub(crate) stop: CancellationToken,
    pub(crate) waiting: Waiting,
    pub(crate) watchers: Watchers,
    /// For what must be finished and may not be waited for.
    pub(crate) tasks: TaskTracker,
    /// Where turns wait; set once those exist.
    pub(crate) lanes: Arc<OnceLock<Lanes>>,
}

/// Who waits for which turn.
#[derive(Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<HashMap<RunId, Vec<oneshot::Sender<Ended>>>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Vec<oneshot::Sender<Ended>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, run: RunId) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        self.lock().entry(run).or_default().push(sender);
        receiver
    }

    fn is_awaited(&self, run: &RunId) -> bool {
        self.lock().contains_key(run)
    }

    fn tell(&self, run: &RunId, ended: &Ended) {
        for waiter in self.lock().remove(run).unwrap_or_default() {
            // Whoever stopped waiting does not hear it.
            let _ = waiter.send(ended.clone());
        }
    }
}

/// Forgets those of a turn's waiters that have stopped waiting, when one of them does.
struct Tidy<'a> {
    waiting: &'a Waiting,
    run: RunId,
}

impl Drop for Tidy<'_> {
    fn drop(&mut self) {
        let mut all = self.waiting.lock();
        if let Some(waiters) = all.get_mut(&self.run) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                all.remove(&self.run);
            }
        }
    }
}

impl Turns {
    /// Waits for the end of a turn; none when there is no such turn, or the patience is over.
    pub(crate) async fn wait(&self, run: RunId, patience: Duration) -> Option<Ended> {
        // Dropped after the receiver below, which is closed by then.
        let _tidy = Tidy {
            waiting: &self.waiting,
            run: run.clone(),
        };
        // Registered before looking, so that an end in between is not missed.
        let end = self.waiting.register(run.clone());
        let row = self.journal.read(move |db| runs::find(db, &run)).await.ok()??;
        if row.state.is_end() {
            return Some(ended_of(&row));
        }
        tokio::time::timeout(patience, end).await.ok()?.ok()
    }

    async fn run_row(&self, row: &RunRow, cancel: CancellationToken) -> TurnEnd {
        let started = row.new.run.clone();
        let start = move |db: &rusqlite::Connection| runs::start(db, &started, clock::now()).map(drop);
        if let Err(error) = self.journal.write(Durability::Lazy, start).await {
            return failed(format!(
                "The turn could not be recorded ({error}). Check the disk of the gateway, then ask again."
            ));
        }
        let source = row.new.origin.read::<Source>().unwrap_or(Source::Operator);
        let about = About {
            session: row.new.session.clone(),
            agent: row.new.agent.clone(),
            place: source.place().cloned(),
            name: None,
        };
        let transcript = match self.sessions.open(about).await {
            Ok(transcript) => transcript,
            Err(error) => return failed(format!("The conversation cannot be opened: {error}")),
        };
        // One that is taken up after a restart is in the middle of its conversation.
        if row.state == RunState::Queued {
            self.begin_anew_if_due(row, &source, &transcript).await;
        }
        let spec = match self.spec(row, &source).await {
            Ok(spec) => spec,
            Err(reason) => return failed(reason),
        };
        let watch = Arc::new(Broadcaster::new(self.hub.clone(), row.new.agent.clone()));
        let nodes = Arc::new(crate::nodes::AgentNodes::new(self.exec.clone(), self.pictures.clone()).await);
        let ports = Ports {
            exec: Arc::new(self.exec.clone()),
            nodes: Arc::clone(&nodes) as _,
            node_tools: nodes,
            watch: watch.clone() as Arc<dyn Watch>,
            models: self.models.clone(),
            meanwhile: Arc::new(self.clone()),
            pictures: Arc::new(self.pictures.clone()),
        };
        let typing = source
            .place()
            .filter(|_| self.may_answer(&row.new.session, &source))
            .map(|place| tokio::spawn(type_on(self.accounts.clone(), place.clone())));
        self.watchers.changed(&row.new.session, "start");
        let end = run_turn(spec, ports, &transcript, cancel).await;
        self.watchers.said(&row.new.session, &row.new.run, &transcript);
        self.sessions.keep_soon(row.new.session.clone(), transcript);
        typing.inspect(tokio::task::JoinHandle::abort);
        watch.ended(&row.new.run, &row.new.session, &end.outcome);
        end
    }

    /// As its message says, or `session.reset`. A conversation that cannot begin anew goes on.
    async fn begin_anew_if_due(&self, row: &RunRow, source: &Source, transcript: &Transcript) {
        let facts = transcript.facts();
        let Some(last) = facts.last_activity_at.filter(|_| facts.messages > 0) else {
            return;
        };
        let asked = row.new.input.read::<Said>().ok().and_then(|said| said.anew);
        let rule = reset::rule(&self.config.current().session, source.place());
        let due = || reset::due(&rule, last, &jiff::Zoned::now()).map(str::to_owned);
        let Some(reason) = asked.or_else(due) else {
            return;
        };
        let session = row.new.session.clone();
        let begun = self.sessions.begin_anew(session, transcript.clone(), reason.clone());
        match begun.await {
            Ok(_) => tracing::info!(session = %row.new.session, reason, "a conversation begins anew"),
            Err(error) => tracing::error!(session = %row.new.session, %error, "a conversation cannot begin anew"),
        }
    }

    /// Whether `session.sendPolicy` lets the answer of a turn go to its chat.
    fn may_answer(&self, session: &SessionKey, source: &Source) -> bool {
        let config = self.config.current();
        source.place().is_none_or(|place| {
            let channel = Some(place.account.channel.as_str());
            config
                .session
                .send_policy
                .allows(session, channel, Some(place.kind.into()))
        })
    }

    async fn finish(&self, row: &RunRow, end: TurnEnd) {
        let run = row.new.run.clone();
        let source = row.new.origin.read::<Source>().unwrap_or(Source::Operator);
        let text = end.outcome.text().map(str::to_owned);
        let answer = match (&source, &text) {
            (Source::Chat { .. }, _) if !self.may_answer(&row.new.session, &source) => {
                tracing::info!(run = %run, session = %row.new.session, "session.sendPolicy keeps an answer from its chat");
                Vec::new()
            }
            (Source::Chat { place, message, .. }, Some(text)) => {
                let mut parts = self.parts(&run, place, message.as_deref(), text).await;
                parts.extend(pictures(&run, place, &end));
                parts
            }
            (Source::Chat { .. } | Source::Operator, _) => Vec::new(),
        };
        let run_end = RunEnd {
            state: state_of(&end.outcome),
            error: error_of(&end.outcome),
            final_text: text.clone(),
        };
        if !self.store_end(&run, &run_end, answer).await {
            return;
        }
        self.outbox.wake();
        self.sessions.count(row.new.session.clone(), counts(&end)).await;
        self.watchers.changed(&row.new.session, "end");
        let ended = Ended {
            state: run_end.state,
            text,
            started_at: row.started_at,
            ended_at: clock::now(),
        };
        self.waiting.tell(&run, &ended);
    }

    /// All or nothing, tried until it holds; left for the next start when the gateway ends first.
    async fn store_end(&self, run: &RunId, end: &RunEnd, answer: Vec<NewOutbound>) -> bool {
        // Nobody hears of an answer before it is claimed for sending, which is durable and makes this so too; what a power cut takes
        // before that is done again. Whoever waits for the end itself hears of it only when it is durable.
        let durability = match answer.is_empty() || self.waiting.is_awaited(run) {
            true => Durability::Durable,
            false => Durability::Lazy,
        };
        let (run, end) = (run.clone(), end.clone());
        let finish = move |db: &rusqlite::Connection| runs::finish(db, &run, &end, &answer, clock::now()).map(drop);
        let stored = self.journal.insist(durability, "the end of a turn", &self.stop, finish);
        stored.await.is_ok()
    }

    async fn parts(&self, run: &RunId, place: &Place, message: Option<&str>, text: &str) -> Vec<NewOutbound> {
        let parts = match self.accounts.find(&place.account).await {
            Some(channel) => channel.split(text),
            None => vec![text.to_owned()],
        };
        let is_group = place.kind != atoll_channels::port::PeerKind::Direct;
        let part = |(index, text): (usize, String)| NewOutbound {
            place: place.clone(),
            outbound: Outbound::Text {
                text,
                reply_to: message.filter(|_| is_group && index == 0).map(str::to_owned),
            },
            run: Some(run.clone()),
            part: u32::try_from(index).unwrap_or(u32::MAX),
            key: format!("run:{run}:{index}"),
        };
        parts.into_iter().enumerate().map(part).collect()
    }
}

/// What a turn's tools gave follows its answer. A turn that a person stopped is to show nothing more.
fn pictures(run: &RunId, place: &Place, end: &TurnEnd) -> Vec<NewOutbound> {
    if matches!(end.outcome, Outcome::Aborted { .. } | Outcome::Silent) {
        return Vec::new();
    }
    let picture = |(index, media): (usize, &Media)| NewOutbound {
        place: place.clone(),
        outbound: crate::pictures::outbound(media, String::new()),
        run: Some(run.clone()),
        part: u32::try_from(index).unwrap_or(u32::MAX),
        key: format!("run:{run}:media:{index}"),
    };
    end.media.iter().enumerate().map(picture).collect()
}

#[async_trait]
impl Runner for Turns {
    async fn run(&self, job: Job, cancel: CancellationToken) {
        let wanted = job.run.clone();
        let row = match self.journal.read(move |db| runs::find(db, &wanted)).await {
            Ok(Some(row)) if !row.state.is_end() => self.collect(row, &cancel).await,
            Ok(_) => return,
            Err(error) => {
                return tracing::error!(run = %job.run, %error, "a turn cannot be read; the next start takes it up");
            }
        };
        // A panic is this turn's visible end; taken up again it would only panic again.
        let end = AssertUnwindSafe(self.run_row(&row, cancel)).catch_unwind().await;
        let end = end.unwrap_or_else(|_| {
            tracing::error!(run = %row.new.run, "a turn panicked");
            failed("The turn broke inside the gateway; `atoll logs` has the place. Ask again, or send /new.".to_owned())
        });
        self.finish(&row, end).await;
    }
}

impl Source {
    /// The chat, if it came from one.
    pub(crate) fn place(&self) -> Option<&Place> {
        match self {
            Self::Chat { place, .. } => Some(place),
            Self::Operator => None,
        }
    }
}

async fn type_on(accounts: Accounts, place: Place) {
    while let Some(channel) = accounts.find(&place.account).await {
        channel.typing(&place).await;
        tokio::time::sleep(TYPING).await;
    }
}

fn failed(message: String) -> TurnEnd {
    TurnEnd {
        outcome: Outcome::Failed { message },
        media: Vec::new(),
        usage: atoll_agent::message::Usage::default(),
        rounds: 0,
        model: None,
    }
}

fn state_of(outcome: &Outcome) -> RunState {
    match outcome {
        Outcome::Answer { .. } | Outcome::Silent => RunState::Done,
        Outcome::Failed { .. } => RunState::Failed,
        Outcome::Aborted { .. } => RunState::Aborted,
        Outcome::Uncertain { .. } => RunState::Uncertain,
    }
}

fn error_of(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Failed { message } => Some(message.clone()),
        Outcome::Uncertain { tools, .. } => Some(format!("uncertain: {}", tools.join(", "))),
        Outcome::Answer { .. } | Outcome::Silent | Outcome::Aborted { .. } => None,
    }
}

fn counts(end: &TurnEnd) -> Counts {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Counts {
        messages: i64::from(end.rounds) + 1,
        input_tokens: number(end.usage.input),
        output_tokens: number(end.usage.output),
        total_tokens: number(end.usage.total()),
        context_tokens: None,
        compactions: 0,
    }
}

fn ended_of(row: &RunRow) -> Ended {
    Ended {
        state: row.state,
        text: row.final_text.clone(),
        started_at: row.started_at,
        ended_at: row.ended_at.unwrap_or_default(),
    }
}

/// The lane of a session.
pub(crate) fn job(row: &RunRow) -> Job {
    Job {
        run: row.new.run.clone(),
        session: SessionKey::clone(&row.new.session),
    }
}
