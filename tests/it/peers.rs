//! Mistakes that other assistants' meshes have made, each kept out by a test on the real programs. Those about pairing
//! and frames are in `pairing.rs`, `connect.rs` and `invoke.rs`.

use std::time::{Duration, Instant};

use atoll_protocol::frame::{Challenge, Frame};
use atoll_tests::fake_node::FakeNode;
use atoll_tests::mesh::{Mesh, Node, Pipe, TOKEN};
use atoll_tests::wait::{until, until_time, within};
use atoll_tests::wire::{Target, Wire};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

atoll_tests::over_every_pipe! {
    nobody_but_the_nodes_owner_can_have_a_command_approved,
    a_long_command_holds_up_no_other_command_on_its_node,
    output_beyond_the_cap_is_cut_and_the_node_stays_small,
    a_deadline_kills_everything_that_the_command_started,
    a_command_sees_neither_the_nodes_secrets_nor_a_loader_from_afar,
}

/// Needs no further configuration on a Linux node.
const COMMAND: &str = "system.notify";

fn run(node: &str, argv: &[&str], timeout_ms: u64) -> Value {
    invoke(
        node,
        "system.run",
        json!({"command": argv, "timeoutMs": timeout_ms}),
        timeout_ms + 5_000,
    )
}

fn invoke(node: &str, command: &str, params: Value, timeout_ms: u64) -> Value {
    let key = uuid::Uuid::new_v4().to_string();
    json!({"nodeId": node, "command": command, "params": params, "timeoutMs": timeout_ms, "idempotencyKey": key})
}

async fn call(wire: &mut Wire, request: Value) -> Result<Value, Value> {
    wire.call("node.invoke", request)
        .await
        .map(|mut answer| answer["payload"].take())
}

#[tokio::test]
async fn a_reply_that_comes_at_once_is_not_lost() {
    let mesh = Mesh::start().await;
    let mut operator = mesh.operator().await;
    let mut fake = FakeNode::pair(&mesh.target(), &mut operator, "Instant", &[COMMAND]).await;
    let id = fake.id();
    let answering = tokio::spawn(async move {
        for _ in 0..300 {
            let arrived = fake.invoked(COMMAND).await;
            fake.succeed(&arrived, &json!({})).await.expect("a result in time");
        }
    });
    for n in 0..300 {
        let started = Instant::now();
        call(&mut operator, invoke(&id, COMMAND, json!({}), 15_000))
            .await
            .expect("a result");
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "reply {n} took {:?}",
            started.elapsed()
        );
    }
    within("the node to have answered all", answering)
        .await
        .expect("a node that does not fail");
}

#[tokio::test]
async fn a_node_cannot_answer_for_another() {
    let mesh = Mesh::start().await;
    let mut operator = mesh.operator().await;
    let mut honest = FakeNode::pair(&mesh.target(), &mut operator, "Honest", &[COMMAND]).await;
    let mut liar = FakeNode::pair(&mesh.target(), &mut operator, "Liar", &[COMMAND]).await;
    let id = operator
        .ask("node.invoke", invoke(&honest.id(), COMMAND, json!({}), 9_000))
        .await;
    let arrived = honest.invoked(COMMAND).await;
    for claimed in [liar.id(), honest.id()] {
        let forged = json!({"id": arrived.id, "nodeId": claimed, "ok": true, "payloadJSON": "\"forged\""});
        let answer = liar.wire.call("node.invoke.result", forged).await;
        assert!(
            answer.as_ref().map_or(true, |answer| answer["ignored"] == true),
            "{answer:?}"
        );
    }
    honest
        .succeed(&arrived, &json!("genuine"))
        .await
        .expect("a result in time");
    assert_eq!(operator.answer(&id).await.expect("a result")["payload"], "genuine");
}

async fn nobody_but_the_nodes_owner_can_have_a_command_approved(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let _node = mesh.node("careful").await;
    let id = mesh.connected("careful").await;
    let mut operator = mesh.operator().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mark = folder.path().join("ran").display().to_string();
    let plain = json!({"command": ["touch", mark], "timeoutMs": 5_000});
    let mut claimed = plain.clone();
    for (key, value) in [
        ("approved", json!(true)),
        ("approvalDecision", json!("allow-once")),
        ("runId", json!("r")),
    ] {
        claimed[key] = value;
    }
    for params in [plain, claimed] {
        let error = call(&mut operator, invoke(&id, "system.run", params, 9_000))
            .await
            .expect_err("nobody approved it");
        assert!(!folder.path().join("ran").exists(), "it ran, and then said {error}");
    }
}

