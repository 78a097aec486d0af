//! `atoll nodes …`: what is in the ring, and calls to it.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Client;
use super::output::{self, ago, list, short, text};
use super::transfer::{Get, Put};
use super::{CliError, Reach};
use crate::clock;

#[derive(Debug, Subcommand)]
pub(super) enum Nodes {
    /// Every paired node, connected or away
    #[command(visible_alias = "status")]
    List,
    /// One node with all it offers
    Describe {
        /// The node: id, beginning of an id, or name
        #[arg(long)]
        node: String,
    },
    /// Run one command of a node
    Invoke(Invoke),
    /// Copy a file of a node to here
    Get(Get),
    /// Copy a file from here to a node
    Put(Put),
    /// Give a node another name
    #[command(after_help = "Example: atoll nodes rename --node 4cac --name laptop")]
    Rename {
        /// The node: id, beginning of an id, or name
        #[arg(long)]
        node: String,
        /// The new name
        #[arg(long)]
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: atoll nodes invoke --node laptop --command system.which --params '{\"bins\":[\"git\"]}'"
)]
pub(super) struct Invoke {
    /// The node: id, beginning of an id, or name
    #[arg(long)]
    node: String,
    /// The command, e.g. device.info
    #[arg(long)]
    command: String,
    /// Its parameters, JSON
    #[arg(long, default_value = "{}")]
    params: String,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 15_000, value_name = "MS")]
    invoke_timeout: u64,
    /// Names this very call, so that a retry can be told from a new one
    #[arg(long)]
    idempotency_key: Option<String>,
}

impl Nodes {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        let mut client = Client::connect(reach).await?;
        match self {
            Self::List => show(reach, &client.call("node.list", json!({})).await?),
            Self::Describe { node } => {
                let node = find(&mut client, &node).await?;
                output::json(&client.call("node.describe", json!({"nodeId": node})).await?)
            }
            Self::Rename { node, name } => {
                let node = find(&mut client, &node).await?;
                let reply = client
                    .call("node.rename", json!({"nodeId": node, "displayName": name}))
                    .await?;
                if reach.json {
                    output::json(&reply)
                } else {
                    output::line("done")
                }
            }
            Self::Invoke(invoke) => invoke.run(reach, &mut client).await,
            Self::Get(get) => get.run(reach, &mut client).await,
            Self::Put(put) => put.run(reach, &mut client).await,
        }
    }
}

impl Invoke {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let params = output::params(&self.params)?;
        let node = find(client, &self.node).await?;
        let ask = json!({
            "nodeId": node, "command": self.command, "params": params, "timeoutMs": self.invoke_timeout,
            "idempotencyKey": self.idempotency_key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        });
        client.wait_at_least(self.invoke_timeout);
        let reply = client.call("node.invoke", ask).await?;
        let shown = if reach.json {
            &reply
        } else {
            reply.get("payload").unwrap_or(&reply)
        };
        output::json(shown)
    }
}

pub(super) async fn find(client: &mut Client, asked: &str) -> Result<String, CliError> {
    let reply = client.call("node.list", json!({})).await?;
    let rows = list(&reply, "nodes");
    let candidates: Vec<_> = rows.iter().filter_map(candidate).collect();
    crate::select::select(Some(asked), &candidates)
        .map(|node| node.to_string())
        .map_err(|error| CliError::Usage(error.to_string()))
}

fn candidate(row: &Value) -> Option<crate::select::Candidate> {
    Some(crate::select::Candidate {
        node: text(row, "nodeId").parse().ok()?,
        name: text(row, "displayName").to_owned(),
        connected: row.get("connected").and_then(Value::as_bool).unwrap_or_default(),
    })
}

fn show(reach: &Reach, reply: &Value) -> Result<(), CliError> {
    if reach.json {
        return output::json(reply);
    }
    let rows: Vec<_> = list(reply, "nodes").iter().map(row).collect();
    if rows.is_empty() {
        return output::line("no node yet; run `atoll-node run --gateway …` on a device");
    }
    output::table(&["NODE", "NAME", "PLATFORM", "STATE", "SEEN", "COMMANDS"], &rows)
}

fn row(node: &Value) -> Vec<String> {
    let connected = node.get("connected").and_then(Value::as_bool).unwrap_or_default();
    let state = match (connected, text(node, "approvalState")) {
        (true, "approved") => "connected".to_owned(),
        (true, other) => other.to_owned(),
        (false, _) => "away".to_owned(),
    };
    vec![
        short(text(node, "nodeId")),
        text(node, "displayName").to_owned(),
        text(node, "platform").to_owned(),
        state,
        ago(node.get("lastSeenAtMs").and_then(Value::as_u64), clock::now_ms()),
        list(node, "commands")
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" "),
    ]
}
