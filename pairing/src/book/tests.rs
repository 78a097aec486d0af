//! One record per device through its whole life; what holds for any order of events is in `property`.

use std::sync::Arc;

use atoll_protocol::limits;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::*;
use crate::access::{
    Action, ApprovePairing, ChangeDevice, Granted, PairingView, Policy, RejectPairing, RotateToken, decide,
};
use crate::identity::Identity;
use atoll_protocol::scope::Scope;

mod codes;
mod commands;
mod digits;
mod manage;
mod property;
mod stored;

const MINUTE: u64 = 60_000;

pub(crate) fn scopes(all: &[Scope]) -> Scopes {
    all.iter().copied().collect()
}

pub(crate) fn holding(all: &[Scope]) -> Arc<Principal> {
    Arc::new(Principal::shared_secret(scopes(all)))
}

fn granted<A: Action>(who: &Arc<Principal>, action: A) -> Granted<A> {
    decide(who, action, &Policy::default(), 0).unwrap_or_else(|denied| panic!("{denied}"))
}

pub(crate) fn key(n: u8) -> DeviceKey {
    Identity::from_seed(&[n; 32]).device()
}

pub(crate) fn node_claims(commands: &[&str]) -> Claims {
    Claims {
        role: Role::Node,
        scopes: Scopes::none(),
        client: ClientInfo {
            id: "node-host".into(),
            mode: "node".into(),
            version: "2026.9.6".into(),
            platform: "linux".into(),
            device_family: "Linux".into(),
            display_name: "Proto Node".into(),
            ..ClientInfo::default()
        },
        surface: Surface {
            caps: vec!["system".into()],
            commands: commands.iter().map(|&command| command.to_owned()).collect(),
            ..Surface::default()
        },
        path_env: String::new(),
        protocol: 4,
    }
}

fn operator_claims(asked: &[Scope]) -> Claims {
    Claims {
        role: Role::Operator,
        scopes: scopes(asked),
        ..node_claims(&[])
    }
}

fn applicant<'a>(key: DeviceKey, claims: &'a Claims, token: TokenUse<'a>, n: u32) -> Applicant<'a> {
    Applicant {
        key,
        claims,
        vouched: false,
        token,
        digits: LinkDigits::None,
        from: String::new(),
        request: PairingId::new(format!("r{n}")).expect("an id"),
        address: None,
    }
}

struct Desk {
    book: Book,
    n: u8,
    now: u64,
}

impl Desk {
    fn new() -> Self {
        Self {
            book: Book::default(),
            n: 0,
            now: 1_000_000,
        }
    }

    fn connect(&mut self, device: u8, claims: &Claims) -> (Admission, Vec<Change>) {
        self.n += 1;
        let policy = CommandPolicy::default();
        let applicant = applicant(
            key(device),
            claims,
            TokenUse::Issue(FreshToken([self.n; 32])),
            self.n.into(),
        );
        self.book.admit(applicant, &policy, self.now)
    }

    fn ask(&mut self, device: u8, claims: &Claims) -> (PairingId, bool, Reason) {
        match self.connect(device, claims).0 {
            Admission::Pending { request, new, reason } => (request, new, reason),
            Admission::In(grant) => panic!("let in: {grant:?}"),
        }
    }

    fn enter(&mut self, device: u8, claims: &Claims) -> Grant {
        match self.connect(device, claims).0 {
            Admission::In(grant) => *grant,
            Admission::Pending { reason, .. } => panic!("kept out: {reason:?}"),
        }
    }

    fn approve(&mut self, who: &Arc<Principal>, request: &PairingId, view: PairingView) -> Result<Approved, BookError> {
        let request = request.clone();
        let action = ApprovePairing {
            request,
            view,
            code: None,
        };
        match self.book.approve(&granted(who, action), self.now)? {
            Answered::Approved(approved) => Ok(*approved),
            Answered::WrongCode(wrong) => panic!("no code was typed: {wrong:?}"),
        }
    }

    fn pair(&mut self, device: u8, claims: &Claims) {
        let (request, ..) = self.ask(device, claims);
        self.approve(&holding(&[Scope::Admin]), &request, PairingView::Device)
            .expect("an administrator may");
    }
}

