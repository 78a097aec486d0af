//! Which node somebody means: a device id, a prefix of one, or a name. Pure; ambiguity is an error that lists the candidates.

use atoll_protocol::id::DeviceId;

/// A prefix shorter than this is too easily somebody else's.
const SHORTEST_PREFIX: usize = 4;

/// A node that could be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its id.
    pub(crate) node: DeviceId,
    /// What a person calls it.
    pub(crate) name: String,
    /// It is linked now.
    pub(crate) connected: bool,
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
    #[error("\"{asked}\" could be any of: {candidates}; name one by its id")]
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

/// The one node that `asked` means. Without a name it is the only one that is connected, or the only one there is.
pub(crate) fn select(asked: Option<&str>, candidates: &[Candidate]) -> Result<DeviceId, SelectError> {
    if candidates.is_empty() {
        return Err(SelectError::NoNodes);
    }
    let Some(asked) = asked.map(str::trim).filter(|asked| !asked.is_empty()) else {
        return only(candidates);
    };
    let lower = asked.to_ascii_lowercase();
    let exact = candidates.iter().find(|candidate| candidate.node.to_string() == lower);
    if let Some(candidate) = exact {
        return Ok(candidate.node);
    }
    let matches = first_kind_that_matches(&lower, candidates);
    match matches.as_slice() {
        [one] => Ok(one.node),
        [] => Err(SelectError::Unknown {
            asked: asked.to_owned(),
            candidates: list(candidates.iter()),
        }),
        several => Err(SelectError::Ambiguous {
            asked: asked.to_owned(),
            candidates: list(several.iter().copied()),
        }),
    }
}

/// A whole name beats a prefix of an id.
fn first_kind_that_matches<'a>(asked: &str, candidates: &'a [Candidate]) -> Vec<&'a Candidate> {
    let named: Vec<_> = candidates
        .iter()
        .filter(|candidate| candidate.name.to_lowercase() == asked)
        .collect();
    if !named.is_empty() || asked.len() < SHORTEST_PREFIX {
        return named;
    }
    candidates
        .iter()
        .filter(|candidate| candidate.node.to_string().starts_with(asked))
        .collect()
}

fn only(candidates: &[Candidate]) -> Result<DeviceId, SelectError> {
    let mut connected = candidates.iter().filter(|candidate| candidate.connected);
    match (connected.next(), connected.next(), candidates) {
        (Some(one), None, _) => Ok(one.node),
        (None, _, [one]) => Ok(one.node),
        (Some(_), Some(_), _) | (None, _, _) => Err(SelectError::Unnamed {
            candidates: list(candidates.iter()),
        }),
    }
}

fn list<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> String {
    candidates.map(Candidate::describe).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(byte: u8, name: &str, connected: bool) -> Candidate {
        Candidate {
            node: DeviceId::from_digest([byte; 32]),
            name: name.to_owned(),
            connected,
        }
    }

    #[test]
    fn a_node_is_meant_by_id_prefix_or_name() {
        let all = [
            candidate(0xaa, "laptop", true),
            candidate(0xbb, "phone", false),
            candidate(0xbc, "Phone 2", true),
        ];
        let full = all[1].node.to_string();
        for (asked, expected) in [
            ("laptop", 0),
            ("LAPTOP", 0),
            (full.as_str(), 1),
            ("bbbb", 1),
            ("phone 2", 2),
        ] {
            assert_eq!(select(Some(asked), &all), Ok(all[expected].node), "{asked}");
        }
    }

    #[test]
    fn doubt_is_an_error_that_lists_the_candidates() {
        let twins = [candidate(1, "pi", true), candidate(2, "pi", true)];
        let error = select(Some("pi"), &twins).expect_err("two").to_string();
        assert!(error.contains("0101010101") && error.contains("0202020202"), "{error}");
        assert!(matches!(select(None, &twins), Err(SelectError::Unnamed { .. })));
        assert!(matches!(select(Some("0"), &twins), Err(SelectError::Unknown { .. })));
        assert_eq!(select(Some("x"), &[]), Err(SelectError::NoNodes));
    }

    #[test]
    fn without_a_name_the_only_connected_node_is_meant() {
        let all = [candidate(1, "a", false), candidate(2, "b", true)];
        assert_eq!(select(None, &all), Ok(all[1].node));
        assert_eq!(select(None, &all[..1]), Ok(all[0].node));
    }
}
