//! What the methods answer: the fields that clients read and the words of refusals. `openclaw.rs` holds the real gateway to the same
//! expectations.

use atoll_tests::fake_node::FakeNode;
use atoll_tests::mesh::Mesh;
use atoll_tests::wire::{ALL_SCOPES, Target, Wire, operator};
use serde_json::{Value, json};

const COMMANDS: [&str; 5] = [
    "system.run",
    "system.notify",
    "camera.snap",
    "system.execApprovals.get",
    "system.execApprovals.set",
];

async fn owner(target: &Target) -> Wire {
    as_operator(target, &ALL_SCOPES).await
}

async fn as_operator(target: &Target, scopes: &[&str]) -> Wire {
    let connected = Wire::connect(target, operator(&target.token, scopes), None).await;
    connected.expect("an operator").0
}

/// Refusals: the parameters, then what is said about them.
fn refusals() -> Vec<(&'static str, Value, &'static str)> {
    let nobody = "0".repeat(64);
    vec![
        (
            "node.list",
            json!({"x": 1}),
            "invalid node.list params: at root: unexpected property 'x'",
        ),
        (
            "node.pair.list",
            json!({"x": 1}),
            "invalid node.pair.list params: at root: unexpected property 'x'",
        ),
        (
            "device.pair.list",
            json!({"x": 1}),
            "invalid device.pair.list params: at root: unexpected property 'x'",
        ),
        (
            "agents.list",
            json!({"x": 1}),
            "invalid agents.list params: at root: unexpected property 'x'",
        ),
        (
            "node.describe",
            json!({"nodeId": ""}),
            "invalid node.describe params: at /nodeId: must not have fewer than 1 characters",
        ),
        ("node.describe", json!({"nodeId": nobody}), "unknown nodeId"),
        ("node.pair.remove", json!({"nodeId": nobody}), "unknown nodeId"),
        (
            "node.rename",
            json!({"nodeId": nobody, "displayName": " "}),
            "displayName required",
        ),
        (
            "device.pair.rename",
            json!({"deviceId": nobody, "label": " "}),
            "label required",
        ),
        ("device.pair.remove", json!({"deviceId": nobody}), "unknown deviceId"),
        ("device.pair.reject", json!({"requestId": "nope"}), "unknown requestId"),
        (
            "device.token.rotate",
            json!({"deviceId": nobody, "role": "node"}),
            "device token rotation denied",
        ),
        (
            "device.token.revoke",
            json!({"deviceId": nobody, "role": "node"}),
            "device token revocation denied",
        ),
        (
            "node.invoke",
            json!({"nodeId": nobody, "command": "  ", "idempotencyKey": "k"}),
            "nodeId and command required",
        ),
        (
            "exec.approvals.node.get",
            json!({"nodeId": nobody}),
            "NOT_CONNECTED: node not connected",
        ),
        (
            "exec.approval.get",
            json!({"id": "nope"}),
            "unknown or expired approval id",
        ),
        ("approval.get", json!({"id": "nope"}), "approval not found"),
        (
            "approval.resolve",
            json!({"id": "nope", "kind": "exec", "decision": "deny"}),
            "approval not found",
        ),
        (
            "exec.approval.resolve",
            json!({"id": "nope", "decision": "deny"}),
            "unknown or expired approval id",
        ),
        (
            "exec.approval.waitDecision",
            json!({"id": "nope"}),
            "approval expired or not found",
        ),
        ("exec.approval.request", json!({}), "command is required"),
        (
            "exec.approval.request",
            json!({"command": "ls", "host": "node"}),
            "nodeId is required for host=node",
        ),
        (
            "exec.approval.request",
            json!({"command": "ls", "host": "node", "nodeId": nobody}),
            "systemRunPlan is required for host=node",
        ),
        (
            "config.set",
            json!({"raw": "{}"}),
            "config base hash required; re-run config.get and retry",
        ),
        (
            "config.set",
            json!({"raw": "{}", "baseHash": "nope"}),
            "config changed since last load; re-run config.get and retry",
        ),
        (
            "agent",
            json!({"message": "x", "channel": "nope", "idempotencyKey": "k"}),
            "invalid agent params: unknown channel: nope",
        ),
        (
            "chat.send",
            json!({"sessionKey": "agent:main:shape", "message": "", "idempotencyKey": "k"}),
            "message or attachment required",
        ),
    ]
}

