//! Models that are busy, broken or gone.

use std::sync::atomic::{AtomicUsize, Ordering};

use atoll_tests::fake::model::{Asked, Step};
use atoll_tests::scene::{Api, OWNER, Setting};
use serde_json::json;

/// Refuses the first question as described, then does as it is told.
fn refusing_once(status: u16, kind: &'static str) -> impl Fn(&Asked) -> Option<Step> + Send + Sync + 'static {
    let asked = AtomicUsize::new(0);
    move |_| (asked.fetch_add(1, Ordering::Relaxed) == 0).then(|| Step::refuse(status, kind, "come back later"))
}

async fn is_asked_again(api: Api, status: u16, kind: &'static str) {
    let scene = Setting::default()
        .api(api)
        .script(refusing_once(status, kind))
        .start()
        .await;
    scene.write("hello");
    scene.said("I heard: hello").await;
    let said = scene.telegram.sent(OWNER);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert_eq!(scene.questions("hello"), 2);
}

#[tokio::test]
async fn a_model_that_limits_requests_is_asked_again() {
    is_asked_again(Api::OpenAi, 429, "rate_limit_exceeded").await;
}

#[tokio::test]
async fn a_model_that_is_overloaded_is_asked_again() {
    is_asked_again(Api::Anthropic, 529, "overloaded_error").await;
}

#[tokio::test]
async fn a_model_whose_server_fails_is_asked_again() {
    is_asked_again(Api::Anthropic, 500, "api_error").await;
}

#[tokio::test]
async fn when_every_model_fails_the_chat_is_told_which_why_and_what_to_do() {
    let chain = json!({"agents": {"defaults": {"model": {"primary": "fake/model", "fallbacks": ["fake/other"]}}}});
    let scene = Setting::default()
        .config(&chain)
        .script(|_| Some(Step::refuse(401, "invalid_api_key", "Incorrect API key provided")))
        .start()
        .await;
    scene.write("hello");
    let told = scene.said("No model gave an answer").await.text;
    for words in [
        "fake/model",
        "fake/other",
        "refused the API key",
        "models.providers.<provider>.apiKey",
    ] {
        assert!(told.contains(words), "{words} in {told}");
    }
    // The lane is free again: the next message is answered too.
    scene.write("/whoami");
    scene.said("the owner").await;
}
