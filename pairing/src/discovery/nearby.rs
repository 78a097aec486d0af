//! What was seen in the local network, cleaned, counted and put together. Pure.
//!
//! Every text here was written by a stranger.

use std::collections::BTreeMap;
use std::net::IpAddr;

use atoll_protocol::id::DeviceId;

use super::Kind;
use crate::identity::device_id_of;

/// Announcements that are kept; more are counted only.
const SIGHTINGS: usize = 64;

/// Addresses of one announcement that are kept.
const ADDRESSES: usize = 8;

/// Entries of one announcement that are kept.
const ENTRIES: usize = 24;

/// Characters of a name.
const NAME: usize = 63;

/// Characters of another text; an entry in DNS has no more bytes.
const TEXT: usize = 255;

/// One announcement as it was read.
#[derive(Debug, Clone, Default)]
pub(super) struct Sighting {
    /// With its service's name, e.g. `vm (atoll 4cac)._atoll._udp.local.`.
    pub(super) fullname: String,
    /// The machine that offers it.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) txt: Vec<(String, String)>,
}

/// A gateway that somebody announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearGateway {
    /// The announcement's own name.
    pub instance: String,
    /// What it calls itself.
    pub name: String,
    /// The name of its machine, e.g. `atoll-4cac12ab34.local`.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Where it says that it is, the most useful one first.
    pub addresses: Vec<IpAddr>,
    /// The public key that it must prove; none: it is not one of ours.
    pub key: Option<[u8; 32]>,
    /// What it says to OpenClaw's apps.
    pub openclaw: Option<BTreeMap<String, String>>,
}

impl NearGateway {
    /// The id that follows from the key.
    pub fn id(&self) -> Option<DeviceId> {
        self.key.as_ref().map(device_id_of)
    }

    /// An entry of what it says to OpenClaw's apps.
    pub fn entry(&self, key: &str) -> Option<&str> {
        self.openclaw.as_ref()?.get(key).map(String::as_str)
    }
}

/// A node that announces itself because no gateway has let it in yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearNode {
    /// What it calls itself.
    pub name: String,
    /// Its platform.
    pub platform: String,
    /// The name of its machine.
    pub host: String,
    /// Where it says that it is.
    pub addresses: Vec<IpAddr>,
    /// Its public key.
    pub key: [u8; 32],
}

impl NearNode {
    /// The id that follows from the key.
    pub fn id(&self) -> DeviceId {
        device_id_of(&self.key)
    }
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nearby {
    /// Gateways by name.
    pub gateways: Vec<NearGateway>,
    /// Unpaired nodes by name.
    pub nodes: Vec<NearNode>,
    /// Announcements that were one too many.
    pub ignored: usize,
}

/// What has been seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    sightings: BTreeMap<(Kind, String), Sighting>,
    ignored: usize,
    takes_loopback: bool,
}

impl Seen {
    /// Nothing yet. Whether this machine itself counts as an address, since browsing is within it.
    pub(super) fn new(takes_loopback: bool) -> Self {
        Self {
            takes_loopback,
            ..Self::default()
        }
    }

    /// Takes in an announcement; a later one of the same name replaces the former, with the addresses of both.
    pub(super) fn see(&mut self, kind: Kind, mut new: Sighting) {
        let place = (kind, new.fullname.to_lowercase());
        if let Some(old) = self.sightings.get(&place) {
            if old.host == new.host {
                new.addresses.extend(&old.addresses);
            }
        } else if self.sightings.len() >= SIGHTINGS {
            self.ignored += 1;
            return;
        }
        self.tidy(&mut new);
        self.sightings.insert(place, new);
    }

    /// An announcement was taken back.
    pub(super) fn forget(&mut self, kind: Kind, fullname: &str) {
        self.sightings.remove(&(kind, fullname.to_lowercase()));
    }

    fn tidy(&self, sighting: &mut Sighting) {
        sighting.addresses.retain(|address| self.is_useful(*address));
        sighting.addresses.sort_by_key(|address| (!address.is_ipv4(), *address));
        sighting.addresses.dedup();
        sighting.addresses.truncate(ADDRESSES);
        sighting.txt.truncate(ENTRIES);
    }

    /// Whether it can be dialled. A link-local IPv6 address cannot without the name of an interface.
    fn is_useful(&self, address: IpAddr) -> bool {
        let is_one_host = match address {
            IpAddr::V4(address) => !address.is_broadcast(),
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        };
        let is_elsewhere = self.takes_loopback || !address.is_loopback();
        is_one_host && is_elsewhere && !address.is_unspecified() && !address.is_multicast()
    }

