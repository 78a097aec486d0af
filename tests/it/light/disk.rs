//! How often somebody who waits for an answer waits for the disk.

use atoll_tests::fake::openai::FakeOpenAi;
use atoll_tests::fake::telegram::{FakeTelegram, Person};
use atoll_tests::mesh::Mesh;
use atoll_tests::wire::Wire;
use serde_json::json;

const TOKEN: &str = "99:TEST-token";
/// One after the other; a bot may write to each of them once a second.
const PEOPLE: [i64; 4] = [41, 42, 43, 44];

async fn durable_commits(operator: &mut Wire) -> u64 {
    let status = operator.call("status", json!({})).await.expect("a status");
    status["durableCommits"].as_u64().expect("a number")
}

#[tokio::test]
async fn a_message_waits_for_the_disk_when_it_comes_and_when_its_answer_leaves() {
    let telegram = FakeTelegram::start(TOKEN).await;
    let people = PEOPLE.map(|id| Person::new(id, "Somebody"));
    people.iter().for_each(|person| telegram.meet(person));
    let model = FakeOpenAi::instant("yes").await;
    let mesh = Mesh::with(&json!({
        "agents": {"defaults": {"model": {"primary": "fake/model"}}},
        "models": {"providers": {"fake": {"baseUrl": model.base_url(), "apiKey": "k",
            "api": "openai-completions", "models": [{"id": "model"}]}}},
        "channels": {"telegram": {"botToken": TOKEN, "apiRoot": telegram.api_root(),
            "dmPolicy": "allowlist", "allowFrom": PEOPLE.map(|id| id.to_string())}},
    }))
    .await;
    let mut operator = mesh.operator().await;
    let before = durable_commits(&mut operator).await;
    for person in &people {
        telegram.write(person, person.id, "hello");
        let answered = || (!telegram.sent(person.id).is_empty()).then_some(());
        telegram.wait_for("the answer", answered).await;
    }
    assert_eq!(durable_commits(&mut operator).await - before, 2 * PEOPLE.len() as u64);
}
