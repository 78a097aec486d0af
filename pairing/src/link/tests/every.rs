//! What holds over every pipe, from one source: whole messages in order, limits, ends, streams of bytes, and calls that outlive their link.

use std::future::Future;
use std::time::{Duration, Instant};

use atoll_protocol::calls::{Calls, Effect, NewCall, NodeCalls, Start};
use atoll_protocol::frame::{Invoke, StreamHead};
use atoll_protocol::id::{BlobId, CallId};
use atoll_protocol::json::Json;
use bytes::Bytes;

use super::*;
use crate::identity::Identity;
use crate::link::pipes::{self, Kind, over_every_pipe};
use crate::link::stream::{Chunk, StreamError};

over_every_pipe! {
    messages_arrive_whole_in_order_and_both_ways,
    both_halves_work_at_once,
    a_message_over_the_limit_ends_the_pipe,
    a_raised_limit_holds_from_the_next_message_on,
    a_close_comes_after_what_was_sent_before_with_code_and_reason,
    a_peer_that_just_goes_leaves_1006,
    frames_of_a_later_version_are_skipped_and_broken_ones_end_the_link,
    bytes_arrive_whole_and_either_end_may_open,
    a_receiver_that_has_enough_stops_the_sender,
    a_lost_link_ends_its_streams,
    a_call_outlives_its_link_and_runs_once,
    an_invocation_that_was_lost_with_its_link_is_made_on_the_next_one,
}

/// How long anything may take that is to happen.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens soon")
}

async fn pair(kind: Kind) -> (Pipe, Pipe) {
    soon(pipes::pair(kind, &Identity::from_seed(&[1; 32]))).await
}

async fn links(kind: Kind) -> (Link, Link) {
    let (near, far) = pair(kind).await;
    (Link::new(near, Codec::Native), Link::new(far, Codec::Native))
}

async fn messages_arrive_whole_in_order_and_both_ways(kind: Kind) {
    let (mut gateway, mut client) = pair(kind).await;
    for size in [0, 1, 125, 126, 65_535, 65_536] {
        let message = Message::Binary(vec![7; size]);
        let (sent, received) = soon(async { tokio::join!(client.send(message.clone()), gateway.recv()) }).await;
        sent.unwrap();
        assert_eq!(received.unwrap(), message);
        let (sent, received) = soon(async { tokio::join!(gateway.send(message.clone()), client.recv()) }).await;
        sent.unwrap();
        assert_eq!(received.unwrap(), message);
    }
}

async fn both_halves_work_at_once(kind: Kind) {
    const COUNT: u32 = 2_000;
    async fn say(tx: &mut PipeTx) {
        for number in 0..COUNT {
            tx.send(Message::Binary(number.to_be_bytes().to_vec())).await.unwrap();
        }
    }
    async fn hear(rx: &mut PipeRx) {
        for number in 0..COUNT {
            let expected = Message::Binary(number.to_be_bytes().to_vec());
            assert_eq!(rx.recv().await.unwrap(), expected);
        }
    }
    let (mut near, mut far) = pair(kind).await;
    soon(async {
        tokio::join!(
            say(&mut near.tx),
            say(&mut far.tx),
            hear(&mut near.rx),
            hear(&mut far.rx)
        )
    })
    .await;
}

async fn a_message_over_the_limit_ends_the_pipe(kind: Kind) {
    let (mut gateway, mut client) = pair(kind).await;
    gateway.set_limit(limits::PRE_AUTH_FRAME);
    // It may be hung up on while it still sends.
    let sending = client.send(Message::Binary(vec![0; limits::PRE_AUTH_FRAME + 1]));
    let (_, received) = soon(async { tokio::join!(sending, gateway.recv()) }).await;
    assert!(matches!(received, Err(LinkError::TooLarge)), "{received:?}");
}

async fn a_raised_limit_holds_from_the_next_message_on(kind: Kind) {
    let (mut gateway, mut client) = pair(kind).await;
    gateway.set_limit(limits::NATIVE_FRAME);
    gateway.rx.admit();
    let message = Message::Binary(vec![1; limits::NATIVE_FRAME]);
    let (sent, received) = soon(async { tokio::join!(client.send(message.clone()), gateway.recv()) }).await;
    sent.unwrap();
    assert_eq!(received.unwrap(), message);
}

async fn a_close_comes_after_what_was_sent_before_with_code_and_reason(kind: Kind) {
    let (mut gateway, mut client) = pair(kind).await;
    let message = Message::Binary(b"last words".to_vec());
    gateway.send(message.clone()).await.unwrap();
    let closing = tokio::spawn(gateway.close(4001, "device removed"));
    assert_eq!(soon(client.recv()).await.unwrap(), message);
    let error = soon(client.recv()).await.unwrap_err();
    assert!(
        matches!(&error, LinkError::Closed { code: 4001, reason } if reason == "device removed"),
        "{error}"
    );
    drop(client);
    soon(closing).await.unwrap();
}

