//! Carries out what [`crate::turn`] decides: asks models, runs tools, appends to the transcript. Owns the turn's deadline; decides nothing
//! about the conversation.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atoll_protocol::id::{AgentId, RunId, SessionKey};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::message::{Message, ToolCall, User};
use crate::model::error::ModelError;
use crate::model::{Album, ModelConfig, ModelRequest, Models};
use crate::port::{CallKey, Caller, Exec, Meanwhile, NodeTools, Nodes, Pictures, ToolReply, TurnClock, Watch};
use crate::prompt::{BootstrapFile, Identity, SystemPrompt, system_prompt};
use crate::taint;
use crate::tool::workspace::Workspace;
use crate::tool::{ExecDefaults, ToolDescriptor, ToolPolicy, Toolbox};
use crate::transcript::{AppendError, Transcript, Writer};
use crate::turn::{Effect, Event, Outcome, Setup, Turn, TurnEnd, TurnLimits, view};

/// The time of a whole turn, if the caller has no other wish.
pub const TURN_DEADLINE: Duration = Duration::from_secs(600);
/// How long a tool that was told to end may take for it. Later: its effect counts as unknown.
const TOOL_GRACE: Duration = Duration::from_secs(10);
/// Pieces of text between a model and the machine. When full, the model's stream is read no further until there is room.
const PIECES: usize = 64;
/// Kept free of the model's window for its answer, tokens; at most a quarter of the window.
const RESERVE: usize = 20_000;

/// One turn to run, or to continue: a run id whose messages are in the transcript is continued where it stopped.
#[derive(Debug, Clone)]
pub struct TurnSpec {
    /// Names the turn for ever.
    pub run: RunId,
    /// The agent.
    pub agent: AgentId,
    /// The conversation.
    pub session: SessionKey,
    /// What the person said; already in the transcript when the turn is continued.
    pub input: User,
    /// One person is waiting for an answer.
    pub direct: bool,
    /// Ids of people whose words are the owner's where several speak.
    pub owners: Vec<String>,
    /// The primary model and its fallbacks.
    pub models: Vec<Arc<ModelConfig>>,
    /// The agent's folder.
    pub workspace: Option<PathBuf>,
    /// `tools.allow` and `tools.deny`.
    pub tools: ToolPolicy,
    /// `tools.exec.{host, node}`.
    pub exec: ExecDefaults,
    /// Who the agent is.
    pub identity: Identity,
    /// The facts of the moment for the prompt: time, and the nodes with name, system, commands and whether they are connected.
    pub facts: String,
    /// The time of the whole turn.
    pub deadline: Duration,
    /// Its other bounds.
    pub limits: TurnLimits,
}

/// The house around a turn.
#[derive(Clone)]
pub struct Ports {
    /// Commands.
    pub exec: Arc<dyn Exec>,
    /// Devices.
    pub nodes: Arc<dyn Nodes>,
    /// What devices publish.
    pub node_tools: Arc<dyn NodeTools>,
    /// Whoever watches.
    pub watch: Arc<dyn Watch>,
    /// Models.
    pub models: Arc<dyn Models>,
    /// Whoever speaks while it runs.
    pub meanwhile: Arc<dyn Meanwhile>,
    /// The pictures that models are shown.
    pub pictures: Arc<dyn Pictures>,
}

/// Runs a turn to its end. `cancel` stops it at the next point where that loses nothing; dropping the future is like a crash, and the same
/// call continues it.
pub async fn run_turn(spec: TurnSpec, ports: Ports, transcript: &Transcript, cancel: CancellationToken) -> TurnEnd {
    let clock = TurnClock::default();
    let countdown = Countdown::new(spec.deadline, &clock);
    let run = match Driver::new(spec, ports, transcript, clock).await {
        Ok(mut driver) => driver.run(countdown, &cancel).await,
        Err(error) => Err(error),
    };
    run.unwrap_or_else(|broken| broken.end())
}

/// Why a turn cannot go on at all; nothing of it can be written down.
enum Broken {
    Append(AppendError),
    Workspace(PathBuf, std::io::Error),
}

