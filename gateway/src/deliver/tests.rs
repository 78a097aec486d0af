//! The outbox on a real journal, with a scripted platform.

use async_trait::async_trait;
use atoll_channels::port::{PeerKind, Place, Port, Receipt};
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};

use super::*;

/// Names what it is asked to send; with gates, each send waits for one.
struct Platform {
    asked: mpsc::Sender<String>,
    gate: Option<Arc<Semaphore>>,
}

#[async_trait]
impl Channel for Platform {
    async fn run(&self, _: &dyn Port, stop: CancellationToken) {
        stop.cancelled().await;
    }

    async fn send(&self, place: &Place, _: &Outbound) -> Result<Receipt, SendError> {
        self.asked.try_send(place.chat.clone()).expect("the test listens");
        if let Some(gate) = &self.gate {
            gate.acquire().await.expect("open").forget();
        }
        let message = Some("7".to_owned());
        Ok(Receipt { message })
    }

    async fn typing(&self, _: &Place) {}

    fn split(&self, text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }
}

struct Bench {
    journal: Journal,
    accounts: Accounts,
    outbox: Outbox,
    stop: CancellationToken,
    _folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("state.db")).expect("opens");
        let accounts = Accounts::default();
        let outbox = Outbox::new(journal.clone(), accounts.clone());
        let stop = CancellationToken::new();
        tokio::spawn(outbox.clone().run(stop.clone()));
        Self {
            journal,
            accounts,
            outbox,
            stop,
            _folder: folder,
        }
    }

    async fn platform(&self, name: &str, gate: Option<Arc<Semaphore>>) -> mpsc::Receiver<String> {
        let (asked, asks) = mpsc::channel(256);
        self.accounts
            .put(account(name), Arc::new(Platform { asked, gate }))
            .await;
        asks
    }

    async fn hand_in(&self, name: &str, chats: impl IntoIterator<Item = String>, key: &str) {
        let items = chats.into_iter().map(|chat| NewOutbound {
            key: format!("{key}:{name}:{chat}"),
            place: Place {
                account: account(name),
                kind: PeerKind::Direct,
                chat,
                thread: None,
            },
            outbound: Outbound::Text {
                text: "hello".to_owned(),
                reply_to: None,
            },
            run: None,
            part: 0,
        });
        self.outbox.hand_in(items.collect()).await.expect("is stored");
    }

    async fn sql(&self, text: &'static str) {
        let done = self
            .journal
            .write(Durability::Lazy, move |db| Ok(db.execute_batch(text)?));
        done.await.expect("runs");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn account(name: &str) -> AccountRef {
    AccountRef {
        channel: "telegram".to_owned(),
        account: name.to_owned(),
    }
}

/// What does not come is a failure, not a test without end.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it comes")
}

#[tokio::test]
async fn an_outcome_that_cannot_be_stored_holds_its_chat_only_until_it_can_be() {
    let bench = Bench::new();
    let mut asks = bench.platform("default", None).await;
    bench
        .sql("CREATE TRIGGER full BEFORE UPDATE ON outbox WHEN NEW.state = 'sent' BEGIN SELECT RAISE(ABORT, 'full'); END")
        .await;
    bench.hand_in("default", ["1".to_owned()], "first").await;
    assert_eq!(soon(asks.recv()).await.as_deref(), Some("1"));
    bench.hand_in("default", ["1".to_owned()], "second").await;
    let until_visible = async {
        while bench.journal.insisting() == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(until_visible).await;
    assert!(asks.try_recv().is_err(), "the order within a chat holds");
    bench.sql("DROP TRIGGER full").await;
    assert_eq!(soon(asks.recv()).await.as_deref(), Some("1"));
    let row = bench.journal.read(|db| outbox::by_key(db, "first:default:1")).await;
    let row = row.expect("reads").expect("is there");
    assert_eq!((row.state, row.attempts), (outbox::OutboxState::Sent, 1));
}

#[tokio::test]
async fn an_account_whose_platform_is_slow_holds_up_no_other() {
    let bench = Bench::new();
    let gate = Arc::new(Semaphore::new(0));
    let mut slow = bench.platform("slow", Some(gate.clone())).await;
    let mut quick = bench.platform("quick", None).await;
    let chats = AT_ONCE + 20;
    bench
        .hand_in("slow", (0..chats).map(|chat| chat.to_string()), "x")
        .await;
    for _ in 0..AT_ONCE_OF_ACCOUNT {
        soon(slow.recv()).await.expect("the platform is there");
    }
    bench.hand_in("quick", ["1".to_owned()], "x").await;
    soon(quick.recv()).await.expect("the platform is there");
    assert!(slow.try_recv().is_err(), "more than its share");
    gate.add_permits(chats);
    for _ in AT_ONCE_OF_ACCOUNT..chats {
        soon(slow.recv()).await.expect("the platform is there");
    }
}
