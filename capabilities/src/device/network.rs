//! The ways into networks: read from the folders of Linux. Names no address.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Interface {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    is_up: bool,
}

/// Those in `/sys/class/net` but for the device's way to itself, by name.
pub(super) fn in_folders(net: &Path) -> Option<Vec<Interface>> {
    let entries = std::fs::read_dir(net).ok()?.flatten();
    let mut found: Vec<Interface> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| name != "lo")?;
            let file = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            let has = |file: &str| entry.path().join(file).exists();
            Some(Interface {
                kind: kind(&name, has("wireless") || has("phy80211"), has("device")),
                is_up: is_up(&file("operstate"), &file("carrier")),
                name,
            })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Some(found)
}

/// By what the kernel says of it, else by the names that systems give.
fn kind(name: &str, is_wireless: bool, is_device: bool) -> &'static str {
    let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    if is_wireless || begins(&["wlan", "wlp"]) {
        "wifi"
    } else if begins(&["wwan", "wwp", "rmnet", "ccmni"]) {
        "cellular"
    } else if begins(&["tun", "tap", "wg", "tailscale", "ppp"]) {
        "vpn"
    } else if is_device || begins(&["eth", "en"]) {
        "ethernet"
    } else {
        "other"
    }
}

/// Drivers that do not know say `unknown`, and have a carrier or none.
fn is_up(operstate: &str, carrier: &str) -> bool {
    match operstate.trim() {
        "up" => true,
        "unknown" => carrier.trim() == "1",
        _ => false,
    }
}

/// In short: whether there is a way out, and of which kind the best one is.
pub(super) fn summary(interfaces: &[Interface]) -> Value {
    let known = ["ethernet", "wifi", "cellular", "vpn", "other"];
    let up: Vec<&str> = known
        .into_iter()
        .filter(|kind| {
            interfaces
                .iter()
                .any(|interface| interface.is_up && interface.kind == *kind)
        })
        .collect();
    json!({"online": !up.is_empty(), "type": up.first().copied().unwrap_or("none"), "interfaces": interfaces})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_carries_a_network_is_known_by_the_kernels_word_or_its_name() {
        for (name, is_wireless, is_device, expected) in [
            ("wlp3s0", true, true, "wifi"),
            ("wlan0", false, false, "wifi"),
            ("x0", true, true, "wifi"),
            ("enp0s31f6", false, true, "ethernet"),
            ("eth0", false, false, "ethernet"),
            ("rmnet_data0", false, true, "cellular"),
            ("wg0", false, false, "vpn"),
            ("docker0", false, false, "other"),
        ] {
            assert_eq!(kind(name, is_wireless, is_device), expected, "{name}");
        }
    }

    #[test]
    fn folders_are_read_and_summed_up() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(in_folders(Path::new("/nowhere")), None);
        for (name, wireless, operstate, carrier) in [
            ("lo", "", "unknown", "1"),
            ("eth0", "", "down", "0"),
            ("wlan0", "wireless", "up", "1"),
            ("wg0", "", "unknown", "1"),
        ] {
            let place = folder.path().join(name);
            std::fs::create_dir_all(place.join(wireless)).expect("room");
            std::fs::write(place.join("operstate"), format!("{operstate}\n")).expect("room");
            std::fs::write(place.join("carrier"), format!("{carrier}\n")).expect("room");
        }
        let found = in_folders(folder.path()).expect("folders");
        let expected = json!({"online": true, "type": "wifi", "interfaces": [
            {"name": "eth0", "type": "ethernet", "isUp": false},
            {"name": "wg0", "type": "vpn", "isUp": true},
            {"name": "wlan0", "type": "wifi", "isUp": true},
        ]});
        assert_eq!(summary(&found), expected);
        assert_eq!(summary(&[])["online"], json!(false));
    }
}
