//! Which node or device somebody means: by name, id, address, or by what it is and can do. Pure; doubt is an error that lists the
//! candidates. The words are those of `docs/nodes.md`.

use atoll_protocol::id::DeviceId;

#[cfg(test)]
mod tests;

/// A prefix shorter than this is too easily somebody else's.
pub(crate) const SHORTEST_PREFIX: usize = 4;

/// A node that could be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its id.
    pub(crate) node: DeviceId,
    /// What a person calls it.
    pub(crate) name: String,
    /// It is linked now.
    pub(crate) connected: bool,
    /// Where its link comes from.
    pub(crate) address: String,
    /// Its system, in its own words.
    pub(crate) platform: String,
    /// What may be called on it, by kind.
    pub(crate) caps: Vec<String>,
    /// What may be called on it.
    pub(crate) commands: Vec<String>,
    /// How many calls are open on it.
    pub(crate) open_calls: u64,
}

impl Candidate {
    fn describe(&self) -> String {
        let state = if self.connected { "connected" } else { "away" };
        format!("{} ({}, {state})", self.name, self.node.short())
    }
}

/// Nobody, or more than one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SelectError {
    /// No node is paired at all.
    #[error("no node is paired; start `atoll-node run` on a device and approve it")]
    NoNodes,
    /// None matches.
    #[error("no node matches \"{asked}\"; there are: {candidates}")]
    Unknown {
        /// What was asked for.
        asked: String,
        /// All of them.
        candidates: String,
    },
    /// Several match.
    #[error("\"{asked}\" could be any of: {candidates}; name one by its id, or add \"any\"")]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// Those that match.
        candidates: String,
    },
    /// None was named, and several could be meant.
    #[error("name a node; there are: {candidates}")]
    Unnamed {
        /// Those that could be meant.
        candidates: String,
    },
}

/// One condition.
enum Term<'a> {
    Any,
    Os(&'a str),
    Cap(&'a str),
    Command(&'a str),
    Named(&'a str),
}

impl<'a> Term<'a> {
    fn of(word: &'a str) -> Self {
        match word.split_once('=') {
            Some(("os", system)) => Self::Os(system),
            Some(("cap", cap)) => Self::Cap(cap),
            Some(("cmd", command)) => Self::Command(command),
            Some(_) | None if word == "any" => Self::Any,
            Some(_) | None => Self::Named(word),
        }
    }
}

/// Those of `among` that fulfil a condition.
fn keep<'a>(term: &Term<'_>, among: Vec<&'a Candidate>) -> Vec<&'a Candidate> {
    let holds = |is_so: &dyn Fn(&Candidate) -> bool| among.iter().copied().filter(|node| is_so(node)).collect();
    match term {
        Term::Any => among,
        Term::Os(asked) => holds(&|node| system(&node.platform) == system(asked)),
        Term::Cap(asked) => holds(&|node| node.caps.iter().any(|cap| cap.eq_ignore_ascii_case(asked))),
        Term::Command(asked) => holds(&|node| node.commands.iter().any(|command| command.eq_ignore_ascii_case(asked))),
        Term::Named(asked) => named(asked, &among),
    }
}

/// The one node that `asked` means. Without words it is the only one that is connected, or the only one there is.
pub(crate) fn select(asked: Option<&str>, candidates: &[Candidate]) -> Result<DeviceId, SelectError> {
    if candidates.is_empty() {
        return Err(SelectError::NoNodes);
    }
    let Some(asked) = asked.map(str::trim).filter(|asked| !asked.is_empty()) else {
        return only(candidates);
    };
    let is_any = asked.split(',').any(|word| word.trim().eq_ignore_ascii_case("any"));
    one_of(asked, is_any, connected_first(matches(asked, candidates)), candidates)
}

/// The one device that `asked` means, for what must not be done to another: whichever is connected, or any, is doubt like all else.
pub(crate) fn select_certain(asked: &str, candidates: &[Candidate]) -> Result<DeviceId, SelectError> {
    let asked = asked.trim();
    if candidates.is_empty() {
        return Err(SelectError::NoNodes);
    }
    let found = if asked.is_empty() {
        Vec::new()
    } else {
        matches(asked, candidates)
    };
    one_of(asked, false, found, candidates)
}

/// Every node that `asked` means, connected or away; without words all of them.
pub(crate) fn select_all<'a>(
    asked: Option<&str>,
    candidates: &'a [Candidate],
) -> Result<Vec<&'a Candidate>, SelectError> {
    let Some(asked) = asked.map(str::trim).filter(|asked| !asked.is_empty()) else {
        return Ok(candidates.iter().collect());
    };
    match matches(asked, candidates) {
        none if none.is_empty() => Err(SelectError::Unknown {
            asked: asked.to_owned(),
            candidates: list(candidates.iter()),
        }),
        found => Ok(found),
    }
}

fn matches<'a>(asked: &str, candidates: &'a [Candidate]) -> Vec<&'a Candidate> {
    let lower = asked.to_lowercase();
    // A name may hold a comma or an equals sign; as a whole it comes first.
    let whole: Vec<_> = candidates
        .iter()
        .filter(|node| node.name.to_lowercase() == lower)
        .collect();
    if whole.is_empty() || lower == "any" {
        let words = lower.split(',').map(|word| Term::of(word.trim()));
        words.fold(candidates.iter().collect(), |among, term| keep(&term, among))
    } else {
        whole
    }
}

