//! A gateway that a node trusts and that turns against it: the node hangs up or shrugs, stays small, comes again at a pace that it chooses,
//! and serves an honest word as before.

use std::collections::BTreeSet;
use std::time::Duration;

use atoll_pairing::blob::hash;
use atoll_protocol::capability::Surface;
use atoll_protocol::frame::{Acknowledge, Admitted, ChunkKind, Event, Frame, Input, Response, Waiting};
use atoll_protocol::id::{BlobId, CallId, PairingId, RequestId};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_tests::hostile::{Admittance, HostileGateway, admitted, outcome};
use atoll_tests::mesh::{Node, Pipe};
use atoll_tests::wait::until;
use serde_json::json;
use tempfile::TempDir;

use super::bombs::bombs;
use super::streams::{chunk, open, window};
use super::{COST, MIB, over_networks};

over_networks! {
    a_node_hangs_up_on_bytes_that_are_no_frames_and_comes_again,
    a_node_hangs_up_on_frames_that_list_without_end,
    a_node_shrugs_at_what_no_gateway_says,
    a_node_closes_a_link_whose_streams_are_misused,
    a_file_that_is_not_what_was_announced_is_not_written,
    a_thousand_calls_are_refused_or_run_and_none_twice,
    a_node_whose_gateway_does_not_read_keeps_its_results_and_stays_small,
    a_node_does_not_write_down_every_word_of_a_gateway_that_keeps_it_waiting,
    odd_numbers_in_the_admission_break_nothing,
}

/// A node and the gateway that it trusts.
struct Prey {
    gateway: HostileGateway,
    node: Node,
    /// A folder of the node that its gateway may write to.
    open: TempDir,
    before: u64,
}

impl Prey {
    async fn new(pipe: Pipe) -> (Self, Admittance) {
        let gateway = HostileGateway::listen(pipe).await;
        let mut node = Node::prepare(&gateway.target(), "prey", &[]).over(pipe);
        node.consent(&json!({"version": 1, "defaults": {"security": "full", "ask": "off"}}));
        let open = tempfile::tempdir().expect("a folder");
        node.open_folder(open.path());
        node.run();
        let mut link = gateway.admit().await;
        honest(&mut link, "warm").await;
        let mut prey = Self {
            gateway,
            node,
            open,
            before: 0,
        };
        prey.remember();
        (prey, link)
    }

    fn remember(&mut self) {
        let program = self.node.program();
        program.forget_peak();
        self.before = program.resident();
    }

    /// The node comes again by itself and serves.
    async fn again(&self) -> Admittance {
        let mut link = self.gateway.admit().await;
        honest(&mut link, &uuid::Uuid::new_v4().to_string()).await;
        link
    }

    fn has_grown_by_less_than(&mut self, most: u64) {
        let before = self.before;
        let program = self.node.program();
        let grown = program.peak().saturating_sub(before);
        println!("grown by {} KiB of {} KiB", grown / 1024, most / 1024);
        assert!(grown < most, "from {before} by {grown} bytes, more than {most}");
        assert!(!program.log().contains("panicked"), "something panicked");
    }
}

/// One call as honest gateways make them.
async fn honest(link: &mut Admittance, call: &str) {
    let outcome = link.call(call, "system.which", json!({"bins": ["sh"]}).into()).await;
    assert!(outcome.result.is_ok(), "{outcome:?}");
}

fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn call(name: impl ToString) -> CallId {
    CallId::new(name.to_string()).expect("a name")
}

async fn a_node_hangs_up_on_bytes_that_are_no_frames_and_comes_again(pipe: Pipe) {
    let (mut prey, mut link) = Prey::new(pipe).await;
    for len in [limits::NATIVE_FRAME as u64 + 1, (1 << 31) - 1, 1 << 62] {
        link.line.begin(len, &[0; 1000]).await;
        let closed = link.line.closed().await;
        assert_eq!(closed.code, Some(1009), "{len}: {closed:?}");
        link = prey.again().await;
    }
    link.line.say_bytes(&[10]).await;
    link.line.closed().await;
    prey.node.program().line("a broken frame of kind 10").await;
    prey.again().await;
    prey.has_grown_by_less_than(COST);
}

async fn a_node_hangs_up_on_frames_that_list_without_end(pipe: Pipe) {
    let (mut prey, mut link) = Prey::new(pipe).await;
    for bomb in bombs().into_iter().take(2) {
        for _ in 0..4 {
            link.line.say(&bomb).await;
        }
        link.line.closed().await;
        link = prey.again().await;
        prey.has_grown_by_less_than(COST);
    }
}

