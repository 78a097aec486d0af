//! Wall clocks that jump, as when a machine without a battery for its clock hears from a time server. Calls and links go by the time that
//! passes: nothing is lost, nothing runs twice, and whoever's clock is wrong still comes in.

use atoll_tests::clock::Clock;
use atoll_tests::mesh::{Mesh, Node, Pipe, admit};
use atoll_tests::wait::{PATIENCE, until};
use atoll_tests::wire::{Wire, now_ms};
use serde_json::{Value, json};

const DAY: i64 = 24 * 60 * 60;

/// A gateway and a node, each with a clock of its own.
struct Clocked {
    mesh: Mesh,
    node: Node,
    id: String,
    operator: Wire,
    /// The gateway's and the node's.
    clocks: [Clock; 2],
    calls: usize,
}

impl Clocked {
    async fn new(pipe: Pipe) -> Self {
        let clocks = [Clock::new(), Clock::new()];
        let mesh = Mesh::with_environment(&json!({}), &clocks[0].environment()).await;
        let mut node = Node::prepare(&mesh.target(), "clocked", &[])
            .over(pipe)
            .with_environment(&clocks[1].environment());
        node.consent(&json!({"version": 1, "defaults": {"security": "full", "ask": "off"}}));
        node.run();
        let mut operator = mesh.operator().await;
        let id = admit(&mut operator, "clocked", PATIENCE).await;
        Self {
            mesh,
            node,
            id,
            operator,
            clocks,
            calls: 0,
        }
    }

    /// A call in the middle of which something happens.
    async fn call_while(&mut self, happens: impl FnOnce(&[Clock; 2])) {
        self.calls += 1;
        let (mark, go) = ["mark", "go"].map(|what| format!("{what}-{}", self.calls)).into();
        let script = format!("echo x >>{mark}; while [ ! -e {go} ]; do sleep 0.05; done; echo done");
        let params = json!({"command": ["sh", "-c", script], "cwd": self.node.state()});
        let key = uuid::Uuid::new_v4().to_string();
        let call = json!({"nodeId": self.id, "command": "system.run", "params": params, "timeoutMs": 15_000,
            "idempotencyKey": key});
        let asked = self.operator.ask("node.invoke", call.clone()).await;
        let folder = self.node.state();
        until("the command to begin", async || {
            folder.join(&mark).exists().then_some(())
        })
        .await;
        happens(&self.clocks);
        // A look at the calls makes the gateway look at its clock.
        let list = self.operator.call("node.calls.list", json!({"state": "open"})).await;
        let open = list.expect("a list")["calls"].as_array().map(Vec::len);
        assert_eq!(open, Some(1), "it goes on");
        std::fs::write(folder.join(go), "").expect("a writable folder");
        let answer = self.operator.answer(&asked).await.expect("a result");
        assert_eq!(answer["payload"]["stdout"], "done\n");
        let again: Value = self.operator.call("node.invoke", call).await.expect("the first result");
        assert_eq!(again["payload"]["stdout"], "done\n");
        let marks = std::fs::read_to_string(folder.join(mark)).expect("it is there");
        assert_eq!(marks, "x\n", "it ran once");
    }

    /// How many days the gateway and the node are ahead, by what they say themselves.
    async fn off_by(&mut self) -> [i64; 2] {
        let describe = json!({"nodeId": self.id});
        let row = self.operator.call("node.describe", describe).await.expect("a row");
        let status = self.node.status().await;
        let ahead = |said: &Value| {
            let now = i64::try_from(now_ms()).expect("a time");
            // Half a day more, so that the division rounds.
            (said.as_i64().expect("a time") - now + DAY * 500).div_euclid(DAY * 1000)
        };
        [ahead(&row["connectedAtMs"]), ahead(&status["status"]["updatedAtMs"])]
    }
}

/// A command that somebody must approve, on a node whose clock is wrong: it runs, once, however far off that clock is.
#[tokio::test]
async fn a_yes_counts_on_a_node_whose_clock_is_ahead_or_behind() {
    let clock = Clock::new();
    let mesh = Mesh::with(&json!({})).await;
    let mut node = Node::prepare(&mesh.target(), "clocked", &[]).with_environment(&clock.environment());
    let mut operator = mesh.operator().await;
    for (name, days) in [("ahead", 1), ("behind", -1)] {
        clock.set_off_by(days * DAY);
        node.run();
        if days == 1 {
            admit(&mut operator, "clocked", PATIENCE).await;
        }
        mesh.connected("clocked").await;
        let mark = node.state().join(name);
        let message = format!("/run clocked echo ran >>{}; echo it ran", mark.display());
        let key = uuid::Uuid::new_v4().to_string();
        let say = json!({"sessionKey": "agent:main:clock", "message": message, "idempotencyKey": key});
        let run = operator.call("chat.send", say).await.expect("said")["runId"].clone();
        let question = until("the question", async || {
            let open = operator.call("exec.approval.list", json!({})).await.ok()?;
            Some(open[0]["id"].as_str()?.to_owned())
        })
        .await;
        let yes = json!({"id": question, "decision": "allow-once"});
        operator.call("exec.approval.resolve", yes).await.expect("answered");
        let wait = json!({"runId": run, "timeoutMs": 15_000});
        let end = operator.call("agent.wait", wait).await.expect("an end");
        assert_eq!(end["status"], "ok", "{name}: {end}");
        let marks = std::fs::read_to_string(&mark).unwrap_or_else(|error| panic!("{name}: it did not run: {error}"));
        assert_eq!(marks, "ran\n", "{name}: once");
        node.stop().await;
    }
}

#[tokio::test]
async fn clocks_that_jump_lose_no_call_and_keep_nobody_out() {
    tokio::join!(jump(Pipe::Ws), jump(Pipe::Wss), jump(Pipe::Quic));
}

async fn jump(pipe: Pipe) {
    let mut clocked = Clocked::new(pipe).await;
    for whose in [0, 1] {
        for days in [1, -1, 0] {
            clocked.call_while(|clocks| clocks[whose].set_off_by(days * DAY)).await;
            clocked.node.stop().await;
            clocked.node.run();
            clocked.mesh.connected("clocked").await;
            let off_by = clocked.off_by().await;
            assert_eq!(off_by[whose], days, "{pipe:?}: the clock did jump");
            assert_eq!(off_by[1 - whose], 0, "{pipe:?}");
        }
    }
}
