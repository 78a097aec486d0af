//! `atoll approvals …`: commands that wait for a yes or no.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Client;
use super::conversation::wish;
use super::output::{self, ago, list, text};
use super::{CliError, Reach};
use crate::clock;

#[derive(Debug, Subcommand)]
pub(super) enum Approvals {
    /// What waits
    List,
    /// Let a command run
    #[command(after_help = "Example: atoll approvals approve 4cac893d --always")]
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
        .filter(|id| !asked.is_empty() && id.starts_with(asked))
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
    let waiting = rows(reply);
    if waiting.is_empty() {
        return output::line("nothing waits for you");
    }
    waiting
        .iter()
        .try_for_each(|approval| output::line(told(approval, clock::now_ms())))
}

/// A yes is given to the whole of a command, so it is never cut.
fn told(approval: &Value, now: u64) -> String {
    let age = ago(approval.get("createdAtMs").and_then(Value::as_u64), now);
    format!("{}  {age} ago\n  {}", text(approval, "id"), wish(approval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_is_found_by_the_beginning_of_its_id() {
        let rows = [json!({"id": "ab1"}), json!({"id": "ab2"}), json!({"id": "c"})];
        assert_eq!(find(&rows, "c").expect("one"), "c");
        assert_eq!(find(&rows, "ab1").expect("one"), "ab1");
        assert!(
            find(&rows[2..], "").is_err(),
            "nothing typed names nothing, even if only one waits"
        );
        for asked in ["ab", "x"] {
            assert!(matches!(find(&rows, asked), Err(CliError::Usage(_))), "{asked:?}");
        }
    }

    #[test]
    fn a_command_is_shown_whole() {
        let command = "x".repeat(300);
        let text = told(
            &json!({"id": "a", "createdAtMs": 0, "request": {"command": command}}),
            5_000,
        );
        assert!(text.starts_with("a  5s ago\n") && text.ends_with(&command), "{text}");
    }
}
