//! Machines whose network changes while a call runs: another address, and datagrams that are dropped on the way. The addresses and the
//! ways are the kernel's own.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use atoll_tests::lan::Lan;
use atoll_tests::program::Program;
use atoll_tests::wait::{PATIENCE, until, until_time};
use serde_json::{Value, json};

use super::{Gateway, LOOKS, Node, approve, request, run_on_laptop};

/// A gateway, and a node that it has let in.
struct Ring {
    lan: Lan,
    gateway: Gateway,
    node: Node,
    program: Program,
}

impl Ring {
    /// Of a node that was told where its gateway is, and nothing of pipes.
    async fn new(lan: Lan) -> Self {
        let gateway = Gateway::start(&lan, 0).await;
        let node = Node::new(1);
        let mut command = lan.program(1, "atoll-node", node.state.path());
        command.args(["run", "--name", "laptop", "--gateway"]);
        command.arg(format!("atoll://{}:18789", Lan::address(0)));
        command.arg("--state-dir").arg(node.state.path());
        let program = Program::start("atoll-node", command);
        let asked = request(&lan, &gateway).await;
        approve(&lan, &gateway, &asked, &program).await;
        program.line("Connected").await;
        Self {
            lan,
            gateway,
            node,
            program,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.node.state.path().join(name)
    }

    /// The pipe of the node's link, and since when it is there.
    async fn link(&self) -> (String, Value) {
        let list = self.gateway.json(&self.lan, &["devices", "list"]).await;
        let nodes = self.gateway.json(&self.lan, &["nodes", "list"]).await;
        let pipe = list["paired"][0]["pipe"].as_str().unwrap_or_default();
        (pipe.to_owned(), nodes["nodes"][0]["connectedAtMs"].clone())
    }

    /// What a call says that begins, and goes on when this has happened.
    async fn call_during(&self, happens: impl Future<Output = ()>) -> Value {
        let (begun, go) = (self.file("begun"), self.file("go"));
        let script = format!(
            "touch {}; while [ ! -e {} ]; do sleep 0.1; done; echo through",
            begun.display(),
            go.display()
        );
        let params = json!({"command": ["sh", "-c", script], "timeoutMs": 300_000}).to_string();
        let call = [&run_on_laptop(&params)[..], &["--invoke-timeout", "300000"]].concat();
        let waits = async {
            until("the command to begin", async || begun.exists().then_some(())).await;
            happens.await;
            std::fs::write(&go, "").expect("a writable folder");
        };
        let calling = self.gateway.json_within(&self.lan, PATIENCE * 10, &call);
        let (mut answer, ()) = tokio::join!(calling, waits);
        answer["payload"]["stdout"].take()
    }
}

#[tokio::test]
async fn a_call_goes_on_when_the_address_of_its_machine_changes() {
    let mut ring = Ring::new(Lan::new(2).await).await;
    let before = ring.link().await;
    assert_eq!(before.0, "quic");
    let moves = ring.lan.readdress(1, Ipv4Addr::new(10, 77, 0, 99));
    assert_eq!(ring.call_during(moves).await, "through\n");
    assert_eq!(ring.link().await, before, "the link is the same");
    ring.program.terminate().await;
}

#[tokio::test]
async fn a_call_goes_on_when_datagrams_are_dropped_and_a_new_node_is_carried_without_them() {
    let mut ring = Ring::new(Lan::new(2).await).await;
    assert_eq!(ring.link().await.0, "quic");
    let falls_back = async {
        ring.lan.drop_datagrams(0).await;
        until_time("the other pipe", PATIENCE * LOOKS, async || {
            (ring.link().await.0 == "wss").then_some(())
        })
        .await;
    };
    assert_eq!(ring.call_during(falls_back).await, "through\n");
    ring.program.terminate().await;

    let lan = Lan::new(2).await;
    lan.drop_datagrams(0).await;
    let mut ring = Ring::new(lan).await;
    assert_eq!(ring.link().await.0, "wss");
    ring.program.terminate().await;
}
