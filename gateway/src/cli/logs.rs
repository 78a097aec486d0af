//! `atoll logs`: the end of the gateway's log.

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::output::{self, list};
use super::{CliError, Reach};

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// How many lines
    #[arg(long, short = 'n', default_value_t = 200)]
    limit: u32,
}

impl Logs {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        let reply = Client::connect(reach)
            .await?
            .call("logs.tail", json!({"limit": self.limit}))
            .await?;
        if reach.json {
            return output::json(&reply);
        }
        list(&reply, "lines")
            .iter()
            .filter_map(Value::as_str)
            .try_for_each(output::line)
    }
}
