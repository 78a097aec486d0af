//! Whether one document allows nothing that another does not: the only change that a gateway may make.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::document::{Ask, Document, Policy, Rule, Security};

/// Whether `new` gives no command of any agent more room than `old` does. May say no to an exotic change that would be harmless.
pub fn is_narrowing(old: &Document, new: &Document) -> bool {
    // An agent that neither names stands for all the agents that neither names.
    let mut agents: BTreeSet<&str> = old.agents.keys().chain(new.agents.keys()).map(String::as_str).collect();
    let mut stranger = "?".to_owned();
    while agents.contains(stranger.as_str()) {
        stranger.push('?');
    }
    agents.insert(&stranger);
    agents
        .iter()
        .all(|agent| narrows(&old.policy(agent), &new.policy(agent)))
        && same_extras(old, new)
}

/// How much room a command has, from none to all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    Denied,
    Asks,
    AsksThenRuns,
    Runs,
}

/// The room that a policy gives to a command that its allowlist covers, or does not.
pub(crate) fn room(policy: &Policy, listed: bool) -> Room {
    let asked = if policy.runs_unanswered(listed) {
        Room::AsksThenRuns
    } else {
        Room::Asks
    };
    match (policy.security, policy.ask, listed) {
        (Security::Deny, _, _) | (Security::Allowlist, Ask::Off, false) => Room::Denied,
        (_, Ask::Always, _) | (Security::Allowlist, Ask::OnMiss, false) => asked,
        (Security::Full, Ask::Off | Ask::OnMiss, _) | (Security::Allowlist, Ask::Off | Ask::OnMiss, true) => Room::Runs,
    }
}

fn narrows(old: &Policy, new: &Policy) -> bool {
    let fewer_rules = new
        .rules
        .iter()
        .all(|rule| old.rules.iter().any(|known| same_rule(known, rule)));
    room(new, true) <= room(old, true)
        && room(new, false) <= room(old, false)
        && (fewer_rules || room(new, true) <= room(old, false))
        && old.auto_allow_skills >= new.auto_allow_skills
}

fn same_rule(a: &Rule, b: &Rule) -> bool {
    a.pattern == b.pattern && a.arg_pattern == b.arg_pattern
}

/// Keys whose meaning is not ours could widen something for the program that reads them, so they stay as they are.
fn same_extras(old: &Document, new: &Document) -> bool {
    let settings = |document: &Document| -> Vec<(String, Map<String, Value>)> {
        let named = document
            .agents
            .iter()
            .map(|(name, settings)| (name.clone(), settings.other.clone()));
        named
            .chain([("defaults".to_owned(), document.defaults.other.clone())])
            .filter(|(_, other)| !other.is_empty())
            .collect()
    };
    old.other == new.other && settings(old) == settings(new)
}
