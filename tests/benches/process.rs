//! What the programs weigh: on disk, in memory, in time until they are ready.

use std::time::{Duration, Instant};

use atoll_tests::mesh::Mesh;
use atoll_tests::program::built;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::table::{Samples, Table, megabytes, time};

/// Until start-up work is done and the allocator has settled.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) async fn size(table: &mut Table) {
    for (name, budget) in [("atoll", "25 MB"), ("atoll-node", "10 MB")] {
        let bytes = built(name).metadata().expect("a program that was built").len();
        table.row(&format!("{name}: stripped binary"), megabytes(bytes), "", budget);
    }
}

pub(crate) async fn memory(table: &mut Table) {
    let mut mesh = Mesh::start().await;
    let mut node = mesh.node("idle").await;
    tokio::time::sleep(SETTLE).await;
    table.row(
        "gateway: idle memory, one node",
        megabytes(mesh.gateway().resident()),
        "",
        "15 MB",
    );
    table.row("node: idle memory", megabytes(node.program().resident()), "", "8 MB");
}

pub(crate) async fn start(table: &mut Table) {
    let mut mesh = Mesh::start().await;
    let mut samples = Samples::default();
    for _ in 0..7 {
        mesh.stop().await;
        let started = Instant::now();
        mesh.launch();
        while !ready(mesh.target().port).await {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        samples.add(started.elapsed());
    }
    table.row("gateway: exec to ready", time(samples.median()), "", "50 ms");
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
