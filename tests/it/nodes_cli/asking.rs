//! `atoll nodes run` whose question nobody waits for any more.

use atoll_tests::fake::telegram::Sent;
use atoll_tests::mesh::Mesh;
use atoll_tests::scene::{OWNER, Scene};
use atoll_tests::wait::{until, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{BufReader, Lines};
use tokio::process::{Child, ChildStderr};

use super::{code, line, lines};

type Said = Lines<BufReader<ChildStderr>>;

/// A run that waits for its answer, with what it says, and the name of its question.
async fn asking(mesh: &Mesh, file: &str) -> (Child, Said, String) {
    let mut child = mesh.cli_begun(&["nodes", "run", "laptop", "--", "touch", file]);
    let mut err = lines(child.stderr.take());
    let told = loop {
        let said = line(&mut err).await;
        if said.starts_with("waiting for:") {
            break said;
        }
    };
    let next = line(&mut err).await;
    assert!(next.contains("atoll approvals deny"), "{next}");
    (child, err, told.rsplit(' ').next().expect("an id").to_owned())
}

#[tokio::test]
async fn a_question_is_withdrawn_when_whoever_asked_stops_or_dies() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("made");
    let file = file.to_str().expect("text");
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let (child, _said, id) = asking(&scene.mesh, file).await;
        let card = until("a card", async || card(&scene.telegram.sent(OWNER), &id)).await;
        let process = Pid::from_raw(child.id().expect("running").cast_signed()).expect("a process");
        kill_process(process, signal).expect("it runs");
        let expected = (signal == Signal::INT).then_some(130);
        assert_eq!(code(child).await, expected, "{signal:?}");
        until("nothing to wait", async || {
            let waiting = scene.mesh.cli_json(&["approvals", "list", "--json"]).await;
            waiting.as_array()?.is_empty().then_some(())
        })
        .await;
        until("the card to say so", async || {
            let sent = scene.telegram.sent(OWNER);
            let shown = sent.iter().find(|sent| sent.message == card.message)?;
            (shown.text.contains("Withdrawn") && shown.buttons.is_empty()).then_some(())
        })
        .await;
        let late = scene.mesh.cli(&["approvals", "approve", &id]).await;
        assert!(!late.status.success(), "{late:?}");
        let mut operator = scene.mesh.operator().await;
        let ended = operator.call("exec.approval.waitDecision", json!({"id": id})).await;
        let ended = ended.expect("an end");
        assert_eq!(ended["decision"], json!(null), "{ended}");
        assert_eq!(ended["terminalReason"], "withdrawn", "{ended}");
        scene.press_stale(&card, "Allow once");
    }
    // A fourth one runs, so that the others had time to.
    let (child, _said, id) = asking(&scene.mesh, &format!("{file}-4")).await;
    assert!(scene.mesh.cli(&["approvals", "approve", &id]).await.status.success());
    let ended = within("the end", child.wait_with_output()).await.expect("an end");
    assert!(ended.status.success());
    assert!(std::fs::exists(format!("{file}-4")).expect("readable"));
    assert!(
        !std::fs::exists(file).expect("readable"),
        "nothing runs that nobody wants"
    );
}

fn card(sent: &[Sent], id: &str) -> Option<Sent> {
    let asks = |sent: &&Sent| sent.buttons.iter().flatten().any(|(_, data)| data.contains(id));
    sent.iter().find(asks).cloned()
}