fn shrugs() -> Vec<Frame> {
    vec![
        Frame::Cancel(call("nobody's")),
        Frame::Acknowledge(Acknowledge {
            call: call("nobody's"),
            receipt: None,
            ignored: true,
        }),
        Frame::Input(Input {
            call: call("nobody's"),
            seq: u64::MAX,
            payload: json("{}"),
        }),
        Frame::BlobDone(BlobId::new("nobody's").expect("a name")),
        Frame::Clock(u64::MAX),
        Frame::Response(Response {
            id: RequestId::new("nobody's").expect("a name"),
            result: Ok(json("[]")),
        }),
        Frame::Event(Event {
            name: "tick".repeat(1000),
            payload: json("null"),
            seq: Some(u64::MAX),
            state: None,
        }),
        Frame::Waiting(Waiting {
            request: PairingId::new("r").expect("a name"),
            reason: "late".to_owned(),
        }),
        Frame::Admitted(admitted()),
        Frame::Granted(Surface::default()),
        outcome(&call("nobody's"), Ok(None)),
        open(0, "nobody's"),
    ]
}

async fn a_node_shrugs_at_what_no_gateway_says(pipe: Pipe) {
    let (mut prey, mut link) = Prey::new(pipe).await;
    for round in 0..50_u64 {
        for frame in shrugs() {
            let frame = if matches!(frame, Frame::StreamOpen(_)) {
                open(round, "nobody's")
            } else {
                frame
            };
            assert!(link.line.say(&frame).await);
        }
        assert!(link.line.answers().await);
    }
    honest(&mut link, "after").await;
    prey.has_grown_by_less_than(COST);
}

async fn a_node_closes_a_link_whose_streams_are_misused(pipe: Pipe) {
    let (mut prey, mut link) = Prey::new(pipe).await;
    for words in [
        vec![chunk(0, ChunkKind::Data, vec![0; 10])],
        vec![window(9, u64::MAX)],
        vec![open(u64::MAX, "a"), open(u64::MAX, "a")],
    ] {
        for word in &words {
            link.line.say(word).await;
        }
        let closed = link.line.closed().await;
        assert_eq!(closed.code, Some(1008), "{words:?}: {closed:?}");
        link = prey.again().await;
    }
    prey.node.program().line("misused streams").await;
    prey.has_grown_by_less_than(COST);
}

async fn a_file_that_is_not_what_was_announced_is_not_written(pipe: Pipe) {
    let (mut prey, mut link) = Prey::new(pipe).await;
    let path = prey.open.path().join("file").display().to_string();
    let right = hash(&[1; 1000]);
    let tries = [
        (vec![1; 1001], hash(&[1; 1001]), false),
        (vec![1; 999], hash(&[1; 999]), false),
        (vec![2; 1000], right, false),
        (vec![1; 1000], right, true),
    ];
    for (number, (bytes, trailer, is_written)) in tries.into_iter().enumerate() {
        let name = format!("write {number}");
        let params = json!({"path": path, "blob": {"id": name, "size": 1000}});
        assert!(link.line.say(&link.invoke(&name, "file.write", params.into())).await);
        let asked = |frame| {
            if let Frame::StreamOpen(open) = frame {
                Some(open.stream)
            } else {
                None
            }
        };
        let stream = link.line.wait_for("the bytes to be asked for", asked).await;
        link.line.say(&chunk(stream, ChunkKind::Data, bytes)).await;
        link.line.say(&chunk(stream, ChunkKind::End, trailer.to_vec())).await;
        let ended = link.ended(&name).await;
        assert_eq!(ended.result.is_ok(), is_written, "{ended:?}");
        let left = std::fs::read_dir(prey.open.path()).expect("a folder").count();
        assert_eq!(left, usize::from(is_written), "nor half of it");
    }
    assert_eq!(std::fs::read(&path).expect("written"), [1; 1000]);
    prey.has_grown_by_less_than(COST);
}

