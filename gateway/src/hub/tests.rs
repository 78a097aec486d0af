//! The hub with scripted links, on a virtual clock.

use std::time::Duration;

use atoll_protocol::frame::{Acknowledge, Outcome, Progress, Resume};
use futures_util::FutureExt;
use serde_json::json;

use super::*;

const NODE: DeviceId = DeviceId::from_digest([1; 32]);
const OTHER: DeviceId = DeviceId::from_digest([2; 32]);

fn hub() -> Hub {
    let own = OwnPresence {
        host: "vps".to_owned(),
        version: "0",
        instance: "boot".into(),
    };
    let (hub, owner) = Hub::start(own);
    tokio::spawn(owner);
    hub
}

fn link(role: Role, device: Option<DeviceId>, language: Language) -> (LinkUp, Queued) {
    let (outgoing, queued) = outlet();
    let scopes: Scopes = [Scope::Read].into_iter().collect();
    let client = ClientInfo::default();
    let up = LinkUp {
        connection: "c".to_owned(),
        role,
        scopes: if role == Role::Operator { scopes } else { Scopes::none() },
        device,
        facts: Arc::new(NodeFacts::new(&client, Surface::default(), Surface::default())),
        client,
        approval: SurfaceApproval::Approved,
        path_env: String::new(),
        address: "test".to_owned(),
        pipe: "ws",
        language,
        is_by_shared_auth: false,
        outgoing,
    };
    (up, queued)
}

/// A native node that has said what it knows.
struct Node {
    hub: Hub,
    link: LinkId,
    queued: Queued,
}

impl Node {
    async fn silent(hub: &Hub, node: DeviceId) -> Self {
        let (up, queued) = link(Role::Node, Some(node), Language::Native);
        let (link, _) = hub.link_up(up).await.expect("the hub runs");
        Self {
            hub: hub.clone(),
            link,
            queued,
        }
    }

    async fn new(hub: &Hub, node: DeviceId) -> Self {
        let node = Self::silent(hub, node).await;
        node.resume(&[], &[]).await;
        node
    }

    async fn resume(&self, running: &[&str], finished: &[&str]) {
        self.resume_as("b", running, finished).await;
    }

    async fn resume_as(&self, boot: &str, running: &[&str], finished: &[&str]) {
        let ids = |ids: &[&str]| ids.iter().map(|id| call_id(id)).collect();
        let resume = Resume {
            boot: boot.to_owned(),
            running: ids(running),
            finished: ids(finished),
        };
        self.hub.heard(self.link, Frame::Resume(resume)).await;
    }

    async fn end(&self, call: &str) {
        let outcome = Outcome {
            call: call_id(call),
            result: Ok(Some(json!("done").into())),
            receipt: None,
        };
        self.hub.heard(self.link, Frame::Outcome(outcome)).await;
    }

    /// What it is told about calls.
    async fn hears(&mut self) -> Frame {
        loop {
            match soon(self.queued.next()).await.expect("the link is open").0 {
                Outgoing::Frame(frame) if !matches!(*frame, Frame::Event(_)) => return *frame,
                Outgoing::Frame(_) | Outgoing::Text(_) | Outgoing::Close { .. } => {}
            }
        }
    }

    async fn hears_invoke(&mut self) -> String {
        let heard = self.hears().await;
        let Frame::Invoke(invoke) = heard else {
            panic!("{} in place of a call", heard.kind());
        };
        invoke.call.to_string()
    }

    /// Whether it is told anything before everything that was asked so far is done.
    async fn hears_nothing(&mut self) -> bool {
        drop(self.hub.calls().await);
        let mut said = std::iter::from_fn(|| self.queued.try_next());
        !said.any(|(outgoing, _)| matches!(outgoing, Outgoing::Frame(frame) if !matches!(*frame, Frame::Event(_))))
    }
}

/// What does not come is a failure, not a test without end; the clock is virtual.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(3600);
    tokio::time::timeout(patience, future).await.expect("it comes")
}

fn call_id(id: &str) -> CallId {
    CallId::new(id).expect("an id")
}

fn new_invoke(call: &str, node: DeviceId, keeps: bool) -> NewInvoke {
    NewInvoke {
        invoke: Invoke {
            call: call_id(call),
            node,
            command: "system.run".to_owned(),
            params: None,
            timeout_ms: 0,
            idempotency_key: None,
            plan: None,
        },
        deadline: crate::clock::instant() + Duration::from_secs(60),
        idempotent: false,
        keep_until_acknowledged: keeps,
        caller: "uid:0".into(),
        progress: None,
    }
}

fn invoke(hub: &Hub, call: &str, node: DeviceId, keeps: bool) -> tokio::task::JoinHandle<CallEnd> {
    let (hub, new) = (hub.clone(), new_invoke(call, node, keeps));
    tokio::spawn(async move { hub.invoke(Box::new(new)).await.await })
}

