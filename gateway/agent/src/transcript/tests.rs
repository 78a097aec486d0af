//! Files as other programs, crashes and earlier turns leave them.

use super::*;
use crate::message::{Assistant, Part, ToolCall, ToolResult, Usage, User};
use serde_json::{Value, json};

/// The lines that OpenClaw's own sessions have, of every kind.
const IMPORTED: &str = r#"{"type":"session","version":3,"id":"old","timestamp":"2026-01-01T00:00:00.000Z","cwd":"/home/x"}
{"type":"model_change","id":"a1","parentId":null,"timestamp":"2026-01-01T00:00:01.000Z","provider":"anthropic","modelId":"m"}
{"type":"message","id":"a2","parentId":"a1","timestamp":"2026-01-01T00:00:02.000Z","message":{"role":"user","content":"hi","timestamp":1737264000000}}
{"type":"message","id":"a3","parentId":"a2","timestamp":"2026-01-01T00:00:03.000Z","message":{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"I look."},{"type":"toolCall","id":"call_1","name":"exec","arguments":{"command":"ls"}}],"provider":"anthropic","model":"m","usage":{"input":1,"output":2,"cacheRead":3,"cacheWrite":4,"totalTokens":10},"stopReason":"toolUse","timestamp":1737264001000}}
{"type":"message","id":"a4","parentId":"a3","timestamp":"2026-01-01T00:00:04.000Z","message":{"role":"toolResult","toolCallId":"call_1","toolName":"exec","content":[{"type":"text","text":"a b"},{"type":"image","data":"AA==","mimeType":"image/png"}],"isError":false,"details":{"exitCode":0},"timestamp":1737264002000}}
{"type":"custom","id":"a5","parentId":"a4","timestamp":"2026-01-01T00:00:05.000Z","customType":"openclaw.cache-ttl","data":{"x":1}}
{"type":"message","id":"a6","parentId":"a5","timestamp":"2026-01-01T00:00:06.000Z","message":{"role":"bashExecution","command":"ls"}}
"#;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(text: &str) -> Self {
        let place = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        if !text.is_empty() {
            std::fs::write(place.path(), text).expect("written");
        }
        place
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("s.jsonl")
    }

    fn open(&self) -> (Transcript, Repairs) {
        let header = Header {
            session_id: "new".to_owned(),
            cwd: "/w".to_owned(),
        };
        Transcript::open(&self.path(), &header).expect("opens")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).expect("readable")
    }

    fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

fn run(name: &str) -> RunId {
    RunId::new(name).expect("an id")
}

fn user(text: &str) -> Arc<Message> {
    Arc::new(Message::User(User::text(text)))
}

fn every_kind() -> Vec<Arc<Message>> {
    let call = ToolCall {
        id: "c1".to_owned(),
        name: "exec".to_owned(),
        args: Json::from(json!({"command": "ls", "env": {"B": "1", "A": "2"}})),
    };
    let asks = Assistant {
        content: vec![
            Part::Thinking("hm".to_owned()),
            Part::Text("I look.".to_owned()),
            Part::ToolCall(call),
        ],
        provider: "p".to_owned(),
        model: "m/x".to_owned(),
        usage: Usage {
            input: 1,
            output: 2,
            cache_read: 3,
            cache_write: 4,
        },
        stop: crate::message::StopReason::ToolUse,
        error: None,
    };
    let result = ToolResult {
        call: "c1".to_owned(),
        tool: "exec".to_owned(),
        content: vec![Part::Text("line\n\u{2028}\"é\"".to_owned())],
        is_error: true,
        uncertain: true,
    };
    let failed = Assistant {
        stop: crate::message::StopReason::Error,
        error: Some("no".to_owned()),
        ..Assistant::default()
    };
    vec![
        user("hi"),
        Arc::new(Message::Assistant(asks)),
        Arc::new(Message::ToolResult(result)),
        Arc::new(Message::Assistant(failed)),
    ]
}

#[test]
fn what_is_appended_is_read_again_and_belongs_to_its_turn() {
    let place = Place::new("");
    let (transcript, _) = place.open();
    let first = transcript.writer(&run("one"));
    first.append(user("before")).expect("appends");
    let second = transcript.writer(&run("two"));
    for message in every_kind() {
        second.append(message).expect("appends");
    }
    let (again, repairs) = place.open();
    assert_eq!(repairs, Repairs::default());
    assert_eq!(again.conversation(&run("two")), (vec![user("before")], every_kind()));
    assert_eq!(again.conversation(&run("three")).0.len(), 5);
    assert_eq!(again.history(), transcript.history());
    assert_eq!(again.facts(), transcript.facts());
    assert_eq!(again.session_id(), "new");
}

