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
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use atoll_protocol::plugin_tool::{MCP_CALL, PluginTool};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
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
    state_dir: PathBuf,
    known: Mutex<Known>,
    /// The owner's file was read again.
    read: Notify,
    published: watch::Sender<Published>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What the owner's file lists, as it was read last.
#[derive(Default)]
struct Known {
    servers: BTreeMap<String, Kept>,
    /// Servers that cannot be started as they are written, and why.
    unusable: BTreeMap<String, String>,
    /// Why the file says nothing at all; then all is as before.
    problem: Option<String>,
}

/// A server, and its end.
struct Kept {
    server: Arc<Server>,
    is_started: bool,
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
    /// What the owner's file in `state_dir` lists. Starts nothing.
    pub fn new(state_dir: &Path) -> Self {
        let mcp = Self {
            state_dir: state_dir.to_owned(),
            known: Mutex::default(),
            read: Notify::new(),
            published: watch::Sender::new(Vec::new().into()),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        mcp.read_again();
        mcp
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the file lists now: a server that is written as before goes on, another one ends. Waits for the disk.
    fn read_again(&self) {
        let loaded = settings::load(&self.state_dir);
        let mut known = self.known();
        match loaded {
            Err(problem) => known.problem = Some(problem),
            Ok(all) => {
                let mut before = std::mem::take(&mut *known).servers;
                for (name, settings) in all {
                    match settings {
                        Ok(settings) => {
                            let same = before.remove(&name).filter(|kept| kept.server.is_written(&settings));
                            let kept = same.unwrap_or_else(|| self.kept(Server::new(name.clone(), settings)));
                            known.servers.insert(name, kept);
                        }
                        Err(why) => drop(known.unusable.insert(name, why)),
                    }
                }
                // What is not kept ends when it is dropped.
            }
        }
        drop(known);
        self.publish();
        self.read.notify_one();
    }

    fn kept(&self, server: Server) -> Kept {
        Kept {
            server: Arc::new(server),
            is_started: false,
            stop: self.stop.child_token(),
        }
    }

    /// What the owner calls them, those that cannot be started included.
    pub fn servers(&self) -> Vec<String> {
        let known = self.known();
        known.servers.keys().chain(known.unusable.keys()).cloned().collect()
    }

    /// Starts the servers while they are wanted, and keeps them up until [`Self::close`]; looks again whenever [`Capability::describe`] does.
    pub fn start(self: &Arc<Self>, are_wanted: impl Fn() -> bool + Send + Sync + 'static) {
        let mcp = Arc::clone(self);
        self.tasks.spawn(async move {
            let keeping = async {
                loop {
                    mcp.keep(are_wanted());
                    mcp.read.notified().await;
                }
            };
            mcp.stop.run_until_cancelled(keeping).await;
        });
    }

    fn keep(self: &Arc<Self>, are_wanted: bool) {
        let mut known = self.known();
        for (name, why) in &known.unusable {
            tracing::warn!(server = name, "an MCP server is not started: {why}");
        }
        let are_wanted = are_wanted && client::MISSING.is_none();
        for kept in known.servers.values_mut() {
            if kept.is_started && !are_wanted {
                *kept = self.kept(kept.server.anew());
            } else if are_wanted && !kept.is_started {
                kept.is_started = true;
                let (mcp, server, stop) = (Arc::clone(self), Arc::clone(&kept.server), kept.stop.clone());
                self.tasks.spawn(async move {
                    let changed = || mcp.publish();
                    stop.run_until_cancelled(server.keep_up(changed)).await;
                    server.end().await;
                });
            }
        }
        drop(known);
        self.publish();
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
        let servers: Vec<_> = self
            .known()
            .servers
            .values()
            .map(|kept| Arc::clone(&kept.server))
            .collect();
        let listed = servers.iter().map(|server| (server.name(), server.listed()));
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
        let known = self.known();
        if let Some(problem) = &known.problem {
            return Some(problem.clone());
        }
        if !known.servers.is_empty() {
            return client::MISSING.map(str::to_owned);
        }
        Some(match known.unusable.first_key_value() {
            Some((name, why)) => format!("the server {name:?} cannot be started: {why}"),
            None => "no server is listed in node.json (mcp.servers)".to_owned(),
        })
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

    fn server(&self, name: &str) -> Result<Arc<Server>, CallError> {
        let known = self.known();
        let found = known.servers.get(name).map(|kept| Arc::clone(&kept.server));
        found.ok_or_else(|| {
            unavailable(match known.unusable.get(name) {
                Some(why) => format!("the MCP server {name:?} cannot be started: {why}"),
                None => format!("this device has no MCP server {name:?}"),
            })
        })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stop.cancel();
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
        self.read_again();
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
