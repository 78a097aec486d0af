//! A call from an operator through the gateway to a node and back: how it ends, and what the operator is told.
//! `openclaw.rs` holds the real gateway to the same expectations.

use std::time::{Duration, Instant};

use atoll_tests::fake_node::FakeNode;
use atoll_tests::mesh::{Mesh, Pipe};
use atoll_tests::wait::until;
use atoll_tests::wire::{ALL_SCOPES, Target, Wire, operator};
use serde_json::{Value, json};

atoll_tests::over_every_pipe! {
    the_command_line_invokes_a_real_node,
    a_real_node_comes_back_after_the_gateway_was_killed,
}

/// Allowed on a Linux node without further configuration, and never called by a gateway itself.
const COMMAND: &str = "system.notify";

async fn pair(target: &Target) -> (Wire, FakeNode) {
    let (mut operator, _) = Wire::connect(target, operator(&target.token, &ALL_SCOPES), None)
        .await
        .expect("an operator");
    let commands = [
        COMMAND,
        "system.which",
        "device.info",
        "system.execApprovals.get",
        "system.execApprovals.set",
    ];
    let node = FakeNode::pair(target, &mut operator, "Invoked", &commands).await;
    (operator, node)
}

/// Parameters of `node.invoke`.
fn call(node: &FakeNode, command: &str, params: Value, timeout_ms: u64) -> Value {
    let key = uuid::Uuid::new_v4().to_string();
    json!({"nodeId": node.id(), "command": command, "params": params, "timeoutMs": timeout_ms, "idempotencyKey": key})
}

/// Everything a call can come to while its node is connected, and what is said when it is not.
pub(crate) async fn expect_every_ending(target: &Target) {
    let (mut operator, mut node) = pair(target).await;
    result_arrives(&mut operator, &mut node).await;
    error_of_the_node_is_passed_on(&mut operator, &mut node).await;
    silence_is_a_timeout(&mut operator, &mut node).await;
    withheld_commands_never_reach_the_node(&mut operator, &node).await;
    nodes_policy_has_a_door_of_its_own(target, &mut operator, &mut node).await;
    same_id_twice_is_two_calls(&mut operator, &mut node).await;
    absent_node_fails_at_once(&mut operator, node).await;
}

async fn result_arrives(operator: &mut Wire, node: &mut FakeNode) {
    let mut request = call(node, COMMAND, json!({"title": "hello"}), 9_000);
    let id = operator.ask("node.invoke", request.clone()).await;
    let invoke = node.invoked(COMMAND).await;
    assert_eq!(invoke.params(), json!({"title": "hello"}));
    assert_eq!(invoke.payload["nodeId"], node.id());
    assert_eq!(invoke.payload["idempotencyKey"], request["idempotencyKey"]);
    let budget = invoke.payload["timeoutMs"].as_u64().expect("a budget");
    assert!((8_000..=9_000).contains(&budget), "{budget} ms of 9000 are left");
    assert_eq!(
        node.succeed(&invoke, &json!({"shown": true}))
            .await
            .expect("a result in time"),
        json!({"ok": true})
    );
    let answer = operator.answer(&id).await.expect("a result");
    assert_eq!(answer["payload"], json!({"shown": true}));
    assert_eq!(answer["payloadJSON"], json!({"shown": true}).to_string());
    assert_eq!(
        (&answer["ok"], &answer["nodeId"], &answer["command"]),
        (&json!(true), &json!(node.id()), &json!(COMMAND))
    );

    // Without parameters the node gets null, and without a key there is no call.
    request.as_object_mut().expect("an object").remove("params");
    request["idempotencyKey"] = json!(uuid::Uuid::new_v4().to_string());
    let id = operator.ask("node.invoke", request.clone()).await;
    let invoke = node.invoked(COMMAND).await;
    assert_eq!(invoke.payload["paramsJSON"], Value::Null);
    node.succeed(&invoke, &json!(null)).await.expect("a result in time");
    operator.answer(&id).await.expect("a result");
    request.as_object_mut().expect("an object").remove("idempotencyKey");
    let error = operator
        .call("node.invoke", request)
        .await
        .expect_err("the key is required");
    assert!(
        error["message"]
            .as_str()
            .expect("a message")
            .starts_with("invalid node.invoke params: "),
        "{error}"
    );
}

