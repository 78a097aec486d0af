//! Whole conversations with the machine, without I/O.

use super::*;
use atoll_protocol::json::Json;
use serde_json::json;

fn setup() -> Setup {
    Setup {
        run: RunId::new("run-1").expect("an id"),
        direct: true,
        offered: vec!["exec".to_owned(), "read".to_owned()],
        models: vec!["a/one".to_owned(), "b/two".to_owned()],
        limits: TurnLimits::default(),
    }
}

fn said(text: &str) -> Event {
    Event::ModelDone(Assistant {
        content: vec![Part::Text(text.to_owned())],
        ..Assistant::default()
    })
}

fn call(id: &str, name: &str, args: serde_json::Value) -> Part {
    Part::ToolCall(ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        args: Json::from(args),
    })
}

fn wants(calls: Vec<Part>) -> Event {
    Event::ModelDone(Assistant {
        content: calls,
        stop: StopReason::ToolUse,
        ..Assistant::default()
    })
}

fn ls(id: &str) -> Part {
    call(id, "exec", json!({"command": "ls"}))
}

fn done(id: &str, reply: ToolReply) -> Event {
    Event::ToolDone {
        id: id.to_owned(),
        reply,
    }
}

fn uncertain() -> ToolReply {
    ToolReply {
        uncertain: true,
        ..ToolReply::error("the node went away")
    }
}

fn busy() -> ModelError {
    ModelError::Overloaded {
        retry_after: None,
        detail: "busy".to_owned(),
    }
}

/// A machine, and all that it appended.
struct Played {
    turn: Turn,
    appended: Vec<Arc<Message>>,
    effects: Vec<Effect>,
}

impl Played {
    fn fresh(setup: Setup) -> Self {
        Self {
            turn: Turn::new(setup),
            appended: Vec::new(),
            effects: Vec::new(),
        }
    }

    fn started(setup: Setup) -> Self {
        let mut played = Self::fresh(setup);
        played.play(Event::Start {
            history: Vec::new(),
            input: User::text("hi"),
        });
        played
    }

    fn play(&mut self, event: Event) -> &mut Self {
        self.effects = self.turn.handle(event);
        for effect in &self.effects {
            if let Effect::Append { message, .. } = effect {
                self.appended.push(Arc::clone(message));
            }
        }
        self
    }

    fn outcome(&self) -> Option<Outcome> {
        self.effects.iter().find_map(|effect| {
            if let Effect::Finish(end) = effect {
                Some(end.outcome.clone())
            } else {
                None
            }
        })
    }

    fn running(&self) -> Vec<String> {
        self.effects
            .iter()
            .filter_map(|effect| {
                if let Effect::RunTool(call) = effect {
                    Some(call.id.clone())
                } else {
                    None
                }
            })
            .collect()
    }

    fn asked(&self) -> Option<usize> {
        self.effects.iter().find_map(|effect| {
            if let Effect::CallModel { model, .. } = effect {
                Some(*model)
            } else {
                None
            }
        })
    }

    fn results(&self) -> Vec<(String, bool)> {
        self.appended
            .iter()
            .filter_map(|message| {
                if let Message::ToolResult(result) = &**message {
                    Some((result.call.clone(), result.is_error))
                } else {
                    None
                }
            })
            .collect()
    }

    fn every_call_has_one_result(&self) {
        let mut calls: Vec<String> = Vec::new();
        for message in &self.appended {
            if let Message::Assistant(assistant) = &**message {
                calls.extend(assistant.calls().map(|call| call.id.clone()));
            }
        }
        let results: Vec<String> = self.results().into_iter().map(|(id, _)| id).collect();
        assert_eq!(calls, results);
    }
}

fn answer(text: &str) -> Option<Outcome> {
    Some(Outcome::Answer { text: text.to_owned() })
}

#[test]
fn a_message_is_written_down_before_the_model_is_asked() {
    let played = Played::started(setup());
    assert!(matches!(
        played.effects.as_slice(),
        [
            Effect::Watch(_),
            Effect::Append { .. },
            Effect::CallModel { model: 0, .. }
        ]
    ));
}

#[test]
fn a_turn_goes_from_message_to_tools_to_answer() {
    let mut played = Played::started(setup());
    played.play(wants(vec![ls("c1"), call("c2", "read", json!({"path": "a"}))]));
    assert_eq!(played.running(), ["c1"]);
    assert!(matches!(played.effects[0], Effect::Append { synced: true, .. }));
    played.play(done("c1", ToolReply::ok("files")));
    assert_eq!(played.running(), ["c2"]);
    played.play(done("c2", ToolReply::ok("text")));
    assert_eq!(played.asked(), Some(0));
    played.play(said("There you are."));
    assert_eq!(played.outcome(), answer("There you are."));
    played.every_call_has_one_result();
}

