//! The whole main job as one scene: a person with a bot, a model that does as it is told, a gateway, a node, and a folder where commands
//! leave marks, so that runs can be counted. Owns how these are wired; what must hold of them is the tests'.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake::anthropic::FakeAnthropic;
use crate::fake::model::{Asked, ModelServer, Step};
use crate::fake::openai::FakeOpenAi;
use crate::fake::telegram::{ClickAnswer, FakeTelegram, Person, Sent};
use crate::mesh::{Mesh, Node, Pipe};
use crate::wait::{PATIENCE, until, until_time};

/// The owner's id, which is the id of their chat with the bot too.
pub const OWNER: i64 = 42;

/// What the node calls itself.
pub const NODE: &str = "laptop";

const BOT_TOKEN: &str = "99:TEST-token";
const MODEL_KEY: &str = "a-key-of-the-fake-model";

/// The language of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Chat completions.
    OpenAi,
    /// Messages.
    Anthropic,
}

impl Api {
    /// `models.providers.<id>.api`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai-completions",
            Self::Anthropic => "anthropic-messages",
        }
    }
}

/// The model server of a scene.
pub enum Model {
    /// Chat completions.
    OpenAi(FakeOpenAi),
    /// Messages.
    Anthropic(FakeAnthropic),
}

impl Model {
    async fn start(api: Api, script: impl Fn(&Asked) -> Step + Send + Sync + 'static) -> Self {
        match api {
            Api::OpenAi => Self::OpenAi(FakeOpenAi::start(MODEL_KEY, script).await),
            Api::Anthropic => Self::Anthropic(FakeAnthropic::start(MODEL_KEY, script).await),
        }
    }

    fn base_url(&self) -> String {
        match self {
            Self::OpenAi(server) => server.base_url(),
            Self::Anthropic(server) => server.base_url(),
        }
    }
}

impl Deref for Model {
    type Target = ModelServer;

    fn deref(&self) -> &ModelServer {
        match self {
            Self::OpenAi(server) => server,
            Self::Anthropic(server) => server,
        }
    }
}

/// How far the model has heard of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heard {
    /// It was asked, and called its tool.
    Asked,
    /// It was told what the tool gave.
    Told,
}

/// What a model does; none: what the scene's own does.
type Script = Box<dyn Fn(&Asked) -> Option<Step> + Send + Sync>;

/// A scene before it starts.
pub struct Setting {
    api: Api,
    patches: Vec<Value>,
    script: Script,
    pipe: Pipe,
    rules: Option<Value>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            api: Api::OpenAi,
            patches: Vec::new(),
            script: Box::new(|_| None),
            pipe: Pipe::Ws,
            rules: None,
        }
    }
}

impl Setting {
    /// With a model of that language.
    #[must_use]
    pub fn api(mut self, api: Api) -> Self {
        self.api = api;
        self
    }

    /// With a node that uses this pipe.
    #[must_use]
    pub fn over(mut self, pipe: Pipe) -> Self {
        self.pipe = pipe;
        self
    }

    /// With a node whose owner allows this, in the words of [`Node::rules`].
    #[must_use]
    pub fn rules(mut self, document: &Value) -> Self {
        self.rules = Some(document.clone());
        self
    }

    /// With these differences in the configuration; null removes a key.
    #[must_use]
    pub fn config(mut self, patch: &Value) -> Self {
        self.patches.push(patch.clone());
        self
    }

    /// With a model that first asks this what to do; none: it does as it is told.
    #[must_use]
    pub fn script(mut self, script: impl Fn(&Asked) -> Option<Step> + Send + Sync + 'static) -> Self {
        self.script = Box::new(script);
        self
    }

