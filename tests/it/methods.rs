//! Methods that do something: what they answer when they succeed, and what is different afterwards.

use atoll_tests::fake::model::Step;
use atoll_tests::fake::telegram::Person;
use atoll_tests::fake_node::FakeNode;
use atoll_tests::mesh::Mesh;
use atoll_tests::scene::{OWNER, Scene, Setting};
use atoll_tests::wait::until;
use atoll_tests::wire::{Device, Wire};
use serde_json::{Value, json};

/// A method that succeeds.
async fn ok(wire: &mut Wire, method: &str, params: Value) -> Value {
    let answer = wire.call(method, params).await;
    answer.unwrap_or_else(|error| panic!("{method}: {error}"))
}

/// Says something in a session and waits for the end of the turn.
async fn say(wire: &mut Wire, session: &str, message: &str) -> String {
    let key = uuid::Uuid::new_v4().to_string();
    let params = json!({"key": session, "message": message, "idempotencyKey": key});
    let started = ok(wire, "sessions.send", params.clone()).await;
    assert_eq!(started, json!({"runId": key, "status": "started"}));
    let waited = ok(wire, "agent.wait", json!({"runId": key})).await;
    assert_eq!(waited["status"], "ok", "{waited}");
    assert_eq!(ok(wire, "sessions.send", params).await["status"], "ok", "said once");
    key
}

/// The texts of a session, the newest last.
async fn history(wire: &mut Wire, session: &str) -> (Value, Vec<String>) {
    let mut history = ok(wire, "sessions.history", json!({"key": session})).await;
    assert_eq!(history["sessionKey"], session, "{history}");
    let messages = history["messages"].as_array().expect("messages");
    let texts = messages.iter().map(|message| {
        let role = message["role"].as_str().expect("a role");
        format!("{role}: {}", message["content"][0]["text"].as_str().expect("a text"))
    });
    let texts: Vec<_> = texts.collect();
    assert_eq!(
        (&history["totalMessages"], &history["hasMore"]),
        (&json!(texts.len()), &json!(false))
    );
    (history["sessionId"].take(), texts)
}

async fn keys(wire: &mut Wire) -> Vec<Value> {
    let mut list = ok(wire, "sessions.list", json!({})).await;
    let rows = list["sessions"].as_array_mut().expect("sessions");
    rows.iter_mut().map(|row| row["key"].take()).collect()
}

#[tokio::test]
async fn a_session_is_written_to_begun_anew_and_deleted() {
    const NOTES: &str = "agent:main:notes";
    let scene = Scene::new().await;
    let mut wire = scene.mesh.operator().await;
    say(&mut wire, NOTES, "the word is kelp").await;
    let (first, texts) = history(&mut wire, NOTES).await;
    assert_eq!(
        texts,
        ["user: the word is kelp", "assistant: I heard: the word is kelp"]
    );

    let reset = ok(
        &mut wire,
        "sessions.reset",
        json!({"key": NOTES, "reason": "new", "expectedSessionId": first}),
    )
    .await;
    let second = &reset["entry"]["sessionId"];
    assert_eq!((&reset["ok"], &reset["key"]), (&json!(true), &json!(NOTES)), "{reset}");
    assert!(second.is_string() && *second != first, "{reset}");
    assert_eq!(history(&mut wire, NOTES).await, (second.clone(), vec![]));
    let stale = json!({"key": NOTES, "expectedSessionId": first});
    wire.call("sessions.reset", stale)
        .await
        .expect_err("it is another one by now");
    say(&mut wire, NOTES, "what was it?").await;
    let asked = scene.model.asked().pop().expect("it was asked").body.to_string();
    assert!(!asked.contains("kelp"), "{asked}");

    assert!(keys(&mut wire).await.contains(&json!(NOTES)));
    let delete = json!({"key": NOTES, "deleteTranscript": true});
    for deleted in [true, false] {
        let answer = ok(&mut wire, "sessions.delete", delete.clone()).await;
        assert_eq!(
            answer,
            json!({"ok": true, "key": NOTES, "deleted": deleted, "archived": []})
        );
    }
    assert!(!keys(&mut wire).await.contains(&json!(NOTES)));
    assert_eq!(history(&mut wire, NOTES).await, (json!(null), vec![]));
    say(&mut wire, "agent:main:main", "hello").await;
    let main = wire.call("sessions.delete", json!({"key": "agent:main:main"})).await;
    let main = main.expect_err("the main one can only be begun anew");
    assert!(
        main["message"]
            .as_str()
            .is_some_and(|message| message.contains("reset")),
        "{main}"
    );
}

