//! The main job, end to end: somebody writes to their bot, the agent decides to run a command on another device, the
//! owner approves, the device runs it, the answer arrives in the chat. Then everything that can go wrong on the way.

use std::path::PathBuf;

use atoll_tests::fake::model::{Asked, Step};
use atoll_tests::fake::openai::FakeOpenAi;
use atoll_tests::fake::telegram::{FakeTelegram, Person, Sent};
use atoll_tests::mesh::{Mesh, Node};
use serde_json::json;
use tempfile::TempDir;

const BOT_TOKEN: &str = "99:TEST-token";
const MODEL_KEY: &str = "a-key-of-the-fake-model";
const OWNER: i64 = 42;

/// Everything there is in a first light, and a folder where commands leave their marks.
struct Scene {
    telegram: FakeTelegram,
    _model: FakeOpenAi,
    owner: Person,
    marks: TempDir,
    mesh: Mesh,
    node: Node,
}

/// What the model of these tests does: `run <name>` becomes one call of `exec` on the laptop, its result an answer.
fn script(marks: PathBuf, tail: &'static str) -> impl Fn(&Asked) -> Step + Send + Sync + 'static {
    move |asked| {
        let Some(name) = asked.last_user.split("run ").nth(1).map(str::trim) else {
            return Step::say("I only run things.");
        };
        match asked.results.as_slice() {
            [] => {
                let mark = marks.join(name);
                let command = format!("echo ran >> {}{tail}", mark.display());
                Step::call("exec", &json!({"command": command, "host": "node", "node": "laptop"}))
            }
            [.., last] => Step::say(format!("finished {name}: {last}")),
        }
    }
}

impl Scene {
    /// `tail` follows the command that leaves the mark.
    async fn with(tail: &'static str) -> Self {
        let telegram = FakeTelegram::start(BOT_TOKEN).await;
        let owner = Person::new(OWNER, "Ann");
        telegram.meet(&owner);
        let marks = tempfile::tempdir().expect("a temporary folder");
        let model = FakeOpenAi::start(MODEL_KEY, script(marks.path().to_path_buf(), tail)).await;
        let mesh = Mesh::with(&json!({
            "agents": {"defaults": {"model": {"primary": "fake/model"}}},
            "models": {"providers": {"fake": {"baseUrl": model.base_url(), "apiKey": MODEL_KEY,
                "api": "openai-completions", "models": [{"id": "model"}]}}},
            "channels": {"telegram": {"botToken": BOT_TOKEN, "apiRoot": telegram.api_root(),
                "dmPolicy": "allowlist", "allowFrom": [OWNER.to_string()]}},
        }))
        .await;
        let node = mesh.node("laptop").await;
        Self {
            telegram,
            _model: model,
            owner,
            marks,
            mesh,
            node,
        }
    }

    async fn new() -> Self {
        Self::with("; echo it ran").await
    }

    fn write(&self, text: &str) {
        self.telegram.write(&self.owner, OWNER, text);
    }

    /// How often the command of that name ran.
    fn runs(&self, name: &str) -> usize {
        let marks = std::fs::read_to_string(self.marks.path().join(name));
        marks.map_or(0, |marks| marks.lines().count())
    }

    /// The card that asks about the command of that name.
    async fn card(&self, name: &str) -> Sent {
        let mark = self.marks.path().join(name).display().to_string();
        let card = self
            .telegram
            .wait_sent(OWNER, |sent| !sent.buttons.is_empty() && sent.text.contains(&mark))
            .await;
        assert_eq!(self.runs(name), 0, "it ran before anybody answered");
        card
    }

    fn press(&self, who: &Person, card: &Sent, label: &str) -> String {
        self.telegram.click(who, OWNER, card.message, &button(card, label))
    }

    /// The answer to the command of that name.
    async fn answer(&self, name: &str) -> String {
        let beginning = format!("finished {name}: ");
        self.telegram
            .wait_sent(OWNER, |sent| sent.text.starts_with(&beginning))
            .await
            .text
    }
}

fn button(card: &Sent, label: &str) -> String {
    let mut buttons = card.buttons.iter().flatten();
    let found = buttons.find(|(shown, _)| shown.contains(label));
    found
        .unwrap_or_else(|| panic!("no button {label} on {card:?}"))
        .1
        .clone()
}

#[tokio::test]
async fn a_chat_message_becomes_a_command_on_another_device_and_its_answer_comes_back() {
    let scene = Scene::new().await;
    scene.write("run first");
    let card = scene.card("first").await;
    assert!(card.text.contains("laptop"), "the card says where: {}", card.text);
    scene.press(&scene.owner, &card, "Allow once");
    assert!(scene.answer("first").await.contains("it ran"));
    assert_eq!(scene.runs("first"), 1);
    // The card has been answered and says so.
    let message = card.message;
    scene
        .telegram
        .wait_sent(OWNER, |sent| {
            sent.message == message && sent.edits > 0 && sent.buttons.is_empty()
        })
        .await;
}

#[tokio::test]
async fn a_denied_command_does_not_run_and_the_answer_says_so() {
    let scene = Scene::new().await;
    scene.write("run denied");
    let card = scene.card("denied").await;
    scene.press(&scene.owner, &card, "Deny");
    let answer = scene.answer("denied").await.to_lowercase();
    assert!(answer.contains("denied"), "{answer}");
    assert_eq!(scene.runs("denied"), 0);
}

#[tokio::test]
async fn somebody_elses_click_decides_nothing() {
    let scene = Scene::new().await;
    let mallory = Person::new(666, "Mallory");
    scene.telegram.meet(&mallory);
    scene.write("run guarded");
    let card = scene.card("guarded").await;
    let click = scene.press(&mallory, &card, "Allow once");
    let answered = || {
        scene
            .telegram
            .click_answers()
            .into_iter()
            .find(|answer| answer.click == click)
    };
    scene.telegram.wait_for("an answer to the click", answered).await;
    assert_eq!(scene.runs("guarded"), 0);
    scene.press(&scene.owner, &card, "Allow once");
    scene.answer("guarded").await;
    assert_eq!(scene.runs("guarded"), 1);
}

#[tokio::test]
async fn a_stranger_gets_no_turn() {
    let scene = Scene::new().await;
    let mallory = Person::new(666, "Mallory");
    scene.telegram.meet(&mallory);
    scene.telegram.write(&mallory, mallory.id, "run strange");
    scene.write("run known");
    let card = scene.card("known").await;
    scene.press(&scene.owner, &card, "Allow once");
    scene.answer("known").await;
    assert_eq!(scene.runs("strange"), 0);
    assert!(
        scene
            .telegram
            .sent(mallory.id)
            .iter()
            .all(|sent| !sent.text.contains("finished"))
    );
}

#[tokio::test]
async fn a_command_for_an_absent_node_runs_nowhere() {
    let mut scene = Scene::new().await;
    scene.node.kill().await;
    let mut operator = scene.mesh.operator().await;
    atoll_tests::wait::until("the node to be seen leaving", async || {
        let list = operator.call("node.list", json!({})).await.ok()?;
        (list["nodes"][0]["connected"] == false).then_some(())
    })
    .await;
    scene.write("run nowhere");
    scene.answer("nowhere").await;
    assert_eq!(scene.runs("nowhere"), 0, "it must not run on the gateway instead");
}

#[tokio::test]
async fn a_node_killed_in_mid_run_leaves_one_visible_uncertainty() {
    let mut scene = Scene::with("; sleep 30").await;
    scene.write("run torn");
    let card = scene.card("torn").await;
    scene.press(&scene.owner, &card, "Allow once");
    atoll_tests::wait::until("the command to run", async || (scene.runs("torn") == 1).then_some(())).await;
    scene.node.kill().await;
    scene.node.run();
    let answer = scene.answer("torn").await;
    assert!(answer.contains("uncertain"), "{answer}");
    assert_eq!(scene.runs("torn"), 1, "it must not run again");
}

#[tokio::test]
async fn an_approval_card_still_works_after_the_gateway_was_killed() {
    let mut scene = Scene::new().await;
    scene.write("run later");
    let card = scene.card("later").await;
    scene.mesh.kill().await;
    scene.press(&scene.owner, &card, "Allow once");
    scene.mesh.run().await;
    scene.answer("later").await;
    assert_eq!(scene.runs("later"), 1);
}
