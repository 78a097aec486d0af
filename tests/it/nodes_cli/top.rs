//! `atoll nodes top`: one table, and the same on a terminal as things happen.

use atoll_tests::fake_node::FakeNode;
use atoll_tests::mesh::Mesh;
use atoll_tests::program::built;
use atoll_tests::wait::within;
use atoll_tests::wire::Wire;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdout};

const GIB: u64 = 1024 * 1024 * 1024;

/// Three devices that are here and one that is not, with figures of their own.
pub(crate) struct Ring {
    pub(crate) mesh: Mesh,
    owner: Wire,
    nodes: Vec<FakeNode>,
}

impl Ring {
    pub(crate) async fn start() -> Self {
        // Not offered on Linux unless it is named.
        let allow = json!({"gateway": {"nodes": {"commands": {"allow": ["device.status"]}}}});
        let mesh = Mesh::with(&allow).await;
        let mut owner = mesh.operator().await;
        let mut nodes = Vec::new();
        for (name, commands) in [
            ("laptop", &["device.status", "system.run"][..]),
            ("phone", &["device.status"]),
            ("attic", &["system.run"]),
            ("old tablet", &["device.status"]),
        ] {
            nodes.push(FakeNode::pair(&mesh.target(), &mut owner, name, commands).await);
        }
        drop(nodes.pop());
        let mut ring = Self { mesh, owner, nodes };
        ring.away("old tablet").await;
        ring.tells(0, &stats(8, 0.42, (32, 20), (500, 380))).await;
        ring.tells(1, &stats(8, 2.9, (8, 3), (128, 17))).await;
        ring.tells(2, &stats(4, 0.07, (4, 3), (64, 41))).await;
        ring
    }

    async fn away(&mut self, name: &str) {
        atoll_tests::wait::until("it to be away", async || {
            let nodes = self.owner.call("node.list", json!({})).await.ok()?;
            let row = nodes["nodes"]
                .as_array()?
                .iter()
                .find(|node| node["displayName"] == name)?;
            (row["connected"] == false).then_some(())
        })
        .await;
    }

    /// A node sends its figures.
    async fn tells(&mut self, node: usize, stats: &Value) {
        let params = json!({"event": "node.host.stats", "payload": stats});
        let taken = self.nodes[node].wire.call("node.event", params).await.expect("taken");
        assert_eq!(taken["handled"], true, "{taken}");
    }

    /// A call that stays open.
    async fn keep_busy(&mut self, node: usize) {
        let params = json!({"nodeId": self.nodes[node].id(), "command": "system.run", "params": {"command": ["sleep", "9"]},
            "idempotencyKey": "busy"});
        self.owner.ask("node.invoke", params).await;
        self.nodes[node].invoked("system.run").await;
    }

    /// Answers what is asked about the batteries.
    async fn charge(&mut self) {
        for (node, battery) in [
            (0, json!({"level": 0.83, "state": "charging"})),
            (1, json!({"level": 0.41, "state": "unplugged"})),
        ] {
            let asked = self.nodes[node].invoked("device.status").await;
            self.nodes[node]
                .succeed(&asked, &json!({"battery": battery}))
                .await
                .expect("taken");
        }
    }

    /// The table that is printed once.
    pub(crate) async fn table(&mut self) -> String {
        self.keep_busy(0).await;
        let printing = self.mesh.cli_begun(&["nodes", "top", "--once"]);
        self.charge().await;
        let printed = within("the table", printing.wait_with_output()).await.expect("an end");
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        String::from_utf8(printed.stdout).expect("text")
    }
}

fn stats(cpus: u64, load: f64, memory: (u64, u64), disk: (u64, u64)) -> Value {
    json!({
        "cpuCount": cpus, "loadAverage": [load, load, load],
        "memoryTotalBytes": memory.0 * GIB, "memoryFreeBytes": memory.1 * GIB,
        "diskTotalBytes": disk.0 * GIB, "diskAvailableBytes": disk.1 * GIB,
    })
}

