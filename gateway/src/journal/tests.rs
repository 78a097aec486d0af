//! The handle, on real files; and what the tables' own tests share.

use std::sync::Arc;
use std::time::Duration;

use atoll_channels::port::{AccountRef, Content, Inbound, Outbound, PeerKind, Place, Sender};
use atoll_protocol::id::{AgentId, RunId, SessionKey};
use atoll_protocol::json::Json;
use tokio::sync::Barrier;

use super::outbox::NewOutbound;
use super::runs::NewRun;
use super::*;

pub(super) fn database() -> Connection {
    let mut conn = Connection::open_in_memory().expect("opens");
    prepare(&conn).expect("prepares");
    schema::migrate(&mut conn).expect("migrates");
    conn
}

pub(super) fn account() -> AccountRef {
    AccountRef {
        channel: "telegram".into(),
        account: "default".into(),
    }
}

pub(super) fn place(chat: &str) -> Place {
    Place {
        account: account(),
        kind: PeerKind::Direct,
        chat: chat.into(),
        thread: None,
    }
}

pub(super) fn message(id: &str) -> Inbound {
    Inbound {
        id: id.into(),
        place: place("1"),
        sender: Sender {
            id: "1".into(),
            name: "Ann".into(),
            is_bot: false,
        },
        content: Content::Message {
            text: "hi \u{1f30d}\n\"quoted\"".into(),
            message: "5".into(),
            mentions_bot: true,
            quoted: None,
        },
        sent_at_ms: 7,
    }
}

pub(super) fn outbound(chat: &str, key: &str) -> NewOutbound {
    NewOutbound {
        place: place(chat),
        outbound: Outbound::Text {
            text: "answer".into(),
            reply_to: None,
        },
        run: Some(RunId::new("r1").expect("id")),
        part: 0,
        key: key.into(),
    }
}

pub(super) fn new_run(run: &str, inbox: Option<i64>) -> NewRun {
    NewRun {
        run: RunId::new(run).expect("id"),
        session: SessionKey::new("agent:main:main").expect("key"),
        agent: AgentId::new("main").expect("id"),
        inbox,
        origin: Json::parse(r#"{"place":1}"#).expect("json"),
        input: Json::parse(r#""hi""#).expect("json"),
    }
}

fn count(db: &Connection) -> Result<i64, JournalError> {
    Ok(db.query_row("SELECT count(*) FROM audit", [], |row| row.get(0))?)
}

fn add(db: &Connection) -> Result<(), JournalError> {
    db.prepare_cached(
        "INSERT INTO audit (at, actor, action, target, outcome, detail) VALUES (1, '', '', '', '', '{}')",
    )?
    .execute([])?;
    Ok(())
}

#[tokio::test]
async fn what_was_written_is_read_and_survives_closing() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let journal = Journal::open(&path).expect("opens");
    journal.write(Durability::Durable, add).await.expect("writes");
    assert_eq!(journal.read(count).await.expect("reads"), 1);
    journal.post(Durability::Lazy, "a test", add).await;
    journal.close().await;
    journal.close().await;
    assert!(matches!(
        journal.write(Durability::Lazy, add).await,
        Err(JournalError::Closed)
    ));
    assert!(matches!(journal.read(count).await, Err(JournalError::Closed)));
    let again = Journal::open(&path).expect("opens again");
    assert_eq!(again.read(count).await.expect("reads"), 2);
}

#[tokio::test]
async fn one_failing_write_undoes_itself_and_no_other_of_its_batch() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&dir.path().join("state.db")).expect("opens");
    // All three are queued before any is awaited, behind a write that holds the thread: so they share a commit.
    let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
    let holding = journal.write(Durability::Lazy, move |_| {
        held.recv().map_err(|error| JournalError::Value(error.to_string()))
    });
    let good = journal.write(Durability::Lazy, add);
    let bad = journal.write::<(), _>(Durability::Durable, |db| {
        add(db)?;
        db.execute("INSERT INTO no_such_table VALUES (1)", [])?;
        Ok(())
    });
    let panics = journal.write::<(), _>(Durability::Lazy, |db| {
        add(db)?;
        panic!("on purpose");
    });
    let last = journal.write(Durability::Lazy, add);
    let release = async {
        tokio::task::yield_now().await;
        release.send(()).expect("still held");
    };
    let (held, good, bad, panics, last, ()) = tokio::join!(holding, good, bad, panics, last, release);
    held.expect("holds");
    good.expect("writes");
    assert!(matches!(bad, Err(JournalError::Sql(_))), "{bad:?}");
    assert!(
        matches!(&panics, Err(JournalError::Panicked(text)) if text == "on purpose"),
        "{panics:?}"
    );
    last.expect("writes");
    assert_eq!(journal.read(count).await.expect("reads"), 2);
}

