//! The rows of the tables that the routing follows.

use std::path::Path;
use std::sync::Arc;

use atoll_channels::port::AccountRef;

use super::*;
use crate::config::load_text;

fn config(text: &str) -> Arc<Config> {
    let loaded = load_text(Path::new("atoll.json"), Some(text.to_owned()), &|_| None);
    loaded.unwrap_or_else(|invalid| panic!("{invalid}")).config
}

fn place(channel: &str, account: &str, kind: PeerKind, chat: &str, thread: Option<&str>) -> Place {
    Place {
        account: AccountRef {
            channel: channel.into(),
            account: account.into(),
        },
        kind,
        chat: chat.into(),
        thread: thread.map(str::to_owned),
    }
}

fn session(settings: &str, place: &Place, sender: &str) -> String {
    let config = config(settings);
    route(&config, &Origin::of(place, sender)).session.to_string()
}

#[test]
fn a_direct_message_has_the_key_of_its_scope() {
    let dm = place("telegram", "default", PeerKind::Direct, "user123", None);
    for (scope, expected) in [
        ("main", "agent:main:main"),
        ("per-peer", "agent:main:direct:user123"),
        ("per-channel-peer", "agent:main:telegram:direct:user123"),
        ("per-account-channel-peer", "agent:main:telegram:default:direct:user123"),
    ] {
        assert_eq!(
            session(&format!("{{session: {{dmScope: '{scope}'}}}}"), &dm, "user123"),
            expected
        );
    }
    assert_eq!(session("{}", &dm, "user123"), "agent:main:main");
}

#[test]
fn a_room_has_the_key_of_its_chat_and_thread() {
    let group = |thread| place("telegram", "default", PeerKind::Group, "-100", thread);
    let room = |thread| place("discord", "default", PeerKind::Channel, "42", thread);
    for (place, expected) in [
        (group(None), "agent:main:telegram:group:-100"),
        (group(Some("7")), "agent:main:telegram:group:-100:topic:7"),
        (room(None), "agent:main:discord:channel:42"),
        (room(Some("9")), "agent:main:discord:channel:42:thread:9"),
    ] {
        assert_eq!(session("{}", &place, "1"), expected);
        assert_eq!(
            session("{session: {groupScope: 'main'}}", &place, "1"),
            "agent:main:main"
        );
    }
}

#[test]
fn one_scope_for_all_is_one_session_for_each_agent() {
    let dm = place("telegram", "default", PeerKind::Direct, "1", None);
    let group = place("telegram", "default", PeerKind::Group, "-1", Some("5"));
    let text = "{session: {scope: 'global'}, agents: {list: ['main', 'ops']},
        bindings: [{agentId: 'ops', match: {channel: 'telegram', peer: {kind: 'group'}}}]}";
    assert_eq!(session(text, &dm, "1"), "global");
    assert_eq!(session(text, &group, "1"), "agent:ops:global");
}

#[test]
fn linked_ids_are_one_person_and_equal_numbers_elsewhere_are_not() {
    let text = "{session: {dmScope: 'per-peer', identityLinks: {alice: ['telegram:123', 'discord:987']}}}";
    let from = |channel: &str, id: &str| session(text, &place(channel, "default", PeerKind::Direct, id, None), id);
    assert_eq!(from("telegram", "123"), "agent:main:direct:alice");
    assert_eq!(from("discord", "987"), "agent:main:direct:alice");
    assert_eq!(from("discord", "123"), "agent:main:direct:123");
}

#[test]
fn a_binding_may_have_scopes_of_its_own() {
    let text = "{session: {dmScope: 'main'}, bindings: [
        {agentId: 'main', match: {channel: 'telegram', accountId: '*'}, session: {dmScope: 'per-peer', groupScope: 'main'}}]}";
    assert_eq!(
        session(text, &place("telegram", "x", PeerKind::Direct, "1", None), "1"),
        "agent:main:direct:1"
    );
    assert_eq!(
        session(text, &place("telegram", "x", PeerKind::Group, "-1", None), "1"),
        "agent:main:main"
    );
    assert_eq!(
        session(text, &place("slack", "x", PeerKind::Group, "g", None), "1"),
        "agent:main:slack:group:g"
    );
}