#[tokio::test]
async fn a_turn_is_called_off_and_the_next_one_begins() {
    let hang = |asked: &atoll_tests::fake::model::Asked| asked.last_user.contains("forever").then_some(Step::Hang);
    let scene = Setting::default().script(hang).start().await;
    let mut wire = scene.mesh.operator().await;
    let send = |key: &str, message: &str| json!({"sessionKey": "main", "message": message, "idempotencyKey": key});
    let abort = json!({"sessionKey": "main"});
    let nothing = json!({"ok": true, "aborted": false, "runIds": []});
    assert_eq!(ok(&mut wire, "chat.abort", abort.clone()).await, nothing);
    for by_run in [false, true] {
        let run = format!("run-{by_run}");
        ok(&mut wire, "chat.send", send(&run, &format!("think forever {run}"))).await;
        until("the model to think", async || (scene.questions(&run) > 0).then_some(())).await;
        let mut abort = abort.clone();
        if by_run {
            abort["runId"] = json!("another");
            assert_eq!(ok(&mut wire, "chat.abort", abort.clone()).await, nothing);
            abort["runId"] = json!(run);
        }
        let aborted = ok(&mut wire, "chat.abort", abort).await;
        assert_eq!(aborted, json!({"ok": true, "aborted": true, "runIds": [run]}));
        let is_end = |frame: &Value| {
            frame["event"] == "chat"
                && frame["payload"]["runId"] == run.as_str()
                && frame["payload"]["state"] != "delta"
        };
        let ended = wire.frame("the end of the turn", is_end).await;
        assert_eq!(ended["payload"]["state"], "aborted", "{ended}");
    }
    ok(&mut wire, "chat.send", send("next", "hello")).await;
    assert_eq!(
        ok(&mut wire, "agent.wait", json!({"runId": "next"})).await["status"],
        "ok"
    );
}

/// Whether a page of that origin may connect.
async fn is_open_to(mesh: &Mesh, origin: &str) -> bool {
    Wire::open_with(&mesh.target(), &[("Origin", origin)]).await.is_ok()
}

#[tokio::test]
async fn a_configuration_that_is_written_is_in_force_with_the_answer() {
    let mesh = Mesh::start().await;
    let mut wire = mesh.operator().await;
    let page = |name: &str| format!("https://{name}.example");
    let written = |name: &str| {
        format!(
            "// mine\n{{gateway: {{controlUi: {{allowedOrigins: ['{}']}}}}}}\n",
            page(name)
        )
    };
    let patch = |name: Value| json!({"gateway": {"controlUi": {"allowedOrigins": name}}}).to_string();
    let table = [
        ("config.set", written("one"), Some("one")),
        ("config.patch", patch(json!([page("two")])), Some("two")),
        ("config.apply", written("three"), Some("three")),
        ("config.patch", patch(json!(null)), None),
    ];
    let mut last = json!("nope");
    for (method, raw, open) in table {
        let hash = ok(&mut wire, "config.get", json!({})).await["hash"].take();
        let change = |hash: &Value| json!({"raw": raw, "baseHash": hash});
        let stale = wire.call(method, change(&last)).await.expect_err("of an older file");
        assert_eq!(stale["details"]["code"], "CONFIG_CHANGED", "{stale}");
        let answer = ok(&mut wire, method, change(&hash)).await;
        for name in ["one", "two", "three"] {
            assert_eq!(
                is_open_to(&mesh, &page(name)).await,
                open == Some(name),
                "{name} after {method}"
            );
        }
        let now = ok(&mut wire, "config.get", json!({})).await;
        assert_eq!(
            (&answer["ok"], &answer["path"], &answer["hash"], &answer["config"]),
            (&json!(true), &now["path"], &now["hash"], &now["config"]),
            "{method}"
        );
        let file = std::fs::read_to_string(mesh.state().join("atoll.json")).expect("a file");
        assert!(file.starts_with("// mine"), "{method} keeps what people wrote: {file}");
        last = hash;
    }
}

