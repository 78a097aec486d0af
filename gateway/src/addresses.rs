//! Where this gateway can be reached, as far as it can tell: for links that somebody else follows. Asks nobody; decides nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use atoll_pairing::dial::Target;

use crate::house::House;

/// Addresses of the gateway, best first; never empty. Plain only on this machine.
pub(crate) fn of(house: &House) -> Vec<Target> {
    let mut hosts: Vec<IpAddr> = Vec::new();
    for bound in &house.listening {
        let found = if bound.ip().is_unspecified() {
            outward(bound.is_ipv6())
        } else {
            vec![bound.ip()]
        };
        hosts.extend(found);
    }
    // Whoever is elsewhere cannot use a loopback address, so it comes last.
    hosts.sort_by_key(IpAddr::is_loopback);
    hosts.dedup();
    if hosts.is_empty() {
        hosts.push(Ipv4Addr::LOCALHOST.into());
    }
    hosts.into_iter().map(|host| target(host, house.port)).collect()
}

fn target(host: IpAddr, port: u16) -> Target {
    Target::Tcp {
        tls: !host.is_loopback(),
        host: host.to_string(),
        port,
        path: "/".to_owned(),
    }
}

/// The addresses that this machine would speak from to the rest of the world, and its loopback address. Nothing is sent.
fn outward(with_six: bool) -> Vec<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849): they are routed like any other and belong to nobody.
    let four = local_address(
        (Ipv4Addr::UNSPECIFIED, 0).into(),
        (Ipv4Addr::new(192, 0, 2, 1), 9).into(),
    );
    let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let six = local_address((Ipv6Addr::UNSPECIFIED, 0).into(), (far, 9).into()).filter(|_| with_six);
    [four, six, Some(Ipv4Addr::LOCALHOST.into())]
        .into_iter()
        .flatten()
        .collect()
}

fn local_address(from: SocketAddr, to: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_addresses_are_those_of_this_machine_alone() {
        assert_eq!(target(Ipv4Addr::LOCALHOST.into(), 5).to_string(), "ws://127.0.0.1:5");
        assert_eq!(
            target(Ipv4Addr::new(10, 0, 0, 2).into(), 5).to_string(),
            "wss://10.0.0.2:5"
        );
        assert_eq!(
            target(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(), 5).to_string(),
            "wss://[fd00::1]:5"
        );
        assert!(outward(false).contains(&IpAddr::from(Ipv4Addr::LOCALHOST)));
    }
}
