//! Messages on a real journal: what each becomes, and that it becomes it once.

use std::sync::Arc;

use atoll_channels::gate::{DmPolicy, GatePolicy};
use atoll_channels::port::{AccountRef, Inbound, PeerKind, Sender};
use atoll_protocol::id::{AgentId, SessionKey};
use tempfile::TempDir;

use super::*;
use crate::journal::{Durability, Journal};
use crate::route::Route;

struct Bench {
    journal: Journal,
    rule: Rule,
    _folder: TempDir,
}

fn account() -> AccountRef {
    AccountRef {
        channel: "telegram".to_owned(),
        account: "default".to_owned(),
    }
}

fn said(id: &str, sender: &str, text: &str) -> Inbound {
    let content = Content::Message {
        text: text.to_owned(),
        message: "5".to_owned(),
        mentions_bot: true,
        quoted: None,
    };
    inbound(id, sender, content)
}

fn inbound(id: &str, sender: &str, content: Content) -> Inbound {
    Inbound {
        id: id.to_owned(),
        place: Place {
            account: account(),
            kind: PeerKind::Direct,
            chat: sender.to_owned(),
            thread: None,
        },
        sender: Sender {
            id: sender.to_owned(),
            name: "Ann".to_owned(),
            is_bot: false,
        },
        content,
        sent_at_ms: 1,
    }
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("state.db")).expect("opens");
        let policy = GatePolicy {
            dm_policy: DmPolicy::Pairing,
            allow_from: vec!["1".to_owned(), "2".to_owned()],
            owner_allow_from: vec!["telegram:1".to_owned()],
            ..GatePolicy::default()
        };
        let session = SessionKey::new("agent:main:main").expect("a key");
        let agent = AgentId::new("main").expect("an id");
        let route = Route {
            agent,
            policy: session.clone(),
            session,
            binding: None,
        };
        Self {
            journal,
            rule: Rule {
                policy: Arc::new(policy),
                route,
                triggers: ["/new".to_owned(), "from the top".to_owned()].into(),
            },
            _folder: folder,
        }
    }

    /// Stores what arrived and takes everything that is received.
    async fn take(&self, arrived: Vec<Inbound>) -> Vec<Step> {
        let rule = self.rule.clone();
        let take = move |db: &Connection| {
            inbox::commit(db, &account(), "1", &arrived, 1)?;
            let rows = inbox::received(db, 0, 100)?;
            let item = |row| Item {
                row,
                rule: Some(rule.clone()),
                username: None,
            };
            take_all(db, rows.into_iter().map(|row| row.map(item)).collect(), 2)
        };
        self.journal.write(Durability::Lazy, take).await.expect("takes")
    }

    async fn row(&self, id: i64) -> InboxRow {
        self.journal
            .read(move |db| inbox::find(db, id))
            .await
            .expect("reads")
            .expect("is there")
    }

    async fn waiting_to_be_sent(&self) -> Vec<Outbound> {
        let due = self
            .journal
            .read(|db| outbox::due(db, 10, 100, &[]))
            .await
            .expect("reads");
        due.into_iter().map(|row| row.item.outbound).collect()
    }
}

#[tokio::test]
async fn a_message_becomes_one_turn_in_the_transaction_that_admits_it() {
    let bench = Bench::new();
    let steps = bench.take(vec![said("a", "1", "hello")]).await;
    assert!(matches!(steps.as_slice(), [Step::Run(job, _)] if job.run.as_str() == "in-1"));
    let row = bench.row(1).await;
    assert_eq!((row.state, row.run), (InboxState::Admitted, Some(run_of(1))));
    assert!(bench.take(vec![said("a", "1", "hello")]).await.is_empty());
    let runs = bench.journal.read(runs::unfinished).await.expect("reads");
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].new.input.read::<Said>().expect("reads").text, "hello");
}

#[tokio::test]
async fn a_stranger_gets_one_code_and_the_words_are_not_kept() {
    let bench = Bench::new();
    assert!(
        bench
            .take(vec![said("a", "9", "a secret"), said("b", "9", "another")])
            .await
            .is_empty()
    );
    for id in [1, 2] {
        let row = bench.row(id).await;
        assert_eq!(row.state, InboxState::Ignored);
        assert!(matches!(row.inbound.content, Content::Message { text, .. } if text.is_empty()));
    }
    let sent = bench.waiting_to_be_sent().await;
    assert!(
        matches!(sent.as_slice(), [Outbound::Text { text, .. }] if text.contains("atoll pairing approve telegram"))
    );
}

#[tokio::test]
async fn a_strangers_press_of_a_button_is_answered_and_does_nothing() {
    let bench = Bench::new();
    let press = |sender| Content::Click {
        data: "ap:7f3c:o".to_owned(),
        message: "5".to_owned(),
        click: sender,
    };
    let strange = inbound("a", "9", press("c9".to_owned()));
    assert!(bench.take(vec![strange]).await.is_empty());
    assert!(
        matches!(bench.waiting_to_be_sent().await.as_slice(), [Outbound::ClickAnswer { click, .. }] if click == "c9")
    );
    let steps = bench.take(vec![inbound("b", "2", press("c2".to_owned()))]).await;
    let [Step::Click(click)] = steps.as_slice() else {
        panic!("no click")
    };
    assert!(!click.principal.is_owner_in_chat());
}

