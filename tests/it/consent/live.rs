//! Rules that change while the node is linked: the gateway hears of them, and what goes on goes on.

use atoll_tests::mesh::{Pipe, TOKEN};
use atoll_tests::wait::{until, within};
use serde_json::{Value, json};

use super::{Home, refusal, words};
use crate::camera::broken::{reason, watch};

atoll_tests::over_every_pipe! {
    a_clip_has_sound_only_while_the_microphone_may_be_used_and_ends_with_it,
    a_live_picture_outlives_a_change_of_other_rules_and_ends_with_a_deny,
    an_allow_is_declared_at_once_and_works_when_the_gateways_owner_approves,
}

/// What the gateway shows of the node.
async fn described(home: &Home) -> Value {
    let mut operator = home.mesh.operator().await;
    let row = operator.call("node.describe", json!({"nodeId": home.id})).await;
    row.expect("a node")
}

async fn offers(home: &Home, command: &str, expected: bool) {
    until(&format!("{command} to be offered: {expected}"), async || {
        let row = described(home).await;
        let commands = row["commands"].as_array()?;
        (commands.iter().any(|one| one == command) == expected).then_some(())
    })
    .await;
}

async fn an_allow_is_declared_at_once_and_works_when_the_gateways_owner_approves(pipe: Pipe) {
    let mut home = Home::new(pipe, json!({})).await;
    let process = home.node.program().pid();
    let script = "touch begun; while [ ! -e go ]; do sleep 0.05; done; echo done";
    let (mut other, run) = home.begin("system.run", json!({"command": ["sh", "-c", script]})).await;
    let began = home.node.state().join("begun");
    until("the command to begin", async || began.exists().then_some(())).await;
    assert!(home.list().await.is_err(), "closed");

    home.say(&["allow", "camera.list"]).await;
    let mut operator = home.mesh.operator().await;
    let request = until("a request for more", async || {
        let list = operator.call("node.pair.list", json!({})).await.ok()?;
        let pending = list["pending"]
            .as_array()?
            .iter()
            .find(|row| row["displayName"] == "home")?
            .clone();
        pending["requestId"].as_str().map(str::to_owned)
    })
    .await;
    assert!(home.list().await.is_err(), "the node's owner alone is not enough");
    let approved = operator.call("node.pair.approve", json!({"requestId": request})).await;
    approved.expect("approved");
    offers(&home, "camera.list", true).await;
    until("the command to work", async || home.list().await.ok()).await;

    home.say(&["deny", "camera.list"]).await;
    home.list().await.expect_err("denied at once");
    offers(&home, "camera.list", false).await;
    until("the gateway to know why", async || {
        let row = described(&home).await;
        let missing = row["missingCommands"].as_array()?;
        let why = missing.iter().find(|one| one["command"] == "camera.list")?["why"]
            .as_str()?
            .to_owned();
        why.contains("node.json").then_some(())
    })
    .await;
    let error = refusal(&home.mesh, "home", "camera.list").await;
    let (known, next) = (
        "does not support \"camera.list\"; the node says: ",
        "atoll-node allow camera.list",
    );
    assert!(error.contains(known) && error.contains(next), "{error}");
    // Back again needs nobody: it was approved.
    home.say(&["ask", "camera.list"]).await;
    offers(&home, "camera.list", true).await;

    std::fs::write(home.node.state().join("go"), "").expect("room");
    let ended = words(other.answer(&run).await).expect("the call went on");
    assert_eq!(ended["stdout"], "done\n");
    assert_eq!(home.node.program().pid(), process);
}

async fn a_clip_has_sound_only_while_the_microphone_may_be_used_and_ends_with_it(pipe: Pipe) {
    let tone = ["-re", "-f", "lavfi", "-i", "sine"];
    let rules = json!({"camera": {"testPattern": true, "microphone": tone}, "commands": {"camera.clip": "allow"}});
    let home = Home::new(pipe, rules).await;
    let clip = async |duration: u64| {
        let asked = json!({"deviceId": "test", "durationMs": duration, "fps": 5, "maxWidth": 64});
        home.begin("camera.clip", asked).await
    };
    let (mut operator, call) = clip(300).await;
    let silent = words(operator.answer(&call).await).expect("a clip all the same");
    let why = silent["audioMissing"].as_str().expect("a reason");
    assert!(silent["hasAudio"] == false && why.contains("audio.record"), "{why}");

    home.say(&["allow", "audio.record"]).await;
    let (mut operator, call) = clip(300).await;
    let loud = words(operator.answer(&call).await).expect("a clip");
    assert!(loud["hasAudio"] == true, "{}", loud["audioMissing"]);

    home.say(&["ask", "audio.record"]).await;
    let (mut operator, call) = clip(15_000).await;
    let question = home.question().await;
    home.say(&["answer", &question, "yes"]).await;
    home.no_question().await;
    home.say(&["deny", "audio"]).await;
    let why = words(operator.answer(&call).await).expect_err("stopped");
    assert!(why.contains("audio.record was stopped in the middle"), "{why}");
    let log = until("every clip to be written down", async || {
        let log = home.log().await;
        (log.len() == 3).then_some(log)
    })
    .await;
    for (row, because) in log
        .iter()
        .zip(["no sound: default: deny", "sound: audio.record: allow", "yes by"])
    {
        let said = row["because"].as_str().expect("text");
        assert!(
            said.starts_with("camera.clip: allow; ") && said.contains(because),
            "{said}"
        );
    }
    assert_eq!(log[2]["end"], "stopped", "{log:?}");
}

/// Bytes of a live stream that come from now on.
async fn flows(response: &mut reqwest::Response) {
    let mut seen = 0;
    while seen < 50_000 {
        let part = within("more of the stream", response.chunk()).await.expect("a body");
        seen += part.expect("not over").len();
    }
}

async fn a_live_picture_outlives_a_change_of_other_rules_and_ends_with_a_deny(pipe: Pipe) {
    let home = Home::new(pipe, json!({"commands": {"camera.stream": "allow"}})).await;
    let mut request = home.request("camera.stream", json!({"deviceId": "test", "fps": 20}), 15_000);
    request["blobs"] = json!("handles");
    let mut operator = home.mesh.operator().await;
    let stream = words(operator.call("node.invoke", request).await).expect("a stream");
    let id = stream["blob"]["id"].as_str().expect("a handle");
    let url = format!("{}/media/{id}", home.mesh.target().http());
    let mut told = watch(url.parse().expect("an address")).await;
    let asking = reqwest::Client::new().get(url).bearer_auth(TOKEN).send();
    let mut response = within("the stream", asking).await.expect("an answer");
    flows(&mut response).await;
    home.say(&["deny", "device"]).await;
    offers(&home, "device.info", false).await;
    flows(&mut response).await;
    home.say(&["deny", "camera"]).await;
    let ending = async { while let Ok(Some(_)) = response.chunk().await {} };
    within("the stream to end with the rule", ending).await;
    let why = within("the reason", reason(&mut told)).await;
    assert!(why.contains("camera.stream was stopped in the middle"), "{why}");
    let written = until("what became of it to be written down", async || home.log().await.pop()).await;
    let facts = ["command", "decision", "end"].map(|field| written[field].as_str().expect("text"));
    assert_eq!(facts, ["camera.stream", "allowed", "stopped"]);
}