async fn error_of_the_node_is_passed_on(operator: &mut Wire, node: &mut FakeNode) {
    let id = operator.ask("node.invoke", call(node, COMMAND, json!({}), 9_000)).await;
    let invoke = node.invoked(COMMAND).await;
    node.fail(&invoke, "NOTIFICATIONS_DISABLED", "turn them on first")
        .await
        .expect("an error in time");
    let error = operator.answer(&id).await.expect_err("the node's error");
    assert_eq!(error["code"], "UNAVAILABLE");
    assert_eq!(error["message"], "NOTIFICATIONS_DISABLED: turn them on first");
    let node_error = json!({"code": "NOTIFICATIONS_DISABLED", "message": "turn them on first"});
    assert_eq!(error["details"]["nodeError"], node_error);
    assert_eq!(error["details"]["nodeCommandDispatched"], true);
}

async fn silence_is_a_timeout(operator: &mut Wire, node: &mut FakeNode) {
    let id = operator.ask("node.invoke", call(node, COMMAND, json!({}), 600)).await;
    let invoke = node.invoked(COMMAND).await;
    let error = operator.answer(&id).await.expect_err("a timeout");
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!("UNAVAILABLE"), &json!("TIMEOUT: node invoke timed out"))
    );
    let cancel = node.wire.event("node.invoke.cancel").await;
    assert_eq!(
        (&cancel["invokeId"], &cancel["nodeId"]),
        (&json!(invoke.id), &json!(node.id()))
    );
    // Too late, and never asked for: neither disturbs anything.
    assert_eq!(
        node.succeed(&invoke, &json!({})).await.expect("ignored")["ignored"],
        true
    );
    let mut unknown = invoke;
    unknown.id = uuid::Uuid::new_v4().to_string();
    assert_eq!(
        node.succeed(&unknown, &json!({})).await.expect("ignored")["ignored"],
        true
    );
}

async fn nodes_policy_has_a_door_of_its_own(target: &Target, operator: &mut Wire, node: &mut FakeNode) {
    let error = operator
        .call("node.invoke", call(node, "system.execApprovals.get", json!({}), 5_000))
        .await
        .expect_err("the wrong door");
    let message = "node.invoke does not allow system.execApprovals.*; use exec.approvals.node.*";
    assert_eq!(error["message"], message);

    let policy = json!({"path": "/its/file", "exists": true, "file": {"version": 1}, "hash": "abc"});
    let id = operator
        .ask("exec.approvals.node.get", json!({"nodeId": node.id()}))
        .await;
    let invoke = node.invoked("system.execApprovals.get").await;
    node.succeed(&invoke, &policy).await.expect("a result in time");
    assert_eq!(operator.answer(&id).await.expect("the file"), policy);

    let change = json!({"file": {"version": 1, "agents": {}}, "baseHash": "abc"});
    let mut params = change.clone();
    params["nodeId"] = json!(node.id());
    let id = operator.ask("exec.approvals.node.set", params.clone()).await;
    let invoke = node.invoked("system.execApprovals.set").await;
    assert_eq!(invoke.params(), change);
    node.succeed(&invoke, &policy).await.expect("a result in time");
    assert_eq!(operator.answer(&id).await.expect("the new file"), policy);

    let scopes = ["operator.read", "operator.write", "operator.approvals"];
    let (mut lesser, _) = Wire::connect(target, atoll_tests::wire::operator(&target.token, &scopes), None)
        .await
        .expect("an operator");
    for (method, params) in [
        ("exec.approvals.node.get", json!({"nodeId": node.id()})),
        ("exec.approvals.node.set", params),
    ] {
        let error = lesser.call(method, params).await.expect_err("not an admin");
        assert_eq!(error["message"], "missing scope: operator.admin", "{method}");
    }
}