#[tokio::test]
async fn a_write_that_breaks_the_transaction_fails_its_batch_and_not_the_next() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&dir.path().join("state.db")).expect("opens");
    let broken = journal
        .write(Durability::Lazy, |db| {
            add(db)?;
            Ok(db.execute_batch("ROLLBACK")?)
        })
        .await;
    assert!(matches!(broken, Err(JournalError::Commit(_))), "{broken:?}");
    journal.write(Durability::Lazy, add).await.expect("writes");
    assert_eq!(journal.read(count).await.expect("reads"), 1);
}

#[tokio::test]
async fn a_panicking_read_fails_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&dir.path().join("state.db")).expect("opens");
    for _ in 0..=READERS {
        let outcome = journal.read::<(), _>(|_| panic!("on purpose")).await;
        assert!(matches!(outcome, Err(JournalError::Panicked(_))));
    }
    assert_eq!(journal.read(count).await.expect("reads"), 0);
}

#[tokio::test]
async fn a_read_cannot_write() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&dir.path().join("state.db")).expect("opens");
    assert!(matches!(journal.read(add).await, Err(JournalError::Sql(_))));
}

#[tokio::test]
async fn a_failed_post_is_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&dir.path().join("state.db")).expect("opens");
    let fails = |_: &Connection| Err(JournalError::Value("no".into()));
    journal.post(Durability::Lazy, "a test", fails).await;
    journal.close().await;
    journal.post(Durability::Lazy, "a test", add).await;
    assert_eq!(journal.failed_posts(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_all_get_their_answer_and_nothing_is_lost() {
    const TASKS: usize = 32;
    const EACH: usize = 200;
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&dir.path().join("state.db")).expect("opens");
    let barrier = Arc::new(Barrier::new(TASKS));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (journal, barrier) = (journal.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                for _ in 0..EACH {
                    journal.write(Durability::Lazy, add).await.expect("writes");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("runs");
    }
    assert_eq!(journal.read(count).await.expect("reads"), (TASKS * EACH) as i64);
}

#[test]
fn a_damaged_file_is_an_error_and_stays_as_it_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let garbage = b"this was never a database, whatever its name says".repeat(100);
    std::fs::write(&path, &garbage).expect("writes");
    let error = Journal::open(&path).expect_err("refused");
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("was not changed"), "{error}");
    assert_eq!(std::fs::read(&path).expect("reads"), garbage);
}

#[tokio::test]
async fn a_file_with_a_torn_page_is_an_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let journal = Journal::open(&path).expect("opens");
    journal.write(Durability::Lazy, add).await.expect("writes");
    journal.close().await;
    let mut bytes = std::fs::read(&path).expect("reads");
    for byte in bytes.iter_mut().skip(4096) {
        *byte ^= 0x5a;
    }
    std::fs::write(&path, &bytes).expect("writes");
    let error = Journal::open(&path).expect_err("refused");
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
    assert_eq!(std::fs::read(&path).expect("reads"), bytes);
}

#[test]
fn a_database_of_another_program_is_an_error_and_stays_as_it_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let theirs = Connection::open(&path).expect("opens");
    theirs.execute_batch("CREATE TABLE theirs (x)").expect("creates");
    drop(theirs);
    let before = std::fs::read(&path).expect("reads");
    assert!(matches!(Journal::open(&path), Err(JournalError::Foreign(_))));
    assert_eq!(std::fs::read(&path).expect("reads"), before);
}

#[tokio::test]
async fn a_write_goes_on_when_its_caller_has_gone() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&dir.path().join("state.db")).expect("opens");
    let gone = tokio::time::timeout(Duration::ZERO, journal.write(Durability::Lazy, add)).await;
    drop(gone);
    journal.write(Durability::Lazy, |_| Ok(())).await.expect("writes");
    assert_eq!(journal.read(count).await.expect("reads"), 1);
}
