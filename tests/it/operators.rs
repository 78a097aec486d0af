//! What an operator's link can ask for: how much at once, of which conversation, and which words are refused instead of passed over.

use atoll_protocol::limits;
use atoll_tests::fake::model::Step;
use atoll_tests::fake::openai::FakeOpenAi;
use atoll_tests::fake_node::FakeNode;
use atoll_tests::mesh::Mesh;
use atoll_tests::wait::until;
use atoll_tests::wire::{ALL_SCOPES, Wire, operator};
use serde_json::{Value, json};

const KEY: &str = "a-key-of-the-fake-model";

/// Needs no further configuration on a Linux node.
const COMMAND: &str = "system.notify";

/// A gateway whose agent has a model that hears out `hang` and never answers, and answers everything else.
async fn mesh() -> (Mesh, FakeOpenAi) {
    let model = FakeOpenAi::start(KEY, |asked| {
        if asked.last_user.contains("hang") {
            Step::Hang
        } else {
            Step::say("done")
        }
    })
    .await;
    let provider =
        json!({"baseUrl": model.base_url(), "apiKey": KEY, "api": "openai-completions", "models": [{"id": "model"}]});
    let config = json!({
        "agents": {"defaults": {"model": {"primary": "fake/model"}}}, "models": {"providers": {"fake": provider}},
    });
    (Mesh::with(&config).await, model)
}

