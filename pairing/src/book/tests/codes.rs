//! Setup codes: never more than their minter holds, once, for ten minutes, whatever happens in between.

use proptest::prelude::*;
use secrecy::SecretString;

use super::*;
use crate::access::{ChangeCode, MintCode};
use crate::book::record::StoredCode;

fn for_node(commands: Option<&[&str]>) -> Gift {
    Gift {
        role: Role::Node,
        scopes: Scopes::none(),
        commands: commands.map(|commands| commands.iter().map(|command| (*command).to_owned()).collect()),
        label: None,
        replaces: None,
    }
}

fn for_operator(asked: &[Scope]) -> Gift {
    Gift {
        role: Role::Operator,
        scopes: scopes(asked),
        ..for_node(None)
    }
}

fn text(n: u8) -> SecretString {
    FreshCode::new([n; 16]).text
}

fn id(n: u8) -> SetupId {
    SetupId::new(format!("s{n}")).expect("an id")
}

impl Desk {
    fn mint(&mut self, who: &[Scope], gift: Gift, n: u8) -> Result<Minted, BookError> {
        let action = MintCode {
            gift,
            addresses: vec!["ws://127.0.0.1:1".to_owned()],
            has_link: true,
        };
        let granted = granted(&holding(who), action);
        self.book.mint(&granted, id(n), FreshCode::new([n; 16]), self.now)
    }

    fn bring(&mut self, device: u8, claims: &Claims, n: u8) -> Result<(Grant, Vec<Change>), CodeFault> {
        let code = self.book.check_code(&text(n), key(device).id, claims.role, self.now);
        let setup = code.map(|code| code.id.clone()).map_err(|(fault, _)| fault)?;
        self.n += 1;
        let token = TokenUse::Issue(FreshToken([self.n; 32]));
        let applicant = applicant(key(device), claims, token, self.n.into());
        match self
            .book
            .admit_by_code(&setup, applicant, &CommandPolicy::default(), self.now)
        {
            (Admission::In(grant), changes) => Ok((*grant, changes)),
            (Admission::Pending { reason, .. }, _) => panic!("a code asks no question: {reason:?}"),
        }
    }
}

#[test]
fn a_code_lets_one_device_in_with_its_surface_in_one_list_of_changes() {
    let mut desk = Desk::new();
    let minted = desk.mint(&[Scope::Admin], for_node(None), 1).expect("minted");
    assert!(matches!(&minted.changes[..], [Change::PutCode(_)]));
    let claims = node_claims(&["system.notify", "system.run"]);
    let (grant, changes) = desk.bring(1, &claims, 1).expect("in");
    assert_eq!(grant.approval, SurfaceApproval::Approved);
    assert_eq!(grant.surface.commands, ["system.notify", "system.run"]);
    assert!(grant.token.is_some());
    let durable: Vec<_> = changes.iter().filter(|change| change.is_durable()).collect();
    assert!(
        durable
            .iter()
            .any(|change| matches!(change, Change::PutCode(code) if code.end.is_some()))
    );
    assert!(
        durable
            .iter()
            .any(|change| matches!(change, Change::Put(record) if record.id == key(1).id))
    );
    let told = events(&changes);
    let (_, completed) = told
        .iter()
        .find(|(name, _)| *name == "device.pair.setup.completed")
        .expect("told");
    assert_eq!(
        (&completed["setupId"], &completed["access"]),
        (&Value::from("s1"), &Value::from("node"))
    );
    let record = desk.book.record(key(1).id).expect("a record");
    assert_eq!(record.approved_via, ApprovedVia::SetupCode);
    assert_eq!(desk.bring(2, &claims, 1).expect_err("used"), CodeFault::Used);
    assert!(desk.book.record(key(2).id).is_none());
}

