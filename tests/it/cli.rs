//! `atoll` as scripts use it: what each command prints with `--json`, and how a wrong use ends.

use atoll_tests::fake_node::FakeNode;
use atoll_tests::mesh::Mesh;
use atoll_tests::scene::{Scene, Setting};
use atoll_tests::wire::Device;
use serde_json::{Value, json};

use crate::nodes_cli::said;

async fn scene() -> Scene {
    let named = json!({"channels": {"telegram": {"name": "Ann's bot"}}});
    Setting::default().config(&named).start().await
}

async fn printed(mesh: &Mesh, line: &[&str]) -> Value {
    mesh.cli_json(&[line, &["--json"]].concat()).await
}

/// What it says to a person.
async fn told(mesh: &Mesh, line: &[&str]) -> String {
    let (code, told, complaint) = said(&mesh.cli(line).await);
    assert_eq!(code, Some(0), "atoll {line:?}: {complaint}");
    told
}

/// Commands that read, and where scripts look in what they print.
fn reads() -> Vec<(&'static str, &'static [&'static str])> {
    vec![
        (
            "gateway status",
            &[
                "/runtimeVersion",
                "/pid",
                "/port",
                "/stateDir",
                "/sessions/count",
                "/processMemory/rssBytes",
            ],
        ),
        (
            "gateway health",
            &[
                "/ok",
                "/ts",
                "/durationMs",
                "/channels/telegram/running",
                "/agents/0/agentId",
            ],
        ),
        ("gateway call system-presence", &["/0/host", "/0/mode"]),
        (
            "sessions list",
            &[
                "/sessions/0/key",
                "/sessions/0/sessionId",
                "/count",
                "/path",
                "/defaults/model",
            ],
        ),
        (
            "sessions history agent:main:main --limit 2",
            &[
                "/messages/0/role",
                "/messages/1/content/0/text",
                "/sessionKey",
                "/totalMessages",
            ],
        ),
        (
            "channels status",
            &[
                "/channelOrder/0",
                "/channels/telegram/running",
                "/channelAccounts/telegram/0/connected",
            ],
        ),
        (
            "channels list",
            &[
                "/channelAccounts/telegram/0/accountId",
                "/channelDefaultAccountId/telegram",
            ],
        ),
        ("pairing list", &["/requests", "/accounts", "/limits/ttlMs"]),
        ("pairing list telegram", &["/requests", "/commandOwnerConfigured"]),
        (
            "logs --limit 5",
            &["/file", "/cursor", "/size", "/lines/0", "/truncated"],
        ),
        ("devices list", &["/pending", "/paired/0/deviceId", "/paired/0/tokens"]),
        ("nodes list", &["/ts", "/nodes/0/nodeId", "/nodes/0/approvalState"]),
        (
            "nodes describe --node laptop",
            &["/nodeId", "/commands/0", "/connected"],
        ),
        ("approvals list", &[""]),
        ("config get channels.telegram", &["/dmPolicy", "/allowFrom/0"]),
        ("config validate", &["/valid", "/path", "/issues", "/warnings"]),
        (
            "config schema",
            &["/properties/gateway/properties/port", "/properties/channels"],
        ),
        ("config schema --sample", &["/sample"]),
        ("config file", &["/path"]),
    ]
}

#[tokio::test]
async fn what_is_asked_for_as_json_has_what_scripts_look_for() {
    let scene = scene().await;
    let mesh = &scene.mesh;
    let line = ["agent", "--message", "hello"];
    assert_eq!(told(mesh, &line).await, "I heard: hello\n");
    let answer = printed(mesh, &line).await;
    assert_eq!(
        (&answer["status"], &answer["result"]["payloads"]),
        (&json!("ok"), &json!([{"text": "I heard: hello"}]))
    );
    assert!(answer["runId"].is_string(), "{answer}");
    let answer = printed(mesh, &["sessions", "send", "agent:main:notes", "a note"]).await;
    assert_eq!(answer["result"]["payloads"][0]["text"], "I heard: a note", "{answer}");

    for (line, pointers) in reads() {
        let words: Vec<_> = line.split(' ').collect();
        let printed = printed(mesh, &words).await;
        for pointer in pointers {
            assert!(printed.pointer(pointer).is_some(), "{line} has no {pointer}: {printed}");
        }
        let shown = told(mesh, &words).await;
        assert!(!shown.trim().is_empty(), "{line} says nothing to a person");
    }
    let history = printed(mesh, &["sessions", "history", "agent:main:notes"]).await;
    assert_eq!(history["totalMessages"], 2, "{history}");
    assert_eq!(told(mesh, &["logs", "-n", "1"]).await.lines().count(), 1);
    for shell in ["bash", "zsh", "fish"] {
        let script = told(mesh, &["completion", shell]).await;
        assert!(script.contains("atoll") && script.contains("sessions"), "{shell}");
    }
}

#[tokio::test]
async fn commands_that_change_something_change_it() {
    let mut mesh = Mesh::start().await;
    let mut operator = mesh.operator().await;
    let node = FakeNode::pair(&mesh.target(), &mut operator, "first", &["device.info"]).await;
    let id = node.id();
    let name = async |mesh: &Mesh| printed(mesh, &["nodes", "describe", "--node", &id]).await["displayName"].take();
    let renamed = printed(&mesh, &["devices", "rename", "first", "second"]).await;
    assert_eq!(renamed, json!({"deviceId": id, "label": "second"}));
    assert_eq!(name(&mesh).await, "second");
    let renamed = printed(&mesh, &["nodes", "rename", "--node", "second", "--name", "third"]).await;
    assert_eq!(renamed["nodeId"], id, "{renamed}");
    assert_eq!(name(&mesh).await, "third");

    let refused = FakeNode::connect(&mesh.target(), Device::default(), "Unwanted", &["device.info"]).await;
    let request = refused.expect_err("a new device waits").request_id().to_owned();
    let rejected = printed(&mesh, &["devices", "reject", &request[..8]]).await;
    assert_eq!(rejected["requestId"], request, "{rejected}");
    let removed = printed(&mesh, &["devices", "remove", "third"]).await;
    assert_eq!(removed, json!({"deviceId": id}));
    let list = printed(&mesh, &["devices", "list"]).await;
    assert_eq!((&list["pending"], &list["paired"]), (&json!([]), &json!([])));

    let set = printed(&mesh, &["config", "set", "session.dmScope", "per-peer"]).await;
    assert_eq!(set, json!({"ok": true, "path": "session.dmScope"}));
    assert_eq!(printed(&mesh, &["config", "get", "session.dmScope"]).await, "per-peer");
    let unset = printed(&mesh, &["config", "unset", "session.dmScope"]).await;
    assert_eq!(unset, json!({"ok": true, "path": "session.dmScope"}));
    assert_eq!(said(&mesh.cli(&["config", "get", "session.dmScope"]).await).0, Some(1));

    let pid = printed(&mesh, &["gateway", "status"]).await["pid"].take();
    assert_eq!(pid, mesh.gateway().pid());
    assert_eq!(told(&mesh, &["gateway", "stop"]).await, "stopped\n");
    assert!(mesh.gateway().exit().await.success());
    let (code, _, complaint) = said(&mesh.cli(&["gateway", "stop"]).await);
    assert_eq!(code, Some(3), "{complaint}");
}

/// Wrong uses: how the command ends, and a part of the next step in its words.
fn wrong_uses() -> Vec<(&'static [&'static str], i32, &'static str)> {
    vec![
        (&["agent"], 2, "--message"),
        (&["agent", "--message", "x", "--agent", "nobody"], 4, "agents.list"),
        (&["sessions", "history"], 2, "<SESSION>"),
        (&["sessions", "send", "agent:nobody:main", "x"], 4, "agents.list"),
        (&["channels", "restart"], 2, "--help"),
        (&["pairing", "approve", "telegram", "ABCD2345"], 1, "atoll pairing list"),
        (&["devices", "reject", "nope"], 2, "atoll devices list"),
        (&["devices", "remove", "nope"], 2, "there are: laptop"),
        (&["devices", "rename", "nope", "x"], 2, "there are: laptop"),
        (
            &["nodes", "rename", "--node", "nope", "--name", "x"],
            2,
            "there are: laptop",
        ),
        (
            &["nodes", "rename", "--node", "laptop", "--name", " "],
            4,
            "displayName required",
        ),
        (&["approvals", "deny", "nope"], 2, "atoll approvals list"),
        (
            &["gateway", "call", "no.such.method"],
            4,
            "unknown method: no.such.method",
        ),
        (&["gateway", "call", "health", "--params", "{"], 2, "--params"),
        (&["config", "get", "gateway.customBindHost"], 1, "atoll config schema"),
        (&["config", "set", "gateway.port", "many"], 1, "gateway.port"),
        (&["config", "set", "gateway..port", "1"], 2, "gateway..port"),
        (&["config", "unset", "gateway..port"], 2, "gateway..port"),
        (&["completion", "dos"], 2, "bash"),
        (&["logs", "-n", "few"], 2, "--limit"),
        (&["gateway", "status", "--url", "ws://127.0.0.1:9"], 3, "127.0.0.1:9"),
    ]
}

#[tokio::test]
async fn a_wrong_use_says_what_to_do_next() {
    let scene = scene().await;
    let mut wrong = Vec::new();
    for (line, expected, words) in wrong_uses() {
        let (code, shown, complaint) = said(&scene.mesh.cli(line).await);
        if code != Some(expected) || !complaint.contains(words) || !shown.is_empty() {
            wrong.push(format!("{line:?}: {code:?} {shown} {complaint}"));
        }
    }
    assert!(wrong.is_empty(), "otherwise than meant:\n{}", wrong.join("\n"));
    std::fs::write(scene.mesh.state().join("atoll.json"), "{gateway: {port: 'many'}}").expect("a writable folder");
    let (code, shown, complaint) = said(&scene.mesh.cli(&["config", "validate"]).await);
    assert_eq!(code, Some(1));
    assert!(
        format!("{shown}{complaint}").contains("gateway.port"),
        "{shown}{complaint}"
    );

    let nobody = Mesh::prepare(&json!({}));
    let (code, _, complaint) = said(&nobody.cli(&["nodes", "list"]).await);
    assert_eq!(code, Some(3), "{complaint}");
    assert!(
        complaint.contains("atoll gateway run") || complaint.contains("atoll up"),
        "{complaint}"
    );
}
