//! `atoll nodes location`: where a device is.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::find;
use crate::cli::client::Client;
use crate::cli::output::{self, text};
use crate::cli::{CliError, Reach};

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes location --node phone --accuracy precise")]
pub(in crate::cli) struct Location {
    /// The node: name, id, address, or e.g. any,cap=location
    #[arg(long)]
    node: String,
    /// coarse (a kilometre or so), balanced or precise
    #[arg(long, default_value = "balanced", hide_possible_values = true)]
    accuracy: Accuracy,
    /// A place that was found this long ago will do, milliseconds
    #[arg(long, value_name = "MS")]
    max_age: Option<u64>,
    /// How long the device may look, milliseconds
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    location_timeout: u64,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 20_000, value_name = "MS")]
    invoke_timeout: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Accuracy {
    Coarse,
    Balanced,
    Precise,
}

impl Location {
    pub(super) async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let node = find(client, &self.node).await?;
        let accuracy = match self.accuracy {
            Accuracy::Coarse => "coarse",
            Accuracy::Balanced => "balanced",
            Accuracy::Precise => "precise",
        };
        let mut params = json!({"desiredAccuracy": accuracy, "timeoutMs": self.location_timeout});
        if let Some(age) = self.max_age {
            params["maxAgeMs"] = json!(age);
        }
        let timeout = self.invoke_timeout.max(self.location_timeout.saturating_add(2_000));
        let payload = client.invoke(&node, "location.get", params, timeout).await?;
        if reach.json {
            return output::json(&payload);
        }
        output::line(shown(&payload))
    }
}

/// For people: the place, how well it is known, and where a map shows it.
fn shown(payload: &Value) -> String {
    let number = |field: &str| payload[field].as_f64().unwrap_or_default();
    let (lat, lon) = (number("lat"), number("lon"));
    format!(
        "{lat:.5}, {lon:.5} (within {:.0} m, {}, {})\nhttps://www.openstreetmap.org/?mlat={lat:.5}&mlon={lon:.5}",
        number("accuracyMeters"),
        text(payload, "source"),
        text(payload, "timestamp"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_shown_with_how_well_it_is_known() {
        let place = json!({
            "lat": 52.52, "lon": -13.4, "accuracyMeters": 24.6, "source": "gps", "timestamp": "2026-01-03T12:34:56.000Z",
        });
        let expected = "52.52000, -13.40000 (within 25 m, gps, 2026-01-03T12:34:56.000Z)\n\
                        https://www.openstreetmap.org/?mlat=52.52000&mlon=-13.40000";
        assert_eq!(shown(&place), expected);
    }
}
