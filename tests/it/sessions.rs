//! Conversations as operators' programs look after them: made short, watched, shown when a client starts.

use atoll_tests::fake::model::{Asked, Step};
use atoll_tests::fake::openai::FakeOpenAi;
use atoll_tests::mesh::Mesh;
use atoll_tests::wire::Wire;
use serde_json::{Value, json};

const KEY: &str = "a-key-of-the-fake-model";
const SESSION: &str = "agent:main:main";

/// Says what it knows: the words of all that it is shown.
fn rememberer(asked: &Asked) -> Step {
    if asked.last_user == "hang" {
        return Step::Hang;
    }
    if asked.last_user.contains("fail") {
        return Step::refuse(401, "invalid_api_key", "no");
    }
    if asked.last_user.starts_with("<conversation>") {
        assert!(asked.tools.is_empty());
        let told = asked.last_user.replace('\n', " / ");
        return Step::say(format!("SUMMARY of {told}"));
    }
    let shown = asked.body["messages"].as_array().expect("messages")[1..].iter();
    let words: Vec<_> = shown.filter_map(|message| message["content"].as_str()).collect();
    Step::say(format!("I know [{}]", words.len()))
}

async fn mesh() -> (Mesh, FakeOpenAi) {
    let model = FakeOpenAi::start(KEY, rememberer).await;
    let provider =
        json!({"baseUrl": model.base_url(), "apiKey": KEY, "api": "openai-completions", "models": [{"id": "model"}]});
    let config = json!({
        "agents": {"defaults": {"model": {"primary": "fake/model"}}}, "models": {"providers": {"fake": provider}},
    });
    (Mesh::with(&config).await, model)
}

async fn ok(wire: &mut Wire, method: &str, params: Value) -> Value {
    let answer = wire.call(method, params).await;
    answer.unwrap_or_else(|error| panic!("{method}: {error}"))
}

async fn send(wire: &mut Wire, text: &str) -> Value {
    let key = uuid::Uuid::new_v4().to_string();
    let params = json!({"sessionKey": SESSION, "message": text, "idempotencyKey": key});
    ok(wire, "chat.send", params).await["runId"].take()
}

async fn say(wire: &mut Wire, text: &str) {
    let wait = json!({"runId": send(wire, text).await, "timeoutMs": 60_000});
    assert_eq!(ok(wire, "agent.wait", wait).await["status"], "ok");
}

/// What a model is shown of the conversation with the next question.
async fn shown(wire: &mut Wire, model: &FakeOpenAi) -> Vec<String> {
    say(wire, "and now?").await;
    let asked = model.asked();
    let messages = asked.last().expect("a question").body["messages"].clone();
    let messages = messages.as_array().expect("messages")[1..].iter();
    messages
        .map(|message| message["content"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test]
async fn a_summary_stands_for_a_long_conversation_and_the_people_still_see_all_of_it() {
    let (mut mesh, model) = mesh().await;
    let mut wire = mesh.operator().await;
    let compact = json!({"key": SESSION});
    let none = ok(&mut wire, "sessions.compact", compact.clone()).await;
    assert_eq!(
        none,
        json!({"ok": true, "key": SESSION, "compacted": false, "reason": "no sessionId"})
    );
    say(&mut wire, "the word is kelp").await;
    let done = ok(&mut wire, "sessions.compact", compact.clone()).await;
    assert_eq!(
        (&done["ok"], &done["compacted"]),
        (&json!(true), &json!(true)),
        "{done}"
    );
    let summary = done["result"]["summary"].as_str().expect("a summary");
    assert!(
        summary.starts_with("SUMMARY of") && summary.contains("[person] the word is kelp"),
        "{summary}"
    );
    assert!(done["result"]["tokensBefore"].is_u64() && done["result"]["tokensAfter"].is_u64());

    mesh.kill().await;
    mesh.run().await;
    let mut wire = mesh.operator().await;
    let words = shown(&mut wire, &model).await;
    assert_eq!((words.len(), words[1].as_str()), (2, "and now?"), "{words:?}");
    assert!(words[0].contains("SUMMARY of"), "{words:?}");
    let history = ok(&mut wire, "chat.history", json!({"sessionKey": SESSION})).await;
    assert_eq!(history["messages"][0]["content"][0]["text"], "the word is kelp");
    let again = ok(&mut wire, "sessions.compact", compact).await;
    let summary = again["result"]["summary"].as_str().expect("a summary");
    assert!(summary.contains("kelp") && summary.contains("and now?"), "{summary}");
    let twice = ok(&mut wire, "sessions.compact", json!({"key": SESSION})).await;
    assert_eq!(
        (&twice["ok"], &twice["reason"]),
        (&json!(false), &json!("nothing to compact"))
    );
}

#[tokio::test]
async fn only_the_newest_messages_are_kept_where_that_is_asked_for() {
    let (mesh, model) = mesh().await;
    let mut wire = mesh.operator().await;
    for text in ["one", "two", "three"] {
        say(&mut wire, text).await;
    }
    let output = mesh
        .cli(&["sessions", "compact", SESSION, "--max-lines", "2", "--json"])
        .await;
    let done: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(done, json!({"ok": true, "key": SESSION, "compacted": true, "kept": 2}));
    let output = mesh.cli(&["sessions", "compact", SESSION, "--max-lines", "9"]).await;
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("short enough"));
    let words = shown(&mut wire, &model).await;
    assert!(words[0].contains("taken out"), "{words:?}");
    assert_eq!((words.len(), words[1].as_str()), (4, "three"), "{words:?}");
}

#[tokio::test]
async fn a_conversation_that_runs_or_whose_model_fails_stays_as_it_is() {
    let (mesh, _model) = mesh().await;
    let mut wire = mesh.operator().await;
    say(&mut wire, "hello").await;
    let run = send(&mut wire, "hang").await;
    let error = wire.call("sessions.compact", json!({"key": SESSION})).await;
    let error = error.expect_err("a turn runs");
    assert_eq!(
        error["message"],
        format!("Session {SESSION} has an active run; retry after it finishes.")
    );
    ok(&mut wire, "chat.abort", json!({"sessionKey": SESSION, "runId": run})).await;
    ok(&mut wire, "agent.wait", json!({"runId": run})).await;
    let wait = json!({"runId": send(&mut wire, "fail").await, "timeoutMs": 60_000});
    assert_eq!(ok(&mut wire, "agent.wait", wait).await["status"], "error");
    let error = wire.call("sessions.compact", json!({"key": SESSION})).await;
    let error = error.expect_err("the model says no to anything with that word");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|told| told.contains("fake/model")),
        "{error}"
    );
    let output = mesh.cli(&["sessions", "compact", SESSION]).await;
    assert!(!output.status.success());
    let mut reader = mesh.operator_with(&["operator.read", "operator.write"]).await;
    let error = reader.call("sessions.compact", json!({"key": SESSION})).await;
    assert!(error.expect_err("no admin").to_string().contains("operator.admin"));
}