fn events(changes: &[Change]) -> Vec<(&'static str, Value)> {
    changes
        .iter()
        .filter_map(|change| match change {
            Change::Event { name, payload, .. } => Some((*name, payload.tree())),
            Change::Put(_)
            | Change::Seen(_)
            | Change::Remove(_)
            | Change::PutCode(_)
            | Change::ForgetCode(_)
            | Change::Surface(_)
            | Change::Close { .. } => None,
        })
        .collect()
}

#[test]
fn one_approval_admits_a_node_with_its_surface() {
    let mut desk = Desk::new();
    let claims = node_claims(&["system.run", "system.which", "file.write"]);
    let (request, new, reason) = desk.ask(1, &claims);
    assert!(new);
    assert_eq!(reason, Reason::NotPaired);
    let approved = desk
        .approve(&holding(&[Scope::Admin]), &request, PairingView::Device)
        .expect("approved");
    assert!(approved.changes[0].is_durable(), "stored before anything is told");
    let names: Vec<_> = events(&approved.changes).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["device.pair.resolved", "node.pair.resolved", "device.pair.changed"]
    );

    let grant = desk.enter(1, &claims);
    assert_eq!(grant.surface.commands, ["system.run", "system.which"]);
    assert_eq!(grant.approval, SurfaceApproval::Approved);
    assert_eq!(grant.facts.in_force().commands, ["system.run", "system.which"]);
    assert_eq!(desk.book.requests(desk.now).count(), 0, "nothing is left to approve");
}

#[test]
fn the_command_line_asks_again_as_administrator_on_these_words() {
    let mut desk = Desk::new();
    let (request, ..) = desk.ask(1, &node_claims(&["system.run"]));
    let error = desk
        .approve(&holding(&[Scope::Pairing]), &request, PairingView::Device)
        .expect_err("a node is for administrators");
    let wire = error.to_wire();
    assert_eq!(
        (wire.code.as_str(), wire.message.as_str()),
        ("INVALID_REQUEST", "device pairing approval denied")
    );
    assert!(
        desk.book.request(&request, desk.now).is_some(),
        "still there for the second try"
    );
    assert!(
        desk.approve(&holding(&[Scope::Admin]), &request, PairingView::Device)
            .is_ok()
    );
}

#[test]
fn a_wider_surface_waits_while_the_approved_commands_keep_working() {
    let mut desk = Desk::new();
    desk.pair(1, &node_claims(&["system.which"]));
    let wider = node_claims(&["system.which", "system.run"]);
    let (admission, changes) = desk.connect(1, &wider);
    let Admission::In(grant) = admission else {
        panic!("an approved node is not kept out by a new command")
    };
    assert_eq!(grant.surface.commands, ["system.which"]);
    let SurfaceApproval::Reapproval(request) = grant.approval else {
        panic!("{:?}", grant.approval)
    };
    let (name, payload) = &events(&changes)[0];
    assert_eq!(*name, "node.pair.requested");
    assert_eq!(payload["commands"], serde_json::json!(["system.run", "system.which"]));
    assert_eq!(
        payload["requiredApproveScopes"],
        serde_json::json!(["operator.pairing", "operator.admin"])
    );

    let error = desk
        .approve(&holding(&[Scope::Pairing]), &request, PairingView::Node)
        .expect_err("it can run things");
    assert_eq!(error.to_wire().message, "missing scope: operator.admin");
    let by = holding(&[Scope::Pairing, Scope::Admin]);
    let approved = desk.approve(&by, &request, PairingView::Node).expect("approved");
    assert!(approved.changes.contains(&Change::Surface(key(1).id)));
    assert_eq!(desk.enter(1, &wider).surface.commands, ["system.run", "system.which"]);
}

#[test]
fn a_surface_request_outlives_the_five_minutes_and_goes_when_the_node_asks_for_no_more() {
    let mut desk = Desk::new();
    let narrow = node_claims(&["system.which"]);
    desk.pair(1, &narrow);
    desk.enter(1, &node_claims(&["system.which", "system.run"]));
    desk.now += 60 * MINUTE;
    assert_eq!(desk.book.requests(desk.now).count(), 1);
    assert_eq!(desk.enter(1, &narrow).approval, SurfaceApproval::Approved);
    assert_eq!(desk.book.requests(desk.now).count(), 0);
}

