//! Calls that are not made, for the audit. Those that are made stand in the table of calls, and nothing is written twice.

use std::fmt::Display;
use std::sync::Arc;

use atoll_pairing::access::Principal;
use atoll_protocol::json::Json;
use serde_json::json;

use super::{Call, CallRefused, Ring};
use crate::clock;
use crate::journal::audit::{Entry, cut};

/// What was wanted, as the audit names it.
const ACTION: &str = "node.invoke";

impl Ring {
    /// Calls a command on a node, for somebody, once.
    ///
    /// Thousands a second go this way: what few calls need is boxed, so that all others are small.
    pub(crate) async fn call(&self, principal: &Arc<Principal>, call: &Call) -> Result<Option<Json>, CallRefused> {
        let end = self.attempt(principal, call).await;
        // What has waited stands in the table of calls already, and may be tried again.
        if let Err(refused) = &end
            && !call.has_waited
            && let Some(outcome) = outcome(refused)
        {
            Box::pin(self.unmade(principal, call.node, &call.command, outcome, refused)).await;
        }
        end
    }

    /// Writes down that somebody wanted a command run on a node and it was not even tried.
    pub(crate) async fn unmade(
        &self,
        by: &Principal,
        node: impl Display,
        command: &str,
        outcome: &str,
        why: impl Display,
    ) {
        let entry = Entry {
            actor: by.label(),
            action: ACTION.to_owned(),
            target: node.to_string(),
            outcome: outcome.to_owned(),
            detail: json!({"command": cut(command), "why": cut(&why.to_string())}).into(),
        };
        self.journal.note(entry, clock::now()).await;
    }
}

/// How a call ended that stands nowhere else; none for the others.
fn outcome(refused: &CallRefused) -> Option<&'static str> {
    match refused {
        CallRefused::Denied(_) => Some("denied"),
        CallRefused::Unknown => Some("unknown_node"),
        CallRefused::Away => Some("node_away"),
        CallRefused::Failed(_) | CallRefused::Journal(_) => None,
    }
}