    /// What it amounts to.
    pub(super) fn nearby(&self) -> Nearby {
        let of = |kind| {
            let found = self.sightings.iter().filter(move |((seen, _), _)| *seen == kind);
            found.map(|(_, sighting)| sighting)
        };
        let mut gateways: Vec<_> = of(Kind::Gateway).filter_map(ours).collect();
        for sighting in of(Kind::OpenClaw) {
            join(&mut gateways, openclaw(sighting));
        }
        gateways.sort_by(|a, b| (&a.name, &a.instance).cmp(&(&b.name, &b.instance)));
        let mut nodes: Vec<_> = of(Kind::Node).filter_map(node).collect();
        nodes.sort_by(|a, b| (&a.name, a.key).cmp(&(&b.name, b.key)));
        Nearby {
            gateways,
            nodes,
            ignored: self.ignored,
        }
    }
}

/// Both announcements of one gateway become one.
fn join(gateways: &mut Vec<NearGateway>, other: NearGateway) {
    let is_same = |gateway: &&mut NearGateway| {
        let same_place = gateway.host == other.host && gateway.port == other.port;
        same_place && gateway.instance == other.instance && gateway.openclaw.is_none()
    };
    match gateways.iter_mut().find(is_same) {
        Some(gateway) => gateway.openclaw = other.openclaw,
        None => gateways.push(other),
    }
}

fn ours(sighting: &Sighting) -> Option<NearGateway> {
    Some(NearGateway {
        name: name(sighting, "name", Kind::Gateway),
        key: Some(key(sighting)?),
        ..gateway(sighting, Kind::Gateway)
    })
}

fn openclaw(sighting: &Sighting) -> NearGateway {
    let entries = sighting.txt.iter();
    let entries = entries.map(|(key, value)| (clean(key, NAME), clean(value, TEXT)));
    NearGateway {
        name: name(sighting, "displayName", Kind::OpenClaw),
        openclaw: Some(entries.collect()),
        ..gateway(sighting, Kind::OpenClaw)
    }
}

fn gateway(sighting: &Sighting, kind: Kind) -> NearGateway {
    NearGateway {
        instance: instance(&sighting.fullname, kind),
        name: String::new(),
        host: clean(sighting.host.trim_end_matches('.'), TEXT).to_lowercase(),
        port: sighting.port,
        addresses: sighting.addresses.clone(),
        key: None,
        openclaw: None,
    }
}

fn node(sighting: &Sighting) -> Option<NearNode> {
    Some(NearNode {
        name: name(sighting, "name", Kind::Node),
        platform: clean(entry(sighting, "platform").unwrap_or_default(), NAME),
        host: clean(sighting.host.trim_end_matches('.'), TEXT).to_lowercase(),
        addresses: sighting.addresses.clone(),
        key: key(sighting)?,
    })
}

fn entry<'a>(sighting: &'a Sighting, key: &str) -> Option<&'a str> {
    let mut entries = sighting.txt.iter();
    let (_, value) = entries.find(|(name, _)| name.eq_ignore_ascii_case(key))?;
    Some(value)
}

fn key(sighting: &Sighting) -> Option<[u8; 32]> {
    let key: DeviceId = entry(sighting, "key")?.parse().ok()?;
    Some(*key.as_bytes())
}

fn name(sighting: &Sighting, field: &str, kind: Kind) -> String {
    let told = clean(entry(sighting, field).unwrap_or_default(), NAME);
    if told.is_empty() {
        instance(&sighting.fullname, kind)
    } else {
        told
    }
}

/// The name of an announcement without that of its service, and without the backslashes of DNS.
fn instance(fullname: &str, kind: Kind) -> String {
    let bare = fullname.len().checked_sub(kind.service().len() + 1);
    let bare = bare.and_then(|end| fullname.get(..end)).unwrap_or(fullname);
    let mut plain = String::with_capacity(bare.len());
    let mut letters = bare.chars();
    while let Some(letter) = letters.next() {
        let is_escape = letter == '\\';
        plain.extend(if is_escape { letters.next() } else { Some(letter) });
    }
    clean(&plain, NAME)
}

/// A stranger's text made safe to show: what steers a terminal, hides letters or turns their order becomes `�`.
fn clean(text: &str, most: usize) -> String {
    let shown = |letter: char| {
        let steers = letter.is_control() || is_unseen(letter);
        if steers { char::REPLACEMENT_CHARACTER } else { letter }
    };
    text.trim().chars().map(shown).take(most).collect()
}

