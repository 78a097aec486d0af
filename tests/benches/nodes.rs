//! Many idle nodes on one gateway: what each costs in memory, what all of them cost in processor time, and how soon all are back
//! after a gateway that was killed.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atoll_gateway::journal::records::{self, Edit, Kind};
use atoll_node::state::StateDir;
use atoll_pairing::identity::Identity;
use atoll_tests::mesh::{Mesh, Pipe};
use atoll_tests::wait::until;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::across::{self, Calls};
use crate::crowd::{self, Crowd};
use crate::table::{Budget, Row, Table, Unit, bytes};

/// So many on a gateway each; the last one is the storm's.
const COUNTS: [usize; 4] = [1, 100, 1_000, 10_000];

/// More, that come after the storm and have calls waiting for them.
const LATE: usize = across::EACH;

/// How long the processor is watched: once around for every beat of a link.
const REST: Duration = Duration::from_secs(60);

/// Until a gateway has settled.
const SETTLE: Duration = Duration::from_secs(3);

/// Where every sync is free. Each real node syncs to a disk of its own, and these would share one.
const MEMORY: &str = "/dev/shm";

/// Within which all are back.
const BACK: f64 = 30.0;

const KIB: f64 = 1024.0;

/// What carries the links, and its words.
#[derive(Clone, Copy)]
struct Over {
    pipe: Pipe,
    name: &'static str,
    words: &'static str,
    /// The gateway may take so much memory for one more node, bytes.
    each: f64,
}

impl Over {
    fn pipe(pipe: Pipe, name: &'static str, words: &'static str, kib_each: f64) -> Self {
        Self {
            pipe,
            name,
            words,
            each: kib_each * KIB,
        }
    }
}

/// Over plain WebSocket, as through an SSH tunnel.
pub(crate) async fn over_ws(table: &mut Table) {
    measure(table, Over::pipe(Pipe::Ws, "ws", "WebSocket", 20.0)).await;
}

/// Over WebSocket with TLS.
pub(crate) async fn over_wss(table: &mut Table) {
    measure(table, Over::pipe(Pipe::Wss, "wss", "TLS WebSocket", 20.0)).await;
}

/// Over QUIC.
pub(crate) async fn over_quic(table: &mut Table) {
    measure(table, Over::pipe(Pipe::Quic, "quic", "QUIC", 60.0)).await;
}

/// A gateway and its nodes.
struct Ring {
    over: Over,
    mesh: Mesh,
    crowd: Crowd,
    folder: PathBuf,
    ids: Vec<String>,
    count: usize,
    /// Resident memory of the gateway that knew no node yet, and that of one that knew all and had none, bytes.
    empty: f64,
    paired: f64,
}

async fn measure(table: &mut Table, over: Over) {
    let folder = memory_folder();
    let record = a_record().await;
    let mut rings = Vec::new();
    for count in counts() {
        rings.push(Ring::start(over, folder.path(), &record, count).await);
    }
    let before: Vec<_> = rings
        .iter_mut()
        .map(|ring| ring.mesh.gateway().processor_time())
        .collect();
    tokio::time::sleep(REST).await;
    for (ring, before) in rings.iter_mut().zip(before) {
        let spent = ring.mesh.gateway().processor_time().saturating_sub(before);
        ring.at_rest(table, spent);
    }
    let mut last = rings.pop().expect("the largest");
    drop(rings);
    last.for_one(table);
    last.storm(table).await;
}

/// `ATOLL_NODES` says how many at most, for smaller machines and shorter runs.
fn counts() -> impl Iterator<Item = usize> {
    let most = match std::env::var("ATOLL_NODES") {
        Ok(text) => text.parse().expect("ATOLL_NODES is a number"),
        Err(_) => usize::MAX,
    };
    COUNTS.into_iter().filter(move |count| *count <= most)
}

/// Where state folders cost no disk.
fn memory_folder() -> TempDir {
    let place = Path::new(MEMORY);
    if place.is_dir() {
        tempfile::tempdir_in(place).expect("room in memory")
    } else {
        tempfile::tempdir().expect("a temporary folder")
    }
}

/// What a gateway stores of a real node that was approved by hand.
async fn a_record() -> Value {
    let mut mesh = Mesh::start().await;
    let node = mesh.permissive_node("first").await;
    drop(node);
    mesh.stop().await;
    let stored = records::all(&database(mesh.state()), Kind::Device).expect("readable");
    let stored = stored
        .iter()
        .map(|text| serde_json::from_str::<Value>(text).expect("a tree"));
    let mut nodes = stored.filter(|record| record["roles"]["node"].is_object());
    nodes.next().expect("the node's record")
}

fn database(state: &Path) -> Connection {
    Connection::open(state.join("state.db")).expect("a journal")
}

/// The same for these keys: as if their owner had approved one after the other.
fn pair(state: &Path, record: &Value, keys: &[Identity]) {
    let mut database = database(state);
    let transaction = database.transaction().expect("nobody else writes");
    for key in keys {
        let id = key.device_id().to_string();
        let mut record = record.clone();
        record["id"] = json!(id);
        record["publicKey"] = json!(key.public_key());
        let edit = Edit::Put(Kind::Device, id, record.to_string());
        records::edit(&transaction, &edit).expect("room on the disk");
    }
    transaction.commit().expect("room on the disk");
}

