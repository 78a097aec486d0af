//! Who may speak to the assistant, and when it should listen. Pure: a policy, what arrived, and what the caller knows
//! go in; a [`Gate`] comes out. Never compares anything but the platform's immutable ids: not names, not quoted text.
//!
//! Two trusts are kept apart: an approved direct message gives no word in a group. The owner is named in the
//! configuration, so the owner's word counts in both.

use std::collections::BTreeMap;

use regex_lite::Regex;

use crate::port::{Content, Inbound, PeerKind, Sender};

/// What strangers may do in direct messages (`dmPolicy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DmPolicy {
    /// They get a code that the owner can approve.
    #[default]
    Pairing,
    /// Nothing.
    Allowlist,
    /// Whatever `allowFrom` lets them, which for everybody is `*`.
    Open,
    /// Nobody speaks in direct messages.
    Disabled,
}

/// Which groups and senders count (`groupPolicy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GroupPolicy {
    /// Listed groups, and in them allowed senders.
    #[default]
    Allowlist,
    /// Any sender; any group unless some are listed.
    Open,
    /// No group.
    Disabled,
}

/// One entry of `groups`, or its `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRule {
    /// False switches this group off whatever `*` says.
    pub enabled: bool,
    /// Whether only messages to the bot count; the default is yes.
    pub require_mention: Option<bool>,
    /// Senders of this group, instead of `groupAllowFrom`.
    pub allow_from: Option<Vec<String>>,
}

impl Default for GroupRule {
    fn default() -> Self {
        Self {
            enabled: true,
            require_mention: None,
            allow_from: None,
        }
    }
}

/// One account's rules, as configured.
#[derive(Debug, Clone, Default)]
pub struct GatePolicy {
    /// Direct messages.
    pub dm_policy: DmPolicy,
    /// Senders: `123`, `telegram:123` or `*`.
    pub allow_from: Vec<String>,
    /// Groups.
    pub group_policy: GroupPolicy,
    /// Rules by chat id, with `*` for the rest.
    pub groups: BTreeMap<String, GroupRule>,
    /// Senders in groups; when empty, the ids of `allow_from` (but not its `*`).
    pub group_allow_from: Vec<String>,
    /// What else counts as a mention, see [`mention_patterns`].
    pub mention_patterns: Vec<Regex>,
    /// `commands.ownerAllowFrom`; when empty, the only entry of `allow_from`.
    pub owner_allow_from: Vec<String>,
}

/// What the house knows beside the policy.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// This sender's direct messages were approved with a code.
    pub paired: bool,
    /// The bot's own name, without `@`.
    pub bot_username: Option<&'a str>,
}

/// What to do with what arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Gate {
    /// Take it.
    Admit {
        /// The sender may approve and run commands.
        sender_is_owner: bool,
        /// It was said to the bot.
        mention: bool,
    },
    /// An unknown person's direct message: drop the text, offer a code ([`crate::dm_code`]).
    Pair,
    /// Drop it.
    Ignore(Reason),
}

/// Why something is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Bots do not talk to bots.
    #[error("the sender is a bot")]
    Bot,
    /// Nobody in particular speaks in a broadcast channel.
    #[error("broadcast channels are not listened to")]
    Broadcast,
    /// `dmPolicy: disabled`.
    #[error("direct messages are disabled")]
    DmDisabled,
    /// The sender is on no list that counts here.
    #[error("the sender is not allowed here")]
    UnknownSender,
    /// `groupPolicy: disabled`.
    #[error("groups are disabled")]
    GroupsDisabled,
    /// The group is not listed, or is switched off.
    #[error("the group is not allowed")]
    UnknownGroup,
    /// `requireMention`, and nobody mentioned the bot.
    #[error("the bot was not mentioned")]
    NotMentioned,
    /// A command with another bot's name.
    #[error("the command is for another bot")]
    OtherBot,
}

/// A pattern of `mentionPatterns` that is no regular expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mentionPatterns: {pattern:?}: {reason}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Compiles `mentionPatterns`; they do not distinguish case.
///
/// # Errors
/// The first pattern that is no regular expression.
pub fn mention_patterns(patterns: &[String]) -> Result<Vec<Regex>, PatternError> {
    let compile = |pattern: &String| {
        Regex::new(&format!("(?i){pattern}")).map_err(|error| PatternError {
            pattern: pattern.clone(),
            reason: error.to_string(),
        })
    };
    patterns.iter().map(compile).collect()
}

/// Decides about one thing that arrived. For a click, the person who clicked is checked, not who got the card.
pub fn decide(policy: &GatePolicy, inbound: &Inbound, known: &Known<'_>) -> Gate {
    if inbound.sender.is_bot {
        return Gate::Ignore(Reason::Bot);
    }
    if is_for_another_bot(&inbound.content, known.bot_username) {
        return Gate::Ignore(Reason::OtherBot);
    }
    match inbound.place.kind {
        PeerKind::Direct => direct(policy, inbound, known),
        PeerKind::Group => group(policy, inbound),
        PeerKind::Channel => Gate::Ignore(Reason::Broadcast),
    }
}