#[test]
fn what_a_code_names_can_be_used_on_its_device_and_nowhere_else() {
    let mut desk = Desk::new();
    let policy = CommandPolicy::default();
    let declared = ["camera.snap", "camera.clip", "vibrate"];
    desk.mint(&[Scope::Admin], for_node(Some(&["camera.snap", "vibrate"])), 1)
        .expect("minted");
    let (grant, _) = desk.bring(1, &node_claims(&declared), 1).expect("in");
    assert_eq!(grant.surface.commands, ["camera.snap", "vibrate"]);
    for (command, expected) in [("camera.snap", true), ("vibrate", true), ("camera.clip", false)] {
        assert_eq!(policy.check(&grant.facts, command).is_ok(), expected, "{command}");
    }
    desk.mint(&[Scope::Admin], for_node(None), 2).expect("minted");
    let (grant, _) = desk.bring(2, &node_claims(&declared), 2).expect("in");
    assert!(
        policy.check(&grant.facts, "camera.snap").is_err(),
        "a code that names nothing opens nothing"
    );
    let denied = CommandPolicy {
        deny: vec!["vibrate".to_owned()],
        ..CommandPolicy::default()
    };
    let facts = desk.enter(1, &node_claims(&declared)).facts;
    assert!(denied.check(&facts, "vibrate").is_err(), "the owner's list wins");
}

#[test]
fn a_code_is_over_after_ten_minutes_when_revoked_and_for_another_role() {
    let mut desk = Desk::new();
    let claims = node_claims(&[]);
    desk.mint(&[Scope::Admin], for_node(None), 1).expect("minted");
    assert_eq!(
        desk.bring(1, &operator_claims(&[]), 1).expect_err("a node's"),
        CodeFault::Role
    );
    desk.now += CODE_LIFE_MS - 1;
    desk.mint(&[Scope::Admin], for_node(None), 2).expect("minted");
    desk.now += 1;
    assert_eq!(desk.bring(1, &claims, 1).expect_err("too late"), CodeFault::Expired);
    let revoke = granted(&holding(&[Scope::Pairing]), ChangeCode { setup: id(2) });
    desk.book.revoke_code(&revoke, desk.now).expect("waiting");
    assert_eq!(desk.bring(1, &claims, 2).expect_err("taken back"), CodeFault::Revoked);
    assert_eq!(
        desk.book.revoke_code(&revoke, desk.now).expect_err("over"),
        BookError::UnknownCode
    );
    assert_eq!(desk.bring(1, &claims, 3).expect_err("made up"), CodeFault::Unknown);
    assert!(desk.book.record(key(1).id).is_none());
    desk.now += CODE_LIFE_MS + 24 * 60 * MINUTE;
    let forgotten = desk.book.expire(desk.now);
    assert_eq!(
        forgotten
            .iter()
            .filter(|change| matches!(change, Change::ForgetCode(_)))
            .count(),
        2
    );
}

#[test]
fn a_code_gives_the_commands_that_it_names_and_the_rest_waits() {
    let mut desk = Desk::new();
    desk.mint(&[Scope::Admin], for_node(Some(&["system.notify"])), 1)
        .expect("minted");
    let (grant, _) = desk
        .bring(1, &node_claims(&["system.notify", "system.run"]), 1)
        .expect("in");
    assert_eq!(grant.surface.commands, ["system.notify"]);
    assert!(
        matches!(grant.approval, SurfaceApproval::Reapproval(_)),
        "{:?}",
        grant.approval
    );
}

#[test]
fn a_device_whose_hello_was_lost_brings_its_code_again_until_it_holds_nothing_by_it() {
    let mut desk = Desk::new();
    let claims = node_claims(&["system.notify"]);
    desk.mint(&[Scope::Admin], for_node(None), 1).expect("minted");
    let (first, _) = desk.bring(1, &claims, 1).expect("in");
    let (again, changes) = desk.bring(1, &claims, 1).expect("the same use");
    assert_eq!(again.generation, first.generation);
    assert!(
        !changes.iter().any(|change| matches!(change, Change::PutCode(_))),
        "{changes:?}"
    );
    assert!(events(&changes).is_empty());
    let revoke = ChangeDevice { device: key(1).id };
    desk.book
        .revoke(&granted(&holding(&[Scope::Admin]), revoke), Role::Node, desk.now)
        .expect("revoked");
    assert_eq!(
        desk.bring(1, &claims, 1).expect_err("it brings nothing back"),
        CodeFault::Used
    );
}

#[test]
fn a_successor_takes_the_name_and_the_old_device_is_out_in_the_same_step() {
    let mut desk = Desk::new();
    let claims = node_claims(&["system.notify"]);
    desk.pair(1, &claims);
    let gift = Gift {
        label: Some("laptop".to_owned()),
        replaces: Some(key(1).id),
        ..for_node(Some(&["system.notify"]))
    };
    desk.mint(&[Scope::Admin], gift.clone(), 1).expect("minted");
    let (_, changes) = desk.bring(2, &claims, 1).expect("in");
    assert!(
        changes
            .iter()
            .any(|change| matches!(change, Change::Remove(id) if *id == key(1).id))
    );
    assert!(
        changes
            .iter()
            .any(|change| matches!(change, Change::Close { device, .. } if *device == key(1).id))
    );
    assert!(desk.book.record(key(1).id).is_none());
    assert_eq!(desk.book.record(key(2).id).expect("in").display_name(), "laptop");
    assert_eq!(
        desk.mint(&[Scope::Admin], gift, 2).expect_err("gone"),
        BookError::UnknownDevice
    );
}

