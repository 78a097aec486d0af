//! `atoll gateway discover`: who announces itself in the local network. Looks with this very process; asks the gateway of this machine,
//! where there is one, only what is paired.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use atoll_pairing::discovery::{Air, Kind, NearGateway, NearNode, Nearby, browse};
use atoll_protocol::id::DeviceId;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use serde_json::{Value, json};

use super::super::client::Client;
use super::super::output::{self, list, text};
use super::super::{CliError, Reach};

/// How long to look around unless `--timeout` says more or less.
const LOOK: Duration = Duration::from_millis(2_000);

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll gateway discover --timeout 5000

Nothing that is found is trusted: anybody in the network can announce anything.
Compare the key with `atoll gateway status` or `atoll-node identity` there.")]
pub(in crate::cli) struct Discover {}

/// What the gateway of this machine knows.
#[derive(Debug, Default)]
struct Own {
    gateway: Option<DeviceId>,
    paired: HashSet<String>,
}

impl Discover {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        let patience = reach.given_timeout().unwrap_or(LOOK);
        let looking = browse(Air::lan(), &Kind::ALL, patience);
        let (found, own) = tokio::join!(looking, own(reach));
        let found = found.map_err(CliError::local)?;
        if reach.json {
            return output::json(&as_json(&found, own.as_ref(), patience));
        }
        show(&found, own.as_ref())
    }
}

/// None when there is no gateway to ask, or it does not say.
async fn own(reach: &Reach) -> Option<Own> {
    let mut client = Client::connect(reach).await.ok()?;
    let status = client.call("status", json!({})).await.ok()?;
    let devices = client.call("device.pair.list", json!({})).await.ok()?;
    let paired = list(&devices, "paired")
        .iter()
        .map(|device| text(device, "deviceId").to_owned());
    Some(Own {
        gateway: text(&status, "deviceId").parse().ok(),
        paired: paired.collect(),
    })
}

impl Own {
    fn is_paired(&self, id: DeviceId) -> bool {
        self.paired.contains(&id.to_string())
    }
}

/// In the shape of OpenClaw's command of that name, and what is ours beside it.
fn as_json(found: &Nearby, own: Option<&Own>, patience: Duration) -> Value {
    let beacons: Vec<_> = found.gateways.iter().map(|gateway| beacon(gateway, own)).collect();
    let nodes: Vec<_> = found.nodes.iter().map(|node| near_node(node, own)).collect();
    json!({
        "timeoutMs": u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), "domains": ["local."],
        "count": beacons.len(), "beacons": beacons, "nodes": nodes, "ignored": found.ignored,
    })
}

fn beacon(gateway: &NearGateway, own: Option<&Own>) -> Value {
    let entry = |key| gateway.entry(key);
    let has_tls = entry("gatewayTls") == Some("1");
    let port = entry("gatewayPort")
        .and_then(|port| port.parse().ok())
        .unwrap_or(gateway.port);
    let scheme = if has_tls { "wss" } else { "ws" };
    let is_own = own.and_then(|own| Some(own.gateway? == gateway.id()?));
    json!({
        "instanceName": gateway.instance, "displayName": gateway.name, "host": gateway.host, "port": gateway.port,
        "txt": gateway.openclaw, "lanHost": entry("lanHost"), "role": entry("role"), "transport": entry("transport"),
        "gatewayPort": port, "gatewayTls": has_tls, "gatewayTlsFingerprintSha256": entry("gatewayTlsSha256"),
        "domain": "local.", "wsUrl": format!("{scheme}://{}", place(&gateway.addresses, &gateway.host, port)),
        "addresses": gateway.addresses, "deviceId": gateway.id(), "deviceKey": gateway.key.map(|key| URL_SAFE_NO_PAD.encode(key)),
        "own": is_own,
    })
}

fn near_node(node: &NearNode, own: Option<&Own>) -> Value {
    json!({
        "displayName": node.name, "platform": node.platform, "host": node.host, "addresses": node.addresses,
        "deviceId": node.id(), "deviceKey": URL_SAFE_NO_PAD.encode(node.key),
        "paired": own.map(|own| own.is_paired(node.id())),
    })
}

/// The first address, or the name where there is none.
fn place(addresses: &[IpAddr], host: &str, port: u16) -> String {
    match addresses.first() {
        Some(address) => SocketAddr::new(*address, port).to_string(),
        None => format!("{host}:{port}"),
    }
}

