//! The ring of devices as an agent's tool `nodes` sees it, and the tools that devices publish.

mod consent;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use atoll_agent::port::{Caller, NodeCommand, NodeTool, NodeTools, Nodes, ToolReply};
use atoll_pairing::access::Principal;
use atoll_protocol::error::WireError;
use atoll_protocol::id::DeviceId;
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::plugin_tool::MCP_CALL;
use atoll_protocol::scope::Role;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::consent::Consent;
use crate::exec::Commands;
use crate::journal::calls::{CallRow, CallState, ToolKey};
use crate::media;
use crate::pictures::Pictures;
use crate::ring::tools::NodeTool as Published;
use crate::ring::{Before, Call, CallRefused, Ring};

/// How long a published tool may take: as long as OpenClaw gives it.
const TOOL_DEADLINE: Duration = Duration::from_secs(120);

/// One turn's view of the ring.
pub(crate) struct AgentNodes {
    ring: Ring,
    exec: Commands,
    pictures: Pictures,
    any: AtomicBool,
    published: Vec<Published>,
}

impl AgentNodes {
    /// The ring as it is now. A node that is away counts: right after a start none is here yet, and a call to one says so.
    pub(crate) async fn new(exec: Commands, pictures: Pictures) -> Self {
        let ring = exec.ring.clone();
        let look = ring
            .book
            .read(|book, _| book.records().any(|record| record.role(Role::Node).is_some()));
        let any = look.await.unwrap_or_default();
        let published = ring.tools().await;
        Self {
            ring,
            exec,
            pictures,
            any: AtomicBool::new(any),
            published,
        }
    }
}

#[async_trait]
impl Nodes for AgentNodes {
    fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    async fn list(&self) -> Json {
        let rows = self.ring.rows().await;
        json!({"nodes": rows.into_iter().map(without_tools).collect::<Vec<_>>()}).into()
    }

    async fn describe(&self, node: &str) -> Result<Json, String> {
        let node = self.ring.find(Some(node)).await.map_err(|error| error.to_string())?;
        let row = self
            .ring
            .row(node)
            .await
            .ok_or_else(|| "that node has just been removed".to_owned())?;
        Ok(without_tools(row).into())
    }

    async fn invoke(&self, caller: &Caller, node: &str, command: NodeCommand) -> ToolReply {
        if command.name.starts_with("system.run") || command.name.starts_with("system.execApprovals") {
            return failed("use the tool exec with host=node for commands".to_owned());
        }
        if command.name == MCP_CALL {
            return failed("tools of MCP servers have names of their own; use those".to_owned());
        }
        let name = command.name.clone();
        let meant = async { Ok((meant(&self.ring, node).await?, command)) };
        match self.decided(caller, node, &name, meant).await {
            Ok(Some(payload)) => self.told(&payload).await,
            Ok(None) => ToolReply::ok("ok"),
            Err(error) => error.reply(),
        }
    }
}

#[async_trait]
impl NodeTools for AgentNodes {
    fn offered(&self) -> Vec<NodeTool> {
        let offered = |tool: &Published| NodeTool {
            name: tool.name.clone(),
            node: tool.node_name.clone(),
            server: tool.mcp.server.to_string(),
            tool: tool.mcp.tool.to_string(),
            description: tool.description.clone(),
            parameters: tool.parameters.clone(),
        };
        self.published.iter().map(offered).collect()
    }

    async fn call(&self, caller: &Caller, name: &str, arguments: Json) -> ToolReply {
        let there = async { self.published_call(name, &arguments).map_err(NotInvoked::Node) };
        match self.decided(caller, name, MCP_CALL, there).await {
            Ok(payload) => {
                ToolReply::ok(payload.map_or_else(|| "ok".to_owned(), |payload| payload.as_str().to_owned()))
            }
            Err(error) => error.reply(),
        }
    }
}

impl AgentNodes {
    /// Runs it, after a person's yes where the conversation has read what is not the owner's. What is meant is looked for only if it was
    /// not made before. `target` and `command` are for the audit.
    async fn decided(
        &self,
        caller: &Caller,
        target: &str,
        command: &str,
        look: impl Future<Output = Result<(DeviceId, NodeCommand), NotInvoked>>,
    ) -> Result<Option<Json>, NotInvoked> {
        let once = self.once(caller);
        if let Some(end) = once.known().await? {
            return end;
        }
        let end = self.decided_anew(caller, &once, look).await;
        if let Err(error) = &end {
            once.note(target, command, error).await;
        }
        end
    }

    async fn decided_anew(
        &self,
        caller: &Caller,
        once: &Once<'_>,
        look: impl Future<Output = Result<(DeviceId, NodeCommand), NotInvoked>>,
    ) -> Result<Option<Json>, NotInvoked> {
        let (node, command) = look.await?;
        if let Some(read) = self
            .exec
            .heeded(caller.read)
            .filter(|_| consent::is_needed(&command.name))
        {
            let consent = Consent {
                exec: &self.exec,
                caller,
                key: &once.key,
                node,
            };
            consent.ask(&command, read).await?;
        }
        once.make(node, command).await
    }

    fn once<'a>(&'a self, caller: &'a Caller) -> Once<'a> {
        Once {
            ring: &self.ring,
            principal: Arc::new(Principal::agent(caller.agent.clone(), caller.session.clone())),
            key: ToolKey {
                run: caller.key.run.clone(),
                tool_call: caller.key.tool_call.clone(),
            },
            cancel: &caller.cancel,
        }
    }

