//! People whom nobody has let in, and groups.

use atoll_tests::fake::telegram::{Person, Sent};
use atoll_tests::scene::{OWNER, Setting};
use serde_json::json;

const GROUP: i64 = -1_000_500;

#[tokio::test]
async fn a_stranger_gets_a_code_and_no_turn_until_the_owner_approves_it() {
    let open = json!({"channels": {"telegram": {"dmPolicy": "pairing"}}});
    let scene = Setting::default().config(&open).start().await;
    let carol = Person::new(77, "Carol");
    scene.telegram.meet(&carol);
    scene
        .telegram
        .write(&carol, carol.id, &scene.job("strange", "echo it ran"));
    let told = scene
        .telegram
        .wait_sent(carol.id, |sent| sent.text.contains("Pairing code: "))
        .await
        .text;
    let code = told
        .split("Pairing code: ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let output = scene
        .mesh
        .cli(&["pairing", "approve", "telegram", code.expect("a code")])
        .await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    scene.telegram.write(&carol, carol.id, "hello");
    scene
        .telegram
        .wait_sent(carol.id, |sent| sent.text == "I heard: hello")
        .await;
    // What was said before the approval was not kept, and the approval makes nobody an owner.
    assert_eq!((scene.questions("strange"), scene.runs("strange")), (0, 0));
    scene.telegram.write(&carol, carol.id, "/run laptop -- id");
    scene
        .telegram
        .wait_sent(carol.id, |sent| sent.text.contains('⛔'))
        .await;
}

#[tokio::test]
async fn a_group_is_heard_when_the_bot_is_mentioned_and_asks_the_owner_in_private() {
    let group = json!({"channels": {"telegram": {"groupPolicy": "allowlist", "groups": {GROUP.to_string(): {}}}}});
    let scene = Setting::default().config(&group).start().await;
    scene.telegram.add_group(GROUP, &[]);
    scene.telegram.write(&scene.owner, GROUP, "just chatting");
    let asked = scene.telegram.write(
        &scene.owner,
        GROUP,
        &format!("@atoll_test_bot {}", scene.job("group", "echo it ran")),
    );
    let card = scene.card("group").await;
    let is_card = |sent: &Sent| !sent.buttons.is_empty();
    assert!(
        !scene.telegram.sent(GROUP).iter().any(is_card),
        "a question is for the owner alone"
    );
    scene.press(&scene.owner, &card, "Allow once");
    let answer = scene.answer_in(GROUP, "group").await;
    assert_eq!(
        (answer.text.as_str(), answer.reply_to),
        ("finished group: it ran", Some(asked))
    );
    assert_eq!((scene.questions("just chatting"), scene.runs("group")), (0, 1));
    assert!(
        !scene
            .telegram
            .sent(OWNER)
            .iter()
            .any(|sent| sent.text.contains("finished"))
    );
}

#[tokio::test]
async fn strangers_in_a_listed_group_are_not_heard() {
    let group = json!({"channels": {"telegram": {"groupPolicy": "allowlist", "groups": {GROUP.to_string(): {}}}}});
    let scene = Setting::default().config(&group).start().await;
    scene.telegram.add_group(GROUP, &[]);
    let mallory = Person::new(666, "Mallory");
    scene
        .telegram
        .write(&mallory, GROUP, "@atoll_test_bot hello from Mallory");
    scene
        .telegram
        .write(&scene.owner, GROUP, "@atoll_test_bot hello from Ann");
    scene
        .telegram
        .wait_sent(GROUP, |sent| sent.text.contains("hello from Ann"))
        .await;
    assert_eq!(scene.questions("hello from Mallory"), 0);
    assert_eq!(scene.telegram.sent(GROUP).len(), 1);
}

#[tokio::test]
async fn where_a_list_decides_a_stranger_gets_no_turn_and_no_word() {
    let scene = Setting::default().start().await;
    let mallory = Person::new(666, "Mallory");
    scene.telegram.meet(&mallory);
    scene
        .telegram
        .write(&mallory, mallory.id, &scene.job("strange", "echo it ran"));
    scene.write("hello");
    scene.said("I heard: hello").await;
    assert_eq!((scene.questions("strange"), scene.runs("strange")), (0, 0));
    assert!(scene.telegram.sent(mallory.id).is_empty());
}
