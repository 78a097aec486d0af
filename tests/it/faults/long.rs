//! What lasts: a minute without a network in the middle of a blob and of a call, and a storm around one. Over every pipe side by side,
//! since most of it is waiting.

use std::path::Path;
use std::time::Duration;

use atoll_tests::chance::{Chance, seed};
use atoll_tests::mesh::{Mesh, Node, Pipe};
use atoll_tests::wait::until;
use atoll_tests::weather::{Proxy, Weather};
use serde_json::json;
use sha2::{Digest, Sha256};

const MIB: usize = 1024 * 1024;

/// How long the network is away.
const MINUTE: Duration = Duration::from_secs(60);

/// What may pass after it: a node pauses for half a minute at most, and a blob takes its time.
const AFTER: Duration = Duration::from_secs(90);

/// A node with an open folder, a network that can fail, and a gateway.
struct Desk {
    mesh: Mesh,
    network: Proxy,
    _node: Node,
    open: tempfile::TempDir,
}

impl Desk {
    async fn new(pipe: Pipe) -> Self {
        let mesh = Mesh::start().await;
        let stream = Pipe::EACH.iter().position(|each| *each == pipe).expect("one of them");
        let network = Proxy::start(mesh.target().port, Chance::new(seed(), stream as u64)).await;
        let open = tempfile::tempdir().expect("a folder");
        let mut node = Node::prepare(&mesh.target(), "desk", &[]).at(&pipe.address(network.port()));
        node.consent(&json!({"version": 1, "defaults": {"security": "full", "ask": "off"}}));
        node.open_folder(open.path());
        node.run();
        let node = mesh.admit("desk", node).await;
        Self {
            mesh,
            network,
            _node: node,
            open,
        }
    }

    /// A file of noise on the node.
    fn film(&self, len: usize) -> Vec<u8> {
        let mut chance = Chance::new(1, len as u64);
        let noise: Vec<u8> = (0..len / 8).flat_map(|_| chance.draw().to_le_bytes()).collect();
        std::fs::write(self.open.path().join("film"), &noise).expect("a writable folder");
        Sha256::digest(&noise).to_vec()
    }

    /// `atoll nodes get`.
    async fn get(&self, patience: Duration, to: &Path) {
        let from = format!("desk:{}", self.open.path().join("film").display());
        let to = to.display().to_string();
        let output = self.mesh.cli_within(patience, &["nodes", "get", &from, &to]).await;
        assert!(output.status.success(), "{output:?}");
    }

    /// Waits until some of the film has come.
    async fn flows(&self) {
        let coming = self.mesh.state().join("media/coming");
        until("the blob to flow", async || {
            let mut files = std::fs::read_dir(&coming).ok()?.flatten();
            files
                .any(|file| file.metadata().is_ok_and(|data| data.len() > MIB as u64))
                .then_some(())
        })
        .await;
    }
}

fn digest(path: &Path) -> Vec<u8> {
    Sha256::digest(std::fs::read(path).expect("it is there")).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_a_network_costs_neither_the_blob_nor_the_call_in_the_middle_of_it() {
    tokio::join!(
        lose_a_minute(Pipe::Ws),
        lose_a_minute(Pipe::Wss),
        lose_a_minute(Pipe::Quic)
    );
}

async fn lose_a_minute(pipe: Pipe) {
    let desk = Desk::new(pipe).await;
    let film = desk.film(32 * MIB);
    let id = desk.mesh.connected("desk").await;
    let mut operator = desk.mesh.operator().await;
    let mark = desk.open.path().join("mark");
    let script = format!("echo x >>{}; sleep 10; echo through", mark.display());
    let call = json!({"nodeId": id, "command": "system.run", "timeoutMs": 200_000, "idempotencyKey": "k",
        "params": {"command": ["sh", "-c", script], "timeoutMs": 200_000}});
    let asked = operator.ask("node.invoke", call).await;
    until("the command to begin", async || mark.exists().then_some(())).await;
    // Slow enough that the blob is seen while it comes.
    let far = Weather {
        delay: Duration::from_millis(20),
        ..Weather::default()
    };
    desk.network.set(far);
    let copy = desk.open.path().join("copy");
    let getting = desk.get(MINUTE + AFTER, &copy);
    let failing = async {
        desk.flows().await;
        desk.network.set(Weather::partition());
        // This pause is what is tested.
        tokio::time::sleep(MINUTE).await;
        assert!(!copy.exists(), "{pipe:?}: it came through a partition");
        desk.network.set(Weather::default());
    };
    let ((), (), answered) = tokio::join!(getting, failing, operator.answer_within(MINUTE + AFTER, &asked));
    assert_eq!(
        answered.expect("a result")["payload"]["stdout"],
        "through\n",
        "{pipe:?}"
    );
    assert!(digest(&copy) == film, "{pipe:?}");
    assert_eq!(std::fs::read_to_string(&mark).expect("it is there"), "x\n", "{pipe:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_comes_whole_through_a_storm() {
    tokio::join!(
        weather_a_storm(Pipe::Ws),
        weather_a_storm(Pipe::Wss),
        weather_a_storm(Pipe::Quic)
    );
}

async fn weather_a_storm(pipe: Pipe) {
    let desk = Desk::new(pipe).await;
    let film = desk.film(2 * MIB);
    // One datagram of ten is lost, one of ten comes twice, and many overtake one another.
    desk.network.set(Weather {
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(10),
        loss: 100,
        doubled: 100,
        ..Weather::default()
    });
    let copy = desk.open.path().join("copy");
    desk.get(AFTER, &copy).await;
    assert!(digest(&copy) == film, "{pipe:?}");
}
