//! Order within a conversation, and none between two.

use std::path::Path;

use atoll_tests::mesh::Pipe;
use atoll_tests::scene::{OWNER, Scene, Setting};
use serde_json::json;

atoll_tests::over_every_pipe! {
    two_messages_of_one_conversation_are_answered_in_order,
}

const GROUP: i64 = -1_000_500;

async fn two_messages_of_one_conversation_are_answered_in_order(pipe: Pipe) {
    let scene = Scene::over(pipe).await;
    scene.ask("early");
    scene.ask("later");
    let first = scene.card("early").await;
    assert_eq!(scene.questions("do later"), 0, "the second waits for the first");
    scene.press(&scene.owner, &first, "Allow once");
    let second = scene.card("later").await;
    assert_eq!(scene.runs("early"), 1);
    scene.press(&scene.owner, &second, "Allow once");
    let answer = scene.answer_in(OWNER, "later").await;
    assert!(scene.answer_in(OWNER, "early").await.message < second.message);
    assert!(second.message < answer.message);
    let last = scene.model.asked().pop().expect("it was asked");
    assert!(
        last.body.to_string().contains("finished early: it ran"),
        "one conversation has one memory"
    );
}

#[tokio::test]
async fn a_conversation_that_waits_holds_up_no_other() {
    let group = json!({"channels": {"telegram": {"groupPolicy": "allowlist", "groups": {GROUP.to_string(): {}}}}});
    let scene = Setting::default().config(&group).start().await;
    scene.telegram.add_group(GROUP, &[]);
    scene.ask("waiting");
    let card = scene.card("waiting").await;
    scene.telegram.write(&scene.owner, GROUP, "@atoll_test_bot hello there");
    scene
        .telegram
        .wait_sent(GROUP, |sent| sent.text.contains("I heard: "))
        .await;
    scene.press(&scene.owner, &card, "Allow once");
    assert_eq!(scene.answer("waiting").await, "finished waiting: it ran");
}

#[tokio::test]
async fn a_conversation_begins_anew_after_a_silence_where_its_owner_says_so() {
    let quiet = json!({"session": {"reset": {"mode": "idle", "idleMinutes": 60}}});
    let mut scene = Setting::default().config(&quiet).start().await;
    scene.write("remember the pineapple");
    scene.said("I heard: remember the pineapple").await;
    scene.write("soon after");
    scene.said("I heard: soon after").await;
    assert!(last_question(&scene).contains("pineapple"), "no hour has passed");
    scene.mesh.kill().await;
    let aged = age_transcripts(scene.mesh.state());
    assert!(aged > 0, "there is a transcript");
    scene.mesh.run().await;
    scene.write("good morning");
    scene.said("I heard: good morning").await;
    assert!(!last_question(&scene).contains("pineapple"));
}

fn last_question(scene: &Scene) -> String {
    scene.model.asked().pop().expect("it was asked").body.to_string()
}

/// Lets everything in the main agent's transcripts have happened years ago; gives how many there are.
fn age_transcripts(state: &Path) -> usize {
    let folder = state.join("agents/main/sessions");
    let files = std::fs::read_dir(folder).expect("a folder of transcripts");
    let paths = files.map(|file| file.expect("a file").path());
    let transcripts: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    let milliseconds = regex_lite::Regex::new("\"timestamp\":[0-9]{13}").expect("a pattern");
    for path in &transcripts {
        let text = std::fs::read_to_string(path).expect("text");
        let aged = text.replace("\"timestamp\":\"20", "\"timestamp\":\"19");
        let aged = milliseconds.replace_all(&aged, "\"timestamp\":1000000000000");
        std::fs::write(path, &*aged).expect("a writable file");
    }
    transcripts.len()
}
