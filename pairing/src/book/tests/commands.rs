//! Commands that the owner approves and withdraws one by one.

use super::*;
use crate::access::ChangeCommands;
use crate::book::record::StoredDevice;

impl Desk {
    fn change(&mut self, who: &[Scope], allow: &[&str], deny: &[&str]) -> Result<Vec<Change>, BookError> {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let action = ChangeCommands {
            device: key(1).id,
            allow: texts(allow),
            deny: texts(deny),
        };
        let granted = granted(&holding(who), action);
        self.book.set_commands(&granted, self.now).map(|(_, changes)| changes)
    }

    fn commands(&mut self, declared: &[&str]) -> (Vec<String>, SurfaceApproval) {
        let grant = self.enter(1, &node_claims(declared));
        (grant.surface.commands, grant.approval)
    }
}

#[test]
fn what_is_withdrawn_is_gone_at_once_and_not_asked_for_again() {
    let mut desk = Desk::new();
    let both = ["system.notify", "system.which"];
    desk.pair(1, &node_claims(&both));
    let changes = desk.change(&[Scope::Admin], &[], &["system.which"]).expect("changed");
    assert!(matches!(&changes[0], Change::Put(record) if record.surface.commands == ["system.notify"]));
    assert!(changes.contains(&Change::Surface(key(1).id)));
    assert_eq!(
        desk.commands(&both),
        (vec!["system.notify".to_owned()], SurfaceApproval::Approved)
    );
    assert!(desk.book.request_of(key(1).id).is_none());
    desk.change(&[Scope::Admin], &["system.which"], &[]).expect("changed");
    assert_eq!(desk.commands(&both).0, both);
}

#[test]
fn approving_a_command_takes_what_approving_its_request_would_take() {
    let mut desk = Desk::new();
    desk.pair(1, &node_claims(&["system.notify"]));
    let clerk = [Scope::Pairing, Scope::Write];
    desk.change(&clerk, &["system.run"], &[]).expect_err("it runs things");
    desk.change(&clerk, &["device.info"], &[]).expect("harmless");
    desk.change(&clerk, &[], &["system.notify"])
        .expect("taking away gives nothing");
}

#[test]
fn an_administrator_opens_a_dangerous_command_on_one_device_by_its_name() {
    let mut desk = Desk::new();
    let policy = CommandPolicy::default();
    desk.pair(1, &node_claims(&["camera.snap", "x.custom"]));
    let is_open = |desk: &mut Desk, command: &str| {
        let facts = desk.enter(1, &node_claims(&["camera.snap", "x.custom"])).facts;
        policy.check(&facts, command).is_ok()
    };
    assert!(!is_open(&mut desk, "camera.snap"));
    desk.change(&[Scope::Pairing, Scope::Write], &["camera.snap"], &[])
        .expect("approved");
    assert!(!is_open(&mut desk, "camera.snap"), "a clerk approves and opens nothing");
    desk.change(&[Scope::Admin], &["camera.snap", "x.custom"], &[])
        .expect("opened");
    assert!(is_open(&mut desk, "camera.snap") && is_open(&mut desk, "x.custom"));
    let stored = StoredDevice::from(desk.book.record(key(1).id).expect("a record"));
    let read = DeviceRecord::try_from(stored).expect("its own");
    assert!(read.opened.contains("x.custom"));
    desk.change(&[Scope::Admin], &[], &["camera.snap"]).expect("closed");
    assert!(!is_open(&mut desk, "camera.snap") && is_open(&mut desk, "x.custom"));
}

#[test]
fn nobody_but_a_node_has_commands() {
    let mut desk = Desk::new();
    assert_eq!(
        desk.change(&[Scope::Admin], &[], &[]).expect_err("unknown"),
        BookError::UnknownDevice
    );
    desk.pair(1, &operator_claims(&[Scope::Read]));
    assert_eq!(
        desk.change(&[Scope::Admin], &[], &[]).expect_err("an operator"),
        BookError::NoSuchRole(Role::Node)
    );
}
