//! Announcing and finding within this machine, each test on a port of its own.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::identity::Identity;

/// As long as a look around may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(40);

fn air() -> Air {
    // Nobody else is given a port that was free a moment ago, since the system hands them out in another order.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    Air::loopback(socket.local_addr().expect("a port").port())
}

fn gateway(name: &str, seed: u8) -> GatewayCard {
    GatewayCard {
        name: name.to_owned(),
        key: Identity::from_seed(&[seed; 32]).device(),
        port: 18789,
        tls: None,
        is_reachable: false,
        details: None,
    }
}

/// Looks around until it is as expected.
async fn until(air: &Air, what: &str, expected: impl Fn(&Nearby) -> bool) -> Nearby {
    let looking = async {
        loop {
            let nearby = browse(air.clone(), &Kind::ALL, Duration::from_secs(2))
                .await
                .expect("multicast here");
            if expected(&nearby) {
                return nearby;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("never {what}"))
}

#[tokio::test]
async fn what_is_announced_is_found_follows_its_changes_and_goes() {
    let air = air();
    let (want, wanted) = watch::channel(gateway("one", 1).adverts());
    let stop = CancellationToken::new();
    let announcing = tokio::spawn(announce(air.clone(), wanted, stop.clone()));
    let nearby = until(&air, "found", |nearby| {
        nearby.gateways.len() == 1 && nearby.gateways[0].openclaw.is_some() && nearby.gateways[0].key.is_some()
    })
    .await;
    let found = &nearby.gateways[0];
    let key = Identity::from_seed(&[1; 32]).device();
    assert_eq!((found.key, found.id()), (Some(key.public_key), Some(key.id)));
    assert_eq!((found.name.as_str(), found.port), ("one", 18789));
    assert_eq!(found.addresses, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    assert_eq!(found.entry("transport"), Some("gateway"));

    let node = NodeCard {
        name: "laptop".to_owned(),
        key: Identity::from_seed(&[2; 32]).device(),
        platform: "linux".to_owned(),
    };
    want.send_replace(vec![node.advert()]);
    let nearby = until(&air, "changed", |nearby| {
        nearby.gateways.is_empty() && !nearby.nodes.is_empty()
    })
    .await;
    assert_eq!(nearby.nodes[0].id(), node.key.id);
    assert_eq!(
        (nearby.nodes[0].name.as_str(), nearby.nodes[0].platform.as_str()),
        ("laptop", "linux")
    );

    stop.cancel();
    announcing.await.expect("ends");
    until(&air, "gone", |nearby| *nearby == Nearby::default()).await;
}

#[tokio::test]
async fn two_gateways_of_one_name_are_both_found() {
    let air = air();
    let stop = CancellationToken::new();
    let _ends = stop.clone().drop_guard();
    let mut wants = Vec::new();
    for seed in [1, 2] {
        let (want, wanted) = watch::channel(gateway("home", seed).adverts());
        wants.push(want);
        tokio::spawn(announce(air.clone(), wanted, stop.clone()));
    }
    let nearby = until(&air, "two", |nearby| nearby.gateways.len() == 2).await;
    assert!(
        nearby.gateways.iter().all(|gateway| gateway.name == "home"),
        "{nearby:?}"
    );
    assert_ne!(nearby.gateways[0].key, nearby.gateways[1].key);
}