async fn a_peer_that_just_goes_leaves_1006(kind: Kind) {
    let (mut gateway, client) = pair(kind).await;
    drop(client);
    assert_eq!(soon(gateway.recv()).await.unwrap_err().code(), Some(1006));
}

async fn frames_of_a_later_version_are_skipped_and_broken_ones_end_the_link(kind: Kind) {
    let (near, mut far) = pair(kind).await;
    let mut link = Link::new(near, Codec::Native);
    for bytes in [vec![250, 1, 2, 3], Frame::Ping(7).encode().unwrap(), vec![17, 0xff]] {
        far.send(Message::Binary(bytes)).await.unwrap();
    }
    assert!(matches!(
        soon(link.recv()).await.unwrap(),
        Received::Frame(Frame::Ping(7))
    ));
    let broken = soon(link.recv()).await;
    assert!(matches!(broken, Err(LinkError::Frame(_))), "{broken:?}");
}

fn head() -> StreamHead {
    StreamHead::Fetch {
        blob: BlobId::new("b").unwrap(),
        offset: 0,
    }
}

fn pattern(len: usize) -> Bytes {
    (0..len).map(|place| u8::try_from(place % 251).unwrap()).collect()
}

/// Keeps a link going for its streams.
fn run(mut link: Link) -> (stream::Streams, stream::Incoming, tokio::task::JoinHandle<()>) {
    let (streams, incoming) = link.take_streams().expect("native");
    let (mut tx, mut rx) = link.split();
    let task = tokio::spawn(async move {
        let writing = async {
            loop {
                tx.streams_due().await;
                if tx.feed_streams().await.is_err() || tx.flush().await.is_err() {
                    return;
                }
            }
        };
        let reading = async { while rx.recv().await.is_ok() {} };
        tokio::select! { () = writing => {}, () = reading => {} }
    });
    (streams, incoming, task)
}

async fn bytes_arrive_whole_and_either_end_may_open(kind: Kind) {
    let (near, far) = links(kind).await;
    let ((near, mut near_in, _near), (far, mut far_in, _far)) = (run(near), run(far));
    for size in [0, 1, limits::STREAM_CHUNK, 3_000_000] {
        for (opener, incoming) in [(&near, &mut far_in), (&far, &mut near_in)] {
            let mut rx = soon(opener.open(head())).await.unwrap();
            let (asked, mut tx) = soon(incoming.accept()).await.unwrap();
            assert_eq!(asked, head());
            let sending = async move {
                tx.send(pattern(size)).await.unwrap();
                tx.finish(Bytes::from_static(b"sum")).await.unwrap();
            };
            let receiving = async {
                let mut bytes = Vec::new();
                loop {
                    match rx.recv().await.unwrap() {
                        Chunk::Data(part) | Chunk::Key(part) => bytes.extend_from_slice(&part),
                        Chunk::End(trailer) => return (bytes, trailer),
                    }
                }
            };
            let ((), (bytes, trailer)) = soon(async { tokio::join!(sending, receiving) }).await;
            assert!(bytes == pattern(size) && trailer == "sum", "{size}");
        }
    }
}

async fn a_receiver_that_has_enough_stops_the_sender(kind: Kind) {
    let (near, far) = links(kind).await;
    let ((near, _near_in, _near), (_far, mut far_in, _other)) = (run(near), run(far));
    let mut rx = soon(near.open(head())).await.unwrap();
    let (_, mut tx) = soon(far_in.accept()).await.unwrap();
    tx.send(pattern(10)).await.unwrap();
    assert_eq!(soon(rx.recv()).await, Ok(Chunk::Data(pattern(10))));
    drop(rx);
    soon(tx.abandoned()).await;
    assert_eq!(tx.send(pattern(1)).await, Err(StreamError::Abandoned));
}

async fn a_lost_link_ends_its_streams(kind: Kind) {
    let (near, far) = links(kind).await;
    let ((near, _near_in, _near), (_far, mut far_in, other)) = (run(near), run(far));
    let mut rx = soon(near.open(head())).await.unwrap();
    let (_, mut tx) = soon(far_in.accept()).await.unwrap();
    tx.send(pattern(3)).await.unwrap();
    assert_eq!(soon(rx.recv()).await, Ok(Chunk::Data(pattern(3))));
    other.abort();
    assert_eq!(soon(rx.recv()).await, Err(StreamError::Lost));
    assert!(matches!(soon(near.open(head())).await, Err(StreamError::Lost)));
    assert_eq!(soon(tx.send(pattern(1))).await, Err(StreamError::Lost));
}

const NODE: DeviceId = DeviceId::from_digest([7; 32]);

/// The call tables of both ends, which outlive links, on one link after the other.
#[derive(Default)]
struct Ring {
    gateway: Calls<()>,
    node: NodeCalls,
    generation: u64,
    started: Vec<CallId>,
    ended: Vec<(CallId, Result<Option<Json>, atoll_protocol::calls::Failure>)>,
}

