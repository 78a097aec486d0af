//! Turns with scripted models and tools: crashes at every step, stops, deadlines, panics.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use atoll_protocol::json::Json;
use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::message::{Assistant, Part, StopReason};
use crate::model::{Api, ModelDeadlines, ModelRef};
use crate::port::{ExecRequest, NodeCommand, Progress};
use crate::transcript::Header;

/// What the scripted model does, by the number of tool results since the person's last words.
type Script = fn(&ModelRequest, usize) -> Result<Assistant, ModelError>;

/// Everything outside of the driver; survives its crashes, as a journal does.
struct World {
    script: Script,
    /// Steps taken: each port counts one when it is entered and one before it answers.
    steps: AtomicUsize,
    /// At this step everything stands still for ever.
    crash_at: AtomicUsize,
    crashed: Notify,
    /// Makes ids of calls that never repeat, as a model's service does.
    ids: AtomicUsize,
    /// Commands that have run, by key, and what they gave.
    executed: Mutex<HashMap<CallKey, ToolReply>>,
    commands: Mutex<Vec<String>>,
    texts: Mutex<Vec<String>>,
    any_node: bool,
    /// What a person says once so many commands have run, and what has been said.
    saying: Mutex<Option<(usize, &'static str)>>,
    said: Mutex<Vec<String>>,
}

impl World {
    fn new(script: Script) -> Arc<Self> {
        Arc::new(Self {
            script,
            steps: AtomicUsize::new(0),
            crash_at: AtomicUsize::new(usize::MAX),
            crashed: Notify::new(),
            ids: AtomicUsize::new(0),
            executed: Mutex::default(),
            commands: Mutex::default(),
            texts: Mutex::default(),
            any_node: false,
            saying: Mutex::default(),
            said: Mutex::default(),
        })
    }

    async fn step(&self) {
        if self.steps.fetch_add(1, Ordering::SeqCst) == self.crash_at.load(Ordering::SeqCst) {
            self.crashed.notify_one();
            std::future::pending::<()>().await;
        }
    }

    fn ports(self: &Arc<Self>) -> Ports {
        Ports {
            exec: self.clone(),
            nodes: self.clone(),
            node_tools: Arc::new(()),
            watch: self.clone(),
            models: self.clone(),
            meanwhile: self.clone(),
            pictures: self.clone(),
        }
    }

    fn commands(&self) -> Vec<String> {
        self.commands.lock().expect("no panic").clone()
    }
}

#[async_trait]
impl Models for World {
    async fn ask(&self, request: ModelRequest, pieces: &mpsc::Sender<String>) -> Result<Assistant, ModelError> {
        self.step().await;
        let results = request.messages.iter().rev();
        let results = results.take_while(|message| !matches!(&***message, Message::User(_)));
        let results = results
            .filter(|message| matches!(&***message, Message::ToolResult(_)))
            .count();
        let mut said = (self.script)(&request, results)?;
        for part in &mut said.content {
            if let Part::ToolCall(call) = part {
                call.id = format!("call-{}", self.ids.fetch_add(1, Ordering::SeqCst));
            }
        }
        pieces.send(said.text()).await.expect("the driver listens");
        self.step().await;
        Ok(said)
    }
}

#[async_trait]
impl Exec for World {
    async fn exec(&self, caller: &Caller, request: ExecRequest) -> ToolReply {
        self.step().await;
        match request.command.as_str() {
            "panic" => panic!("a tool that panics"),
            "hang" => std::future::pending().await,
            "obey" => caller.cancel.cancelled().await,
            "recall" => return ToolReply::ok(format!("read {:?}", caller.read)),
            "ask" => {
                let _paused = caller.clock.pause();
                sleep(3 * TURN_DEADLINE).await;
            }
            _ => {}
        }
        let reply = {
            let mut executed = self.executed.lock().expect("no panic");
            let run = || {
                self.commands.lock().expect("no panic").push(request.command.clone());
                ToolReply::ok(format!("did {}", request.command))
            };
            executed.entry(caller.key.clone()).or_insert_with(run).clone()
        };
        self.step().await;
        reply
    }
}

#[async_trait]
impl Nodes for World {
    fn any(&self) -> bool {
        self.any_node
    }

    async fn list(&self) -> Json {
        Json::from(json!({"nodes": []}))
    }

    async fn describe(&self, node: &str) -> Result<Json, String> {
        Err(format!("no node {node}"))
    }

