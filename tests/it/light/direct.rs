//! What works without any model.

use atoll_tests::fake::telegram::Person;
use atoll_tests::mesh::Pipe;
use atoll_tests::scene::{OWNER, Scene, Setting};
use serde_json::json;

atoll_tests::over_every_pipe! {
    a_typed_command_runs_on_the_node_and_prints_its_answer,
    a_command_may_take_as_long_as_the_owner_configured,
    typed_shell_text_is_asked_about_and_then_runs_once,
}

async fn without_a_model(pipe: Pipe) -> Scene {
    Setting::default()
        .over(pipe)
        .config(&json!({"agents": null, "models": null}))
        .start()
        .await
}

async fn a_typed_command_runs_on_the_node_and_prints_its_answer(pipe: Pipe) {
    let scene = without_a_model(pipe).await;
    scene.write("/run laptop -- uname -a");
    scene.said("Linux").await;
    let answers = scene.telegram.sent(OWNER);
    assert_eq!(answers.len(), 1, "{answers:#?}");
}

async fn a_command_may_take_as_long_as_the_owner_configured(pipe: Pipe) {
    let brief = json!({"agents": null, "models": null, "tools": {"exec": {"timeoutSec": 1}}});
    let scene = Setting::default().over(pipe).config(&brief).start().await;
    scene.write("/run laptop -- sleep 300");
    scene.said("timed out").await;
}

async fn typed_shell_text_is_asked_about_and_then_runs_once(pipe: Pipe) {
    let scene = without_a_model(pipe).await;
    scene.write(&format!(
        "/run laptop echo ran >> {}; echo it ran",
        scene.mark("shell").display()
    ));
    scene.allow("shell").await;
    scene.telegram.wait_sent(OWNER, |sent| sent.text == "it ran").await;
    assert_eq!(scene.runs("shell"), 1);
}

#[tokio::test]
async fn direct_commands_answer_the_owner() {
    let scene = without_a_model(Pipe::Ws).await;
    for (typed, words) in [
        ("/help", "/run <node>"),
        ("/nodes", "laptop"),
        ("/status", "1 of 1 connected"),
        ("/whoami", "the owner"),
        ("/new", "new conversation"),
        ("/stop", "Nothing was running"),
        ("/run nobody -- ls", "nobody"),
        ("/run laptop", "Example: /run"),
        ("/approve 0000 allow-once", "⛔"),
    ] {
        let before = scene.telegram.sent(OWNER).len();
        scene.write(typed);
        let next = || scene.telegram.sent(OWNER).into_iter().nth(before);
        let answer = scene.telegram.wait_for(&format!("an answer to {typed}"), next).await;
        assert!(answer.text.contains(words), "{typed}: {}", answer.text);
    }
}

#[tokio::test]
async fn without_a_model_a_message_is_answered_by_what_to_set() {
    let scene = without_a_model(Pipe::Ws).await;
    scene.write("hello");
    let answer = scene.said("No model is configured").await.text;
    assert!(answer.contains("agents.defaults.model.primary"), "{answer}");
}

#[tokio::test]
async fn somebody_who_may_write_may_not_run_commands() {
    let scene = Setting::default()
        .config(&json!({
            "commands": {"ownerAllowFrom": [OWNER.to_string()]},
            "channels": {"telegram": {"allowFrom": [OWNER.to_string(), "43"]}},
        }))
        .start()
        .await;
    let bob = Person::new(43, "Bob");
    scene.telegram.meet(&bob);
    let mark = scene.mark("typed");
    scene
        .telegram
        .write(&bob, bob.id, &format!("/run laptop -- touch {}", mark.display()));
    scene.telegram.wait_sent(bob.id, |sent| sent.text.contains('⛔')).await;
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_new_conversation_does_not_know_the_old_one() {
    let scene = Scene::new().await;
    scene.write("the secret word is kelp");
    scene.said("I heard: the secret").await;
    scene.write("/new");
    scene.said("new conversation").await;
    scene.write("what was it?");
    scene.said("I heard: what was it?").await;
    let last = scene.model.asked().pop().expect("it was asked");
    assert!(!last.body.to_string().contains("kelp"), "{}", last.body);
}
