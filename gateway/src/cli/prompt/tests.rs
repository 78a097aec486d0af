//! The prompt without a terminal or a gateway: what each line and each event makes it do.

use super::*;

fn event(name: &str, payload: Value) -> Event {
    Event {
        name: name.to_owned(),
        payload,
    }
}

fn requested(id: &str, offered: &[&str]) -> Event {
    event(
        "exec.approval.requested",
        json!({"id": id, "request": {"command": "ls", "allowedDecisions": offered}}),
    )
}

fn line(desk: &mut Desk, text: &str) -> Vec<Act> {
    desk.line(Some(text.to_owned()))
}

/// A desk on which run `r` goes on.
fn running() -> Desk {
    let mut desk = Desk::default();
    assert_eq!(line(&mut desk, " hello "), [Act::Send("hello".to_owned())]);
    desk.started("r".to_owned());
    desk
}

fn final_of(run: &str) -> Event {
    event(
        "chat",
        json!({"runId": run, "state": "final", "message": {"content": [{"text": "hi"}]}}),
    )
}

#[test]
fn a_message_typed_during_a_turn_is_sent_after_it() {
    let mut desk = running();
    assert_eq!(line(&mut desk, "and then"), []);
    assert_eq!(desk.event(&final_of("another")), []);
    let shown = Act::Show("hi".to_owned());
    assert_eq!(desk.event(&final_of("r")), [shown, Act::Send("and then".to_owned())]);
}

#[test]
fn a_letter_answers_an_open_question_and_is_a_message_otherwise() {
    let mut desk = running();
    assert_eq!(line(&mut desk, "y"), []);
    assert_eq!(desk.waiting, ["y"]);
    desk.event(&requested("1", &["allow-once", "allow-always", "deny"]));
    let answers = [("y", "allow-once"), ("A", "allow-always"), (" no ", "deny")];
    for (typed, decision) in answers {
        desk.event(&requested("1", &["allow-once", "allow-always", "deny"]));
        assert_eq!(
            line(&mut desk, typed),
            [Act::Answer {
                id: "1".to_owned(),
                decision
            }]
        );
    }
    assert_eq!(desk.waiting, ["y"]);
}

#[test]
fn anything_else_typed_at_a_question_is_a_message() {
    let mut desk = running();
    desk.event(&requested("1", &["allow-once", "deny"]));
    assert_eq!(line(&mut desk, "yes please"), []);
    assert_eq!((desk.waiting.len(), desk.questions.len()), (1, 1));
}

#[test]
fn always_is_taken_only_where_it_is_offered() {
    let mut desk = running();
    desk.event(&requested("1", &["allow-once", "deny"]));
    assert!(matches!(line(&mut desk, "a").as_slice(), [Act::Show(text)] if text.contains("only be allowed once")));
    assert_eq!(desk.questions.len(), 1);
}

#[test]
fn questions_are_asked_one_after_another_and_each_once() {
    let mut desk = running();
    assert_eq!(desk.event(&requested("1", &[])).len(), 1);
    assert_eq!(desk.event(&requested("1", &[])), []);
    assert_eq!(desk.event(&requested("2", &[])), []);
    let acts = line(&mut desk, "n");
    assert!(
        matches!(acts.as_slice(), [Act::Answer { id, .. }, Act::Show(_)] if id == "1"),
        "{acts:?}"
    );
    assert!(matches!(line(&mut desk, "n").as_slice(), [Act::Answer { id, .. }] if id == "2"));
}

#[test]
fn a_question_answered_elsewhere_is_closed() {
    let mut desk = running();
    desk.event(&requested("1", &[]));
    desk.event(&requested("2", &[]));
    let acts = desk.event(&event("exec.approval.resolved", json!({"id": "1", "decision": "deny"})));
    // The second one was not shown yet.
    assert!(
        matches!(acts.as_slice(), [Act::Show(first), Act::Show(second)] if first.contains("deny") && second.starts_with('?'))
    );
    assert_eq!(desk.event(&event("exec.approval.resolved", json!({"id": "9"}))), []);
}

#[test]
fn the_end_of_the_input_waits_for_what_is_under_way() {
    let mut desk = running();
    line(&mut desk, "last");
    assert_eq!(desk.line(None), []);
    assert!(!desk.wants_lines());
    assert_eq!(desk.event(&final_of("r")).last(), Some(&Act::Send("last".to_owned())));
    desk.started("s".to_owned());
    assert_eq!(desk.event(&final_of("s")).last(), Some(&Act::Leave));
    assert_eq!(Desk::default().line(None), [Act::Leave]);
}

#[test]
fn a_message_that_is_refused_does_not_hold_up_the_next() {
    let mut desk = Desk::default();
    line(&mut desk, "one");
    line(&mut desk, "two");
    assert_eq!(desk.not_started(), [Act::Send("two".to_owned())]);
}

#[test]
fn ctrl_c_stops_a_turn_and_then_leaves() {
    let mut desk = running();
    assert_eq!(desk.interrupt(), [Act::Abort { run: "r".to_owned() }]);
    let acts = desk.event(&event("chat", json!({"runId": "r", "state": "aborted"})));
    assert_eq!(acts, [Act::Show("! stopped".to_owned())]);
    assert_eq!(desk.interrupt(), [Act::Leave]);
}

#[test]
fn a_full_desk_takes_answers_and_no_messages() {
    let mut desk = running();
    for _ in 0..WAITING {
        line(&mut desk, "more");
    }
    assert!(!desk.wants_lines());
    desk.event(&requested("1", &[]));
    assert!(desk.wants_lines());
    assert!(matches!(line(&mut desk, "more").as_slice(), [Act::Show(text)] if text.contains("not kept")));
    assert!(matches!(line(&mut desk, "y").as_slice(), [Act::Answer { .. }]));
    assert_eq!(desk.waiting.len(), WAITING);
}