    async fn invoke(&self, _: &Caller, _: &str, command: NodeCommand) -> ToolReply {
        ToolReply::ok(command.name)
    }
}

#[async_trait]
impl Pictures for World {
    async fn view(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

#[async_trait]
impl Meanwhile for World {
    async fn said(&self, _: &RunId, had: usize) -> Vec<String> {
        if self.saying.lock().expect("no panic").is_none() && self.said.lock().expect("no panic").is_empty() {
            return Vec::new();
        }
        self.step().await;
        let done = self.commands().len();
        let now = self
            .saying
            .lock()
            .expect("no panic")
            .take_if(|(after, _)| done >= *after);
        self.said
            .lock()
            .expect("no panic")
            .extend(now.map(|(_, text)| text.to_owned()));
        self.step().await;
        self.said.lock().expect("no panic").iter().skip(had).cloned().collect()
    }
}

impl Watch for World {
    fn progress(&self, _: &RunId, _: &SessionKey, progress: Progress) {
        if let Progress::Text { text, .. } = progress {
            self.texts.lock().expect("no panic").push(text);
        }
    }
}

fn says(text: &str) -> Result<Assistant, ModelError> {
    Ok(Assistant {
        content: vec![Part::Text(text.to_owned())],
        ..Assistant::default()
    })
}

fn runs(commands: &[&str]) -> Result<Assistant, ModelError> {
    let call = |command: &&str| {
        Part::ToolCall(ToolCall {
            id: String::new(),
            name: "exec".to_owned(),
            args: Json::from(json!({"command": command})),
        })
    };
    Ok(Assistant {
        content: commands.iter().map(call).collect(),
        stop: StopReason::ToolUse,
        ..Assistant::default()
    })
}

fn model(name: &str) -> Arc<ModelConfig> {
    Arc::new(ModelConfig {
        name: ModelRef {
            provider: "test".to_owned(),
            model: name.to_owned(),
        },
        base_url: String::new(),
        api_key: None,
        api: Api::AnthropicMessages,
        context_window: 200_000,
        sees: true,
        max_tokens: 4_096,
        deadlines: ModelDeadlines::default(),
    })
}

fn spec(run: &str) -> TurnSpec {
    TurnSpec {
        run: RunId::new(run).expect("an id"),
        agent: AgentId::new("main").expect("an id"),
        session: SessionKey::new("agent:main:main").expect("an id"),
        input: User::text("please"),
        direct: true,
        owners: Vec::new(),
        models: vec![model("one"), model("two")],
        workspace: None,
        tools: ToolPolicy::default(),
        exec: ExecDefaults::default(),
        identity: Identity::default(),
        facts: String::new(),
        deadline: TURN_DEADLINE,
        limits: TurnLimits::default(),
    }
}

/// A session's file, opened anew for each life of the gateway.
struct Session {
    folder: tempfile::TempDir,
}

impl Session {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn open(&self) -> Transcript {
        let header = Header {
            session_id: "s".to_owned(),
            cwd: String::new(),
        };
        Transcript::open(&self.folder.path().join("s.jsonl"), &header)
            .expect("opens")
            .0
    }
}

async fn run(world: &Arc<World>, spec: TurnSpec, transcript: &Transcript) -> TurnEnd {
    run_turn(spec, world.ports(), transcript, CancellationToken::new()).await
}

fn two_rounds(_: &ModelRequest, results: usize) -> Result<Assistant, ModelError> {
    match results {
        0 => runs(&["first", "second"]),
        2 => runs(&["third"]),
        _ => says("All three are done."),
    }
}

fn final_answers(transcript: &Transcript) -> usize {
    let (_, own) = transcript.conversation(&RunId::new("run").expect("an id"));
    own.iter()
        .filter(|message| matches!(&***message, Message::Assistant(said) if said.calls().next().is_none()))
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_dies_at_any_step_is_continued_to_one_answer_and_no_command_runs_twice() {
    let mut deaths = 0;
    for crash_at in 0.. {
        let (world, session) = (World::new(two_rounds), Session::new());
        world.crash_at.store(crash_at, Ordering::SeqCst);
        let transcript = session.open();
        let end = tokio::select! {
            biased;
            () = world.crashed.notified() => None,
            end = run(&world, spec("run"), &transcript) => Some(end),
        };
        drop(transcript);
        let transcript = session.open();
        let end = match end {
            Some(end) => end,
            None => run(&world, spec("run"), &transcript).await,
        };
        let text = "All three are done.".to_owned();
        assert_eq!(end.outcome, Outcome::Answer { text }, "step {crash_at}");
        assert_eq!(world.commands(), ["first", "second", "third"], "step {crash_at}");
        assert_eq!(final_answers(&session.open()), 1, "step {crash_at}");
        let asked = world.steps.load(Ordering::SeqCst);
        let again = run(&world, spec("run"), &session.open()).await;
        assert_eq!(again.outcome, end.outcome, "a turn that has ended ends the same again");
        assert_eq!(world.steps.load(Ordering::SeqCst), asked, "and asks nobody for it");
        if asked <= crash_at {
            break;
        }
        deaths += 1;
    }
    // Three questions and three commands, each with a step at either end.
    assert_eq!(deaths, 12);
}

#[tokio::test]
async fn a_summary_makes_nobody_forget_what_was_read() {
    let recalls = |_: &ModelRequest, results: usize| match results {
        0 => runs(&["recall"]),
        _ => says("done"),
    };
    let (world, session) = (World::new(recalls), Session::new());
    let transcript = session.open();
    let recalled = async |name: &str| {
        run(&world, spec(name), &transcript).await;
        let (_, own) = transcript.conversation(&RunId::new(name).expect("an id"));
        let result = own.iter().find_map(|message| match &**message {
            Message::ToolResult(result) => Some(result.text()),
            Message::User(_) | Message::Assistant(_) => None,
        });
        result.expect("a result")
    };
    assert!(recalled("first").await.contains("None"));
    let (_, last) = transcript.so_far();
    assert!(
        transcript
            .compact("nothing of note", None, last.as_deref())
            .expect("appends")
    );
    assert!(recalled("second").await.contains("Some(Output)"));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_dies_twice_is_still_continued() {
    for (first, second) in [(3, 4), (5, 3), (2, 1), (7, 2)] {
        let (world, session) = (World::new(two_rounds), Session::new());
        for crash_after in [first, second] {
            let now = world.steps.load(Ordering::SeqCst);
            world.crash_at.store(now + crash_after, Ordering::SeqCst);
            let transcript = session.open();
            tokio::select! {
                biased;
                () = world.crashed.notified() => {}
                end = run(&world, spec("run"), &transcript) => panic!("ended with {end:?}"),
            }
        }
        let end = run(&world, spec("run"), &session.open()).await;
        assert!(matches!(end.outcome, Outcome::Answer { .. }));
        assert_eq!(world.commands(), ["first", "second", "third"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_tool_is_one_failed_call_of_unknown_effect() {
    let world = World::new(|_, results| if results == 0 { runs(&["panic"]) } else { says("Hm.") });
    let session = Session::new();
    let end = run(&world, spec("run"), &session.open()).await;
    assert!(matches!(end.outcome, Outcome::Uncertain { text, .. } if text.starts_with("Hm.")));
}

#[tokio::test(start_paused = true)]
async fn stop_ends_a_tool_that_obeys_at_once_and_one_that_does_not_after_a_grace() {
    let obedient: Script = |_, _| runs(&["obey", "never"]);
    let deaf: Script = |_, _| runs(&["hang", "never"]);
    for (script, obeys) in [(obedient, true), (deaf, false)] {
        let (world, session) = (World::new(script), Session::new());
        let (cancel, transcript) = (CancellationToken::new(), session.open());
        let stopper = {
            let cancel = cancel.clone();
            tokio::spawn(async move {
                sleep(Duration::from_secs(60)).await;
                cancel.cancel();
            })
        };
        let begun = Instant::now();
        let end = run_turn(spec("run"), world.ports(), &transcript, cancel).await;
        stopper.await.expect("stopped");
        let took = begun.elapsed().as_secs();
        if obeys {
            assert!(matches!(end.outcome, Outcome::Aborted { .. }), "{:?}", end.outcome);
            assert_eq!(took, 60);
        } else {
            assert!(matches!(end.outcome, Outcome::Uncertain { .. }), "{:?}", end.outcome);
            assert_eq!(took, 70);
        }
        assert!(!world.commands().contains(&"never".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_turn_whose_model_never_speaks() {
    let (world, session) = (World::new(two_rounds), Session::new());
    world.crash_at.store(0, Ordering::SeqCst);
    let begun = Instant::now();
    let end = run(&world, spec("run"), &session.open()).await;
    assert!(matches!(end.outcome, Outcome::Failed { .. }));
    assert_eq!(begun.elapsed().as_secs(), TURN_DEADLINE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn the_fallback_speaks_when_the_primary_fails() {
    let world = World::new(|request, _| match request.config.name.model.as_str() {
        "one" => Err(ModelError::Connection {
            detail: "refused".to_owned(),
        }),
        other => says(other),
    });
    let session = Session::new();
    let end = run(&world, spec("run"), &session.open()).await;
    assert_eq!(end.model.as_deref(), Some("test/two"));
    assert_eq!(end.outcome, Outcome::Answer { text: "two".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_a_reset_has_overtaken_appends_nothing() {
    let (world, session) = (World::new(two_rounds), Session::new());
    world.crash_at.store(1, Ordering::SeqCst);
    let transcript = session.open();
    let overtaken = async {
        world.crashed.notified().await;
        transcript.reset("new", "another").expect("resets");
    };
    let cancel = CancellationToken::new();
    let turn = run_turn(spec("run"), world.ports(), &transcript, cancel.clone());
    let stop = async {
        overtaken.await;
        cancel.cancel();
    };
    let (end, ()) = tokio::join!(turn, stop);
    assert!(matches!(end.outcome, Outcome::Aborted { .. }));
    assert_eq!(transcript.history().len(), 1, "only the reset itself");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_used_now_is_not_offered_and_what_is_denied_never_is() {
    let names: Script = |request, _| {
        let names: Vec<&str> = request.tools.iter().map(|tool| &*tool.name).collect();
        says(&format!("[{}]", names.join(" ")))
    };
    let mut world = World::new(names);
    let offered = |end: TurnEnd| end.outcome.text().unwrap_or_default().to_owned();
    let bare = run(&world, spec("bare"), &Session::new().open()).await;
    assert_eq!(offered(bare), "[exec]");
    Arc::get_mut(&mut world).expect("one owner").any_node = true;
    let folder = tempfile::tempdir().expect("a folder");
    let mut full = spec("full");
    full.workspace = Some(folder.path().to_owned());
    let all = run(&world, full.clone(), &Session::new().open()).await;
    assert_eq!(offered(all), "[exec nodes read write edit]");
    full.tools = ToolPolicy {
        allow: Some(vec!["group:fs".to_owned(), "nodes".to_owned()]),
        deny: vec!["write".to_owned()],
    };
    let some = run(&world, full, &Session::new().open()).await;
    assert_eq!(offered(some), "[nodes read edit]");
}

fn one_thing_then_another(request: &ModelRequest, _: usize) -> Result<Assistant, ModelError> {
    let is_said =
        |message: &Arc<Message>| matches!(&**message, Message::User(user) if user == &User::text("the other one"));
    if request.messages.iter().any(is_said) {
        says("The other one, then.")
    } else {
        runs(&["first", "second"])
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_said_meanwhile_is_heard_once_wherever_the_turn_dies_and_what_had_not_begun_is_left_undone() {
    for crash_at in 0.. {
        let (world, session) = (World::new(one_thing_then_another), Session::new());
        *world.saying.lock().expect("no panic") = Some((1, "the other one"));
        world.crash_at.store(crash_at, Ordering::SeqCst);
        let transcript = session.open();
        tokio::select! {
            biased;
            () = world.crashed.notified() => {}
            _ = run(&world, spec("run"), &transcript) => {}
        }
        drop(transcript);
        let asked = world.steps.load(Ordering::SeqCst);
        world.crash_at.store(usize::MAX, Ordering::SeqCst);
        let end = run(&world, spec("run"), &session.open()).await;
        let text = "The other one, then.".to_owned();
        assert_eq!(end.outcome, Outcome::Answer { text }, "step {crash_at}");
        assert_eq!(world.commands(), ["first"], "step {crash_at}");
        let (_, own) = session.open().conversation(&RunId::new("run").expect("an id"));
        let said = own.iter().filter(|message| matches!(&***message, Message::User(_)));
        assert_eq!(said.count(), 2, "step {crash_at}");
        let called = own.iter().filter_map(|message| match &**message {
            Message::Assistant(said) => Some(said.calls().count()),
            Message::User(_) | Message::ToolResult(_) => None,
        });
        let results = own
            .iter()
            .filter(|message| matches!(&***message, Message::ToolResult(_)));
        assert_eq!(results.count(), called.sum::<usize>(), "step {crash_at}");
        if asked <= crash_at {
            assert!(crash_at > 6, "it died at every step");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_in_which_a_person_is_waited_for_is_not_the_turns() {
    let world = World::new(|_, results| match results {
        0 => runs(&["ask"]),
        1 => runs(&["obey"]),
        _ => says("Done."),
    });
    let session = Session::new();
    let begun = Instant::now();
    let end = run(&world, spec("run"), &session.open()).await;
    assert!(matches!(end.outcome, Outcome::Failed { .. }), "{:?}", end.outcome);
    assert_eq!(world.commands()[0], "ask");
    assert_eq!(
        begun.elapsed().as_secs(),
        4 * TURN_DEADLINE.as_secs(),
        "its own time is all there"
    );
}