impl Broken {
    fn end(self) -> TurnEnd {
        let outcome = match self {
            Self::Append(AppendError::Superseded) => Outcome::Aborted {
                message: "Stopped: the session was reset, or a later turn took over.".to_owned(),
            },
            Self::Append(error @ AppendError::Io(_)) => Outcome::Failed {
                message: format!(
                    "The conversation could not be saved ({error}). Check the disk of the gateway, then ask again."
                ),
            },
            Self::Workspace(path, error) => Outcome::Failed {
                message: format!(
                    "The agent's folder {} cannot be used ({error}). Check agents.list[].workspace.",
                    path.display()
                ),
            },
        };
        TurnEnd {
            outcome,
            media: Vec::new(),
            usage: crate::message::Usage::default(),
            rounds: 0,
            model: None,
        }
    }
}

impl From<AppendError> for Broken {
    fn from(error: AppendError) -> Self {
        Self::Append(error)
    }
}

struct Driver {
    spec: TurnSpec,
    ports: Ports,
    toolbox: Toolbox,
    tools: Arc<[ToolDescriptor]>,
    system: Arc<SystemPrompt>,
    transcript: Transcript,
    writer: Writer,
    turn: Turn,
    /// What a summary stands for.
    replaced: Vec<Arc<Message>>,
    /// Ends the tool that runs.
    tool_cancel: CancellationToken,
    clock: TurnClock,
    /// What was said since it began and is part of it by now.
    had: usize,
    pieces: mpsc::Sender<String>,
    heard: mpsc::Receiver<String>,
    /// What is under way: a model, a tool or a wait. Never two of them.
    work: BoxFuture<'static, Event>,
}

impl Driver {
    async fn new(spec: TurnSpec, ports: Ports, transcript: &Transcript, clock: TurnClock) -> Result<Self, Broken> {
        let (workspace, files) = match spec.workspace.clone() {
            Some(path) => open_workspace(path).await?,
            None => (None, Vec::new()),
        };
        let folder = workspace
            .as_ref()
            .map_or_else(String::new, |workspace| workspace.path().display().to_string());
        let toolbox = Toolbox {
            policy: spec.tools.clone(),
            workspace,
            exec: Arc::clone(&ports.exec),
            exec_defaults: spec.exec.clone(),
            nodes: Arc::clone(&ports.nodes),
            node_tools: Arc::clone(&ports.node_tools),
        };
        let tools: Arc<[ToolDescriptor]> = toolbox.offered().into();
        let setup = Setup {
            run: spec.run.clone(),
            direct: spec.direct,
            offered: tools.iter().map(|tool| tool.name.to_string()).collect(),
            models: spec.models.iter().map(|model| model.name.to_string()).collect(),
            limits: spec.limits,
        };
        let (pieces, heard) = mpsc::channel(PIECES);
        Ok(Self {
            system: Arc::new(system_prompt(&spec.identity, &tools, &files, &folder, &spec.facts)),
            transcript: transcript.clone(),
            writer: transcript.writer(&spec.run),
            turn: Turn::new(setup),
            replaced: transcript.replaced(),
            tool_cancel: CancellationToken::new(),
            clock,
            had: 0,
            work: std::future::pending().boxed(),
            spec,
            ports,
            toolbox,
            tools,
            pieces,
            heard,
        })
    }

    async fn run(&mut self, mut countdown: Countdown, cancel: &CancellationToken) -> Result<TurnEnd, Broken> {
        let mut event = self.beginning().await;
        let (mut stopped, mut late) = (false, false);
        loop {
            let effects = self.turn.handle(event);
            if let Some(end) = self.carry_out(effects).await? {
                return Ok(end);
            }
            event = tokio::select! {
                biased;
                () = cancel.cancelled(), if !stopped => {
                    stopped = true;
                    Event::Abort
                }
                () = countdown.over(), if !late => {
                    late = true;
                    Event::Deadline
                }
                Some(piece) = self.heard.recv() => Event::ModelDelta(self.rest_of(piece)),
                event = &mut self.work => {
                    self.work = std::future::pending().boxed();
                    event
                }
            };
            if is_boundary(&event) && !stopped && !late {
                self.hear().await;
            }
        }
    }

