//! Pictures that operators' programs send with a message: stored before the message is, shown to the model, refused when they are none.

use atoll_capabilities::camera::{taken_at, test_picture};
use atoll_protocol::limits;
use atoll_tests::fake::anthropic::FakeAnthropic;
use atoll_tests::fake::model::{Asked, Step};
use atoll_tests::fake::openai::FakeOpenAi;
use atoll_tests::mesh::Mesh;
use atoll_tests::wire::Wire;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const KEY: &str = "a-key-of-the-fake-model";
const SESSION: &str = "agent:main:main";

fn viewer(asked: &Asked) -> Step {
    if asked.last_user.contains("wait") {
        return Step::Hang;
    }
    let seen: Vec<_> = asked.pictures.iter().map(|picture| taken_at(picture)).collect();
    Step::say(format!(
        "{}: {seen:?}",
        asked.body["model"].as_str().unwrap_or_default()
    ))
}

fn config(base_url: &str, api: &str) -> Value {
    let models = json!([{"id": "eyes", "input": ["text", "image"]}, {"id": "blind"}]);
    json!({
        "agents": {"defaults": {"model": {"primary": "fake/eyes"}}},
        "models": {"providers": {"fake": {"baseUrl": base_url, "apiKey": KEY, "api": api, "models": models}}},
    })
}

async fn mesh() -> (Mesh, FakeOpenAi) {
    let model = FakeOpenAi::start(KEY, viewer).await;
    (
        Mesh::with(&config(&model.base_url(), "openai-completions")).await,
        model,
    )
}

fn fresh() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn attached(picture: &[u8]) -> Value {
    json!({"type": "image", "mimeType": "image/jpeg", "fileName": "cat.jpg", "content": STANDARD.encode(picture)})
}

fn message(text: &str, attachments: &[Value]) -> Value {
    json!({"sessionKey": SESSION, "message": text, "attachments": attachments, "idempotencyKey": fresh()})
}

/// What the agent says to a message of `chat.send`.
async fn chat(operator: &mut Wire, params: Value) -> String {
    let run = operator.call("chat.send", params).await.expect("taken")["runId"].take();
    let wait = json!({"runId": run, "timeoutMs": 60_000});
    assert_eq!(
        operator.call("agent.wait", wait).await.expect("the end")["status"],
        "ok"
    );
    last_answer(operator).await
}

