//! Requests to the gateway, and calls through it to a node.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use atoll_tests::mesh::{Mesh, Pipe};
use atoll_tests::wire::Wire;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::echo::{Chain, dial};
use crate::table::{Budget, Row, Samples, Table, Unit};

/// Each throughput is measured for this long, and several times.
const WINDOW: Duration = Duration::from_secs(2);
const WINDOWS: usize = 3;

/// Latencies are measured in turns, so that both sides of a ratio see the same machine.
const TURNS: usize = 8;
const PER_TURN: usize = 500;

/// One request and its answer, with as little work on this side as possible.
async fn exchange(wire: &mut Wire, request: &str) {
    wire.say(request).await;
    loop {
        let text = wire.text().await;
        if text.contains(r#""id":"bench""#) {
            assert!(text.contains(r#""ok":true"#), "{text}");
            return;
        }
    }
}

fn request(method: &str, params: Value) -> String {
    json!({"type": "req", "id": "bench", "method": method, "params": params}).to_string()
}

/// Stands for a key that is fresh in each request, as clients of the dialect send it.
const FRESH_KEY: &str = "0123456789abcdef";

static KEYS: AtomicU64 = AtomicU64::new(0);

fn call(node: &str) -> String {
    let params =
        json!({"nodeId": node, "command": "system.which", "params": {"bins": []}, "idempotencyKey": FRESH_KEY});
    request("node.invoke", params)
}

fn with_fresh_key(request: &str) -> String {
    request.replace(FRESH_KEY, &format!("{:016x}", KEYS.fetch_add(1, Ordering::Relaxed)))
}

/// Something that asks and waits for the answer.
enum Peer {
    Operator(Wire),
    Bare(WebSocketStream<TcpStream>),
}

impl Peer {
    async fn ask(&mut self, request: &str) {
        match self {
            Self::Operator(wire) => exchange(wire, &with_fresh_key(request)).await,
            Self::Bare(socket) => {
                socket
                    .send(Message::text(with_fresh_key(request)))
                    .await
                    .expect("a living chain");
                socket.next().await.expect("a living chain").expect("a living chain");
            }
        }
    }
}

async fn operators(mesh: &Mesh, count: usize) -> Vec<Peer> {
    let mut peers = Vec::new();
    for _ in 0..count {
        peers.push(Peer::Operator(mesh.operator().await));
    }
    peers
}

async fn bare(chain: &Chain, count: usize) -> Vec<Peer> {
    let mut peers = Vec::new();
    for _ in 0..count {
        peers.push(Peer::Bare(dial(chain.port).await));
    }
    peers
}

/// How many requests these peers get answered in a second, all at once.
async fn per_second(peers: &mut Vec<Peer>, request: &str) -> f64 {
    let started = Instant::now();
    let working = peers.drain(..).map(|mut peer| {
        let request = request.to_owned();
        tokio::spawn(async move {
            let mut answered = 0_u32;
            while started.elapsed() < WINDOW {
                peer.ask(&request).await;
                answered += 1;
            }
            (peer, answered)
        })
    });
    let working: Vec<_> = working.collect();
    let mut answered = 0;
    for work in working {
        let (peer, count) = work.await.expect("a peer that does not fail");
        peers.push(peer);
        answered += count;
    }
    f64::from(answered) / started.elapsed().as_secs_f64()
}

/// The median rates of both, measured in turns.
async fn rates(ours: &mut Vec<Peer>, bare: &mut Vec<Peer>, request: &str) -> (f64, f64) {
    let (mut our_rates, mut bare_rates) = (Vec::new(), Vec::new());
    for _ in 0..WINDOWS {
        our_rates.push(per_second(ours, request).await);
        bare_rates.push(per_second(bare, request).await);
    }
    (middle(our_rates), middle(bare_rates))
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How long both take, measured in turns.
async fn latencies(ours: &mut Peer, bare: &mut Peer, request: &str) -> (Samples, Samples) {
    let (mut our_times, mut bare_times) = (Samples::default(), Samples::default());
    for _ in 0..TURNS {
        for (peer, samples) in [(&mut *ours, &mut our_times), (&mut *bare, &mut bare_times)] {
            for _ in 0..PER_TURN {
                let started = Instant::now();
                peer.ask(request).await;
                samples.add(started.elapsed());
            }
        }
    }
    (our_times, bare_times)
}

pub(crate) async fn health(table: &mut Table) {
    let (mesh, chain) = (Mesh::start().await, Chain::echo().await);
    let health = request("health", json!({}));
    let (mut ours, mut bares) = (operators(&mesh, 1).await, bare(&chain, 1).await);
    let (mut times, mut bare_times) = latencies(&mut ours[0], &mut bares[0], &health).await;
    table.row(Row {
        key: "health.p50".to_owned(),
        what: "health: p50 alone (× a bare echo)".to_owned(),
        unit: Unit::Seconds,
        value: times.median(),
        bare: Some(bare_times.median()),
        budget: Budget::Value(50e-6),
    });
    let (mut ours, mut bares) = (operators(&mesh, 64).await, bare(&chain, 64).await);
    let (rate, bare_rate) = rates(&mut ours, &mut bares, &health).await;
    table.row(Row {
        key: "health.rate".to_owned(),
        what: "health: per second at 64 operators (× a bare echo)".to_owned(),
        unit: Unit::PerSecond,
        value: rate,
        bare: Some(bare_rate),
        budget: Budget::Value(40_000.0),
    });
}

pub(crate) async fn latency(table: &mut Table) {
    let mesh = Mesh::start().await;
    let _node = mesh.node("bench").await;
    let call = call(&mesh.connected("bench").await);
    let chain = Chain::start().await;
    let (mut ours, mut bares) = (operators(&mesh, 1).await, bare(&chain, 1).await);
    let (mut times, mut bare_times) = latencies(&mut ours[0], &mut bares[0], &call).await;
    let rows = [
        (
            "invoke.p50",
            "node.invoke: p50 (× two chained bare echoes)",
            50,
            Budget::Times(1.5),
        ),
        (
            "invoke.p99",
            "node.invoke: p99 (× two chained bare echoes)",
            99,
            Budget::None,
        ),
    ];
    for (key, what, percent, budget) in rows {
        table.row(Row {
            key: key.to_owned(),
            what: what.to_owned(),
            unit: Unit::Seconds,
            value: times.percentile(percent),
            bare: Some(bare_times.percentile(percent)),
            budget,
        });
    }
}

/// The same call over the other pipes, each next to two bare echoes of which the second is over that pipe.
pub(crate) async fn pipes(table: &mut Table) {
    let rows = [
        (
            Pipe::Wss,
            "invoke.wss.p50",
            "node.invoke over TLS WebSocket: p50 (× bare echoes of the same)",
        ),
        (
            Pipe::Quic,
            "invoke.quic.p50",
            "node.invoke over QUIC: p50 (× bare echoes of the same)",
        ),
    ];
    for (pipe, key, what) in rows {
        let mesh = Mesh::start().await.over(pipe);
        let _node = mesh.node("bench").await;
        let call = call(&mesh.connected("bench").await);
        let chain = Chain::over(pipe).await;
        let (mut ours, mut bares) = (operators(&mesh, 1).await, bare(&chain, 1).await);
        let (mut times, mut bare_times) = latencies(&mut ours[0], &mut bares[0], &call).await;
        table.row(Row {
            key: key.to_owned(),
            what: what.to_owned(),
            unit: Unit::Seconds,
            value: times.median(),
            bare: Some(bare_times.median()),
            budget: Budget::Times(1.5),
        });
    }
}

pub(crate) async fn throughput(table: &mut Table) {
    let mesh = Mesh::start().await;
    let _node = mesh.node("bench").await;
    let call = call(&mesh.connected("bench").await);
    let chain = Chain::start().await;
    let (mut ours, mut bares) = (operators(&mesh, 16).await, bare(&chain, 16).await);
    let (rate, bare_rate) = rates(&mut ours, &mut bares, &call).await;
    table.row(Row {
        key: "invoke.rate".to_owned(),
        what: "node.invoke: per second at 16 operators (× chained bare echoes)".to_owned(),
        unit: Unit::PerSecond,
        value: rate,
        bare: Some(bare_rate),
        budget: Budget::Value(20_000.0),
    });
}
