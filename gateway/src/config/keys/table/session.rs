//! The rows of `session`.

use super::super::{Key, Kind};
use super::{DM_SCOPES, GROUP_SCOPES, HOUR, MINUTES, OBJECT, RESETS, key, optional};

const ACTIONS: Kind = Kind::Words(&["allow", "deny"]);

pub(super) const SESSION: &[Key] = &[
    key(
        "scope",
        Kind::Words(&["per-sender", "global"]),
        "\"per-sender\"",
        "One conversation for all, or not.",
    ),
    key(
        "dmScope",
        DM_SCOPES,
        "\"main\"",
        "Which direct messages share a conversation.",
    ),
    key(
        "groupScope",
        GROUP_SCOPES,
        "\"per-group\"",
        "Whether groups have conversations of their own.",
    ),
    key(
        "identityLinks",
        Kind::Map,
        "{}",
        "One person on several channels: alice: [\"telegram:123\", \"discord:987\"].",
    ),
    optional("identityLinks.*", Kind::Ids, "The person's ids, each with its channel."),
    optional("reset", OBJECT, "When a conversation begins anew by itself."),
    key("reset.mode", RESETS, "\"none\"", "Never, each day, or after silence."),
    key("reset.atHour", HOUR, "4", "The hour for daily."),
    key("reset.idleMinutes", MINUTES, "60", "The silence for idle."),
    optional("resetByType", OBJECT, "Instead of reset, where something is written."),
    optional("resetByType.direct", OBJECT, "Conversations with one person."),
    optional("resetByType.group", OBJECT, "Conversations of several people."),
    optional("resetByType.thread", OBJECT, "Conversations in a topic or thread."),
    optional("resetByType.direct.mode", RESETS, "As reset.mode."),
    optional("resetByType.direct.atHour", HOUR, "As reset.atHour."),
    optional("resetByType.direct.idleMinutes", MINUTES, "As reset.idleMinutes."),
    optional("resetByType.group.mode", RESETS, "As reset.mode."),
    optional("resetByType.group.atHour", HOUR, "As reset.atHour."),
    optional("resetByType.group.idleMinutes", MINUTES, "As reset.idleMinutes."),
    optional("resetByType.thread.mode", RESETS, "As reset.mode."),
    optional("resetByType.thread.atHour", HOUR, "As reset.atHour."),
    optional("resetByType.thread.idleMinutes", MINUTES, "As reset.idleMinutes."),
    key(
        "resetByChannel",
        Kind::Map,
        "{}",
        "Instead of reset and resetByType, by channel: telegram: {mode: \"idle\"}.",
    ),
    optional("resetByChannel.*", OBJECT, "One channel's."),
    optional("resetByChannel.*.mode", RESETS, "As reset.mode."),
    optional("resetByChannel.*.atHour", HOUR, "As reset.atHour."),
    optional("resetByChannel.*.idleMinutes", MINUTES, "As reset.idleMinutes."),
    key(
        "resetTriggers",
        Kind::Texts,
        "[\"/new\", \"/reset\"]",
        "Words that begin a conversation anew; what follows them is its first message.",
    ),
    optional(
        "sendPolicy",
        OBJECT,
        "Where an agent may answer; the first rule that denies wins.",
    ),
    key(
        "sendPolicy.default",
        ACTIONS,
        "\"allow\"",
        "Where no rule says anything.",
    ),
    key("sendPolicy.rules", Kind::List, "[]", "Rules."),
    optional("sendPolicy.rules.[]", OBJECT, "One rule; every condition must hold."),
    optional("sendPolicy.rules.[].action", ACTIONS, "What it says."),
    optional("sendPolicy.rules.[].match", OBJECT, "When."),
    optional("sendPolicy.rules.[].match.channel", Kind::Text, "The channel."),
    optional(
        "sendPolicy.rules.[].match.chatType",
        Kind::Words(&["direct", "dm", "group", "channel"]),
        "The kind of chat.",
    ),
    optional(
        "sendPolicy.rules.[].match.keyPrefix",
        Kind::Text,
        "How the session's key begins, with or without agent:<id>:.",
    ),
    optional(
        "sendPolicy.rules.[].match.rawKeyPrefix",
        Kind::Text,
        "How the whole key begins.",
    ),
];
