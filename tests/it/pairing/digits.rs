//! Six digits on the node and wherever the operator looks: the same, those of this link, and only they approve.

use atoll_tests::mesh::{Mesh, Node, Pipe};
use atoll_tests::wait::until;
use atoll_tests::wire::{Wire, node};
use serde_json::{Value, json};

use super::{COMMAND, Device, Refusal, find, knock};

atoll_tests::over_every_pipe! {
    the_digits_on_the_node_are_those_of_every_list_and_they_approve,
    five_wrong_codes_end_the_request_and_the_node_asks_anew_with_other_digits,
    another_link_of_the_same_node_shows_other_digits_under_the_same_request,
}

/// What the node says: the digits in its status, which the line on its terminal repeats.
async fn shown(node: &mut Node) -> (String, String) {
    let (request, digits) = until("the node to show digits", async || {
        let status = node.status().await;
        let text = |field: &str| status["status"][field].as_str().map(str::to_owned);
        text("requestId").zip(text("digits"))
    })
    .await;
    let line = node.program().line("these digits").await;
    assert!(line.ends_with(&format!("{} {}", &digits[..3], &digits[3..])), "{line}");
    (request, digits)
}

fn started(mesh: &Mesh, name: &str, pipe: Pipe) -> Node {
    let mut node = Node::prepare(&mesh.target(), name, &[]).over(pipe);
    node.run();
    node
}

/// Six digits that are not these.
fn other(digits: &str) -> String {
    let number: u32 = digits.parse().expect("digits");
    format!("{:06}", (number + 1) % 1_000_000)
}

async fn approve_with(owner: &mut Wire, request: &str, code: &str) -> Result<Value, Value> {
    owner
        .call("device.pair.approve", json!({"requestId": request, "code": code}))
        .await
}

fn tries_left(error: &Value) -> (&Value, &Value) {
    (&error["details"]["code"], &error["details"]["triesLeft"])
}

async fn the_digits_on_the_node_are_those_of_every_list_and_they_approve(pipe: Pipe) {
    let mesh = Mesh::start().await;
    let mut owner = mesh.operator().await;
    let mut node = started(&mesh, "laptop", pipe);
    let (request, digits) = shown(&mut node).await;
    let asked = owner.event("device.pair.requested").await;
    assert_eq!((&asked["requestId"], &asked["code"]), (&json!(request), &json!(digits)));
    for list in ["device.pair.list", "node.pair.list"] {
        let list = owner.call(list, json!({})).await.expect("a list");
        let row = find(&list, "pending", "requestId", &request).expect("it waits");
        assert_eq!(row["code"], digits.as_str(), "{row}");
    }
    let listed = mesh.cli(&["devices", "list"]).await;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let (left, right) = digits.split_at(3);
    assert!(listed.contains(&format!("{left} {right}")), "{listed}");
    assert!(listed.lines().all(|line| line.chars().count() <= 80), "{listed}");

    let wrong = mesh
        .cli(&["devices", "approve", &request, "--code", &other(&digits)])
        .await;
    assert!(!wrong.status.success(), "{wrong:?}");
    let right = mesh.cli(&["devices", "approve", &request, "--code", left, right]).await;
    assert!(right.status.success(), "{right:?}");
    mesh.connected("laptop").await;
    assert_eq!(node.status().await["status"]["digits"], json!(null));
}

async fn five_wrong_codes_end_the_request_and_the_node_asks_anew_with_other_digits(pipe: Pipe) {
    let mesh = Mesh::start().await;
    let mut owner = mesh.operator().await;
    let mut node = started(&mesh, "guessed", pipe);
    let (request, digits) = shown(&mut node).await;
    for left in (0..5).rev() {
        let error = approve_with(&mut owner, &request, &other(&digits))
            .await
            .expect_err("wrong");
        assert_eq!(
            tries_left(&error),
            (&json!("PAIRING_CODE_MISMATCH"), &json!(left)),
            "{error}"
        );
    }
    let resolved = owner.event("device.pair.resolved").await;
    assert_eq!(
        (&resolved["requestId"], &resolved["decision"]),
        (&json!(request), &json!("rejected"))
    );
    approve_with(&mut owner, &request, &digits)
        .await
        .expect_err("it is too late for the right ones");

    // The node was told, and asks again by itself: another request, other digits.
    let again = until("another request", async || {
        let list = owner.call("device.pair.list", json!({})).await.ok()?;
        let row = list["pending"].as_array()?.first()?.clone();
        (row["requestId"] != request.as_str()).then_some(row)
    })
    .await;
    assert_ne!(again["code"], digits.as_str());
    let (request, code) = (again["requestId"].as_str(), again["code"].as_str());
    approve_with(&mut owner, request.expect("an id"), code.expect("digits"))
        .await
        .expect("the right ones");
    mesh.connected("guessed").await;
}

async fn another_link_of_the_same_node_shows_other_digits_under_the_same_request(pipe: Pipe) {
    let mesh = Mesh::start().await;
    let mut owner = mesh.operator().await;
    let mut node = started(&mesh, "restarted", pipe);
    let (request, first) = shown(&mut node).await;
    node.kill().await;
    node.run();
    let second = until("other digits", async || {
        let status = node.status().await;
        let digits = status["status"]["digits"].as_str().map(str::to_owned);
        digits.filter(|digits| *digits != first)
    })
    .await;
    let error = approve_with(&mut owner, &request, &first)
        .await
        .expect_err("those of a link that is gone");
    assert_eq!(tries_left(&error).0, "PAIRING_CODE_MISMATCH");
    approve_with(&mut owner, &request, &second)
        .await
        .expect("those of the link that waits");
    mesh.connected("restarted").await;
}

#[tokio::test]
async fn a_device_of_the_dialect_shows_no_digits_and_a_code_does_not_approve_it() {
    let mesh = Mesh::start().await;
    let target = mesh.target();
    let mut owner = mesh.operator().await;
    let refused: Refusal = knock(&target, &Device::default(), node(&target.token, "theirs", &[COMMAND]))
        .await
        .expect_err("unknown");
    let list = owner.call("device.pair.list", json!({})).await.expect("a list");
    let row = find(&list, "pending", "requestId", refused.request_id()).expect("it waits");
    assert!(row.get("code").is_none(), "{row}");
    approve_with(&mut owner, refused.request_id(), "123456")
        .await
        .expect_err("nothing to compare");
    let list = owner.call("device.pair.list", json!({})).await.expect("a list");
    assert!(
        find(&list, "pending", "requestId", refused.request_id()).is_some(),
        "{list}"
    );
}
