//! What the person at the device says of calls, on real nodes behind a real gateway: asked, answered, changed in the middle.

use std::time::{Duration, Instant};

use atoll_tests::clock::Clock;
use atoll_tests::mesh::{Mesh, Node, Pipe};
use atoll_tests::wait::until;
use atoll_tests::wire::Wire;
use serde_json::{Value, json};

atoll_tests::over_every_pipe! {
    a_call_that_is_called_off_takes_its_question_back,
    a_deny_in_the_middle_of_a_call_ends_it,
    a_node_that_is_killed_while_a_question_waits_leaves_nothing_that_could_be_answered,
    a_question_that_nobody_answers_counts_as_no_before_the_call_is_over,
    a_rule_for_a_time_outlives_a_restart_and_then_gives_way,
    a_question_is_answered_in_another_terminal,
}

mod bounds;
mod desktop;
mod live;
mod terminal;

/// A gateway whose owner lets cameras be used, and a node with a test picture whose owner says `rules`.
pub(crate) struct Home {
    pub(crate) mesh: Mesh,
    pub(crate) node: Node,
    pub(crate) id: String,
}

impl Home {
    pub(crate) async fn new(pipe: Pipe, rules: Value) -> Self {
        Self::with(pipe, rules, &[] as &[(&str, &str)]).await
    }

    pub(crate) async fn with(pipe: Pipe, rules: Value, environment: &[(&str, impl AsRef<str>)]) -> Self {
        let commands = ["camera.snap", "camera.clip", "camera.stream"];
        let config = json!({"gateway": {"nodes": {"commands": {"allow": commands}}}});
        let mesh = Mesh::with(&config).await.over(pipe);
        let mut node = Node::prepare(&mesh.target(), "home", &[]).over(pipe);
        node = node.with_environment(environment);
        let slow = json!([{"id": "slow", "snap": ["sleep", "1000"]}]);
        let mut document = json!({"camera": {"testPattern": true, "commands": slow}});
        let more = rules.as_object().cloned().unwrap_or_default();
        document.as_object_mut().expect("an object").extend(more);
        node.rules(&document);
        node.consent(&json!({"version": 1, "defaults": {"security": "full", "ask": "off"}}));
        node.run();
        let node = mesh.admit("home", node).await;
        let id = mesh.connected("home").await;
        Self { mesh, node, id }
    }

    pub(crate) fn request(&self, command: &str, params: Value, timeout_ms: u64) -> Value {
        json!({"nodeId": self.id, "command": command, "params": params, "timeoutMs": timeout_ms,
            "idempotencyKey": uuid::Uuid::new_v4().to_string()})
    }

    /// The result of a call, or the words of its error.
    pub(crate) async fn call(&self, command: &str, params: Value, timeout_ms: u64) -> Result<Value, String> {
        let mut operator = self.mesh.operator().await;
        let answer = operator
            .call("node.invoke", self.request(command, params, timeout_ms))
            .await;
        words(answer)
    }

    pub(crate) async fn list(&self) -> Result<Value, String> {
        self.call("camera.list", json!({}), 15_000).await
    }

    /// Begins a call; its answer comes on the operator.
    pub(crate) async fn begin(&self, command: &str, params: Value) -> (Wire, String) {
        let mut operator = self.mesh.operator().await;
        let call = operator.ask("node.invoke", self.request(command, params, 20_000)).await;
        (operator, call)
    }

