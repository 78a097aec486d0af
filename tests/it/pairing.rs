//! Who is let in for what, by whose approval, and how that ends. Whatever a peer says of itself, the record decides.

use atoll_tests::fake_node::{FakeNode, approve};
use atoll_tests::mesh::{Mesh, Node, Pipe, TOKEN};
use atoll_tests::wait::until;
use atoll_tests::wire::{ALL_SCOPES, Device, Refusal, Target, Wire, node, operator};
use serde_json::{Value, json};

atoll_tests::over_every_pipe! {
    a_waiting_native_node_continues_the_moment_it_is_approved,
    the_command_line_approves_what_the_node_prints,
}

mod change;
mod digits;
mod setup;

/// Needs no further configuration on a Linux node.
const COMMAND: &str = "system.notify";

async fn owner(target: &Target) -> Wire {
    Wire::connect(target, operator(&target.token, &ALL_SCOPES), None)
        .await
        .expect("the owner")
        .0
}

async fn knock(target: &Target, device: &Device, params: Value) -> Result<(Wire, Value), Refusal> {
    Wire::connect(target, params, Some(device)).await
}

/// A connect without the shared secret, with the device's own token.
fn with_device_token(mut params: Value, token: &Value) -> Value {
    params["auth"] = json!({"deviceToken": token});
    params
}

fn find<'a>(list: &'a Value, section: &str, key: &str, value: &str) -> Option<&'a Value> {
    list[section].as_array()?.iter().find(|row| row[key] == value)
}

/// How a device's rights change hands: holds for the real gateway too.
pub(crate) async fn expect_lifecycle(target: &Target) {
    let mut owner = owner(target).await;
    approving_a_node_takes_admin(target, &mut owner).await;
    node_is_no_operator(target, &mut owner).await;
    rotating_ends_the_old_token(target, &mut owner).await;
    revoking_ends_the_role(target, &mut owner).await;
    removing_ends_the_link(target, &mut owner).await;
    newest_connection_wins(target, &mut owner).await;
}

async fn approving_a_node_takes_admin(target: &Target, owner: &mut Wire) {
    let device = Device::default();
    let refused = knock(target, &device, node(&target.token, "Asks", &[COMMAND]))
        .await
        .expect_err("unknown");
    let pending = owner.event("device.pair.requested").await;
    assert_eq!(
        (&pending["requestId"], &pending["deviceId"]),
        (&json!(refused.request_id()), &json!(device.id()))
    );
    let (mut clerk, _) = Wire::connect(target, operator(&target.token, &["operator.pairing"]), None)
        .await
        .expect("a clerk");
    let request = json!({"requestId": refused.request_id()});
    let error = clerk
        .call("device.pair.approve", request.clone())
        .await
        .expect_err("more than the clerk holds");
    // The command line asks again with admin when it reads these very words.
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!("INVALID_REQUEST"), &json!("device pairing approval denied"))
    );
    let list = clerk.call("device.pair.list", json!({})).await.expect("a list");
    assert!(
        find(&list, "pending", "requestId", refused.request_id()).is_some(),
        "{list}"
    );
    let rejected = clerk.call("device.pair.reject", request).await;
    assert!(rejected.is_ok(), "{rejected:?}");
    let resolved = owner.event("device.pair.resolved").await;
    assert_eq!(
        (&resolved["requestId"], &resolved["decision"]),
        (&json!(refused.request_id()), &json!("rejected"))
    );
    let list = clerk.call("device.pair.list", json!({})).await.expect("a list");
    assert!(find(&list, "paired", "deviceId", &device.id()).is_none(), "{list}");
}

async fn node_is_no_operator(target: &Target, owner: &mut Wire) {
    let fake = FakeNode::pair(target, owner, "Ambitious", &[COMMAND]).await;
    let token = &fake.hello["auth"]["deviceToken"];
    assert_eq!(token.as_str().map(str::len), Some(43), "{}", fake.hello["auth"]);
    let params = with_device_token(operator("", &ALL_SCOPES), token);
    let refused = knock(target, &fake.device, params)
        .await
        .expect_err("a node's token in an operator's hand");
    assert_eq!(refused.code, Some(1008));
    let (mut again, hello) = knock(
        target,
        &fake.device,
        with_device_token(node("", "Ambitious", &[COMMAND]), token),
    )
    .await
    .expect("the token is still good for its own role");
    assert_eq!(
        (&hello["auth"]["role"], &hello["auth"]["scopes"]),
        (&json!("node"), &json!([]))
    );
    assert_eq!(hello["auth"]["method"], "device-token");
    for method in ["device.pair.list", "node.invoke", "no.such.method"] {
        let error = again.call(method, json!({})).await.expect_err("nothing for nodes");
        assert_eq!(error["message"], "unauthorized role: node", "{method}");
    }
}

