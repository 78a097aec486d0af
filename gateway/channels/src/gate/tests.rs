//! Tables of who is let in, among them the ways in that other gateways left open.

use super::*;
use crate::port::{AccountRef, Place};

const OWNER: &str = "1";
const FRIEND: &str = "2";
const STRANGER: &str = "3";

fn inbound(kind: PeerKind, chat: &str, sender: &str, content: Content) -> Inbound {
    Inbound {
        id: "update:1".into(),
        place: Place {
            account: AccountRef {
                channel: "telegram".into(),
                account: "default".into(),
            },
            kind,
            chat: chat.into(),
            thread: None,
        },
        sender: Sender {
            id: sender.into(),
            name: "Owner".into(),
            is_bot: false,
        },
        content,
        sent_at_ms: 0,
    }
}

fn said(text: &str, mentions_bot: bool) -> Content {
    Content::Message {
        text: text.into(),
        message: "1".into(),
        mentions_bot,
        quoted: Some("@atoll_bot from the owner".into()),
    }
}

fn click() -> Content {
    Content::Click {
        data: "ap:1:o".into(),
        message: "1".into(),
        click: "1".into(),
    }
}

fn dm(sender: &str) -> Inbound {
    inbound(PeerKind::Direct, sender, sender, said("hi", false))
}

fn in_group(sender: &str, mentions_bot: bool) -> Inbound {
    inbound(PeerKind::Group, "-100", sender, said("hi", mentions_bot))
}

fn list(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|entry| (*entry).to_owned()).collect()
}

fn admit(sender_is_owner: bool, mention: bool) -> Gate {
    Gate::Admit {
        sender_is_owner,
        mention,
    }
}

/// The owner is named, a friend is allowed, the group is listed.
fn policy() -> GatePolicy {
    GatePolicy {
        allow_from: list(&["telegram:2"]),
        groups: [("-100".to_owned(), GroupRule::default())].into(),
        owner_allow_from: list(&["telegram:1"]),
        ..GatePolicy::default()
    }
}

const PAIRED: Known<'static> = Known {
    paired: true,
    bot_username: Some("atoll_bot"),
};
const UNPAIRED: Known<'static> = Known {
    paired: false,
    bot_username: Some("atoll_bot"),
};

#[test]
fn a_direct_message_is_judged_by_the_dm_policy() {
    let check = |dm_policy, sender: &str, known: Known<'_>, expected| {
        let policy = GatePolicy { dm_policy, ..policy() };
        assert_eq!(
            decide(&policy, &dm(sender), &known),
            expected,
            "{dm_policy:?} {sender} {known:?}"
        );
    };
    let unknown = Gate::Ignore(Reason::UnknownSender);
    check(DmPolicy::Pairing, OWNER, UNPAIRED, admit(true, true));
    check(DmPolicy::Pairing, FRIEND, UNPAIRED, admit(false, true));
    check(DmPolicy::Pairing, STRANGER, UNPAIRED, Gate::Pair);
    check(DmPolicy::Pairing, STRANGER, PAIRED, admit(false, true));
    check(DmPolicy::Allowlist, FRIEND, UNPAIRED, admit(false, true));
    check(DmPolicy::Allowlist, STRANGER, PAIRED, unknown);
    check(DmPolicy::Open, STRANGER, UNPAIRED, unknown);
    check(DmPolicy::Disabled, OWNER, PAIRED, Gate::Ignore(Reason::DmDisabled));
}

#[test]
fn open_direct_messages_need_a_star_and_make_nobody_owner() {
    let policy = GatePolicy {
        dm_policy: DmPolicy::Open,
        allow_from: list(&["*"]),
        ..GatePolicy::default()
    };
    assert_eq!(decide(&policy, &dm(STRANGER), &UNPAIRED), admit(false, true));
}

#[test]
fn the_owner_is_named_or_is_the_only_one_allowed() {
    let check = |owners: &[&str], allowed: &[&str], sender: &str, expected: bool| {
        let policy = GatePolicy {
            owner_allow_from: list(owners),
            allow_from: list(allowed),
            ..GatePolicy::default()
        };
        let sender = dm(sender).sender;
        assert_eq!(
            is_owner(&policy, "telegram", &sender),
            expected,
            "{owners:?} {allowed:?} {}",
            sender.id
        );
    };
    check(&["telegram:1"], &["2"], "1", true);
    check(&["telegram:1"], &["2"], "2", false);
    check(&["1"], &[], "1", true);
    check(&["tg:1"], &[], "1", true);
    check(&["whatsapp:1"], &[], "1", false);
    check(&["Owner"], &[], "1", false);
    check(&["*"], &[], "1", false);
    check(&[], &["1"], "1", true);
    check(&[], &["1", "2"], "1", false);
    check(&[], &["*"], "1", false);
    check(&[], &[], "1", false);
    check(&["", "telegram:"], &[], "", false);
}

#[test]
fn a_display_name_in_a_list_lets_nobody_in() {
    let policy = GatePolicy {
        dm_policy: DmPolicy::Allowlist,
        allow_from: list(&["Owner", "@owner", "telegram:Owner"]),
        ..GatePolicy::default()
    };
    assert_eq!(
        decide(&policy, &dm(STRANGER), &UNPAIRED),
        Gate::Ignore(Reason::UnknownSender)
    );
}

#[test]
fn trust_in_direct_messages_is_no_trust_in_a_group() {
    let unknown = Gate::Ignore(Reason::UnknownSender);
    assert_eq!(decide(&policy(), &in_group(STRANGER, true), &PAIRED), unknown);
    let star = GatePolicy {
        dm_policy: DmPolicy::Open,
        allow_from: list(&["*"]),
        ..policy()
    };
    assert_eq!(decide(&star, &in_group(STRANGER, true), &PAIRED), unknown);
}