    /// Starts everything, the node approved and connected.
    pub async fn start(self) -> Scene {
        let telegram = FakeTelegram::start(BOT_TOKEN).await;
        let owner = Person::new(OWNER, "Ann");
        telegram.meet(&owner);
        let heard = Arc::<Mutex<BTreeMap<String, Heard>>>::default();
        let (notes, script) = (Arc::clone(&heard), self.script);
        let model = Model::start(self.api, move |asked| {
            note(&notes, asked);
            script(asked).unwrap_or_else(|| obey(asked))
        })
        .await;
        let mut config = config(&telegram, &model, self.api);
        for patch in &self.patches {
            merge(&mut config, patch);
        }
        let mesh = Mesh::with(&config).await.over(self.pipe);
        let node = match &self.rules {
            None => mesh.node(NODE).await,
            Some(rules) => {
                let mut node = Node::prepare(&mesh.target(), NODE, &[]).over(self.pipe);
                node.rules(rules);
                node.run();
                mesh.admit(NODE, node).await
            }
        };
        Scene {
            telegram,
            model,
            owner,
            mesh,
            node,
            heard,
            marks: tempfile::tempdir().expect("a temporary folder"),
        }
    }
}

fn config(telegram: &FakeTelegram, model: &Model, api: Api) -> Value {
    json!({
        "agents": {"defaults": {"model": {"primary": "fake/model"}}},
        "models": {"providers": {"fake": {"baseUrl": model.base_url(), "apiKey": MODEL_KEY, "api": api.name(),
            "models": [{"id": "model"}]}}},
        "channels": {"telegram": {"botToken": BOT_TOKEN, "apiRoot": telegram.api_root(),
            "dmPolicy": "allowlist", "allowFrom": [OWNER.to_string()]}},
    })
}

/// RFC 7396.
fn merge(base: &mut Value, patch: &Value) {
    let (Some(base), Some(patch)) = (base.as_object_mut(), patch.as_object()) else {
        *base = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            base.remove(key);
        } else {
            merge(base.entry(key).or_insert_with(|| json!({})), value);
        }
    }
}

/// What `do <name>: <command>` in a person's message asks for.
fn job_in(said: &str) -> Option<(&str, &str)> {
    said.split_once("do ")?.1.split_once(": ")
}

fn note(heard: &Mutex<BTreeMap<String, Heard>>, asked: &Asked) {
    if let Some((name, _)) = job_in(&asked.last_user) {
        let now = if asked.results.is_empty() {
            Heard::Asked
        } else {
            Heard::Told
        };
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        let before = heard.entry(name.to_owned()).or_insert(now);
        *before = now.max(*before);
    }
}

/// `do <name>: <command>` becomes one command on the node, its result the answer `finished <name>: <result>`.
fn obey(asked: &Asked) -> Step {
    let Some((name, command)) = job_in(&asked.last_user) else {
        return Step::say(format!("I heard: {}", asked.last_user));
    };
    match asked.results.last() {
        None => Step::call("exec", &json!({"command": command, "host": "node", "node": NODE})),
        Some(result) => Step::say(format!("finished {name}: {}", bare(result))),
    }
}

/// What a tool gave, without the marks around what came from outside.
fn bare(result: &str) -> String {
    let lines = result.lines().map(str::trim);
    let said: Vec<_> = lines
        .filter(|line| !line.is_empty() && !line.starts_with("<<<"))
        .collect();
    said.join(" ")
}

/// Everything there is in the main job.
pub struct Scene {
    /// The chat platform.
    pub telegram: FakeTelegram,
    /// The model.
    pub model: Model,
    /// Whoever may approve.
    pub owner: Person,
    /// The gateway.
    pub mesh: Mesh,
    /// The node.
    pub node: Node,
    heard: Arc<Mutex<BTreeMap<String, Heard>>>,
    marks: TempDir,
}

impl Scene {
    /// With a model that speaks chat completions.
    pub async fn new() -> Self {
        Setting::default().start().await
    }

    /// [`Scene::new`], with a node that uses this pipe.
    pub async fn over(pipe: Pipe) -> Self {
        Setting::default().over(pipe).start().await
    }

    /// Where the command of a job leaves a line for each run.
    pub fn mark(&self, name: &str) -> PathBuf {
        self.marks.path().join(name)
    }

    /// How often the command of a job ran.
    pub fn runs(&self, name: &str) -> usize {
        let marks = std::fs::read_to_string(self.mark(name));
        marks.map_or(0, |marks| marks.lines().count())
    }

