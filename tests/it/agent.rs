//! The driver with its real HTTP client against the strict fake model servers, in both languages.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_agent::driver::{Ports, TurnSpec, run_turn};
use atoll_agent::message::User;
use atoll_agent::model::{Api, HttpModels, ModelConfig, ModelDeadlines, ModelRef};
use atoll_agent::port::{
    Caller, Exec, ExecRequest, Meanwhile, NodeCommand, Nodes, Pictures, Progress, ToolReply, Watch,
};
use atoll_agent::prompt::Identity;
use atoll_agent::tool::{ExecDefaults, ToolPolicy};
use atoll_agent::transcript::{Header, Transcript};
use atoll_agent::turn::{Outcome, TurnEnd, TurnLimits};
use atoll_protocol::id::{AgentId, RunId, SessionKey};
use atoll_protocol::json::Json;
use atoll_tests::fake::anthropic::FakeAnthropic;
use atoll_tests::fake::model::{Asked, Call, Saying, Step};
use atoll_tests::fake::openai::FakeOpenAi;
use atoll_tests::wait::within;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const KEY: &str = "sk-canary-7a31";

/// Either fake, so that each scenario runs in both languages.
enum Fake {
    Anthropic(FakeAnthropic),
    OpenAi(FakeOpenAi),
}

impl Fake {
    async fn start(api: Api, script: impl Fn(&Asked) -> Step + Send + Sync + 'static) -> Self {
        match api {
            Api::AnthropicMessages => Self::Anthropic(FakeAnthropic::start(KEY, script).await),
            Api::OpenAiCompletions => Self::OpenAi(FakeOpenAi::start(KEY, script).await),
        }
    }

    fn asked(&self) -> Vec<Asked> {
        match self {
            Self::Anthropic(fake) => fake.asked(),
            Self::OpenAi(fake) => fake.asked(),
        }
    }

    fn refused(&self) -> Vec<String> {
        match self {
            Self::Anthropic(fake) => fake.refused(),
            Self::OpenAi(fake) => fake.refused(),
        }
    }

    fn config(&self, name: &str) -> ModelConfig {
        let (api, base_url) = match self {
            Self::Anthropic(fake) => (Api::AnthropicMessages, fake.base_url()),
            Self::OpenAi(fake) => (Api::OpenAiCompletions, fake.base_url()),
        };
        config(api, base_url, name)
    }
}

fn config(api: Api, base_url: String, name: &str) -> ModelConfig {
    ModelConfig {
        name: ModelRef {
            provider: "fake".to_owned(),
            model: name.to_owned(),
        },
        base_url,
        api_key: Some(KEY.to_owned().into()),
        api,
        context_window: 200_000,
        max_tokens: 1_000,
        sees: true,
        deadlines: ModelDeadlines {
            first_token: Duration::from_millis(400),
            silence: Duration::from_millis(300),
        },
    }
}

const APIS: [Api; 2] = [Api::AnthropicMessages, Api::OpenAiCompletions];

/// A house in which every command prints its own name.
struct House;

#[async_trait]
impl Exec for House {
    async fn exec(&self, _: &Caller, request: ExecRequest) -> ToolReply {
        ToolReply::ok(format!("ran {}", request.command))
    }
}

#[async_trait]
impl Nodes for House {
    fn any(&self) -> bool {
        true
    }

    async fn list(&self) -> Json {
        Json::from(json!({"nodes": [{"displayName": "laptop"}]}))
    }

    async fn describe(&self, node: &str) -> Result<Json, String> {
        Err(format!("no node {node}"))
    }

    async fn invoke(&self, _: &Caller, _: &str, command: NodeCommand) -> ToolReply {
        ToolReply::ok(command.name)
    }
}

