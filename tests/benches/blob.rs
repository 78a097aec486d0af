//! A file of a node on its way into the gateway's store, next to a bare stream between two processes; and commands of the same node
//! meanwhile.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use atoll_tests::mesh::{Mesh, Node, Pipe};
use atoll_tests::program::Program;
use atoll_tests::wire::Wire;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stream;
use crate::table::{Budget, MIB, Row, Samples, Table, Unit, bytes};

/// What flows for a throughput, and how often.
const SIZE: usize = 256 * 1024 * 1024;
const TIMES: usize = 5;

/// What flows while commands run, and how often.
const LARGE: usize = 1024 * 1024 * 1024;
const FLOWS: usize = 3;

/// Commands of a node that has nothing else to do.
const QUIET: usize = 1_000;

/// A program may take this much more memory while a blob flows, whatever the blob's size.
const GROWTH: f64 = 8.0 * MIB;

/// A gateway, and a node with a large file in a folder that its owner opened.
struct Source {
    mesh: Mesh,
    node: Node,
    id: String,
    path: PathBuf,
    _folder: TempDir,
}

impl Source {
    async fn over(pipe: Pipe, size: usize) -> Self {
        let mesh = Mesh::start().await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("film");
        fill(&path, size);
        let mut node = Node::prepare(&mesh.target(), "source", &[]).over(pipe);
        node.open_folder(folder.path());
        node.consent(&json!({"version": 1, "defaults": {"security": "full", "ask": "off"}}));
        node.run();
        let node = mesh.admit("source", node).await;
        let id = mesh.connected("source").await;
        Self {
            mesh,
            node,
            id,
            path,
            _folder: folder,
        }
    }

    /// Fetches the file once; gives the seconds until it is in the store.
    async fn fetch(&self, operator: &mut Wire) -> f64 {
        let params = json!({"path": self.path, "maxBytes": LARGE});
        let started = Instant::now();
        let result = self.invoke(operator, "file.fetch", params).await;
        let took = started.elapsed().as_secs_f64();
        assert_eq!(
            result["blob"]["size"],
            json!(self.path.metadata().expect("a file").len())
        );
        took
    }

    async fn invoke(&self, operator: &mut Wire, command: &str, params: Value) -> Value {
        let key = uuid::Uuid::new_v4().to_string();
        let request = json!({"nodeId": self.id, "command": command, "params": params, "timeoutMs": 60_000, "idempotencyKey": key, "blobs": "handles"});
        let answer = operator.call("node.invoke", request).await.expect("a result");
        answer["payload"].clone()
    }

    /// One command that does nothing.
    async fn command(&self, operator: &mut Wire) -> Duration {
        let started = Instant::now();
        let result = self.invoke(operator, "system.run", json!({"command": ["true"]})).await;
        assert_eq!(result["exitCode"], 0, "{result}");
        started.elapsed()
    }

    /// The gateway's and the node's.
    fn programs(&mut self) -> [&Program; 2] {
        [self.mesh.gateway(), self.node.program()]
    }
}

/// Bytes that no two places share for long.
fn fill(path: &Path, size: usize) {
    let mut file = std::fs::File::create(path).expect("a writable folder");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(1024 * 1024);
    for _ in 0..size / bytes.capacity() {
        bytes.clear();
        while bytes.len() < bytes.capacity() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        file.write_all(&bytes).expect("room on the disk");
    }
}

/// Throughput over both pipes that encrypt, and what it costs in memory.
pub(crate) async fn throughput(table: &mut Table) {
    for (pipe, name, words, bare_words, budget) in [
        (Pipe::Quic, "quic", "QUIC", "a bare quinn stream", Budget::Times(0.8)),
        (Pipe::Wss, "wss", "TLS WebSocket", "a bare TLS stream", Budget::None),
    ] {
        let mut source = Source::over(pipe, SIZE).await;
        let mut operator = source.mesh.operator().await;
        // The first makes room in the store, and in the programs what they keep.
        source.fetch(&mut operator).await;
        let before = source.programs().map(|program| bytes(program.resident()));
        source.programs().into_iter().for_each(Program::forget_peak);
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            ours.push(source.fetch(&mut operator).await);
            bare.push(stream::seconds(pipe, SIZE).await);
        }
        let peak = source.programs().map(|program| bytes(program.peak()));
        let [ours, bare] = [ours, bare].map(rate);
        table.row(Row {
            key: format!("blob.{name}"),
            what: format!("blob from node to gateway over {words} (× {bare_words})"),
            unit: Unit::BytesPerSecond,
            value: ours,
            bare: Some(bare),
            budget,
        });
        for (index, program) in ["gateway", "node"].into_iter().enumerate() {
            table.row(Row {
                key: format!("blob.{name}.{program}"),
                what: format!("{program}: more memory while blobs flow over {words}"),
                unit: Unit::Growth,
                value: peak[index] - before[index],
                bare: None,
                budget: Budget::Value(GROWTH),
            });
        }
    }
}

/// The median of these, as a rate.
fn rate(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    SIZE as f64 / seconds[seconds.len() / 2]
}

/// A command's p99 while a blob flows from the same node, next to the same when nothing flows.
pub(crate) async fn commands(table: &mut Table) {
    let source = Source::over(Pipe::Quic, LARGE).await;
    let (mut operator, mut other) = (source.mesh.operator().await, source.mesh.operator().await);
    source.fetch(&mut other).await;
    let (mut quiet, mut busy) = (Samples::default(), Samples::default());
    for _ in 0..FLOWS {
        for _ in 0..QUIET / FLOWS {
            quiet.add(source.command(&mut operator).await);
        }
        let mut flow = pin!(source.fetch(&mut other));
        loop {
            tokio::select! {
                biased;
                _ = &mut flow => break,
                took = source.command(&mut operator) => busy.add(took),
            }
        }
    }
    let count = busy.len();
    table.row(Row {
        key: "run.beside.p99".to_owned(),
        what: format!("system.run while 1 GiB flows over QUIC: p99 of {count} (× when nothing flows)"),
        unit: Unit::Seconds,
        value: busy.percentile(99),
        bare: Some(quiet.percentile(99)),
        budget: Budget::Times(3.0),
    });
    table.row(Row {
        key: "run.beside.p50".to_owned(),
        what: "system.run while 1 GiB flows over QUIC: p50 (× when nothing flows)".to_owned(),
        unit: Unit::Seconds,
        value: busy.median(),
        bare: Some(quiet.median()),
        budget: Budget::None,
    });
}