/// What is printed of [`Ring`].
pub(crate) const TABLE: &str = "\
NODE               PIPE      LOAD       MEMORY         DISK   BATT  CALLS   SEEN
attic              ws       0.1/4     1.0/4.0G   23.0/64.0G      -      0    now
laptop             ws       0.4/8   12.0/32.0G     120/500G   83%+      1    now
old tablet         away         -            -            -      -      -    <1m
phone              ws       2.9/8     5.0/8.0G     111/128G    41%      0    now
";

#[tokio::test]
async fn one_table_says_how_each_device_is() {
    let mut ring = Ring::start().await;
    assert_eq!(ring.table().await, TABLE);
}

/// What somebody sees who looks at a terminal.
struct Seen {
    screen: ChildStdout,
    text: String,
}

impl Seen {
    fn of(child: &mut Child) -> Self {
        Self {
            screen: child.stdout.take().expect("a pipe"),
            text: String::new(),
        }
    }

    /// All until this word is there.
    async fn until(&mut self, word: &str) -> String {
        while !self.text.contains(word) {
            let mut bytes = [0; 4096];
            let read = within(word, self.screen.read(&mut bytes)).await.expect("readable");
            assert!(read > 0, "{word}: {:?}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        std::mem::take(&mut self.text)
    }
}

#[tokio::test]
async fn on_a_terminal_it_is_drawn_again_in_place_and_gives_the_terminal_back() {
    let mut ring = Ring::start().await;
    let mut child = ring.mesh.cli_on_terminal(&["nodes", "top"]);
    let mut keys = child.stdin.take().expect("a pipe");
    let mut seen = Seen::of(&mut child);
    let first = seen.until("0.4/8").await;
    assert!(first.contains("\x1b[?1049h"), "{first:?}");
    ring.charge().await;
    seen.until("83%+").await;
    ring.tells(0, &stats(8, 7.5, (32, 1), (500, 380))).await;
    let again = seen.until("7.5/8").await;
    assert!(again.contains("\x1b[H"), "from the corner on: {again:?}");
    keys.write_all(b"\x03").await.expect("a terminal");
    seen.until("\x1b[?1049l").await;
    let status = within("the end", child.wait()).await.expect("an end");
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn whatever_ends_it_the_terminal_is_given_back() {
    let ring = Ring::start().await;
    for name in ["TERM", "HUP"] {
        // It says who it is before it becomes that program, and the shell says afterwards how the terminal is.
        let typed = format!(
            "sh -c 'echo pid=$$.; exec {} nodes top'; stty -a",
            built("atoll").display()
        );
        let mut child = ring.mesh.on_terminal(&typed);
        let _keys = child.stdin.take();
        let mut seen = Seen::of(&mut child);
        let first = seen.until("laptop").await;
        let pid = first.split("pid=").nth(1).and_then(|rest| rest.split('.').next());
        let pid = pid.and_then(|pid| Pid::from_raw(pid.parse().ok()?)).expect("its id");
        let signal = if name == "TERM" { Signal::TERM } else { Signal::HUP };
        kill_process(pid, signal).expect("it runs");
        let after = seen.until(" echo ").await;
        assert!(
            after.contains("\x1b[?1049l") && after.contains(" icanon "),
            "{name}: {after}"
        );
        within("the end", child.wait()).await.expect("an end");
    }
}

#[tokio::test]
async fn more_nodes_than_lines_are_moved_through_with_keys() {
    let ring = Ring::start().await;
    let typed = format!("stty rows 4; exec {} nodes top", built("atoll").display());
    let mut child = ring.mesh.on_terminal(&typed);
    let mut keys = child.stdin.take().expect("a pipe");
    let mut seen = Seen::of(&mut child);
    let first = seen.until("1 to 2 of 4;").await;
    assert!(first.contains("laptop") && !first.contains("phone"), "{first:?}");
    keys.write_all(b"\x1b[B").await.expect("a terminal");
    seen.until("2 to 3 of 4;").await;
    keys.write_all(b"G").await.expect("a terminal");
    let last = seen.until("3 to 4 of 4;").await;
    assert!(last.contains("phone"), "{last:?}");
    keys.write_all(b"q").await.expect("a terminal");
    seen.until("\x1b[?1049l").await;
    let status = within("the end", child.wait()).await.expect("an end");
    assert!(status.success(), "{status}");
}
