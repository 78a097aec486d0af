//! Each rule of the gateway's table by itself; the schedules are in `pair.rs`.

use super::*;
use crate::error::CallError;

const LIMIT: Duration = Duration::from_secs(30);

fn node() -> DeviceId {
    DeviceId::from_digest([1; 32])
}

fn id(name: &str) -> CallId {
    CallId::new(name).expect("an id")
}

fn new(name: &str, now: Instant) -> NewCall {
    NewCall {
        invoke: Invoke {
            call: id(name),
            node: node(),
            command: "system.run".to_owned(),
            params: None,
            timeout_ms: 0,
            idempotency_key: None,
            plan: None,
        },
        deadline: now + LIMIT,
        wait_until: None,
        idempotent: false,
        memory: None,
    }
}

fn outcome(name: &str) -> Outcome {
    Outcome {
        call: id(name),
        result: Ok(None),
        receipt: None,
    }
}

fn linked(now: Instant) -> Calls<u8> {
    let mut calls = Calls::new();
    assert_eq!(calls.handle_link_up(node(), 1, Some(&Resume::default()), now), []);
    calls
}

fn resume(running: &[&str], finished: &[&str]) -> Resume {
    let ids = |names: &[&str]| names.iter().map(|name| id(name)).collect();
    Resume {
        boot: "another".to_owned(),
        running: ids(running),
        finished: ids(finished),
    }
}

fn delivered(effects: &[Effect<u8>]) -> Vec<(u8, Result<Option<Json>, Failure>)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Deliver { waiter, result, .. } => Some((*waiter, result.clone())),
            Effect::Send { .. } | Effect::Progress { .. } | Effect::Acknowledge { .. } => None,
        })
        .collect()
}

fn sent(effects: &[Effect<u8>]) -> Vec<(u64, Frame)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { generation, frame, .. } => Some((*generation, frame.clone())),
            Effect::Deliver { .. } | Effect::Progress { .. } | Effect::Acknowledge { .. } => None,
        })
        .collect()
}

fn states(calls: &Calls<u8>) -> Vec<&'static str> {
    calls.rows().map(|row| row.state.as_str()).collect()
}

