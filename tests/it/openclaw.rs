//! The real OpenClaw programs as peers. Slow: each test starts Node.js programs.

use atoll_tests::mesh::{Mesh, Node, admit};
use atoll_tests::openclaw::{OpenClaw, OpenClawGateway, SLOW};
use atoll_tests::wait::until_time;
use atoll_tests::wire::{ALL_SCOPES, Target, Wire, operator};
use atoll_tests::xserver::XServer;
use serde_json::{Value, json};

use crate::{camera, connect, invoke, pairing, screen, shape};

mod answers;
mod cameras;
mod manage;
mod mcp;

async fn owner(target: &Target) -> Wire {
    Wire::connect(target, operator(&target.token, &ALL_SCOPES), None)
        .await
        .expect("the owner")
        .0
}

fn which(node: &str) -> Value {
    json!({"nodeId": node, "command": "system.which", "params": {"bins": ["sh", "surely-no-such-program"]},
        "idempotencyKey": uuid::Uuid::new_v4().to_string()})
}

fn run(node: &str) -> Value {
    json!({"nodeId": node, "command": "system.run", "params": {"command": ["echo", "hi"]},
        "idempotencyKey": uuid::Uuid::new_v4().to_string()})
}

#[tokio::test]
async fn their_gateway_refuses_as_ours_does() {
    let gateway = OpenClawGateway::start().await;
    connect::expect_first_frames(gateway.target()).await;
    connect::expect_manners_after_hello(gateway.target()).await;
    connect::expect_refusals(gateway.target()).await;
}

#[tokio::test]
async fn their_gateway_ends_calls_as_ours_does() {
    let gateway = OpenClawGateway::start().await;
    invoke::expect_every_ending(gateway.target()).await;
}

#[tokio::test]
async fn their_gateway_gives_and_takes_rights_as_ours_does() {
    let gateway = OpenClawGateway::start().await;
    pairing::expect_lifecycle(gateway.target()).await;
}

#[tokio::test]
async fn their_gateway_answers_as_ours_does() {
    let gateway = OpenClawGateway::start().await;
    shape::expect_refusals(gateway.target()).await;
    shape::expect_fields(gateway.target()).await;
    shape::expect_dealings_with_a_node(gateway.target()).await;
    shape::expect_tokens_of_nodes_to_be_an_administrators(gateway.target()).await;
}

#[tokio::test]
async fn their_command_line_operates_our_gateway() {
    let mesh = Mesh::start().await;
    let peer = OpenClaw::beside(&mesh.target());
    assert_eq!(
        peer.cli_json(&["gateway", "call", "health", "--json"]).await["ok"],
        true
    );
    assert!(
        peer.cli_json(&["gateway", "call", "status", "--json"])
            .await
            .is_object()
    );
    assert!(
        !peer
            .cli(&["gateway", "call", "no.such.method", "--json"])
            .await
            .status
            .success()
    );

    let _node = Node::start(&mesh.target(), "laptop", &[]);
    let request = until_time("the node in their list", SLOW, async || {
        let devices = peer.cli_json(&["devices", "list", "--json"]).await;
        devices["pending"][0]["requestId"].as_str().map(str::to_owned)
    })
    .await;
    let approved = peer.cli_json(&["devices", "approve", &request, "--json"]).await;
    assert_eq!(approved["requestId"], request.as_str(), "{approved}");
    let id = mesh.connected("laptop").await;

    expect_lists(&peer, &id).await;
    let params = json!({"bins": ["sh"]}).to_string();
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
    let invoked = peer.cli_json(&arguments).await;
    assert!(invoked["payload"]["bins"]["sh"].is_string(), "{invoked}");
    peer.cli_json(&["models", "list", "--json"]).await;
    let policy = peer.cli_json(&["approvals", "get", "--node", "laptop", "--json"]).await;
    assert_eq!(policy["file"]["version"], 1, "{policy}");
}

