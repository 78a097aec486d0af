//! `atoll channels …` and `atoll pairing …`: chat accounts, and the people who asked to write to them.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Client;
use super::output::{self, ago, list, text};
use super::{CliError, Reach};
use crate::clock;

#[derive(Debug, Subcommand)]
pub(super) enum Channels {
    /// The configured accounts
    List,
    /// How each account is doing
    Status,
}

#[derive(Debug, Subcommand)]
pub(super) enum Pairing {
    /// Who waits
    List {
        /// The channel, e.g. telegram
        channel: Option<String>,
    },
    /// Let the person with this code write to the bot
    #[command(after_help = "Example: atoll pairing approve telegram ABCD2345")]
    Approve {
        /// The channel, e.g. telegram
        channel: String,
        /// The code that the bot showed to them
        code: String,
    },
}

impl Channels {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        let mut client = Client::connect(reach).await?;
        let reply = client.call("channels.status", json!({})).await?;
        if reach.json {
            return output::json(&reply);
        }
        let accounts = reply.get("channelAccounts").and_then(Value::as_object);
        let rows: Vec<_> = accounts
            .into_iter()
            .flatten()
            .flat_map(|(channel, accounts)| {
                accounts
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(move |account| row(channel, account))
            })
            .collect();
        if rows.is_empty() {
            return output::line(
                "no channel is configured; set channels.telegram.botToken (see `atoll config schema`)",
            );
        }
        output::table(&["CHANNEL", "ACCOUNT", "STATE", "BOT", "LAST OK", "ERROR"], &rows)
    }
}

fn row(channel: &str, account: &Value) -> Vec<String> {
    let flag = |name: &str| account.get(name).and_then(Value::as_bool).unwrap_or_default();
    let state = match (flag("running"), flag("connected")) {
        (true, true) => "connected",
        (true, false) => "trying",
        (false, _) => "stopped",
    };
    vec![
        channel.to_owned(),
        text(account, "accountId").to_owned(),
        state.to_owned(),
        text(account, "identity").to_owned(),
        ago(account.get("lastOkAtMs").and_then(Value::as_u64), clock::now_ms()),
        text(account, "lastError").to_owned(),
    ]
}

impl Pairing {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        let mut client = Client::connect(reach).await?;
        match self {
            Self::List { channel } => {
                let params = channel.map_or_else(|| json!({}), |channel| json!({"channel": channel}));
                let reply = client.call("channels.pairing.list", params).await?;
                if reach.json {
                    return output::json(&reply);
                }
                let rows: Vec<_> = list(&reply, "requests").iter().map(request_row).collect();
                if rows.is_empty() {
                    return output::line("nobody waits");
                }
                output::table(&["CHANNEL", "CODE", "SENDER", "NAME", "AGE"], &rows)
            }
            Self::Approve { channel, code } => {
                let request = code.to_ascii_uppercase().replace([' ', '-'], "");
                let account = account_of(&mut client, &channel, &request).await?;
                let ask = json!({"channel": channel, "accountId": account, "requestId": request, "notify": true});
                let reply = client.call("channels.pairing.approve", ask).await?;
                if reach.json {
                    output::json(&reply)
                } else {
                    output::line("done; they can write to the bot now")
                }
            }
        }
    }
}

/// The bot that the person with this code wrote to.
async fn account_of(client: &mut Client, channel: &str, request: &str) -> Result<String, CliError> {
    let reply = client
        .call("channels.pairing.list", json!({"channel": channel}))
        .await?;
    let found = list(&reply, "requests")
        .iter()
        .find(|row| text(row, "requestId") == request);
    found
        .map(|row| text(row, "accountId").to_owned())
        .ok_or_else(|| CliError::Failed {
            message: format!("nobody waits with the code {request}; codes end after an hour, see `atoll pairing list`"),
            code: 1,
        })
}

fn request_row(request: &Value) -> Vec<String> {
    let since = text(request, "createdAt").parse::<jiff::Timestamp>().ok();
    let since = since.and_then(|since| u64::try_from(since.as_millisecond()).ok());
    vec![
        text(request, "channel").to_owned(),
        text(request, "requestId").to_owned(),
        text(request, "senderId").to_owned(),
        text(request, "senderLabel").to_owned(),
        ago(since, clock::now_ms()),
    ]
}