fn one_of(asked: &str, is_any: bool, mut matches: Vec<&Candidate>, all: &[Candidate]) -> Result<DeviceId, SelectError> {
    if is_any {
        matches.sort_by_key(|candidate| (candidate.open_calls, candidate.name.to_lowercase(), candidate.node));
        matches.truncate(1);
    }
    match matches.as_slice() {
        [one] => Ok(one.node),
        [] => Err(SelectError::Unknown {
            asked: asked.to_owned(),
            candidates: list(all.iter()),
        }),
        several => Err(SelectError::Ambiguous {
            asked: asked.to_owned(),
            candidates: list(several.iter().copied()),
        }),
    }
}

/// Those that are connected, or all when none is.
fn connected_first(matches: Vec<&Candidate>) -> Vec<&Candidate> {
    let connected: Vec<_> = matches.iter().copied().filter(|node| node.connected).collect();
    if connected.is_empty() { matches } else { connected }
}

/// A whole id or name beats an address, and that beats a prefix of an id.
fn named<'a>(asked: &str, among: &[&'a Candidate]) -> Vec<&'a Candidate> {
    let kinds: [&dyn Fn(&Candidate) -> bool; 4] = [
        &|candidate| candidate.node.to_string() == asked,
        &|candidate| candidate.name.to_lowercase() == asked,
        &|candidate| is_at(&candidate.address, asked),
        &|candidate| asked.len() >= SHORTEST_PREFIX && candidate.node.to_string().starts_with(asked),
    ];
    let of_kind = |is_so: &&dyn Fn(&Candidate) -> bool| -> Vec<&'a Candidate> {
        among.iter().copied().filter(|node| is_so(node)).collect()
    };
    let found = kinds.iter().map(of_kind).find(|found| !found.is_empty());
    found.unwrap_or_default()
}

/// With its port or without.
fn is_at(address: &str, asked: &str) -> bool {
    let host = match address.parse::<std::net::SocketAddr>() {
        Ok(socket) => socket.ip().to_string(),
        Err(_) => address.to_owned(),
    };
    !asked.is_empty() && (address == asked || host == asked)
}

/// One word for each system, whatever a program calls it.
fn system(platform: &str) -> String {
    let word = platform.to_lowercase();
    let families = [
        ("macos", &["mac", "darwin"][..]),
        ("windows", &["win"]),
        ("ios", &["ios", "ipad"]),
        ("android", &["android"]),
        ("linux", &["linux"]),
    ];
    let family = families
        .iter()
        .find(|(_, beginnings)| beginnings.iter().any(|beginning| word.starts_with(beginning)));
    family.map_or(word.clone(), |(family, _)| (*family).to_owned())
}

fn only(candidates: &[Candidate]) -> Result<DeviceId, SelectError> {
    let mut connected = candidates.iter().filter(|candidate| candidate.connected);
    match (connected.next(), connected.next(), candidates) {
        (Some(one), None, _) | (None, _, [one]) => Ok(one.node),
        (Some(_), Some(_), _) | (None, _, _) => Err(SelectError::Unnamed {
            candidates: list(candidates.iter()),
        }),
    }
}

fn list<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> String {
    candidates.map(Candidate::describe).collect::<Vec<_>>().join(", ")
}
