//! `atoll nodes clipboard …`: the text in a device's clipboard.

use std::io::{self, IsTerminal, Read, Write};

use clap::{Args, Subcommand};
use serde_json::json;

use super::find;
use crate::cli::client::Client;
use crate::cli::output::{self, text};
use crate::cli::{CliError, Reach};

/// More than any node takes, bytes.
const MOST: u64 = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Clipboard {
    /// Print the text that is in the clipboard there
    Read(ReadIt),
    /// Put a text into the clipboard there
    Write(WriteIt),
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes clipboard read --node laptop")]
pub(in crate::cli) struct ReadIt {
    /// The node: name, id, address, or e.g. any,cap=clipboard
    #[arg(long)]
    node: String,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 15_000, value_name = "MS")]
    invoke_timeout: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes clipboard write --node laptop <notes.txt")]
pub(in crate::cli) struct WriteIt {
    /// The node: name, id, address, or e.g. any,cap=clipboard
    #[arg(long)]
    node: String,
    /// The text [default: what comes on standard input]
    text: Option<String>,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 15_000, value_name = "MS")]
    invoke_timeout: u64,
}

impl Clipboard {
    pub(super) async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        match self {
            Self::Read(read) => read.run(reach, client).await,
            Self::Write(write) => write.run(reach, client).await,
        }
    }
}

impl ReadIt {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let node = find(client, &self.node).await?;
        let payload = client
            .invoke(&node, "clipboard.read", json!({}), self.invoke_timeout)
            .await?;
        if reach.json {
            return output::json(&payload);
        }
        let mut out = io::stdout();
        if out.is_terminal() {
            return output::line(text(&payload, "text"));
        }
        // For programs it is left as it is.
        Ok(out.write_all(text(&payload, "text").as_bytes())?)
    }
}

impl WriteIt {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let text = match self.text {
            Some(text) => text,
            None => {
                let mut text = String::new();
                io::stdin().take(MOST).read_to_string(&mut text)?;
                text
            }
        };
        let node = find(client, &self.node).await?;
        let payload = client
            .invoke(&node, "clipboard.write", json!({"text": text}), self.invoke_timeout)
            .await?;
        if reach.json {
            return output::json(&payload);
        }
        output::line("done")
    }
}