    /// What `atoll-node` says, which must succeed.
    pub(crate) async fn say(&self, words: &[&str]) -> String {
        let output = self.node.cli(words).await;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "atoll-node {words:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What `atoll-node` complains of, which must not succeed.
    pub(crate) async fn complaint(&self, words: &[&str]) -> String {
        let output = self.node.cli(words).await;
        assert!(!output.status.success(), "atoll-node {words:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The questions that wait.
    pub(crate) async fn asks(&self) -> Vec<Value> {
        let text = self.say(&["asks", "--json"]).await;
        let list: Value = serde_json::from_str(&text).expect("JSON");
        list["asks"].as_array().cloned().expect("a list")
    }

    /// The id of the question that waits, as soon as there is one.
    pub(crate) async fn question(&self) -> String {
        let question = until("a question", async || self.asks().await.pop()).await;
        question["id"].as_str().expect("an id").to_owned()
    }

    /// The lines of the device's log.
    pub(crate) async fn log(&self) -> Vec<Value> {
        let text = self.say(&["log", "--json"]).await;
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a record"))
            .collect()
    }

    pub(crate) async fn no_question(&self) {
        let folder = self.node.state().join("asks");
        // An answer lies there until the node has taken it.
        until("nothing to be left of questions", async || {
            let left = std::fs::read_dir(&folder).expect("a folder").count();
            (left == 0).then_some(())
        })
        .await;
        assert!(self.asks().await.is_empty());
    }
}

/// The payload of an answer, or the words of its error.
pub(crate) fn words(answer: Result<Value, Value>) -> Result<Value, String> {
    match answer {
        Ok(mut answer) => Ok(answer["payload"].take()),
        Err(error) => Err(error["message"].as_str().unwrap_or_default().to_owned()),
    }
}

/// What is said to whoever calls a command that a node does not offer, once the node has said why.
pub(crate) async fn refusal(mesh: &Mesh, node: &str, command: &str) -> String {
    let mut operator = mesh.operator().await;
    let id = mesh.connected(node).await;
    until("the node to say why", async || {
        let row = operator.call("node.describe", json!({"nodeId": id})).await.ok()?;
        row["missingCommands"].is_array().then_some(())
    })
    .await;
    let call = json!({"nodeId": id, "command": command, "idempotencyKey": uuid::Uuid::new_v4().to_string()});
    let refused = operator.call("node.invoke", call).await.expect_err("not on offer");
    let words = refused["message"].as_str().unwrap_or_default().to_owned();
    assert!(words.starts_with("node command not allowed: "), "{words}");
    words
}

async fn a_question_is_answered_in_another_terminal(pipe: Pipe) {
    let home = Home::new(pipe, json!({"commands": {"camera": "ask"}})).await;
    for (word, is_allowed) in [("yes", true), ("no", false)] {
        let (mut operator, call) = home.begin("camera.snap", json!({"deviceId": "test"})).await;
        let id = home.question().await;
        let shown = home.say(&["asks"]).await;
        for part in [id.as_str(), "gateway ", "wants camera.snap (deviceId test)"] {
            assert!(shown.contains(part), "{shown}");
        }
        home.say(&["answer", &id, word]).await;
        let ended = words(operator.answer(&call).await);
        match ended {
            Ok(result) => assert!(is_allowed && result["width"] == 640, "{result}"),
            Err(error) => assert!(!is_allowed && error.starts_with("CONSENT_DENIED: "), "{error}"),
        }
        let late = home.complaint(&["answer", &id, "yes"]).await;
        assert!(late.contains(&id) && late.contains("asks"), "{late}");
        home.no_question().await;
    }
    // What is not to be asked is not.
    let which = json!({"bins": ["sh"]});
    home.call("system.which", which, 15_000).await.expect("allowed");
}

async fn a_question_that_nobody_answers_counts_as_no_before_the_call_is_over(pipe: Pipe) {
    let home = Home::new(pipe, json!({"commands": {"camera.list": "ask"}})).await;
    let began = Instant::now();
    let error = home.call("camera.list", json!({}), 2_000).await.expect_err("nobody");
    assert!(error.starts_with("CONSENT_TIMEOUT: nobody at the device"), "{error}");
    assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());
    home.no_question().await;
}

async fn a_call_that_is_called_off_takes_its_question_back(pipe: Pipe) {
    let home = Home::new(pipe, json!({"commands": {"camera.list": "ask"}})).await;
    let (mut operator, call) = home.begin("camera.list", json!({})).await;
    let question = home.question().await;
    let list = operator
        .call("node.calls.list", json!({"nodeId": home.id}))
        .await
        .expect("a list");
    let id = list["calls"][0]["callId"].clone();
    operator
        .call("node.invoke.cancel", json!({"callId": id}))
        .await
        .expect("called off");
    let error = words(operator.answer(&call).await).expect_err("called off");
    assert!(error.to_lowercase().contains("cancel"), "{error}");
    home.no_question().await;
    home.complaint(&["answer", &question, "yes"]).await;
}

async fn a_node_that_is_killed_while_a_question_waits_leaves_nothing_that_could_be_answered(pipe: Pipe) {
    let mut home = Home::new(pipe, json!({"commands": {"camera.list": "ask"}})).await;
    let (mut operator, call) = home.begin("camera.list", json!({})).await;
    let question = home.question().await;
    home.node.kill().await;
    let refused = home.complaint(&["answer", &question, "yes"]).await;
    assert!(refused.contains("does not run here"), "{refused}");
    home.node.run();
    home.mesh.connected("home").await;
    assert!(words(operator.answer(&call).await).is_err(), "it did not run");
    home.no_question().await;
    home.complaint(&["answer", &question, "yes"]).await;
    // The next one is asked anew.
    let (mut operator, call) = home.begin("camera.list", json!({})).await;
    let next = home.question().await;
    assert_ne!(next, question);
    home.say(&["answer", &next, "yes"]).await;
    words(operator.answer(&call).await).expect("a list");
}

async fn a_deny_in_the_middle_of_a_call_ends_it(pipe: Pipe) {
    let home = Home::new(pipe, json!({"commands": {"camera": "allow"}})).await;
    let (mut operator, call) = home.begin("camera.snap", json!({"deviceId": "slow"})).await;
    let (mut other, run) = home
        .begin(
            "system.run",
            json!({"command": ["sh", "-c", "touch begun; while [ ! -e go ]; do sleep 0.05; done"]}),
        )
        .await;
    let began = home.node.state().join("begun");
    until("the command to begin", async || began.exists().then_some(())).await;
    until("both calls to run", async || {
        let list = operator
            .call("node.calls.list", json!({"nodeId": home.id}))
            .await
            .ok()?;
        let states: Vec<_> = list["calls"]
            .as_array()?
            .iter()
            .map(|row| row["state"].clone())
            .collect();
        (states
            .iter()
            .filter(|state| **state == "running" || **state == "sent")
            .count()
            == 2)
            .then_some(())
    })
    .await;
    home.say(&["deny", "camera"]).await;
    let error = words(operator.answer(&call).await).expect_err("stopped");
    assert!(
        error.starts_with("CAMERA_DISABLED: camera.snap was stopped in the middle: "),
        "{error}"
    );
    // Nobody else's call is touched.
    std::fs::write(home.node.state().join("go"), "").expect("room");
    words(other.answer(&run).await).expect("it ran to its end");
}

async fn a_rule_for_a_time_outlives_a_restart_and_then_gives_way(pipe: Pipe) {
    let clock = Clock::new();
    let rules = json!({"commands": {"camera.list": "allow", "camera.snap": "deny"}});
    let mut home = Home::with(pipe, rules, &clock.environment()).await;
    home.list().await.expect("allowed");
    let said = home.say(&["deny", "camera.list", "--for", "1h"]).await;
    assert!(said.contains("deny") && said.contains("until"), "{said}");
    let error = home.list().await.expect_err("denied");
    assert!(error.contains("camera.list"), "{error}");
    home.node.kill().await;
    home.node.run();
    home.mesh.connected("home").await;
    home.list().await.expect_err("still denied");
    clock.set_off_by(3_601);
    // The end of a rule is noticed within a minute at most; a link that is made anew says so at once.
    home.node.kill().await;
    home.node.run();
    until("the rule before to be in force again", async || home.list().await.ok()).await;
}

#[tokio::test]
async fn the_command_line_changes_its_own_part_only_and_refuses_what_it_does_not_know() {
    let home = Home::new(Pipe::Quic, json!({"own": {"b": 1, "a": 2}})).await;
    let path = home.node.state().join("node.json");
    let read = || serde_json::from_str::<Value>(&std::fs::read_to_string(&path).expect("there")).expect("JSON");
    let before = read();
    home.say(&["ask", "camera.*", "device.info", "--for", "90m"]).await;
    let listed: Value = serde_json::from_str(&home.say(&["rules", "--json"]).await).expect("JSON");
    let row = |command: &str| {
        let mut rows = listed["rules"].as_array().expect("rows").iter();
        rows.find(|row| row["command"] == command).cloned().expect("a row")
    };
    assert_eq!(
        (&row("camera.snap")["rule"], &row("camera.snap")["from"]),
        (&json!("ask"), &json!("camera"))
    );
    assert_eq!(
        (&row("system.run")["rule"], &row("system.run")["from"]),
        (&json!("allow"), &json!(null))
    );
    let mut after = read();
    after.as_object_mut().expect("an object").remove("commands");
    assert_eq!(after, before);
    home.say(&["unset", "camera", "device.info"]).await;
    let wrong = home.complaint(&["allow", "camera.snpa"]).await;
    assert!(wrong.contains("is camera.snap meant?"), "{wrong}");
    let wrong = home.complaint(&["allow", "camera", "--for", "soon"]).await;
    assert!(wrong.contains("30m, 2h"), "{wrong}");
    std::fs::write(&path, "{").expect("room");
    let wrong = home.complaint(&["allow", "camera"]).await;
    assert!(wrong.contains("node.json") && wrong.contains("repair"), "{wrong}");
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "{");
}
