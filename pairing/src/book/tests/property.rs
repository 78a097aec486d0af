//! Whatever happens in whatever order, nobody ends up with more than somebody entitled gave.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use super::*;

const COMMANDS: &[&str] = &[
    "system.run",
    "system.which",
    "location.get",
    "system.notify",
    "file.write",
];

#[derive(Debug, Clone)]
enum Op {
    Connect {
        device: u8,
        node: bool,
        asked: Vec<Scope>,
        commands: Vec<&'static str>,
        platform: &'static str,
    },
    Approve {
        by: Vec<Scope>,
        view: bool,
        which: Index,
    },
    Reject {
        which: Index,
    },
    Remove {
        device: u8,
        only_node: bool,
    },
    Rotate {
        device: u8,
        node: bool,
        by: Vec<Scope>,
        wanted: Option<Vec<Scope>>,
    },
    Revoke {
        device: u8,
        node: bool,
    },
    Pass {
        minutes: u64,
    },
    Restart,
}

fn some_scopes() -> impl Strategy<Value = Vec<Scope>> {
    proptest::collection::vec(select(Scope::ALL), 0..4)
}

fn any_op() -> impl Strategy<Value = Op> {
    let device = 1..4_u8;
    prop_oneof![
        6 => (
            device.clone(),
            any::<bool>(),
            some_scopes(),
            subsequence(COMMANDS, 0..=COMMANDS.len()),
            select(&["linux", "macos", "plan9"][..]),
        )
            .prop_map(|(device, node, asked, commands, platform)| Op::Connect {
                device, node, asked, commands, platform,
            }),
        5 => (some_scopes(), any::<bool>(), any::<bool>(), any::<Index>()).prop_map(|(mut by, admin, view, which)| {
            by.push(if admin { Scope::Admin } else { Scope::Pairing });
            Op::Approve { by, view, which }
        }),
        1 => any::<Index>().prop_map(|which| Op::Reject { which }),
        1 => (device.clone(), any::<bool>()).prop_map(|(device, only_node)| Op::Remove { device, only_node }),
        2 => (device.clone(), any::<bool>(), some_scopes(), proptest::option::of(some_scopes())).prop_map(
            |(device, node, by, wanted)| Op::Rotate { device, node, by, wanted }
        ),
        1 => (device, any::<bool>()).prop_map(|(device, node)| Op::Revoke { device, node }),
        1 => (0..7_u64).prop_map(|minutes| Op::Pass { minutes }),
        1 => Just(Op::Restart),
    ]
}

/// What the people in this story gave away, kept apart from the book.
#[derive(Default)]
struct Given {
    /// Scopes that the approvers of this device's role held themselves.
    ceiling: BTreeMap<(DeviceId, Role), Scopes>,
    commands: BTreeMap<DeviceId, BTreeSet<String>>,
    /// Principals that were let in, and whether their grant must be dead by now.
    admitted: Vec<(Principal, SecretString, bool)>,
}

impl Given {
    fn kill(&mut self, device: DeviceId, role: Option<Role>) {
        for (principal, _, dead) in &mut self.admitted {
            let is_meant = principal.device_id() == Some(device) && role.is_none_or(|role| role == principal.role());
            *dead |= is_meant;
        }
        self.ceiling
            .retain(|(id, of), _| *id != device || role.is_some_and(|role| role != *of));
    }
}

fn role_of(node: bool) -> Role {
    if node { Role::Node } else { Role::Operator }
}

fn nth(book: &Book, which: Index, now: u64) -> Option<PendingRequest> {
    let all: Vec<_> = book.requests(now).cloned().collect();
    (!all.is_empty()).then(|| which.get(&all).clone())
}

fn apply(desk: &mut Desk, given: &mut Given, op: Op) -> Result<(), TestCaseError> {
    let admin = holding(&[Scope::Admin]);
    match op {
        Op::Connect {
            device,
            node,
            asked,
            commands,
            platform,
        } => {
            let mut claims = node_claims(&commands);
            claims.role = role_of(node);
            claims.scopes = scopes(&asked);
            claims.client.platform = platform.into();
            claims.client.device_family = String::new();
            connect(desk, given, device, &claims)?;
        }
        Op::Approve { by, view, which } => {
            let view = if view { PairingView::Device } else { PairingView::Node };
            if let Some(request) = nth(&desk.book, which, desk.now) {
                approve(desk, given, &by, view, &request)?;
            }
        }
        Op::Reject { which } => {
            if let Some(request) = nth(&desk.book, which, desk.now) {
                let action = RejectPairing { request: request.id };
                prop_assert!(desk.book.reject(&granted(&admin, action), desk.now).is_ok());
            }
        }
        Op::Remove { device, only_node } => {
            let device = key(device).id;
            let role = only_node.then_some(Role::Node);
            if desk
                .book
                .remove(&granted(&admin, ChangeDevice { device }), role, desk.now)
                .is_ok()
            {
                given.kill(device, role);
                given.commands.remove(&device);
            }
        }
        Op::Rotate {
            device,
            node,
            by,
            wanted,
        } => {
            let (device, role) = (key(device).id, role_of(node));
            rotate(desk, given, device, role, &by, wanted.as_deref())?;
        }
        Op::Revoke { device, node } => {
            let (device, role) = (key(device).id, role_of(node));
            let action = granted(&admin, ChangeDevice { device });
            if desk.book.revoke(&action, role, desk.now).is_ok() {
                given.kill(device, Some(role));
            }
        }
        Op::Pass { minutes } => desk.now += minutes * MINUTE,
        Op::Restart => {
            let records: Vec<_> = desk.book.records().cloned().collect();
            desk.book = Book::restore(records, []);
            // Links do not survive a restart either.
            given.admitted.clear();
        }
    }
    Ok(())
}