#[test]
fn records_have_the_shape_that_openclaw_reads() {
    let place = Place::new("");
    let (transcript, _) = place.open();
    let writer = transcript.writer(&run("r"));
    for message in every_kind() {
        writer.append(message).expect("appends");
    }
    let lines = place.lines();
    assert_eq!(lines[0]["type"], "session");
    assert_eq!((&lines[0]["version"], &lines[0]["cwd"]), (&json!(4), &json!("/w")));
    assert_eq!(lines[1]["parentId"], Value::Null);
    for pair in lines[1..].windows(2) {
        assert_eq!(pair[0]["id"], pair[1]["parentId"]);
        assert_eq!(pair[0]["runId"], "r");
    }
    let at = lines[1]["timestamp"].as_str().expect("text");
    assert!(
        at.ends_with('Z') && at.len() == "2026-01-01T00:00:00.000Z".len(),
        "{at}"
    );
    let call = &lines[2]["message"]["content"][2];
    assert_eq!(
        call,
        &json!({"type": "toolCall", "id": "c1", "name": "exec",
        "arguments": {"command": "ls", "env": {"B": "1", "A": "2"}}})
    );
    assert_eq!(lines[2]["message"]["usage"]["totalTokens"], 10);
    assert_eq!(lines[2]["message"]["stopReason"], "toolUse");
    let result = &lines[3]["message"];
    assert_eq!(
        (&result["role"], &result["toolCallId"]),
        (&json!("toolResult"), &json!("c1"))
    );
    assert_eq!(result["details"], json!({"uncertain": true}));
    assert_eq!(lines[4]["message"]["errorMessage"], "no");
}

#[test]
fn an_imported_session_is_read_and_nothing_of_it_is_changed() {
    let place = Place::new(IMPORTED);
    let (transcript, repairs) = place.open();
    assert_eq!(repairs, Repairs::default());
    let (history, _) = transcript.conversation(&run("r"));
    assert_eq!(history.len(), 3);
    assert!(matches!(&*history[0], Message::User(said) if *said == User::text("hi")));
    assert!(matches!(&*history[1], Message::Assistant(said) if said.calls().count() == 1 && said.usage.total() == 10));
    assert!(matches!(&*history[2], Message::ToolResult(result) if result.text() == "a b" && result.content.len() == 2));
    let others = transcript.history();
    let others = others.iter().filter(|entry| matches!(entry.body, Body::Other(_)));
    assert_eq!(others.count(), 3, "records of other kinds are kept");
    let shown: Vec<Value> = transcript.history().iter().filter_map(|entry| entry.shown()).collect();
    assert_eq!(shown[2]["content"][1]["data"], "AA==");
    assert_eq!(shown[0]["timestamp"], 1_737_264_000_000_i64);
    let facts = transcript.facts();
    assert_eq!((facts.records, facts.messages, facts.context_tokens), (6, 3, 10));
    assert_eq!(facts.model.as_deref(), Some("anthropic/m"));
    transcript.writer(&run("r")).append(user("more")).expect("appends");
    assert!(place.text().starts_with(IMPORTED));
    assert_eq!(place.lines().last().expect("a line")["parentId"], "a6");
}

#[test]
fn a_torn_last_line_is_set_aside_wherever_it_was_cut() {
    let last = "{\"type\":\"message\",\"id\":\"é\"}";
    for cut in 1..last.len() {
        let torn = &last.as_bytes()[..cut];
        let place = Place::new("");
        std::fs::write(place.path(), [IMPORTED.as_bytes(), torn].concat()).expect("written");
        let (transcript, repairs) = place.open();
        let aside = repairs.torn.expect("set aside");
        assert_eq!(std::fs::read(&aside).expect("readable"), torn);
        transcript.writer(&run("r")).append(user("more")).expect("appends");
        let (again, repairs) = place.open();
        assert_eq!(repairs, Repairs::default());
        assert_eq!(again.conversation(&run("x")).0.len(), 4);
    }
}

#[test]
fn a_torn_line_longer_than_what_comes_next_leaves_nothing_behind() {
    let torn = format!("{{\"type\":\"message\",\"id\":\"{}", "x".repeat(10_000));
    let place = Place::new(&format!("{IMPORTED}{torn}"));
    place.open().0.writer(&run("r")).append(user("more")).expect("appends");
    assert_eq!(place.open().1, Repairs::default());
    assert_eq!(place.lines().len(), IMPORTED.lines().count() + 1);
}

#[test]
fn a_whole_last_line_without_its_end_is_not_torn() {
    let place = Place::new(IMPORTED.trim_end());
    let (transcript, repairs) = place.open();
    assert_eq!(repairs, Repairs::default());
    transcript.writer(&run("r")).append(user("more")).expect("appends");
    assert_eq!(place.open().0.conversation(&run("x")).0.len(), 4);
}

