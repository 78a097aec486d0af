//! What carries a node's link: QUIC where it works, TLS where it does not, and back again; calls that go on when the network changes.

use std::time::{Duration, Instant};

use atoll_node::ask::Ways;
use atoll_node::config::{Config, Dialect};
use atoll_node::daemon::{self, Notice};
use atoll_pairing::dial::PipeKind;
use atoll_tests::chance::{Chance, seed};
use atoll_tests::mesh::{Mesh, Node, Pipe, TOKEN, admit};
use atoll_tests::wait::{PATIENCE, until, until_time, within, within_time};
use atoll_tests::weather::{Proxy, Weather};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a node says of itself.
fn status(node: &Node) -> Value {
    let text = std::fs::read_to_string(node.state().join("status.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

async fn carried_by(node: &Node, pipe: &str) {
    until(&format!("a link over {pipe}"), async || {
        (status(node)["pipe"] == pipe).then_some(())
    })
    .await;
}

fn run(id: &str, command: &str) -> Value {
    let params = json!({"command": ["sh", "-c", command], "timeoutMs": 20_000});
    json!({"nodeId": id, "command": "system.run", "params": params, "timeoutMs": 20_000,
        "idempotencyKey": uuid::Uuid::new_v4().to_string()})
}

#[tokio::test]
async fn a_node_that_may_choose_takes_quic_and_has_one_memory_of_its_gateway() {
    let mesh = Mesh::start().await.over(Pipe::Any);
    let node = mesh.node("chooser").await;
    carried_by(&node, "quic").await;
    let mut node = node.over(Pipe::Wss);
    node.kill().await;
    node.run();
    carried_by(&node, "wss").await;
    let known = std::fs::read_to_string(node.state().join("gateways.json")).expect("written");
    let known: Value = serde_json::from_str(&known).expect("a tree");
    let place = format!("127.0.0.1:{}", mesh.target().port);
    assert_eq!(known.as_object().map(serde_json::Map::len), Some(1), "{known}");
    assert_eq!(known[&place]["pipe"], "quic", "what was forced is no choice");
}

#[tokio::test]
async fn a_call_goes_on_when_its_node_moves_to_another_address() {
    let mesh = Mesh::start().await;
    let network = Proxy::start(mesh.target().port, Chance::new(seed(), 0)).await;
    let mut node = Node::prepare(&mesh.target(), "phone", &[]).at(&Pipe::Quic.address(network.port()));
    node.consent(&json!({"version": 1, "defaults": {"security": "full", "ask": "off"}}));
    node.run();
    let mut operator = mesh.operator().await;
    let id = admit(&mut operator, "phone", PATIENCE).await;
    let since = |row: &Value| row["connectedAtMs"].as_u64().expect("a time");
    let before = operator
        .call("node.describe", json!({"nodeId": id}))
        .await
        .expect("a row");
    let mark = node.state().join("begun");
    let command = format!(
        "touch {}; sleep 1; head -c 100000 /dev/zero | tr '\\0' x",
        mark.display()
    );
    let call = operator.ask("node.invoke", run(&id, &command)).await;
    until("the command to run", async || mark.exists().then_some(())).await;
    network.move_away();
    let answer = operator.answer(&call).await.expect("a result");
    assert_eq!(answer["payload"]["stdout"].as_str().map(str::len), Some(100_000));
    let after = operator
        .call("node.describe", json!({"nodeId": id}))
        .await
        .expect("a row");
    assert_eq!(since(&after), since(&before), "the link is the same");
}

fn without_udp() -> Weather {
    Weather {
        is_udp_blocked: true,
        ..Weather::default()
    }
}

/// A node inside this process that looks for QUIC again soon, and the pipes that its links use.
fn impatient(address: &str, name: &str, state: &std::path::Path) -> (CancellationToken, mpsc::Receiver<PipeKind>) {
    let (told, pipes) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let config = Config {
        gateway: address.parse().expect("an address"),
        found: None,
        dialect: Dialect::Native,
        token: Some(TOKEN.into()),
        name: name.to_owned(),
        state_dir: state.to_owned(),
        tls_fingerprint: None,
        quic_pause: Duration::from_millis(100),
        ways: Ways::default(),
    };
    let notify = move |notice: Notice| {
        if let Notice::Connected { pipe, .. } = notice {
            let _ = told.try_send(pipe);
        }
    };
    tokio::spawn(daemon::run(config, stop.clone(), notify));
    (stop, pipes)
}

#[tokio::test]
async fn where_datagrams_are_lost_a_node_uses_tls_and_finds_quic_again() {
    let mesh = Mesh::start().await;
    let network = Proxy::start(mesh.target().port, Chance::new(seed(), 0)).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address = Pipe::Any.address(network.port());
    network.set(without_udp());
    let began = Instant::now();
    let (_stop, mut pipes) = impatient(&address, "walled", folder.path());
    let mut operator = mesh.operator().await;
    let id = admit(&mut operator, "walled", PATIENCE).await;
    assert_eq!(within("a link", pipes.recv()).await, Some(PipeKind::Wss));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    network.set(Weather::default());
    assert_eq!(within("a better link", pipes.recv()).await, Some(PipeKind::Quic));
    let which = json!({"nodeId": id, "command": "system.which", "params": {"bins": ["sh"]}, "idempotencyKey": "k"});
    operator
        .call("node.invoke", which.clone())
        .await
        .expect("a result over QUIC");

    network.set(without_udp());
    let again = within_time("a link without datagrams", Duration::from_secs(60), pipes.recv()).await;
    assert_eq!(again, Some(PipeKind::Wss));
    until_time("a result over TLS", PATIENCE, async || {
        let mut which = which.clone();
        which["idempotencyKey"] = json!(uuid::Uuid::new_v4().to_string());
        operator.call("node.invoke", which).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_gateway_whose_udp_port_is_taken_says_so_and_serves_over_tls() {
    let mut mesh = Mesh::start().await.over(Pipe::Any);
    mesh.kill().await;
    let _taken = UdpSocket::bind(("127.0.0.1", mesh.target().port))
        .await
        .expect("its port");
    mesh.run().await;
    let node = mesh.node("late").await;
    carried_by(&node, "wss").await;
    assert!(mesh.gateway().log().contains("no QUIC"), "{}", mesh.gateway().log());
}