fn connect(desk: &mut Desk, given: &mut Given, device: u8, claims: &Claims) -> Result<(), TestCaseError> {
    let before = desk.book.record(key(device).id).cloned();
    let (admission, _) = desk.connect(device, claims);
    let Admission::In(grant) = admission else {
        let after = desk.book.record(key(device).id).cloned();
        prop_assert_eq!(before, after, "asking changes no record");
        return Ok(());
    };
    let before = before.expect("nobody without a record is let in");
    prop_assert!(claims.scopes.cover(&grant.scopes));
    prop_assert!(before.roles[&claims.role].scopes.cover(&grant.scopes));
    prop_assert!(before.surface.covers(&grant.surface));
    prop_assert!(claims.surface.covers(&grant.surface));
    prop_assert_eq!(
        &desk.book.record(key(device).id).expect("there").surface,
        &before.surface
    );
    let principal = Principal::device(key(device).id, grant.role, grant.scopes, grant.generation);
    given
        .admitted
        .push((principal, grant.token.expect("issued").text, false));
    Ok(())
}

fn approve(
    desk: &mut Desk,
    given: &mut Given,
    by: &[Scope],
    view: PairingView,
    request: &PendingRequest,
) -> Result<(), TestCaseError> {
    let who = holding(by);
    let Ok(_) = desk.approve(&who, &request.id, view) else {
        return Ok(());
    };
    let device = request.device.id;
    prop_assert!(who.scopes().cover(&request.scopes));
    prop_assert!(request.role == Role::Operator || !request.reason.keeps_out() || who.scopes().give(Scope::Admin));
    let ceiling = given.ceiling.entry((device, request.role)).or_default();
    *ceiling = ceiling.iter().chain(who.scopes().iter()).collect();
    given
        .commands
        .entry(device)
        .or_default()
        .extend(request.surface.commands.iter().cloned());
    Ok(())
}

fn rotate(
    desk: &mut Desk,
    given: &mut Given,
    device: DeviceId,
    role: Role,
    by: &[Scope],
    wanted: Option<&[Scope]>,
) -> Result<(), TestCaseError> {
    let who = holding(&[by, &[Scope::Pairing]].concat());
    let held = desk.book.record(device).and_then(|record| record.role(role).cloned());
    let action = RotateToken {
        device,
        role,
        scopes: wanted.map(scopes),
    };
    let Ok(rotated) = desk
        .book
        .rotate(&granted(&who, action), &FreshToken([200; 32]), desk.now)
    else {
        return Ok(());
    };
    prop_assert!(who.scopes().cover(&rotated.scopes));
    prop_assert!(held.expect("only a held role rotates").scopes.cover(&rotated.scopes));
    for (principal, _, dead) in &mut given.admitted {
        *dead |= principal.device_id() == Some(device) && principal.role() == role;
    }
    Ok(())
}

fn check(desk: &Desk, given: &Given) -> Result<(), TestCaseError> {
    let mut asking = BTreeSet::new();
    for request in desk.book.requests(desk.now) {
        prop_assert!(asking.insert(request.device.id), "one request per device");
    }
    for record in desk.book.records() {
        for (role, grant) in &record.roles {
            let ceiling = given.ceiling.get(&(record.id, *role));
            prop_assert!(
                ceiling.is_some_and(|ceiling| ceiling.cover(&grant.scopes)),
                "nobody gave this"
            );
            prop_assert!(grant.tokens.len() <= TOKENS);
        }
        let approved = given.commands.get(&record.id);
        for command in &record.surface.commands {
            prop_assert!(
                approved.is_some_and(|commands| commands.contains(command)),
                "{}",
                command
            );
        }
    }
    for (principal, token, dead) in &given.admitted {
        if *dead {
            let id = principal.device_id().expect("a device");
            let accepts = desk
                .book
                .record(id)
                .is_some_and(|record| record.accepts(principal.role(), token));
            prop_assert!(
                !desk.book.is_current(principal) && !accepts,
                "what was revoked came back"
            );
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn authority_only_comes_from_those_who_hold_it(ops in proptest::collection::vec(any_op(), 1..60)) {
        let mut desk = Desk::new();
        let mut given = Given::default();
        for op in ops {
            apply(&mut desk, &mut given, op)?;
            check(&desk, &given)?;
        }
    }
}