#[test]
fn a_call_runs_and_its_outcome_is_delivered_before_it_is_acknowledged() {
    let now = Instant::now();
    let mut calls = linked(now);
    let effects = calls.open(new("a", now), 7, now).expect("opens");
    let [(1, Frame::Invoke(invoke))] = &sent(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(invoke.timeout_ms, 29_750, "the node's deadline ends first");
    assert_eq!(states(&calls), ["sent"]);
    let effects = calls.handle_outcome(node(), 1, outcome("a"));
    assert_eq!(delivered(&effects[..1]), [(7, Ok(None))]);
    assert!(matches!(&effects[1..], [Effect::Acknowledge { acknowledge, .. }] if !acknowledge.ignored));
    assert!(calls.is_empty());

    let effects = calls.handle_outcome(node(), 1, outcome("a"));
    assert!(matches!(&effects[..], [Effect::Acknowledge { acknowledge, .. }] if acknowledge.ignored));
}

#[test]
fn one_id_is_open_once() {
    let now = Instant::now();
    let mut calls = linked(now);
    calls.open(new("a", now), 1, now).expect("opens");
    assert_eq!(calls.open(new("a", now), 2, now), Err(AlreadyOpen));
    assert_eq!(calls.len(), 1);
}

#[test]
fn a_call_to_an_absent_node_fails_at_once_or_waits_as_long_as_it_was_told() {
    let now = Instant::now();
    let mut calls = Calls::new();
    let effects = calls.open(new("a", now), 1, now).expect("opens");
    assert_eq!(delivered(&effects), [(1, Err(Failure::NotConnected))]);

    let until = now + LIMIT / 3;
    let mut waiting = new("b", now);
    waiting.wait_until = Some(until);
    assert_eq!(calls.open(waiting.clone(), 2, now).expect("opens"), []);
    assert_eq!(states(&calls), ["queued"]);
    assert_eq!(calls.poll_timeout(), Some((until, "the wait for a node ends")));
    assert_eq!(
        delivered(&calls.handle_timeout(until)),
        [(2, Err(Failure::NotConnected))]
    );

    waiting.invoke.call = id("c");
    calls.open(waiting, 3, now).expect("opens");
    let effects = calls.handle_link_up(node(), 1, None, now + LIMIT / 6);
    assert!(matches!(&sent(&effects)[..], [(1, Frame::Invoke(_))]));
    assert_eq!(calls.poll_timeout(), Some((now + LIMIT, "the deadline of a call")));
}

#[test]
fn an_invocation_that_never_reached_the_link_has_not_run() {
    let now = Instant::now();
    let mut calls = linked(now);
    calls.open(new("a", now), 1, now).expect("opens");
    assert_eq!(
        delivered(&calls.unsent(&id("a"), now)),
        [(1, Err(Failure::NotConnected))]
    );
    let mut patient = new("b", now);
    patient.wait_until = Some(now + LIMIT);
    calls.open(patient, 1, now).expect("opens");
    assert_eq!(calls.unsent(&id("b"), now), []);
    assert_eq!(states(&calls), ["queued"]);
}

#[test]
fn the_deadline_ends_a_call_and_stops_the_node() {
    let now = Instant::now();
    let mut calls = linked(now);
    calls.open(new("a", now), 1, now).expect("opens");
    assert_eq!(calls.handle_timeout(now + LIMIT - Duration::from_millis(1)), []);
    let effects = calls.handle_timeout(now + LIMIT);
    assert_eq!(sent(&effects), [(1, Frame::Cancel(id("a")))]);
    assert_eq!(delivered(&effects), [(1, Err(Failure::TimedOut { sent: true }))]);
    assert_eq!(calls.poll_timeout(), None);
}

#[test]
fn a_call_that_ended_while_the_node_was_away_is_stopped_when_it_comes_back() {
    let now = Instant::now();
    let mut calls = linked(now);
    calls.open(new("a", now), 1, now).expect("opens");
    calls.handle_link_down(node(), 1, now);
    assert_eq!(states(&calls), ["running (node away)"]);
    let effects = calls.cancel(&id("a"));
    assert_eq!(delivered(&effects), [(1, Err(Failure::Cancelled { sent: true }))]);
    assert_eq!(sent(&effects), []);
    let effects = calls.handle_link_up(node(), 2, Some(&resume(&["a"], &[])), now);
    assert_eq!(sent(&effects), [(2, Frame::Cancel(id("a")))]);
}

#[test]
fn a_node_that_comes_back_keeps_what_it_knows_and_loses_what_it_does_not() {
    let now = Instant::now();
    let mut calls = linked(now);
    for (waiter, name) in [(1, "running"), (2, "finished"), (3, "unknown")] {
        calls.open(new(name, now), waiter, now).expect("opens");
    }
    let mut harmless = new("harmless", now);
    harmless.idempotent = true;
    calls.open(harmless, 4, now).expect("opens");
    calls.handle_link_down(node(), 1, now);
    let effects = calls.handle_link_up(node(), 2, Some(&resume(&["running"], &["finished"])), now);
    assert_eq!(delivered(&effects), [(3, Err(Failure::Lost))]);
    assert!(Failure::Lost.is_uncertain());
    let [(2, Frame::Invoke(again))] = &sent(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(again.call, id("harmless"), "only what does no harm is sent again");
    assert_eq!(
        delivered(&calls.handle_outcome(node(), 2, outcome("finished"))),
        [(2, Ok(None))]
    );
    assert_eq!(
        delivered(&calls.handle_outcome(node(), 2, outcome("running"))),
        [(1, Ok(None))]
    );
}

#[test]
fn a_dialect_node_that_comes_back_leaves_its_calls_uncertain() {
    let now = Instant::now();
    let mut calls = linked(now);
    calls.open(new("a", now), 1, now).expect("opens");
    assert_eq!(
        delivered(&calls.handle_link_up(node(), 2, None, now)),
        [(1, Err(Failure::Lost))]
    );
}

#[test]
fn an_older_link_neither_answers_nor_takes_the_newer_one_down() {
    let now = Instant::now();
    let mut calls = linked(now);
    calls.handle_link_up(node(), 2, Some(&Resume::default()), now);
    calls.open(new("a", now), 1, now).expect("opens");
    assert_eq!(calls.handle_outcome(node(), 1, outcome("a")), []);
    calls.handle_link_down(node(), 1, now);
    assert_eq!(calls.handle_link_up(node(), 1, None, now), []);
    assert_eq!(states(&calls), ["sent"]);
}

#[test]
fn another_node_cannot_end_a_call() {
    let now = Instant::now();
    let other = DeviceId::from_digest([2; 32]);
    let mut calls = linked(now);
    calls.handle_link_up(other, 9, None, now);
    calls.open(new("a", now), 1, now).expect("opens");
    let effects = calls.handle_outcome(other, 9, outcome("a"));
    assert_eq!(delivered(&effects), []);
    assert_eq!(calls.len(), 1);
}

#[test]
fn progress_arrives_in_order_and_once_and_tells_of_gaps() {
    let now = Instant::now();
    let mut calls = linked(now);
    calls.open(new("a", now), 1, now).expect("opens");
    let mut seqs = Vec::new();
    for seq in [0, 1, 1, 0, 2, 5, 4] {
        let progress = Progress {
            call: id("a"),
            seq,
            chunk: "x".to_owned(),
            receipt: None,
        };
        for effect in calls.handle_progress(node(), 1, progress, now) {
            if let Effect::Progress { seq, missed, .. } = effect {
                seqs.push((seq, missed));
            }
        }
    }
    assert_eq!(seqs, [(0, 0), (1, 0), (2, 0), (5, 2)]);
    assert_eq!(states(&calls), ["running"]);
}

#[test]
fn a_restored_call_waits_for_its_node() {
    let now = Instant::now();
    let mut calls = Calls::new();
    calls.restore(new("a", now), 1, now).expect("opens");
    assert_eq!(states(&calls), ["running (node away)"]);
    assert_eq!(calls.handle_link_up(node(), 1, Some(&resume(&[], &["a"])), now), []);
    assert_eq!(
        delivered(&calls.handle_outcome(node(), 1, outcome("a"))),
        [(1, Ok(None))]
    );
}

#[test]
fn a_node_fault_is_delivered_as_it_is() {
    let now = Instant::now();
    let mut calls = linked(now);
    calls.open(new("a", now), 1, now).expect("opens");
    let fault = CallError::new("BUSY", "64 calls run already");
    let mut failed = outcome("a");
    failed.result = Err(fault.clone());
    let effects = calls.handle_outcome(node(), 1, failed);
    assert_eq!(delivered(&effects), [(1, Err(Failure::Node(fault)))]);
}