async fn a_long_command_holds_up_no_other_command_on_its_node(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let _node = mesh.permissive_node("busy").await;
    let id = mesh.connected("busy").await;
    let mut operator = mesh.operator().await;
    let long = operator.ask("node.invoke", run(&id, &["sleep", "4"], 10_000)).await;
    let started = Instant::now();
    for _ in 0..20 {
        call(
            &mut operator,
            invoke(&id, "system.which", json!({"bins": ["sh"]}), 9_000),
        )
        .await
        .expect("an answer");
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(
        operator.answer(&long).await.expect("a result")["payload"]["exitCode"],
        0
    );
}

/// Processes on this machine whose arguments contain `mark`.
fn processes_with(mark: &str) -> usize {
    let of = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
    let folders = std::fs::read_dir("/proc").expect("a Linux system").flatten();
    folders
        .map(of)
        .filter(|line| line.windows(mark.len()).any(|window| window == mark.as_bytes()))
        .count()
}

async fn a_deadline_kills_everything_that_the_command_started(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let _node = mesh.permissive_node("strict").await;
    let id = mesh.connected("strict").await;
    let mut operator = mesh.operator().await;
    let mark = format!("86400.{}", uuid::Uuid::new_v4().as_u128() % 1_000_000_000);
    let script = format!("sleep {mark} & sleep {mark}");
    let asked = operator
        .ask("node.invoke", run(&id, &["sh", "-c", &script], 1_500))
        .await;
    until("the command to run", async || {
        (processes_with(&mark) >= 2).then_some(())
    })
    .await;
    if let Ok(result) = operator.answer(&asked).await {
        assert_eq!(
            (&result["payload"]["timedOut"], &result["payload"]["exitCode"]),
            (&json!(true), &json!(124)),
            "{result}"
        );
    }
    until("its processes to be gone", async || {
        (processes_with(&mark) == 0).then_some(())
    })
    .await;
}

async fn output_beyond_the_cap_is_cut_and_the_node_stays_small(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let mut node = mesh.permissive_node("loud").await;
    let id = mesh.connected("loud").await;
    let mut operator = mesh.operator().await;
    let before = node.program().resident();
    let loud = ["sh", "-c", "yes 0123456789 | head -c 50000000; echo the end"];
    let result = call(&mut operator, run(&id, &loud, 15_000)).await.expect("a result");
    let output = result["stdout"].as_str().expect("text");
    assert!(output.len() < 1024 * 1024, "{} bytes", output.len());
    assert!(output.ends_with("the end\n"), "the end is what tells how it went");
    let after = node.program().resident();
    assert!(after < before + 16 * 1024 * 1024, "from {before} to {after} bytes");
}

async fn a_command_sees_neither_the_nodes_secrets_nor_a_loader_from_afar(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let _node = mesh.permissive_node("discreet").await;
    let id = mesh.connected("discreet").await;
    let mut operator = mesh.operator().await;
    let result = call(&mut operator, run(&id, &["env"], 9_000)).await.expect("a result");
    let environment = result["stdout"].as_str().expect("text");
    assert!(environment.contains("PATH="), "{environment}");
    assert!(
        !environment.contains(TOKEN) && !environment.contains("ATOLL_GATEWAY_TOKEN"),
        "{environment}"
    );
    for name in ["LD_PRELOAD", "PATH", "BASH_ENV"] {
        let params = json!({"command": ["env"], "env": {name: "/tmp/evil"}, "timeoutMs": 5_000});
        call(&mut operator, invoke(&id, "system.run", params, 9_000))
            .await
            .expect_err("a blocked name");
    }
}

/// Accepts one native link, reads its hello and answers with a challenge whose signature is worthless.
async fn impostor(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (stream, _) = within("a node that dials", listener.accept())
        .await
        .expect("a listener");
    #[expect(clippy::result_large_err, reason = "the shape that the library asks for")]
    let choose = |request: &Request, mut response: Response| {
        if let Some(offered) = request.headers().get("Sec-WebSocket-Protocol") {
            response.headers_mut().insert("Sec-WebSocket-Protocol", offered.clone());
        }
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, choose)
        .await
        .expect("an upgrade");
    let first = within("a hello", socket.next())
        .await
        .expect("a hello")
        .expect("a hello");
    let hello = Frame::decode(&first.into_data(), 64 * 1024).expect("a native frame");
    assert!(matches!(hello, Frame::Hello(_)), "{hello:?}");
    let challenge = Challenge {
        version: 1,
        public_key: [7; 32],
        nonce: [9; 32],
        signature: vec![0; 64],
    };
    let bytes = Frame::Challenge(challenge).encode().expect("a small frame");
    socket.send(Message::binary(bytes)).await.expect("a node that listens");
    socket
}

#[tokio::test]
async fn a_node_signs_nothing_and_tells_nothing_to_a_gateway_that_cannot_prove_its_key() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let target = Target {
        port: listener.local_addr().expect("a bound address").port(),
        token: TOKEN.to_owned(),
    };
    let node = Node::start(&target, "wary", &[]);
    let mut socket = impostor(&listener).await;
    while let Some(Ok(message)) = within("the node to hang up", socket.next()).await {
        if let Message::Binary(bytes) = &message {
            let said = Frame::decode(bytes, 64 * 1024);
            assert!(!matches!(said, Ok(Frame::Proof(_))), "it signed for an impostor");
        }
        assert!(
            !message
                .into_data()
                .windows(TOKEN.len())
                .any(|window| window == TOKEN.as_bytes()),
            "it told the secret"
        );
    }
    drop(node);
}

