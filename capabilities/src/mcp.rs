//! `mcp.tools.call.v1`: the tools of servers of the Model Context Protocol that this device's owner has listed, and the list of them that
//! gateways are told.
//!
//! The command, its parameters and its error codes are OpenClaw's. Each server is a program in a process group of its own (`server`), spoken
//! to over its pipes (`client`, which needs the feature `mcp`); how its tools are called and bounded is in `catalogue` and `result`.

mod catalogue;
#[cfg(feature = "mcp")]
mod client;
#[cfg(not(feature = "mcp"))]
#[path = "mcp/no_client.rs"]
mod client;
mod meter;
mod result;
mod server;
mod settings;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use atoll_protocol::plugin_tool::{MCP_CALL, PluginTool};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::group::GRACE;
use crate::{Call, Capability, Description};
use server::Server;

/// The tools that gateways are told, all of them each time.
pub type Published = Arc<[PluginTool]>;

/// How long a call waits for a server that has not come up yet.
const FIRST_START: Duration = Duration::from_secs(20);

/// The servers of this device.
pub struct Mcp {
    servers: BTreeMap<String, Arc<Server>>,
    /// Servers that cannot be started as they are written, and why.
    unusable: BTreeMap<String, String>,
    /// Why the owner's file says nothing at all.
    problem: Option<String>,
    published: watch::Sender<Published>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    server: String,
    tool: String,
    arguments: Option<Value>,
}

impl Mcp {
    /// What the owner's file in `state_dir` lists now. Starts nothing.
    pub fn new(state_dir: &Path) -> Self {
        let (mut servers, mut unusable, mut problem) = (BTreeMap::new(), BTreeMap::new(), None);
        match settings::load(state_dir) {
            Ok(all) => {
                for (name, server) in all {
                    match server {
                        Ok(server) => drop(servers.insert(name.clone(), Arc::new(Server::new(name, server)))),
                        Err(why) => drop(unusable.insert(name, why)),
                    }
                }
            }
            Err(error) => problem = Some(error),
        }
        Self {
            servers,
            unusable,
            problem,
            published: watch::Sender::new(Vec::new().into()),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// What the owner calls them, those that cannot be started included.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.servers.keys().chain(self.unusable.keys()).map(String::as_str)
    }

    /// Starts the servers, and keeps them up until [`Self::close`].
    pub fn start(self: &Arc<Self>) {
        for (name, why) in &self.unusable {
            tracing::warn!(server = name, "an MCP server is not started: {why}");
        }
        if self.missing().is_some() {
            return;
        }
        for server in self.servers.values() {
            let (mcp, server) = (Arc::clone(self), Arc::clone(server));
            self.tasks.spawn(async move {
                let changed = || mcp.publish();
                mcp.stop.run_until_cancelled(server.keep_up(changed)).await;
                server.end().await;
            });
        }
    }

    /// The tools there are, and each change of them.
    pub fn published(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// Ends the servers, for at most `patience`.
    pub async fn close(&self, patience: Duration) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
    }

    fn publish(&self) {
        let listed = self.servers.values().map(|server| (server.name(), server.listed()));
        let (tools, left_out) = catalogue::of(listed);
        if !left_out.is_empty() {
            tracing::warn!(
                count = left_out.len(),
                first = ?left_out.iter().take(5).collect::<Vec<_>>(),
                "tools of MCP servers are not published"
            );
        }
        self.published.send_if_modified(|published| {
            let is_news = published[..] != tools[..];
            if is_news {
                *published = tools.into();
            }
            is_news
        });
    }

    /// Why there are no tools at all.
    fn missing(&self) -> Option<String> {
        if let Some(problem) = &self.problem {
            return Some(problem.clone());
        }
        let has_servers = !self.servers.is_empty();
        client::MISSING
            .filter(|_| has_servers)
            .map(str::to_owned)
            .or_else(|| (!has_servers).then(|| self.no_servers()))
    }

    fn no_servers(&self) -> String {
        match self.unusable.first_key_value() {
            Some((name, why)) => format!("the server {name:?} cannot be started: {why}"),
            None => "no server is listed in node.json (mcp.servers)".to_owned(),
        }
    }

    async fn call(&self, call: Call) -> Result<Json, CallError> {
        let params = params(&call)?;
        let arguments = match params.arguments {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(_) => return Err(invalid("arguments must be an object")),
        };
        let server = self.server(&params.server)?;
        let until = Instant::now() + call.deadline.saturating_sub(GRACE.min(call.deadline / 2));
        let up = server.up(until.min(Instant::now() + FIRST_START)).await?;
        if !up.tools.iter().any(|tool| tool.name == params.tool) {
            let why = format!("the MCP server {:?} has no tool {:?} now", params.server, params.tool);
            return Err(CallError::new("MCP_TOOL_UNAVAILABLE", why));
        }
        let limit = result::limit(call.blobs.is_some());
        let answer = timeout_at(until, up.session.call(&params.tool, arguments)).await;
        // Dropped, the call has told its server that nobody waits any more.
        let answer = answer.map_err(|_| {
            let time = call.deadline.as_secs_f32();
            let what = format!("{:?} of the MCP server {:?}", params.tool, params.server);
            CallError::new(
                "MCP_TOOL_TIMEOUT",
                format!("{what} gave nothing within {time:.1} s and was told to stop"),
            )
        })??;
        Ok(Json::from(result::bounded(answer, limit)))
    }

    fn server(&self, name: &str) -> Result<&Server, CallError> {
        let unusable = self.unusable.get(name);
        self.servers.get(name).map(|server| &**server).ok_or_else(|| {
            unavailable(match unusable {
                Some(why) => format!("the MCP server {name:?} cannot be started: {why}"),
                None => format!("this device has no MCP server {name:?}"),
            })
        })
    }
}

/// The server and the tool that a call is for; none where it has to fail, and where it is for no MCP server.
pub fn called(call: &Call) -> Option<(String, String)> {
    let params = (call.command == MCP_CALL).then(|| params(call))?.ok()?;
    Some((params.server, params.tool))
}

fn params(call: &Call) -> Result<Params, CallError> {
    let params = call.params.as_ref();
    params
        .ok_or_else(|| invalid("server and tool are missing"))?
        .read()
        .map_err(|error| invalid(error.to_string()))
}

#[async_trait]
impl Capability for Mcp {
    fn describe(&self) -> Description {
        let mut description = Description {
            cap: "mcp",
            ..Description::default()
        };
        match self.missing() {
            None => description.commands.push(MCP_CALL),
            Some(why) => description.missing.push((MCP_CALL, why)),
        }
        description
    }

    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
        let cancel = call.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(CallError::new("CANCELLED", "the call was cancelled; the MCP server was told so")),
            done = self.call(call) => done.map(Some),
        }
    }
}

/// A tool, as its server lists it.
#[derive(Debug, Clone, PartialEq)]
struct Listed {
    name: String,
    description: String,
    schema: Value,
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::new("INVALID_REQUEST", message)
}

fn unavailable(message: impl Into<String>) -> CallError {
    CallError::new("MCP_SERVER_UNAVAILABLE", message)
}