fn show(found: &Nearby, own: Option<&Own>) -> Result<(), CliError> {
    let rows: Vec<_> = rows(found, own);
    if rows.is_empty() {
        return output::line("nobody announces itself here; a gateway does when it is bound to more than loopback");
    }
    output::table(&["KIND", "NAME", "ADDRESS", "KEY", "STATE"], &rows)?;
    if found.ignored > 0 {
        output::line(format!("… and {} more, which were not looked at", found.ignored))?;
    }
    Ok(())
}

fn rows(found: &Nearby, own: Option<&Own>) -> Vec<Vec<String>> {
    let gateways = found.gateways.iter().map(|gateway| {
        let (kind, key) = match gateway.id() {
            Some(id) => ("gateway", id.short()),
            None => ("openclaw", "-".to_owned()),
        };
        let is_own = own.is_some_and(|own| own.gateway.is_some() && own.gateway == gateway.id());
        let state = if is_own { "this one" } else { "-" };
        let place = place(&gateway.addresses, &gateway.host, gateway.port);
        [kind.to_owned(), gateway.name.clone(), place, key, state.to_owned()].to_vec()
    });
    let nodes = found.nodes.iter().map(|node| {
        let state = match own.map(|own| own.is_paired(node.id())) {
            Some(true) => "paired",
            Some(false) => "not paired",
            None => "?",
        };
        let address = node
            .addresses
            .first()
            .map_or_else(|| node.host.clone(), ToString::to_string);
        let key = node.id().short();
        ["node".to_owned(), node.name.clone(), address, key, state.to_owned()].to_vec()
    });
    gateways.chain(nodes).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use atoll_pairing::identity::Identity;

    use super::*;

    fn found() -> Nearby {
        let txt = [
            ("gatewayPort", "18789"),
            ("lanHost", "vm.local"),
            ("role", "gateway"),
            ("transport", "gateway"),
            ("gatewayTls", "1"),
            ("gatewayTlsSha256", "ab"),
        ];
        let txt: BTreeMap<_, _> = txt
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let gateway = |key: Option<[u8; 32]>| NearGateway {
            instance: "vm (x)".to_owned(),
            name: "vm".to_owned(),
            host: "vm.local".to_owned(),
            port: 18789,
            addresses: vec![IpAddr::from([192, 168, 77, 2])],
            key,
            openclaw: Some(txt.clone()),
        };
        Nearby {
            gateways: vec![gateway(Some(Identity::from_seed(&[1; 32]).public_key())), gateway(None)],
            nodes: vec![NearNode {
                name: "laptop".to_owned(),
                platform: "linux".to_owned(),
                host: "b.local".to_owned(),
                addresses: vec![IpAddr::from([192, 168, 77, 3])],
                key: Identity::from_seed(&[2; 32]).public_key(),
            }],
            ignored: 0,
        }
    }

    #[test]
    fn a_beacon_has_the_fields_of_openclaws_and_its_key() {
        let own = Own {
            gateway: Some(Identity::from_seed(&[1; 32]).device_id()),
            paired: HashSet::new(),
        };
        let value = as_json(&found(), Some(&own), LOOK);
        assert_eq!((&value["count"], &value["timeoutMs"]), (&json!(2), &json!(2000)));
        let beacon = &value["beacons"][0];
        for (field, expected) in [
            ("displayName", json!("vm")),
            ("gatewayPort", json!(18789)),
            ("gatewayTls", json!(true)),
            ("gatewayTlsFingerprintSha256", json!("ab")),
            ("wsUrl", json!("wss://192.168.77.2:18789")),
            ("domain", json!("local.")),
            ("own", json!(true)),
            ("deviceId", json!(Identity::from_seed(&[1; 32]).device_id())),
        ] {
            assert_eq!(beacon[field], expected, "{field}");
        }
        assert_eq!(value["beacons"][1]["deviceId"], Value::Null);
        assert_eq!(value["nodes"][0]["paired"], json!(false));
    }

    #[test]
    fn the_table_tells_ours_from_others_and_paired_from_not() {
        let own = Own {
            gateway: Some(Identity::from_seed(&[1; 32]).device_id()),
            paired: HashSet::from([Identity::from_seed(&[2; 32]).device_id().to_string()]),
        };
        let states = |own: Option<&Own>| -> Vec<_> {
            let rows = rows(&found(), own).into_iter();
            rows.map(|row| format!("{} {}", row[0], row[4])).collect()
        };
        assert_eq!(states(Some(&own)), ["gateway this one", "openclaw -", "node paired"]);
        assert_eq!(states(None), ["gateway -", "openclaw -", "node ?"]);
    }
}