#[test]
fn late_and_double_events_change_nothing() {
    let mut played = Played::started(setup());
    assert!(played.play(Event::TimerFired).effects.is_empty());
    played.play(wants(vec![ls("c1")]));
    assert!(played.play(done("other", ToolReply::ok(""))).effects.is_empty());
    assert!(played.play(said("too early")).effects.is_empty());
    played.play(done("c1", ToolReply::ok("")));
    assert!(played.play(done("c1", ToolReply::ok(""))).effects.is_empty());
    played.play(said("end"));
    assert!(played.play(Event::Abort).effects.is_empty());
    assert!(played.play(Event::Deadline).effects.is_empty());
}

#[test]
fn a_tool_that_is_not_offered_gives_an_error_and_the_model_goes_on() {
    let mut played = Played::started(setup());
    played.play(wants(vec![call("c1", "nodes", json!({"action": "list"}))]));
    assert_eq!(played.running(), Vec::<String>::new());
    assert_eq!(played.results(), [("c1".to_owned(), true)]);
    assert_eq!(played.asked(), Some(0));
}

#[test]
fn arguments_that_are_no_object_run_nothing() {
    let mut played = Played::started(setup());
    played.play(wants(vec![call(
        "c1",
        "exec",
        json!({crate::message::MALFORMED_ARGS: "{\"comm"}),
    )]));
    assert_eq!(played.running(), Vec::<String>::new());
    assert_eq!(played.results(), [("c1".to_owned(), true)]);
}

#[test]
fn an_id_that_a_server_uses_twice_becomes_two_ids() {
    let mut played = Played::started(setup());
    for round in ["call_0", "call_0_2", "call_0_3"] {
        played.play(wants(vec![call("call_0", "exec", json!({"command": round}))]));
        assert_eq!(played.running(), [round]);
        played.play(done(round, ToolReply::ok("")));
    }
    played.every_call_has_one_result();
}

#[test]
fn an_abort_answers_every_open_call_after_the_running_one_has_ended() {
    let mut played = Played::started(setup());
    played.play(wants(vec![ls("c1"), ls("c2"), ls("c3")]));
    played.play(Event::Abort);
    assert_eq!(played.effects, [Effect::CancelTool]);
    played.play(done("c1", ToolReply::error("cancelled")));
    assert_eq!(
        played.outcome(),
        Some(Outcome::Aborted {
            message: "Stopped.".to_owned()
        })
    );
    played.every_call_has_one_result();
}

#[test]
fn an_abort_while_the_model_speaks_keeps_what_it_had_said() {
    let mut played = Played::started(setup());
    played.play(Event::ModelDelta("Well, ".to_owned()));
    played.play(Event::Abort);
    assert!(matches!(played.outcome(), Some(Outcome::Aborted { .. })));
    let Some(Message::Assistant(last)) = played.appended.last().map(|last| &**last) else {
        panic!("the end is written down");
    };
    assert_eq!((last.text().as_str(), last.stop), ("Well, ", StopReason::Aborted));
}

#[test]
fn the_end_says_what_is_uncertain_whatever_the_model_says() {
    for (last_word, shown) in [
        ("All fine!", "All fine!"),
        ("NO_REPLY", "⚠️ exec failed: the node went away"),
    ] {
        let mut played = Played::started(setup());
        played.play(wants(vec![ls("c1")]));
        played.play(done("c1", uncertain()));
        played.play(said(last_word));
        let Some(Outcome::Uncertain { text, tools }) = played.outcome() else {
            panic!("uncertain");
        };
        assert!(text.starts_with(shown) && text.contains("uncertain"), "{text}");
        assert_eq!(tools, ["exec"]);
    }
}

#[test]
fn silence_is_for_groups_only() {
    for (word, direct, expected) in [
        ("NO_REPLY", false, Some(Outcome::Silent)),
        (" no_reply\n", false, Some(Outcome::Silent)),
        ("NO_REPLY", true, answer("Done. I have nothing to add.")),
        ("NO_REPLY, he said", false, answer("NO_REPLY, he said")),
    ] {
        let mut played = Played::started(Setup { direct, ..setup() });
        assert_eq!(played.play(said(word)).outcome(), expected, "{word} {direct}");
    }
}

