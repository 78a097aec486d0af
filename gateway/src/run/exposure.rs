//! Who can reach the gateway and with which secret: the configuration with the command line on top of it. Refuses what would not be
//! safe; binds nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::json;

use super::{Options, StartError};
use crate::auth::Overrides;
use crate::config::{self, Bind, Config};

/// Who can reach the gateway, and with which secret.
pub(super) struct Exposure {
    /// Where it listens.
    pub(super) addresses: Vec<SocketAddr>,
    /// What wins over the configuration, now and whenever it changes.
    pub(super) overrides: Overrides,
}

impl Exposure {
    /// The configuration with the command line on top of it, checked again.
    ///
    /// # Errors
    /// It would not be safe, or is not understood.
    pub(super) fn of(options: &Options, config: &Config) -> Result<Self, StartError> {
        let bind = options.bind.as_ref();
        let bind = bind.map(|bind| serde_json::from_value(json!(bind)).map_err(|_| StartError::Bind(bind.clone())));
        let overrides = Overrides {
            port: options.port,
            bind: bind.transpose()?,
            token: options.token.clone(),
        };
        let gateway = overrides.on(&config.gateway);
        let problems = config::exposure(&gateway);
        if !problems.is_empty() {
            return Err(StartError::Unsafe(problems));
        }
        Ok(Self {
            addresses: addresses(&gateway)?,
            overrides,
        })
    }
}

fn addresses(gateway: &config::Gateway) -> Result<Vec<SocketAddr>, StartError> {
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let hosts = match gateway.bind {
        Bind::Loopback => vec![loopback],
        Bind::Lan => vec![everywhere],
        Bind::Auto if is_container() => vec![everywhere],
        Bind::Auto => vec![loopback],
        Bind::Tailnet => tailnet_address().into_iter().chain([loopback]).collect(),
        Bind::Custom => {
            let host = gateway.custom_bind_host.as_deref().unwrap_or_default();
            vec![config::bind_host(host).ok_or_else(|| StartError::Host(host.to_owned()))?]
        }
    };
    Ok(hosts
        .into_iter()
        .map(|host| SocketAddr::new(host, gateway.port))
        .collect())
}

/// Whether this is a container, whose network is of no use to others.
pub(super) fn is_container() -> bool {
    std::path::Path::new("/.dockerenv").exists() || std::path::Path::new("/run/.containerenv").exists()
}

/// The address that this machine has in a tailnet (100.64.0.0/10), if it is in one.
fn tailnet_address() -> Option<IpAddr> {
    // Asking the system which address it would send from to the tailnet's own resolver; nothing is sent.
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(100, 100, 100, 100), 53)).ok()?;
    let IpAddr::V4(address) = socket.local_addr().ok()?.ip() else {
        return None;
    };
    let [first, second, ..] = address.octets();
    (first == 100 && second & 0xc0 == 64).then_some(IpAddr::V4(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigStore;

    #[test]
    fn what_the_check_lets_through_as_an_address_is_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let (config, _) =
            ConfigStore::open(folder.path().join("atoll.json"), Box::new(|_| None)).expect("the defaults");
        let mut gateway = config.current().gateway.clone();
        gateway.bind = Bind::Custom;
        for (host, expected) in [
            ("localhost", Some("127.0.0.1:18789")),
            ("127.0.0.1", Some("127.0.0.1:18789")),
            ("[::1]", Some("[::1]:18789")),
            ("example.org", None),
        ] {
            gateway.custom_bind_host = Some(host.to_owned());
            assert_eq!(config::exposure(&gateway).is_empty(), expected.is_some(), "{host}");
            let expected = expected.map(|address| vec![address.parse().expect("an address")]);
            assert_eq!(addresses(&gateway).ok(), expected, "{host}");
        }
    }
}