fn is_acknowledgement(frame: &Frame, call: &str) -> bool {
    matches!(frame, Frame::Acknowledge(Acknowledge { call: acknowledged, .. }) if *acknowledged == call_id(call))
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_to_the_node_and_its_end_comes_back() {
    let hub = hub();
    let mut node = Node::new(&hub, NODE).await;
    let call = invoke(&hub, "a", NODE, false);
    assert_eq!(node.hears_invoke().await, "a");
    node.end("a").await;
    assert_eq!(call.await.expect("ends"), Ok(Some(json!("done").into())));
    assert!(is_acknowledgement(&node.hears().await, "a"));
    assert!(hub.calls().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_node_keeps_an_outcome_until_it_is_durable_here() {
    let hub = hub();
    let mut node = Node::new(&hub, NODE).await;
    let call = invoke(&hub, "a", NODE, true);
    node.hears_invoke().await;
    node.end("a").await;
    assert!(call.await.expect("ends").is_ok());
    assert!(node.hears_nothing().await);
    hub.acknowledge(call_id("a")).await;
    assert!(is_acknowledgement(&node.hears().await, "a"));
}

#[tokio::test(start_paused = true)]
async fn another_node_cannot_end_a_call_nor_take_its_acknowledgement() {
    let hub = hub();
    let (mut node, mut other) = (Node::new(&hub, NODE).await, Node::new(&hub, OTHER).await);
    let call = invoke(&hub, "a", NODE, true);
    node.hears_invoke().await;
    other.end("a").await;
    assert!(
        is_acknowledgement(&other.hears().await, "a"),
        "it may forget what nobody asked it"
    );
    assert!(!call.is_finished());
    node.end("a").await;
    assert!(call.await.expect("ends").is_ok());
    other.end("a").await;
    assert!(is_acknowledgement(&other.hears().await, "a"));
    hub.acknowledge(call_id("a")).await;
    assert!(is_acknowledgement(&node.hears().await, "a"));
}

#[tokio::test(start_paused = true)]
async fn a_call_right_after_the_link_waits_for_what_the_node_knows() {
    let hub = hub();
    let mut node = Node::silent(&hub, NODE).await;
    let call = invoke(&hub, "a", NODE, false);
    assert!(node.hears_nothing().await);
    node.resume(&[], &[]).await;
    assert_eq!(node.hears_invoke().await, "a");
    node.end("a").await;
    assert!(call.await.expect("ends").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_never_says_what_it_knows_is_not_waited_for_long() {
    let hub = hub();
    let _node = Node::silent(&hub, NODE).await;
    let before = tokio::time::Instant::now();
    assert_eq!(
        invoke(&hub, "a", NODE, false).await.expect("ends"),
        Err(Failure::NotConnected)
    );
    assert!(before.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_call_to_an_absent_node_fails_at_once() {
    let before = tokio::time::Instant::now();
    let end = invoke(&hub(), "a", NODE, true).await.expect("ends");
    assert_eq!((end, before.elapsed()), (Err(Failure::NotConnected), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_same_call_twice_is_sent_once_and_the_second_caller_is_told() {
    let hub = hub();
    let mut node = Node::new(&hub, NODE).await;
    let first = invoke(&hub, "a", NODE, true);
    node.hears_invoke().await;
    assert_eq!(invoke(&hub, "a", NODE, true).await.expect("ends"), Err(Failure::Lost));
    assert!(node.hears_nothing().await);
    node.end("a").await;
    assert!(first.await.expect("ends").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_call_here_and_on_the_node() {
    let hub = hub();
    let mut node = Node::new(&hub, NODE).await;
    let call = invoke(&hub, "a", NODE, false);
    node.hears_invoke().await;
    assert_eq!(call.await.expect("ends"), Err(Failure::TimedOut { sent: true }));
    assert!(matches!(node.hears().await, Frame::Cancel(call) if call == call_id("a")));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_takes_its_call_along_and_leaves_nothing_behind() {
    let hub = hub();
    let mut node = Node::new(&hub, NODE).await;
    let call = invoke(&hub, "a", NODE, true);
    node.hears_invoke().await;
    call.abort();
    assert!(matches!(node.hears().await, Frame::Cancel(call) if call == call_id("a")));
    node.end("a").await;
    assert!(
        is_acknowledgement(&node.hears().await, "a"),
        "nobody will ever say that it is durable"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_survives_the_link_it_was_made_on() {
    let hub = hub();
    let mut old = Node::new(&hub, NODE).await;
    let call = invoke(&hub, "a", NODE, false);
    old.hears_invoke().await;
    let new = Node::silent(&hub, NODE).await;
    hub.link_down(old.link).await;
    new.resume(&[], &["a"]).await;
    new.end("a").await;
    assert!(call.await.expect("ends").is_ok());
    assert!(hub.node(NODE).is_some(), "the end of the old link leaves the new one");
}

#[tokio::test(start_paused = true)]
async fn what_the_node_does_not_know_any_more_is_lost_and_never_sent_again() {
    let hub = hub();
    let mut old = Node::new(&hub, NODE).await;
    let call = invoke(&hub, "a", NODE, false);
    old.hears_invoke().await;
    hub.link_down(old.link).await;
    let mut new = Node::silent(&hub, NODE).await;
    new.resume_as("another start", &[], &[]).await;
    assert_eq!(call.await.expect("ends"), Err(Failure::Lost));
    assert!(new.hears_nothing().await);
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_on_its_way_is_sent_again_to_a_node_that_forgot_nothing() {
    let hub = hub();
    let old = Node::new(&hub, NODE).await;
    let call = invoke(&hub, "a", NODE, false);
    drop(hub.calls().await);
    hub.link_down(old.link).await;
    let mut new = Node::new(&hub, NODE).await;
    assert_eq!(new.hears_invoke().await, "a");
    new.end("a").await;
    assert!(call.await.expect("ends").is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_the_output_is_told_how_much_is_missing() {
    let hub = hub();
    let mut node = Node::new(&hub, NODE).await;
    let (progress, mut parts) = mpsc::channel(2);
    let new = NewInvoke {
        progress: Some(progress),
        ..new_invoke("a", NODE, false)
    };
    let _ended = hub.invoke(Box::new(new)).await;
    node.hears_invoke().await;
    let say = async |seq: u64| {
        let progress = Progress {
            call: call_id("a"),
            seq,
            chunk: seq.to_string(),
            receipt: None,
        };
        hub.heard(node.link, Frame::Progress(progress)).await;
    };
    // Part 1 was said while the link was away; 4 and 5 find no room.
    for seq in [0, 2, 4, 5] {
        say(seq).await;
    }
    drop(hub.calls().await);
    let mut heard = Vec::new();
    while let Ok(Part { missed, said }) = parts.try_recv() {
        heard.push((missed, said));
    }
    say(6).await;
    drop(hub.calls().await);
    let Part { missed, said } = parts.recv().await.expect("there is room again");
    heard.push((missed, said));
    let words = |text: &str| Said::Words(text.to_owned());
    assert_eq!(heard, [(0, words("0")), (1, words("2")), (3, words("6"))]);
}

#[tokio::test(start_paused = true)]
async fn a_restored_call_waits_for_whoever_asks_for_it() {
    let hub = hub();
    let restored = Restored {
        call: call_id("a"),
        node: NODE,
        command: "system.run".to_owned(),
        deadline: crate::clock::instant() + Duration::from_secs(600),
        caller: "agent:main".into(),
        idempotency_key: None,
        memory: None,
    };
    hub.restore(vec![restored]).await;
    let mut node = Node::silent(&hub, NODE).await;
    node.resume(&[], &["a"]).await;
    node.end("a").await;
    assert!(node.hears_nothing().await);
    assert!(hub.attach(call_id("a")).await.is_ok());
    hub.acknowledge(call_id("a")).await;
    assert!(is_acknowledgement(&node.hears().await, "a"));
    assert_eq!(hub.attach(call_id("b")).await, Err(Failure::Lost));
}

#[tokio::test(start_paused = true)]
async fn what_ends_while_the_gateway_goes_is_kept_by_the_node() {
    let hub = hub();
    let mut node = Node::new(&hub, NODE).await;
    let call = invoke(&hub, "a", NODE, true);
    node.hears_invoke().await;
    hub.goodbye().await;
    node.end("a").await;
    call.abort();
    assert!(node.hears_nothing().await, "neither a cancel nor an acknowledgement");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_read_is_cut_off_and_its_call_fails() {
    let hub = hub();
    let node = Node::new(&hub, NODE).await;
    for _ in 0..1_000 {
        hub.broadcast(Broadcast::to_all("tick", json!({}))).await;
    }
    let call = invoke(&hub, "a", NODE, false);
    assert_eq!(soon(node.queued.cut()).await.0, 1008);
    hub.link_down(node.link).await;
    assert_eq!(call.await.expect("ends"), Err(Failure::NotConnected));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_device_is_cut_off_even_when_it_does_not_read() {
    let hub = hub();
    let node = Node::new(&hub, NODE).await;
    for _ in 0..1_000 {
        hub.broadcast(Broadcast::to_all("tick", json!({}))).await;
    }
    hub.close_device(NODE, Some(Role::Node), 4001, "device removed").await;
    assert_eq!(soon(node.queued.cut()).await, (4001, "device removed".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn another_secret_closes_the_links_of_the_old_one_and_no_others() {
    let hub = hub();
    let (up, by_secret) = link(Role::Operator, None, Language::Dialect);
    hub.link_up(LinkUp {
        is_by_shared_auth: true,
        ..up
    })
    .await;
    let mut by_key = Node::new(&hub, NODE).await;
    hub.close_shared(4001, "gateway auth changed").await;
    assert_eq!(soon(by_secret.cut()).await, (4001, "gateway auth changed".to_owned()));
    invoke(&hub, "a", NODE, false);
    assert_eq!(by_key.hears_invoke().await, "a");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_behind_sees_the_gap() {
    let hub = hub();
    let (up, mut queued) = link(Role::Operator, None, Language::Dialect);
    hub.link_up(up).await;
    for _ in 0..300 {
        hub.broadcast(Broadcast::to_all("tick", json!({}))).await;
    }
    drop(hub.calls().await);
    let mut last = 0;
    while let Some((Outgoing::Frame(frame), _)) = queued.try_next() {
        if let Frame::Event(event) = *frame {
            last = event.seq.expect("numbered");
        }
    }
    hub.broadcast(Broadcast::to_all("tick", json!({}))).await;
    drop(hub.calls().await);
    let Some((Outgoing::Frame(frame), _)) = queued.try_next() else {
        panic!("there is room again");
    };
    assert!(
        matches!(*frame, Frame::Event(event) if event.seq > Some(last + 1)),
        "after {last}"
    );
}

/// On the real clock: the virtual one stands still while anybody has something to do.
#[tokio::test]
async fn a_flood_of_requests_does_not_stop_the_clock() {
    let hub = hub();
    let mut node = Node::new(&hub, NODE).await;
    let deadline = crate::clock::instant() + Duration::from_millis(50);
    let (caller, new) = (hub.clone(), new_invoke("a", NODE, false));
    let call = tokio::spawn(async move { caller.invoke(Box::new(NewInvoke { deadline, ..new })).await.await });
    node.hears_invoke().await;
    let flood: Vec<_> = std::iter::repeat_with(|| {
        let hub = hub.clone();
        tokio::spawn(async move {
            loop {
                hub.acknowledge(call_id("other")).await;
            }
        })
    })
    .take(16)
    .collect();
    let ended = tokio::time::timeout(Duration::from_secs(10), call).await;
    flood.iter().for_each(tokio::task::JoinHandle::abort);
    let ended = ended.expect("the deadline counts in a flood too").expect("runs");
    assert_eq!(ended, Err(Failure::TimedOut { sent: true }));
}

#[tokio::test(start_paused = true)]
async fn what_a_node_may_do_and_the_end_of_its_link_are_in_force_when_the_hub_has_answered() {
    let hub = hub();
    let node = Node::silent(&hub, NODE).await;
    let camera = Surface {
        commands: vec!["camera.snap".to_owned()],
        ..Surface::default()
    };
    hub.granted(NODE, camera.clone(), std::collections::BTreeSet::new())
        .await;
    assert_eq!(hub.node(NODE).map(|live| live.facts.approved.clone()), Some(camera));
    hub.close_device(NODE, None, 4001, "device removed").await;
    let closed = node.queued.cut().now_or_never();
    assert_eq!(closed, Some((4001, "device removed".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_leaves_with_the_next_call_or_a_moment_later() {
    let hub = hub();
    let mut node = Node::new(&hub, NODE).await;
    let first = invoke(&hub, "a", NODE, false);
    node.hears_invoke().await;
    node.end("a").await;
    assert!(first.await.expect("ends").is_ok());
    assert!(node.hears_nothing().await);
    let second = invoke(&hub, "b", NODE, false);
    let called = tokio::time::Instant::now();
    assert!(is_acknowledgement(&node.hears().await, "a"));
    assert_eq!(node.hears_invoke().await, "b");
    assert_eq!(called.elapsed(), Duration::ZERO);
    node.end("b").await;
    assert!(second.await.expect("ends").is_ok());
    assert!(is_acknowledgement(&node.hears().await, "b"));
    assert!((held::PAUSE..held::PAUSE * 2).contains(&called.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_keeps_many_ends_is_told_at_once_which_are_safe() {
    let hub = hub();
    let mut node = Node::new(&hub, NODE).await;
    let names: Vec<_> = (0..held::MOST).map(|number| format!("call {number}")).collect();
    let calls: Vec<_> = names.iter().map(|name| invoke(&hub, name, NODE, false)).collect();
    for _ in &names {
        node.hears_invoke().await;
    }
    let (last, others) = names.split_last().expect("some");
    for name in others {
        node.end(name).await;
    }
    assert!(node.hears_nothing().await);
    let before = tokio::time::Instant::now();
    node.end(last).await;
    for name in &names {
        assert!(is_acknowledgement(&node.hears().await, name));
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    for call in calls {
        assert!(call.await.expect("ends").is_ok());
    }
}
