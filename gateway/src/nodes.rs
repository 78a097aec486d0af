//! The ring of devices as an agent's tool `nodes` sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use atoll_agent::port::{Caller, Nodes, ToolReply};
use atoll_pairing::access::Principal;
use atoll_protocol::error::WireError;
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use serde_json::json;

use crate::journal::calls::{CallRow, CallState, ToolKey};
use crate::ring::{Before, Call, CallRefused, Ring};

/// One turn's view of the ring.
pub(crate) struct AgentNodes {
    ring: Ring,
    any: AtomicBool,
}

impl AgentNodes {
    /// The ring as it is now.
    pub(crate) async fn new(ring: Ring) -> Self {
        let any = !ring.hub.nodes().is_empty();
        Self {
            ring,
            any: AtomicBool::new(any),
        }
    }
}

#[async_trait]
impl Nodes for AgentNodes {
    fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    async fn list(&self) -> Json {
        json!({"nodes": self.ring.rows().await}).into()
    }

    async fn describe(&self, node: &str) -> Result<Json, String> {
        let node = self.ring.find(Some(node)).await.map_err(|error| error.to_string())?;
        let row = self
            .ring
            .row(node)
            .await
            .ok_or_else(|| "that node has just been removed".to_owned())?;
        Ok(row.into())
    }

    async fn invoke(&self, caller: &Caller, node: &str, command: &str, params: Option<Json>) -> ToolReply {
        if command.starts_with("system.run") || command.starts_with("system.execApprovals") {
            return failed("use the tool exec with host=node for commands".to_owned());
        }
        let key = ToolKey {
            run: caller.key.run.clone(),
            tool_call: caller.key.tool_call.clone(),
        };
        match self.ring.before(&key, &caller.cancel).await {
            Ok(None) => {}
            Ok(Some(Before::Open(end))) => return reply(end.map_err(CallRefused::Failed)),
            Ok(Some(Before::Ended(row))) => return of_row(*row),
            Err(refused) => return reply(Err(refused)),
        }
        let node = match self.ring.find(Some(node)).await {
            Ok(node) => node,
            Err(error) => return failed(error.to_string()),
        };
        let principal = Arc::new(Principal::agent(caller.agent.clone(), caller.session.clone()));
        let call = Call {
            key: Some(ToolKey {
                run: caller.key.run.clone(),
                tool_call: caller.key.tool_call.clone(),
            }),
            cancel: caller.cancel.clone(),
            ..Call::new(node, command, params, limits::CALL_DEADLINE)
        };
        reply(self.ring.call(&principal, &call).await)
    }
}

fn reply(ended: Result<Option<Json>, CallRefused>) -> ToolReply {
    match ended {
        Ok(payload) => ToolReply::ok(payload.map_or_else(|| "ok".to_owned(), |payload| payload.as_str().to_owned())),
        Err(CallRefused::Failed(failure)) => ToolReply {
            uncertain: failure.is_uncertain(),
            text: failure.to_string(),
            is_error: true,
        },
        Err(refused) => failed(WireError::from(refused).message),
    }
}

/// What was written down before a restart.
fn of_row(row: CallRow) -> ToolReply {
    ToolReply {
        text: row.result.unwrap_or_else(|| "ok".to_owned()),
        is_error: row.state != CallState::Ok,
        uncertain: row.state == CallState::Uncertain,
    }
}

fn failed(text: String) -> ToolReply {
    ToolReply::error(text)
}
