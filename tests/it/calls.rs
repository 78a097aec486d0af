//! Calls that survive: queued, repeated, listed, and carried through what happens to links, nodes and the gateway in the middle of them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atoll_tests::mesh::{Mesh, Node, Pipe};
use atoll_tests::wait::{until, until_time};
use atoll_tests::wire::{Wire, now_ms};
use serde_json::{Value, json};

atoll_tests::over_every_pipe! {
    a_node_that_sleeps_in_the_middle_of_a_call_ends_it_when_it_wakes,
    a_node_that_dies_in_the_middle_of_a_call_leaves_it_visibly_uncertain,
    a_gateway_that_dies_in_the_middle_of_a_call_still_learns_its_end,
    a_call_that_is_called_off_takes_its_whole_process_group_along,
    the_earlier_of_deadline_and_timeout_ends_a_call_and_one_in_the_past_begins_none,
    whoever_watches_hears_of_changes_and_the_table_fits_a_terminal,
}

mod queued;
mod repeated;
mod selected;

/// A node may pause between its tries to come back.
const RETURN: Duration = Duration::from_secs(60);

/// A gateway and a node whose owner lets everything run, and a folder for what its commands leave behind.
struct Ring {
    mesh: Mesh,
    node: Node,
    id: String,
    folder: tempfile::TempDir,
}

