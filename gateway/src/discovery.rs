//! What this gateway announces in the local network, following configuration and certificates. It can only be missing: nothing else
//! depends on it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atoll_pairing::discovery::{Advert, Air, Details, GatewayCard, announce};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::MdnsMode;
use crate::house::House;

mod tailnet;

/// How often the name in the tailnet is asked for, where it is announced.
const LOOK: Duration = Duration::from_secs(60);

/// Where SSH listens unless its owner has moved it.
const SSH_PORT: u16 = 22;

/// Where the gateway stands, as far as announcing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Others can open the port.
    pub(crate) is_reachable: bool,
    /// Its network is that of containers.
    pub(crate) is_container: bool,
}

/// What holds: as written, else as little as others need to find what they can reach.
fn effective(written: Option<MdnsMode>, standing: Standing) -> MdnsMode {
    match written {
        Some(mode) => mode,
        None if standing.is_container || !standing.is_reachable => MdnsMode::Off,
        None => MdnsMode::Minimal,
    }
}

/// What is announced in a mode; `card` is the full one.
fn adverts(mode: MdnsMode, card: GatewayCard) -> Vec<Advert> {
    match mode {
        MdnsMode::Off => Vec::new(),
        MdnsMode::Minimal => GatewayCard { details: None, ..card }.adverts(),
        MdnsMode::Full => card.adverts(),
    }
}

/// The networks that belong to what is listened on.
fn air(addresses: &[SocketAddr]) -> Air {
    let outer = addresses
        .iter()
        .map(SocketAddr::ip)
        .filter(|address| !address.is_loopback());
    let outer: Vec<_> = outer.collect();
    if outer.is_empty() || outer.iter().any(|address| address.is_unspecified()) {
        Air::lan()
    } else {
        Air::only(outer)
    }
}

/// Announces until stopped.
pub(crate) async fn run(house: Arc<House>, addresses: Vec<SocketAddr>, is_container: bool, stop: CancellationToken) {
    let standing = Standing {
        is_reachable: addresses.iter().any(|address| !address.ip().is_loopback()),
        is_container,
    };
    let want = watch::Sender::new(Vec::new());
    let announcing = announce(air(&addresses), want.subscribe(), stop.clone());
    tokio::join!(announcing, follow(&house, standing, &want, &stop));
}

/// Wants what holds now, and again whenever that changes.
async fn follow(house: &House, standing: Standing, want: &watch::Sender<Vec<Advert>>, stop: &CancellationToken) {
    let (mut configs, mut certificates) = (house.config.subscribe(), house.certificates.clone());
    loop {
        let config = configs.borrow_and_update().clone();
        let certificate = certificates.borrow_and_update().shown.fingerprint;
        let mode = effective(config.discovery.mdns.mode, standing);
        let tailnet_dns = match mode {
            MdnsMode::Full => tailnet::name(Path::new(tailnet::SOCKET)).await,
            MdnsMode::Off | MdnsMode::Minimal => None,
        };
        let card = GatewayCard {
            name: crate::run::host_name(),
            key: house.identity.device(),
            port: house.port,
            // An app that saw it would insist on it, and one of ours is another every few days.
            tls: config.gateway.tls.enabled.then_some(certificate),
            is_reachable: standing.is_reachable,
            details: Some(Details {
                cli_path: std::env::current_exe().unwrap_or_default().display().to_string(),
                ssh_port: SSH_PORT,
                tailnet_dns,
            }),
        };
        let wanted = adverts(mode, card);
        want.send_if_modified(|last| {
            let is_other = *last != wanted;
            *last = wanted;
            is_other
        });
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = configs.changed() => if changed.is_err() { return },
            changed = certificates.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK), if mode == MdnsMode::Full => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use atoll_pairing::identity::Identity;

    use super::*;

    #[test]
    fn unasked_it_is_announced_only_where_others_can_reach_it() {
        let standing = |is_reachable, is_container| Standing {
            is_reachable,
            is_container,
        };
        for (written, standing, expected) in [
            (None, standing(true, false), MdnsMode::Minimal),
            (None, standing(false, false), MdnsMode::Off),
            (None, standing(true, true), MdnsMode::Off),
            (Some(MdnsMode::Full), standing(false, true), MdnsMode::Full),
            (Some(MdnsMode::Off), standing(true, false), MdnsMode::Off),
        ] {
            assert_eq!(effective(written, standing), expected, "{written:?} {standing:?}");
        }
    }

    #[test]
    fn the_modes_say_nothing_little_and_everything() {
        let card = GatewayCard {
            name: "vm".to_owned(),
            key: Identity::from_seed(&[1; 32]).device(),
            port: 1,
            tls: None,
            is_reachable: true,
            details: Some(Details {
                cli_path: "/usr/bin/atoll".to_owned(),
                ssh_port: 22,
                tailnet_dns: None,
            }),
        };
        let little = GatewayCard {
            details: None,
            ..card.clone()
        };
        assert_eq!(adverts(MdnsMode::Off, card.clone()), []);
        assert_eq!(adverts(MdnsMode::Minimal, card.clone()), little.adverts());
        assert_eq!(adverts(MdnsMode::Full, card.clone()), card.adverts());
        assert_ne!(card.adverts(), little.adverts());
    }

    #[test]
    fn it_is_announced_in_the_networks_it_listens_in() {
        let of = |addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|text| text.parse().expect("an address")).collect();
            air(&addresses)
        };
        assert_eq!(of(&["0.0.0.0:1"]), Air::lan());
        assert_eq!(of(&["127.0.0.1:1"]), Air::lan());
        let only = Air::only(vec!["10.0.0.7".parse().expect("an address")]);
        assert_eq!(of(&["10.0.0.7:1", "127.0.0.1:1"]), only);
    }
}
