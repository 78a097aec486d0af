//! Records as they are stored and as the lists show them.

use super::*;

#[test]
fn records_survive_storage_and_the_lists_show_no_secret() {
    let mut desk = Desk::new();
    let claims = node_claims(&["system.which"]);
    desk.pair(1, &claims);
    let token = desk.enter(1, &claims).token.expect("issued").text;
    let record = desk.book.record(key(1).id).expect("paired").clone();
    let text = serde_json::to_string(&record::StoredDevice::from(&record)).expect("writes");
    let stored: record::StoredDevice = serde_json::from_str(&text).expect("reads");
    let back = DeviceRecord::try_from(stored).expect("whole");
    assert_eq!(back, record);

    let mut book = Book::restore([back], []);
    let list = book.device_list(desk.now, |_| rows::Presence::default());
    let paired = &list["paired"][0];
    assert_eq!(paired["tokens"][0]["role"], "node");
    assert_eq!(paired["nodeSurface"]["commands"], serde_json::json!(["system.which"]));
    assert_eq!(paired["approvedVia"], "owner");
    assert!(!list.to_string().contains(token.expose_secret()));
    assert_eq!(book.node_list(desk.now)["paired"][0]["nodeId"], key(1).id.to_string());
    let before = record.roles[&Role::Node].generation;
    let rotate = RotateToken {
        device: record.id,
        role: Role::Node,
        scopes: None,
    };
    book.rotate(&granted(&holding(&[Scope::Admin]), rotate), &FreshToken([9; 32]), 9)
        .expect("rotated");
    let after = book
        .record(record.id)
        .map(|record| record.roles[&Role::Node].generation);
    assert!(after > Some(before), "generations go on where they stopped");
}

#[test]
fn a_stored_record_under_a_foreign_id_is_refused() {
    let mut desk = Desk::new();
    desk.pair(1, &node_claims(&[]));
    let record = desk.book.record(key(1).id).expect("paired").clone();
    let forged = DeviceRecord {
        public_key: key(2).public_key,
        ..record
    };
    assert!(DeviceRecord::try_from(record::StoredDevice::from(&forged)).is_err());
}

#[test]
fn the_pending_row_is_the_one_that_the_real_gateway_sends_and_shows_the_commands() {
    let mut desk = Desk::new();
    desk.now = 1_795_169_688_831;
    let (request, ..) = desk.ask(1, &node_claims(&["system.run"]));
    let list = desk.book.device_list(desk.now, |_| rows::Presence::default());
    let expected = serde_json::json!({"pending": [{
        "requestId": request, "deviceId": key(1).id,
        "publicKey": list["pending"][0]["publicKey"], "displayName": "Proto Node",
        "platform": "linux", "deviceFamily": "Linux", "clientId": "node-host", "clientMode": "node", "role": "node",
        "roles": ["node"], "scopes": [], "caps": ["system"], "commands": ["system.run"], "silent": false, "isRepair": false, "ts": 1_795_169_688_831_u64,
    }], "paired": [], "invites": []});
    assert_eq!(list, expected);
    assert_eq!(list["pending"][0]["publicKey"].as_str().map(str::len), Some(43));
}