async fn expect_lists(peer: &OpenClaw, id: &str) {
    let devices = peer.cli_json(&["devices", "list", "--json"]).await;
    assert_eq!(devices["paired"][0]["deviceId"], id, "{devices}");
    let pending = peer.cli_json(&["nodes", "pending", "--json"]).await;
    assert!(!pending.to_string().contains(id), "one approval is enough: {pending}");
    let status = peer.cli_json(&["nodes", "status", "--json"]).await;
    assert_eq!(
        (&status["nodes"][0]["nodeId"], &status["nodes"][0]["connected"]),
        (&json!(id), &json!(true)),
        "{status}"
    );
    let described = peer
        .cli_json(&["nodes", "describe", "--node", "laptop", "--json"])
        .await;
    let commands = described["commands"].as_array().expect("commands");
    assert!(
        commands.contains(&json!("system.run")) && commands.contains(&json!("system.which")),
        "{described}"
    );
}

#[tokio::test]
async fn their_two_step_approval_works_on_our_gateway() {
    let mesh = Mesh::start().await;
    let peer = OpenClaw::beside(&mesh.target());
    let _node = Node::start(&mesh.target(), "laptop", &[]);
    let request = until_time("the node in their list", SLOW, async || {
        let pending = peer.cli_json(&["nodes", "pending", "--json"]).await;
        let list = pending.as_array().or_else(|| pending["pending"].as_array())?;
        list.first()?["requestId"].as_str().map(str::to_owned)
    })
    .await;
    peer.cli_json(&["nodes", "approve", &request, "--json"]).await;
    mesh.connected("laptop").await;
}

#[tokio::test]
async fn their_node_serves_our_gateway_and_comes_back_to_it() {
    let mut mesh = Mesh::start().await;
    let peer = OpenClaw::beside(&mesh.target());
    let mut node = peer.node("Their Node");
    let mut owner = mesh.operator().await;
    // It is told to wait and retry, so nobody has to start it again after the approval.
    let id = admit(&mut owner, "Their Node", SLOW).await;
    assert!(node.ended().is_none());
    let found = owner.call("node.invoke", which(&id)).await.expect("an answer")["payload"].take();
    assert!(
        found["bins"]["sh"].is_string() && found["bins"].get("surely-no-such-program").is_none(),
        "{found}"
    );
    // Their fresh node runs everything unasked.
    let ran = owner.call("node.invoke", run(&id)).await.expect("an answer")["payload"].take();
    assert_eq!(
        (&ran["exitCode"], &ran["stdout"], &ran["success"]),
        (&json!(0), &json!("hi\n"), &json!(true)),
        "{ran}"
    );

    mesh.kill().await;
    mesh.run().await;
    let mut owner = mesh.operator().await;
    assert_eq!(admit(&mut owner, "Their Node", SLOW).await, id);
    owner
        .call("node.invoke", which(&id))
        .await
        .expect("an answer after the restart");
    assert!(node.ended().is_none());
}

#[tokio::test]
async fn our_node_serves_their_gateway_through_its_restart() {
    let mut gateway = OpenClawGateway::start().await;
    let _node = Node::start(gateway.target(), "Our Node", &["--dialect", "openclaw"]);
    let mut theirs = owner(gateway.target()).await;
    let id = admit(&mut theirs, "Our Node", SLOW).await;
    let found = theirs.call("node.invoke", which(&id)).await.expect("an answer")["payload"].take();
    assert!(
        found["bins"]["sh"].is_string() && found["bins"].get("surely-no-such-program").is_none(),
        "{found}"
    );
    let error = theirs
        .call("node.invoke", run(&id))
        .await
        .expect_err("our node asks its owner");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| message.contains("SYSTEM_RUN_DENIED")),
        "{error}"
    );

    gateway.stop().await;
    gateway.run().await;
    let mut theirs = owner(gateway.target()).await;
    assert_eq!(admit(&mut theirs, "Our Node", SLOW).await, id);
    theirs
        .call("node.invoke", which(&id))
        .await
        .expect("an answer after the restart");
    let status = gateway.peer.cli_json(&["nodes", "status", "--json"]).await;
    assert_eq!(status["nodes"][0]["connected"], true, "{status}");
}

