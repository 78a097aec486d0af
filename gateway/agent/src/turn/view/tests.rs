//! Fitting a conversation into a model's window.

use atoll_protocol::json::Json;
use serde_json::json;

use super::*;
use crate::message::{Assistant, ToolCall};

fn ls(id: &str) -> Part {
    Part::ToolCall(ToolCall {
        id: id.to_owned(),
        name: "exec".to_owned(),
        args: Json::from(json!({"command": "ls"})),
    })
}

fn user(text: &str) -> Arc<Message> {
    Arc::new(Message::User(User::text(text)))
}

fn assistant(content: Vec<Part>) -> Arc<Message> {
    Arc::new(Message::Assistant(Assistant {
        content,
        ..Assistant::default()
    }))
}

fn result(call: &str, text: String) -> Arc<Message> {
    Arc::new(Message::ToolResult(ToolResult {
        call: call.to_owned(),
        tool: "exec".to_owned(),
        content: vec![Part::Text(text)],
        is_error: false,
        uncertain: false,
    }))
}

fn conversation(exchanges: usize) -> Vec<Arc<Message>> {
    let mut all = Vec::new();
    for n in 0..exchanges {
        let id = format!("c{n}");
        all.push(user(&format!("question {n}")));
        all.push(assistant(vec![ls(&id)]));
        all.push(result(&id, "x".repeat(10_000)));
        all.push(assistant(vec![Part::Text("answer".repeat(100))]));
    }
    all.push(user("last"));
    all
}

fn holds_together(view: &[Arc<Message>]) {
    let mut open: Vec<&str> = Vec::new();
    for message in view {
        match &**message {
            Message::Assistant(assistant) => {
                assert!(open.is_empty(), "a call without a result");
                open.extend(assistant.calls().map(|call| call.id.as_str()));
            }
            Message::ToolResult(result) => {
                let place = open.iter().position(|call| *call == result.call);
                open.remove(place.expect("a result without its call"));
            }
            Message::User(_) => assert!(open.is_empty(), "a call without a result"),
        }
    }
    assert!(open.is_empty());
}

#[test]
fn whatever_the_budget_calls_and_results_stay_together_and_the_last_word_is_heard() {
    let all = conversation(12);
    let mut sizes = Vec::new();
    for budget in [1_000_000, 25_000, 12_000, 8_000, 4_000, 100, 0] {
        let view = fitted(&all, budget);
        holds_together(&view);
        assert!(matches!(&**view.last().expect("something"), Message::User(user)
            if crate::message::joined_text(&user.content).ends_with("last")));
        let fits = size(&view) <= budget || view.len() == 1;
        assert!(fits, "{budget}: {} in {}", size(&view), view.len());
        sizes.push(view.len());
    }
    assert_eq!(sizes[0], all.len());
    assert!(sizes.windows(2).all(|pair| pair[0] >= pair[1]), "{sizes:?}");
}

#[test]
fn old_results_are_shortened_then_cleared_before_anything_is_left_out() {
    let all = conversation(12);
    let results = |view: &[Arc<Message>]| -> Vec<usize> {
        view.iter()
            .filter_map(|message| {
                if let Message::ToolResult(result) = &**message {
                    Some(result.text().len())
                } else {
                    None
                }
            })
            .collect()
    };
    let (whole, cleared) = (10_000, CLEARED.len());
    for (budget, oldest) in [
        (50_000, whole..=whole),
        (25_000, 3_000..=3_100),
        (8_500, cleared..=cleared),
    ] {
        let view = fitted(&all, budget);
        assert_eq!(view.len(), all.len(), "{budget}");
        let sizes = results(&view);
        assert!(oldest.contains(&sizes[0]), "{budget}: {sizes:?}");
        assert_eq!(sizes.last(), Some(&whole), "the newest stays whole");
    }
}

#[test]
fn lost_results_are_made_up_and_strays_are_dropped() {
    let view = paired(&[
        user("hi"),
        assistant(vec![ls("c1"), ls("c2")]),
        result("c2", "two".to_owned()),
        result("c2", "again".to_owned()),
        result("stray", "?".to_owned()),
        assistant(Vec::new()),
        user("go on"),
    ]);
    holds_together(&view);
    assert_eq!(view.len(), 5);
}
