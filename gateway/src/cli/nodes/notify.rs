//! `atoll nodes notify`: a notification on a device.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::find;
use crate::cli::client::Client;
use crate::cli::output::{self, text};
use crate::cli::{CliError, Reach};

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes notify --node laptop --title Build --body 'All tests pass'")]
pub(in crate::cli) struct Notify {
    /// The node: name, id, address, or e.g. any,cmd=system.notify
    #[arg(long)]
    node: String,
    /// The first line
    #[arg(long, default_value = "")]
    title: String,
    /// The text below it
    #[arg(long, default_value = "")]
    body: String,
    /// A sound of that system, by its name
    #[arg(long)]
    sound: Option<String>,
    /// How much it presses: passive, active or timeSensitive
    #[arg(long, default_value = "active", hide_possible_values = true)]
    priority: Priority,
    /// Shown by the system, by the app (overlay), or auto
    #[arg(long, default_value = "auto", hide_possible_values = true)]
    delivery: Delivery,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 15_000, value_name = "MS")]
    invoke_timeout: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Priority {
    Passive,
    Active,
    #[value(name = "timeSensitive")]
    TimeSensitive,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Delivery {
    Auto,
    System,
    Overlay,
}

impl Notify {
    pub(super) async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        if self.title.trim().is_empty() && self.body.trim().is_empty() {
            return Err(CliError::Usage("a notification needs --title or --body".to_owned()));
        }
        let node = find(client, &self.node).await?;
        let priority = match self.priority {
            Priority::Passive => "passive",
            Priority::Active => "active",
            Priority::TimeSensitive => "timeSensitive",
        };
        let delivery = match self.delivery {
            Delivery::Auto => "auto",
            Delivery::System => "system",
            Delivery::Overlay => "overlay",
        };
        let mut params = json!({"title": self.title, "body": self.body, "priority": priority, "delivery": delivery});
        if let Some(sound) = self.sound {
            params["sound"] = json!(sound);
        }
        let payload = client
            .invoke(&node, "system.notify", params, self.invoke_timeout)
            .await?;
        if reach.json {
            return output::json(&payload);
        }
        match text(&payload, "delivered") {
            "" => output::line("shown"),
            way => output::line(format!("shown ({way})")),
        }
    }
}