async fn withheld_commands_never_reach_the_node(operator: &mut Wire, node: &FakeNode) {
    let table = [
        ("device.info", "command not allowlisted"),
        ("camera.list", "command not declared by node"),
    ];
    for (command, reason) in table {
        let error = operator
            .call("node.invoke", call(node, command, json!({}), 5_000))
            .await
            .expect_err("withheld");
        assert_eq!(error["code"], "INVALID_REQUEST");
        let message = error["message"].as_str().expect("a message");
        assert!(message.starts_with("node command not allowed: "), "{message}");
        assert_eq!(
            (&error["details"]["reason"], &error["details"]["command"]),
            (&json!(reason), &json!(command))
        );
    }
}

async fn same_id_twice_is_two_calls(operator: &mut Wire, node: &mut FakeNode) {
    for text in ["first", "second"] {
        let params = call(node, COMMAND, json!({"title": text}), 9_000);
        operator
            .send(&json!({"type": "req", "id": "same", "method": "node.invoke", "params": params}))
            .await;
    }
    let (first, second) = (node.invoked(COMMAND).await, node.invoked(COMMAND).await);
    // The later one is answered first: calls do not wait for one another.
    for invoke in [&second, &first] {
        node.succeed(invoke, &invoke.params()).await.expect("a result in time");
        let answer = operator.answer("same").await.expect("a result");
        assert_eq!(answer["payload"], invoke.params());
    }
}

async fn absent_node_fails_at_once(operator: &mut Wire, node: FakeNode) {
    let request = call(&node, COMMAND, json!({}), 9_000);
    let id = node.id();
    node.wire.close().await;
    atoll_tests::wait::until("the node to be seen leaving", async || {
        let row = operator.call("node.describe", json!({"nodeId": id})).await.ok()?;
        (row["connected"] != true).then_some(())
    })
    .await;
    let started = Instant::now();
    let error = operator
        .call("node.invoke", request)
        .await
        .expect_err("nobody is there");
    assert_eq!(
        (&error["code"], &error["details"]["code"]),
        (&json!("UNAVAILABLE"), &json!("NOT_CONNECTED"))
    );
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let stranger = json!({"nodeId": "0".repeat(64), "command": COMMAND, "idempotencyKey": "k"});
    let error = operator
        .call("node.invoke", stranger)
        .await
        .expect_err("nobody knows it");
    assert_eq!(
        (&error["code"], &error["details"]["code"]),
        (&json!("UNAVAILABLE"), &json!("PAIRING_CHANGED"))
    );
}

#[tokio::test]
async fn a_call_ends_with_a_result_an_error_or_a_timeout_and_says_which() {
    let mesh = Mesh::start().await;
    expect_every_ending(&mesh.target()).await;
}

#[tokio::test]
async fn a_result_as_large_as_a_frame_may_be_arrives_whole() {
    let mesh = Mesh::start().await;
    let (mut operator, mut node) = pair(&mesh.target()).await;
    let id = operator
        .ask("node.invoke", call(&node, COMMAND, json!({}), 60_000))
        .await;
    let invoke = node.invoked(COMMAND).await;
    let envelope = |data: &str| {
        let payload = json!({"base64": data}).to_string();
        let params = json!({"id": invoke.id, "nodeId": node.id(), "ok": true, "payloadJSON": payload});
        json!({"type": "req", "id": "result", "method": "node.invoke.result", "params": params}).to_string()
    };
    let room = 25 * 1024 * 1024 - envelope("").len();
    let data = "QUJD".repeat(room / 4);
    node.wire.say(envelope(&data)).await;
    let answer = operator.answer(&id).await.expect("a result");
    assert!(
        answer["payload"]["base64"] == data.as_str(),
        "{} bytes became others",
        data.len()
    );
    node.wire.answer("result").await.expect("the link is alive");
}