    async fn beginning(&mut self) -> Event {
        let (history, tail) = self.transcript.conversation(&self.spec.run);
        if tail.is_empty() {
            let input = std::mem::replace(&mut self.spec.input, User { content: Vec::new() });
            return Event::Start { history, input };
        }
        let said = tail.iter().filter(|message| matches!(&***message, Message::User(_)));
        self.had = said.count().saturating_sub(1);
        self.hear().await;
        Event::Resume { history, tail }
    }

    /// Gives the machine what was said meanwhile; it goes in with the event that follows.
    async fn hear(&mut self) {
        let said = self.ports.meanwhile.said(&self.spec.run, self.had).await;
        self.had += said.len();
        if !said.is_empty() {
            self.turn
                .handle(Event::Said(said.into_iter().map(User::text).collect()));
        }
    }

    /// Everything that waits, as one piece: those who watch get all of the text so far each time.
    fn rest_of(&mut self, mut piece: String) -> String {
        while let Ok(more) = self.heard.try_recv() {
            piece.push_str(&more);
        }
        piece
    }

    async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<Option<TurnEnd>, Broken> {
        for effect in effects {
            match effect {
                Effect::Append { message, synced } => self.append(message, synced).await?,
                Effect::Watch(progress) => self.ports.watch.progress(&self.spec.run, &self.spec.session, progress),
                Effect::CallModel { model, messages } => self.ask(model, &messages),
                Effect::RunTool(call) => self.run_tool(call),
                Effect::CancelTool => self.cancel_tool(),
                Effect::SetTimer(wait) => self.work = wait_with_jitter(wait).boxed(),
                Effect::Finish(end) => return Ok(Some(end)),
            }
        }
        Ok(None)
    }

    async fn append(&mut self, message: Arc<Message>, synced: bool) -> Result<(), Broken> {
        self.writer.append(message)?;
        if synced {
            let transcript = self.transcript.clone();
            let done = tokio::task::spawn_blocking(move || transcript.keep()).await;
            done.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
                .map_err(AppendError::Io)?;
        }
        Ok(())
    }

    fn ask(&mut self, model: usize, messages: &[Arc<Message>]) {
        // Pieces of an earlier question that failed are void.
        (self.pieces, self.heard) = mpsc::channel(PIECES);
        let Some(config) = self.spec.models.get(model).map(Arc::clone) else {
            return;
        };
        let messages = view::fitted(&view::with_pictures(messages, config.sees), self.budget(&config));
        let mut request = ModelRequest {
            config,
            system: Arc::clone(&self.system),
            tools: Arc::clone(&self.tools),
            messages,
            album: Album::default(),
        };
        let (models, pieces) = (Arc::clone(&self.ports.models), self.pieces.clone());
        let pictures = Arc::clone(&self.ports.pictures);
        self.work = async move {
            let asking = async {
                request.album = Album::of(&request.messages, &*pictures).await;
                models.ask(request, &pieces).await
            };
            let asked = AssertUnwindSafe(asking).catch_unwind().await;
            match asked {
                Ok(Ok(message)) => Event::ModelDone(message),
                Ok(Err(error)) => Event::ModelFailed(error),
                Err(_) => Event::ModelFailed(ModelError::Internal {
                    detail: "the model's client panicked".to_owned(),
                }),
            }
        }
        .boxed();
    }

    /// What the conversation may take of the model's window, tokens.
    fn budget(&self, config: &ModelConfig) -> usize {
        let window = config.context_window as usize;
        let answer = (config.max_tokens as usize).max(RESERVE).min(window / 4);
        let schemas: usize = self
            .tools
            .iter()
            .map(|tool| tool.parameters.to_string().len() + tool.description.len())
            .sum();
        let prompt = view::tokens(self.system.stable.len() + self.system.volatile.len() + schemas);
        window.saturating_sub(answer + prompt)
    }

