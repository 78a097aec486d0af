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
    /// Make a long one short: a summary stands for what was said so far
    #[command(after_help = "Example: atoll sessions compact agent:main:main")]
    Compact {
        /// The session key, e.g. agent:main:main
        session: String,
        /// Keep so many of the newest messages, in the place of a summary
        #[arg(long)]
        max_lines: Option<std::num::NonZeroU32>,
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
            Self::Compact { session, max_lines } => {
                let mut params = json!({"key": session});
                if let Some(lines) = max_lines {
                    params["maxLines"] = json!(lines);
                }
                let patience = atoll_agent::compact::DEADLINE.as_millis();
                client.wait_at_least(u64::try_from(patience).unwrap_or(u64::MAX));
                show_compacted(reach, &client.call("sessions.compact", params).await?)
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

fn show_compacted(reach: &Reach, reply: &Value) -> Result<(), CliError> {
    if reach.json {
        output::json(reply)?;
    }
    let key = text(reply, "key");
    let reason = text(reply, "reason");
    if reply.get("ok") != Some(&Value::Bool(true)) {
        let message = format!("{key} stays as it is: {reason}");
        return Err(CliError::Failed { message, code: 1 });
    }
    if reach.json {
        return Ok(());
    }
    let tokens = |name: &str| reply.pointer(&format!("/result/{name}")).and_then(Value::as_u64);
    let kept = reply.get("kept").and_then(Value::as_u64);
    let is_shorter = reply.get("compacted") == Some(&Value::Bool(true));
    output::line(
        match (is_shorter, tokens("tokensBefore").zip(tokens("tokensAfter")), kept) {
            (true, Some((before, after)), _) => format!("{key}: about {before} tokens became {after}"),
            (true, None, Some(kept)) => format!("{key}: {kept} messages are left"),
            (true, None, None) => format!("{key} is shorter now"),
            (false, ..) if reason.is_empty() => format!("{key} is short enough"),
            (false, ..) => format!("{key} stays as it is: {reason}"),
        },
    )
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