#[test]
fn a_shared_direct_session_is_judged_under_its_own_key() {
    let config = config("{}");
    let dm = place("telegram", "work", PeerKind::Direct, "1", None);
    let route = route(&config, &Origin::of(&dm, "1"));
    assert_eq!(route.session.as_str(), "agent:main:main");
    assert_eq!(route.policy.as_str(), "agent:main:telegram:work:direct:1");
}

/// From the least to the most specific.
const LADDER: &[&str] = &[
    "{agentId: 'channel', match: {channel: 'discord', accountId: '*'}}",
    "{agentId: 'account', match: {channel: 'discord', accountId: 'work'}}",
    "{agentId: 'team', match: {channel: 'discord', accountId: 'work', teamId: 'T'}}",
    "{agentId: 'guild', match: {channel: 'discord', accountId: 'work', guildId: 'G'}}",
    "{agentId: 'roles', match: {channel: 'discord', accountId: 'work', guildId: 'G', roles: ['r2']}}",
    "{agentId: 'any-peer', match: {channel: 'discord', accountId: 'work', peer: {kind: 'channel', id: '*'}}}",
    "{agentId: 'parent', match: {channel: 'discord', accountId: 'work', peer: {kind: 'channel', id: 'P'}}}",
    "{agentId: 'peer', match: {channel: 'discord', accountId: 'work', peer: {kind: 'channel', id: 'C'}}}",
];
const AGENTS: &str =
    "agents: {list: ['main', 'channel', 'account', 'team', 'guild', 'roles', 'any-peer', 'parent', 'peer', 'second']}";

fn chosen(bindings: &[&str], origin: &Origin<'_>) -> String {
    let config = config(&format!("{{{AGENTS}, bindings: [{}]}}", bindings.join(", ")));
    route(&config, origin).agent.to_string()
}

#[test]
fn the_most_specific_binding_wins_whatever_the_order() {
    let place = place("discord", "work", PeerKind::Channel, "C", None);
    let roles = ["r1".to_owned(), "r2".to_owned()];
    let origin = Origin {
        parent: Some("P"),
        guild: Some("G"),
        team: Some("T"),
        roles: &roles,
        ..Origin::of(&place, "1")
    };
    let names = [
        "channel", "account", "team", "guild", "roles", "any-peer", "parent", "peer",
    ];
    assert_eq!(chosen(&[], &origin), "main");
    for count in 1..=LADDER.len() {
        let mut bindings = LADDER[..count].to_vec();
        assert_eq!(chosen(&bindings, &origin), names[count - 1]);
        bindings.reverse();
        assert_eq!(chosen(&bindings, &origin), names[count - 1]);
    }
}

#[test]
fn every_condition_must_hold() {
    let place = place("discord", "work", PeerKind::Channel, "C", None);
    let base = Origin::of(&place, "1");
    for binding in [
        "{agentId: 'peer', match: {channel: 'slack', accountId: '*', peer: {kind: 'channel', id: 'C'}}}",
        "{agentId: 'peer', match: {channel: 'discord', accountId: 'home', peer: {kind: 'channel', id: 'C'}}}",
        "{agentId: 'peer', match: {channel: 'discord', accountId: '*', peer: {kind: 'group', id: 'C'}}}",
        "{agentId: 'peer', match: {channel: 'discord', accountId: '*', guildId: 'G', peer: {kind: 'channel', id: 'C'}}}",
        "{agentId: 'roles', match: {channel: 'discord', accountId: '*', roles: ['r']}}",
        "{agentId: 'team', match: {channel: 'discord', accountId: '*', teamId: 'T'}}",
    ] {
        assert_eq!(chosen(&[binding], &base), "main", "{binding}");
    }
}

#[test]
fn among_equals_the_first_wins() {
    let place = place("discord", "work", PeerKind::Channel, "C", None);
    let first = "{agentId: 'second', match: {channel: 'discord', accountId: 'work'}}";
    assert_eq!(chosen(&[first, LADDER[1]], &Origin::of(&place, "1")), "second");
    assert_eq!(chosen(&[LADDER[1], first], &Origin::of(&place, "1")), "account");
}

