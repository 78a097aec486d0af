//! What the programs weigh: on disk, in memory, in time until they are ready.

use std::time::{Duration, Instant};

use atoll_tests::mesh::{Mesh, Node};
use atoll_tests::program::built;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::echo::Chain;
use crate::table::{self, Budget, MIB, Row, Samples, Table, Unit};

/// Until start-up work is done and the allocator has settled.
const SETTLE: Duration = Duration::from_secs(3);

const STARTS: usize = 9;

pub(crate) async fn size(table: &mut Table) {
    let programs = [
        ("size.gateway", "atoll: stripped binary", "atoll", Some(25.0)),
        (
            "size.node",
            "atoll-node: stripped binary, with screen and mcp",
            "atoll-node",
            None,
        ),
        (
            "size.node.plain",
            "atoll-node: stripped binary, without features",
            PLAIN,
            Some(10.0),
        ),
    ];
    for (key, what, name, limit) in programs {
        let bytes = built(name).metadata().expect("a program that was built").len();
        table.row(weight(key, what, bytes, limit));
    }
}

/// What `scripts/bench` calls the node that was built without any feature.
const PLAIN: &str = "atoll-node-plain";

pub(crate) async fn memory(table: &mut Table) {
    let mut mesh = Mesh::start().await;
    let mut node = mesh.node("idle").await;
    let other = Mesh::start().await;
    let mut plain = plain_node(&other).await;
    tokio::time::sleep(SETTLE).await;
    let (gateway, own) = (mesh.gateway().resident(), node.program().resident());
    let plain = plain.program().resident();
    table.row(weight(
        "memory.gateway",
        "gateway: idle memory, one node",
        gateway,
        Some(15.0),
    ));
    table.row(weight(
        "memory.node",
        "node: idle memory, with screen and mcp",
        own,
        Some(8.0),
    ));
    table.row(weight(
        "memory.node.plain",
        "node: idle memory, without features",
        plain,
        Some(8.0),
    ));
}

/// A node that has no feature.
async fn plain_node(mesh: &Mesh) -> Node {
    let mut node = Node::prepare(&mesh.target(), "plain", &[]);
    node.built_as(PLAIN).run();
    let node = mesh.admit("plain", node).await;
    mesh.connected("plain").await;
    node
}

fn weight(key: &'static str, what: &'static str, bytes: u64, limit: Option<f64>) -> Row {
    Row {
        key: key.to_owned(),
        what: what.to_owned(),
        unit: Unit::Bytes,
        value: table::bytes(bytes),
        bare: None,
        budget: limit.map_or(Budget::None, |limit| Budget::Value(limit * MIB)),
    }
}

/// Compared with a program that only opens a socket and says so.
pub(crate) async fn start(table: &mut Table) {
    let mut mesh = Mesh::start().await;
    let (mut gateway, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..STARTS {
        mesh.stop().await;
        let started = Instant::now();
        mesh.launch();
        while !ready(mesh.target().port).await {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        gateway.add(started.elapsed());
        let started = Instant::now();
        let echo = Chain::echo().await;
        bare.add(started.elapsed());
        drop(echo);
    }
    table.row(Row {
        key: "start.gateway".to_owned(),
        what: "gateway: exec to ready (× a bare listener)".to_owned(),
        unit: Unit::Seconds,
        value: gateway.median(),
        bare: Some(bare.median()),
        budget: Budget::Value(50e-3),
    });
}

/// One `GET /readyz`, with as little around it as possible.
async fn ready(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else {
        return false;
    };
    let request = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    let mut answer = [0; 12];
    stream.write_all(request).await.is_ok() && stream.read_exact(&mut answer).await.is_ok() && answer.ends_with(b" 200")
}