    /// The call that a published tool stands for, while it is there.
    fn published_call(&self, name: &str, arguments: &Json) -> Result<(DeviceId, NodeCommand), String> {
        let tool =
            self.published.iter().find(|tool| tool.name == name).ok_or_else(|| {
                format!("There is no tool {name:?} now; its device may be away, or does not offer it.")
            })?;
        self.ring.check_tool(tool)?;
        let params = json!({"server": tool.mcp.server, "tool": tool.mcp.tool, "arguments": arguments});
        let command = NodeCommand {
            name: MCP_CALL.to_owned(),
            params: Some(params.into()),
            timeout: Some(TOOL_DEADLINE),
        };
        Ok((tool.node, command))
    }

    /// A result in words, with its pictures beside it.
    async fn told(&self, payload: &Json) -> ToolReply {
        let found = self.pictures.of(payload).await;
        let mut text = media::in_words(payload);
        for note in found.notes {
            text.push('\n');
            text.push_str(&note);
        }
        ToolReply {
            media: found.media,
            ..ToolReply::ok(text)
        }
    }
}

/// One call on a node that is made once, however often it is asked for under its key.
pub(crate) struct Once<'a> {
    pub(crate) ring: &'a Ring,
    pub(crate) principal: Arc<Principal>,
    pub(crate) key: ToolKey,
    pub(crate) cancel: &'a CancellationToken,
}

impl Once<'_> {
    /// Its result; what has bytes is in the store by then.
    pub(crate) async fn invoke(&self, node: &str, command: NodeCommand) -> Result<Option<Json>, NotInvoked> {
        if let Some(end) = self.known().await? {
            return end;
        }
        match meant(self.ring, node).await {
            Ok(meant) => self.make(meant, command).await,
            Err(error) => {
                self.note(node, &command.name, &error).await;
                Err(error)
            }
        }
    }

    /// Writes down what came to nothing before it was a call.
    async fn note(&self, target: &str, command: &str, error: &NotInvoked) {
        let (outcome, why) = match error {
            NotInvoked::Node(why) => ("unknown_node", why),
            NotInvoked::No(why) => ("denied", why),
            NotInvoked::Call(_) | NotInvoked::Before { .. } => return,
        };
        self.ring.unmade(&self.principal, target, command, outcome, why).await;
    }

    /// How it went or goes, if it was sent before.
    async fn known(&self) -> Result<Option<Result<Option<Json>, NotInvoked>>, NotInvoked> {
        Ok(match self.ring.before(&self.key, self.cancel).await? {
            None => None,
            Some(Before::Open(end)) => Some(end.map_err(|failure| CallRefused::Failed(failure).into())),
            Some(Before::Ended(row)) => Some(of_row(*row)),
        })
    }

    async fn make(&self, node: DeviceId, command: NodeCommand) -> Result<Option<Json>, NotInvoked> {
        let timeout = command
            .timeout
            .unwrap_or(limits::CALL_DEADLINE)
            .min(Duration::from_secs(60 * 60));
        let call = Call {
            key: Some(self.key.clone()),
            cancel: self.cancel.clone(),
            ..Call::new(node, command.name, command.params, timeout)
        };
        Ok(self.ring.call(&self.principal, &call).await?)
    }
}

async fn meant(ring: &Ring, node: &str) -> Result<DeviceId, NotInvoked> {
    let found = ring.find(Some(node)).await;
    found.map_err(|error| NotInvoked::Node(error.to_string()))
}

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum NotInvoked {
    /// Nobody, or more than one, is meant; or what is meant is not there.
    Node(String),
    /// A person said no, or nobody answered.
    No(String),
    /// It was not made, or failed.
    Call(CallRefused),
    /// It had failed before a restart, and this was written down.
    Before {
        /// The words.
        text: String,
        /// Whether it may have had its effect.
        uncertain: bool,
    },
}

impl From<CallRefused> for NotInvoked {
    fn from(refused: CallRefused) -> Self {
        Self::Call(refused)
    }
}

impl NotInvoked {
    /// For a model or a person.
    pub(crate) fn reply(self) -> ToolReply {
        match self {
            Self::Node(text) => failed(text),
            Self::No(reason) => failed(format!("not run: {reason}")),
            Self::Call(CallRefused::Failed(failure)) => ToolReply {
                uncertain: failure.is_uncertain(),
                ..ToolReply::error(failure.to_string())
            },
            Self::Call(refused) => failed(WireError::from(refused).message),
            Self::Before { text, uncertain } => ToolReply {
                uncertain,
                ..ToolReply::error(text)
            },
        }
    }
}

/// What was written down before a restart.
fn of_row(row: CallRow) -> Result<Option<Json>, NotInvoked> {
    let text = row.result.unwrap_or_default();
    if row.state == CallState::Ok {
        return Ok(Json::parse(&text).ok());
    }
    Err(NotInvoked::Before {
        text,
        uncertain: row.state == CallState::Uncertain,
    })
}

/// Published tools are offered by themselves.
fn without_tools(mut row: Value) -> Value {
    row.as_object_mut().map(|row| row.remove("nodePluginTools"));
    row
}

fn failed(text: String) -> ToolReply {
    ToolReply::error(text)
}