#[tokio::test]
async fn a_command_is_typed_by_somebody_and_stays_open_until_it_is_done() {
    let bench = Bench::new();
    let steps = bench
        .take(vec![said("a", "1", "/nodes"), said("b", "2", "/nodes")])
        .await;
    let owners: Vec<_> = steps
        .iter()
        .map(|step| match step {
            Step::Command(typed) => typed.asker.principal.is_owner_in_chat(),
            Step::Run(..) | Step::Anew(_) | Step::Click(_) => panic!("no command"),
        })
        .collect();
    assert_eq!(owners, [true, false]);
    assert_eq!(bench.row(1).await.state, InboxState::Received);
}

#[tokio::test]
async fn without_its_account_a_message_is_dropped_for_a_reason() {
    let bench = Bench::new();
    let take = |db: &Connection| {
        inbox::commit(db, &account(), "1", &[said("a", "1", "hi")], 1)?;
        let rows = inbox::received(db, 0, 1)?;
        let item = |row| Item {
            row,
            rule: None,
            username: None,
        };
        take_all(db, rows.into_iter().map(|row| row.map(item)).collect(), 2)
    };
    assert!(
        bench
            .journal
            .write(Durability::Lazy, take)
            .await
            .expect("takes")
            .is_empty()
    );
    let row = bench.row(1).await;
    assert_eq!(
        (row.state, row.reason.as_deref()),
        (InboxState::Ignored, Some("its account is not configured"))
    );
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_set_aside_and_the_others_are_taken() {
    let bench = Bench::new();
    let spoil = |db: &Connection| {
        inbox::commit(db, &account(), "1", &[said("a", "1", "torn")], 1)?;
        db.execute("UPDATE inbox SET content = '{\"torn'", [])?;
        Ok(())
    };
    bench.journal.write(Durability::Lazy, spoil).await.expect("writes");
    let steps = bench.take(vec![said("b", "1", "whole")]).await;
    assert!(matches!(steps.as_slice(), [Step::Run(job, _)] if job.run == run_of(2)));
    let count = bench.journal.read(|db| inbox::count_set_aside(db, &account()));
    assert_eq!(count.await.expect("reads"), 1);
    assert!(bench.take(Vec::new()).await.is_empty(), "nothing of it is left to do");
}

#[tokio::test]
async fn a_message_that_breaks_what_is_done_with_it_is_set_aside_and_leaves_nothing_behind() {
    let bench = Bench::new();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON runs WHEN NEW.input LIKE '%broken%'
                  BEGIN SELECT RAISE(ABORT, 'no'); END";
    let prepare = move |db: &Connection| Ok(db.execute_batch(refuse)?);
    bench.journal.write(Durability::Lazy, prepare).await.expect("writes");
    let arrived = vec![
        said("a", "1", "first"),
        said("b", "1", "broken"),
        said("c", "1", "last"),
    ];
    let taken: Vec<_> = bench
        .take(arrived)
        .await
        .into_iter()
        .map(|step| match step {
            Step::Run(job, _) => job.run,
            Step::Anew(_) | Step::Command(_) | Step::Click(_) => panic!("no turn"),
        })
        .collect();
    assert_eq!(taken, [run_of(1), run_of(3)]);
    let row = bench.row(2).await;
    assert_eq!(row.state, InboxState::Failed);
    assert!(row.reason.is_some_and(|reason| reason.starts_with("set aside")));
}

#[tokio::test]
async fn words_that_begin_anew_are_those_that_are_configured_and_what_follows_them_is_said_first() {
    let bench = Bench::new();
    let arrived = vec![
        said("a", "1", "/new"),
        said("b", "1", "From the top  what is up?"),
        said("c", "1", "/reset"),
    ];
    let steps = bench.take(arrived).await;
    let [Step::Command(typed), Step::Anew(job), Step::Run(other, _)] = steps.as_slice() else {
        panic!("a command, a turn that begins anew, a turn");
    };
    assert_eq!(typed.parsed, Ok(Command::New));
    assert_eq!((&job.run, &other.run), (&run_of(2), &run_of(3)));
    let runs = bench.journal.read(runs::unfinished).await.expect("reads");
    let heard: Vec<_> = runs
        .iter()
        .map(|row| row.new.input.read::<Said>().expect("reads"))
        .collect();
    assert_eq!(
        (&*heard[0].text, heard[0].anew.as_deref()),
        ("what is up?", Some("new"))
    );
    assert_eq!((&*heard[1].text, heard[1].anew.as_deref()), ("/reset", None));
}
