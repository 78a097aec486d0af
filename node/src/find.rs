//! Which gateway to serve when nobody has named one: the one that is remembered, else what announces itself in the local network.
//!
//! What is found is a hint. The key in an announcement is what the gateway must then prove; that this is the right gateway is for its
//! owner to see, who compares the digits of both. Never pairs by itself.

use std::fmt;
use std::time::Duration;

use atoll_pairing::dial::Target;
use atoll_pairing::discovery::{Air, DiscoveryError, Kind, NearGateway, Nearby, browse};
use atoll_pairing::tls::Fingerprint;
use atoll_protocol::id::DeviceId;

use crate::beacon::Beacon;
use crate::config::{Dialect, Found};
use crate::state::{Gateways, Remembered, StateDir, StateError, Way};

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
    /// How it was found; none for a gateway of others, which does not say its key in the network.
    pub found: Option<Found>,
    /// What is spoken there.
    pub dialect: Dialect,
    /// The certificate to insist on, where one is remembered.
    pub tls_fingerprint: Option<Fingerprint>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// A person has to choose.
    #[error("several gateways are near; say which one is yours:{}", Rows(.0))]
    Several(Vec<Candidate>),
    /// A person has to choose between those that let this device in.
    #[error("several gateways know this device; say which one:{}", Ways(.0))]
    Ambiguous(Vec<Way>),
    /// An OpenClaw gateway does not announce its key, so it is not looked for.
    #[error(
        "no OpenClaw gateway knows this device yet, and none says its key in the local network; name it with --gateway"
    )]
    Foreign,
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

struct Ways<'a>(&'a [Way]);

impl fmt::Display for Ways<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|way| {
            let address = remembered(&way.address).map_or_else(|| way.address.clone(), |target| target.to_string());
            write!(
                f,
                "\n  atoll-node run --gateway {address} --dialect {}",
                way.dialect.as_str()
            )
        })
    }
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
    /// This one it is, since it let this device in last; so many others did before.
    Last(Target, usize),
}

/// Something to choose from.
#[derive(Debug, Clone, Copy)]
pub enum Question<'a> {
    /// Gateways in the local network.
    Near(&'a [Candidate]),
    /// Gateways that let this device in.
    Known(&'a [Way]),
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

/// Where to go: to the gateway that let this device in last, else to one that is near, once somebody is there; meanwhile this device
/// announces itself. `ask` is for a person: which of these; none when there is nobody to ask. With a dialect, to one that speaks it.
///
/// # Errors
/// See [`FindError`].
pub async fn find(
    air: Air,
    state: &StateDir,
    name: &str,
    dialect: Option<Dialect>,
    mut tell: impl FnMut(Search),
    ask: impl AsyncFnOnce(Question<'_>) -> Result<Option<usize>, FindError>,
) -> Result<Place, FindError> {
    let gateways = state.gateways()?;
    match gateways.remembered(dialect) {
        Remembered::One(way, others) => {
            let place = known(way, air)?;
            if others > 0 {
                tell(Search::Last(place.target.clone(), others));
            }
            return Ok(place);
        }
        Remembered::Several(mut ways) => {
            return match ask(Question::Known(&ways)).await? {
                Some(at) if at < ways.len() => known(ways.swap_remove(at), air),
                Some(_) | None => Err(FindError::Ambiguous(ways)),
            };
        }
        Remembered::Nobody if dialect == Some(Dialect::Openclaw) => return Err(FindError::Foreign),
        Remembered::Nobody => {}
    }
    let identity = state.identity()?;
    let _beacon = Beacon::start(air.clone(), &identity, name);
    let mut pause = PAUSE;
    loop {
        let nearby = browse(air.clone(), &[Kind::Gateway], LOOK).await?;
        let one = match choose(candidates(&nearby, &gateways)) {
            Choice::One(one) => one,
            Choice::Several(mut several) => match ask(Question::Near(&several)).await? {
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
            found: Some(Found {
                announced: Some(one.key),
                air,
            }),
            dialect: Dialect::Native,
            tls_fingerprint: None,
        });
    }
}

/// A gateway that let this device in. One of ours is looked for in the network when it is not there any more.
fn known(way: Way, air: Air) -> Result<Place, FindError> {
    let target = remembered(&way.address).ok_or_else(|| FindError::BadAddress(way.address.clone()))?;
    let is_ours = way.dialect == Dialect::Native;
    Ok(Place {
        target,
        found: is_ours.then_some(Found { announced: None, air }),
        dialect: way.dialect,
        tls_fingerprint: way.tls_fingerprint.as_deref().and_then(|text| text.parse().ok()),
    })
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

    async fn found_with(
        state: &StateDir,
        dialect: Option<Dialect>,
        answer: Option<usize>,
    ) -> (Result<Place, FindError>, usize) {
        let mut told = 0;
        let tell = |search| told += usize::from(matches!(search, Search::Last(_, 1)));
        let ask = async |question: Question<'_>| {
            assert!(matches!(question, Question::Known(ways) if ways.len() == 2));
            Ok(answer)
        };
        let found = find(Air::loopback(1), state, "laptop", dialect, tell, ask).await;
        (found, told)
    }

    #[tokio::test]
    async fn the_last_one_is_taken_and_said_and_a_person_chooses_where_nothing_says_which_was_last() {
        let folder = tempfile::tempdir().expect("folder");
        let state = StateDir::open(folder.path()).expect("private");
        let mut gateways = state.gateways().expect("empty");
        gateways.pin("a:1", [1; 32]).expect("written").expect("first");
        gateways.set_device_token("b:1", Some("t".to_owned())).expect("written");
        let (none, _) = found_with(&state, None, None).await;
        let error = none.expect_err("nobody to ask").to_string();
        for line in [
            "--gateway atoll://a:1 --dialect native",
            "--gateway atoll://b:1 --dialect openclaw",
        ] {
            assert!(error.contains(line), "{error}");
        }
        let (chosen, _) = found_with(&state, None, Some(1)).await;
        assert_eq!(chosen.expect("chosen").dialect, Dialect::Openclaw);
        let way = Way {
            address: "ws://b:1".to_owned(),
            dialect: Dialect::Openclaw,
            tls_fingerprint: None,
        };
        gateways.used("b:1", way, 5).expect("written");
        let (last, told) = found_with(&state, None, None).await;
        let last = last.expect("the last one");
        assert_eq!(
            (last.target.to_string().as_str(), last.found, told),
            ("ws://b:1", None, 1)
        );
        let (ours, told) = found_with(&state, Some(Dialect::Native), None).await;
        let ours = ours.expect("the only one of ours");
        assert!(ours.found.is_some() && told == 0, "{:?}", ours.target);
    }

    #[tokio::test]
    async fn an_openclaw_gateway_is_not_looked_for() {
        let folder = tempfile::tempdir().expect("folder");
        let state = StateDir::open(folder.path()).expect("private");
        let (none, _) = found_with(&state, Some(Dialect::Openclaw), None).await;
        assert!(matches!(none, Err(FindError::Foreign)));
    }
}
