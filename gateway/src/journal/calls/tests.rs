//! What the table of calls keeps to.

use super::*;
use crate::journal::tests::database;

fn new_call(call: &str, tool_call: Option<&str>) -> NewCall {
    NewCall {
        call: CallId::new(call).expect("id"),
        key: tool_call.map(|tool_call| ToolKey {
            run: RunId::new("r1").expect("id"),
            tool_call: tool_call.to_owned(),
        }),
        node: "laptop".into(),
        command: "system.run".into(),
        caller: "agent main".into(),
        session: Some(SessionKey::new("agent:main:main").expect("key")),
        details: Details::default(),
    }
}

fn end(state: CallState) -> CallEnd {
    CallEnd {
        state,
        error_code: None,
        result: Some("out".into()),
    }
}

#[test]
fn a_tool_call_is_one_call_however_often_it_is_opened() {
    let db = database();
    assert_eq!(open(&db, &new_call("c1", Some("t1")), 1).expect("opens"), Opened::New);
    let Opened::Before(row) = open(&db, &new_call("c2", Some("t1")), 2).expect("opens") else {
        panic!("opened twice");
    };
    assert_eq!(row.new, new_call("c1", Some("t1")));
    assert_eq!(open(&db, &new_call("c3", Some("t2")), 3).expect("opens"), Opened::New);
    assert_eq!(open(&db, &new_call("c4", None), 3).expect("opens"), Opened::New);
    assert_eq!(open(&db, &new_call("c5", None), 3).expect("opens"), Opened::New);
}

#[test]
fn a_call_goes_from_queued_to_its_end_and_stays_there() {
    let db = database();
    let call = CallId::new("c1").expect("id");
    open(&db, &new_call("c1", None), 1).expect("opens");
    assert!(!running(&db, &call).expect("asks"));
    assert!(sent(&db, &call, 2).expect("sends"));
    assert!(!sent(&db, &call, 2).expect("sends"));
    assert!(running(&db, &call).expect("runs"));
    assert_eq!(unfinished(&db).expect("reads").len(), 1);
    assert!(close(&db, &call, &end(CallState::Ok), 4).expect("closes"));
    assert!(!close(&db, &call, &end(CallState::Error), 5).expect("closes"));
    let row = find(&db, &call).expect("reads").expect("is there");
    assert_eq!((row.state, row.ended_at), (CallState::Ok, Some(4)));
    assert!(unfinished(&db).expect("reads").is_empty());
}

#[test]
fn an_uncertain_call_may_still_learn_its_end() {
    let db = database();
    let call = CallId::new("c1").expect("id");
    open(&db, &new_call("c1", None), 1).expect("opens");
    assert!(close(&db, &call, &end(CallState::Uncertain), 2).expect("closes"));
    assert!(!close(&db, &call, &end(CallState::Uncertain), 3).expect("closes"));
    assert!(close(&db, &call, &end(CallState::Ok), 4).expect("closes"));
    assert!(!close(&db, &call, &end(CallState::Uncertain), 5).expect("closes"));
}

#[test]
fn a_call_that_never_began_can_be_sent_once_more() {
    let db = database();
    let call = CallId::new("c1").expect("id");
    let mut new = new_call("c1", None);
    new.details.waiting = Some("{}".to_owned());
    open(&db, &new, 1).expect("opens");
    sent_after_waiting(&db, &call, 90, Some("boot"), 2).expect("sends");
    assert!(sent_after_waiting(&db, &call, 90, None, 2).is_err(), "once");
    assert!(close(&db, &call, &end(CallState::NodeAway), 3).expect("closes"));
    unsent(&db, &call).expect("takes it back");
    let row = find(&db, &call).expect("reads").expect("is there");
    assert_eq!((row.state, row.sent_at, row.ended_at), (CallState::Queued, None, None));
    assert_eq!(row.new.details.deadline_at, Some(90));
    sent_after_waiting(&db, &call, 95, None, 4).expect("sends");
    assert!(close(&db, &call, &end(CallState::Ok), 5).expect("closes"));
    unsent(&db, &call).expect("nothing to take back");
    assert_eq!(find(&db, &call).expect("reads").expect("is there").state, CallState::Ok);
}

#[test]
fn lately_ended_calls_are_found_by_node_and_state() {
    let db = database();
    let at = |call: &str, node: &str, state| {
        let mut new = new_call(call, None);
        node.clone_into(&mut new.node);
        open(&db, &new, 1).expect("opens");
        close(&db, &new.call, &end(state), 2).expect("closes");
    };
    at("c1", "laptop", CallState::Ok);
    at("c2", "phone", CallState::Ok);
    at("c3", "laptop", CallState::TimedOut);
    open(&db, &new_call("c4", None), 3).expect("opens");
    let found = |node: Option<&str>, state| {
        let node = node.map(str::to_owned);
        let rows = ended_lately(&db, &Filter { node, state }, 10).expect("reads");
        rows.iter().map(|row| row.new.call.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found(None, None), ["c3", "c2", "c1"]);
    assert_eq!(found(Some("laptop"), None), ["c3", "c1"]);
    assert_eq!(found(Some("laptop"), Some(CallState::Ok)), ["c1"]);
}

#[test]
fn keys_are_found_as_far_back_as_asked() {
    let db = database();
    for (call, at) in [("c1", 10), ("c2", 20), ("c3", 30)] {
        let mut new = new_call(call, None);
        new.details.fingerprint = (call != "c2").then_some([7; 16]);
        open(&db, &new, at).expect("opens");
    }
    let found = |since, limit| {
        let rows = keyed_since(&db, since, limit).expect("reads");
        rows.iter().map(|row| row.new.call.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found(10, 10), ["c3", "c1"]);
    assert_eq!(found(11, 10), ["c3"]);
    assert_eq!(found(0, 2), ["c3"]);
}

#[test]
fn a_huge_result_is_cut_at_a_character() {
    let text = "é".repeat(RESULT_BYTES);
    let kept = bounded(&text);
    assert!(kept.len() < RESULT_BYTES + 64);
    assert!(kept.ends_with("more bytes]"));
    assert_eq!(bounded("short"), "short");
}

#[test]
fn a_call_cannot_end_in_a_state_that_is_no_end() {
    let db = database();
    open(&db, &new_call("c1", None), 1).expect("opens");
    assert!(close(&db, &CallId::new("c1").expect("id"), &end(CallState::Running), 2).is_err());
}