async fn rotating_ends_the_old_token(target: &Target, owner: &mut Wire) {
    let mut fake = FakeNode::pair(target, owner, "Rotated", &[COMMAND]).await;
    let old = fake.hello["auth"]["deviceToken"].clone();
    let request = json!({"deviceId": fake.id(), "role": "node"});
    let rotated = owner.call("device.token.rotate", request).await.expect("rotated");
    assert_eq!(
        rotated.get("token"),
        None,
        "the new token is for the device alone: {rotated}"
    );
    assert_eq!(fake.wire.closed().await.0, Some(4001));
    let params = with_device_token(node("", "Rotated", &[COMMAND]), &old);
    let refused = knock(target, &fake.device, params).await.expect_err("the old token");
    assert_eq!(refused.error["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH");
    assert_eq!(
        refused.error["message"],
        "unauthorized: device token mismatch (rotate/reissue device token)"
    );
    let (_, hello) = knock(target, &fake.device, node(&target.token, "Rotated", &[COMMAND]))
        .await
        .expect("the secret");
    assert!(hello["auth"]["deviceToken"].is_string() && hello["auth"]["deviceToken"] != old);
}

async fn revoking_ends_the_role(target: &Target, owner: &mut Wire) {
    let mut fake = FakeNode::pair(target, owner, "Revoked", &[COMMAND]).await;
    let request = json!({"deviceId": fake.id(), "role": "node"});
    owner.call("device.token.revoke", request).await.expect("revoked");
    assert_eq!(fake.wire.closed().await.0, Some(4001));
    let params = node(&target.token, "Revoked", &[COMMAND]);
    let refused = knock(target, &fake.device, params)
        .await
        .expect_err("even with the shared secret");
    let details = &refused.error["details"];
    assert_eq!(
        (&details["code"], &details["reason"]),
        (&json!("PAIRING_REQUIRED"), &json!("role-upgrade"))
    );
}

async fn removing_ends_the_link(target: &Target, owner: &mut Wire) {
    let mut fake = FakeNode::pair(target, owner, "Removed", &[COMMAND]).await;
    owner
        .call("device.pair.remove", json!({"deviceId": fake.id()}))
        .await
        .expect("removed");
    assert_eq!(fake.wire.closed().await, (Some(4001), "device removed".to_owned()));
    let params = node(&target.token, "Removed", &[COMMAND]);
    let refused = knock(target, &fake.device, params).await.expect_err("a stranger again");
    assert_eq!(refused.error["details"]["reason"], "not-paired");
}

async fn newest_connection_wins(target: &Target, owner: &mut Wire) {
    let old = FakeNode::pair(target, owner, "Twice", &[COMMAND]).await;
    let mut new = FakeNode::connect(target, old.device.clone(), "Twice", &[COMMAND])
        .await
        .expect("a second connection");
    let (node, key) = (new.id(), || uuid::Uuid::new_v4().to_string());
    let invoke = || json!({"nodeId": node, "command": COMMAND, "idempotencyKey": key(), "timeoutMs": 9_000});
    let id = owner.ask("node.invoke", invoke()).await;
    let arrived = new.invoked(COMMAND).await;
    new.succeed(&arrived, &json!("new")).await.expect("a result in time");
    assert_eq!(owner.answer(&id).await.expect("a result")["payload"], "new");
    // The old socket's end must not take the new session with it.
    let (device, old_wire) = (old.id(), old.wire);
    old_wire.close().await;
    let id = owner.ask("node.invoke", invoke()).await;
    let arrived = new.invoked(COMMAND).await;
    new.succeed(&arrived, &json!("still")).await.expect("a result in time");
    assert_eq!(owner.answer(&id).await.expect("a result")["payload"], "still");
    let row = owner
        .call("node.describe", json!({"nodeId": device}))
        .await
        .expect("a row");
    assert_eq!(row["connected"], true, "{row}");
}

#[tokio::test]
async fn rights_are_approved_rotated_revoked_and_removed() {
    let mesh = Mesh::start().await;
    expect_lifecycle(&mesh.target()).await;
}

#[tokio::test]
async fn one_approval_in_either_view_admits_a_node_with_its_commands() {
    let mesh = Mesh::start().await;
    let target = mesh.target();
    let mut owner = owner(&target).await;
    for view in ["device.pair", "node.pair"] {
        let device = Device::default();
        let refused = knock(&target, &device, node(TOKEN, view, &[COMMAND]))
            .await
            .expect_err("unknown");
        for list in ["device.pair.list", "node.pair.list"] {
            let list = owner.call(list, json!({})).await.expect("a list");
            assert!(
                find(&list, "pending", "requestId", refused.request_id()).is_some(),
                "{list}"
            );
        }
        let approved = owner
            .call(&format!("{view}.approve"), json!({"requestId": refused.request_id()}))
            .await;
        approved.unwrap_or_else(|error| panic!("{view}: {error}"));
        let mut fake = FakeNode::connect(&target, device.clone(), view, &[COMMAND])
            .await
            .expect("approved");
        for (list, key) in [("device.pair.list", "deviceId"), ("node.pair.list", "nodeId")] {
            let list = owner.call(list, json!({})).await.expect("a list");
            assert!(
                find(&list, "pending", key, &device.id()).is_none(),
                "nothing is left to approve: {list}"
            );
            assert!(find(&list, "paired", key, &device.id()).is_some(), "{list}");
        }
        let key = uuid::Uuid::new_v4().to_string();
        let invoke = json!({"nodeId": device.id(), "command": COMMAND, "idempotencyKey": key});
        let id = owner.ask("node.invoke", invoke).await;
        let arrived = fake.invoked(COMMAND).await;
        fake.succeed(&arrived, &json!({})).await.expect("a result in time");
        owner.answer(&id).await.expect("its commands were approved with it");
    }
}

#[tokio::test]
async fn commands_declared_later_wait_for_approval_and_commands_left_out_are_gone() {
    let mesh = Mesh::start().await;
    let target = mesh.target();
    let mut owner = owner(&target).await;
    let first = FakeNode::pair(&target, &mut owner, "Grows", &[COMMAND]).await;
    let device = first.device.clone();
    let key = || uuid::Uuid::new_v4().to_string();
    let invoke = |command: &str| json!({"nodeId": device.id(), "command": command, "idempotencyKey": key()});

    let grown = [COMMAND, "system.which"];
    let mut fake = FakeNode::connect(&target, device.clone(), "Grows", &grown)
        .await
        .expect("the old rights hold");
    let row = owner
        .call("node.describe", json!({"nodeId": device.id()}))
        .await
        .expect("a row");
    assert_eq!(
        (&row["approvalState"], &row["commands"]),
        (&json!("pending-reapproval"), &json!([COMMAND])),
        "{row}"
    );
    owner
        .call("node.invoke", invoke("system.which"))
        .await
        .expect_err("not approved");
    let id = owner.ask("node.invoke", invoke(COMMAND)).await;
    let arrived = fake.invoked(COMMAND).await;
    fake.succeed(&arrived, &json!({})).await.expect("a result in time");
    owner.answer(&id).await.expect("approved long ago");

    fake.in_force(&mut owner).await;
    let id = owner.ask("node.invoke", invoke("system.which")).await;
    let arrived = fake.invoked("system.which").await;
    fake.succeed(&arrived, &json!({})).await.expect("a result in time");
    owner.answer(&id).await.expect("approved now");

    let _narrow = FakeNode::connect(&target, device.clone(), "Grows", &["system.which"])
        .await
        .expect("less is fine");
    let error = owner
        .call("node.invoke", invoke(COMMAND))
        .await
        .expect_err("not offered any more");
    assert_eq!(error["details"]["reason"], "command not declared by node");
}

#[tokio::test]
async fn an_operators_device_never_gets_more_than_was_approved() {
    let mesh = Mesh::start().await;
    let target = mesh.target();
    let mut owner = owner(&target).await;
    let device = Device::default();
    let asking = |scopes: &[&str]| {
        let mut params = operator(TOKEN, scopes);
        (params["client"]["id"], params["client"]["mode"]) = (json!("openclaw-android"), json!("ui"));
        params
    };
    let refused = knock(&target, &device, asking(&["operator.read"]))
        .await
        .expect_err("unknown");
    assert_eq!(refused.error["details"]["requestedScopes"], json!(["operator.read"]));
    approve(&mut owner, &refused).await;
    let (mut reader, hello) = knock(&target, &device, asking(&["operator.read"]))
        .await
        .expect("approved");
    assert_eq!(hello["auth"]["scopes"], json!(["operator.read"]));
    let invoke = json!({"nodeId": "x", "command": COMMAND, "idempotencyKey": "k"});
    assert_eq!(
        reader.call("node.invoke", invoke).await.expect_err("a reader")["code"],
        "FORBIDDEN"
    );

    let refused = knock(&target, &device, asking(&["operator.admin"]))
        .await
        .expect_err("more than was approved");
    let details = &refused.error["details"];
    assert_eq!(
        (&details["code"], &details["reason"]),
        (&json!("PAIRING_REQUIRED"), &json!("scope-upgrade"))
    );
    assert_eq!(details["approvedScopes"], json!(["operator.read"]));

    // Somebody who may pair but holds no admin cannot hand out admin, by approval or by rotation.
    let (mut clerk, _) = Wire::connect(&target, operator(TOKEN, &["operator.pairing"]), None)
        .await
        .expect("a clerk");
    clerk
        .call("device.pair.approve", json!({"requestId": refused.request_id()}))
        .await
        .expect_err("more than it holds");
    let minted = json!({"deviceId": device.id(), "role": "operator", "scopes": ["operator.admin"]});
    clerk
        .call("device.token.rotate", minted.clone())
        .await
        .expect_err("more than it holds");
    // Nor does rotation by the owner give a device more than its record.
    let _ = owner.call("device.token.rotate", minted).await;
    let refused = knock(&target, &device, asking(&["operator.admin"]))
        .await
        .expect_err("the record still says read");
    assert_eq!(refused.error["details"]["reason"], "scope-upgrade");
}

#[tokio::test]
async fn a_request_with_another_surface_replaces_the_one_before() {
    let mesh = Mesh::start().await;
    let target = mesh.target();
    let mut owner = owner(&target).await;
    let device = Device::default();
    let ask = async |commands: &[&str]| {
        let refused = knock(&target, &device, node(TOKEN, "Changes", commands))
            .await
            .expect_err("unknown");
        refused.request_id().to_owned()
    };
    let harmless = ask(&[COMMAND]).await;
    let dangerous = ask(&[COMMAND, "system.run"]).await;
    assert_ne!(harmless, dangerous, "the owner must not approve what was never shown");
    owner
        .call("device.pair.approve", json!({"requestId": harmless}))
        .await
        .expect_err("it was replaced");
    let list = owner.call("device.pair.list", json!({})).await.expect("a list");
    assert!(find(&list, "pending", "requestId", &dangerous).is_some(), "{list}");
    assert_eq!(
        list["pending"].as_array().map(Vec::len),
        Some(1),
        "one request per device: {list}"
    );
}

#[tokio::test]
async fn what_was_approved_survives_a_kill() {
    let mut mesh = Mesh::start().await;
    let target = mesh.target();
    let mut wire = owner(&target).await;
    let fake = FakeNode::pair(&target, &mut wire, "Kept", &[COMMAND]).await;
    let token = fake.hello["auth"]["deviceToken"].clone();
    mesh.kill().await;
    mesh.run().await;
    let params = with_device_token(node("", "Kept", &[COMMAND]), &token);
    let (_, hello) = knock(&target, &fake.device, params).await.expect("approved before");
    assert_eq!(hello["auth"]["method"], "device-token");
    // The token is not in the clear anywhere in the state folder.
    let token = token.as_str().expect("a token").to_owned();
    for entry in std::fs::read_dir(mesh.state()).expect("a state folder").flatten() {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
        assert!(!found, "the token stands in {}", entry.path().display());
    }
}

async fn a_waiting_native_node_continues_the_moment_it_is_approved(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let mut node = mesh.node("laptop").await;
    assert!(node.program().ended().is_none(), "it never had to be started again");
    let devices = mesh.cli_json(&["devices", "list", "--json"]).await;
    assert_eq!(devices["pending"], json!([]));
    assert_eq!(devices["paired"].as_array().map(Vec::len), Some(1), "{devices}");
}

async fn the_command_line_approves_what_the_node_prints(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let _node = {
        let mut node = Node::prepare(&mesh.target(), "printer", &[]).over(pipe);
        node.run();
        node
    };
    let request = until("a pending request", async || {
        let devices = mesh.cli_json(&["devices", "list", "--json"]).await;
        devices["pending"][0]["requestId"].as_str().map(str::to_owned)
    })
    .await;
    let approved = mesh.cli(&["devices", "approve", &request]).await;
    assert!(approved.status.success(), "{approved:?}");
    mesh.connected("printer").await;
    let twice = mesh.cli(&["devices", "approve", &request]).await;
    assert!(!twice.status.success(), "approved already");
}