/// A notify-send that keeps what it was told, one word a line, and the environment with which it is found.
fn desktop() -> (tempfile::TempDir, [(&'static str, String); 2]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("notify-send");
    std::fs::write(&program, "#!/bin/sh\nprintf '%s\\n' \"$@\" >\"${0%/*}/told\"\n").expect("room");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let path = std::env::var("PATH").expect("a path");
    let path = format!("{}:{path}", folder.path().display());
    let bus = "unix:path=/nowhere".to_owned();
    (folder, [("PATH", path), ("DBUS_SESSION_BUS_ADDRESS", bus)])
}

/// The owner's file of a node that says where it is.
fn placed() -> Value {
    json!({"commands": {"location.get": "allow"}, "location": {"fixed": {"lat": 52.520_008, "lon": 13.404_954, "accuracyMeters": 20}}})
}

#[tokio::test]
async fn their_command_line_notifies_and_finds_our_node() {
    let mesh = Mesh::start().await;
    let peer = OpenClaw::beside(&mesh.target());
    let (folder, environment) = desktop();
    let mut node = Node::prepare(&mesh.target(), "laptop", &[]).with_environment(&environment);
    node.rules(&placed());
    node.run();
    let _node = mesh.admit("laptop", node).await;
    let mut notify = vec![
        "nodes", "notify", "--node", "laptop", "--title", "Build", "--body", "Done",
    ];
    notify.extend(["--priority", "timeSensitive", "--sound", "Glass", "--json"]);
    let notified = peer.cli_json(&notify).await;
    assert_eq!(notified["ok"], true, "{notified}");
    let told = std::fs::read_to_string(folder.path().join("told")).expect("it was told");
    assert_eq!(
        told,
        "--app-name=atoll\n--urgency=critical\n--hint=string:sound-name:Glass\n--\nBuild\nDone\n"
    );
    let get = [
        "nodes",
        "location",
        "get",
        "--node",
        "laptop",
        "--accuracy",
        "coarse",
        "--json",
    ];
    let place = peer.cli_json(&get).await;
    let place = place.get("payload").unwrap_or(&place);
    assert_eq!(
        (&place["lat"], &place["lon"], &place["isPrecise"]),
        (&json!(52.52), &json!(13.4), &json!(false)),
        "{place}"
    );
}

#[tokio::test]
async fn our_node_runs_for_their_gateway_what_its_owner_allows() {
    let gateway = OpenClawGateway::start().await;
    let (folder, environment) = desktop();
    let node = Node::prepare(gateway.target(), "Open Node", &["--dialect", "openclaw"]);
    let mut node = node.with_environment(&environment);
    node.rules(&placed());
    node.consent(&json!({"version": 1, "defaults": {"security": "full", "ask": "off"}}));
    node.run();
    let mut theirs = owner(gateway.target()).await;
    let id = admit(&mut theirs, "Open Node", SLOW).await;
    let ran = theirs.call("node.invoke", run(&id)).await.expect("an answer")["payload"].take();
    assert_eq!((&ran["exitCode"], &ran["stdout"]), (&json!(0), &json!("hi\n")), "{ran}");
    let prepare = json!({"nodeId": id, "command": "system.run.prepare", "params": {"command": ["echo", "hi"]},
        "idempotencyKey": "prepare"});
    let plan = theirs.call("node.invoke", prepare).await.expect("a plan")["payload"]["plan"].take();
    assert_eq!(plan["argv"][1], "hi", "{plan}");
    let policy = theirs
        .call("exec.approvals.node.get", json!({"nodeId": id}))
        .await
        .expect("the node's file");
    assert_eq!(policy["file"]["defaults"]["security"], "full", "{policy}");
    // Small capabilities are declared to it as to ours.
    let ask = |command: &str, params: Value| json!({"nodeId": id, "command": command, "params": params, "idempotencyKey": uuid::Uuid::new_v4().to_string()});
    let notify = ask(
        "system.notify",
        json!({"title": "Hello", "body": "there", "delivery": "system"}),
    );
    theirs.call("node.invoke", notify).await.expect("shown");
    assert!(std::fs::read_to_string(folder.path().join("told")).is_ok_and(|told| told.ends_with("--\nHello\nthere\n")));
    let place = theirs
        .call("node.invoke", ask("location.get", json!({})))
        .await
        .expect("a place");
    assert_eq!(place["payload"]["lat"], 52.520_008, "{place}");
}

#[tokio::test]
async fn their_node_comes_in_by_our_setup_code_without_a_question() {
    let mesh = Mesh::start().await;
    let peer = OpenClaw::beside(&mesh.target());
    let mut owner = mesh.operator().await;
    let minted = owner.call("device.pair.setupCode", json!({})).await.expect("a code");
    let mut node = peer.node_by_code("Invited Node", minted["setupCode"].as_str().expect("a code"));
    let status = json!({"setupId": minted["setupId"]});
    let device = until_time("their node to come in", SLOW, async || {
        assert!(node.ended().is_none(), "it ended:\n{}", node.log());
        let reply = owner.call("device.pair.setupStatus", status.clone()).await.ok()?;
        reply["completion"]["deviceId"].as_str().map(str::to_owned)
    })
    .await;
    let list = owner.call("device.pair.list", json!({})).await.expect("a list");
    assert_eq!(list["pending"], json!([]), "{list}");
    let found = owner.call("node.invoke", which(&device)).await.expect("an answer")["payload"].take();
    assert!(found["bins"]["sh"].is_string(), "{found}");
}

#[tokio::test]
async fn our_node_comes_in_by_their_setup_code_without_a_question() {
    let gateway = OpenClawGateway::start().await;
    let mut theirs = owner(gateway.target()).await;
    let asked = theirs
        .call(
            "device.pair.setupCode",
            json!({"bootstrapProfile": "node", "publicUrl": gateway.target().ws()}),
        )
        .await;
    let minted = asked.expect("a code");
    let mut node = Node::prepare(gateway.target(), "Our Guest", &["--dialect", "openclaw"]);
    let code = minted["setupCode"].as_str().expect("a code");
    let paired = node.pair(&format!("oc-pair://{code}")).await;
    assert!(paired.status.success(), "{paired:?}");
    let status = json!({"setupId": minted["setupId"]});
    let status = theirs.call("device.pair.setupStatus", status).await.expect("a status");
    assert!(status["completion"]["deviceId"].is_string(), "{status}");
    node.run();
    let id = until_time("our node to be linked", SLOW, async || {
        let list = theirs.call("node.list", json!({})).await.ok()?;
        let mut rows = list["nodes"].as_array()?.iter();
        let row = rows.find(|row| row["displayName"] == "Our Guest" && row["connected"] == true)?;
        row["nodeId"].as_str().map(str::to_owned)
    })
    .await;
    let found = theirs.call("node.invoke", which(&id)).await.expect("an answer")["payload"].take();
    assert!(found["bins"]["sh"].is_string(), "{found}");
}

#[tokio::test]
async fn their_command_line_records_a_screen_of_our_node() {
    let server = XServer::start(&["320x200x24"]).await;
    let mesh = Mesh::with(&screen::gateway_allows()).await;
    let mut node = Node::prepare(&mesh.target(), "desk", &[]);
    node.rules(&screen::owner_allows(json!({"display": server.display})));
    node.run();
    let _node = mesh.admit("desk", node).await;
    mesh.connected("desk").await;
    let folder = tempfile::tempdir().expect("a folder");
    let film = folder.path().join("film.mp4");
    let out = film.to_str().expect("text");
    let words = "nodes screen record --node desk --duration 1000 --fps 5 --no-audio --json --out";
    let arguments: Vec<&str> = words.split(' ').chain([out]).collect();
    let told = OpenClaw::beside(&mesh.target()).cli_json(&arguments).await;
    assert!(told.to_string().contains("film.mp4"), "{told}");
    let streams = camera::moving::probe(&film).await["streams"].take();
    assert_eq!(
        (&streams[0]["nb_frames"], &streams[0]["width"]),
        (&json!("5"), &json!(320)),
        "{streams}"
    );
}
