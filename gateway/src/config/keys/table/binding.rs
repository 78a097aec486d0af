//! The rows of one entry of `bindings`.

use super::super::{Key, Kind};
use super::{DM_SCOPES, GROUP_SCOPES, OBJECT, key, optional};

pub(super) const BINDING: &[Key] = &[
    optional("", OBJECT, "One rule; every condition must hold."),
    optional("agentId", Kind::AgentId, "Who answers."),
    optional("comment", Kind::Text, "For people."),
    key("type", Kind::Words(&["route"]), "\"route\"", "What kind of rule."),
    optional("match", OBJECT, "When."),
    optional("match.channel", Kind::Text, "The channel."),
    optional(
        "match.accountId",
        Kind::Text,
        "The account; without it the default one, * for any.",
    ),
    optional("match.peer", OBJECT, "The chat."),
    optional(
        "match.peer.kind",
        Kind::Words(&["direct", "dm", "group", "channel"]),
        "What kind of chat; dm is direct.",
    ),
    optional("match.peer.id", Kind::Text, "Its id, or * for any."),
    optional("match.guildId", Kind::Text, "The Discord server."),
    optional("match.teamId", Kind::Text, "The Slack or Teams team."),
    optional(
        "match.roles",
        Kind::Ids,
        "Roles in the server, one of which the sender has.",
    ),
    optional("session", OBJECT, "Instead of session's."),
    optional("session.dmScope", DM_SCOPES, "As session.dmScope."),
    optional("session.groupScope", GROUP_SCOPES, "As session.groupScope."),
];
