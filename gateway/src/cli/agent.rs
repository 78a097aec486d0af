//! `atoll agent`: one message, one answer.

use clap::Args;

use super::client::Client;
use super::conversation::{self, MAIN};
use super::output;
use super::{CliError, Reach};

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll agent --message \"what is on my laptop's desktop?\"")]
pub(super) struct Agent {
    /// What to say
    #[arg(long, short)]
    message: String,
    /// The agent; its main conversation is used
    #[arg(long)]
    agent: Option<String>,
    /// The conversation, in place of --agent
    #[arg(long, conflicts_with = "agent")]
    session_key: Option<String>,
}

impl Agent {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        let of_agent = self.agent.map(|agent| format!("agent:{agent}:main"));
        let session = self.session_key.or(of_agent).unwrap_or_else(|| MAIN.to_owned());
        let mut client = Client::connect(reach).await?;
        let answer = conversation::say(&mut client, &session, &self.message).await?;
        if reach.json {
            output::json(&answer.json())
        } else {
            output::line(answer.text)
        }
    }
}
