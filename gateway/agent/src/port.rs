//! What an agent turn needs from the house around it. The gateway implements these; tests script them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::id::{AgentId, RunId, SessionKey};
use atoll_protocol::json::Json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::message::Media;
use crate::taint::Taint;

/// Names one tool call for ever: the same key after a restart means the same call, so that it is never run twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallKey {
    /// The turn.
    pub run: RunId,
    /// The model's id for its tool call.
    pub tool_call: String,
}

/// On whose behalf a tool acts.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The call.
    pub key: CallKey,
    /// The agent.
    pub agent: AgentId,
    /// The conversation.
    pub session: SessionKey,
    /// Ends the call: `/stop`, or the turn's deadline.
    pub cancel: CancellationToken,
    /// The time of its turn.
    pub clock: TurnClock,
    /// What the conversation has read by now that is not its owner's.
    pub read: Option<Taint>,
}

/// The time of a turn, as those who work for it see it: they can stop it while they wait for a person. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TurnClock(Arc<watch::Sender<usize>>);

impl Default for TurnClock {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl TurnClock {
    /// Stops it for as long as what is given back lives.
    pub fn pause(&self) -> Paused {
        self.0.send_modify(|waits| *waits += 1);
        Paused(Arc::clone(&self.0))
    }

    /// How many have stopped it.
    pub(crate) fn waits(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }
}

/// A turn's clock does not run.
#[derive(Debug)]
pub struct Paused(Arc<watch::Sender<usize>>);

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.send_modify(|waits| *waits = waits.saturating_sub(1));
    }
}

/// Where a command is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecHost {
    /// On the machine of the gateway.
    Gateway,
    /// On a node: an id, a unique prefix, a name, conditions; none means the configured or the only one.
    Node(Option<String>),
}

/// The arguments of the tool `exec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Shell text.
    pub command: String,
    /// Working folder.
    pub workdir: Option<String>,
    /// Environment to add.
    pub env: Vec<(String, String)>,
    /// Deadline of the command, seconds.
    pub timeout_seconds: Option<u64>,
    /// Where; never silently another place.
    pub host: ExecHost,
}

/// What a tool gives back to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolReply {
    /// Text for the model, bounded by the tool.
    pub text: String,
    /// The tool failed; the model is told so.
    pub is_error: bool,
    /// The effect is unknown (a device or the gateway died in the middle); the person must be told.
    pub uncertain: bool,
    /// Pictures and files that came of it.
    pub media: Vec<Media>,
}

impl ToolReply {
    /// It worked.
    pub fn ok(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_error: false,
            uncertain: false,
            media: Vec::new(),
        }
    }

    /// It failed, and nothing is unknown about that.
    pub fn error(text: impl Into<String>) -> Self {
        Self {
            is_error: true,
            ..Self::ok(text)
        }
    }
}

/// Commands on the gateway's machine and on nodes, with every policy and approval in between.
///
/// Calling twice with one [`CallKey`] never runs the command twice: the second call waits for or returns the first one's end.
#[async_trait]
pub trait Exec: Send + Sync {
    /// Runs a command to its end, asking a person where the policies say so.
    async fn exec(&self, caller: &Caller, request: ExecRequest) -> ToolReply;
}

/// The ring of devices, as the tool `nodes` sees it.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// Whether there is any node; without one the tool is not offered.
    fn any(&self) -> bool;

    /// All nodes, as the rows of `node.list`.
    async fn list(&self) -> Json;

    /// One node: id, unique prefix, name or conditions. The error is a sentence that lists the candidates.
    async fn describe(&self, node: &str) -> Result<Json, String>;

    /// Runs a command other than `system.run` on a node. Bytes of its result are in the media store by then, and in no text.
    async fn invoke(&self, caller: &Caller, node: &str, command: NodeCommand) -> ToolReply;
}

/// A command for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCommand {
    /// Its name, e.g. `camera.snap`.
    pub name: String,
    /// Its parameters.
    pub params: Option<Json>,
    /// How long it may take; none: the house's usual time.
    pub timeout: Option<Duration>,
}

/// The pictures that models are shown.
#[async_trait]
pub trait Pictures: Send + Sync {
    /// The bytes of a [`crate::message::View`]; none when they are not in the store any more.
    async fn view(&self, handle: &str) -> Option<Vec<u8>>;
}

/// A tool that a device publishes. All but the name are the device's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTool {
    /// The name for models, with `__` in it; no other tool has it.
    pub name: String,
    /// What people call its device.
    pub node: String,
    /// What the device's owner calls its server.
    pub server: String,
    /// What the server calls it.
    pub tool: String,
    /// What the server says of it.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Option<Json>,
}

/// The tools that devices publish.
#[async_trait]
pub trait NodeTools: Send + Sync {
    /// Those that the turn can be offered; the same through all of it.
    fn offered(&self) -> Vec<NodeTool>;

    /// Calls one. Where it worked, the text of the reply is the result in the words of the Model Context Protocol, JSON. Twice with one
    /// [`CallKey`] is once.
    async fn call(&self, caller: &Caller, name: &str, arguments: Json) -> ToolReply;
}

/// No device publishes anything.
#[async_trait]
impl NodeTools for () {
    fn offered(&self) -> Vec<NodeTool> {
        Vec::new()
    }

    async fn call(&self, _: &Caller, name: &str, _: Json) -> ToolReply {
        ToolReply::error(format!("There is no tool {name:?}."))
    }
}

/// What a person says while a turn runs.
#[async_trait]
pub trait Meanwhile: Send + Sync {
    /// What was said to this turn since it began, without the first `had` things. What this call takes over is this turn's to answer,
    /// durably, before it returns; the same `had` again gives the same, after a restart too.
    async fn said(&self, run: &RunId, had: usize) -> Vec<String>;
}

/// A turn as others can watch it. Best effort: nothing durable depends on it.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The turn has begun.
    Started,
    /// More text of the answer; `text` is all of it so far.
    Text {
        /// The new part.
        delta: String,
        /// Everything so far in this message.
        text: String,
    },
    /// A tool begins.
    ToolStarted {
        /// The model's id for the call.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments.
        args: Json,
    },
    /// A tool ended.
    ToolEnded {
        /// The model's id for the call.
        id: String,
        /// The tool.
        name: String,
        /// Whether it failed.
        is_error: bool,
    },
}

/// Whoever watches a turn.
pub trait Watch: Send + Sync {
    /// Must not block.
    fn progress(&self, run: &RunId, session: &SessionKey, progress: Progress);
}