#[test]
fn declaring_less_needs_nothing_and_coming_back_needs_nothing_either() {
    let mut desk = Desk::new();
    let full = node_claims(&["system.run", "system.which"]);
    desk.pair(1, &full);
    assert_eq!(
        desk.enter(1, &node_claims(&["system.which"])).surface.commands,
        ["system.which"]
    );
    let grant = desk.enter(1, &full);
    assert_eq!(grant.surface.commands, ["system.run", "system.which"]);
    assert_eq!(grant.approval, SurfaceApproval::Approved);
}

#[test]
fn a_plain_retry_keeps_the_id_and_another_wish_supersedes_it() {
    let mut desk = Desk::new();
    let (first, ..) = desk.ask(1, &node_claims(&["system.which"]));
    desk.now += 4 * MINUTE;
    let (again, new, _) = desk.ask(1, &node_claims(&["system.which"]));
    assert_eq!((again, new), (first.clone(), false));
    desk.now += 4 * MINUTE;
    assert!(
        desk.book.request(&first, desk.now).is_some(),
        "five minutes count from the last retry"
    );

    let (admission, changes) = desk.connect(1, &node_claims(&["system.which", "system.run"]));
    let Admission::Pending { request, new, .. } = admission else {
        panic!("let in")
    };
    assert!(new && request != first);
    let (name, payload) = &events(&changes)[0];
    assert_eq!(
        (*name, &payload["decision"]),
        ("device.pair.resolved", &Value::from("rejected"))
    );
    assert_eq!(payload["requestId"], first.as_str());
    assert_eq!(desk.book.requests(desk.now).count(), 1);

    desk.now += 5 * MINUTE;
    assert!(desk.book.request(&request, desk.now).is_none());
    let error = desk
        .approve(&holding(&[Scope::Admin]), &request, PairingView::Device)
        .expect_err("expired");
    assert_eq!(error, BookError::UnknownRequest);
}

#[test]
fn strangers_cannot_fill_the_book_nor_push_out_anybody_but_strangers() {
    let mut desk = Desk::new();
    let claims = node_claims(&["system.which"]);
    desk.pair(1, &claims);
    desk.enter(1, &node_claims(&["system.which", "system.run"]));
    let with_secret = Applicant {
        vouched: true,
        ..applicant(key(2), &claims, TokenUse::None, 500)
    };
    let _ = desk.book.admit(with_secret, &CommandPolicy::default(), desk.now);
    for n in 0..limits::PAIRING_PENDING_COUNT as u32 + 50 {
        let mut public_key = [0; 32];
        public_key[..4].copy_from_slice(&n.to_be_bytes());
        let stranger = crate::identity::device_key(public_key);
        let stranger = applicant(stranger, &claims, TokenUse::None, 1000 + n);
        let _ = desk.book.admit(stranger, &CommandPolicy::default(), desk.now + 1);
    }
    assert_eq!(desk.book.requests(desk.now).count(), limits::PAIRING_PENDING_COUNT);
    assert!(desk.book.request_of(key(1).id).is_some() && desk.book.request_of(key(2).id).is_some());
}

#[test]
fn what_a_device_asks_for_beyond_its_record_waits_under_the_right_reason() {
    let mut desk = Desk::new();
    desk.pair(1, &operator_claims(&[Scope::Read]));
    assert_eq!(
        desk.enter(1, &operator_claims(&[Scope::Read])).scopes,
        scopes(&[Scope::Read])
    );
    assert_eq!(desk.ask(1, &operator_claims(&[Scope::Write])).2, Reason::ScopeUpgrade);
    assert_eq!(desk.ask(1, &node_claims(&[])).2, Reason::RoleUpgrade);

    desk.pair(2, &node_claims(&["system.which"]));
    let mut elsewhere = node_claims(&["system.which"]);
    elsewhere.client.platform = "macos".into();
    elsewhere.client.device_family = "Mac".into();
    assert_eq!(desk.ask(2, &elsewhere).2, Reason::MetadataUpgrade);
    let mut old_protocol = node_claims(&["system.which"]);
    old_protocol.client.device_family.clear();
    desk.enter(2, &old_protocol);
    let pinned = desk
        .book
        .record(key(2).id)
        .map(|record| record.client.device_family.as_str());
    assert_eq!(
        pinned,
        Some("Linux"),
        "what decisions depend on stays as it was approved"
    );
}

