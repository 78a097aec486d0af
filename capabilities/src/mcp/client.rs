//! Speaks the Model Context Protocol to one server over its pipes. The one file that knows the library.

use std::sync::Arc;

use atoll_protocol::error::CallError;
use rmcp::model::{CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation, PaginatedRequestParams};
use rmcp::service::{NotificationContext, Peer, RoleClient, RunningService, ServiceError, serve_client};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{ClientHandler, ErrorData};
use serde_json::{Map, Value};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{Notify, watch};

use super::meter::{Excess, LINE, Metered};
use super::{Listed, unavailable};

/// This build has what it takes.
pub(super) const MISSING: Option<&str> = None;

/// Pages of a list of tools, and tools in all of them. More: the rest is not asked for.
const PAGES: usize = 64;
const TOOLS: usize = 1024;

/// What is repeated of an error of a server's, characters.
const WORDS: usize = 1024;

/// What is heard of a server that nobody asked for.
#[derive(Debug, Clone)]
struct Listener {
    tools_changed: Arc<Notify>,
}

impl ClientHandler for Listener {
    /// Nothing is offered to servers: no files, no models, no questions to people.
    fn get_info(&self) -> ClientConfig {
        let own = Implementation::new("atoll-node", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), own)
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.tools_changed.notify_one();
    }
}

/// A server that has been greeted. Cheap to clone; hung up when the last one is dropped.
#[derive(Clone)]
pub(super) struct Session {
    peer: Peer<RoleClient>,
    /// Hangs up when dropped.
    _running: Arc<RunningService<RoleClient, Listener>>,
    tools_changed: Arc<Notify>,
    excess: watch::Receiver<Excess>,
}

impl Session {
    /// Greets a server.
    ///
    /// # Errors
    /// Why it cannot be spoken to.
    pub(super) async fn open(stdout: Metered<ChildStdout>, stdin: ChildStdin) -> Result<Self, String> {
        let tools_changed = Arc::new(Notify::new());
        let listener = Listener {
            tools_changed: Arc::clone(&tools_changed),
        };
        let excess = stdout.excess();
        let pipes = AsyncRwTransport::new_client(stdout, stdin).with_max_line_length(LINE);
        let running = serve_client(listener, pipes)
            .await
            .map_err(|error| cut(&error.to_string()))?;
        Ok(Self {
            peer: running.peer().clone(),
            _running: Arc::new(running),
            tools_changed,
            excess,
        })
    }

    /// What it offers.
    ///
    /// # Errors
    /// Why it does not say.
    pub(super) async fn tools(&self) -> Result<Vec<Listed>, String> {
        let (mut all, mut cursor) = (Vec::new(), None);
        for _ in 0..PAGES {
            let page = cursor.take().map(|cursor| {
                let mut page = PaginatedRequestParams::default();
                page.cursor = Some(cursor);
                page
            });
            let page = self
                .peer
                .list_tools(page)
                .await
                .map_err(|error| cut(&error.to_string()))?;
            all.extend(page.tools.into_iter().map(|tool| Listed {
                name: tool.name.into_owned(),
                description: tool.description.unwrap_or_default().into_owned(),
                schema: Value::Object(Arc::unwrap_or_clone(tool.input_schema)),
            }));
            cursor = page.next_cursor;
            if cursor.is_none() || all.len() >= TOOLS {
                break;
            }
        }
        all.truncate(TOOLS);
        Ok(all)
    }

    /// Calls a tool: `{content, structuredContent?, isError?}`. Dropped, it tells the server that nobody waits any more.
    ///
    /// # Errors
    /// The server refuses it, is gone, or says more than can be taken.
    pub(super) async fn call(&self, tool: &str, arguments: Map<String, Value>) -> Result<Value, CallError> {
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let mut excess = self.excess.clone();
        let answer = tokio::select! {
            answer = self.peer.call_tool(params) => answer.map_err(|error| failed(&error))?,
            () = grown(&mut excess) => return Err(too_large()),
        };
        let mut answer = serde_json::to_value(answer).unwrap_or_default();
        if let Some(fields) = answer.as_object_mut() {
            fields.retain(|name, _| matches!(name.as_str(), "content" | "structuredContent" | "isError"));
        }
        Ok(answer)
    }

    /// Waits until it says that its tools are others now.
    pub(super) async fn changed(&self) {
        self.tools_changed.notified().await;
    }

    /// Waits until it cannot be spoken to any more; tells why.
    pub(super) async fn ended(&self) -> String {
        let mut excess = self.excess.clone();
        // The meter is dropped with the reader, which is when the server has hung up.
        let flood = excess.wait_for(|excess| excess.is_flood).await.is_ok();
        match flood {
            true => "it said too much at once".to_owned(),
            false => "it hung up".to_owned(),
        }
    }
}

/// Waits until a line came that is too long; for ever when the server is gone, which the call hears by itself.
async fn grown(excess: &mut watch::Receiver<Excess>) {
    let before = excess.borrow().long_lines;
    if excess.wait_for(|now| now.long_lines > before).await.is_err() {
        std::future::pending().await
    }
}

fn too_large() -> CallError {
    let most = LINE / 1024 / 1024;
    CallError::new(
        "MCP_TOOL_ERROR",
        format!("the server gave an answer of more than {most} MiB, which is not taken; ask the tool for less"),
    )
}

fn failed(error: &ServiceError) -> CallError {
    if let ServiceError::McpError(ErrorData { message, .. }) = error {
        return CallError::new("MCP_TOOL_ERROR", cut(message));
    }
    if matches!(error, ServiceError::TransportClosed | ServiceError::TransportSend(_)) {
        return unavailable("the MCP server ended before it answered; whether it did anything is not known");
    }
    CallError::new("MCP_TOOL_ERROR", cut(&error.to_string()))
}

fn cut(words: &str) -> String {
    words.chars().take(WORDS).collect()
}