pub(crate) async fn expect_refusals(target: &Target) {
    let mut operator = owner(target).await;
    for (method, params, message) in refusals() {
        let error = operator.call(method, params.clone()).await.expect_err(method);
        assert!(error["code"].is_string(), "{method} {params}: {error}");
        assert_eq!(error["message"], message, "{method} {params}");
    }
    let error = operator.call("exec.approval.get", json!({"id": "nope"})).await;
    let error = error.expect_err("never asked");
    assert_eq!(
        (&error["code"], &error["details"]["reason"]),
        (&json!("INVALID_REQUEST"), &json!("APPROVAL_NOT_FOUND"))
    );
    for method in ["health", "status", "system-presence"] {
        let answer = operator.call(method, json!({"of": "another release"})).await;
        answer.unwrap_or_else(|error| panic!("{method} takes anything: {error}"));
    }
}

/// Where clients look in the answers to methods without side effects.
fn fields() -> Vec<(&'static str, Value, &'static [&'static str])> {
    vec![
        (
            "health",
            json!({}),
            &[
                "/ok",
                "/ts",
                "/durationMs",
                "/channels",
                "/channelOrder",
                "/channelLabels",
                "/heartbeatSeconds",
                "/defaultAgentId",
                "/agents/0/agentId",
                "/agents/0/heartbeat/enabled",
                "/agents/0/sessions/count",
                "/sessions/path",
                "/sessions/count",
                "/sessions/recent",
            ],
        ),
        (
            "status",
            json!({}),
            &[
                "/runtimeVersion",
                "/pid",
                "/heartbeat/defaultAgentId",
                "/heartbeat/agents/0/every",
                "/channelSummary",
                "/queuedSystemEvents",
                "/sessions/paths/0",
                "/sessions/count",
                "/sessions/defaults/contextTokens",
                "/sessions/recent",
                "/sessions/byAgent/0/agentId",
                "/processMemory/rssBytes",
            ],
        ),
        (
            "system-presence",
            json!({}),
            &[
                "/0/host",
                "/0/version",
                "/0/platform",
                "/0/deviceFamily",
                "/0/mode",
                "/0/reason",
                "/0/text",
                "/0/ts",
            ],
        ),
        (
            "sessions.list",
            json!({}),
            &[
                "/ts",
                "/path",
                "/count",
                "/totalCount",
                "/limitApplied",
                "/hasMore",
                "/defaults/modelProvider",
                "/defaults/model",
                "/defaults/contextTokens",
                "/sessions",
            ],
        ),
        (
            "chat.history",
            json!({"sessionKey": "agent:main:shape"}),
            &[
                "/sessionKey",
                "/messages",
                "/hasMore",
                "/totalMessages",
                "/defaults/model",
            ],
        ),
        (
            "channels.status",
            json!({}),
            &[
                "/ts",
                "/channelOrder",
                "/channelLabels",
                "/channelDetailLabels",
                "/channelSystemImages",
                "/channelMeta",
                "/channels",
                "/channelAccounts",
                "/channelDefaultAccountId",
                "/statusIssues",
            ],
        ),
        (
            "agents.list",
            json!({}),
            &["/defaultId", "/mainKey", "/scope", "/agents/0/id"],
        ),
        ("models.list", json!({"includeDetails": true}), &["/models"]),
        (
            "logs.tail",
            json!({}),
            &["/file", "/cursor", "/size", "/lines", "/truncated", "/reset"],
        ),
        (
            "config.get",
            json!({}),
            &[
                "/path",
                "/exists",
                "/valid",
                "/config",
                "/parsed",
                "/issues",
                "/warnings",
                "/legacyIssues",
                "/hash",
            ],
        ),
        (
            "config.schema",
            json!({}),
            &["/schema/properties", "/uiHints", "/version", "/generatedAt"],
        ),
    ]
}

pub(crate) async fn expect_fields(target: &Target) {
    let mut operator = owner(target).await;
    for (method, params, pointers) in fields() {
        let answer = operator.call(method, params).await.expect(method);
        for pointer in pointers {
            assert!(answer.pointer(pointer).is_some(), "{method} has no {pointer}: {answer}");
        }
    }
}

/// Reports of a node, and whether they did something.
fn reports() -> Vec<(&'static str, Value, bool, &'static str)> {
    let stats = json!({"cpuCount": 2, "memoryTotalBytes": 1000, "memoryFreeBytes": 10});
    vec![
        ("node.host.stats", stats, true, "updated"),
        ("node.host.stats", json!({"cpuCount": 2}), false, "invalid_payload"),
        ("node.presence.activity", json!({}), false, "invalid_payload"),
        (
            "node.presence.activity",
            json!({"idleSeconds": 3}),
            false,
            "permission_required",
        ),
        (
            "exec.started",
            json!({"runId": "nobody's"}),
            false,
            "unmatched_exec_event",
        ),
        (
            "exec.denied",
            json!({"runId": "nobody's", "reason": "x"}),
            false,
            "unmatched_exec_event",
        ),
        ("of.another.release", json!({}), false, "unsupported_event"),
    ]
}

pub(crate) async fn expect_dealings_with_a_node(target: &Target) {
    let mut operator = owner(target).await;
    let mut node = FakeNode::pair(target, &mut operator, "Shaped", &COMMANDS).await;
    for (event, payload, handled, reason) in reports() {
        let params = json!({"event": event, "payloadJSON": payload.to_string()});
        let taken = node.wire.call("node.event", params).await.expect("a known node");
        let expected = json!({"ok": true, "event": event, "handled": handled, "reason": reason});
        assert_eq!(taken, expected, "{payload}");
    }
    let alive = json!({"event": "node.presence.alive", "payloadJSON": "{\"trigger\":\"manual\"}"});
    let taken = node.wire.call("node.event", alive).await.expect("a known node");
    assert_eq!(taken["handled"], true, "{taken}");
    let row = operator
        .call("node.describe", json!({"nodeId": node.id()}))
        .await
        .expect("a row");
    let commands = row["commands"].as_array().expect("commands");
    assert!(!commands.contains(&json!("camera.snap")), "not let through: {row}");
    assert!(commands.contains(&json!("system.run")), "{row}");
    calls_are_cleaned(&mut operator, &mut node).await;
    let id = node.id();
    node.wire.close().await;
    gone(&mut operator, &id).await;
    let row = operator
        .call("node.describe", json!({"nodeId": id}))
        .await
        .expect("a row");
    let commands = row["commands"].as_array().expect("commands");
    assert!(commands.contains(&json!("system.run")), "it has them still: {row}");
}

async fn gone(operator: &mut Wire, id: &str) {
    atoll_tests::wait::until("the node to be seen leaving", async || {
        let row = operator.call("node.describe", json!({"nodeId": id})).await.ok()?;
        (row["connected"] != true).then_some(())
    })
    .await;
}

async fn calls_are_cleaned(operator: &mut Wire, node: &mut FakeNode) {
    let call = |command: &str, params: Value| {
        let key = uuid::Uuid::new_v4().to_string();
        json!({"nodeId": node.id(), "command": command, "params": params, "timeoutMs": 9_000, "idempotencyKey": key})
    };
    let refused = operator.call("node.invoke", call("camera.snap", json!({}))).await;
    let refused = refused.expect_err("the owner has not allowed it");
    let message = "node command not allowed: \"camera.snap\" requires explicit gateway.nodes.commands.allow opt-in";
    assert_eq!(refused["message"], message);
    let lie = json!({"command": ["rm", "-rf", "/"], "rawCommand": "ls"});
    let refused = operator.call("node.invoke", call("system.run", lie)).await;
    let refused = refused.expect_err("the text is not the command's");
    assert_eq!(refused["details"]["code"], "RAW_COMMAND_MISMATCH", "{refused}");
    let claim = json!({"command": ["ls"], "approved": true});
    let refused = operator.call("node.invoke", call("system.run", claim)).await;
    let refused = refused.expect_err("nobody approved it");
    assert_eq!(refused["message"], "approval override requires params.runId");

    let params = json!({"command": ["ls"], "rawCommand": "ls", "cwd": "/", "surprise": 1});
    let mut request = call(" system.run ", params);
    request["timeoutMs"] = json!(0);
    let id = operator.ask("node.invoke", request).await;
    let invoke = node.invoked("system.run").await;
    let mut heard = invoke.params();
    assert!(heard["runId"].as_str().is_some_and(|run| !run.is_empty()), "{heard}");
    heard.as_object_mut().expect("an object").remove("runId");
    assert_eq!(heard, json!({"command": ["ls"], "rawCommand": "ls", "cwd": "/"}));
    // Some nodes write null for what they leave out.
    let result = json!({"id": invoke.id, "nodeId": node.id(), "ok": true, "payload": {"exitCode": 0},
        "payloadJSON": null, "error": null});
    node.wire
        .call("node.invoke.result", result)
        .await
        .expect("a result in time");
    let answer = operator.answer(&id).await.expect("a result");
    assert_eq!(
        (&answer["command"], &answer["payload"]["exitCode"]),
        (&json!("system.run"), &json!(0))
    );
}

/// Who may pair may not cut nodes off by that alone.
pub(crate) async fn expect_tokens_of_nodes_to_be_an_administrators(target: &Target) {
    let mut operator = owner(target).await;
    let node = FakeNode::pair(target, &mut operator, "Held", &COMMANDS).await;
    let mut lesser = as_operator(target, &["operator.pairing"]).await;
    for (method, word) in [
        ("device.token.rotate", "rotation"),
        ("device.token.revoke", "revocation"),
    ] {
        let error = lesser
            .call(method, json!({"deviceId": node.id(), "role": "node"}))
            .await;
        let error = error.expect_err("takes an administrator");
        assert_eq!(error["message"], format!("device token {word} denied"));
    }
    let row = operator
        .call("node.describe", json!({"nodeId": node.id()}))
        .await
        .expect("a row");
    assert_eq!(row["connected"], true, "{row}");
}

async fn mesh() -> Mesh {
    // A file, so that there is something to overwrite; a model, so that there are defaults to show.
    let model = json!({"id": "m", "name": "M", "contextWindow": 1000});
    let provider =
        json!({"baseUrl": "http://127.0.0.1:9/v1", "apiKey": "k", "api": "openai-completions", "models": [model]});
    Mesh::with(&json!({"models": {"providers": {"fake": provider}},
        "agents": {"defaults": {"model": {"primary": "fake/m"}}}}))
    .await
}

#[tokio::test]
async fn refusals_have_the_words_that_clients_know() {
    expect_refusals(&mesh().await.target()).await;
}

#[tokio::test]
async fn answers_have_the_fields_that_clients_read() {
    expect_fields(&mesh().await.target()).await;
}

#[tokio::test]
async fn what_operators_and_nodes_say_to_one_another_is_cleaned_on_its_way() {
    expect_dealings_with_a_node(&mesh().await.target()).await;
}

#[tokio::test]
async fn tokens_of_nodes_are_an_administrators_business() {
    expect_tokens_of_nodes_to_be_an_administrators(&mesh().await.target()).await;
}