impl Ring {
    async fn start(over: Over, folder: &Path, record: &Value, count: usize) -> Self {
        let folder = folder.join(format!("{count}-nodes"));
        let keys: Vec<Identity> = (0..count + LATE)
            .map(|number| StateDir::open(&crowd::folder(&folder, number)).and_then(|state| state.identity()))
            .collect::<Result<_, _>>()
            .expect("room in memory");
        let mut mesh = Mesh::start().await;
        tokio::time::sleep(SETTLE).await;
        let empty = bytes(mesh.gateway().resident());
        mesh.stop().await;
        pair(mesh.state(), record, &keys);
        mesh.run().await;
        tokio::time::sleep(SETTLE).await;
        let paired = bytes(mesh.gateway().resident());
        let ids = keys.iter().map(|key| key.device_id().to_string()).collect();
        for number in (0..count.min(LATE)).chain(count..count + LATE) {
            across::allow(&crowd::folder(&folder, number));
        }
        let crowd = Crowd::start(&over.pipe.address(mesh.target().port), &folder, 0..count).await;
        let started = Instant::now();
        crowd.linked().await;
        eprintln!("  {count} linked after {:.1} s", started.elapsed().as_secs_f64());
        Self {
            over,
            mesh,
            crowd,
            folder,
            ids,
            count,
            empty,
            paired,
        }
    }

    fn at_rest(&mut self, table: &mut Table, spent: Duration) {
        let Over { name, words, .. } = self.over;
        let count = self.count;
        let nodes = if count == 1 { "node" } else { "nodes" };
        table.row(Row {
            key: format!("nodes.{name}.{count}.memory"),
            what: format!("gateway with {count} idle {nodes} over {words}: memory"),
            unit: Unit::Bytes,
            value: bytes(self.mesh.gateway().resident()),
            bare: None,
            budget: Budget::None,
        });
        table.row(Row {
            key: format!("nodes.{name}.{count}.processor"),
            what: format!("gateway with {count} idle {nodes} over {words}: processor a minute"),
            unit: Unit::Seconds,
            value: spent.as_secs_f64() * 60.0 / REST.as_secs_f64(),
            bare: None,
            budget: Budget::None,
        });
    }

    /// What one node of many costs.
    fn for_one(&mut self, table: &mut Table) {
        let Over { name, words, each, .. } = self.over;
        let count = u32::try_from(self.count).map_or(f64::INFINITY, f64::from);
        let memory = bytes(self.mesh.gateway().resident());
        table.row(Row {
            key: format!("nodes.{name}.each"),
            what: format!("one more idle node over {words}: gateway memory"),
            unit: Unit::Bytes,
            value: (memory - self.empty) / count,
            bare: None,
            budget: Budget::Value(each),
        });
        table.row(Row {
            key: format!("nodes.{name}.away"),
            what: "of that, what a node costs that is paired and away".to_owned(),
            unit: Unit::Bytes,
            value: (self.paired - self.empty) / count,
            bare: None,
            budget: Budget::None,
        });
    }

    /// Nodes by number: their ids and folders.
    fn nodes(&self, numbers: Range<usize>) -> Vec<(&String, PathBuf)> {
        let node = |number: usize| (&self.ids[number], crowd::folder(&self.folder, number));
        numbers.map(node).collect()
    }

    /// Kills the gateway with calls on their way and others that wait, and starts it again.
    async fn storm(mut self, table: &mut Table) {
        let Over { pipe, name, words, .. } = self.over;
        // It stays until the gateway goes: whoever leaves takes its calls along.
        let mut asking = self.mesh.operator().await;
        let late = self.count..self.count + LATE;
        let calls = Calls::make(
            &mut asking,
            self.nodes(0..LATE.min(self.count)),
            self.nodes(late.clone()),
        )
        .await;
        let all_back = self.crowd.linked_anew().await;
        let started = Instant::now();
        self.mesh.kill().await;
        self.mesh.run().await;
        all_back.await;
        let took = started.elapsed().as_secs_f64();
        let late = Crowd::start(&pipe.address(self.mesh.target().port), &self.folder, late).await;
        late.linked().await;
        let mut operator = self.mesh.operator().await;
        // The gateway's own word for it; a node may be between two links just now.
        until("the gateway to list all nodes", async || {
            let list = operator.call("node.list", json!({})).await.ok()?;
            let rows = list["nodes"].as_array()?.iter();
            (rows.filter(|row| row["connected"] == true).count() == self.count + LATE).then_some(())
        })
        .await;
        table.row(Row {
            key: format!("nodes.{name}.storm"),
            what: format!("gateway killed: all {} nodes back over {words}", self.count),
            unit: Unit::Seconds,
            value: took,
            bare: None,
            budget: Budget::Value(BACK),
        });
        let lost = calls.lost(&mut operator).await;
        table.row(Row {
            key: format!("nodes.{name}.lost"),
            what: format!("of {} calls under way or waiting then: lost or run twice", calls.len()),
            unit: Unit::Count,
            value: lost.into(),
            bare: None,
            budget: Budget::Value(0.0),
        });
    }
}