fn fresh() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A question that waits, asked on another link than the one that is to answer it.
async fn question(asker: &mut Wire) -> String {
    let ask = json!({"command": "ls", "twoPhase": true});
    let accepted = asker.call("exec.approval.request", ask).await.expect("asked");
    accepted["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_link_whose_requests_all_wait_is_still_read() {
    let (mesh, _model) = mesh().await;
    let mut asker = mesh.operator().await;
    // A link each, so that each kind is shown to leave its place.
    for kind in [
        "exec.approval.waitDecision",
        "exec.approval.request",
        "agent",
        "agent.wait",
    ] {
        let mut link = mesh.operator().await;
        let open = question(&mut asker).await;
        let session = format!("agent:main:{}", fresh());
        let say = json!({"message": "hang", "sessionKey": session, "idempotencyKey": fresh()});
        let run = asker.call("agent", say).await.expect("accepted")["runId"].clone();
        let params = |n: usize| match kind {
            "exec.approval.waitDecision" => json!({"id": open}),
            "exec.approval.request" => json!({"command": "ls"}),
            "agent" => {
                json!({"message": "hang", "sessionKey": format!("{session}:{n}"), "idempotencyKey": fresh()})
            }
            _ => json!({"runId": run, "timeoutMs": 60_000}),
        };
        let mut asked = Vec::new();
        for n in 0..limits::OPERATOR_REQUESTS {
            asked.push(link.ask(kind, params(n)).await);
        }
        link.call("node.list", json!({}))
            .await
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        let answer = json!({"id": open, "decision": "deny"});
        link.call("exec.approval.resolve", answer).await.expect("answered");
        if kind == "exec.approval.waitDecision" {
            for asked in &asked {
                assert_eq!(link.answer(asked).await.expect("the answer")["decision"], "deny");
            }
        }
        let abort = json!({"sessionKey": session});
        assert_eq!(link.call("chat.abort", abort).await.expect("aborted")["aborted"], true);
        if kind == "agent.wait" {
            for asked in &asked {
                assert_eq!(link.answer(asked).await.expect("the end")["status"], "error");
            }
        }
        link.close().await;
    }
}

#[tokio::test]
async fn requests_that_wait_are_bounded_and_one_too_many_is_refused() {
    let mesh = Mesh::start().await;
    let (mut asker, mut link) = (mesh.operator().await, mesh.operator().await);
    let wait = json!({"id": question(&mut asker).await});
    let mut asked = Vec::new();
    for _ in 0..limits::OPERATOR_WAITS {
        asked.push(link.ask("exec.approval.waitDecision", wait.clone()).await);
    }
    for refused in [
        link.call("exec.approval.waitDecision", wait.clone()).await,
        link.call("exec.approval.request", json!({"command": "ls"})).await,
        link.call("agent.wait", json!({"runId": "r"})).await,
    ] {
        let error = refused.expect_err("one too many");
        assert_eq!(error["details"]["code"], "TOO_MANY_WAITING", "{error}");
    }
    let answer = json!({"id": wait["id"], "decision": "deny"});
    link.call("exec.approval.resolve", answer).await.expect("answered");
    for asked in &asked {
        assert_eq!(link.answer(asked).await.expect("the answer")["decision"], "deny");
    }
    link.call("exec.approval.waitDecision", wait)
        .await
        .expect("there is room again");
}

#[tokio::test]
async fn calls_that_take_every_place_can_be_called_off_on_their_own_link() {
    let mesh = Mesh::start().await;
    let (mut other, mut link) = (mesh.operator().await, mesh.operator().await);
    let mut node = FakeNode::pair(&mesh.target(), &mut other, "Slow", &[COMMAND]).await;
    for _ in 0..limits::OPERATOR_REQUESTS {
        let call = json!({"nodeId": node.id(), "command": COMMAND, "timeoutMs": 600_000, "idempotencyKey": fresh()});
        link.ask("node.invoke", call).await;
    }
    for _ in 0..limits::OPERATOR_REQUESTS {
        node.invoked(COMMAND).await;
    }
    let open = other
        .call("node.calls.list", json!({"state": "open"}))
        .await
        .expect("a list");
    let call = json!({"callId": open["calls"][0]["callId"]});
    link.call("health", json!({})).await.expect("health");
    link.call("node.invoke.cancel", call).await.expect("called off");
}

#[tokio::test]
async fn whoever_guards_against_a_conversation_that_began_anew_does_not_speak_into_it() {
    let (mesh, model) = mesh().await;
    let mut link = mesh.operator().await;
    let session = "agent:main:guarded";
    let say = |expected: Option<&Value>| {
        let mut say = json!({"message": "hello", "sessionKey": session, "idempotencyKey": fresh()});
        if let Some(expected) = expected {
            say["expectedExistingSessionId"] = expected.clone();
        }
        say
    };
    let known = async |link: &mut Wire| {
        let list = link.call("sessions.list", json!({})).await.expect("a list");
        let rows = list["sessions"].as_array().expect("rows").clone();
        let row = rows.into_iter().find(|row| row["key"] == session).expect("the session");
        row["sessionId"].clone()
    };
    let spoken = async |link: &mut Wire, expected: Option<&Value>| {
        let accepted = link.call("agent", say(expected)).await?;
        let wait = json!({"runId": accepted["runId"], "timeoutMs": 15_000});
        Ok::<_, Value>(link.call("agent.wait", wait).await.expect("an end")["status"].clone())
    };
    assert_eq!(spoken(&mut link, None).await, Ok(json!("ok")));
    let old = known(&mut link).await;
    assert_eq!(spoken(&mut link, Some(&old)).await, Ok(json!("ok")));
    assert_eq!(known(&mut link).await, old, "the same conversation");
    link.call("sessions.reset", json!({"key": session}))
        .await
        .expect("reset");
    let asked = model.asked().len();
    let refused = spoken(&mut link, Some(&old)).await.expect_err("another conversation");
    assert!(
        refused["message"].as_str().expect("words").contains("begun anew"),
        "{refused}"
    );
    let new = known(&mut link).await;
    assert_eq!(spoken(&mut link, Some(&new)).await, Ok(json!("ok")));
    assert_eq!(model.asked().len(), asked + 1, "nothing was said by the refused one");
}

#[tokio::test]
async fn what_would_not_be_done_is_refused_by_name_and_what_is_done_anyway_is_not() {
    let (mesh, model) = mesh().await;
    let mut link = mesh.operator().await;
    let with = |base: &Value, name: &str, value: &Value| {
        let mut params = base.clone();
        params["idempotencyKey"] = json!(fresh());
        params[name] = value.clone();
        params
    };
    let send = json!({"sessionKey": "agent:main:main", "message": "hello"});
    let agent = json!({"message": "hello"});
    let to_session = json!({"key": "agent:main:main", "message": "hello"});
    for (method, base, name, value) in [
        ("chat.send", &send, "deliver", json!(true)),
        ("chat.send", &send, "thinking", json!("high")),
        ("chat.send", &send, "queueMode", json!("interrupt")),
        ("chat.send", &send, "replyToId", json!("m1")),
        ("sessions.send", &to_session, "thinking", json!("low")),
        ("agent", &agent, "deliver", json!(true)),
        ("agent", &agent, "thinking", json!("high")),
        ("agent", &agent, "to", json!("+15550100")),
        ("agent", &agent, "replyTo", json!("+15550100")),
        ("agent", &agent, "threadId", json!("7")),
        ("agent", &agent, "accountId", json!("work")),
        ("agent", &agent, "groupId", json!("-100")),
    ] {
        let refused = link.call(method, with(base, name, &value)).await;
        let error = refused.expect_err(name);
        let words = error["message"].as_str().expect("words");
        assert!(words.starts_with(&format!("{name}: ")), "{method} {name}: {error}");
    }
    assert!(model.asked().is_empty(), "nothing was said");
    for (method, base, name, value) in [
        ("chat.send", &send, "deliver", json!(false)),
        ("chat.send", &send, "thinking", json!("off")),
        ("chat.send", &send, "queueMode", json!("followup")),
        ("chat.send", &send, "timeoutMs", json!(0)),
        ("agent", &agent, "deliver", json!(false)),
        ("agent", &agent, "channel", json!("last")),
        ("agent", &agent, "threadId", json!("")),
        (
            "agent",
            &json!({"message": "hello", "sessionKey": "agent:main:main"}),
            "to",
            json!("+15550100"),
        ),
    ] {
        let taken = link.call(method, with(base, name, &value)).await;
        taken.unwrap_or_else(|error| panic!("{method} {name}: {error}"));
    }
}

#[tokio::test]
async fn a_turn_takes_no_longer_than_whoever_asked_for_it_says() {
    let (mesh, _model) = mesh().await;
    let mut link = mesh.operator().await;
    for (method, name, limit) in [("chat.send", "timeoutMs", 300), ("agent", "timeout", 1)] {
        let mut say = json!({"message": "hang", "sessionKey": format!("agent:main:{name}"), "idempotencyKey": fresh()});
        say[name] = json!(limit);
        let run = link.call(method, say).await.expect("taken")["runId"].clone();
        let end = link
            .call("agent.wait", json!({"runId": run, "timeoutMs": 18_000}))
            .await
            .expect("an end");
        assert_eq!(end["status"], "error", "{method}: {end}");
    }
}

#[tokio::test]
async fn hello_names_the_mode_of_authentication_as_the_configuration_does() {
    let password = json!({"gateway": {"auth": {"mode": "password", "password": "p".repeat(40)}}});
    for (config, expected) in [(json!({}), "token"), (password, "password")] {
        let mesh = Mesh::with(&config).await;
        let mut ask = operator(&mesh.target().token, &ALL_SCOPES);
        if expected == "password" {
            ask["auth"] = json!({"password": "p".repeat(40)});
        }
        let (_, hello) = Wire::connect(&mesh.target(), ask, None).await.expect("let in");
        assert_eq!(hello["snapshot"]["authMode"], expected, "{hello}");
    }
}

#[tokio::test]
async fn a_new_key_is_told_where_it_lies_and_an_old_one_is_not() {
    let mut mesh = Mesh::start().await;
    let place = format!("Its key is in {}", mesh.state().join("identity.key").display());
    mesh.gateway().line(&place).await;
    mesh.stop().await;
    mesh.run().await;
    mesh.gateway().line("listening").await;
    assert!(
        !mesh.gateway().log().contains("Its key is in"),
        "{}",
        mesh.gateway().log()
    );
}

#[tokio::test]
async fn a_broken_edit_of_the_configuration_is_told_and_stops_nobody() {
    let mesh = Mesh::start().await;
    let mut link = mesh.operator().await;
    std::fs::write(mesh.state().join("atoll.json"), "{gateway: {port: 'x'}}").expect("written");
    until("the broken edit to be told", async || {
        let status = link.call("status", json!({})).await.ok()?;
        let told = status["configProblems"][0].as_str()?.contains("gateway.port");
        told.then_some(())
    })
    .await;
    for (page, word) in [("readyz", "ready"), ("startupz", "started")] {
        let url = format!("{}/{page}", mesh.target().http());
        let answer = reqwest::get(url).await.expect("an answer");
        assert_eq!(answer.status(), 200, "{page}");
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(
            (&body[word], &body["warnings"]),
            (&json!(true), &json!(["config"])),
            "{body}"
        );
    }
}
