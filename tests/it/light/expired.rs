//! Questions that end without an answer.

use atoll_tests::scene::{OWNER, Setting};
use serde_json::json;

#[tokio::test]
async fn a_question_that_nobody_answers_in_time_ends_in_one_answer_and_a_late_click_runs_nothing() {
    let brief = json!({"approvals": {"exec": {"timeoutMs": 5000}}});
    let scene = Setting::default().config(&brief).start().await;
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