    fn run_tool(&mut self, call: ToolCall) {
        self.tool_cancel = CancellationToken::new();
        let caller = Caller {
            key: CallKey {
                run: self.spec.run.clone(),
                tool_call: call.id.clone(),
            },
            agent: self.spec.agent.clone(),
            session: self.spec.session.clone(),
            cancel: self.tool_cancel.clone(),
            clock: self.clock.clone(),
            read: self.read(),
        };
        let toolbox = self.toolbox.clone();
        self.work = async move {
            let running = AssertUnwindSafe(toolbox.run(&caller, &call.name, &call.args)).catch_unwind();
            let reply = tokio::select! {
                reply = running => reply.unwrap_or_else(|_| broke()),
                reply = out_of_grace(&caller.cancel) => reply,
            };
            Event::ToolDone { id: call.id, reply }
        }
        .boxed();
    }

    /// What was read first that is not the owner's; a summary in its place makes nobody forget it.
    fn read(&self) -> Option<taint::Taint> {
        let of = |messages: &[Arc<Message>]| taint::of(messages.iter().map(|message| &**message), &self.spec.owners);
        of(&self.replaced).or_else(|| of(self.turn.messages()))
    }

    fn cancel_tool(&self) {
        self.tool_cancel.cancel();
    }
}

/// Whether something that was said can go in here: after a tool, or before the first of those that the model wants.
fn is_boundary(event: &Event) -> bool {
    match event {
        Event::ToolDone { .. } => true,
        Event::ModelDone(message) => message.calls().next().is_some(),
        Event::Start { .. }
        | Event::Resume { .. }
        | Event::Said(_)
        | Event::ModelDelta(_)
        | Event::ModelFailed(_)
        | Event::Abort
        | Event::Deadline
        | Event::TimerFired => false,
    }
}

/// What is left of a turn's time, which does not run while a person is waited for.
struct Countdown {
    end: Instant,
    stopped: Option<Instant>,
    waits: watch::Receiver<usize>,
}

impl Countdown {
    fn new(time: Duration, clock: &TurnClock) -> Self {
        Self {
            end: Instant::now() + time,
            stopped: None,
            waits: clock.waits(),
        }
    }

    /// Comes when the time is over. Dropping it loses nothing.
    async fn over(&mut self) {
        loop {
            let waits = *self.waits.borrow_and_update() > 0;
            match self.stopped {
                None if waits => self.stopped = Some(Instant::now()),
                Some(since) if !waits => {
                    self.end += since.elapsed();
                    self.stopped = None;
                }
                None | Some(_) => {}
            }
            tokio::select! {
                // The driver holds a sender of its own.
                _ = self.waits.changed() => {}
                () = sleep_until(self.end), if !waits => return,
            }
        }
    }
}

async fn open_workspace(path: PathBuf) -> Result<(Option<Arc<Workspace>>, Vec<BootstrapFile>), Broken> {
    let at = path.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let workspace = Workspace::open(&path)?;
        let files = BootstrapFile::read_all(&workspace);
        Ok((Some(Arc::new(workspace)), files))
    });
    opened
        .await
        .unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
        .map_err(|error| Broken::Workspace(at, error))
}

/// A panic in the middle of an effect: nobody knows how far it got.
fn broke() -> ToolReply {
    ToolReply {
        uncertain: true,
        ..ToolReply::error("The tool broke in the middle. Nothing is known about its effect.")
    }
}

async fn out_of_grace(cancel: &CancellationToken) -> ToolReply {
    cancel.cancelled().await;
    sleep(TOOL_GRACE).await;
    ToolReply {
        uncertain: true,
        ..ToolReply::error("The tool was told to stop and gave no answer. Nothing is known about its effect.")
    }
}

/// Up to a quarter more, so that turns that failed together do not come back together.
async fn wait_with_jitter(wait: Duration) -> Event {
    let share = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    sleep(wait + wait * share / 1024).await;
    Event::TimerFired
}

#[cfg(test)]
mod tests;