#[test]
fn an_account_left_out_is_the_default_one_and_a_star_is_any() {
    let (default, work) = (
        place("telegram", "default", PeerKind::Direct, "1", None),
        place("telegram", "work", PeerKind::Direct, "1", None),
    );
    let omitted = "{agentId: 'account', match: {channel: 'telegram'}}";
    let any = "{agentId: 'channel', match: {channel: 'telegram', accountId: '*'}}";
    assert_eq!(chosen(&[omitted], &Origin::of(&default, "1")), "account");
    assert_eq!(chosen(&[omitted], &Origin::of(&work, "1")), "main");
    assert_eq!(chosen(&[any], &Origin::of(&work, "1")), "channel");
    let named = config(
        "{agents: {list: ['main', 'account']}, bindings: [{agentId: 'account', match: {channel: 'telegram'}}],
          channels: {telegram: {accounts: {work: {botToken: 'x'}, home: {botToken: 'y'}}, defaultAccount: 'work'}}}",
    );
    assert_eq!(route(&named, &Origin::of(&work, "1")).agent.as_str(), "account");
}

#[test]
fn dm_is_the_old_word_for_direct() {
    let dm = place("telegram", "default", PeerKind::Direct, "123", None);
    for kind in ["dm", "direct"] {
        let binding =
            format!("{{agentId: 'peer', match: {{channel: 'telegram', peer: {{kind: '{kind}', id: '123'}}}}}}");
        assert_eq!(chosen(&[&binding], &Origin::of(&dm, "123")), "peer");
    }
}

#[test]
fn a_topic_is_closer_than_its_group() {
    let topic = place("telegram", "default", PeerKind::Group, "-100", Some("7"));
    let binding = |agent: &str, id: &str| {
        format!("{{agentId: '{agent}', match: {{channel: 'telegram', peer: {{kind: 'group', id: '{id}'}}}}}}")
    };
    let (exact, group, other) = (
        binding("peer", "-100:topic:7"),
        binding("parent", "-100"),
        binding("second", "-100:topic:8"),
    );
    let origin = Origin::of(&topic, "1");
    assert_eq!(chosen(&[&other, &group, &exact], &origin), "peer");
    assert_eq!(chosen(&[&other, &group], &origin), "parent");
    assert_eq!(chosen(&[&other], &origin), "main");
}

#[test]
fn keys_are_accepted_in_every_form_that_is_about() {
    let main = AgentId::new("main").expect("id");
    for (written, expected) in [
        ("main", "agent:main:main"),
        ("global", "global"),
        (" agent:ops:main ", "agent:ops:main"),
        (
            "agent:main:telegram:default:user123",
            "agent:main:telegram:default:direct:user123",
        ),
        (
            "agent:main:telegram:default:direct:user123",
            "agent:main:telegram:default:direct:user123",
        ),
        ("agent:main:telegram:dm:1", "agent:main:telegram:direct:1"),
        ("agent:main:dm:1", "agent:main:direct:1"),
        ("agent:main:telegram:group:-100", "agent:main:telegram:group:-100"),
        (
            "agent:main:telegram:group:-100:topic:7",
            "agent:main:telegram:group:-100:topic:7",
        ),
        ("agent:main:subagent:5f-1", "agent:main:subagent:5f-1"),
        ("agent:main:acp:5f-1", "agent:main:acp:5f-1"),
        ("cron:nightly", "cron:nightly"),
        ("hook:5f-1", "hook:5f-1"),
    ] {
        let found = canonical(written, &main).expect("a key");
        assert_eq!(found.as_str(), expected);
        assert_eq!(canonical(found.as_str(), &main), Some(found));
    }
    assert_eq!(canonical("", &main), None);
    assert_eq!(canonical(&"x".repeat(300), &main), None);
}

#[test]
fn a_session_knows_its_agent() {
    let agent = |text: &str| agent_of(&SessionKey::new(text).expect("a key")).map(|agent| agent.to_string());
    assert_eq!(agent("agent:ops:telegram:group:-1").as_deref(), Some("ops"));
    assert_eq!(agent("global"), None);
    assert_eq!(agent("cron:x"), None);
}

#[test]
fn a_key_that_would_be_too_long_is_told_by_its_hash() {
    let (a, b) = ("a".repeat(300), format!("{}b", "a".repeat(299)));
    let long = |id: &str| {
        session(
            "{session: {dmScope: 'per-peer'}}",
            &place("x", "default", PeerKind::Direct, id, None),
            id,
        )
    };
    assert!(long(&a).starts_with("agent:main:long:"));
    assert_ne!(long(&a), long(&b));
}
