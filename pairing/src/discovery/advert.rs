//! What this device says of itself in the local network. Pure.

use atoll_protocol::id::DeviceId;

use super::Kind;
use crate::proven::DeviceKey;
use crate::tls::Fingerprint;

/// The longest label of DNS, bytes (RFC 1035, section 2.3.4).
const LABEL: usize = 63;

/// The service port of a node, which serves none (the discard port; nothing is ever sent there).
const NO_PORT: u16 = 9;

/// One announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    pub(super) kind: Kind,
    pub(super) instance: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) txt: Vec<(&'static str, String)>,
}

/// What a gateway says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayCard {
    /// What people call its machine.
    pub name: String,
    /// Its key.
    pub key: DeviceKey,
    /// Its TCP and UDP port.
    pub port: u16,
    /// The certificate that ordinary clients must see, where they must use TLS.
    pub tls: Option<Fingerprint>,
    /// Others can open its port.
    pub is_reachable: bool,
    /// What is said of the machine besides.
    pub details: Option<Details>,
}

/// What only the full announcement has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// The command line's program.
    pub cli_path: String,
    /// Where SSH listens.
    pub ssh_port: u16,
    /// Its name in a tailnet.
    pub tailnet_dns: Option<String>,
}

impl GatewayCard {
    /// The announcements: one for OpenClaw's apps, one for our nodes.
    pub fn adverts(&self) -> Vec<Advert> {
        vec![self.for_openclaw(), self.for_nodes()]
    }

    /// The name that its addresses are announced under.
    pub fn host(&self) -> String {
        host(self.key.id)
    }

    /// Keys, words and their order are OpenClaw's.
    fn for_openclaw(&self) -> Advert {
        let mut txt = vec![
            ("role", "gateway".to_owned()),
            ("gatewayPort", self.port.to_string()),
            ("lanHost", self.host()),
            ("displayName", self.name.clone()),
        ];
        if let Some(fingerprint) = self.tls {
            txt.push(("gatewayTls", "1".to_owned()));
            txt.push(("gatewayTlsSha256", fingerprint.hex()));
        }
        if self.is_reachable {
            txt.push(("gatewayDirectReachable", "1".to_owned()));
        }
        if let Some(details) = &self.details {
            txt.push(("cliPath", details.cli_path.clone()));
        }
        txt.push(("transport", "gateway".to_owned()));
        if let Some(details) = &self.details {
            txt.push(("sshPort", details.ssh_port.to_string()));
            if let Some(name) = &details.tailnet_dns {
                txt.push(("tailnetDns", name.clone()));
            }
        }
        self.advert(Kind::OpenClaw, txt)
    }

    fn for_nodes(&self) -> Advert {
        let txt = vec![("key", hex(self.key.public_key)), ("name", self.name.clone())];
        self.advert(Kind::Gateway, txt)
    }

    fn advert(&self, kind: Kind, txt: Vec<(&'static str, String)>) -> Advert {
        Advert {
            kind,
            instance: instance(&self.name, self.key.id),
            host: self.host(),
            port: self.port,
            txt: short_enough(txt),
        }
    }
}

/// What a node says of itself while no gateway has let it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCard {
    /// What its owner calls it.
    pub name: String,
    /// Its key.
    pub key: DeviceKey,
    /// Its platform, e.g. `linux`.
    pub platform: String,
}

impl NodeCard {
    /// The announcement.
    pub fn advert(&self) -> Advert {
        let txt = vec![
            ("key", hex(self.key.public_key)),
            ("name", self.name.clone()),
            ("platform", self.platform.clone()),
        ];
        Advert {
            kind: Kind::Node,
            instance: instance(&self.name, self.key.id),
            host: host(self.key.id),
            port: NO_PORT,
            txt: short_enough(txt),
        }
    }
}

/// A name of our own for this machine: the system's responder may announce the real one, with other addresses.
fn host(id: DeviceId) -> String {
    format!("atoll-{}.local", id.short())
}

/// The key's beginning keeps two machines of one name apart.
fn instance(name: &str, id: DeviceId) -> String {
    let tail = format!(" (atoll {})", &id.short()[..4]);
    format!("{}{tail}", cut(name, LABEL - tail.len()))
}

/// One entry, with its key and the sign between, has 255 bytes at most (RFC 6763, section 6.1).
fn short_enough(txt: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    let cut = |(key, value): (&'static str, String)| (key, cut(&value, 254 - key.len()).to_owned());
    txt.into_iter().map(cut).collect()
}

/// The longest beginning of at most so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

fn hex(key: [u8; 32]) -> String {
    // A key has the same shape as an id: 32 bytes, written as hex digits.
    DeviceId::from_digest(key).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn card() -> GatewayCard {
        GatewayCard {
            name: "vm".to_owned(),
            key: Identity::from_seed(&[1; 32]).device(),
            port: 28989,
            tls: None,
            is_reachable: false,
            details: None,
        }
    }

    fn keys(card: &GatewayCard) -> Vec<&'static str> {
        card.for_openclaw().txt.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn the_announcement_for_openclaw_has_its_keys_and_only_those_that_are_true() {
        let least = ["role", "gatewayPort", "lanHost", "displayName", "transport"];
        assert_eq!(keys(&card()), least);
        let most = GatewayCard {
            tls: Some("ab".repeat(32).parse().expect("a fingerprint")),
            is_reachable: true,
            details: Some(Details {
                cli_path: "/usr/bin/atoll".to_owned(),
                ssh_port: 22,
                tailnet_dns: Some("vps.tail1234.ts.net".to_owned()),
            }),
            ..card()
        };
        let all = "role gatewayPort lanHost displayName gatewayTls gatewayTlsSha256 gatewayDirectReachable cliPath transport sshPort tailnetDns";
        assert_eq!(keys(&most).join(" "), all);
        let txt = most.for_openclaw().txt;
        assert!(txt.contains(&("gatewayTlsSha256", "ab".repeat(32))), "{txt:?}");
        assert!(txt.contains(&("gatewayPort", "28989".to_owned())), "{txt:?}");
    }

    #[test]
    fn a_name_of_any_length_makes_a_label_and_entries_that_fit() {
        for name in ["", "vm", &"n".repeat(500), &"ü".repeat(500)] {
            let card = GatewayCard {
                name: name.to_owned(),
                ..card()
            };
            for advert in card.adverts() {
                assert!(advert.instance.len() <= LABEL, "{}", advert.instance);
                for (key, value) in advert.txt {
                    assert!(key.len() + 1 + value.len() <= 255, "{key}");
                }
            }
        }
    }

    #[test]
    fn two_machines_of_one_name_are_two_instances() {
        let other = GatewayCard {
            key: Identity::from_seed(&[2; 32]).device(),
            ..card()
        };
        assert_ne!(card().for_nodes().instance, other.for_nodes().instance);
        assert_ne!(card().host(), other.host());
    }
}
