//! Who did what: every call, made or refused, and every answer to a question, counted or not.

use atoll_tests::fake::telegram::Person;
use atoll_tests::fake_node::FakeNode;
use atoll_tests::mesh::Mesh;
use atoll_tests::scene::Setting;
use atoll_tests::wait::until;
use atoll_tests::wire::Wire;
use serde_json::{Value, json};

/// Needs no further configuration on a Linux node.
const COMMAND: &str = "system.notify";

fn call(node: &str, command: &str) -> Value {
    json!({"nodeId": node, "command": command, "timeoutMs": 15_000, "idempotencyKey": uuid::Uuid::new_v4().to_string()})
}

type Facts = (String, String, String, Value);

fn facts(entry: &Value) -> Facts {
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let command = entry["detail"]["command"].clone();
    (text("action"), text("target"), text("outcome"), command)
}

fn invoke(target: &str, outcome: &str, command: &str) -> Facts {
    let action = "node.invoke".to_owned();
    (action, target.to_owned(), outcome.to_owned(), json!(command))
}

/// The newest entry.
async fn last(link: &mut Wire) -> Value {
    let listed = link.call("audit.entries", json!({"limit": 1})).await.expect("entries");
    listed["entries"][0].clone()
}

#[tokio::test]
async fn every_call_leaves_a_trace_whether_it_was_made_or_not() {
    let mesh = Mesh::start().await;
    let mut owner = mesh.operator().await;
    let mut node = FakeNode::pair(
        &mesh.target(),
        &mut owner,
        "Audited",
        &[COMMAND, "camera.snap", "system.run"],
    )
    .await;
    let id = node.id();

    let asked = owner.ask("node.invoke", call(&id, COMMAND)).await;
    let arrived = node.invoked(COMMAND).await;
    node.succeed(&arrived, &json!({})).await.expect("taken");
    owner.answer(&asked).await.expect("made");
    let entry = last(&mut owner).await;
    assert_eq!(facts(&entry), invoke(&id, "ok", COMMAND));
    assert_eq!(entry["actor"], "shared-secret");

    let mut reader = mesh.operator_with(&["operator.read"]).await;
    let mut claims = call(&id, "system.run");
    claims["params"] = json!({"command": ["ls"], "approved": true});
    let nobody = "0".repeat(64);
    for (may_write, ask, expected) in [
        (true, call(&id, "camera.snap"), invoke(&id, "denied", "camera.snap")),
        (true, claims, invoke(&id, "denied", "system.run")),
        (true, call(&nobody, COMMAND), invoke(&nobody, "unknown_node", COMMAND)),
        (true, call("laptop", COMMAND), invoke("laptop", "unknown_node", COMMAND)),
        (false, call(&id, COMMAND), invoke(&id, "denied", COMMAND)),
    ] {
        let link = if may_write { &mut owner } else { &mut reader };
        link.call("node.invoke", ask).await.expect_err("refused");
        let entry = last(&mut owner).await;
        assert_eq!(facts(&entry), expected, "{entry}");
        assert_ne!(entry["detail"]["why"].as_str().unwrap_or_default(), "", "{entry}");
    }
    node.wire.close().await;
    until("the node to be gone", async || {
        owner.call("node.invoke", call(&id, COMMAND)).await.err()?;
        let entry = last(&mut owner).await;
        (facts(&entry) == invoke(&id, "node_away", COMMAND)).then_some(())
    })
    .await;
    let refused = reader
        .call("audit.entries", json!({}))
        .await
        .expect_err("for administrators");
    assert_eq!(refused["details"]["missingScope"], "operator.admin", "{refused}");
}

