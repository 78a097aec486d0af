//! Calls written down ahead of their rows, through the journal.

use std::path::Path;

use super::*;
use crate::journal::calls::CallState;
use crate::journal::{Durability, Journal};

fn call(name: &str) -> NewCall {
    NewCall {
        call: CallId::new(name).expect("an id"),
        key: None,
        node: "laptop".to_owned(),
        command: "system.which".to_owned(),
        caller: "somebody".to_owned(),
        session: None,
        details: Details {
            deadline_at: Some(9_000),
            idempotency_key: Some(format!("key of {name}")),
            fingerprint: Some([7; 16]),
            ..Details::default()
        },
    }
}

fn ok() -> CallEnd {
    CallEnd {
        state: CallState::Ok,
        error_code: None,
        result: Some("{}".to_owned()),
    }
}

async fn state_of(journal: &Journal, name: &str) -> Option<(CallState, NewCall)> {
    let id = CallId::new(name).expect("an id");
    let row = journal.write(Durability::Lazy, move |db| calls::find(db, &id)).await;
    row.expect("reads").map(|row| (row.state, row.new))
}

/// What the disk would show after `kill -9` now.
fn killed(state: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for file in std::fs::read_dir(state).expect("the folder") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), dir.path().join(file.file_name())).expect("a copy");
    }
    dir
}

#[tokio::test(start_paused = true)]
async fn a_call_survives_a_kill_before_it_has_its_row_and_is_then_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&dir.path().join("state.db")).expect("opens");
    journal.call_sent(Box::new(call("one")), 1).await.expect("written down");
    journal.call_ended(call("one").call, ok(), 2);
    journal.call_sent(Box::new(call("two")), 3).await.expect("written down");
    let dir = killed(dir.path());
    let after = Journal::open(&dir.path().join("state.db")).expect("opens");
    // The end of the first was not written yet: nobody knows it, and nobody makes it again.
    for name in ["one", "two"] {
        assert_eq!(state_of(&after, name).await, Some((CallState::Sent, call(name))));
    }
    after.close().await;
    let again = Journal::open(&dir.path().join("state.db")).expect("opens");
    let open = again.write(Durability::Lazy, calls::unfinished).await.expect("reads");
    assert_eq!(open.len(), 2, "{open:?}");
}

#[tokio::test]
async fn a_write_sees_the_calls_and_ends_before_it_and_their_lines_go() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&dir.path().join("state.db")).expect("opens");
    for round in 0..50 {
        let name = format!("call {round}");
        journal.call_sent(Box::new(call(&name)), 1).await.expect("written down");
        if round % 3 == 0 {
            assert_eq!(state_of(&journal, &name).await.map(|row| row.0), Some(CallState::Sent));
        }
        journal.call_ended(call(&name).call, ok(), 2);
        if round % 2 == 0 {
            assert_eq!(state_of(&journal, &name).await.map(|row| row.0), Some(CallState::Ok));
        }
    }
    journal.close().await;
    let path = dir.path().join("state.db");
    let left = |which| std::fs::metadata(place(&path, which)).expect("the file").len();
    assert_eq!((left(0), left(1)), (0, 0));
    let again = Journal::open(&path).expect("opens");
    assert_eq!(
        again.write(Durability::Lazy, calls::unfinished).await.expect("reads"),
        []
    );
    let filter = calls::Filter::default();
    let ended = again
        .write(Durability::Lazy, move |db| calls::ended_lately(db, &filter, 100))
        .await;
    assert_eq!(ended.expect("reads").len(), 50);
}

#[tokio::test]
async fn a_torn_line_costs_itself_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    Journal::open(&path).expect("opens").close().await;
    let mut file = open(&path, 1).expect("the file");
    file.write_all(b"\n{\"call\":\"torn\",\"nod").expect("written");
    let mut ahead = State {
        files: [open(&path, 0).expect("the file"), file],
        current: 1,
        is_other_empty: true,
        waiting: Vec::new(),
        sent: HashMap::new(),
        is_announced: false,
        line: Vec::new(),
    };
    ahead.append(&call("whole"), 5).expect("written");
    let journal = Journal::open(&path).expect("opens");
    assert_eq!(
        state_of(&journal, "whole").await.map(|row| row.0),
        Some(CallState::Sent)
    );
    assert_eq!(state_of(&journal, "torn").await, None);
}

#[tokio::test]
async fn what_the_disk_refuses_is_kept_and_stored_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let mut db = crate::journal::open_writer(&path).expect("opens");
    let ahead = Ahead::open(&path, &mut db).expect("opens");
    assert!(ahead.sent(Box::new(call("one")), 1).expect("written down"));
    let taken = ahead.take();
    assert!(
        ahead.sent(Box::new(call("two")), 2).expect("written down"),
        "announced anew"
    );
    ahead.give_back(taken);
    assert!(!ahead.ended(call("one").call, ok(), 3), "announced before");
    let taken = ahead.take();
    store(&db, &taken).expect("stored");
    ahead.stored();
    let state = |name: &str| calls::find(&db, &call(name).call).expect("reads").map(|row| row.state);
    assert_eq!(
        (state("one"), state("two")),
        (Some(CallState::Ok), Some(CallState::Sent))
    );
    let length = |which| std::fs::metadata(place(&path, which)).expect("the file").len();
    assert!(
        length(0) == 0 && length(1) > 0,
        "the file of what was stored is empty, the other not yet"
    );
}

#[tokio::test]
async fn a_call_that_the_table_refuses_for_what_it_is_keeps_no_other_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&dir.path().join("state.db")).expect("opens");
    let refuse =
        "CREATE TRIGGER refuse BEFORE INSERT ON calls WHEN NEW.call = 'two' BEGIN SELECT RAISE(ABORT, 'no'); END";
    let refused = journal.write(Durability::Lazy, move |db| Ok(db.execute_batch(refuse)?));
    refused.await.expect("a trigger");
    for name in ["one", "two", "three"] {
        journal.call_sent(Box::new(call(name)), 1).await.expect("written down");
    }
    for (name, is_there) in [("one", true), ("two", false), ("three", true)] {
        assert_eq!(state_of(&journal, name).await.is_some(), is_there, "{name}");
    }
}