async fn last_answer(operator: &mut Wire) -> String {
    let history = operator
        .call("chat.history", json!({"sessionKey": SESSION}))
        .await
        .expect("the history");
    let messages = history["messages"].as_array().expect("messages");
    let last = messages.last().expect("an answer");
    last["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}

/// What the agent says to a message of `agent`, whose reply comes in two parts.
async fn agent(operator: &mut Wire, params: Value) -> Result<String, Value> {
    let asked = operator.ask("agent", params).await;
    operator.answer(&asked).await?;
    let done = operator.answer(&asked).await?;
    let text = &done["result"]["payloads"][0]["text"];
    Ok(text.as_str().unwrap_or_default().to_owned())
}

async fn expect_seen(mesh: &Mesh) {
    let pictures = [test_picture(640, 80), test_picture(1920, 90)].map(|picture| picture.expect("a picture"));
    let times = pictures.each_ref().map(|picture| taken_at(picture));
    assert!(times.iter().all(Option::is_some));
    let mut operator = mesh.operator().await;
    let both: Vec<_> = pictures.iter().map(|picture| attached(picture)).collect();
    let answer = chat(&mut operator, message("what is it?", &both)).await;
    assert_eq!(answer, format!("eyes: {times:?}"));
    // No words beside it, and the older ones are not the newest words' any more.
    let answer = chat(&mut operator, message("", &both[1..])).await;
    assert!(answer.ends_with(&format!("{:?}]", times[1])), "{answer}");
    let run = message("and this?", &both[..1]);
    let answer = agent(&mut operator, run).await.expect("an answer");
    assert_eq!(answer, format!("eyes: {:?}", &times[..1]));

    let history = operator
        .call("chat.history", json!({"sessionKey": SESSION}))
        .await
        .expect("the history");
    let parts = history["messages"][0]["content"].as_array().expect("parts");
    assert_eq!(
        parts.iter().map(|part| &part["type"]).collect::<Vec<_>>(),
        ["text", "image", "image"]
    );
    assert_eq!(parts[1]["media"]["name"], "cat.jpg");
    let encoded = STANDARD.encode(&pictures[0]);
    assert!(
        !history.to_string().contains(&encoded[100..160]),
        "handles and no bytes"
    );
}

#[tokio::test]
async fn a_model_sees_the_pictures_of_a_message() {
    let (mesh, model) = mesh().await;
    expect_seen(&mesh).await;
    assert_eq!(model.refused(), Vec::<String>::new());
    let model = FakeAnthropic::start(KEY, viewer).await;
    let mesh = Mesh::with(&config(&model.base_url(), "anthropic-messages")).await;
    expect_seen(&mesh).await;
    assert_eq!(model.refused(), Vec::<String>::new());
}

#[tokio::test]
async fn a_picture_that_was_taken_in_survives_a_kill() {
    let (mut mesh, _model) = mesh().await;
    let picture = test_picture(640, 80).expect("a picture");
    let mut operator = mesh.operator().await;
    let first = operator
        .call("chat.send", message("wait", &[]))
        .await
        .expect("the turn before it")["runId"]
        .take();
    let params = message("what is it?", &[attached(&picture)]);
    let run = operator.call("chat.send", params).await.expect("taken")["runId"].take();
    mesh.kill().await;
    mesh.run().await;
    let mut operator = mesh.operator().await;
    let abort = json!({"sessionKey": SESSION, "runId": first});
    operator.call("chat.abort", abort).await.expect("stopped");
    let wait = json!({"runId": run, "timeoutMs": 60_000});
    assert_eq!(
        operator.call("agent.wait", wait).await.expect("the end")["status"],
        "ok"
    );
    let answer = last_answer(&mut operator).await;
    assert_eq!(answer, format!("eyes: [{:?}]", taken_at(&picture)));
}

#[tokio::test]
async fn what_is_no_picture_is_refused_and_nothing_is_said() {
    let (mesh, model) = mesh().await;
    let mut operator = mesh.operator().await;
    let picture = test_picture(320, 60).expect("a picture");
    let broken = {
        let mut broken = picture.clone();
        broken.truncate(40);
        broken
    };
    let large = vec![0xFF; limits::ATTACHED_PICTURE + 1];
    let many = vec![attached(&picture); limits::ATTACHMENTS + 1];
    let cases = [
        (
            json!([{"fileName": "a.png", "content": "**"}]),
            "attachment a.png: invalid base64 content",
        ),
        (json!([{"fileName": "a.png"}]), "content must be base64 string"),
        (
            json!([{"fileName": "a.pdf", "mimeType": "application/pdf", "content": "JVBERi0="}]),
            "application/pdf",
        ),
        (json!([attached(&large)]), "image exceeds size limit"),
        (json!([attached(&broken)]), "attachment cat.jpg: it cannot be shown"),
        (json!(many), "8 at most"),
    ];
    for method in ["chat.send", "agent", "sessions.send"] {
        for (attachments, words) in &cases {
            let mut params = message("look", &[]);
            params["attachments"] = attachments.clone();
            if method == "sessions.send" {
                params["key"] = params["sessionKey"].take();
                params.as_object_mut().expect("an object").remove("sessionKey");
            }
            let error = operator.call(method, params).await.expect_err(words);
            let told = error["message"].as_str().unwrap_or_default();
            assert!(
                error["code"] == "INVALID_REQUEST" && told.contains(words),
                "{method}: {error}"
            );
        }
    }
    let error = operator
        .call("chat.send", message("/status", &[attached(&picture)]))
        .await
        .expect_err("a command");
    assert!(error.to_string().contains("no attachments"), "{error}");
    assert!(model.asked().is_empty());
}

#[tokio::test]
async fn an_admin_chooses_the_model_of_one_turn() {
    let (mesh, model) = mesh().await;
    let mut operator = mesh.operator().await;
    let picture = test_picture(640, 80).expect("a picture");
    let mut params = message("look", &[attached(&picture)]);
    params["model"] = json!("fake/blind");
    let answer = agent(&mut operator, params).await.expect("an answer");
    assert_eq!(answer, "blind: []");
    let asked = model.asked();
    assert!(
        asked[0].last_user.contains("cannot see pictures"),
        "{}",
        asked[0].last_user
    );
    let answer = agent(&mut operator, message("look", &[])).await.expect("an answer");
    assert!(answer.starts_with("eyes: "), "for one turn alone: {answer}");

    for (field, value, words) in [
        ("model", "nobody/model", "models.providers.nobody.baseUrl"),
        ("model", "blind", "provider/model"),
        ("provider", "fake", "name the model"),
        ("cwd", "here", "cwd must be absolute"),
        ("cwd", "/tmp", "cwd is reserved for plugin-owned subagent runs"),
    ] {
        let mut params = message("look", &[]);
        params[field] = json!(value);
        let error = agent(&mut operator, params).await.expect_err(words);
        assert!(
            error["message"].as_str().is_some_and(|told| told.contains(words)),
            "{error}"
        );
    }
    let mut writer = mesh.operator_with(&["operator.read", "operator.write"]).await;
    let mut params = message("look", &[]);
    params["model"] = json!("fake/blind");
    let error = agent(&mut writer, params).await.expect_err("no admin");
    assert_eq!(
        error["message"],
        "provider/model overrides are not authorized for this caller."
    );
    for key in ["model", "cwd"] {
        let mut params = message("look", &[]);
        params[key] = json!("fake/blind");
        let error = operator.call("chat.send", params).await.expect_err("no such key");
        assert!(error.to_string().contains(key), "{error}");
    }
}
