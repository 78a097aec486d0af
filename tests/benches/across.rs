//! Calls that a gateway is killed over: some under way on linked nodes, some waiting for nodes that are away. Each must end well and
//! run once.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use atoll_tests::wait::until;
use atoll_tests::wire::{Wire, now_ms};
use serde_json::{Value, json};

/// Nodes with a call under way, and as many with one that waits.
pub(crate) const EACH: usize = 20;

/// What a command leaves in the folder of its node each time that it runs.
const MARKS: &str = "marks";

/// More than a storm takes, milliseconds.
const LONG_MS: u64 = 240_000;

/// The calls, and where each leaves its mark.
pub(crate) struct Calls(Vec<(Value, PathBuf)>);

/// Lets a node run what it is told.
pub(crate) fn allow(state: &Path) {
    let path = state.join("exec-approvals.json");
    let consent = json!({"version": 1, "defaults": {"security": "full", "ask": "off"}});
    std::fs::write(&path, consent.to_string()).expect("room in memory");
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a file of our own");
}

impl Calls {
    /// Makes one call to each of these nodes (their ids and state folders): those of `linked` have begun when this returns, those of
    /// `away` wait.
    pub(crate) async fn make(
        operator: &mut Wire,
        linked: Vec<(&String, PathBuf)>,
        away: Vec<(&String, PathBuf)>,
    ) -> Self {
        let mut calls = Vec::new();
        for (id, state) in &linked {
            let call = invoke(id, state, json!({}));
            operator.ask("node.invoke", call.clone()).await;
            calls.push((call, state.join(MARKS)));
        }
        for (id, state) in away {
            let offline = json!({"offline": {"queueUntil": now_ms() + LONG_MS}});
            let call = invoke(id, &state, offline);
            let first = operator
                .call("node.invoke", call.clone())
                .await
                .expect("a place to wait");
            assert_eq!(first["state"], "queued", "{first}");
            calls.push((call, state.join(MARKS)));
        }
        until("the calls to begin", async || {
            let mut marks = calls.iter().take(linked.len()).map(|(_, marks)| marks);
            marks.all(|marks| marks.exists()).then_some(())
        })
        .await;
        Self(calls)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Asks for the end of each by its key, and gives how many did not end well or did not run once.
    pub(crate) async fn lost(&self, operator: &mut Wire) -> u32 {
        let mut lost = 0;
        for (call, marks) in &self.0 {
            let id = operator.ask("node.invoke", call.clone()).await;
            let end = loop {
                match operator.answer(&id).await {
                    Ok(answer) if answer["status"] == "accepted" => {}
                    end => break end,
                }
            };
            let is_well = end.as_ref().is_ok_and(|end| end["payload"]["stdout"] == "done\n");
            let runs = std::fs::read_to_string(marks).unwrap_or_default().lines().count();
            if !is_well || runs != 1 {
                eprintln!("lost: {call} ran {runs} times and ended as {end:?}");
                lost += 1;
            }
        }
        lost
    }
}

fn invoke(id: &str, state: &Path, more: Value) -> Value {
    let command = format!("echo x >> {}; sleep 3; echo done", state.join(MARKS).display());
    let mut call = json!({
        "nodeId": id, "command": "system.run", "params": {"command": ["sh", "-c", command], "timeoutMs": LONG_MS},
        "timeoutMs": LONG_MS, "idempotencyKey": uuid::Uuid::new_v4().to_string(),
    });
    if let (Some(call), Value::Object(more)) = (call.as_object_mut(), more) {
        call.extend(more);
    }
    call
}