async fn a_thousand_calls_are_refused_or_run_and_none_twice(pipe: Pipe) {
    const CALLS: usize = 1_000;
    /// Of those, with as many words as fit.
    const MANY: usize = 40;
    let (mut prey, mut link) = Prey::new(pipe).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mark = folder.path().join("ran").display().to_string();
    let script = format!("echo ran >> {mark}; sleep 1");
    let params: Json = json!({"command": ["sh", "-c", script], "timeoutMs": 5_000}).into();
    for _ in 0..3 {
        assert!(link.line.say(&link.invoke("same", "system.run", params.clone())).await);
    }
    let few: Json = json!({"bins": ["a"]}).into();
    let many: Json = json!({"bins": vec!["a"; limits::NATIVE_FRAME / 5]}).into();
    for number in 0..CALLS {
        let command = if number % 2 == 0 {
            "system.which"
        } else {
            "no.such.command"
        };
        let params = if number < MANY { &many } else { &few };
        assert!(
            link.line
                .say(&link.invoke(&format!("c{number}"), command, params.clone()))
                .await
        );
    }
    assert!(link.ended("same").await.result.is_ok());
    // It is over and unacknowledged, and still known.
    assert!(link.line.say(&link.invoke("same", "system.run", params)).await);
    let mut tries = 0;
    while let Err(busy) = link
        .call(&format!("after {tries}"), "system.which", few.clone())
        .await
        .result
    {
        assert_eq!(busy.code, "BUSY");
        tries += 1;
    }
    let runs = std::fs::read_to_string(&mark).expect("it ran").lines().count();
    assert_eq!(runs, 1);
    prey.has_grown_by_less_than(limits::NODE_CALLS as u64 * MIB + COST);
}

async fn a_node_whose_gateway_does_not_read_keeps_its_results_and_stays_small(pipe: Pipe) {
    const CALLS: usize = 20;
    let (mut prey, mut link) = Prey::new(pipe).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mark = folder.path().join("ran");
    let script = format!("head -c 190000 /dev/zero | tr '\\0' x; echo ran >> {}", mark.display());
    let params: Json = json!({"command": ["sh", "-c", script], "timeoutMs": 15_000}).into();
    for number in 0..CALLS {
        let mut invoke = link.invoke(&format!("c{number}"), "system.run", params.clone());
        if let Frame::Invoke(invoke) = &mut invoke {
            invoke.timeout_ms = 20_000;
        }
        assert!(link.line.say(&invoke).await);
    }
    // Nothing is read here meanwhile.
    until("all of them to run", async || {
        let ran = std::fs::read_to_string(&mark).unwrap_or_default();
        (ran.lines().count() == CALLS).then_some(())
    })
    .await;
    drop(link);
    let mut link = prey.gateway.admit().await;
    let mut left: BTreeSet<String> = (0..CALLS).map(|number| format!("c{number}")).collect();
    while !left.is_empty() {
        let ended = |frame| {
            if let Frame::Outcome(outcome) = frame {
                Some(outcome)
            } else {
                None
            }
        };
        let outcome = link.line.wait_for("the end of a call", ended).await;
        assert!(outcome.result.is_ok(), "{outcome:?}");
        left.remove(outcome.call.as_str());
    }
    prey.has_grown_by_less_than(limits::NODE_RESULT_BYTES as u64 + COST);
}

async fn a_node_does_not_write_down_every_word_of_a_gateway_that_keeps_it_waiting(pipe: Pipe) {
    const WORDS: usize = 600;
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    let gateway = HostileGateway::listen(pipe).await;
    let mut node = Node::prepare(&gateway.target(), "prey", &[]).over(pipe);
    node.run();
    let mut guest = gateway.greet().await;
    node.program().forget_peak();
    let before = node.program().resident();
    for number in 0..WORDS {
        let waiting = Frame::Waiting(Waiting {
            request: PairingId::new(format!("{number}")).expect("a name"),
            reason: "not-paired".to_owned(),
        });
        assert!(guest.line.say(&waiting).await);
        pace.tick().await;
    }
    let mut link = guest.admit(&admitted()).await;
    honest(&mut link, "after").await;
    assert!(node.program().peak() < before + COST);
    let written = node.program().log().lines().count();
    assert!(written < 100, "{written} lines");
}

async fn odd_numbers_in_the_admission_break_nothing(pipe: Pipe) {
    let (mut prey, mut link) = Prey::new(pipe).await;
    for (tick_ms, generation) in [(0, 0), (u64::MAX, u64::MAX), (u64::MAX / 2, 1)] {
        link.line.begin(4, &[]).await;
        drop(link);
        let odd = Admitted {
            tick_ms,
            generation,
            connection: "x".repeat(10_000),
            ..admitted()
        };
        link = prey.gateway.greet().await.admit(&odd).await;
        let name = format!("long {tick_ms}");
        let mut timed = link.invoke(&name, "system.which", json!({"bins": ["sh"]}).into());
        if let Frame::Invoke(invoke) = &mut timed {
            invoke.timeout_ms = u64::MAX;
        }
        assert!(link.line.say(&timed).await);
        assert!(link.ended(&name).await.result.is_ok());
    }
    prey.has_grown_by_less_than(COST);
}
