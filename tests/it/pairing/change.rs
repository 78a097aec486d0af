//! What the owner changes about a paired device, in force on its live link within a second.

use std::time::Duration;

use atoll_tests::fake_node::FakeNode;
use atoll_tests::mesh::{Mesh, Node, Pipe};
use atoll_tests::wait::{until, until_time};
use serde_json::{Value, json};

atoll_tests::over_every_pipe! {
    the_list_says_where_each_device_is_and_fits_the_terminal,
    commands_are_withdrawn_and_given_back_on_a_live_link,
    a_command_is_withdrawn_before_its_owner_is_told_so,
    a_revoked_device_is_cut_off_within_a_second_and_has_to_ask,
    a_lost_node_is_out_at_once_and_its_successor_takes_its_name_and_commands,
}

#[tokio::test]
async fn a_device_is_named_whole_or_not_at_all() {
    let mesh = Mesh::start().await;
    let mut owner = mesh.operator().await;
    let one = FakeNode::pair(&mesh.target(), &mut owner, "laptop", &[]).await;
    let _two = FakeNode::pair(&mesh.target(), &mut owner, "laptop-2", &[]).await;
    for unclear in ["l", "lap", "any", "os=linux"] {
        let output = mesh.cli(&["devices", "remove", unclear]).await;
        assert!(!output.status.success(), "{unclear} is nobody's name");
    }
    let removed = mesh.cli_json(&["devices", "remove", "laptop", "--json"]).await;
    assert_eq!(
        removed["deviceId"],
        one.id(),
        "the whole name comes before a longer one"
    );
    let removed = mesh.cli_json(&["devices", "remove", "os=linux", "--json"]).await;
    assert_ne!(removed["deviceId"], one.id(), "{removed}");
}

const SECOND: Duration = Duration::from_secs(1);

async fn row(mesh: &Mesh, name: &str) -> Value {
    let list = mesh.cli_json(&["devices", "list", "--json"]).await;
    let rows = list["paired"].as_array().expect("a list");
    rows.iter()
        .find(|row| row["displayName"] == name)
        .cloned()
        .unwrap_or_default()
}

async fn done(mesh: &Mesh, command: &[&str]) {
    let output = mesh.cli(command).await;
    assert!(output.status.success(), "{output:?}");
}

async fn the_list_says_where_each_device_is_and_fits_the_terminal(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let _node = mesh.node("a-laptop-with-quite-a-long-name-that-somebody-typed").await;
    let shown = mesh.cli(&["devices", "list"]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    for word in ["GEN", "ADDRESS", "127.0.0.1", pipe.name(), "now"] {
        assert!(shown.contains(word), "{word} in {shown}");
    }
    let row = row(&mesh, "a-laptop-with-quite-a-long-name-that-somebody-typed").await;
    assert_eq!(
        (&row["pipe"], &row["remoteIp"], &row["connected"]),
        (&json!(pipe.name()), &json!("127.0.0.1"), &json!(true))
    );
    assert!(
        row["generation"].as_u64().is_some_and(|generation| generation > 0),
        "{row}"
    );
}

async fn commands_are_withdrawn_and_given_back_on_a_live_link(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let mut node = mesh.node("laptop").await;
    let id = mesh.connected("laptop").await;
    let mut owner = mesh.operator().await;
    let key = || uuid::Uuid::new_v4().to_string();
    let call = || json!({"nodeId": id, "command": "device.info", "idempotencyKey": key()});
    owner.call("node.invoke", call()).await.expect("allowed");
    done(&mesh, &["devices", "commands", "laptop", "deny", "device.info"]).await;
    owner.call("node.invoke", call()).await.expect_err("withdrawn");
    until_time("the node to know", SECOND, async || {
        let status = node.status().await;
        let commands = status["status"]["commands"].as_array()?;
        (!commands.contains(&json!("device.info"))).then_some(())
    })
    .await;
    // Declaring it once more asks for nothing.
    node.stop().await;
    node.run();
    mesh.connected("laptop").await;
    owner.call("node.invoke", call()).await.expect_err("withdrawn for good");
    let pending = owner.call("node.pair.list", json!({})).await.expect("a list");
    assert_eq!(pending["pending"], json!([]), "{pending}");
    done(&mesh, &["devices", "commands", "laptop", "allow", "device.info"]).await;
    owner.call("node.invoke", call()).await.expect("given back");
}

async fn a_command_is_withdrawn_before_its_owner_is_told_so(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let _node = mesh.node("laptop").await;
    let id = mesh.connected("laptop").await;
    let mut owner = mesh.operator().await;
    let key = || uuid::Uuid::new_v4().to_string();
    for _ in 0..50 {
        let deny = json!({"deviceId": id, "deny": ["device.info"]});
        owner.call("device.commands.set", deny).await.expect("withdrawn");
        let call = json!({"nodeId": id, "command": "device.info", "idempotencyKey": key()});
        owner.call("node.invoke", call).await.expect_err("withdrawn");
        let allow = json!({"deviceId": id, "allow": ["device.info"]});
        owner.call("device.commands.set", allow).await.expect("given back");
    }
}

async fn a_revoked_device_is_cut_off_within_a_second_and_has_to_ask(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let mut node = mesh.node("laptop").await;
    done(&mesh, &["devices", "revoke", "laptop"]).await;
    until_time("the link to close", SECOND, async || {
        let row = row(&mesh, "laptop").await;
        (row["connected"] == false).then_some(())
    })
    .await;
    until("the node to ask", async || {
        let status = node.status().await;
        status["status"]["requestId"].as_str().map(str::to_owned)
    })
    .await;
    node.kill().await;
}

async fn a_lost_node_is_out_at_once_and_its_successor_takes_its_name_and_commands(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let mut lost = mesh.node("laptop").await;
    let old = mesh.connected("laptop").await;
    let invite = mesh.cli_json(&["devices", "replace", "laptop", "--json"]).await;
    until_time("the old link to close", SECOND, async || {
        let row = row(&mesh, "laptop").await;
        (row["connected"] == false).then_some(())
    })
    .await;
    lost.kill().await;
    let mut new = Node::prepare(&mesh.target(), "fresh-from-the-shop", &[]).over(pipe);
    let output = new.pair(invite["link"].as_str().expect("a link")).await;
    assert!(output.status.success(), "{output:?}");
    new.run();
    let id = mesh.connected("laptop").await;
    assert_ne!(id, old);
    let list = mesh.cli_json(&["devices", "list", "--json"]).await;
    assert_eq!(list["paired"].as_array().map(Vec::len), Some(1), "{list}");
    let mut owner = mesh.operator().await;
    let call = json!({"nodeId": id, "command": "device.info", "idempotencyKey": "k"});
    owner.call("node.invoke", call).await.expect("approved with the link");
}