#[test]
fn a_foreign_node_cannot_turn_into_our_own_kind_by_saying_so() {
    let mut desk = Desk::new();
    desk.pair(1, &node_claims(&["system.which"]));
    let mut posing = node_claims(&["system.which"]);
    posing.client.id = crate::access::commands::NATIVE_CLIENT.into();
    assert_eq!(desk.ask(1, &posing).2, Reason::MetadataUpgrade);
}

#[test]
fn an_operator_approves_no_scope_that_it_lacks() {
    let mut desk = Desk::new();
    let (request, ..) = desk.ask(1, &operator_claims(&[Scope::Admin]));
    for view in [PairingView::Device, PairingView::Node] {
        assert!(
            desk.approve(&holding(&[Scope::Pairing, Scope::Write]), &request, view)
                .is_err()
        );
    }
    assert!(desk.book.record(key(1).id).is_none());
}

#[test]
fn rotation_gives_at_most_what_record_and_caller_hold() {
    let mut desk = Desk::new();
    desk.pair(1, &operator_claims(&[Scope::Admin]));
    let rotate = |desk: &mut Desk, who: &Arc<Principal>, wanted: Option<&[Scope]>| {
        let action = RotateToken {
            device: key(1).id,
            role: Role::Operator,
            scopes: wanted.map(scopes),
        };
        desk.book.rotate(&granted(who, action), &FreshToken([9; 32]), 5)
    };
    let pairing = holding(&[Scope::Pairing]);
    assert!(rotate(&mut desk, &pairing, Some(&[Scope::Admin])).is_err());
    assert!(
        rotate(&mut desk, &pairing, None).is_err(),
        "the record holds more than the caller"
    );
    let rotated = rotate(&mut desk, &pairing, Some(&[Scope::Pairing])).expect("both hold it");
    assert_eq!(rotated.scopes, scopes(&[Scope::Pairing]));
    assert!(rotated.token.is_none(), "another device's token is not shown");
    let admin = holding(&[Scope::Admin]);
    assert!(
        rotate(&mut desk, &admin, Some(&[Scope::Admin])).is_err(),
        "the record was narrowed and stays so"
    );
}

#[test]
fn rotating_and_revoking_void_the_token_and_close_the_links_at_once() {
    let mut desk = Desk::new();
    let claims = node_claims(&["system.which"]);
    desk.pair(1, &claims);
    let grant = desk.enter(1, &claims);
    let token = grant.token.expect("handed out in the hello").text;
    let id = key(1).id;
    let held = Principal::device(id, Role::Node, Scopes::none(), grant.generation);
    assert!(desk.book.is_current(&held));
    assert!(
        desk.book
            .record(id)
            .is_some_and(|record| record.accepts(Role::Node, &token))
    );

    let admin = holding(&[Scope::Admin]);
    let action = RotateToken {
        device: id,
        role: Role::Node,
        scopes: None,
    };
    let rotated = desk
        .book
        .rotate(&granted(&admin, action), &FreshToken([9; 32]), 5)
        .expect("rotated");
    assert!(matches!(
        rotated.changes.last(),
        Some(Change::Close {
            code: 4001,
            reason: "device removed",
            role: Some(Role::Node),
            ..
        })
    ));
    assert!(!desk.book.is_current(&held));
    assert!(
        desk.book
            .record(id)
            .is_some_and(|record| !record.accepts(Role::Node, &token))
    );
    desk.enter(1, &claims);

    desk.book
        .revoke(&granted(&admin, ChangeDevice { device: id }), Role::Node, 6)
        .expect("revoked");
    assert_eq!(desk.ask(1, &claims).2, Reason::RoleUpgrade);
}