#[test]
fn a_turn_that_ends_with_only_a_failed_tool_says_so() {
    for last_word in ["", "NO_REPLY"] {
        let mut played = Played::started(Setup {
            direct: false,
            ..setup()
        });
        played.play(wants(vec![ls("c1")]));
        played.play(done("c1", ToolReply::error("\nno such folder\nmore")));
        played.play(said(last_word));
        assert_eq!(played.outcome(), answer("⚠️ exec failed: no such folder"));
    }
}

#[test]
fn the_same_call_again_and_again_is_told_and_then_stopped() {
    let mut played = Played::started(setup());
    for round in 1..=4 {
        let id = format!("c{round}");
        played.play(wants(vec![ls(&id)]));
        assert_eq!(played.running(), [id.as_str()]);
        played.play(done(&id, ToolReply::ok("files")));
        let told = matches!(&**played.appended.last().expect("a result"),
            Message::ToolResult(result) if result.text().contains("same call"));
        assert_eq!(told, round >= 3, "round {round}");
    }
    played.play(wants(vec![ls("c5"), ls("c6")]));
    assert_eq!(played.running(), Vec::<String>::new());
    assert!(matches!(played.outcome(), Some(Outcome::Failed { message }) if message.contains("same call")));
    played.every_call_has_one_result();
}

#[test]
fn a_turn_has_a_last_round() {
    let limits = TurnLimits {
        rounds: 2,
        ..TurnLimits::default()
    };
    let mut played = Played::started(Setup { limits, ..setup() });
    for round in ["c1", "c2"] {
        played.play(wants(vec![call(round, "exec", json!({"command": round}))]));
        played.play(done(round, ToolReply::ok("")));
    }
    assert!(matches!(played.outcome(), Some(Outcome::Failed { message }) if message.contains("2 steps")));
}

#[test]
fn a_busy_model_is_asked_again_and_then_the_next_one_for_the_rest_of_the_turn() {
    let mut played = Played::started(setup());
    for _ in 0..4 {
        played.play(Event::ModelFailed(busy()));
        assert!(matches!(played.effects.as_slice(), [Effect::SetTimer(_)]));
        played.play(Event::TimerFired);
        assert_eq!(played.asked(), Some(0));
    }
    played.play(Event::ModelFailed(busy()));
    assert_eq!(played.asked(), Some(1));
    played.play(wants(vec![ls("c1")]));
    played.play(done("c1", ToolReply::ok("")));
    assert_eq!(played.asked(), Some(1));
}

