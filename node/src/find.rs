//! Which gateway to serve when nobody has named one: the one that is remembered, else what announces itself in the local network.
//!
//! What is found is a hint. The key in an announcement is what the gateway must then prove; that this is the right gateway is for its
//! owner to see, who compares the digits of both. Never pairs by itself.

use std::fmt;
use std::time::Duration;

use atoll_pairing::dial::Target;
use atoll_pairing::discovery::{Air, DiscoveryError, Kind, NearGateway, Nearby, browse};
use atoll_protocol::id::DeviceId;

use crate::beacon::Beacon;
use crate::config::Found;
use crate::state::{Gateways, StateDir, StateError};

/// Whichever pipe works with a gateway that was found.
const SCHEME: &str = "atoll";

/// How long one look around takes; an answer comes within about a second.
pub(crate) const LOOK: Duration = Duration::from_secs(3);

/// The first pause between two looks; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(2);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A gateway of ours in the local network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What it calls itself.
    pub name: String,
    /// How to reach it.
    pub target: Target,
    /// The key that it must prove.
    pub key: [u8; 32],
    /// The id that follows from the key.
    pub id: DeviceId,
    /// This device was let in by that key before.
    pub is_paired: bool,
}

impl Candidate {
    /// None for a gateway of others, and for one that says no address.
    fn of(gateway: &NearGateway, gateways: &Gateways) -> Option<Self> {
        let address = std::net::SocketAddr::new(*gateway.addresses.first()?, gateway.port);
        let key = gateway.key?;
        Some(Self {
            name: gateway.name.clone(),
            target: format!("{SCHEME}://{address}").parse().ok()?,
            key,
            id: gateway.id()?,
            is_paired: gateways.is_pinned(key),
        })
    }
}

/// Every gateway that can be paired with, those that this device knows first.
pub fn candidates(nearby: &Nearby, gateways: &Gateways) -> Vec<Candidate> {
    let found = nearby.gateways.iter();
    let mut found: Vec<_> = found.filter_map(|gateway| Candidate::of(gateway, gateways)).collect();
    found.sort_by_key(|candidate| !candidate.is_paired);
    found
}

/// Where to go, and what to insist on there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub target: Target,
    /// How it was found.
    pub found: Found,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// A person has to choose.
    #[error("several gateways are near; say which one is yours:{}", Rows(.0))]
    Several(Vec<Candidate>),
    /// A person was asked and did not choose.
    #[error("no gateway was chosen")]
    Unchosen,
    /// What is remembered is no address.
    #[error("{0:?} in gateways.json is not the address of a gateway; name it with --gateway")]
    BadAddress(String),
    /// The network cannot be asked.
    #[error("{0}; name the gateway with --gateway")]
    Discovery(#[from] DiscoveryError),
    /// The folder.
    #[error(transparent)]
    State(#[from] StateError),
}

struct Rows<'a>(&'a [Candidate]);

impl fmt::Display for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|candidate| {
            let (name, target, key) = (&candidate.name, &candidate.target, candidate.id.short());
            let known = if candidate.is_paired { ", paired" } else { "" };
            write!(f, "\n  atoll-node run --gateway {target}   ({name}, key {key}{known})")
        })
    }
}

/// How the search goes, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// Nobody answers; it is looked on.
    Nobody,
    /// This one it is.
    Found(Candidate),
}

/// What one look around leads to.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Nobody,
    One(Candidate),
    Several(Vec<Candidate>),
}

/// The one that this device knows is preferred; between others nothing is decided here.
fn choose(mut found: Vec<Candidate>) -> Choice {
    let paired = found.iter().filter(|candidate| candidate.is_paired).count();
    if found.is_empty() {
        Choice::Nobody
    } else if found.len() == 1 || paired == 1 {
        Choice::One(found.swap_remove(0))
    } else {
        Choice::Several(found)
    }
}