#[test]
fn a_join_link_answers_once_and_only_while_its_code_waits() {
    let mut desk = Desk::new();
    let minted = desk.mint(&[Scope::Admin], for_node(None), 1).expect("minted");
    let link = minted.fresh.link;
    assert!(
        desk.book
            .follow_link(&SecretString::from("x".repeat(22)), desk.now)
            .is_none()
    );
    let (code, kept, changes) = desk.book.follow_link(&link, desk.now).expect("the first time");
    assert_eq!(code.expose_secret(), minted.fresh.text.expose_secret());
    assert_eq!(kept.addresses, ["ws://127.0.0.1:1"]);
    assert!(matches!(&changes[..], [Change::PutCode(_)]));
    assert!(desk.book.follow_link(&link, desk.now).is_none());
    desk.bring(1, &node_claims(&[]), 1)
        .expect("the code itself still waits");
    let late = desk
        .mint(&[Scope::Admin], for_node(None), 2)
        .expect("minted")
        .fresh
        .link;
    desk.now += CODE_LIFE_MS;
    assert!(desk.book.follow_link(&late, desk.now).is_none());
}

#[test]
fn codes_survive_storage_without_their_secrets() {
    let mut desk = Desk::new();
    let claims = node_claims(&[]);
    for n in 1..=3 {
        desk.mint(&[Scope::Admin], for_node(Some(&["system.notify"])), n)
            .expect("minted");
    }
    desk.bring(1, &claims, 1).expect("in");
    let stored: Vec<String> = (1..=3)
        .map(|n| serde_json::to_string(&StoredCode::from(desk.book.code(&id(n)).expect("kept"))).expect("text keys"))
        .collect();
    for n in 1..=3 {
        let fresh = FreshCode::new([n; 16]);
        for secret in [fresh.text, fresh.link] {
            assert!(!stored.concat().contains(secret.expose_secret()));
        }
    }
    let codes = stored
        .iter()
        .map(|text| SetupCode::from(serde_json::from_str::<StoredCode>(text).expect("reads")));
    let records: Vec<_> = desk.book.records().cloned().collect();
    desk.book = Book::restore(records, codes.collect::<Vec<_>>());
    assert_eq!(desk.bring(2, &claims, 1).expect_err("used before"), CodeFault::Used);
    desk.bring(2, &claims, 2).expect("still waits");
}

#[test]
fn codes_that_wait_are_bounded() {
    let mut desk = Desk::new();
    for n in 0..u8::try_from(CODES).expect("small") {
        desk.mint(&[Scope::Admin], for_node(None), n).expect("room");
    }
    assert_eq!(
        desk.mint(&[Scope::Admin], for_node(None), 200).expect_err("full"),
        BookError::TooManyCodes
    );
    desk.now += CODE_LIFE_MS;
    desk.mint(&[Scope::Admin], for_node(None), 201).expect("those are over");
}

proptest! {
    #[test]
    fn nobody_gives_more_than_they_hold(
        held in proptest::collection::vec(proptest::sample::select(Scope::ALL), 0..4),
        given in proptest::collection::vec(proptest::sample::select(Scope::ALL), 0..4),
    ) {
        let mut desk = Desk::new();
        let pairing: Vec<_> = held.iter().copied().chain([Scope::Pairing]).collect();
        let minted = desk.mint(&pairing, for_operator(&given), 1);
        let may = given.iter().all(|scope| scopes(&pairing).give(*scope));
        prop_assert_eq!(minted.is_ok(), may);
        if may {
            // Whatever the device asks, it gets at most what was frozen.
            let (grant, _) = desk.bring(1, &operator_claims(&given), 1).expect("in");
            prop_assert!(scopes(&pairing).cover(&grant.scopes));
        }
        prop_assert_eq!(desk.mint(&pairing, for_node(None), 2).is_ok(), scopes(&pairing).give(Scope::Admin));
    }
}
