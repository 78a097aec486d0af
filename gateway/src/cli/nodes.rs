//! `atoll nodes …`: what is in the ring, and calls to it.

mod audio;
mod calls;
mod clipboard;
mod location;
mod notify;
mod run;
mod top;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::camera::Camera;
use super::client::Client;
use super::output::{self, ago, list, short, text};
use super::screen::Screen;
use super::transfer::{Get, Put};
use super::{CliError, Reach};
use crate::clock;
use crate::select::{Candidate, select, select_all};

#[derive(Debug, Subcommand)]
pub(super) enum Nodes {
    /// Every paired node, connected or away
    #[command(visible_alias = "status")]
    List,
    /// One node with all it offers
    Describe {
        /// The node: name, beginning of its id, address, or e.g. any,os=linux
        #[arg(long)]
        node: String,
    },
    /// Run one command of a node
    Invoke(Invoke),
    /// Run a program on a node, as if it ran here
    Run(run::Run),
    /// How every node is doing, drawn again as it changes
    Top(top::Top),
    /// Calls that are open, and those that ended lately
    Calls(calls::Calls),
    /// Call a call off: one that runs is stopped, one that waits for its node is never made
    #[command(after_help = "Example: atoll nodes cancel 0c9f8a1e")]
    Cancel {
        /// The call, or the beginning of its id; see `atoll nodes calls`
        call: String,
    },
    /// Copy a file of a node to here
    Get(Get),
    /// Copy a file from here to a node
    Put(Put),
    /// Pictures, clips and the live view of a node's cameras
    #[command(subcommand)]
    Camera(Camera),
    /// What a node's screens show: pictures, clips and the live view
    #[command(subcommand)]
    Screen(Screen),
    /// Show a notification on a device
    Notify(notify::Notify),
    /// Where a device is
    Location(location::Location),
    /// The text in a device's clipboard
    #[command(subcommand)]
    Clipboard(clipboard::Clipboard),
    /// A device's microphone, loudspeaker and voice
    #[command(subcommand)]
    Audio(audio::Audio),
    /// Give a node another name
    #[command(after_help = "Example: atoll nodes rename --node 4cac --name laptop")]
    Rename {
        /// The node: name, beginning of its id, address, or e.g. any,os=linux
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
    /// The node: name, beginning of its id, address, or e.g. any,os=linux
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
    /// Names this very call: within five minutes, the same key runs nothing twice
    #[arg(long)]
    idempotency_key: Option<String>,
    /// Let the call wait so long for a node that is away, e.g. 90s, 30m, 8h or 2d
    #[arg(long, value_name = "TIME", value_parser = time)]
    queue: Option<u64>,
}

impl Nodes {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        // It links by itself, as its exit codes are its own.
        if let Self::Run(run) = self {
            return run.run(reach).await;
        }
        let mut client = Client::connect(reach).await?;
        match self {
            Self::Run(run) => run.run(reach).await,
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
            Self::Top(top) => top.run(reach, &mut client).await,
            Self::Calls(calls) => calls.run(reach, &mut client).await,
            Self::Cancel { call } => {
                let call = open_call(&mut client, &call).await?;
                let reply = client.call("node.invoke.cancel", json!({"callId": call})).await?;
                if reach.json {
                    output::json(&reply)
                } else {
                    output::line("done")
                }
            }
            Self::Get(get) => get.run(reach, &mut client).await,
            Self::Put(put) => put.run(reach, &mut client).await,
            Self::Camera(camera) => camera.run(reach, &mut client).await,
            Self::Screen(screen) => screen.run(reach, &mut client).await,
            Self::Notify(notify) => notify.run(reach, &mut client).await,
            Self::Location(location) => location.run(reach, &mut client).await,
            Self::Clipboard(clipboard) => clipboard.run(reach, &mut client).await,
            Self::Audio(audio) => audio.run(reach, &mut client).await,
        }
    }
}