impl Ring {
    fn open(&mut self, call: &str) -> Vec<Effect<()>> {
        let now = Instant::now();
        let invoke = Invoke {
            call: CallId::new(call).unwrap(),
            node: NODE,
            command: "system.run".into(),
            params: None,
            timeout_ms: 0,
            idempotency_key: None,
            plan: None,
        };
        let new = NewCall {
            invoke,
            deadline: now + PATIENCE,
            wait_until: Some(now + PATIENCE),
            idempotent: false,
            memory: None,
        };
        self.gateway.open(new, (), now).unwrap()
    }

    /// A new link: the node says what it knows, and offers what it has.
    async fn greet(&mut self, gateway: &mut Link, node: &mut Link) {
        self.generation += 1;
        node.send(&Frame::Resume(self.node.resume("boot"))).await.unwrap();
        for outcome in self.node.outcomes_to_offer() {
            node.send(&Frame::Outcome(outcome)).await.unwrap();
        }
        let Received::Frame(Frame::Resume(resume)) = soon(gateway.recv()).await.unwrap() else {
            panic!("the node says first what it knows");
        };
        let effects = self
            .gateway
            .handle_link_up(NODE, self.generation, Some(&resume), Instant::now());
        self.carry_out(effects, gateway).await;
    }

    async fn carry_out(&mut self, effects: Vec<Effect<()>>, gateway: &mut Link) {
        for effect in effects {
            match effect {
                Effect::Send { frame, .. } => gateway.send(&frame).await.unwrap(),
                Effect::Acknowledge { acknowledge, .. } => {
                    gateway.send(&Frame::Acknowledge(acknowledge)).await.unwrap();
                }
                Effect::Deliver { call, result, .. } => self.ended.push((call, result)),
                Effect::Progress { .. } => {}
            }
        }
    }

    /// What the node hears next.
    async fn node_hears(&mut self, node: &mut Link) {
        let now = Instant::now();
        match soon(node.recv()).await.unwrap() {
            Received::Frame(Frame::Invoke(invoke)) => {
                if self.node.start(&invoke.call, now) == Start::Run {
                    self.started.push(invoke.call);
                }
            }
            Received::Frame(Frame::Acknowledge(acknowledge)) => self.node.acknowledge(&acknowledge.call, now),
            other @ (Received::Frame(_) | Received::Reject(_)) => panic!("{other:?}"),
        }
    }

    async fn gateway_hears(&mut self, gateway: &mut Link) {
        let Received::Frame(Frame::Outcome(outcome)) = soon(gateway.recv()).await.unwrap() else {
            panic!("an outcome");
        };
        let effects = self.gateway.handle_outcome(NODE, self.generation, outcome);
        self.carry_out(effects, gateway).await;
    }

    fn lose(&mut self, links: (Link, Link)) {
        drop(links);
        self.gateway.handle_link_down(NODE, self.generation, Instant::now());
    }
}

async fn a_call_outlives_its_link_and_runs_once(kind: Kind) {
    let (mut ring, call) = (Ring::default(), CallId::new("c1").unwrap());
    let (mut gateway, mut node) = links(kind).await;
    ring.greet(&mut gateway, &mut node).await;
    let effects = ring.open("c1");
    ring.carry_out(effects, &mut gateway).await;
    ring.node_hears(&mut node).await;
    assert_eq!(ring.started, std::slice::from_ref(&call));
    ring.lose((gateway, node));

    // It ends while there is no link, is offered on the next one, and again until the gateway has said that it has it.
    let outcome = ring.node.finish(&call, Ok(None), Instant::now());
    assert!(outcome.is_some());
    let (mut gateway, mut node) = links(kind).await;
    ring.greet(&mut gateway, &mut node).await;
    ring.lose((gateway, node));
    assert_eq!(ring.ended, []);
    let (mut gateway, mut node) = links(kind).await;
    ring.greet(&mut gateway, &mut node).await;
    ring.gateway_hears(&mut gateway).await;
    ring.node_hears(&mut node).await;
    assert_eq!(ring.ended, [(call.clone(), Ok(None))]);
    assert_eq!(ring.node.outcomes_to_offer(), []);
    assert_eq!((ring.started, ring.gateway.len()), (vec![call], 0));
}

async fn an_invocation_that_was_lost_with_its_link_is_made_on_the_next_one(kind: Kind) {
    let (mut ring, call) = (Ring::default(), CallId::new("c1").unwrap());
    let (mut gateway, mut node) = links(kind).await;
    ring.greet(&mut gateway, &mut node).await;
    let effects = ring.open("c1");
    ring.carry_out(effects, &mut gateway).await;
    // Nobody has read it.
    ring.lose((gateway, node));
    let (mut gateway, mut node) = links(kind).await;
    ring.greet(&mut gateway, &mut node).await;
    ring.node_hears(&mut node).await;
    assert_eq!(ring.started, std::slice::from_ref(&call));
    let outcome = ring.node.finish(&call, Ok(None), Instant::now()).unwrap();
    node.send(&Frame::Outcome(outcome)).await.unwrap();
    ring.gateway_hears(&mut gateway).await;
    ring.node_hears(&mut node).await;
    assert_eq!(ring.ended, [(call, Ok(None))]);
}
