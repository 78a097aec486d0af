//! `atoll-node discover`: which gateways announce themselves in the local network.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use atoll_pairing::discovery::{Air, Kind, NearGateway, Nearby, browse};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use serde_json::{Value, json};

use super::Folder;
use crate::state::{Gateways, StateDir};

#[derive(Debug, Args)]
#[command(
    after_help = "Nothing that is found is trusted: anybody in the network can announce anything.
Compare the key with the one that `atoll gateway status` shows on the gateway."
)]
pub(super) struct Discover {
    #[command(flatten)]
    folder: Folder,
    /// How long to look around, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 3_000)]
    timeout: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Discover {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let gateways = StateDir::open(&self.folder.path()?)?.gateways()?;
        let found = browse(Air::lan(), &Kind::GATEWAYS, Duration::from_millis(self.timeout)).await?;
        let mut out = io::stdout();
        if self.json {
            writeln!(out, "{}", as_json(&found, &gateways))?;
        } else {
            table(&found, &gateways)
                .iter()
                .try_for_each(|line| writeln!(out, "{line}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn as_json(found: &Nearby, gateways: &Gateways) -> Value {
    let of = |gateway: &NearGateway| {
        json!({
            "name": gateway.name, "host": gateway.host, "addresses": gateway.addresses, "port": gateway.port,
            "kind": kind(gateway), "deviceId": gateway.id(), "deviceKey": gateway.key.map(|key| URL_SAFE_NO_PAD.encode(key)),
            "paired": is_paired(gateway, gateways),
        })
    };
    json!({ "gateways": found.gateways.iter().map(of).collect::<Vec<_>>(), "ignored": found.ignored })
}

fn kind(gateway: &NearGateway) -> &'static str {
    if gateway.key.is_some() { "atoll" } else { "openclaw" }
}

fn is_paired(gateway: &NearGateway, gateways: &Gateways) -> bool {
    gateway.key.is_some_and(|key| gateways.is_pinned(key))
}

fn table(found: &Nearby, gateways: &Gateways) -> Vec<String> {
    if found.gateways.is_empty() {
        let none = "No gateway announces itself here. One that is elsewhere is named with: atoll-node run --gateway";
        return vec![none.to_owned()];
    }
    let line = |name: &str, place: &str, key: &str, state: &str| {
        let name: String = name.chars().take(24).collect();
        format!("{name:<24}  {place:<27}  {key:<10}  {state}")
            .trim_end()
            .to_owned()
    };
    let of = |gateway: &NearGateway| {
        let address = gateway
            .addresses
            .first()
            .map(|address| std::net::SocketAddr::new(*address, gateway.port));
        let place = address.map_or_else(
            || format!("{}:{}", gateway.host, gateway.port),
            |address| address.to_string(),
        );
        let key = gateway.id().map_or_else(|| "-".to_owned(), |id| id.short());
        let state = match (gateway.key, is_paired(gateway, gateways)) {
            (None, _) => "openclaw",
            (Some(_), true) => "paired",
            (Some(_), false) => "not paired",
        };
        line(&gateway.name, &place, &key, state)
    };
    let head = line("NAME", "ADDRESS", "KEY", "STATE");
    std::iter::once(head).chain(found.gateways.iter().map(of)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn each_gateway_is_one_line_that_tells_paired_from_not() {
        let folder = tempfile::tempdir().expect("folder");
        let mut gateways = StateDir::open(folder.path())
            .expect("private")
            .gateways()
            .expect("empty");
        gateways
            .pin("wss://10.0.0.1:1", [1; 32])
            .expect("written")
            .expect("first");
        let gateway = |key: Option<u8>| NearGateway {
            instance: "x".to_owned(),
            name: "n".repeat(63),
            host: "a.local".to_owned(),
            port: 18789,
            addresses: vec![IpAddr::from([10, 0, 0, 1])],
            key: key.map(|byte| [byte; 32]),
            openclaw: None,
        };
        let found = Nearby {
            gateways: vec![gateway(Some(1)), gateway(Some(2)), gateway(None)],
            ..Nearby::default()
        };
        let lines = table(&found, &gateways);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        for (line, state) in lines.iter().skip(1).zip(["  paired", "not paired", "openclaw"]) {
            assert!(line.contains("10.0.0.1:18789") && line.ends_with(state), "{line}");
        }
        let value = as_json(&found, &gateways);
        assert_eq!(
            (&value["gateways"][0]["paired"], &value["gateways"][2]["deviceId"]),
            (&json!(true), &Value::Null)
        );
        assert_eq!(table(&Nearby::default(), &gateways).len(), 1);
    }
}
