//! Requests to the gateway, and calls through it to a node.

use std::time::{Duration, Instant};

use atoll_tests::mesh::Mesh;
use atoll_tests::wire::Wire;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::echo::{Chain, dial};
use crate::table::{Samples, Table, time, times};

/// Each throughput is measured for this long.
const WINDOW: Duration = Duration::from_secs(4);

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

fn call(node: &str) -> String {
    let params = json!({"nodeId": node, "command": "system.which", "params": {"bins": []}, "idempotencyKey": "bench"});
    request("node.invoke", params)
}

/// How many requests `count` operators get answered in a second.
async fn per_second(mesh: &Mesh, count: usize, request: &str) -> f64 {
    let mut operators = Vec::new();
    for _ in 0..count {
        operators.push(mesh.operator().await);
    }
    let started = Instant::now();
    let working = operators.into_iter().map(|mut wire| {
        let request = request.to_owned();
        tokio::spawn(async move {
            let mut answered = 0_u32;
            while started.elapsed() < WINDOW {
                exchange(&mut wire, &request).await;
                answered += 1;
            }
            answered
        })
    });
    let mut answered = 0;
    for work in working.collect::<Vec<_>>() {
        answered += work.await.expect("an operator that does not fail");
    }
    f64::from(answered) / started.elapsed().as_secs_f64()
}

pub(crate) async fn health(table: &mut Table) {
    let mesh = Mesh::start().await;
    let health = request("health", json!({}));
    let mut wire = mesh.operator().await;
    let mut samples = Samples::default();
    for _ in 0..TURNS * PER_TURN {
        let started = Instant::now();
        exchange(&mut wire, &health).await;
        samples.add(started.elapsed());
    }
    table.row("health: p50 alone", time(samples.median()), "", "50 µs");
    let rate = per_second(&mesh, 64, &health).await;
    table.row("health: per second at 64 operators", format!("{rate:.0}"), "", "40,000");
}

pub(crate) async fn latency(table: &mut Table) {
    let mesh = Mesh::start().await;
    let _node = mesh.node("bench").await;
    let call = call(&mesh.connected("bench").await);
    let mut wire = mesh.operator().await;
    let chain = Chain::start().await;
    let mut bare = dial(chain.port).await;
    let (mut calls, mut echoes) = (Samples::default(), Samples::default());
    for _ in 0..TURNS {
        for _ in 0..PER_TURN {
            let started = Instant::now();
            exchange(&mut wire, &call).await;
            calls.add(started.elapsed());
        }
        for _ in 0..PER_TURN {
            let started = Instant::now();
            bare.send(Message::text(call.as_str())).await.expect("a living chain");
            bare.next().await.expect("a living chain").expect("a living chain");
            echoes.add(started.elapsed());
        }
    }
    for (percent, budget) in [(50, "1.5 ×"), (99, "")] {
        let (call, echo) = (calls.percentile(percent), echoes.percentile(percent));
        table.row(
            &format!("two bare echoes in a chain: p{percent}"),
            time(echo),
            "1 ×",
            "",
        );
        table.row(
            &format!("node.invoke: p{percent}"),
            time(call),
            &times(call, echo),
            budget,
        );
    }
}

pub(crate) async fn throughput(table: &mut Table) {
    let mesh = Mesh::start().await;
    let _node = mesh.node("bench").await;
    let call = call(&mesh.connected("bench").await);
    let rate = per_second(&mesh, 16, &call).await;
    table.row(
        "node.invoke: per second at 16 operators",
        format!("{rate:.0}"),
        "",
        "20,000",
    );
}
