//! Their command line as the one that answers questions, looks at what may run on the gateway, and makes conversations short.

use atoll_tests::fake::model::Step;
use atoll_tests::fake::openai::FakeOpenAi;
use atoll_tests::mesh::Mesh;
use atoll_tests::openclaw::OpenClaw;
use serde_json::{Value, json};

async fn printed(peer: &OpenClaw, line: &str) -> Value {
    let words: Vec<_> = line.split(' ').chain(["--json"]).collect();
    peer.cli_json(&words).await
}

#[tokio::test]
async fn their_command_line_answers_the_questions_of_our_gateway() {
    let mesh = Mesh::start().await;
    let peer = OpenClaw::beside(&mesh.target());
    // Without anybody to answer, a question ends at once.
    let (mut asker, _answerer) = (mesh.operator().await, mesh.operator().await);
    let ask = json!({"command": "ls /tmp", "twoPhase": true, "timeoutMs": 600_000});
    let asked = asker.ask("exec.approval.request", ask).await;
    let accepted = asker.answer(&asked).await.expect("asked");
    let id = accepted["id"].as_str().expect("an id").to_owned();
    let pending = printed(&peer, "approvals pending").await;
    let rows = pending.as_array().or_else(|| pending["pending"].as_array());
    let rows = rows.or_else(|| pending["approvals"].as_array()).expect("rows");
    assert_eq!(
        (&rows[0]["id"], &rows[0]["kind"], &rows[0]["summary"]),
        (&json!(id), &json!("exec"), &json!("ls /tmp")),
        "{pending}"
    );
    let resolved = printed(&peer, &format!("approvals resolve {id} allow-once")).await;
    assert_eq!(
        (&resolved["applied"], &resolved["approval"]["status"]),
        (&json!(true), &json!("allowed")),
        "{resolved}"
    );
    assert_eq!(
        asker.answer(&asked).await.expect("the answer")["decision"],
        "allow-once"
    );
    let again = printed(&peer, &format!("approvals resolve {id} allow-once")).await;
    assert_eq!(again["alreadyResolved"], true, "{again}");
    let other = peer.cli(&["approvals", "resolve", &id, "deny"]).await;
    assert!(!other.status.success(), "the first answer counts");

    let policy = printed(&peer, "approvals get --gateway").await;
    assert_eq!(policy["file"]["version"], 1, "{policy}");
    assert!(
        policy["path"]
            .as_str()
            .is_some_and(|path| path.ends_with("exec-approvals.json")),
        "{policy}"
    );
}

#[tokio::test]
async fn their_command_line_makes_a_conversation_of_our_gateway_short() {
    let model = FakeOpenAi::start("a-key-of-the-fake-model", |_| Step::say("kelp")).await;
    let provider = json!({"baseUrl": model.base_url(), "apiKey": "a-key-of-the-fake-model",
        "api": "openai-completions", "models": [{"id": "model"}]});
    let mesh = Mesh::with(&json!({
        "agents": {"defaults": {"model": {"primary": "fake/model"}}}, "models": {"providers": {"fake": provider}},
    }))
    .await;
    let mut owner = mesh.operator().await;
    let say = json!({"key": "main", "message": "hello", "idempotencyKey": "k1"});
    owner.call("sessions.send", say).await.expect("taken");
    let waited = owner.call("agent.wait", json!({"runId": "k1"})).await.expect("the end");
    assert_eq!(waited["status"], "ok");
    let peer = OpenClaw::beside(&mesh.target());
    let compacted = printed(&peer, "sessions compact agent:main:main").await;
    assert_eq!(
        (&compacted["compacted"], &compacted["result"]["summary"]),
        (&json!(true), &json!("kelp")),
        "{compacted}"
    );
}
