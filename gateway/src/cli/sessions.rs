//! `atoll sessions …`: conversations.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Client;
use super::conversation;
use super::output::{self, ago, list, text};
use super::{CliError, Reach};
use crate::clock;

#[derive(Debug, Subcommand)]
pub(super) enum Sessions {
    /// All conversations, newest first
    List {
        /// Only those of this agent
        #[arg(long)]
        agent: Option<String>,
    },
    /// What was said in one
    History {
        /// The session key, e.g. agent:main:main
        session: String,
        /// At most so many messages
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Say something in one and print the answer
    #[command(after_help = "Example: atoll sessions send agent:main:main 'what is new?'")]
    Send {
        /// The session key, e.g. agent:main:main
        session: String,
        /// What to say
        message: String,
    },
}

impl Sessions {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        let mut client = Client::connect(reach).await?;
        match self {
            Self::List { agent } => {
                let params = agent.map_or_else(|| json!({}), |agent| json!({"agentId": agent}));
                show_list(reach, &client.call("sessions.list", params).await?)
            }
            Self::History { session, limit } => {
                let ask = json!({"sessionKey": session, "limit": limit});
                show_history(reach, &client.call("chat.history", ask).await?)
            }
            Self::Send { session, message } => {
                let answer = conversation::say(&mut client, &session, &message).await?;
                if reach.json {
                    output::json(&answer.json())
                } else {
                    output::line(answer.text)
                }
            }
        }
    }
}

fn show_list(reach: &Reach, reply: &Value) -> Result<(), CliError> {
    if reach.json {
        return output::json(reply);
    }
    let rows: Vec<_> = list(reply, "sessions")
        .iter()
        .map(|row| {
            let updated = row.get("updatedAt").and_then(Value::as_u64);
            vec![
                text(row, "key").to_owned(),
                ago(updated, clock::now_ms()),
                text(row, "displayName").to_owned(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return output::line("no conversation yet");
    }
    output::table(&["SESSION", "LAST", "NAME"], &rows)
}

fn show_history(reach: &Reach, reply: &Value) -> Result<(), CliError> {
    if reach.json {
        return output::json(reply);
    }
    for message in list(reply, "messages") {
        let said: Vec<_> = list(message, "content").iter().filter_map(part).collect();
        output::line(format!("{}: {}", text(message, "role"), said.join("\n")))?;
    }
    Ok(())
}

fn part(part: &Value) -> Option<String> {
    match text(part, "type") {
        "text" => Some(text(part, "text").to_owned()),
        "toolCall" => Some(format!(
            "[{} {}]",
            text(part, "name"),
            part.get("arguments").unwrap_or(&Value::Null)
        )),
        _ => None,
    }
}
