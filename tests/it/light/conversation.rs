//! Order within a conversation, and none between two.

use atoll_tests::scene::{OWNER, Scene, Setting};
use serde_json::json;

const GROUP: i64 = -1_000_500;

#[tokio::test]
async fn two_messages_of_one_conversation_are_answered_in_order() {
    let scene = Scene::new().await;
    scene.ask("early");
    scene.ask("later");
    let first = scene.card("early").await;
    assert_eq!(scene.questions("do later"), 0, "the second waits for the first");
    scene.press(&scene.owner, &first, "Allow once");
    let second = scene.card("later").await;
    assert_eq!(scene.runs("early"), 1);
    scene.press(&scene.owner, &second, "Allow once");
    let answer = scene.answer_in(OWNER, "later").await;
    assert!(scene.answer_in(OWNER, "early").await.message < second.message);
    assert!(second.message < answer.message);
    let last = scene.model.asked().pop().expect("it was asked");
    assert!(
        last.body.to_string().contains("finished early: it ran"),
        "one conversation has one memory"
    );
}

#[tokio::test]
async fn a_conversation_that_waits_holds_up_no_other() {
    let group = json!({"channels": {"telegram": {"groupPolicy": "allowlist", "groups": {GROUP.to_string(): {}}}}});
    let scene = Setting::default().config(&group).start().await;
    scene.telegram.add_group(GROUP, &[]);
    scene.ask("waiting");
    let card = scene.card("waiting").await;
    scene.telegram.write(&scene.owner, GROUP, "@atoll_test_bot hello there");
    scene
        .telegram
        .wait_sent(GROUP, |sent| sent.text.contains("I heard: "))
        .await;
    scene.press(&scene.owner, &card, "Allow once");
    assert_eq!(scene.answer("waiting").await, "finished waiting: it ran");
}
