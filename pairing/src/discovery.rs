//! Who is near: what is announced in the local network by multicast DNS, and what is found there.
//!
//! What is found is a hint and nothing more. Anybody in the network can say anything under any name, so texts are cleaned and counted,
//! and the key in an announcement is only the key that must then be proven. Never decides whom to trust.

mod advert;
mod mdns;
mod nearby;

pub use advert::{Advert, Details, GatewayCard, NodeCard};
pub use mdns::{Air, DiscoveryError, announce, browse};
pub use nearby::{NearGateway, NearNode, Nearby};

/// What is announced, by the name of its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A gateway, in the words that OpenClaw's apps look for.
    OpenClaw,
    /// A gateway of ours, with its key.
    Gateway,
    /// A node of ours that no gateway has let in yet.
    Node,
}

impl Kind {
    /// What leads to a gateway.
    pub const GATEWAYS: [Self; 2] = [Self::OpenClaw, Self::Gateway];
    /// Everything.
    pub const ALL: [Self; 3] = [Self::OpenClaw, Self::Gateway, Self::Node];

    /// The service's name with its domain.
    pub fn service(self) -> &'static str {
        match self {
            Self::OpenClaw => "_openclaw-gw._tcp.local.",
            Self::Gateway => "_atoll._udp.local.",
            Self::Node => "_atoll-node._udp.local.",
        }
    }
}

#[cfg(test)]
mod tests;
