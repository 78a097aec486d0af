//! `atoll qr --phone`: the link and picture that make the browser of a phone a node.

use serde_json::{Value, json};

use super::output::{self, list, text};
use super::{CliError, Reach, invite};

/// What a phone's page offers. Named one by one, so that they can be used on that phone without being opened on every node; what is used is
/// still up to whoever holds the phone.
const COMMANDS: [&str; 15] = [
    "audio.record",
    "camera.clip",
    "camera.list",
    "camera.snap",
    "camera.stream",
    "canvas.eval",
    "canvas.hide",
    "canvas.navigate",
    "canvas.present",
    "canvas.snapshot",
    "device.info",
    "device.status",
    "device.vibrate",
    "location.get",
    "system.notify",
];

/// What an invitation of a phone asks for.
pub(super) struct Asked {
    pub(super) commands: Vec<String>,
    pub(super) addresses: Vec<String>,
}

/// All commands of the page unless some were named; addresses as a browser writes them.
pub(super) fn asked(commands: Vec<String>, addresses: Vec<String>) -> Asked {
    let all = || COMMANDS.map(str::to_owned).to_vec();
    Asked {
        commands: if commands.is_empty() { all() } else { commands },
        addresses: addresses.iter().map(|address| with_port(address)).collect(),
    }
}

/// In a browser's address no port means 443; anywhere else it means the gateway's usual one.
fn with_port(address: &str) -> String {
    let Some(rest) = address.strip_prefix("https://") else {
        return address.to_owned();
    };
    let host = rest.trim_end_matches('/');
    let after_name = host.rsplit(']').next().unwrap_or(host);
    if after_name.contains(':') {
        address.to_owned()
    } else {
        format!("https://{host}:443")
    }
}

/// Prints an invitation that was just minted.
pub(super) fn show(reach: &Reach, reply: &Value) -> Result<(), CliError> {
    let links = links(reply);
    if reach.json {
        let mut reply = reply.clone();
        reply["phoneLinks"] = json!(links);
        return output::json(&reply);
    }
    let best = links.first().ok_or_else(|| {
        CliError::Usage("no address of the gateway can be opened by a browser; name one with --address".to_owned())
    })?;
    output::line(invite::picture(best)?)?;
    output::line(format!(
        "Scan it with the phone, or open there, within ten minutes:\n  {best}\n"
    ))?;
    for other in &links[1..] {
        output::line(format!("or         {other}"))?;
    }
    if best.starts_with("https://") {
        output::line(format!(
            "The browser warns of the certificate: go on if its SHA-256 fingerprint is\n  {}",
            text(reply, "tlsFingerprint")
        ))?;
    } else {
        output::line(
            "This address is of this machine alone. For a phone, bind the gateway to more\n(gateway.bind: \"lan\"), or name the address that the phone sees with --address.",
        )?;
    }
    output::line(format!(
        "Take back  atoll devices reject {}",
        output::short(text(reply, "setupId"))
    ))
}

/// One link for each address that a browser can open. What stands behind the # never leaves the browser.
fn links(reply: &Value) -> Vec<String> {
    let code = text(reply, "code");
    let addresses = list(reply, "addresses").iter().filter_map(Value::as_str);
    addresses
        .filter_map(page)
        .map(|page| format!("{page}#{code}"))
        .collect()
}

fn page(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let scheme = match scheme {
        "wss" | "atoll" => "https",
        "ws" => "http",
        _ => return None,
    };
    let host = rest.split('/').next()?;
    let host = if scheme == "https" {
        host.strip_suffix(":443").unwrap_or(host)
    } else {
        host
    };
    Some(format!("{scheme}://{host}/node"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_what_a_browser_opens_and_the_code_stays_behind_the_hash() {
        let reply = json!({"code": "c", "addresses": [
            "wss://10.0.0.2:18789", "wss://vps.tail.ts.net:443", "atoll://vps:18789", "ws://127.0.0.1:18789", "quic://10.0.0.2:1", "unix:/x",
        ]});
        assert_eq!(
            links(&reply),
            [
                "https://10.0.0.2:18789/node#c",
                "https://vps.tail.ts.net/node#c",
                "https://vps:18789/node#c",
                "http://127.0.0.1:18789/node#c",
            ]
        );
    }

    #[test]
    fn an_address_without_a_port_is_a_browsers_address() {
        for (given, expected) in [
            ("https://vps.tail.ts.net", "https://vps.tail.ts.net:443"),
            ("https://vps.tail.ts.net/", "https://vps.tail.ts.net:443"),
            ("https://vps:8443", "https://vps:8443"),
            ("https://[fd00::1]", "https://[fd00::1]:443"),
            ("https://[fd00::1]:7", "https://[fd00::1]:7"),
            ("wss://vps", "wss://vps"),
        ] {
            assert_eq!(with_port(given), expected, "{given}");
        }
    }

    #[test]
    fn the_commands_of_a_phone_can_be_narrowed() {
        assert_eq!(asked(Vec::new(), Vec::new()).commands, COMMANDS);
        let some = asked(vec!["location.get".to_owned()], Vec::new());
        assert_eq!(some.commands, ["location.get"]);
    }
}