#[tokio::test]
async fn answers_to_questions_are_written_down_and_those_of_the_wrong_person_too() {
    let mesh = Mesh::start().await;
    let (mut asker, mut owner) = (mesh.operator().await, mesh.operator().await);
    let asked = asker
        .call("exec.approval.request", json!({"command": "ls", "twoPhase": true}))
        .await;
    let id = asked.expect("asked")["id"].clone();
    let answer = json!({"id": id, "decision": "allow-once"});
    let mut reader = mesh.operator_with(&["operator.read"]).await;
    for link in [&mut asker, &mut reader] {
        link.call("exec.approval.resolve", answer.clone())
            .await
            .expect_err("not theirs");
        let entry = last(&mut owner).await;
        assert_eq!(
            (&entry["action"], &entry["target"]),
            (&json!("exec.approval.resolve"), &id)
        );
        assert_eq!(
            (&entry["outcome"], &entry["detail"]["decision"]),
            (&json!("denied"), &json!("allow-once"))
        );
    }
    owner.call("exec.approval.resolve", answer).await.expect("answered");
    assert_eq!(last(&mut owner).await["outcome"], "ok");
}

#[tokio::test]
async fn the_command_line_shows_what_was_done() {
    let mesh = Mesh::start().await;
    let mut owner = mesh.operator().await;
    for command in ["first.command", "second.command"] {
        owner
            .call("node.invoke", call("laptop", command))
            .await
            .expect_err("no such node");
    }
    let newest = mesh
        .cli_json(&["audit", "--limit", "1", "--since", "1h", "--json"])
        .await;
    let rows = newest["entries"].as_array().expect("entries");
    assert_eq!(rows.len(), 1, "{newest}");
    assert_eq!(rows[0]["detail"]["command"], "second.command");
    let none = mesh.cli_json(&["audit", "--since", "0s", "--json"]).await;
    assert_eq!(none["entries"], json!([]), "{none}");
    let shown = mesh.cli(&["audit"]).await;
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(
        text.contains("first.command") && text.contains("unknown_node"),
        "{text}"
    );
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[tokio::test]
async fn a_stranger_who_asks_for_a_code_and_one_who_presses_a_button_are_written_down() {
    let scene = Setting::default()
        .config(&json!({"channels": {"telegram": {"dmPolicy": "pairing"}}}))
        .start()
        .await;
    let mut owner = scene.mesh.operator().await;
    let stranger = Person::new(77, "Eve");
    scene.telegram.meet(&stranger);
    scene.telegram.write(&stranger, stranger.id, "a secret word");
    let told = scene
        .telegram
        .wait_sent(77, |sent| sent.text.contains("Pairing code: "))
        .await;
    let entry = last(&mut owner).await;
    assert_eq!(
        (&entry["actor"], &entry["action"], &entry["target"], &entry["outcome"]),
        (
            &json!("telegram:77"),
            &json!("channels.pairing.request"),
            &json!("telegram:default"),
            &json!("pending")
        ),
        "{entry}"
    );
    let code = told
        .text
        .split("Pairing code: ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let code = code.expect("a code").replace(['<', '>', '`'], "");
    assert!(
        !entry.to_string().contains("secret") && !entry.to_string().contains(&code),
        "{entry}"
    );

    for (number, (data, action, target)) in [
        ("ap:no-such-question:o", "exec.approval.resolve", "no-such-question"),
        ("somebody else's button", "channels.button", "telegram:default"),
    ]
    .into_iter()
    .enumerate()
    {
        scene.telegram.push(json!({"callback_query": {
            "id": format!("press-{number}"), "from": {"id": 77, "is_bot": false, "first_name": "Eve"}, "chat_instance": "1",
            "data": data, "message": {"message_id": 1, "date": 1_767_225_700, "text": "?",
                "chat": {"id": 77, "type": "private", "first_name": "Eve"}},
        }}));
        let entry = until("the press in the audit", async || {
            let entry = last(&mut owner).await;
            (entry["action"] == action).then_some(entry)
        })
        .await;
        assert_eq!(
            (&entry["actor"], &entry["target"], &entry["outcome"]),
            (&json!("telegram:77"), &json!(target), &json!("denied")),
            "{entry}"
        );
    }
}
