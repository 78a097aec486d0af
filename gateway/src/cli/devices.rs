//! `atoll devices …`: who may connect.

use std::io::{IsTerminal, Write};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Client;
use super::invite::{self, Invite};
use super::output::{self, ago, list, short, text};
use super::{CliError, Reach};
use crate::clock;
use crate::select::{Candidate, SHORTEST_PREFIX, SelectError, select_certain};

#[derive(Debug, Subcommand)]
pub(super) enum Devices {
    /// What asks to be let in, and what is in
    List,
    /// Let a device in, with the commands it asks for
    #[command(after_help = "Example: atoll devices approve 4cac893d --code 123 456")]
    Approve(Approve),
    /// Refuse a request, or take an invitation back that nobody has followed yet
    Reject {
        /// The id of the request or invitation, or its beginning
        request: String,
    },
    /// A link that lets one device in without a question
    Invite(Invite),
    /// Put another device in the place of a lost one, which is out at once
    #[command(after_help = "Example: atoll devices replace laptop")]
    Replace {
        /// The lost device: its name, id, the beginning of that, or its address
        device: String,
    },
    /// Approve or withdraw commands of a node, in force at once
    #[command(after_help = "Example: atoll devices commands laptop deny system.run")]
    Commands {
        /// Its name, id, the beginning of that, or its address
        device: String,
        /// allow or deny
        verdict: Verdict,
        /// The commands
        #[arg(required = true)]
        commands: Vec<String>,
    },
    /// Withdraw what a device may do; its links close at once and it has to ask again
    #[command(after_help = "Example: atoll devices revoke laptop")]
    Revoke {
        /// Its name, id, the beginning of that, or its address
        device: String,
        /// Only this role: node or operator
        #[arg(long)]
        role: Option<String>,
    },
    /// Forget a device; its links close at once
    Remove {
        /// Its name, id, the beginning of that, or its address
        device: String,
    },
    /// Give a device another name
    #[command(after_help = "Example: atoll devices rename 4cac laptop")]
    Rename {
        /// Its name, id, the beginning of that, or its address
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
            Self::Reject { request } => reject(&mut client, &request).await?,
            Self::Invite(invite) => return invite.run(reach, &mut client).await,
            Self::Replace { device } => {
                let device = find_device_row(&mut client, &device).await?;
                return invite::show(reach, &replace(&mut client, &device).await?);
            }
            Self::Commands {
                device,
                verdict,
                commands,
            } => {
                let device = find_device(&mut client, &device).await?;
                let change = json!({"deviceId": device, verdict.as_str(): commands});
                client.call("device.commands.set", change).await?
            }
            Self::Revoke { device, role } => {
                let device = find_device_row(&mut client, &device).await?;
                revoke(&mut client, &device, role.as_deref()).await?
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

/// What becomes of commands.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Verdict {
    /// They may be offered
    Allow,
    /// They may not, whatever the device declares
    Deny,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// A request first; what is none may be an invitation.
async fn reject(client: &mut Client, asked: &str) -> Result<Value, CliError> {
    let reply = client.call("device.pair.list", json!({})).await?;
    if let Ok(invite) = find(list(&reply, "invites"), &["setupId"], asked, "invitation") {
        let setup = json!({"setupId": text(&invite, "setupId")});
        return client.call("device.invite.revoke", setup).await;
    }
    let request = find(list(&reply, "pending"), &["requestId", "deviceId"], asked, "request")?;
    let request = json!({"requestId": text(&request, "requestId")});
    client.call("device.pair.reject", request).await
}

/// The lost device is out before anybody has the link.
async fn replace(client: &mut Client, device: &Value) -> Result<Value, CliError> {
    let commands = device.get("nodeSurface").and_then(|surface| surface.get("commands"));
    let mut invite = json!({
        "role": "node", "commands": commands.cloned().unwrap_or_else(|| json!([])),
        "replaces": text(device, "deviceId"),
    });
    let name = text(device, "displayName");
    if !name.is_empty() {
        invite["name"] = json!(name);
    }
    if !list(device, "roles").contains(&json!("node")) {
        return Err(CliError::Usage(
            "only a node is replaced; revoke an operator's device and invite another with --role operator".to_owned(),
        ));
    }
    revoke(client, device, Some("node")).await?;
    client.call("device.invite", invite).await
}

async fn revoke(client: &mut Client, device: &Value, role: Option<&str>) -> Result<Value, CliError> {
    let held = list(device, "roles").iter().filter_map(Value::as_str);
    let roles: Vec<&str> = held.filter(|held| role.is_none_or(|role| role == *held)).collect();
    let id = text(device, "deviceId");
    let mut reply = Value::Null;
    for role in &roles {
        reply = client
            .call("device.token.revoke", json!({"deviceId": id, "role": role}))
            .await?;
    }
    if roles.is_empty() {
        return Err(CliError::Usage(
            "the device has no such role; see `atoll devices list`".to_owned(),
        ));
    }
    Ok(reply)
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
    let device = find_device_row(client, asked).await?;
    Ok(text(&device, "deviceId").to_owned())
}

async fn find_device_row(client: &mut Client, asked: &str) -> Result<Value, CliError> {
    let reply = client.call("device.pair.list", json!({})).await?;
    let paired = list(&reply, "paired");
    let candidates: Vec<_> = paired.iter().filter_map(candidate).collect();
    let meant = select_certain(asked, &candidates).map_err(refused)?.to_string();
    let mut meant = paired.iter().filter(|row| text(row, "deviceId") == meant);
    meant
        .next()
        .cloned()
        .ok_or_else(|| CliError::local("the device is gone"))
}

fn candidate(row: &Value) -> Option<Candidate> {
    let surface = row.get("nodeSurface").unwrap_or(&Value::Null);
    let words = |field| list(surface, field).iter().filter_map(Value::as_str).map(str::to_owned);
    Some(Candidate {
        node: text(row, "deviceId").parse().ok()?,
        name: text(row, "displayName").to_owned(),
        connected: row.get("connected").and_then(Value::as_bool).unwrap_or_default(),
        address: text(row, "remoteIp").to_owned(),
        platform: text(row, "platform").to_owned(),
        caps: words("caps").collect(),
        commands: words("commands").collect(),
        open_calls: 0,
    })
}

/// A device need not be a node.
fn refused(error: SelectError) -> CliError {
    CliError::Usage(match error {
        SelectError::NoNodes => "no device is paired".to_owned(),
        SelectError::Unknown { asked, candidates } => format!("no device matches \"{asked}\"; there are: {candidates}"),
        SelectError::Ambiguous { asked, candidates } => {
            format!("\"{asked}\" could be any of: {candidates}; name one by its id")
        }
        SelectError::Unnamed { candidates } => format!("name a device; there are: {candidates}"),
    })
}

/// The one row of which a field is what was typed, or else begins so.
fn find(rows: &[Value], fields: &[&str], asked: &str, what: &str) -> Result<Value, CliError> {
    let is = |row: &&Value| fields.iter().any(|field| text(row, field) == asked);
    let begins = |row: &&Value| fields.iter().any(|field| text(row, field).starts_with(asked));
    let exact: Vec<_> = rows.iter().filter(is).collect();
    let meant = match exact.as_slice() {
        [] if asked.len() >= SHORTEST_PREFIX => rows.iter().filter(begins).collect(),
        _ => exact,
    };
    match meant.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(CliError::Usage(format!(
            "no {what} begins with \"{asked}\"; type at least {SHORTEST_PREFIX} letters of its id, see `atoll devices list`"
        ))),
        _ => Err(CliError::Usage(format!(
            "\"{asked}\" could be more than one {what}; type more of its id"
        ))),
    }
}

fn show(reach: &Reach, reply: &Value) -> Result<(), CliError> {
    if reach.json {
        return output::json(reply);
    }
    let (pending, paired, invites) = (list(reply, "pending"), list(reply, "paired"), list(reply, "invites"));
    if pending.is_empty() && paired.is_empty() && invites.is_empty() {
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
        let head = [
            "DEVICE", "NAME", "PLATFORM", "ROLE", "CMDS", "PIPE", "SEEN", "GEN", "ADDRESS",
        ];
        output::table(&head, &rows)?;
    }
    if !invites.is_empty() {
        output::line("invitations that nobody has followed yet (`atoll devices reject <INVITATION>` takes one back):")?;
        let rows: Vec<_> = invites.iter().map(invite_row).collect();
        output::table(&["INVITATION", "NAME", "ROLE", "ENDS IN"], &rows)?;
    }
    Ok(())
}

fn pending_row(row: &Value) -> Vec<String> {
    vec![
        short(text(row, "requestId")),
        spaced(text(row, "code")),
        short(text(row, "deviceId")),
        cut(text(row, "displayName"), 20),
        cut(text(row, "platform"), 8),
        text(row, "role").to_owned(),
        list(row, "commands").len().to_string(),
    ]
}

/// Nine columns in eighty: names are cut, and the address, which may be long, comes last.
fn paired_row(row: &Value) -> Vec<String> {
    let roles: Vec<_> = list(row, "roles").iter().filter_map(Value::as_str).collect();
    let connected = row.get("connected").and_then(Value::as_bool).unwrap_or_default();
    let commands = row.get("nodeSurface").map(|surface| list(surface, "commands").len());
    let or_dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
    let generation = row.get("generation").and_then(Value::as_u64);
    vec![
        short(text(row, "deviceId")),
        cut(text(row, "displayName"), 14),
        cut(text(row, "platform"), 8),
        or_dash(&roles.join(",").replace("operator", "oper")),
        commands.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        or_dash(if connected { text(row, "pipe") } else { "" }),
        if connected {
            "now".to_owned()
        } else {
            ago(row.get("lastSeenAtMs").and_then(Value::as_u64), clock::now_ms())
        },
        generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string()),
        or_dash(text(row, "remoteIp")),
    ]
}

fn invite_row(row: &Value) -> Vec<String> {
    let left = row.get("expiresAtMs").and_then(Value::as_u64).unwrap_or_default();
    vec![
        short(text(row, "setupId")),
        cut(text(row, "displayName"), 24),
        text(row, "role").to_owned(),
        ago(Some(clock::now_ms()), left),
    ]
}

/// The beginning of a text that is too long for its column.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_by_its_whole_id_or_by_a_beginning_of_some_length() {
        let rows = ["abcd", "abcde", "abxyz"].map(|id| json!({"requestId": id}));
        let found = |asked| find(&rows, &["requestId"], asked, "request").map(|row| text(&row, "requestId").to_owned());
        assert_eq!(found("abcd").expect("the whole id"), "abcd");
        assert_eq!(found("abxy").expect("a beginning"), "abxyz");
        for asked in ["", "a", "abx", "wxyz"] {
            assert!(found(asked).is_err(), "{asked}");
        }
    }
}
