//! Tokens that are taken away, devices that are forgotten, signs of life.

use super::*;

#[test]
fn whoever_may_pair_may_not_cut_a_node_off_by_that_alone() {
    let mut desk = Desk::new();
    let claims = node_claims(&["system.which"]);
    desk.pair(1, &claims);
    let device = key(1).id;
    let pairing = holding(&[Scope::Pairing]);
    let rotate = RotateToken {
        device,
        role: Role::Node,
        scopes: None,
    };
    let refused = desk
        .book
        .rotate(&granted(&pairing, rotate), &FreshToken([9; 32]), 5)
        .expect_err("takes an administrator");
    assert_eq!(refused.to_wire().message, "device token rotation denied");
    let revoke = granted(&pairing, ChangeDevice { device });
    let refused = desk
        .book
        .revoke(&revoke, Role::Node, 5)
        .expect_err("takes an administrator");
    assert_eq!(refused.to_wire().message, "device token revocation denied");
    desk.enter(1, &claims);
}

#[test]
fn what_lost_its_last_role_can_still_be_forgotten_as_a_node() {
    let mut desk = Desk::new();
    desk.pair(1, &node_claims(&["system.which"]));
    let device = key(1).id;
    let admin = holding(&[Scope::Admin]);
    desk.book
        .revoke(&granted(&admin, ChangeDevice { device }), Role::Node, 5)
        .expect("revoked");
    let remove = granted(&admin, ChangeDevice { device });
    desk.book.remove(&remove, Some(Role::Node), 6).expect("forgotten");
    assert!(desk.book.record(device).is_none());
    let remove = granted(&admin, ChangeDevice { device });
    let again = desk.book.remove(&remove, Some(Role::Node), 7).expect_err("gone");
    assert_eq!(again, BookError::UnknownDevice);
}

#[test]
fn a_wider_surface_that_is_refused_leaves_the_node_as_it_was() {
    let mut desk = Desk::new();
    desk.pair(1, &node_claims(&["system.which"]));
    let grant = desk.enter(1, &node_claims(&["system.which", "system.notify"]));
    let SurfaceApproval::Reapproval(request) = grant.approval else {
        panic!("it declares more");
    };
    let reject = granted(&holding(&[Scope::Pairing]), RejectPairing { request });
    let (_, changes) = desk.book.reject(&reject, 5).expect("rejected");
    assert!(
        changes.contains(&Change::Surface(key(1).id)),
        "its link must learn of it"
    );
}

#[test]
fn signs_of_life_are_written_down_once_in_a_while() {
    let mut desk = Desk::new();
    desk.pair(1, &node_claims(&["system.which"]));
    desk.now = 100_000;
    desk.enter(1, &node_claims(&["system.which"]));
    let device = key(1).id;
    assert_eq!(desk.book.seen(device, desk.now + 59_999), (false, Vec::new()));
    let (is_news, changes) = desk.book.seen(device, desk.now + 60_000);
    assert!(
        is_news && matches!(changes.as_slice(), [Change::Seen(_)]),
        "{changes:?}"
    );
    assert_eq!(desk.book.seen(key(9).id, desk.now), (false, Vec::new()));
}