fn is_unseen(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [0xab; 32];

    fn sighting(instance: &str, kind: Kind, host: &str, txt: &[(&str, &str)]) -> Sighting {
        Sighting {
            fullname: format!("{instance}.{}", kind.service()),
            host: host.to_owned(),
            port: 18789,
            addresses: vec![IpAddr::from([10, 77, 0, 1])],
            txt: txt.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    fn ours(instance: &str, host: &str, key: &str) -> Sighting {
        sighting(instance, Kind::Gateway, host, &[("key", key), ("name", "vm")])
    }

    #[test]
    fn the_two_announcements_of_a_gateway_are_one_gateway() {
        let mut seen = Seen::default();
        let txt = [("displayName", "vm"), ("gatewayPort", "18789")];
        seen.see(Kind::OpenClaw, sighting("vm (atoll)", Kind::OpenClaw, "a.local.", &txt));
        seen.see(Kind::Gateway, ours("vm (atoll)", "A.local.", &"ab".repeat(32)));
        let gateways = seen.nearby().gateways;
        assert_eq!(gateways.len(), 1, "{gateways:?}");
        assert_eq!(
            (gateways[0].key, gateways[0].entry("gatewayPort")),
            (Some(KEY), Some("18789"))
        );
        assert_eq!(
            (gateways[0].host.as_str(), gateways[0].name.as_str()),
            ("a.local", "vm")
        );
        assert_eq!(gateways[0].instance, "vm (atoll)");
    }

    #[test]
    fn a_gateway_of_others_and_a_second_key_of_one_name_stay_apart() {
        let mut seen = Seen::default();
        seen.see(
            Kind::OpenClaw,
            sighting("vm (OpenClaw)", Kind::OpenClaw, "a.local.", &[]),
        );
        seen.see(Kind::Gateway, ours("vm (atoll)", "a.local.", &"ab".repeat(32)));
        seen.see(Kind::Gateway, ours("vm (atoll) (2)", "a.local.", &"cd".repeat(32)));
        let keys: Vec<_> = seen.nearby().gateways.iter().map(|gateway| gateway.key).collect();
        assert_eq!(keys, [Some(KEY), Some([0xcd; 32]), None]);
    }

    #[test]
    fn what_has_no_key_is_none_of_ours() {
        let mut seen = Seen::default();
        for (at, key) in ["", "ab", &"zz".repeat(32)].into_iter().enumerate() {
            seen.see(Kind::Gateway, ours(&format!("g{at}"), "a.local.", key));
            let node = [("key", key), ("name", "n")];
            seen.see(Kind::Node, sighting(&format!("n{at}"), Kind::Node, "b.local.", &node));
        }
        assert_eq!(seen.nearby(), Nearby::default());
    }

    #[test]
    fn addresses_come_together_and_those_that_lead_nowhere_are_left_out() {
        let mut seen = Seen::default();
        for address in [
            "fe80::1",
            "127.0.0.1",
            "224.0.0.251",
            "0.0.0.0",
            "fd00::1",
            "10.0.0.2",
            "10.0.0.2",
        ] {
            let mut one = ours("vm", "a.local.", &"ab".repeat(32));
            one.addresses = vec![address.parse().expect("an address")];
            seen.see(Kind::Gateway, one);
        }
        let found = seen.nearby().gateways[0].addresses.clone();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.2", "fd00::1"]);
    }

    #[test]
    fn a_flood_is_counted_and_not_kept() {
        let mut seen = Seen::default();
        for at in 0..1_000 {
            seen.see(Kind::Gateway, ours(&format!("g{at}"), "a.local.", &"ab".repeat(32)));
        }
        let nearby = seen.nearby();
        assert_eq!((nearby.gateways.len(), nearby.ignored), (SIGHTINGS, 1_000 - SIGHTINGS));
        seen.forget(Kind::Gateway, "G0._atoll._udp.local.");
        assert_eq!(seen.nearby().gateways.len(), SIGHTINGS - 1);
    }

    #[test]
    fn a_name_cannot_steer_the_terminal_of_whoever_reads_it() {
        let mut seen = Seen::default();
        let txt = [
            ("key", "ab".repeat(32)),
            ("name", format!("\u{1b}[2Jvm\u{202e}{}", "x".repeat(500))),
        ];
        let txt: Vec<_> = txt.iter().map(|(k, v)| (*k, v.as_str())).collect();
        seen.see(Kind::Node, sighting("n", Kind::Node, "b.local.", &txt));
        let name = seen.nearby().nodes[0].name.clone();
        assert!(name.starts_with("\u{fffd}[2Jvm\u{fffd}xx"), "{name:?}");
        assert_eq!(name.chars().count(), NAME);
    }

    #[test]
    fn an_instance_is_read_without_its_service_and_its_backslashes() {
        for (fullname, expected) in [
            (r"my\.box (atoll)._atoll._udp.local.", "my.box (atoll)"),
            ("_atoll._udp.local.", "_atoll._udp.local."),
            ("x", "x"),
            ("", ""),
        ] {
            assert_eq!(instance(fullname, Kind::Gateway), expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_that_is_announced_makes_it_panic_or_show_a_control(
            fullname in ".{0,90}", host in ".{0,90}", entries in prop::collection::vec((".{0,40}", ".{0,300}"), 0..40),
        ) {
            let mut seen = Seen::default();
            let txt = entries.into_iter().chain([("key".to_owned(), "ab".repeat(32))]).rev().collect();
            let sighting = Sighting { fullname, host, port: 1, addresses: Vec::new(), txt };
            for kind in Kind::ALL {
                seen.see(kind, sighting.clone());
            }
            let shown: String = seen.nearby().gateways.iter().map(|g| format!("{}{}{}", g.name, g.host, g.instance)).collect();
            prop_assert!(!shown.chars().any(|letter| letter.is_control() || is_unseen(letter)));
        }
    }
}
