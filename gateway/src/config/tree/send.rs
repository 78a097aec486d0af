//! `session.sendPolicy`: where an agent may answer. Pure.

use atoll_protocol::id::SessionKey;
use serde::Deserialize;

use super::MatchKind;

/// `session.sendPolicy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct SendPolicy {
    /// Where no rule says anything.
    #[serde(default)]
    pub default: SendAction,
    /// The first that denies wins.
    #[serde(default)]
    pub rules: Vec<SendRule>,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SendAction {
    /// It may.
    #[default]
    Allow,
    /// It may not.
    Deny,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SendRule {
    /// What it says.
    pub action: SendAction,
    /// When; every condition must hold.
    #[serde(default, rename = "match")]
    pub when: SendMatch,
}

/// `match` of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendMatch {
    /// The channel.
    pub channel: Option<String>,
    /// The kind of chat.
    pub chat_type: Option<MatchKind>,
    /// How the session's key begins, with or without `agent:<id>:`.
    pub key_prefix: Option<String>,
    /// How the whole key begins.
    pub raw_key_prefix: Option<String>,
}

impl SendPolicy {
    /// Whether an agent may answer in this session; `channel` and `kind` as far as its chat is known, else as its key says.
    pub fn allows(&self, session: &SessionKey, channel: Option<&str>, kind: Option<MatchKind>) -> bool {
        let key = session.as_str().to_lowercase();
        let (own_channel, own_kind) = chat_of(bare(&key));
        let (channel, kind) = (channel.or(own_channel), kind.or(own_kind));
        let mut is_allowed = false;
        for rule in self.rules.iter().filter(|rule| rule.when.fits(&key, channel, kind)) {
            match rule.action {
                SendAction::Deny => return false,
                SendAction::Allow => is_allowed = true,
            }
        }
        is_allowed || self.default == SendAction::Allow
    }
}

impl SendMatch {
    fn fits(&self, key: &str, channel: Option<&str>, kind: Option<MatchKind>) -> bool {
        let begins = |key: &str, prefix: &str| key.starts_with(&prefix.to_lowercase());
        let same = |wanted: &str| channel.is_some_and(|channel| channel.eq_ignore_ascii_case(wanted));
        self.channel.as_deref().is_none_or(same)
            && self.chat_type.is_none_or(|wanted| kind == Some(wanted))
            && self.raw_key_prefix.as_deref().is_none_or(|prefix| begins(key, prefix))
            && self
                .key_prefix
                .as_deref()
                .is_none_or(|prefix| begins(key, prefix) || begins(bare(key), prefix))
    }
}

/// A key without `agent:<id>:`.
fn bare(key: &str) -> &str {
    let rest = key.strip_prefix("agent:").and_then(|rest| rest.split_once(':'));
    rest.map_or(key, |(_, rest)| rest)
}

/// The channel and the kind of chat that a bare key names.
fn chat_of(key: &str) -> (Option<&str>, Option<MatchKind>) {
    let kind_of = |word: &str| match word {
        "direct" | "dm" => Some(MatchKind::Direct),
        "group" => Some(MatchKind::Group),
        "channel" => Some(MatchKind::Channel),
        _ => None,
    };
    let parts: Vec<_> = key.split(':').collect();
    match parts.as_slice() {
        [kind, _, ..] if kind_of(kind).is_some() => (None, kind_of(kind)),
        [channel, kind, _, ..] if kind_of(kind).is_some() => (Some(channel), kind_of(kind)),
        [channel, _, kind, _, ..] if kind_of(kind).is_some() => (Some(channel), kind_of(kind)),
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> SendPolicy {
        serde_json::from_str(text).expect("a policy")
    }

    fn allows(policy: &SendPolicy, key: &str) -> bool {
        policy.allows(&SessionKey::new(key).expect("a key"), None, None)
    }

    #[test]
    fn the_first_rule_that_denies_wins_and_without_a_rule_the_default_holds() {
        assert!(allows(&SendPolicy::default(), "agent:main:main"));
        let quiet = policy(r#"{"rules": [{"action": "allow"}, {"action": "deny", "match": {"chatType": "group"}}]}"#);
        assert!(!allows(&quiet, "agent:main:telegram:group:-5"));
        assert!(allows(&quiet, "agent:main:telegram:direct:5"));
        let closed = policy(
            r#"{"default": "deny", "rules": [{"action": "allow", "match": {"channel": "Telegram", "chatType": "dm"}}]}"#,
        );
        assert!(allows(&closed, "agent:main:telegram:direct:5") && allows(&closed, "agent:main:telegram:bot:direct:5"));
        assert!(!allows(&closed, "agent:main:telegram:group:-5") && !allows(&closed, "agent:main:main"));
        let main = SessionKey::new("agent:main:main").expect("a key");
        assert!(
            closed.allows(&main, Some("telegram"), Some(MatchKind::Direct)),
            "its chat is known"
        );
    }

    #[test]
    fn a_prefix_is_that_of_the_key_with_or_without_its_agent() {
        let rule = |name: &str, prefix: &str| {
            policy(&format!(
                r#"{{"rules": [{{"action": "deny", "match": {{"{name}": "{prefix}"}}}}]}}"#
            ))
        };
        for (name, prefix, denied) in [
            ("keyPrefix", "telegram:GROUP:", true),
            ("keyPrefix", "agent:main:telegram:", true),
            ("keyPrefix", "discord:", false),
            ("rawKeyPrefix", "telegram:", false),
            ("rawKeyPrefix", "agent:main:", true),
        ] {
            let key = "agent:main:telegram:group:-5";
            assert_eq!(allows(&rule(name, prefix), key), !denied, "{name} {prefix}");
        }
    }
}
