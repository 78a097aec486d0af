//! Calls through the journal to a scripted node.

use atoll_pairing::access::commands::NodeFacts;
use atoll_pairing::book::SurfaceApproval;
use atoll_protocol::capability::Surface;
use atoll_protocol::frame::{ClientInfo, Frame, Outcome, Resume};
use atoll_protocol::id::{AgentId, RunId, SessionKey};
use atoll_protocol::scope::Scopes;

use super::*;
use crate::config::ConfigStore;
use crate::hub::{LinkId, LinkUp, Outgoing, OwnPresence, Queued, outlet};

const NODE: DeviceId = DeviceId::from_digest([1; 32]);

/// A ring with one node.
struct Bench {
    ring: Ring,
    link: LinkId,
    queued: Queued,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("state.db")).expect("opens");
        let own = OwnPresence {
            host: "vps".to_owned(),
            version: "0",
            instance: "boot".into(),
        };
        let (hub, hub_loop) = Hub::start(own);
        tokio::spawn(hub_loop);
        let (book, book_loop) = Book::open(journal.clone(), hub.clone()).await.expect("opens");
        tokio::spawn(book_loop);
        let (config, _) =
            ConfigStore::open(folder.path().join("atoll.json"), Box::new(|_| None)).expect("the defaults");
        let (outgoing, queued) = outlet();
        let (link, _) = hub.link_up(node(outgoing)).await.expect("the hub runs");
        hub.heard(link, Frame::Resume(Resume::default())).await;
        Self {
            ring: Ring {
                hub,
                book,
                journal,
                config,
                leaving: Leaving::default(),
                repeats: Repeats::default(),
                media: Media::open(&folder.path().join("media")).expect("opens"),
                offers: Offers::default(),
                live: Live::default(),
            },
            link,
            queued,
            _folder: folder,
        }
    }

    fn start(&self, call: Call) -> tokio::task::JoinHandle<Result<Option<Json>, CallRefused>> {
        let ring = self.ring.clone();
        let agent = AgentId::new("main").expect("an id");
        let session = SessionKey::new("agent:main:main").expect("a key");
        tokio::spawn(async move { ring.call(&Arc::new(Principal::agent(agent, session)), &call).await })
    }

    /// The next thing that the node is told about calls.
    async fn told(&mut self) -> Frame {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(20), self.queued.next());
            let (outgoing, _) = next.await.expect("it comes").expect("the link is open");
            if let Outgoing::Frame(frame) = outgoing
                && !matches!(*frame, Frame::Event(_))
            {
                return *frame;
            }
        }
    }

    async fn end(&self, call: &CallId) {
        let outcome = Outcome {
            call: call.clone(),
            result: Ok(None),
            receipt: None,
        };
        self.ring.hub.heard(self.link, Frame::Outcome(outcome)).await;
    }

    async fn row(&self, call: &CallId) -> Option<CallRow> {
        let call = call.clone();
        let row = self
            .ring
            .journal
            .write(Durability::Lazy, move |db| calls::find(db, &call))
            .await;
        row.expect("reads")
    }
}

fn node(outgoing: crate::hub::Outlet) -> LinkUp {
    let client = ClientInfo {
        platform: "linux".to_owned(),
        ..ClientInfo::default()
    };
    let surface = Surface {
        commands: vec!["system.which".to_owned()],
        ..Surface::default()
    };
    LinkUp {
        connection: "c".to_owned(),
        role: Role::Node,
        scopes: Scopes::none(),
        device: Some(NODE),
        facts: Arc::new(NodeFacts::new(&client, surface.clone(), surface)),
        client,
        approval: SurfaceApproval::Approved,
        path_env: String::new(),
        address: "test".to_owned(),
        pipe: "ws",
        language: Language::Native,
        is_by_shared_auth: false,
        outgoing,
    }
}

fn key() -> ToolKey {
    ToolKey {
        run: RunId::new("r").expect("an id"),
        tool_call: "t".to_owned(),
    }
}

fn of_tool() -> Call {
    Call {
        key: Some(key()),
        ..Call::new(NODE, "system.which", None, Duration::from_secs(60))
    }
}

#[tokio::test]
async fn a_tools_call_is_written_down_before_it_leaves_and_before_the_node_forgets_it() {
    let mut bench = Bench::new().await;
    let call = of_tool();
    let id = call.id.clone();
    let ended = bench.start(call);
    assert!(matches!(bench.told().await, Frame::Invoke(_)));
    let row = bench.row(&id).await.expect("written");
    assert_eq!((row.state, row.sent_at.is_some()), (CallState::Sent, true));
    bench.end(&id).await;
    assert!(ended.await.expect("ends").is_ok());
    assert!(matches!(bench.told().await, Frame::Acknowledge(_)));
    assert_eq!(bench.row(&id).await.expect("written").state, CallState::Ok);
}

#[tokio::test]
async fn a_call_that_is_called_off_has_an_end_in_the_journal_too() {
    let mut bench = Bench::new().await;
    let call = of_tool();
    let (id, cancel) = (call.id.clone(), call.cancel.clone());
    let ended = bench.start(call);
    assert!(matches!(bench.told().await, Frame::Invoke(_)));
    cancel.cancel();
    let refused = ended.await.expect("ends").expect_err("called off");
    assert!(
        matches!(refused, CallRefused::Failed(Failure::Cancelled { sent: true })),
        "{refused}"
    );
    assert!(matches!(bench.told().await, Frame::Cancel(_)));
    assert_eq!(bench.row(&id).await.expect("written").state, CallState::Cancelled);
}

#[tokio::test]
async fn the_call_of_one_tool_call_never_leaves_twice() {
    let mut bench = Bench::new().await;
    let first = of_tool();
    let id = first.id.clone();
    let ended = bench.start(first);
    assert!(matches!(bench.told().await, Frame::Invoke(_)));
    let refused = bench.start(of_tool()).await.expect("ends").expect_err("made before");
    assert!(matches!(refused, CallRefused::Journal(_)), "{refused}");
    bench.end(&id).await;
    assert!(ended.await.expect("ends").is_ok());
    assert!(
        matches!(bench.told().await, Frame::Acknowledge(_)),
        "and no second call"
    );
    let before = bench
        .ring
        .before(&key(), &CancellationToken::new())
        .await
        .expect("reads");
    assert!(matches!(before, Some(Before::Ended(row)) if row.state == CallState::Ok));
}

#[tokio::test]
async fn a_call_that_cannot_be_written_down_is_not_made() {
    let mut bench = Bench::new().await;
    bench.ring.journal.close().await;
    let refused = bench.start(of_tool()).await.expect("ends").expect_err("not made");
    assert!(matches!(refused, CallRefused::Journal(_)), "{refused}");
    bench.ring.hub.to_device(NODE, Role::Node, Frame::Ping(7)).await;
    assert!(matches!(bench.told().await, Frame::Ping(7)), "nothing was sent before");
}