#[test]
fn when_no_model_answers_the_chat_is_told_which_why_and_what_to_do() {
    let auth = ModelError::Auth {
        detail: "bad key".to_owned(),
    };
    let mut played = Played::started(setup());
    played.play(Event::ModelFailed(auth.clone()));
    played.play(Event::ModelFailed(auth));
    let Some(Outcome::Failed { message }) = played.outcome() else {
        panic!("failed");
    };
    for words in ["a/one", "b/two", "bad key", "models.providers.<provider>.apiKey"] {
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn an_overflow_asks_no_other_model() {
    let mut played = Played::started(setup());
    played.play(Event::ModelFailed(ModelError::ContextOverflow {
        detail: "9 > 8".to_owned(),
    }));
    assert!(matches!(played.outcome(), Some(Outcome::Failed { message }) if message.contains("/new")));
}

#[test]
fn without_a_model_the_chat_is_told_how_to_get_one() {
    let played = Played::started(Setup {
        models: Vec::new(),
        ..setup()
    });
    assert!(
        matches!(played.outcome(), Some(Outcome::Failed { message }) if message.contains("agents.defaults.model.primary"))
    );
}

#[test]
fn an_empty_answer_is_asked_for_once_more() {
    let mut played = Played::started(Setup {
        models: vec!["a/one".to_owned()],
        ..setup()
    });
    played.play(said("  "));
    assert!(matches!(played.effects.as_slice(), [Effect::SetTimer(_)]));
    played.play(Event::TimerFired);
    played.play(said(""));
    assert!(matches!(played.outcome(), Some(Outcome::Failed { message }) if message.contains("empty answer")));
}

#[test]
fn the_deadline_ends_a_turn_wherever_it_is() {
    let late = |played: &mut Played| {
        played.play(Event::Deadline);
        matches!(played.outcome(), Some(Outcome::Failed { message }) if message.contains("time"))
    };
    assert!(late(&mut Played::started(setup())));
    let mut waiting = Played::started(setup());
    waiting.play(Event::ModelFailed(busy()));
    assert!(late(&mut waiting));
    let mut in_tool = Played::started(setup());
    in_tool.play(wants(vec![ls("c1")]));
    assert!(!late(&mut in_tool));
    in_tool.play(done("c1", uncertain()));
    assert!(matches!(in_tool.outcome(), Some(Outcome::Uncertain { .. })));
}

/// A turn with two rounds of tools and one of each kind of result, to be cut at every place.
fn whole_turn() -> Vec<Arc<Message>> {
    let mut played = Played::started(setup());
    played.play(wants(vec![
        ls("c1"),
        call("c2", "nodes", json!({})),
        call("c3", "read", json!({})),
    ]));
    played.play(done("c1", ToolReply::ok("")));
    played.play(done("c3", uncertain()));
    played.play(wants(vec![call("c4", "exec", json!({"command": "pwd"}))]));
    played.play(done("c4", ToolReply::error("no")));
    played.play(said("the end"));
    assert!(played.outcome().is_some());
    played.appended
}

#[test]
fn a_turn_that_is_cut_anywhere_is_continued_with_exactly_the_calls_that_have_no_result() {
    let whole = whole_turn();
    for cut in 1..=whole.len() {
        let tail = whole[..cut].to_vec();
        let answered: Vec<&str> = tail
            .iter()
            .filter_map(|message| {
                if let Message::ToolResult(result) = &**message {
                    Some(result.call.as_str())
                } else {
                    None
                }
            })
            .collect();
        let mut played = Played::fresh(setup());
        played.appended.clone_from(&tail);
        played.play(Event::Resume {
            history: Vec::new(),
            tail: tail.clone(),
        });
        if cut == whole.len() {
            assert!(matches!(played.outcome(), Some(Outcome::Uncertain { text, .. }) if text.starts_with("the end")));
            assert_eq!(played.effects.len(), 1, "no model, no tool, nothing appended twice");
            continue;
        }
        let mut ran = Vec::new();
        while let [id] = played.running().as_slice() {
            assert!(
                !answered.contains(&id.as_str()),
                "{id} ran although it was answered (cut {cut})"
            );
            ran.push(id.clone());
            played.play(done(id, ToolReply::ok("")));
        }
        assert_eq!(played.asked(), Some(0), "cut {cut}");
        played.every_call_has_one_result();
    }
}

#[test]
fn a_turn_that_had_failed_or_was_stopped_ends_with_the_same_words_again() {
    let mut failed = Played::started(setup());
    failed.play(Event::Deadline);
    let mut stopped = Played::started(setup());
    stopped.play(wants(vec![ls("c1")]));
    stopped.play(Event::Abort);
    stopped.play(done("c1", ToolReply::ok("")));
    for first in [failed, stopped] {
        let mut again = Played::fresh(setup());
        again.play(Event::Resume {
            history: Vec::new(),
            tail: first.appended.clone(),
        });
        assert_eq!(again.outcome(), first.outcome());
        assert!(again.appended.is_empty());
    }
}

#[test]
fn a_call_that_was_taken_before_a_crash_is_run_although_its_tool_is_not_offered_now() {
    let mut first = Played::started(setup());
    first.play(wants(vec![ls("c1")]));
    let mut again = Played::fresh(Setup {
        offered: Vec::new(),
        ..setup()
    });
    again.play(Event::Resume {
        history: Vec::new(),
        tail: first.appended,
    });
    assert_eq!(again.running(), ["c1"]);
}

#[test]
fn what_a_person_says_meanwhile_takes_the_place_of_what_had_not_begun() {
    let mut played = Played::started(setup());
    played.play(wants(vec![ls("c1"), call("c2", "read", json!({"path": "a"}))]));
    assert!(played.play(Event::Said(vec![User::text("no, b")])).effects.is_empty());
    played.play(done("c1", ToolReply::ok("files")));
    assert!(played.running().is_empty());
    assert_eq!(played.asked(), Some(0));
    assert_eq!(played.results(), [("c1".to_owned(), false), ("c2".to_owned(), true)]);
    assert!(
        matches!(played.appended.last().map(|last| &**last), Some(Message::User(user)) if *user == User::text("no, b"))
    );
    played.every_call_has_one_result();
    played.play(Event::Said(vec![User::text("and c")]));
    played.play(wants(vec![ls("c3")]));
    assert!(played.running().is_empty(), "before the first call as well");
    played.play(said("All right."));
    assert_eq!(played.outcome(), answer("All right."));
    played.every_call_has_one_result();
}
