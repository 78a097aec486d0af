//! Questions that end without an answer.

use atoll_tests::fake::telegram::Fault;
use atoll_tests::mesh::Pipe;
use atoll_tests::scene::{OWNER, Setting};
use serde_json::json;

atoll_tests::over_every_pipe! {
    a_question_that_nobody_answers_in_time_ends_in_one_answer_and_a_late_click_runs_nothing,
}

async fn a_question_that_nobody_answers_in_time_ends_in_one_answer_and_a_late_click_runs_nothing(pipe: Pipe) {
    let brief = json!({"approvals": {"exec": {"timeoutMs": 5000}}});
    let scene = Setting::default().over(pipe).config(&brief).start().await;
    scene.ask("late");
    let card = scene.card("late").await;
    let answer = scene.answer("late").await;
    assert!(answer.contains("nobody approved it in time"), "{answer}");
    let expired = scene.said("Nobody answered in time").await;
    assert_eq!((expired.message, expired.buttons.len()), (card.message, 0));
    let click = scene.press_stale(&card, "Allow once");
    let notice = scene.notice(&click).await.text;
    assert!(!notice.is_empty() && !notice.contains("Allowed"), "{notice}");
    // A later job of the same lane shows that nothing of the late one is still under way.
    scene.ask("next");
    scene.allow("next").await;
    assert_eq!(scene.answer("next").await, "finished next: it ran");
    assert_eq!(scene.runs("late"), 0);
    // The card, its answer, and the same for the next one.
    assert_eq!(scene.telegram.sent(OWNER).len(), 4, "{:#?}", scene.telegram.sent(OWNER));
}

#[tokio::test]
async fn a_card_whose_question_is_over_before_it_could_be_sent_never_appears() {
    let brief = json!({"approvals": {"exec": {"timeoutMs": 2000}}});
    let scene = Setting::default().config(&brief).start().await;
    // The platform takes nothing until long after the question is over.
    scene.telegram.fail_next("sendMessage", Fault::TooManyRequests(6));
    scene.ask("unseen");
    let answer = scene.answer("unseen").await;
    assert!(answer.contains("nobody approved it in time"), "{answer}");
    // The answer is behind the card in the same chat, so that the card would be there by now.
    let sent = scene.telegram.sent(OWNER);
    assert_eq!((sent.len(), scene.runs("unseen")), (1, 0), "{sent:#?}");
}

#[tokio::test]
async fn a_chat_is_told_at_once_when_nobody_may_approve_and_who_must_be_configured() {
    let several = json!({"channels": {"telegram": {"allowFrom": [OWNER.to_string(), "43"]}}});
    let scene = Setting::default().config(&several).start().await;
    scene.ask("orphaned");
    let told = scene.said("commands.ownerAllowFrom").await;
    assert!(
        told.text.contains("nobody may approve it") && told.text.contains("atoll config set"),
        "{}",
        told.text
    );
    let answer = scene.answer("orphaned").await;
    assert!(answer.contains("not run: nobody may approve it"), "{answer}");
    assert_eq!(scene.runs("orphaned"), 0);
}
