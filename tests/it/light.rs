//! The main job with everything that can go right or wrong on its way, on the real programs.

mod approval;
mod conversation;
mod direct;
mod disk;
mod expired;
mod lost_card;
mod model;
mod node;
mod queue;
mod routing;
mod stranger;

use atoll_tests::mesh::Pipe;
use atoll_tests::scene::{Api, OWNER, Setting};

atoll_tests::over_every_pipe! {
    a_message_becomes_a_command_on_a_node_with_a_model_that_speaks_messages,
    a_message_becomes_a_command_on_a_node_with_a_model_that_speaks_chat_completions,
}

async fn a_message_becomes_a_command_on_a_node_with_a_model_that_speaks_messages(pipe: Pipe) {
    from_message_to_answer(Api::Anthropic, pipe).await;
}

async fn a_message_becomes_a_command_on_a_node_with_a_model_that_speaks_chat_completions(pipe: Pipe) {
    from_message_to_answer(Api::OpenAi, pipe).await;
}

async fn from_message_to_answer(api: Api, pipe: Pipe) {
    let scene = Setting::default().api(api).over(pipe).start().await;
    scene.ask("first");
    let card = scene.card("first").await;
    for words in ["laptop", "agent main", "/approve "] {
        assert!(card.text.contains(words), "{words} in {}", card.text);
    }
    let click = scene.press(&scene.owner, &card, "Allow once");
    assert_eq!(scene.answer("first").await, "finished first: it ran");
    assert!(!scene.notice(&click).await.text.is_empty());
    assert_eq!(scene.runs("first"), 1);
    let settled = |sent: &atoll_tests::fake::telegram::Sent| sent.message == card.message && sent.buttons.is_empty();
    let card = scene.telegram.wait_sent(OWNER, settled).await;
    assert!(card.text.contains("Allowed once"), "{}", card.text);
    // Said once, and nothing beside it: the card and the answer.
    assert_eq!(scene.telegram.sent(OWNER).len(), 2, "{:#?}", scene.telegram.sent(OWNER));
    assert_eq!(scene.model.refused(), Vec::<String>::new());
}