    /// How far the model has heard of a job.
    pub fn heard(&self, name: &str) -> Option<Heard> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(name).copied()
    }

    /// The words that give a job to the model: leave a mark, then this.
    pub fn job(&self, name: &str, then: &str) -> String {
        format!("do {name}: echo ran >> {}; {then}", self.mark(name).display())
    }

    /// The owner writes to the bot.
    pub fn write(&self, text: &str) {
        self.telegram.write(&self.owner, OWNER, text);
    }

    /// The owner gives a job that leaves its mark and says `it ran`.
    pub fn ask(&self, name: &str) {
        self.write(&self.job(name, "echo it ran"));
    }

    /// Whether this message is a question about a job that can still be answered.
    pub fn asks_about(&self, sent: &Sent, name: &str) -> bool {
        !sent.buttons.is_empty() && sent.text.contains(&self.mark(name).display().to_string())
    }

    /// The question about a job, in the owner's chat; nothing has run by then.
    ///
    /// # Panics
    /// When it has.
    pub async fn card(&self, name: &str) -> Sent {
        let card = self.telegram.wait_sent(OWNER, |sent| self.asks_about(sent, name)).await;
        assert_eq!(self.runs(name), 0, "{name} ran before anybody answered");
        card
    }

    /// Somebody presses a button of a message in the owner's chat; gives the click's id.
    pub fn press(&self, who: &Person, card: &Sent, label: &str) -> String {
        self.telegram.click(who, OWNER, card.message, &button(card, label))
    }

    /// The owner presses a button that is gone by now, as in a client that still shows it; gives the click's id.
    pub fn press_stale(&self, card: &Sent, label: &str) -> String {
        let id = format!("stale-{}", card.message);
        self.telegram.push(json!({"callback_query": {
            "id": id, "from": {"id": OWNER, "is_bot": false, "first_name": "Ann"}, "chat_instance": "1",
            "data": button(card, label), "message": {"message_id": card.message, "date": 1_767_225_700, "text": "?",
                "chat": {"id": OWNER, "type": "private", "first_name": "Ann"}},
        }}));
        id
    }

    /// The owner says yes, once.
    pub async fn allow(&self, name: &str) -> Sent {
        let card = self.card(name).await;
        self.press(&self.owner, &card, "Allow once");
        card
    }

    /// The notice that a click is answered with.
    pub async fn notice(&self, click: &str) -> ClickAnswer {
        let answered = || {
            self.telegram
                .click_answers()
                .into_iter()
                .find(|answer| answer.click == click)
        };
        self.telegram.wait_for("an answer to the click", answered).await
    }

    /// What the model says at the end of a job, in the owner's chat.
    pub async fn answer(&self, name: &str) -> String {
        self.answer_in(OWNER, name).await.text
    }

    /// What the model says at the end of a job, in some chat.
    pub async fn answer_in(&self, chat: i64, name: &str) -> Sent {
        let beginning = format!("finished {name}: ");
        let ends = |sent: &Sent| sent.text.starts_with(&beginning);
        self.telegram.wait_sent(chat, ends).await
    }

    /// The first message in the owner's chat that contains this.
    pub async fn said(&self, words: &str) -> Sent {
        self.telegram.wait_sent(OWNER, |sent| sent.text.contains(words)).await
    }

    /// Waits until the command of a job has begun.
    pub async fn begun(&self, name: &str) {
        until(&format!("{name} to run"), async || (self.runs(name) > 0).then_some(())).await;
    }

    /// Waits until the gateway has seen the node leave.
    pub async fn node_away(&self) {
        let mut operator = self.mesh.operator().await;
        // Over QUIC nothing tells of a process that was killed but its silence.
        until_time("the node to be seen leaving", 3 * PATIENCE, async || {
            let list = operator.call("node.list", json!({})).await.ok()?;
            (list["nodes"][0]["connected"] == false).then_some(())
        })
        .await;
    }

    /// How often the model was asked because of a message that contains this.
    pub fn questions(&self, words: &str) -> usize {
        let asked = self.model.asked();
        asked.iter().filter(|asked| asked.last_user.contains(words)).count()
    }
}

/// What the button of that label carries.
///
/// # Panics
/// When there is none.
pub fn button(card: &Sent, label: &str) -> String {
    let mut buttons = card.buttons.iter().flatten();
    let found = buttons.find(|(shown, _)| shown.contains(label));
    let (_, data) = found.unwrap_or_else(|| panic!("no button {label} on {card:?}"));
    data.clone()
}