fn check_group(policy: &GatePolicy, sender: &str, mentions: bool, expected: Gate) {
    let got = decide(policy, &in_group(sender, mentions), &UNPAIRED);
    assert_eq!(got, expected, "{policy:?} {sender}");
}

fn with_groups(groups: &[(&str, GroupRule)]) -> GatePolicy {
    GatePolicy {
        groups: groups
            .iter()
            .map(|(id, rule)| ((*id).to_owned(), rule.clone()))
            .collect(),
        ..policy()
    }
}

#[test]
fn a_group_message_passes_policy_group_sender_and_mention_in_this_order() {
    let base = policy();
    check_group(&base, FRIEND, true, admit(false, true));
    check_group(&base, OWNER, true, admit(true, true));
    check_group(&base, FRIEND, false, Gate::Ignore(Reason::NotMentioned));
    check_group(&base, STRANGER, false, Gate::Ignore(Reason::UnknownSender));
    check_group(&with_groups(&[]), OWNER, true, Gate::Ignore(Reason::UnknownGroup));
    let off = GatePolicy {
        group_policy: GroupPolicy::Disabled,
        ..policy()
    };
    check_group(&off, OWNER, true, Gate::Ignore(Reason::GroupsDisabled));
}

#[test]
fn an_open_group_policy_takes_any_sender_but_only_listed_groups_where_some_are() {
    let open = |policy| GatePolicy {
        group_policy: GroupPolicy::Open,
        ..policy
    };
    check_group(&open(with_groups(&[])), STRANGER, true, admit(false, true));
    check_group(
        &open(with_groups(&[])),
        STRANGER,
        false,
        Gate::Ignore(Reason::NotMentioned),
    );
    let other = open(with_groups(&[("-200", GroupRule::default())]));
    check_group(&other, STRANGER, true, Gate::Ignore(Reason::UnknownGroup));
}

#[test]
fn a_group_can_have_its_own_senders_and_rules() {
    let own_list = GatePolicy {
        group_allow_from: list(&["3"]),
        ..policy()
    };
    check_group(&own_list, STRANGER, true, admit(false, true));
    check_group(&own_list, FRIEND, true, Gate::Ignore(Reason::UnknownSender));
    let rule = GroupRule {
        require_mention: Some(false),
        allow_from: Some(list(&["3"])),
        enabled: true,
    };
    let by_rule = with_groups(&[("-100", rule)]);
    check_group(&by_rule, STRANGER, false, admit(false, false));
    check_group(&by_rule, FRIEND, false, Gate::Ignore(Reason::UnknownSender));
    let star = GroupRule::default();
    check_group(&with_groups(&[("*", star.clone())]), FRIEND, true, admit(false, true));
    let off = GroupRule {
        enabled: false,
        ..GroupRule::default()
    };
    let excepted = with_groups(&[("-100", off), ("*", star)]);
    check_group(&excepted, FRIEND, true, Gate::Ignore(Reason::UnknownGroup));
}

#[test]
fn a_pattern_counts_as_a_mention_and_quoted_text_does_not() {
    let patterns = mention_patterns(&list(&[r"\batoll\b"])).expect("a pattern");
    let policy = GatePolicy {
        mention_patterns: patterns,
        ..policy()
    };
    let check = |text: &str, expected| {
        let inbound = inbound(PeerKind::Group, "-100", FRIEND, said(text, false));
        assert_eq!(decide(&policy, &inbound, &UNPAIRED), expected, "{text}");
    };
    check("hey ATOLL, look", admit(false, true));
    check("hey atolls", Gate::Ignore(Reason::NotMentioned));
    let error = mention_patterns(&list(&["("])).expect_err("no pattern");
    assert_eq!(error.pattern, "(");
}

#[test]
fn a_click_is_judged_by_who_clicked() {
    let check = |kind, chat: &str, sender: &str, expected| {
        let got = decide(&policy(), &inbound(kind, chat, sender, click()), &UNPAIRED);
        assert_eq!(got, expected, "{kind:?} {sender}");
    };
    check(PeerKind::Group, "-100", OWNER, admit(true, true));
    check(PeerKind::Group, "-100", FRIEND, admit(false, true));
    check(PeerKind::Group, "-100", STRANGER, Gate::Ignore(Reason::UnknownSender));
    check(
        PeerKind::Direct,
        STRANGER,
        STRANGER,
        Gate::Ignore(Reason::UnknownSender),
    );
    check(PeerKind::Direct, OWNER, OWNER, admit(true, true));
}

#[test]
fn bots_broadcasts_and_commands_for_other_bots_are_ignored() {
    let mut bot = dm(OWNER);
    bot.sender.is_bot = true;
    assert_eq!(decide(&policy(), &bot, &UNPAIRED), Gate::Ignore(Reason::Bot));
    let broadcast = inbound(PeerKind::Channel, "-5", OWNER, said("hi", true));
    assert_eq!(
        decide(&policy(), &broadcast, &UNPAIRED),
        Gate::Ignore(Reason::Broadcast)
    );
    let command = |text: &str| {
        let message = inbound(PeerKind::Group, "-100", OWNER, said(text, true));
        decide(&policy(), &message, &UNPAIRED)
    };
    assert_eq!(command("/status@other_bot"), Gate::Ignore(Reason::OtherBot));
    assert_eq!(command("/status@Atoll_Bot now"), admit(true, true));
    assert_eq!(command("/run laptop -- mail a@b"), admit(true, true));
}
