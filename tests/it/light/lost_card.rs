//! Cards whose sending got no answer: they stand in the chat, and nobody told us where.

use atoll_tests::fake::telegram::Fault;
use atoll_tests::scene::{OWNER, Scene, button};

/// A question that stands in the chat twice, since the answer to the first sending was lost; the first of the two.
async fn asked_twice(scene: &Scene) -> atoll_tests::fake::telegram::Sent {
    scene.telegram.fail_next("sendMessage", Fault::DropAfter);
    scene.ask("twice");
    let first = scene.card("twice").await;
    let second =
        |sent: &atoll_tests::fake::telegram::Sent| sent.message != first.message && scene.asks_about(sent, "twice");
    scene.telegram.wait_sent(OWNER, second).await;
    first
}

#[tokio::test]
async fn a_yes_on_a_lost_card_counts_once_and_takes_the_buttons_from_both() {
    let scene = Scene::new().await;
    let first = asked_twice(&scene).await;
    scene.press(&scene.owner, &first, "Allow once");
    assert_eq!(scene.answer("twice").await, "finished twice: it ran");
    assert_eq!(scene.runs("twice"), 1);
    no_buttons_left(&scene).await;
}

#[tokio::test]
async fn a_press_on_a_lost_card_whose_question_is_over_says_so_and_takes_its_buttons() {
    let scene = Scene::new().await;
    let first = asked_twice(&scene).await;
    let second = scene
        .telegram
        .wait_sent(OWNER, |sent| {
            sent.message != first.message && scene.asks_about(sent, "twice")
        })
        .await;
    scene.press(&scene.owner, &second, "Deny");
    let answer = scene.answer("twice").await;
    assert!(answer.contains("denied by"), "{answer}");
    let click = scene
        .telegram
        .click(&scene.owner, OWNER, first.message, &button(&first, "Allow once"));
    let notice = scene.notice(&click).await.text;
    assert!(notice.contains("already resolved"), "{notice}");
    no_buttons_left(&scene).await;
    assert_eq!(scene.runs("twice"), 0);
}

async fn no_buttons_left(scene: &Scene) {
    atoll_tests::wait::until("both cards without their buttons", async || {
        let sent = scene.telegram.sent(OWNER);
        sent.iter().all(|sent| sent.buttons.is_empty()).then_some(())
    })
    .await;
}
