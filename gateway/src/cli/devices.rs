//! `atoll devices …`: who may connect.

use std::io::{IsTerminal, Write};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Client;
use super::output::{self, ago, list, short, text};
use super::{CliError, Reach};
use crate::clock;

#[derive(Debug, Subcommand)]
pub(super) enum Devices {
    /// What asks to be let in, and what is in
    List,
    /// Let a device in, with the commands it asks for
    #[command(after_help = "Example: atoll devices approve 4cac893d --code 123 456")]
    Approve(Approve),
    /// Refuse a request
    Reject {
        /// The request id, or its beginning
        request: String,
    },
    /// Forget a device; its links close at once
    Remove {
        /// The device id, its beginning, or its name
        device: String,
    },
    /// Give a device another name
    #[command(after_help = "Example: atoll devices rename 4cac laptop")]
    Rename {
        /// The device id, its beginning, or its name
        device: String,
        /// The new name
        name: String,
    },
}

impl Devices {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        let mut client = Client::connect(reach).await?;
        let reply = match self {
            Self::List => return show(reach, &client.call("device.pair.list", json!({})).await?),
            Self::Approve(approve) => approve.run(&mut client).await?,
            Self::Reject { request } => {
                let request = find_request(&mut client, &request).await?;
                let request = text(&request, "requestId");
                client.call("device.pair.reject", json!({"requestId": request})).await?
            }
            Self::Remove { device } => {
                let device = find_device(&mut client, &device).await?;
                client.call("device.pair.remove", json!({"deviceId": device})).await?
            }
            Self::Rename { device, name } => {
                let device = find_device(&mut client, &device).await?;
                client
                    .call("device.pair.rename", json!({"deviceId": device, "label": name}))
                    .await?
            }
        };
        if reach.json {
            output::json(&reply)
        } else {
            output::line("done")
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Approve {
    /// The request id (or its beginning), or the device id
    request: String,
    /// The six digits that the device shows; with others nothing is approved
    #[arg(long, num_args = 1..=2, value_name = "DIGITS")]
    code: Vec<String>,
    /// Do not ask whether the digits are the same
    #[arg(long, conflicts_with = "code")]
    yes: bool,
}

impl Approve {
    async fn run(self, client: &mut Client) -> Result<Value, CliError> {
        let request = find_request(client, &self.request).await?;
        let mut ask = json!({"requestId": text(&request, "requestId")});
        if !self.code.is_empty() {
            ask["code"] = json!(self.code.concat());
        } else if !self.yes && std::io::stdin().is_terminal() {
            compare(&request)?;
        }
        client.call("device.pair.approve", ask).await
    }
}

/// Asks the person to look at the device.
fn compare(request: &Value) -> Result<(), CliError> {
    let code = text(request, "code");
    if code.is_empty() {
        return Ok(());
    }
    let name = output::visible(text(request, "displayName"));
    let question = format!("Does {name} show {}? [y/N] ", spaced(code));
    let mut out = std::io::stdout();
    write!(out, "{question}")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(CliError::Usage(
        "nothing was approved; if the device shows other digits, somebody is in between: reject the request".to_owned(),
    ))
}

/// `123 456`, as the device shows it.
fn spaced(code: &str) -> String {
    code.split_at_checked(3)
        .map_or_else(|| code.to_owned(), |(left, right)| format!("{left} {right}"))
}

async fn find_request(client: &mut Client, asked: &str) -> Result<Value, CliError> {
    let reply = client.call("device.pair.list", json!({})).await?;
    find(list(&reply, "pending"), &["requestId", "deviceId"], asked, "request")
}

async fn find_device(client: &mut Client, asked: &str) -> Result<String, CliError> {
    let reply = client.call("device.pair.list", json!({})).await?;
    let device = find(list(&reply, "paired"), &["deviceId", "displayName"], asked, "device")?;
    Ok(text(&device, "deviceId").to_owned())
}

/// The one row in which a field begins with what was typed.
fn find(rows: &[Value], fields: &[&str], asked: &str, what: &str) -> Result<Value, CliError> {
    let is_meant = |row: &&Value| {
        fields
            .iter()
            .any(|field| !asked.is_empty() && text(row, field).starts_with(asked))
    };
    let mut meant = rows.iter().filter(is_meant);
    match (meant.next(), meant.next()) {
        (Some(one), None) => Ok(one.clone()),
        (Some(_), Some(_)) => Err(CliError::Usage(format!(
            "\"{asked}\" could be more than one {what}; type more of its id"
        ))),
        (None, _) => Err(CliError::Usage(format!(
            "no {what} begins with \"{asked}\"; see `atoll devices list`"
        ))),
    }
}

fn show(reach: &Reach, reply: &Value) -> Result<(), CliError> {
    if reach.json {
        return output::json(reply);
    }
    let (pending, paired) = (list(reply, "pending"), list(reply, "paired"));
    if pending.is_empty() && paired.is_empty() {
        return output::line("no device yet; run `atoll-node run --gateway …` on one");
    }
    if !pending.is_empty() {
        output::line("waiting for your yes (`atoll devices approve <REQUEST>`):")?;
        let rows: Vec<_> = pending.iter().map(pending_row).collect();
        output::table(
            &["REQUEST", "CODE", "DEVICE", "NAME", "PLATFORM", "ROLE", "COMMANDS"],
            &rows,
        )?;
    }
    if !paired.is_empty() {
        let rows: Vec<_> = paired.iter().map(paired_row).collect();
        output::table(&["DEVICE", "NAME", "PLATFORM", "ROLES", "STATE", "SEEN"], &rows)?;
    }
    Ok(())
}

fn pending_row(row: &Value) -> Vec<String> {
    vec![
        short(text(row, "requestId")),
        spaced(text(row, "code")),
        short(text(row, "deviceId")),
        text(row, "displayName").to_owned(),
        text(row, "platform").to_owned(),
        text(row, "role").to_owned(),
        list(row, "commands").len().to_string(),
    ]
}

fn paired_row(row: &Value) -> Vec<String> {
    let roles: Vec<_> = list(row, "roles").iter().filter_map(Value::as_str).collect();
    let connected = row.get("connected").and_then(Value::as_bool).unwrap_or_default();
    vec![
        short(text(row, "deviceId")),
        text(row, "displayName").to_owned(),
        text(row, "platform").to_owned(),
        roles.join(","),
        if connected { "connected" } else { "away" }.to_owned(),
        ago(row.get("lastSeenAtMs").and_then(Value::as_u64), clock::now_ms()),
    ]
}