#[tokio::test]
async fn a_command_allowed_by_the_owner_reaches_the_node() {
    let mesh = Mesh::with(&json!({"gateway": {"nodes": {"commands": {"allow": ["device.info"]}}}})).await;
    let (mut operator, mut node) = pair(&mesh.target()).await;
    let id = operator
        .ask("node.invoke", call(&node, "device.info", json!({}), 9_000))
        .await;
    let invoke = node.invoked("device.info").await;
    node.succeed(&invoke, &json!({"model": "x"}))
        .await
        .expect("a result in time");
    assert_eq!(operator.answer(&id).await.expect("a result")["payload"]["model"], "x");
}

#[tokio::test]
async fn a_slow_call_holds_up_no_other_call_and_no_other_method() {
    let mesh = Mesh::start().await;
    let (mut operator, mut node) = pair(&mesh.target()).await;
    let slow = operator
        .ask("node.invoke", call(&node, COMMAND, json!({"n": 0}), 15_000))
        .await;
    let waiting = node.invoked(COMMAND).await;
    for n in 1..50 {
        let id = operator
            .ask("node.invoke", call(&node, COMMAND, json!({"n": n}), 9_000))
            .await;
        let invoke = node.invoked(COMMAND).await;
        node.succeed(&invoke, &invoke.params()).await.expect("a result in time");
        assert_eq!(operator.answer(&id).await.expect("a result")["payload"]["n"], n);
        assert_eq!(operator.call("health", json!({})).await.expect("health")["ok"], true);
    }
    node.succeed(&waiting, &json!({"n": 0}))
        .await
        .expect("a result in time");
    assert_eq!(operator.answer(&slow).await.expect("a result")["payload"]["n"], 0);
}

async fn the_command_line_invokes_a_real_node(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let _node = mesh.node("laptop").await;
    let params = json!({"bins": ["sh", "surely-no-such-program"]}).to_string();
    let arguments = [
        "nodes",
        "invoke",
        "--node",
        "laptop",
        "--command",
        "system.which",
        "--params",
        &params,
        "--json",
    ];
    let answer = mesh.cli_json(&arguments).await;
    assert!(
        answer["payload"]["bins"]["sh"]
            .as_str()
            .is_some_and(|path| path.ends_with("/sh")),
        "{answer}"
    );
    assert_eq!(answer["payload"]["bins"].get("surely-no-such-program"), None);
}

async fn a_real_node_comes_back_after_the_gateway_was_killed(pipe: Pipe) {
    let mut mesh = Mesh::start().await.over(pipe);
    let _node = mesh.node("laptop").await;
    mesh.kill().await;
    mesh.run().await;
    let id = mesh.connected("laptop").await;
    let mut operator = mesh.operator().await;
    let request = json!({"nodeId": id, "command": "system.which", "params": {"bins": ["sh"]}, "idempotencyKey": "k"});
    assert!(operator.call("node.invoke", request).await.expect("a result")["payload"]["bins"]["sh"].is_string());
}

#[tokio::test]
async fn a_call_ends_with_the_link_of_the_operator_that_waits_for_it() {
    let mesh = Mesh::start().await;
    let target = mesh.target();
    let (mut watcher, mut node) = pair(&target).await;
    let mut leaving = mesh.operator().await;
    let wanted = call(&node, COMMAND, json!({}), 600_000);
    leaving.ask("node.invoke", wanted).await;
    let invoke = node.invoked(COMMAND).await;
    drop(leaving);
    let cancel = node.wire.event("node.invoke.cancel").await;
    assert_eq!(cancel["invokeId"], json!(invoke.id));
    let left = async || {
        let status = watcher.call("status", json!({})).await.ok()?;
        (status["callsInFlight"] == 0).then_some(())
    };
    until("nothing to be in flight", left).await;
}