#[tokio::test]
async fn a_link_that_watches_hears_of_turns_and_their_messages_and_no_other_link_does() {
    let (mesh, _model) = mesh().await;
    let (mut watcher, mut other) = (mesh.operator().await, mesh.operator().await);
    assert_eq!(
        ok(&mut watcher, "sessions.subscribe", json!({})).await,
        json!({"subscribed": true})
    );
    let list = ok(&mut watcher, "sessions.subscribe", json!({"limit": 5})).await;
    assert!(
        list["subscribed"] == true && list["list"]["sessions"].is_array(),
        "{list}"
    );
    let key = json!({"key": "main"});
    assert_eq!(
        ok(&mut watcher, "sessions.messages.subscribe", key.clone()).await,
        json!({"subscribed": true, "key": SESSION})
    );
    say(&mut other, "hello").await;
    for reason in ["start", "end"] {
        let changed = watcher.event("sessions.changed").await;
        assert_eq!(
            (&changed["sessionKey"], &changed["reason"]),
            (&json!(SESSION), &json!(reason))
        );
        assert!(changed["ts"].is_u64() && changed["agentId"] == "main", "{changed}");
    }
    for event in other.overheard() {
        assert!(!event.starts_with("session"), "{event}");
    }

    say(&mut other, "again").await;
    let said = watcher
        .frame("the answer", |frame| {
            frame["event"] == "session.message" && frame["payload"]["messageSeq"] == 4
        })
        .await;
    assert_eq!(said["payload"]["message"]["role"], "assistant", "{said}");
    let not = ok(&mut watcher, "sessions.messages.unsubscribe", key).await;
    assert_eq!(not, json!({"subscribed": false, "key": SESSION}));
    let run = send(&mut other, "once more").await;
    ok(&mut other, "agent.wait", json!({"runId": run})).await;
    ok(&mut other, "sessions.reset", json!({"key": SESSION})).await;
    let reset = watcher
        .frame("the reset, and no message before it", |frame| {
            assert!(
                frame["event"] != "session.message" || frame["payload"]["runId"] != run,
                "{frame}"
            );
            frame["event"] == "sessions.changed" && frame["payload"]["reason"] == "reset"
        })
        .await;
    assert_eq!(reset["payload"]["sessionKey"], SESSION);
}

#[tokio::test]
async fn a_client_that_starts_gets_the_history_and_how_the_session_stands() {
    let (mesh, _model) = mesh().await;
    let mut wire = mesh.operator().await;
    say(&mut wire, "hello").await;
    let startup = ok(&mut wire, "chat.startup", json!({"sessionKey": "main", "limit": 10})).await;
    assert_eq!(startup["messages"].as_array().map(Vec::len), Some(2), "{startup}");
    let info = &startup["sessionInfo"];
    assert_eq!(
        (&info["key"], &info["hasActiveRun"], &info["activeRunIds"]),
        (&json!(SESSION), &json!(false), &json!([])),
        "{info}"
    );
    let id = startup["sessionId"].as_str().expect("an id");
    let named = json!({"shortId": id[..8], "agentId": "main"});
    let startup = ok(&mut wire, "chat.startup", named).await;
    assert_eq!(
        startup["resolution"],
        json!({"ok": true, "key": SESSION, "agentId": "main"})
    );
    assert_eq!(startup["messages"].as_array().map(Vec::len), Some(2), "{startup}");
    let nobody = json!({"shortId": "zz", "agentId": "main"});
    assert_eq!(
        ok(&mut wire, "chat.startup", nobody).await,
        json!({"resolution": {"ok": false}})
    );
    let run = send(&mut wire, "hang").await;
    let startup = ok(&mut wire, "chat.startup", json!({"sessionKey": SESSION})).await;
    assert_eq!(startup["sessionInfo"]["activeRunIds"], json!([run]));
}