#[test]
fn a_removed_device_is_a_stranger_and_its_old_generation_stays_dead() {
    let mut desk = Desk::new();
    let claims = node_claims(&["system.which"]);
    desk.pair(1, &claims);
    let generation = desk.enter(1, &claims).generation;
    let id = key(1).id;
    let held = Principal::device(id, Role::Node, Scopes::none(), generation);
    let remove = granted(&holding(&[Scope::Pairing]), ChangeDevice { device: id });
    let changes = desk.book.remove(&remove, None, 7).expect("removed");
    assert_eq!(changes[0], Change::Remove(id));
    assert!(matches!(changes.last(), Some(Change::Close { role: None, .. })));
    let (name, payload) = &events(&changes)[0];
    assert_eq!((*name, &payload["requestId"]), ("node.pair.resolved", &Value::from("")));
    assert_eq!(desk.ask(1, &claims).2, Reason::NotPaired);
    desk.pair(1, &claims);
    assert!(!desk.book.is_current(&held));
}

#[test]
fn a_device_without_admin_manages_only_itself() {
    let mut desk = Desk::new();
    desk.pair(1, &operator_claims(&[Scope::Pairing]));
    desk.pair(2, &operator_claims(&[Scope::Pairing]));
    let generation = desk.enter(1, &operator_claims(&[Scope::Pairing])).generation;
    let one = Arc::new(Principal::device(
        key(1).id,
        Role::Operator,
        scopes(&[Scope::Pairing]),
        generation,
    ));
    let other = granted(&one, ChangeDevice { device: key(2).id });
    assert_eq!(desk.book.remove(&other, None, 1), Err(BookError::NotYours));
    assert_eq!(desk.book.rename(&other, "x"), Err(BookError::NotYours));
    let own = granted(&one, ChangeDevice { device: key(1).id });
    assert!(desk.book.rename(&own, "Mine").is_ok());
    assert_eq!(
        desk.book.record(key(1).id).map(DeviceRecord::display_name),
        Some("Mine")
    );
}

#[test]
fn a_rejected_device_may_ask_again_under_another_id() {
    let mut desk = Desk::new();
    let (first, ..) = desk.ask(1, &node_claims(&[]));
    let reject = RejectPairing { request: first.clone() };
    let (request, changes) = desk
        .book
        .reject(&granted(&holding(&[Scope::Pairing]), reject), desk.now)
        .expect("rejected");
    assert_eq!(request.id, first);
    assert_eq!(events(&changes)[0].1["decision"], "rejected");
    assert_ne!(desk.ask(1, &node_claims(&[])).0, first);
}

#[test]
fn a_lost_hello_leaves_the_older_token_working_up_to_a_bound() {
    let mut desk = Desk::new();
    let claims = node_claims(&["system.which"]);
    desk.pair(1, &claims);
    let tokens: Vec<_> = (0..=TOKENS)
        .map(|_| desk.enter(1, &claims).token.expect("issued").text)
        .collect();
    let record = desk.book.record(key(1).id).expect("paired");
    let accepted: Vec<_> = tokens.iter().map(|token| record.accepts(Role::Node, token)).collect();
    assert_eq!(accepted, [false, true, true, true, true]);
}

#[test]
fn a_used_token_is_echoed_and_only_its_time_of_use_changes() {
    let mut desk = Desk::new();
    let claims = node_claims(&["system.which"]);
    desk.pair(1, &claims);
    let issued = desk.enter(1, &claims).token.expect("issued");
    let applicant = applicant(key(1), &claims, TokenUse::Echo(&issued.text), 77);
    let (admission, changes) = desk.book.admit(applicant, &CommandPolicy::default(), desk.now + 9);
    let Admission::In(grant) = admission else {
        panic!("kept out")
    };
    let echoed = grant.token.expect("echoed");
    assert_eq!(echoed.text.expose_secret(), issued.text.expose_secret());
    assert_eq!(echoed.issued_ms, issued.issued_ms);
    assert!(
        matches!(changes.as_slice(), [Change::Seen(_)]),
        "no durable write for a reconnect"
    );
}

#[test]
fn an_operators_program_on_a_nodes_key_does_not_speak_for_the_node() {
    let mut desk = Desk::new();
    desk.pair(1, &node_claims(&["system.which"]));
    let mut cli = operator_claims(&[Scope::Read]);
    cli.client.id = "cli".into();
    cli.client.platform = "win32".into();
    desk.pair(1, &cli);
    desk.enter(1, &cli);
    let record = desk.book.record(key(1).id).expect("paired");
    assert_eq!(
        (record.client.id.as_str(), record.client.platform.as_str()),
        ("node-host", "linux")
    );
    desk.enter(1, &node_claims(&["system.which"]));
}
