//! Who answers whom and in which conversation, who becomes the owner, and what is found again when the list of conversations is lost.

use atoll_tests::fake::telegram::Person;
use atoll_tests::scene::{OWNER, Scene, Setting, button};
use serde_json::{Value, json};

async fn sessions(scene: &Scene) -> Vec<(String, String)> {
    let list = scene.mesh.cli_json(&["sessions", "list", "--json"]).await;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let rows = list["sessions"].as_array().expect("sessions").iter();
    let mut rows: Vec<_> = rows.map(|row| (text(&row["key"]), text(&row["sessionId"]))).collect();
    rows.sort();
    rows
}

/// Somebody writes to the bot and gets the model's answer.
async fn talk(scene: &Scene, who: &Person, text: &str) {
    scene.telegram.write(who, who.id, text);
    let answer = format!("I heard: {text}");
    scene.telegram.wait_sent(who.id, |sent| sent.text == answer).await;
}

#[tokio::test]
async fn each_person_has_a_conversation_and_the_agent_that_is_bound_to_them() {
    let to_bob = json!({"agentId": "work", "match": {"channel": "telegram", "peer": {"kind": "direct", "id": "43"}}});
    let scene = Setting::default()
        .config(&json!({
            "agents": {"list": [{"id": "main", "default": true}, {"id": "work"}]}, "bindings": [to_bob],
            "session": {"dmScope": "per-peer"}, "commands": {"ownerAllowFrom": [OWNER.to_string()]},
            "channels": {"telegram": {"allowFrom": [OWNER.to_string(), "43", "44"]}},
        }))
        .start()
        .await;
    let (bob, carol) = (Person::new(43, "Bob"), Person::new(44, "Carol"));
    scene.telegram.meet(&bob);
    scene.telegram.meet(&carol);
    talk(&scene, &scene.owner, "remember the pineapple").await;
    talk(&scene, &bob, "hello from Bob").await;
    talk(&scene, &carol, "what is to be remembered?").await;
    for asked in scene.model.asked().iter().skip(1) {
        assert!(!asked.body.to_string().contains("pineapple"), "{}", asked.body);
    }
    talk(&scene, &scene.owner, "what was it?").await;
    let last = scene.model.asked().pop().expect("it was asked");
    assert!(last.body.to_string().contains("pineapple"), "{}", last.body);
    let keys: Vec<_> = sessions(&scene).await.into_iter().map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        ["agent:main:direct:42", "agent:main:direct:44", "agent:work:direct:43"]
    );
}

#[tokio::test]
async fn the_owner_may_type_the_answer_to_a_card() {
    let scene = Scene::new().await;
    scene.ask("typed");
    let card = scene.card("typed").await;
    let data = button(&card, "Allow once");
    let id = data.split(':').nth(1).expect("a button names its question");
    scene.write(&format!("/approve {id} allow-once"));
    assert_eq!(scene.answer("typed").await, "finished typed: it ran");
    assert_eq!(scene.runs("typed"), 1);
    scene.said("Allowed once").await;
}

#[tokio::test]
async fn the_first_person_let_in_at_the_gateways_machine_becomes_the_owner() {
    let scene = Setting::default()
        .config(&json!({"channels": {"telegram": {"dmPolicy": "pairing", "allowFrom": null}}}))
        .start()
        .await;
    let mesh = &scene.mesh;
    for (id, name, is_owner) in [(77, "Carol", true), (78, "Dave", false)] {
        let person = Person::new(id, name);
        scene.telegram.meet(&person);
        scene.telegram.write(&person, id, "let me in");
        scene
            .telegram
            .wait_sent(id, |sent| sent.text.contains("Pairing code: "))
            .await;
        let list = mesh.cli_json(&["pairing", "list", "--json"]).await;
        let code = list["requests"][0]["requestId"].as_str().expect("a code").to_owned();
        let approved = mesh
            .cli_json(&["pairing", "approve", "telegram", &code, "--json"])
            .await;
        let outcome = if is_owner { "configured" } else { "already-configured" };
        assert_eq!(approved["commandOwnerBootstrap"], outcome, "{approved}");
        let owners = mesh.cli_json(&["config", "get", "commands.ownerAllowFrom"]).await;
        assert_eq!(owners, json!(["telegram:77"]));
        let words = if is_owner { "Linux" } else { "⛔" };
        scene.telegram.write(&person, id, "/run laptop -- uname -a");
        scene.telegram.wait_sent(id, |sent| sent.text.contains(words)).await;
    }
}

#[tokio::test]
async fn a_lost_list_of_conversations_is_made_anew_from_what_was_said() {
    let mut scene = Scene::new().await;
    scene.write("the secret word is kelp");
    scene.said("I heard: the secret").await;
    scene
        .mesh
        .cli_json(&["sessions", "send", "agent:main:notes", "a note", "--json"])
        .await;
    let before = sessions(&scene).await;
    scene.mesh.stop().await;
    let journal = rusqlite::Connection::open(scene.mesh.state().join("state.db")).expect("a journal");
    assert_eq!(journal.execute("DELETE FROM sessions", []).expect("a table"), 2);
    drop(journal);
    scene.mesh.run().await;
    assert_eq!(sessions(&scene).await, before);
    scene.write("what was it?");
    scene.said("I heard: what was it?").await;
    let last = scene.model.asked().pop().expect("it was asked");
    assert!(last.body.to_string().contains("kelp"), "{}", last.body);
}
