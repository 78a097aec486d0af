//! Messages whose conversation is busy, and words that begin another one (`messages.queue`, `session.resetTriggers`).

use atoll_tests::fake::telegram::Sent;
use atoll_tests::scene::{OWNER, Scene, Setting};
use serde_json::json;

/// A scene in which a job waits for its approval, and the question about it.
async fn busy(queue: &serde_json::Value) -> (Scene, Sent) {
    let scene = Setting::default()
        .config(&json!({"messages": {"queue": queue}}))
        .start()
        .await;
    scene.ask("busy");
    let card = scene.card("busy").await;
    (scene, card)
}

#[tokio::test]
async fn messages_that_wait_are_collected_into_one_turn() {
    let (scene, card) = busy(&json!({"mode": "collect", "debounceMs": 200})).await;
    scene.write("one");
    scene.write("two");
    // A word that is answered while the turn runs shows that both have arrived.
    scene.write("/whoami");
    scene.said("the owner").await;
    scene.press(&scene.owner, &card, "Allow once");
    assert_eq!(scene.answer("busy").await, "finished busy: it ran");
    let answer = scene.said("I heard: ").await;
    assert_eq!(answer.text, "I heard: one\n\ntwo");
    scene.write("three");
    scene.said("I heard: three").await;
    // The card, /whoami and three answers: nothing was said twice, and nothing is left.
    assert_eq!(scene.telegram.sent(OWNER).len(), 5, "{:#?}", scene.telegram.sent(OWNER));
}

#[tokio::test]
async fn a_message_is_heard_by_the_turn_that_runs_even_by_one_that_dies_and_is_taken_up() {
    let (mut scene, card) = busy(&json!({"byChannel": {"telegram": "steer"}})).await;
    scene.write("never mind");
    scene.write("/whoami");
    scene.said("the owner").await;
    scene.mesh.kill().await;
    scene.mesh.run().await;
    scene.press(&scene.owner, &card, "Allow once");
    scene.said("I heard: never mind").await;
    assert_eq!(scene.runs("busy"), 1);
    let asked = scene.model.asked().pop().expect("it was asked");
    assert!(asked.body.to_string().contains("it ran"), "in the turn of the job");
    scene.write("after");
    scene.said("I heard: after").await;
    let sent = scene.telegram.sent(OWNER);
    let heard = sent.iter().filter(|sent| sent.text.starts_with("I heard: "));
    assert_eq!(heard.count(), 2, "{sent:#?}");
    assert!(!sent.iter().any(|sent| sent.text.starts_with("finished")), "{sent:#?}");
}

#[tokio::test]
async fn a_message_takes_the_place_of_the_turn_that_runs() {
    let (scene, card) = busy(&json!({"mode": "interrupt"})).await;
    scene.write("something else");
    scene.said("I heard: something else").await;
    scene.said("Stopped.").await;
    assert_eq!(scene.said("Withdrawn").await.message, card.message);
    assert_eq!(scene.runs("busy"), 0);
}

#[tokio::test]
async fn what_is_too_much_is_summarised_or_refused_and_never_just_gone() {
    let (scene, card) = busy(&json!({"cap": 1})).await;
    scene.write("one");
    scene.write("two");
    scene.write("/whoami");
    scene.said("the owner").await;
    scene.press(&scene.owner, &card, "Allow once");
    let answer = scene.said("I heard: ").await.text;
    assert!(answer.contains("It began: one]") && answer.ends_with("two"), "{answer}");
    for (rule, told, heard) in [
        ("old", "this one is not answered: one", "I heard: two"),
        ("new", "1 messages are waiting", "I heard: one"),
    ] {
        let (scene, card) = busy(&json!({"cap": 1, "drop": rule})).await;
        scene.write("one");
        scene.write("two");
        scene.said(told).await;
        scene.press(&scene.owner, &card, "Allow once");
        scene.said(heard).await;
        assert_eq!(scene.answer("busy").await, "finished busy: it ran");
    }
}

#[tokio::test]
async fn a_conversation_begins_anew_with_the_words_that_are_configured_and_what_follows_them() {
    let triggers = json!({"session": {"resetTriggers": ["from the top"]}});
    let scene = Setting::default().config(&triggers).start().await;
    scene.write("remember the pineapple");
    scene.said("I heard: remember the pineapple").await;
    scene.write("From the top what do you know?");
    scene.said("I heard: what do you know?").await;
    let last = scene.model.asked().pop().expect("it was asked").body.to_string();
    assert!(!last.contains("pineapple"), "{last}");
    scene.write("/new is only a word now");
    scene.said("I heard: /new is only a word now").await;
}

#[tokio::test]
async fn a_question_outlasts_the_time_of_its_turn() {
    let brief = json!({
        "approvals": {"exec": {"timeoutMs": 6000}},
        "agents": {"defaults": {"timeoutSeconds": 2}},
    });
    let scene = Setting::default().config(&brief).start().await;
    scene.ask("patient");
    let answer = scene.answer("patient").await;
    assert!(answer.contains("nobody approved it in time"), "{answer}");
    assert_eq!(scene.runs("patient"), 0);
}

#[tokio::test]
async fn what_nobody_answers_runs_only_where_the_devices_owner_says_so_too() {
    let open = json!({
        "approvals": {"exec": {"timeoutMs": 1500}},
        // Nobody's silence is a yes in a conversation that has read a device's words.
        "tools": {"untrusted": "off", "exec": {"askFallback": "full"}},
    });
    let scene = Setting::default().config(&open).start().await;
    scene.ask("closed");
    let answer = scene.answer("closed").await;
    assert!(answer.contains("approval required"), "{answer}");
    assert_eq!(scene.runs("closed"), 0, "the device has the last word");
    scene
        .node
        .consent(&json!({"version": 1, "defaults": {"security": "full", "ask": "always", "askFallback": "full"}}));
    scene.ask("open");
    assert_eq!(scene.answer("open").await, "finished open: it ran");
    assert_eq!(scene.runs("open"), 1);
}