/// Where to go. Looks around until somebody is there; meanwhile this device announces itself. `ask` is for a person: which of these;
/// none when there is nobody to ask.
///
/// # Errors
/// See [`FindError`].
pub async fn find(
    air: Air,
    state: &StateDir,
    name: &str,
    mut tell: impl FnMut(Search),
    ask: impl AsyncFnOnce(&[Candidate]) -> Result<Option<usize>, FindError>,
) -> Result<Place, FindError> {
    let gateways = state.gateways()?;
    if let Some(address) = gateways.only() {
        let target = remembered(address);
        let found = Found { announced: None, air };
        return target
            .map(|target| Place { target, found })
            .ok_or_else(|| FindError::BadAddress(address.to_owned()));
    }
    let identity = state.identity()?;
    let _beacon = Beacon::start(air.clone(), &identity, name);
    let mut pause = PAUSE;
    loop {
        let nearby = browse(air.clone(), &[Kind::Gateway], LOOK).await?;
        let one = match choose(candidates(&nearby, &gateways)) {
            Choice::One(one) => one,
            Choice::Several(mut several) => match ask(&several).await? {
                Some(at) if at < several.len() => several.swap_remove(at),
                Some(_) | None => return Err(FindError::Several(several)),
            },
            Choice::Nobody => {
                tell(Search::Nobody);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        tell(Search::Found(one.clone()));
        return Ok(Place {
            target: one.target,
            found: Found {
                announced: Some(one.key),
                air,
            },
        });
    }
}

/// An address as it is remembered, with its pipe or without.
fn remembered(address: &str) -> Option<Target> {
    if address.contains("://") {
        address.parse().ok()
    } else {
        format!("{SCHEME}://{address}").parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn gateway(name: &str, key: Option<u8>, addresses: &[[u8; 4]]) -> NearGateway {
        NearGateway {
            instance: format!("{name} (atoll)"),
            name: name.to_owned(),
            host: "a.local".to_owned(),
            port: 18789,
            addresses: addresses.iter().copied().map(IpAddr::from).collect(),
            key: key.map(|byte| [byte; 32]),
            openclaw: None,
        }
    }

    fn found(gateways: Vec<NearGateway>, known: &[u8]) -> Vec<Candidate> {
        let folder = tempfile::tempdir().expect("folder");
        let mut pinned = StateDir::open(folder.path())
            .expect("private")
            .gateways()
            .expect("empty");
        for key in known {
            pinned
                .pin(&format!("wss://10.0.0.{key}"), [*key; 32])
                .expect("written")
                .expect("first");
        }
        let nearby = Nearby {
            gateways,
            ..Nearby::default()
        };
        candidates(&nearby, &pinned)
    }

    #[test]
    fn only_gateways_with_a_key_and_an_address_can_be_paired_with() {
        let all = vec![
            gateway("other", None, &[[10, 0, 0, 1]]),
            gateway("nowhere", Some(1), &[]),
            gateway("home", Some(2), &[[10, 0, 0, 2], [10, 0, 0, 3]]),
        ];
        let found = found(all, &[]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].target.to_string(), "atoll://10.0.0.2:18789");
        assert_eq!((found[0].key, found[0].is_paired), ([2; 32], false));
    }

    #[test]
    fn the_known_one_is_taken_and_between_strangers_a_person_chooses() {
        let two = || {
            vec![
                gateway("home", Some(1), &[[10, 0, 0, 1]]),
                gateway("home", Some(2), &[[10, 0, 0, 2]]),
            ]
        };
        let of = |known: &[u8]| choose(found(two(), known));
        assert_eq!(choose(Vec::new()), Choice::Nobody);
        assert!(matches!(of(&[2]), Choice::One(one) if one.key == [2; 32] && one.is_paired));
        assert!(matches!(of(&[]), Choice::Several(both) if both.len() == 2));
        assert!(matches!(of(&[1, 2]), Choice::Several(both) if both.len() == 2));
    }

    #[test]
    fn the_error_says_what_to_type_for_each() {
        let two = vec![
            gateway("home", Some(1), &[[10, 0, 0, 1]]),
            gateway("home", Some(2), &[[10, 0, 0, 2]]),
        ];
        let text = FindError::Several(found(two, &[2])).to_string();
        for needed in [
            "--gateway atoll://10.0.0.1:18789 ",
            "--gateway atoll://10.0.0.2:18789 ",
            "home, key",
            ", paired)",
        ] {
            assert!(text.contains(needed), "{text}");
        }
    }

    #[test]
    fn an_address_is_remembered_with_its_pipe_or_without() {
        for (address, expected) in [
            ("ws://127.0.0.1:1", Some("ws://127.0.0.1:1")),
            ("10.0.0.1:1", Some("atoll://10.0.0.1:1")),
            ("", None),
        ] {
            let target = remembered(address).map(|target| target.to_string());
            assert_eq!(target.as_deref(), expected);
        }
    }
}