#[tokio::test]
async fn a_message_is_sent_once_for_each_key_and_strangers_are_listed() {
    let scene = Setting::default()
        .config(&json!({"channels": {"telegram": {"dmPolicy": "pairing"}}}))
        .start()
        .await;
    let mut wire = scene.mesh.operator().await;
    let send = json!({"to": format!("telegram:{OWNER}"), "message": "dinner is ready", "idempotencyKey": "k1"});
    for _ in 0..2 {
        let sent = ok(&mut wire, "send", send.clone()).await;
        assert_eq!(
            sent,
            json!({"runId": "k1", "channel": "telegram", "chatId": OWNER.to_string()})
        );
    }
    scene.said("dinner is ready").await;

    let empty = ok(&mut wire, "channels.pairing.list", json!({"channel": "telegram"})).await;
    assert_eq!(empty["requests"], json!([]), "{empty}");
    let carol = Person::new(77, "Carol");
    scene.telegram.meet(&carol);
    scene.telegram.write(&carol, carol.id, "let me in");
    let shown = scene
        .telegram
        .wait_sent(carol.id, |sent| sent.text.contains("Pairing code: "))
        .await;
    let list = ok(&mut wire, "channels.pairing.list", json!({"channel": "telegram"})).await;
    let request = &list["requests"][0];
    assert!(
        shown.text.contains(request["requestId"].as_str().expect("a code")),
        "{list}"
    );
    assert_eq!(
        (
            &request["channel"],
            &request["accountId"],
            &request["senderId"],
            &request["senderLabel"]
        ),
        (&json!("telegram"), &json!("default"), &json!("77"), &json!("Carol")),
        "{list}"
    );
    for pointer in [
        "/requests/0/createdAt",
        "/requests/0/expiresAt",
        "/accounts/0/accountId",
        "/limits/ttlMs",
        "/commandOwnerConfigured",
    ] {
        assert!(list.pointer(pointer).is_some(), "no {pointer}: {list}");
    }
    let dinners = scene
        .telegram
        .sent(OWNER)
        .iter()
        .filter(|sent| sent.text == "dinner is ready")
        .count();
    assert_eq!(dinners, 1);
}

#[tokio::test]
async fn a_node_that_is_rejected_asks_anew_when_it_comes_again() {
    let mesh = Mesh::start().await;
    let mut wire = mesh.operator().await;
    let device = Device::default();
    let mut last = String::new();
    for method in ["node.pair.reject", "device.pair.reject"] {
        let refused = FakeNode::connect(&mesh.target(), device.clone(), "Unwanted", &["device.info"]).await;
        let request = refused.expect_err("a new device waits").request_id().to_owned();
        assert_ne!(request, last, "the old request is over");
        let id = if method.starts_with("node") {
            "nodeId"
        } else {
            "deviceId"
        };
        let rejected = ok(&mut wire, method, json!({"requestId": request})).await;
        assert_eq!(rejected, json!({"requestId": request, id: device.id()}));
        let resolved = wire.event("node.pair.resolved").await;
        assert_eq!(
            (&resolved["requestId"], &resolved["decision"]),
            (&json!(request), &json!("rejected")),
            "{resolved}"
        );
        for list in ["node.pair.list", "device.pair.list"] {
            assert_eq!(ok(&mut wire, list, json!({})).await["pending"], json!([]), "{list}");
        }
        let again = wire
            .call(method, json!({"requestId": request}))
            .await
            .expect_err("it is over");
        assert_eq!(again["message"], "unknown requestId");
        last = request;
    }
}

#[tokio::test]
async fn an_answer_stays_where_the_policy_lets_none_go_out() {
    let rules = json!([{"action": "deny", "match": {"channel": "telegram", "chatType": "direct"}}]);
    let policy = json!({"session": {"sendPolicy": {"rules": rules}}});
    let scene = Setting::default().config(&policy).start().await;
    scene.write("hello");
    let mut wire = scene.mesh.operator().await;
    let heard = until("the answer in the history", async || {
        let history = ok(&mut wire, "chat.history", json!({"sessionKey": "main"})).await;
        (history["totalMessages"] == 2).then(|| history.to_string())
    })
    .await;
    assert!(heard.contains("I heard"), "{heard}");
    let params = json!({"sessionKey": "main", "message": "x", "idempotencyKey": "k"});
    let refused = wire
        .call("chat.send", params.clone())
        .await
        .expect_err("its chat is that one");
    assert_eq!(refused["message"], "send blocked by session policy");
    let config = ok(&mut wire, "config.get", json!({})).await;
    let patch = json!({"raw": "{session: {sendPolicy: null}}", "baseHash": config["hash"]});
    ok(&mut wire, "config.patch", patch).await;
    ok(&mut wire, "chat.send", params).await;
    scene.write("hello again");
    let said = scene.said("hello again").await;
    assert!(said.text.contains("I heard"), "{}", said.text);
    let all = scene.telegram.sent(OWNER);
    assert_eq!(all.len(), 1, "the first answer never went out: {all:?}");
}

#[tokio::test]
async fn an_agent_is_told_who_it_is() {
    let identity = json!({"name": "Kelp", "theme": "calm and brief"});
    let scene = Setting::default()
        .config(&json!({"agents": {"list": [{"id": "main", "identity": identity}]}}))
        .start()
        .await;
    scene.write("who are you?");
    scene.said("I heard").await;
    let asked = scene.model.asked();
    let body = asked.last().expect("a question").body.to_string();
    assert!(
        body.contains("Your name is Kelp. Your manner: calm and brief."),
        "{body}"
    );
}
