//! `atoll nodes run --all` on more nodes than run it at the same time.

use atoll_tests::mesh::Mesh;
use atoll_tests::wait::until;
use serde_json::json;

use super::{code, is_alive, run};

const NODES: usize = 10;

/// Nodes that run it at the same time.
const AT_ONCE: usize = 8;

#[tokio::test]
async fn ctrl_c_ends_it_on_every_node_and_it_begins_on_no_other() {
    let mesh = Mesh::start().await;
    let mut nodes = Vec::new();
    for number in 0..NODES {
        nodes.push(mesh.permissive_node(&format!("host-{number}")).await);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let options = ["--all", "--cwd", folder.path().to_str().expect("text")];
    let script = "sleep 1000 & echo $$ $! >> begun; wait";
    let child = mesh.cli_begun(&run(&options, script));
    let begun = || std::fs::read_to_string(folder.path().join("begun")).unwrap_or_default();
    until("it to run on some of them", async || {
        (begun().lines().count() == AT_ONCE).then_some(())
    })
    .await;
    let interrupt = rustix::process::Pid::from_raw(child.id().expect("running").cast_signed()).expect("a process");
    rustix::process::kill_process(interrupt, rustix::process::Signal::INT).expect("it runs");
    let code = code(child).await;
    assert!(code.is_some_and(|code| code != 0), "{code:?}");

    let list = mesh
        .operator()
        .await
        .call("node.calls.list", json!({"limit": 100}))
        .await;
    let list = list.expect("a list");
    let calls = list["calls"].as_array().expect("a list").iter();
    let states: Vec<_> = calls
        .filter(|call| call["command"] == "system.run")
        .map(|call| call["state"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(states, ["cancelled"; AT_ONCE], "the others were not called");
    for pid in begun().split_whitespace() {
        until("the program to be dead", async || (!is_alive(pid)).then_some(())).await;
    }
    assert_eq!(begun().lines().count(), AT_ONCE);
}