impl Ring {
    async fn new(pipe: Pipe) -> Self {
        let mesh = Mesh::start().await.over(pipe);
        let node = mesh.permissive_node("laptop").await;
        let id = mesh.connected("laptop").await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { mesh, node, id, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How often the command of [`marking`] began.
    fn marks(&self) -> usize {
        let text = std::fs::read_to_string(self.path("marks")).unwrap_or_default();
        text.lines().count()
    }

    async fn begun(&self) {
        until("the command to begin", async || (self.marks() == 1).then_some(())).await;
    }

    fn go(&self) {
        std::fs::write(self.path("go"), "").expect("a writable folder");
    }

    /// `node.invoke` of `system.run` with a script in the folder, and more parameters.
    fn invoke(&self, script: &str, more: Value) -> Value {
        let key = uuid::Uuid::new_v4().to_string();
        let params = json!({"command": ["sh", "-c", script], "cwd": self.folder.path()});
        let mut invoke = json!({"nodeId": self.id, "command": "system.run", "params": params, "idempotencyKey": key});
        let more = more.as_object().cloned().unwrap_or_default();
        invoke.as_object_mut().expect("an object").extend(more);
        invoke
    }

    /// The row of the newest call of `system.run` in `node.calls.list`.
    async fn row(&self, operator: &mut Wire) -> Value {
        let list = operator.call("node.calls.list", json!({"nodeId": self.id})).await;
        let list = list.expect("a list")["calls"].take();
        let rows = list.as_array().expect("rows");
        let found = rows.iter().find(|row| row["command"] == "system.run");
        found.cloned().unwrap_or_default()
    }

    async fn state(&self, operator: &mut Wire, wanted: &str) -> Value {
        until_time(&format!("the call to be {wanted}"), RETURN, async || {
            let row = self.row(operator).await;
            (row["state"] == wanted).then_some(row)
        })
        .await
    }

    async fn away(&self, operator: &mut Wire) {
        until("the node to be seen leaving", async || {
            let row = operator.call("node.describe", json!({"nodeId": self.id})).await.ok()?;
            (row["connected"] != true).then_some(())
        })
        .await;
    }
}

/// Leaves a mark, then waits for a word to end. Ends with the folder of its test too, that it outlives no test.
const MARKING: &str = "echo x >> marks; while [ -e marks ] && [ ! -e go ]; do sleep 0.05; done; echo done";

fn is_alive(pid: &str) -> bool {
    // A zombie waits for its parent only.
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

async fn a_node_that_sleeps_in_the_middle_of_a_call_ends_it_when_it_wakes(pipe: Pipe) {
    let mut ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    let id = operator.ask("node.invoke", ring.invoke(MARKING, json!({}))).await;
    ring.begun().await;
    ring.node.program().suspend();
    ring.go();
    let row = ring.row(&mut operator).await;
    assert_eq!((&row["open"], &row["nodeId"]), (&json!(true), &json!(ring.id)), "{row}");
    ring.node.program().wake();
    let answer = operator.answer(&id).await.expect("a result");
    assert_eq!(answer["payload"]["stdout"], "done\n");
    assert_eq!(ring.marks(), 1);
}

async fn a_node_that_dies_in_the_middle_of_a_call_leaves_it_visibly_uncertain(pipe: Pipe) {
    let mut ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    let invoke = ring.invoke(MARKING, json!({"timeoutMs": 120_000}));
    let id = operator.ask("node.invoke", invoke).await;
    ring.begun().await;
    ring.node.kill().await;
    let row = ring.state(&mut operator, "running (node away)").await;
    assert_eq!(row["caller"], "shared-secret", "{row}");
    assert!(row["deadlineMs"].as_u64() > row["sinceMs"].as_u64(), "{row}");
    ring.node.run();
    let error = operator.answer(&id).await.expect_err("nobody knows");
    assert_eq!(error["details"]["nodeError"]["code"], "NODE_LOST_CALL", "{error}");
    let row = ring.state(&mut operator, "uncertain").await;
    assert_eq!(
        (&row["open"], &row["errorCode"]),
        (&json!(false), &json!("NODE_LOST_CALL")),
        "{row}"
    );
    assert_eq!(ring.marks(), 1, "it was not made again");
    ring.go();
}

async fn a_gateway_that_dies_in_the_middle_of_a_call_still_learns_its_end(pipe: Pipe) {
    let mut ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    let invoke = ring.invoke(MARKING, json!({"timeoutMs": 120_000}));
    operator.ask("node.invoke", invoke.clone()).await;
    ring.begun().await;
    // Listed, so it is written down.
    assert_eq!(ring.row(&mut operator).await["open"], true);
    ring.mesh.kill().await;
    ring.mesh.run().await;
    let mut operator = ring.mesh.operator().await;
    let row = ring.row(&mut operator).await;
    assert_eq!(
        (&row["open"], &row["caller"]),
        (&json!(true), &json!("shared-secret")),
        "{row}"
    );
    ring.go();
    let row = ring.state(&mut operator, "ok").await;
    assert_eq!(row["idempotencyKey"], invoke["idempotencyKey"], "{row}");
    // Whoever asks for the same once more gets what came of it.
    let answer = operator.call("node.invoke", invoke).await.expect("the first result");
    assert_eq!(answer["payload"]["stdout"], "done\n");
    assert_eq!(ring.marks(), 1);
}

async fn a_call_that_is_called_off_takes_its_whole_process_group_along(pipe: Pipe) {
    let ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    let script = "sleep 300 & echo $! > child; echo $$ > parent; echo x >> marks; wait";
    let id = operator.ask("node.invoke", ring.invoke(script, json!({}))).await;
    ring.begun().await;
    let call = ring.row(&mut operator).await["callId"].take();
    let cancelled = operator.call("node.invoke.cancel", json!({"callId": call})).await;
    assert_eq!(cancelled.expect("called off"), json!({"ok": true, "callId": call}));
    let error = operator.answer(&id).await.expect_err("called off");
    assert_eq!(error["details"]["nodeError"]["code"], "CANCELLED", "{error}");
    for name in ["child", "parent"] {
        let pid = std::fs::read_to_string(ring.path(name)).expect("written before the mark");
        until(&format!("the {name} to be gone"), async || {
            (!is_alive(pid.trim())).then_some(())
        })
        .await;
    }
    assert_eq!(ring.state(&mut operator, "cancelled").await["open"], false);
    let again = operator.call("node.invoke.cancel", json!({"callId": call})).await;
    assert!(
        again.expect_err("it has ended")["message"]
            .as_str()
            .is_some_and(|text| text.contains("no open call"))
    );
}

async fn the_earlier_of_deadline_and_timeout_ends_a_call_and_one_in_the_past_begins_none(pipe: Pipe) {
    let ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    for limits in [
        json!({"deadline": now_ms() + 700, "timeoutMs": 60_000}),
        json!({"deadline": now_ms() + 60_000, "timeoutMs": 700}),
    ] {
        let started = Instant::now();
        let reply = operator
            .call("node.invoke", ring.invoke("sleep 30", limits))
            .await
            .expect("the node's own deadline is a little earlier, so it is the node that says so");
        assert_eq!(reply["payload"]["timedOut"], true, "{reply}");
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    }
    let late = ring.invoke(MARKING, json!({"deadline": now_ms() - 1}));
    let error = operator.call("node.invoke", late).await.expect_err("over already");
    assert_eq!(
        (&error["code"], &error["details"]["code"]),
        (&json!("INVALID_REQUEST"), &json!("DEADLINE_PASSED"))
    );
    assert_eq!(ring.marks(), 0);
}

async fn whoever_watches_hears_of_changes_and_the_table_fits_a_terminal(pipe: Pipe) {
    let ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    let id = operator.ask("node.invoke", ring.invoke(MARKING, json!({}))).await;
    ring.begun().await;
    let ts = operator.event("node.calls.changed").await["ts"].as_u64();
    assert!(ts.is_some_and(|ts| ts <= now_ms()));
    let output = ring.mesh.cli(&["nodes", "calls", "--node", "laptop"]).await;
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.starts_with("CALL ") && table.contains("system.run"), "{table}");
    let open = ring
        .mesh
        .cli_json(&["nodes", "calls", "--state", "open", "--json"])
        .await;
    assert_eq!(open["calls"][0]["command"], "system.run", "{open}");
    ring.go();
    operator.answer(&id).await.expect("a result");
    operator.event("node.calls.changed").await;
    ring.state(&mut operator, "ok").await;
    let refused = operator.call("node.calls.list", json!({"state": "asleep"})).await;
    refused.expect_err("there is no such state");
}
