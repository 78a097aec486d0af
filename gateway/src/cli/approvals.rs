//! `atoll approvals …`: commands that wait for a yes or no.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Client;
use super::output::{self, ago, list, text};
use super::{CliError, Reach};
use crate::clock;

#[derive(Debug, Subcommand)]
pub(super) enum Approvals {
    /// What waits
    List,
    /// Let a command run
    Approve {
        /// The approval's id, or its beginning
        id: String,
        /// And let this exact command run on that node from now on
        #[arg(long)]
        always: bool,
    },
    /// Do not let a command run
    Deny {
        /// The approval's id, or its beginning
        id: String,
    },
}

impl Approvals {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        let mut client = Client::connect(reach).await?;
        let waiting = client.call("exec.approval.list", json!({})).await?;
        let (id, decision) = match self {
            Self::List => return show(reach, &waiting),
            Self::Approve { id, always: true } => (id, "allow-always"),
            Self::Approve { id, always: false } => (id, "allow-once"),
            Self::Deny { id } => (id, "deny"),
        };
        let id = find(rows(&waiting), &id)?;
        let reply = client
            .call("exec.approval.resolve", json!({"id": id, "decision": decision}))
            .await?;
        if reach.json {
            output::json(&reply)
        } else {
            output::line(format!("{id}: {decision}"))
        }
    }
}

/// The list is the reply itself, or a field of it.
fn rows(reply: &Value) -> &[Value] {
    reply.as_array().map_or_else(|| list(reply, "approvals"), Vec::as_slice)
}

fn find(rows: &[Value], asked: &str) -> Result<String, CliError> {
    let ids: Vec<_> = rows
        .iter()
        .map(|row| text(row, "id"))
        .filter(|id| id.starts_with(asked))
        .collect();
    match ids.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(CliError::Usage(format!(
            "no approval begins with \"{asked}\"; see `atoll approvals list`"
        ))),
        _ => Err(CliError::Usage(format!(
            "\"{asked}\" could be more than one approval; type more of its id"
        ))),
    }
}

fn show(reach: &Reach, reply: &Value) -> Result<(), CliError> {
    if reach.json {
        return output::json(reply);
    }
    let rows: Vec<_> = rows(reply).iter().map(row).collect();
    if rows.is_empty() {
        return output::line("nothing waits for you");
    }
    output::table(&["ID", "NODE", "AGE", "COMMAND"], &rows)
}

fn row(approval: &Value) -> Vec<String> {
    let request = approval.get("request").unwrap_or(&Value::Null);
    vec![
        text(approval, "id").to_owned(),
        output::short(text(request, "nodeId")),
        ago(approval.get("createdAtMs").and_then(Value::as_u64), clock::now_ms()),
        text(request, "command").to_owned(),
    ]
}
