//! This device's own announcement in the local network, for as long as no gateway has let it in. Takes itself back when it is dropped.

use atoll_pairing::discovery::{Air, NodeCard, announce};
use atoll_pairing::identity::Identity;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::platform;

/// An announcement that lives as long as this does.
#[derive(Debug)]
pub(crate) struct Beacon {
    _ends: DropGuard,
}

impl Beacon {
    /// Announces this device under the name that its owner gave it.
    pub(crate) fn start(air: Air, identity: &Identity, name: &str) -> Self {
        let card = NodeCard {
            name: name.to_owned(),
            key: identity.device(),
            platform: platform().0.to_owned(),
        };
        let stop = CancellationToken::new();
        let (want, wanted) = watch::channel(vec![card.advert()]);
        let announcing = announce(air, wanted, stop.clone());
        tokio::spawn(async move {
            announcing.await;
            // Held until then: nobody wants anything else meanwhile.
            drop(want);
        });
        Self {
            _ends: stop.drop_guard(),
        }
    }
}