impl Invoke {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let params = output::params(&self.params)?;
        let node = find(client, &self.node).await?;
        let mut ask = json!({
            "nodeId": node, "command": self.command, "params": params, "timeoutMs": self.invoke_timeout,
            "idempotencyKey": self.idempotency_key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        });
        if let Some(ms) = self.queue {
            ask["offline"] = json!({"queueUntil": clock::now_ms().saturating_add(ms)});
        }
        client.wait_at_least(self.invoke_timeout);
        let reply = client.call("node.invoke", ask).await?;
        if !reach.json && text(&reply, "status") == "accepted" {
            let call: String = text(&reply, "callId").chars().take(8).collect();
            return output::line(format!(
                "queued as {call}; it runs when the node is back. `atoll nodes calls` shows it"
            ));
        }
        let shown = if reach.json {
            &reply
        } else {
            reply.get("payload").unwrap_or(&reply)
        };
        output::json(shown)
    }
}

/// Milliseconds of a time such as `30m`.
pub(super) fn time(text: &str) -> Result<u64, String> {
    let wrong = || format!("\"{text}\" is no time; write e.g. 90s, 30m, 8h or 2d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds * 1000).ok_or_else(wrong)
}

async fn open_call(client: &mut Client, asked: &str) -> Result<String, CliError> {
    let ask = json!({"state": "open", "limit": 1000});
    let reply = client.call("node.calls.list", ask).await?;
    let ids = list(&reply, "calls").iter().map(|call| text(call, "callId"));
    let mut meant = ids.filter(|id| !asked.is_empty() && id.starts_with(asked));
    match (meant.next(), meant.next()) {
        (Some(one), None) => Ok(one.to_owned()),
        (Some(_), Some(_)) => Err(CliError::Usage(format!(
            "\"{asked}\" could be more than one call; type more of its id"
        ))),
        (None, _) => Err(CliError::Usage(format!(
            "no open call begins with \"{asked}\"; see `atoll nodes calls`"
        ))),
    }
}

pub(super) async fn find(client: &mut Client, asked: &str) -> Result<String, CliError> {
    find_one(client, Some(asked)).await.map(|node| node.node.to_string())
}

/// The one node that is meant; without words the only one.
async fn find_one(client: &mut Client, asked: Option<&str>) -> Result<Candidate, CliError> {
    let candidates = candidates(client).await?;
    let meant = select(asked, &candidates).map_err(|error| CliError::Usage(error.to_string()))?;
    let mut meant = candidates.into_iter().filter(|candidate| candidate.node == meant);
    meant.next().ok_or_else(|| CliError::local("the node is gone"))
}

async fn candidates(client: &mut Client) -> Result<Vec<Candidate>, CliError> {
    let reply = client.call("node.list", json!({})).await?;
    Ok(list(&reply, "nodes").iter().filter_map(candidate).collect())
}

/// Every node that is meant and has `command`, connected or away.
async fn find_all(client: &mut Client, asked: Option<&str>, command: &str) -> Result<Vec<Candidate>, CliError> {
    let candidates = candidates(client).await?;
    let meant = select_all(asked, &candidates).map_err(|error| CliError::Usage(error.to_string()))?;
    let has = |node: &&&Candidate| node.commands.iter().any(|has| has == command);
    Ok(meant.iter().filter(has).copied().cloned().collect())
}

fn candidate(row: &Value) -> Option<Candidate> {
    let words = |field| {
        list(row, field)
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    Some(Candidate {
        node: text(row, "nodeId").parse().ok()?,
        name: text(row, "displayName").to_owned(),
        connected: row.get("connected").and_then(Value::as_bool).unwrap_or_default(),
        address: text(row, "remoteIp").to_owned(),
        platform: text(row, "platform").to_owned(),
        caps: words("caps"),
        commands: words("commands"),
        open_calls: row.get("openCalls").and_then(Value::as_u64).unwrap_or_default(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_time_is_a_number_and_a_unit() {
        for (text, expected) in [
            ("90s", 90_000),
            ("30m", 1_800_000),
            ("8h", 28_800_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(time(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "s",
            "8",
            "8w",
            "-1s",
            "1.5h",
            "8µ",
            "99999999999999999999d",
            "999999999999999999d",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