#[test]
fn lines_that_are_no_records_are_counted_and_left_where_they_are() {
    let text = IMPORTED.replacen("{\"type\":\"custom\"", "garbage{\"type\":\"custom\"", 1);
    let place = Place::new(&text);
    let (transcript, repairs) = place.open();
    assert_eq!(repairs.unreadable_lines, 1);
    assert_eq!(transcript.conversation(&run("x")).0.len(), 3);
    assert_eq!(place.text(), text);
}

#[test]
fn a_file_that_is_no_transcript_is_refused_and_left_alone() {
    for text in [
        "hello\n",
        "{\"type\":\"session\",\"version\":99,\"id\":\"x\"}\n",
        "\n\n",
    ] {
        let place = Place::new(text);
        let header = Header {
            session_id: "new".to_owned(),
            cwd: String::new(),
        };
        let error = Transcript::open(&place.path(), &header).expect_err("refused");
        assert!(matches!(error, OpenError::NotATranscript { .. }), "{text:?}: {error}");
        assert_eq!(place.text(), text);
    }
}

#[test]
fn a_reset_hides_what_came_before_and_keeps_it_in_the_file() {
    let place = Place::new(IMPORTED);
    let (transcript, _) = place.open();
    transcript.reset("new", "another").expect("resets");
    transcript.writer(&run("r")).append(user("afresh")).expect("appends");
    for transcript in [transcript, place.open().0] {
        assert_eq!(transcript.conversation(&run("x")).0, [user("afresh")]);
        let facts = transcript.facts();
        assert_eq!((facts.records, facts.messages, facts.resets), (8, 1, 1));
        assert_eq!(facts.title.as_deref(), Some("afresh"));
        assert_eq!(transcript.history().len(), 2);
        assert_eq!(transcript.session_id(), "another");
    }
    assert!(place.text().starts_with(IMPORTED));
}

#[test]
fn only_the_latest_writer_can_append() {
    let place = Place::new("");
    let (transcript, _) = place.open();
    let old = transcript.writer(&run("old"));
    let new = transcript.clone().writer(&run("new"));
    assert!(matches!(old.append(user("late")), Err(AppendError::Superseded)));
    new.append(user("in time")).expect("appends");
    transcript.reset("new", "another").expect("resets");
    assert!(matches!(new.append(user("late")), Err(AppendError::Superseded)));
    assert_eq!(place.lines().len(), 3);
}

#[test]
fn a_compaction_stands_for_what_it_replaced() {
    let compaction = r#"{"type":"compaction","id":"a7","parentId":"a6","timestamp":"2026-01-01T00:00:07.000Z","summary":"They said hi.","firstKeptEntryId":"a4","tokensBefore":9}"#;
    let place = Place::new(&format!("{IMPORTED}{compaction}\n"));
    let (history, _) = place.open().0.conversation(&run("x"));
    assert_eq!(history.len(), 2);
    assert!(
        matches!(&*history[0], Message::User(said) if crate::message::joined_text(&said.content).ends_with("They said hi."))
    );
    assert!(matches!(&*history[1], Message::ToolResult(_)));
}

#[test]
fn a_compaction_holds_for_what_was_there_and_survives_a_restart() {
    let place = Place::new("");
    let (transcript, _) = place.open();
    let writer = transcript.writer(&run("a"));
    for text in ["one", "two", "three"] {
        writer.append(user(text)).expect("appends");
    }
    let (messages, last) = transcript.so_far();
    assert_eq!((messages.len(), transcript.replaced().len()), (3, 0));
    assert!(
        !transcript
            .compact("late", None, Some("of another time"))
            .expect("no fault")
    );
    assert!(transcript.compact("counted", None, last.as_deref()).expect("appended"));
    assert_eq!(transcript.keep_last(1).expect("no fault"), (0, false));
    writer.append(user("four")).expect("appends");
    writer.append(user("five")).expect("appends");
    assert_eq!(transcript.keep_last(1).expect("no fault"), (1, true));
    drop((writer, transcript));
    let (transcript, _) = place.open();
    let texts = |messages: Vec<Arc<Message>>| -> Vec<String> {
        let texts = messages
            .iter()
            .map(|message| crate::message::joined_text(message.parts()));
        texts.collect()
    };
    let shown = texts(transcript.so_far().0);
    assert!(shown[0].contains("taken out") && shown[1..] == ["five"], "{shown:?}");
    assert_eq!(texts(transcript.replaced()), ["one", "two", "three", "four"]);
    assert_eq!(transcript.keep_last(1).expect("no fault"), (1, false));
}

#[cfg(unix)]
#[test]
fn a_new_transcript_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new("");
    place.open();
    let mode = std::fs::metadata(place.path()).expect("there").permissions().mode();
    assert_eq!(mode & 0o077, 0);
}