/// Whether this person may approve and run commands on this channel.
pub fn is_owner(policy: &GatePolicy, channel: &str, sender: &Sender) -> bool {
    let by_id = |entry: &String| matches(entry, channel, &sender.id);
    match (policy.owner_allow_from.as_slice(), policy.allow_from.as_slice()) {
        ([], [only]) => by_id(only),
        (owners, _) => owners.iter().any(by_id),
    }
}

fn direct(policy: &GatePolicy, inbound: &Inbound, known: &Known<'_>) -> Gate {
    let channel = &inbound.place.account.channel;
    let owner = is_owner(policy, channel, &inbound.sender);
    let listed = owner || allows(&policy.allow_from, channel, &inbound.sender);
    let admitted = Gate::Admit {
        sender_is_owner: owner,
        mention: true,
    };
    match (policy.dm_policy, &inbound.content) {
        (DmPolicy::Disabled, _) => Gate::Ignore(Reason::DmDisabled),
        (DmPolicy::Pairing | DmPolicy::Allowlist | DmPolicy::Open, _) if listed => admitted,
        (DmPolicy::Pairing, _) if known.paired => admitted,
        (DmPolicy::Pairing, Content::Message { .. }) => Gate::Pair,
        (DmPolicy::Pairing | DmPolicy::Allowlist | DmPolicy::Open, _) => Gate::Ignore(Reason::UnknownSender),
    }
}

fn group(policy: &GatePolicy, inbound: &Inbound) -> Gate {
    let rule = match group_rule(policy, &inbound.place.chat) {
        Ok(rule) => rule,
        Err(reason) => return Gate::Ignore(reason),
    };
    let owner = is_owner(policy, &inbound.place.account.channel, &inbound.sender);
    if !owner && !speaks_in_group(policy, rule, inbound) {
        return Gate::Ignore(Reason::UnknownSender);
    }
    let mention = is_mention(policy, &inbound.content);
    let required = rule.and_then(|rule| rule.require_mention).unwrap_or(true);
    if required && !mention {
        return Gate::Ignore(Reason::NotMentioned);
    }
    Gate::Admit {
        sender_is_owner: owner,
        mention,
    }
}

fn group_rule<'p>(policy: &'p GatePolicy, chat: &str) -> Result<Option<&'p GroupRule>, Reason> {
    let rule = policy.groups.get(chat).or_else(|| policy.groups.get("*"));
    let listed = rule.is_some_and(|rule| rule.enabled);
    match policy.group_policy {
        GroupPolicy::Disabled => Err(Reason::GroupsDisabled),
        GroupPolicy::Open if policy.groups.is_empty() => Ok(None),
        GroupPolicy::Open | GroupPolicy::Allowlist if listed => Ok(rule),
        GroupPolicy::Open | GroupPolicy::Allowlist => Err(Reason::UnknownGroup),
    }
}

fn speaks_in_group(policy: &GatePolicy, rule: Option<&GroupRule>, inbound: &Inbound) -> bool {
    let channel = &inbound.place.account.channel;
    let id = &inbound.sender.id;
    match (rule.and_then(|rule| rule.allow_from.as_deref()), policy.group_policy) {
        (Some(senders), _) => allows(senders, channel, &inbound.sender),
        (None, GroupPolicy::Open) => true,
        (None, GroupPolicy::Disabled) => false,
        (None, GroupPolicy::Allowlist) if !policy.group_allow_from.is_empty() => {
            allows(&policy.group_allow_from, channel, &inbound.sender)
        }
        // The ids only: `*` was written to open direct messages, not every group.
        (None, GroupPolicy::Allowlist) => policy.allow_from.iter().any(|entry| matches(entry, channel, id)),
    }
}

fn is_mention(policy: &GatePolicy, content: &Content) -> bool {
    match content {
        Content::Click { .. } => true,
        Content::Message { text, mentions_bot, .. } => {
            *mentions_bot || policy.mention_patterns.iter().any(|pattern| pattern.is_match(text))
        }
    }
}

fn is_for_another_bot(content: &Content, own: Option<&str>) -> bool {
    let (Content::Message { text, .. }, Some(own)) = (content, own) else {
        return false;
    };
    let command = text.strip_prefix('/').and_then(|rest| rest.split_whitespace().next());
    command
        .and_then(|word| word.split_once('@'))
        .is_some_and(|(_, bot)| !bot.eq_ignore_ascii_case(own))
}

fn allows(list: &[String], channel: &str, sender: &Sender) -> bool {
    list.iter()
        .any(|entry| entry.trim() == "*" || matches(entry, channel, &sender.id))
}

/// `123` or `telegram:123` (also `tg:123`), and nothing else: an entry that is a name matches nobody.
fn matches(entry: &str, channel: &str, id: &str) -> bool {
    let entry = entry.trim();
    let bare = match entry.split_once(':') {
        Some((prefix, bare)) if prefix == channel || (prefix == "tg" && channel == "telegram") => bare,
        Some(_) => return false,
        None => entry,
    };
    bare == id && !id.is_empty()
}

#[cfg(test)]
mod tests;