#[async_trait]
impl Pictures for House {
    async fn view(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

#[async_trait]
impl Meanwhile for House {
    async fn said(&self, _: &RunId, _: usize) -> Vec<String> {
        Vec::new()
    }
}

/// Sends on what a turn's watchers see of the answer.
struct Texts(std::sync::Mutex<Vec<String>>);

impl Watch for Texts {
    fn progress(&self, _: &RunId, _: &SessionKey, progress: Progress) {
        if let Progress::Text { text, .. } = progress {
            self.0.lock().expect("no panic while held").push(text);
        }
    }
}

/// One session, with as many turns as a scenario needs.
struct Session {
    _folder: tempfile::TempDir,
    transcript: Transcript,
    texts: Arc<Texts>,
    ports: Ports,
    turns: u32,
}

impl Session {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let header = Header {
            session_id: "s".to_owned(),
            cwd: String::new(),
        };
        let (transcript, _) = Transcript::open(&folder.path().join("s.jsonl"), &header).expect("opens");
        let texts = Arc::new(Texts(std::sync::Mutex::default()));
        let ports = Ports {
            exec: Arc::new(House),
            nodes: Arc::new(House),
            node_tools: Arc::new(()),
            watch: texts.clone(),
            models: Arc::new(HttpModels::new(Duration::from_secs(2)).expect("a client")),
            meanwhile: Arc::new(House),
            pictures: Arc::new(House),
        };
        Self {
            _folder: folder,
            transcript,
            texts,
            ports,
            turns: 0,
        }
    }

    async fn turn(&mut self, input: &str, models: Vec<ModelConfig>) -> TurnEnd {
        self.turn_with(input, models, ToolPolicy::default()).await
    }

    async fn turn_with(&mut self, input: &str, models: Vec<ModelConfig>, tools: ToolPolicy) -> TurnEnd {
        self.turns += 1;
        let spec = TurnSpec {
            run: RunId::new(format!("run-{}", self.turns)).expect("an id"),
            agent: AgentId::new("main").expect("an id"),
            session: SessionKey::new("agent:main:main").expect("an id"),
            input: User::text(input),
            direct: true,
            owners: Vec::new(),
            models: models.into_iter().map(Arc::new).collect(),
            workspace: None,
            tools,
            exec: ExecDefaults::default(),
            identity: Identity::default(),
            facts: "laptop (Linux): connected".to_owned(),
            deadline: Duration::from_secs(30),
            limits: TurnLimits::default(),
        };
        let turn = run_turn(spec, self.ports.clone(), &self.transcript, CancellationToken::new());
        within("the turn to end", turn).await
    }
}

fn answered(end: &TurnEnd) -> &str {
    match &end.outcome {
        Outcome::Answer { text } => text,
        Outcome::Silent | Outcome::Failed { .. } | Outcome::Aborted { .. } | Outcome::Uncertain { .. } => {
            panic!("no answer: {:?}", end.outcome)
        }
    }
}

fn failed(end: &TurnEnd) -> &str {
    match &end.outcome {
        Outcome::Failed { message } => message,
        Outcome::Silent | Outcome::Answer { .. } | Outcome::Aborted { .. } | Outcome::Uncertain { .. } => {
            panic!("no failure: {:?}", end.outcome)
        }
    }
}

fn two_calls_then_an_answer(asked: &Asked) -> Step {
    match asked.results.as_slice() {
        [] if asked.last_user == "go" => Step::Say(
            Saying::text("I look. ")
                .and_call("exec", &json!({"command": "uname -a"}))
                .and_call("nodes", &json!({"action": "list"})),
        ),
        [first, second] if first.contains("ran uname -a") && second.contains("laptop") => Step::say("Linux, both — é."),
        [] => Step::say("You are welcome."),
        other => Step::say(format!("unexpected: {other:?}")),
    }
}

#[tokio::test]
async fn a_turn_with_tools_and_the_turns_after_it_pass_a_strict_server() {
    for api in APIS {
        let fake = Fake::start(api, two_calls_then_an_answer).await;
        let mut session = Session::new();
        let end = session.turn("go", vec![fake.config("m")]).await;
        assert_eq!(answered(&end), "Linux, both — é.");
        assert_eq!(
            (end.rounds, end.usage.input, end.usage.cache_read, end.usage.output),
            (2, 50, 6, 30)
        );
        let texts = session.texts.0.lock().expect("no panic").clone();
        assert!(
            texts.contains(&"I look. ".to_owned()) && texts.contains(&"Linux, both — é.".to_owned()),
            "{texts:?}"
        );
        let next = session.turn("thanks", vec![fake.config("m")]).await;
        assert_eq!(answered(&next), "You are welcome.");
        let nothing = ToolPolicy {
            allow: Some(Vec::new()),
            deny: Vec::new(),
        };
        let toolless = session.turn_with("thanks again", vec![fake.config("m")], nothing).await;
        assert_eq!(answered(&toolless), "You are welcome.");
        assert_eq!(fake.refused(), Vec::<String>::new());
        assert_eq!(fake.asked()[0].tools, ["exec", "nodes"]);
    }
}

#[tokio::test]
async fn a_conversation_can_change_its_language_in_the_middle() {
    let anthropic = Fake::start(Api::AnthropicMessages, two_calls_then_an_answer).await;
    let openai = Fake::start(Api::OpenAiCompletions, two_calls_then_an_answer).await;
    let mut session = Session::new();
    for fake in [&anthropic, &openai, &anthropic, &openai] {
        assert_eq!(
            answered(&session.turn("go", vec![fake.config("m")]).await),
            "Linux, both — é."
        );
    }
    assert_eq!((anthropic.refused(), openai.refused()), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn after_a_failed_or_stopped_turn_the_next_one_passes_a_strict_server() {
    for api in APIS {
        let fake = Fake::start(api, |asked| match asked.last_user.as_str() {
            "fail" => Step::refuse(400, "invalid_request_error", "no"),
            "empty" => Step::Say(Saying::default()),
            _ => Step::say("ok"),
        })
        .await;
        let mut session = Session::new();
        failed(&session.turn("fail", vec![fake.config("m")]).await);
        failed(&session.turn("empty", vec![fake.config("m")]).await);
        assert_eq!(answered(&session.turn("well?", vec![fake.config("m")]).await), "ok");
        assert_eq!(fake.refused(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn broken_arguments_and_ids_that_repeat_do_no_harm() {
    let broken = |id: &str, args: &str| Call {
        id: Some(id.to_owned()),
        name: "exec".to_owned(),
        args: args.to_owned(),
    };
    for api in APIS {
        let fake = Fake::start(api, move |asked| {
            let args = ["{\"command\":", "[1]", "{\"command\":\"ls\"}", "{\"command\":\"pwd\"}"];
            match args.get(asked.results.len()) {
                Some(args) => Step::Say(Saying {
                    calls: vec![broken("call:0", args)],
                    ..Saying::default()
                }),
                None => Step::say(asked.results.join("|")),
            }
        })
        .await;
        let end = Session::new().turn("go", vec![fake.config("m")]).await;
        let results: Vec<&str> = answered(&end).split('|').collect();
        assert!(results[0].contains("not a JSON object") && results[1].contains("not a JSON object"));
        assert_eq!(results[2..], ["ran ls", "ran pwd"]);
        assert_eq!(fake.refused(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_passes_is_tried_again_and_the_answer_comes_once() {
    let kinds: [fn() -> Step; 7] = [
        || Step::refuse(529, "overloaded_error", "Overloaded"),
        || Step::refuse(500, "api_error", "Internal"),
        || Step::Refuse {
            status: 429,
            kind: "rate_limit_error",
            message: "slow down".to_owned(),
            retry_after: Some(0),
        },
        || Step::Disconnect(Saying::text("Half an ans")),
        || Step::FailInStream(Saying::text("Half an ans"), "overloaded_error"),
        || Step::Stall(Saying::text("Half an ans")),
        || Step::Raw("data: <html>\n\n".to_owned()),
    ];
    for api in APIS {
        for (number, trouble) in kinds.iter().enumerate() {
            let trouble = *trouble;
            let fake = Fake::start(api, move |asked| {
                if asked.number == 0 {
                    trouble()
                } else {
                    Step::say("whole")
                }
            })
            .await;
            let mut session = Session::new();
            let end = session.turn("hi", vec![fake.config("m")]).await;
            assert_eq!(answered(&end), "whole", "{number}");
            assert_eq!(fake.asked().len(), 2, "{number}");
            let (_, own) = session.transcript.conversation(&RunId::new("run-1").expect("an id"));
            assert_eq!(own.len(), 2, "only the question and the whole answer are kept");
        }
    }
}

#[tokio::test]
async fn a_silent_model_is_left_for_the_next_one() {
    for api in APIS {
        let silent = Fake::start(api, |_| Step::Hang).await;
        let good = Fake::start(api, |_| Step::say("here")).await;
        let end = Session::new()
            .turn("hi", vec![silent.config("a"), good.config("b")])
            .await;
        assert_eq!((answered(&end), end.model.as_deref()), ("here", Some("fake/b")));
        assert_eq!(silent.asked().len(), 2, "once more, since a wait can be bad luck");
    }
}

#[tokio::test]
async fn a_slow_first_token_within_its_deadline_is_waited_for() {
    for api in APIS {
        let fake = Fake::start(api, |_| {
            Step::Say(Saying {
                delay: Duration::from_millis(200),
                ..Saying::text("slow")
            })
        })
        .await;
        let mut config = fake.config("m");
        config.deadlines.first_token = Duration::from_secs(10);
        config.deadlines.silence = Duration::from_millis(100);
        assert_eq!(answered(&Session::new().turn("hi", vec![config]).await), "slow");
        assert_eq!(fake.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_wrong_key_is_not_tried_twice_and_never_shown() {
    for api in APIS {
        let fake = Fake::start(api, |_| Step::say("never")).await;
        let mut config = fake.config("m");
        config.api_key = Some("sk-wrong-5d2e".to_owned().into());
        let end = Session::new().turn("hi", vec![config]).await;
        let message = failed(&end);
        assert!(
            message.contains("API key") && message.contains("models.providers"),
            "{message}"
        );
        assert!(!message.contains("5d2e"), "{message}");
        assert_eq!(fake.refused().len(), 1);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_the_next_step() {
    // Port 1 of the loopback address: nothing that listens there would be left alone by a test machine.
    let config = config(Api::OpenAiCompletions, "http://127.0.0.1:1/v1".to_owned(), "m");
    let begun = std::time::Instant::now();
    let end = Session::new().turn("hi", vec![config]).await;
    let message = failed(&end).to_lowercase();
    assert!(
        message.contains("connection") && message.contains("baseurl"),
        "{message}"
    );
    assert!(
        begun.elapsed() > Duration::from_secs(5),
        "it was tried again before giving up"
    );
}

#[tokio::test]
async fn an_overflow_tells_to_start_afresh_and_asks_nobody_else() {
    for api in APIS {
        let full = Fake::start(api, |_| {
            Step::refuse(400, "context_length_exceeded", "prompt is too long")
        })
        .await;
        let other = Fake::start(api, |_| Step::say("never")).await;
        let end = Session::new()
            .turn("hi", vec![full.config("a"), other.config("b")])
            .await;
        assert!(failed(&end).contains("/new"));
        assert_eq!(other.asked().len(), 0);
    }
}

#[tokio::test]
async fn an_answer_that_the_limit_cut_says_so() {
    for api in APIS {
        let fake = Fake::start(api, |_| {
            Step::Say(Saying {
                cut: true,
                ..Saying::text("And so")
            })
        })
        .await;
        let end = Session::new().turn("hi", vec![fake.config("m")]).await;
        assert!(answered(&end).starts_with("And so\n\n[Cut here"));
    }
}

#[tokio::test]
async fn odd_streams_of_servers_that_imitate_the_api_are_read() {
    let chunk = |value: Value| format!("data:{value}\r\n\r\n");
    let delta = |delta: Value| chunk(json!({"choices": [{"delta": delta}]}));
    let usageless = [
        delta(json!({"content": "a"})),
        delta(json!({"content": null})),
        delta(json!({"content": "b"})),
    ];
    let doneless = [
        ": OPENROUTER PROCESSING\n\n".to_owned(),
        chunk(json!({"choices": []})),
        chunk(json!({"choices": [{"delta": {"content": "ab"}, "finish_reason": "eos"}], "usage": null, "x": 1})),
    ];
    let thinking = [
        delta(json!({"reasoning_content": "hm"})),
        delta(json!({"content": "ab"})),
    ];
    let done = "data: [DONE]\n\n";
    for stream in [usageless.concat() + done, doneless.concat(), thinking.concat() + done] {
        let fake = Fake::start(Api::OpenAiCompletions, move |_| Step::Raw(stream.clone())).await;
        let end = Session::new().turn("hi", vec![fake.config("m")]).await;
        assert_eq!(answered(&end), "ab");
    }
    let whole_call = json!({"function": {"name": "exec", "arguments": "{\"command\":\"ls\"}"}});
    let calls = chunk(json!({"choices": [{"delta": {"tool_calls": [whole_call]}, "finish_reason": "stop"}]}));
    let fake = Fake::start(Api::OpenAiCompletions, move |asked| match asked.results.first() {
        None => Step::Raw(calls.clone()),
        Some(result) => Step::say(result),
    })
    .await;
    assert_eq!(
        answered(&Session::new().turn("hi", vec![fake.config("m")]).await),
        "ran ls"
    );
    assert_eq!(fake.refused(), Vec::<String>::new());
}

#[tokio::test]
async fn an_instant_server_answers_in_both_languages() {
    let anthropic = Fake::Anthropic(FakeAnthropic::instant("pong").await);
    let openai = Fake::OpenAi(FakeOpenAi::instant("pong").await);
    for fake in [anthropic, openai] {
        assert_eq!(
            answered(&Session::new().turn("ping", vec![fake.config("m")]).await),
            "pong"
        );
    }
}