#[tokio::test]
async fn a_node_that_stops_answering_is_seen_as_gone_and_ends_its_call_when_it_wakes() {
    // Side by side, since this is a minute of waiting.
    tokio::join!(
        stop_answering(Pipe::Ws),
        stop_answering(Pipe::Wss),
        stop_answering(Pipe::Quic)
    );
}

async fn stop_answering(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let mut node = mesh.permissive_node("asleep").await;
    let id = mesh.connected("asleep").await;
    let mut operator = mesh.operator().await;
    let mark = node.state().join("mark");
    let script = format!("echo begun >>{}; sleep 1; echo woken", mark.display());
    let asked = operator
        .ask("node.invoke", run(&id, &["sh", "-c", &script], 150_000))
        .await;
    until("the command to begin", async || mark.exists().then_some(())).await;
    node.program().suspend();
    // Two pings of 25 seconds, or 20 seconds without a packet; the socket itself stays open for minutes.
    until_time("the gateway to give it up", Duration::from_secs(80), async || {
        let row = operator.call("node.describe", json!({"nodeId": id})).await.ok()?;
        (row["connected"] == false).then_some(())
    })
    .await;
    let list = operator.call("node.calls.list", json!({"state": "open"})).await;
    assert_eq!(list.expect("a list")["calls"][0]["state"], "running (node away)");
    let started = Instant::now();
    let error = call(&mut operator, invoke(&id, "system.which", json!({"bins": []}), 9_000))
        .await
        .expect_err("asleep");
    assert_eq!(error["details"]["code"], "NOT_CONNECTED");
    assert!(started.elapsed() < Duration::from_secs(2));
    node.program().wake();
    let answer = operator.answer(&asked).await.expect("a result");
    assert_eq!(answer["payload"]["stdout"], "woken\n", "{pipe:?}");
    let marks = std::fs::read_to_string(&mark).expect("it is there");
    assert_eq!(marks, "begun\n", "{pipe:?}: it ran once");
}

#[tokio::test]
async fn an_approval_outlives_the_gateway() {
    let mut mesh = Mesh::start().await;
    let mut asker = mesh.operator().await;
    let _answerer = mesh.operator().await;
    let request = json!({"command": "uname -a", "commandArgv": ["uname", "-a"], "host": "gateway", "twoPhase": true,
        "timeoutMs": 600_000});
    let accepted = asker.call("exec.approval.request", request).await.expect("accepted");
    assert_eq!(accepted["status"], "accepted");
    mesh.kill().await;
    mesh.run().await;
    let mut answerer = mesh.operator().await;
    let list = answerer
        .call("exec.approval.list", json!({}))
        .await
        .expect("a list")
        .to_string();
    assert!(list.contains(accepted["id"].as_str().expect("an id")), "{list}");
    let decision = json!({"id": accepted["id"], "decision": "deny"});
    answerer
        .call("exec.approval.resolve", decision.clone())
        .await
        .expect("still to be answered");
    let waited = answerer
        .call("exec.approval.waitDecision", json!({"id": accepted["id"]}))
        .await
        .expect("a decision");
    assert_eq!(waited["decision"], "deny");
    answerer
        .call("exec.approval.resolve", decision)
        .await
        .expect_err("answered already");
}
