//! `atoll devices invite` and `atoll qr`: a link that lets one device in without a question, as text and as a picture.

use clap::Args;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::{Map, Value, json};

use super::client::Client;
use super::output::{self, list, text};
use super::{CliError, Reach, phone};

#[derive(Debug, Default, Args)]
#[command(
    after_help = "Examples:\n  atoll devices invite --name laptop --commands system.run,system.which\n  atoll qr --phone\n\n\
                        The link works once, for ten minutes, and holds the gateway's key: whoever has it is let in."
)]
pub(super) struct Invite {
    /// What the device becomes: node or operator [default: node]
    #[arg(long)]
    role: Option<String>,
    /// The commands that a node may offer [default: all that it declares]
    #[arg(long, value_delimiter = ',', value_name = "COMMAND")]
    commands: Vec<String>,
    /// What an operator may do [default: operator.read,operator.write]
    #[arg(long, value_delimiter = ',', value_name = "SCOPE")]
    scopes: Vec<String>,
    /// What to call the device
    #[arg(long)]
    name: Option<String>,
    /// Addresses of this gateway, best first [default: where it listens]
    #[arg(long = "address", value_name = "URL")]
    addresses: Vec<String>,
    /// For the browser of a phone: a link to the page that makes it a node
    #[arg(long, conflicts_with_all = ["role", "scopes"])]
    phone: bool,
}

impl Invite {
    pub(super) async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        if self.phone {
            let asked = phone::asked(self.commands, self.addresses);
            let invite = Self {
                commands: asked.commands,
                addresses: asked.addresses,
                ..self
            };
            let reply = client.call("device.invite", invite.params()).await?;
            return phone::show(reach, &reply);
        }
        show(reach, &client.call("device.invite", self.params()).await?)
    }

    fn params(self) -> Value {
        let mut params = Map::new();
        let lists = [
            ("commands", self.commands),
            ("scopes", self.scopes),
            ("addresses", self.addresses),
        ];
        for (name, list) in lists {
            if !list.is_empty() {
                params.insert(name.to_owned(), json!(list));
            }
        }
        for (name, value) in [("role", self.role), ("name", self.name)] {
            if let Some(value) = value {
                params.insert(name.to_owned(), json!(value));
            }
        }
        params.into()
    }
}

/// Prints an invitation that was just minted.
pub(super) fn show(reach: &Reach, reply: &Value) -> Result<(), CliError> {
    if reach.json {
        return output::json(reply);
    }
    let link = text(reply, "link");
    output::line(picture(link)?)?;
    output::line(format!(
        "On the device, within ten minutes:\n  atoll-node pair '{link}'\n"
    ))?;
    output::line(format!("Code       {}", text(reply, "code")))?;
    let addresses: Vec<_> = list(reply, "addresses").iter().filter_map(Value::as_str).collect();
    output::line(format!("Addresses  {}", addresses.join(", ")))?;
    output::line(format!(
        "Take back  atoll devices reject {}",
        output::short(text(reply, "setupId"))
    ))
}

/// Two rows of squares in one line of text, dark on light whatever the terminal's colours are read as.
pub(super) fn picture(text: &str) -> Result<String, CliError> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).map_err(CliError::local)?;
    Ok(code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_of_a_usual_link_fits_a_terminal() {
        let link = format!(
            "atoll://pair?key={}&at=wss://192.168.178.199:18789&at=ws://127.0.0.1:18789&code={}",
            "k".repeat(43),
            "c".repeat(43)
        );
        let picture = picture(&link).expect("short enough");
        let widths: Vec<usize> = picture.lines().map(|line| line.chars().count()).collect();
        assert!(
            widths.iter().all(|width| *width == widths[0] && *width <= 80),
            "{widths:?}"
        );
        assert!(widths.len() > 20 && widths.len() <= 40, "{} lines", widths.len());
    }

    #[test]
    fn only_what_was_typed_is_asked_for() {
        assert_eq!(Invite::default().params(), json!({}));
        let typed = Invite {
            commands: vec!["system.which".to_owned()],
            name: Some("laptop".to_owned()),
            ..Invite::default()
        };
        assert_eq!(typed.params(), json!({"commands": ["system.which"], "name": "laptop"}));
    }
}
