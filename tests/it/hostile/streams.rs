//! Streams of bytes and of QUIC: beyond the window, without a header, too many, never ended; blobs that are not what was announced.

use atoll_pairing::blob::hash;
use atoll_protocol::frame::{ChunkKind, Frame, StreamChunk, StreamHead, StreamOpen, StreamWindow};
use atoll_protocol::id::BlobId;
use atoll_protocol::limits;
use atoll_tests::hostile::{Credit, HostileNode};
use atoll_tests::mesh::{Mesh, Pipe, TOKEN};
use atoll_tests::wait::{until, within};
use atoll_tests::wire::Wire;
use bytes::Bytes;
use reqwest::Client;
use serde_json::{Value, json};

use super::{Arena, COST, MIB, answer, ask, invoke, over_networks};

over_networks! {
    words_about_streams_that_are_not_open_close_the_link,
    more_than_the_window_holds_closes_the_link,
    more_credit_than_the_window_holds_closes_the_link,
    more_streams_than_may_be_open_close_the_link,
    a_blob_that_is_not_what_was_announced_is_an_error_and_is_not_kept,
    a_stream_of_nothing_to_somebody_who_does_not_read_takes_bounded_room,
}

const COMMAND: &str = "device.status";

pub(super) fn chunk(stream: u64, kind: ChunkKind, bytes: impl Into<Bytes>) -> Frame {
    Frame::StreamChunk(StreamChunk {
        stream,
        kind,
        bytes: bytes.into(),
    })
}

pub(super) fn open(stream: u64, blob: &str) -> Frame {
    Frame::StreamOpen(StreamOpen {
        stream,
        head: StreamHead::Fetch {
            blob: BlobId::new(blob).expect("a name"),
            offset: 0,
        },
    })
}

pub(super) fn window(stream: u64, bytes: u64) -> Frame {
    Frame::StreamWindow(StreamWindow { stream, bytes })
}

/// The stream that the other end opens next.
async fn opened(node: &mut HostileNode) -> StreamOpen {
    let wanted = |frame| {
        if let Frame::StreamOpen(open) = frame {
            Some(open)
        } else {
            None
        }
    };
    node.line.wait_for("a stream to be opened", wanted).await
}

async fn words_about_streams_that_are_not_open_close_the_link(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let first = arena.intruder().await;
    let words = [
        vec![chunk(0, ChunkKind::Data, vec![0; 10])],
        vec![chunk(u64::MAX, ChunkKind::End, vec![])],
        vec![window(0, 1)],
        vec![Frame::StreamAbandoned(7)],
        vec![open(3, "a"), open(3, "a")],
        vec![open(u64::MAX, "a"), open(u64::MAX, "a")],
    ];
    for words in words {
        let attack = async {
            let mut node = first.again().await;
            for word in &words {
                node.line.say(word).await;
            }
            node.line.closed().await
        };
        let closed = arena.under(attack).await;
        assert_eq!(closed.code, Some(1008), "{words:?}: {closed:?}");
        assert!(!closed.reason.is_empty(), "{words:?}");
    }
    arena.said("misused streams").await;
    arena.has_grown_by_less_than(COST);
}

/// A call whose result names a blob, up to where the gateway asks for the bytes.
async fn offered(operator: &mut Wire, node: &mut HostileNode, blob: Value) -> (String, String, StreamOpen) {
    let mut request = invoke(&node.id(), COMMAND, json!({}));
    request["blobs"] = json!("handles");
    let asked = operator.ask("node.invoke", request).await;
    let invoke = node.invoked().await;
    node.answer(&invoke.call, &json!({"blob": blob})).await;
    let call = invoke.call.to_string();
    (asked, call, opened(node).await)
}

async fn more_than_the_window_holds_closes_the_link(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let mut node = arena.intruder().await;
    let mut operator = arena.mesh.operator().await;
    let attack = async {
        // Whoever wanted it has gone, so nothing makes room any more.
        let blob = json!({"id": "b", "size": 64 * MIB});
        let (_, call, stream) = offered(&mut operator, &mut node, blob).await;
        let cancel = json!({"callId": call});
        drop(operator.call("node.invoke.cancel", cancel).await);
        drop(operator);
        let abandoned = |frame| matches!(frame, Frame::StreamAbandoned(_)).then_some(());
        node.line.wait_for("nobody to want it", abandoned).await;
        for _ in 0..=limits::STREAM_WINDOW / limits::STREAM_CHUNK as u64 {
            let bytes = vec![0; limits::STREAM_CHUNK];
            node.line.say(&chunk(stream.stream, ChunkKind::Data, bytes)).await;
        }
        node.line.closed().await
    };
    let closed = arena.under(attack).await;
    assert_eq!(closed.code, Some(1008), "{closed:?}");
    assert!(closed.reason.contains("window"), "{closed:?}");
    arena.has_grown_by_less_than(COST);
}

/// A blob in the store.
async fn put(mesh: &Mesh, bytes: usize) -> String {
    let request = Client::new()
        .put(format!("{}/media", mesh.target().http()))
        .bearer_auth(TOKEN);
    let response = request.body(vec![7; bytes]).send().await.expect("an answer");
    let answer: Value = response.json().await.expect("JSON");
    answer["id"].as_str().expect("a handle").to_owned()
}

/// Gives a node a call with a blob; gives the node's name for it.
async fn given(operator: &mut Wire, node: &mut HostileNode, blob: &str) -> String {
    let handle = json!({"id": blob});
    ask(operator, node, COMMAND, json!({"blob": handle})).await;
    let invoke = node.invoked().await;
    let params = invoke.params.expect("parameters").tree();
    params["blob"]["id"].as_str().expect("a handle").to_owned()
}

async fn more_credit_than_the_window_holds_closes_the_link(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let blob = put(&arena.mesh, 4 << 20).await;
    let first = arena.intruder().await;
    let mut operator = arena.mesh.operator().await;
    for credit in [limits::STREAM_WINDOW + 1, u64::MAX] {
        let attack = async {
            let mut node = first.again().await;
            node.line
                .say(&Frame::Resume(atoll_protocol::frame::Resume::default()))
                .await;
            let name = given(&mut operator, &mut node, &blob).await;
            node.line.say(&open(0, &name)).await;
            node.line.say(&window(0, credit)).await;
            node.line.closed().await
        };
        let closed = arena.under(attack).await;
        assert_eq!(closed.code, Some(1008), "{credit}: {closed:?}");
        assert!(closed.reason.contains("room"), "{closed:?}");
    }
    arena.has_grown_by_less_than(COST);
}

async fn more_streams_than_may_be_open_close_the_link(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let blob = put(&arena.mesh, 4 << 20).await;
    let mut node = arena.intruder().await;
    let mut operator = arena.mesh.operator().await;
    let attack = async {
        let name = given(&mut operator, &mut node, &blob).await;
        for stream in 0..=limits::STREAMS as u64 {
            // Each of them waits for credit that never comes.
            node.line.say(&open(stream, &name)).await;
        }
        node.line.closed().await
    };
    let closed = arena.under(attack).await;
    assert_eq!(closed.code, Some(1008), "{closed:?}");
    assert!(closed.reason.contains("too many"), "{closed:?}");
    // A window and a piece of the file each.
    arena.has_grown_by_less_than(limits::STREAMS as u64 * 2 * limits::STREAM_WINDOW + COST);
}

async fn a_blob_that_is_not_what_was_announced_is_an_error_and_is_not_kept(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let mut node = arena.intruder().await;
    let mut operator = arena.mesh.operator().await;
    let right = vec![1; 1000];
    let other = hash(b"something else");
    let attack = async {
        for (bytes, trailer, why) in [
            (vec![1; 1001], hash(&[1; 1001]).to_vec(), "1001 bytes came"),
            (vec![1; 999], hash(&[1; 999]).to_vec(), "999 bytes came"),
            (right.clone(), other.to_vec(), "not those that were sent"),
            (right.clone(), vec![], "not those that were sent"),
        ] {
            let blob = json!({"id": "b", "size": 1000, "name": "../../x", "mime": "text/html"});
            let (asked, _, stream) = offered(&mut operator, &mut node, blob).await;
            node.line.say(&chunk(stream.stream, ChunkKind::Data, bytes)).await;
            node.line.say(&chunk(stream.stream, ChunkKind::End, trailer)).await;
            let error = answer(&mut operator, &asked).await.expect_err("no blob");
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(node.line.answers().await);
    };
    arena.under(attack).await;
    let kept = std::fs::read_dir(arena.mesh.state().join("media")).expect("a store");
    let files: Vec<_> = kept.flatten().filter(|entry| entry.path().is_file()).collect();
    assert!(files.is_empty(), "{files:?}");
    until("what was half there to be cleared away", async || {
        let mut coming = std::fs::read_dir(arena.mesh.state().join("media/coming")).ok()?;
        coming.next().is_none().then_some(())
    })
    .await;
    arena.has_grown_by_less_than(COST);
}

async fn a_stream_of_nothing_to_somebody_who_does_not_read_takes_bounded_room(pipe: Pipe) {
    const CHUNKS: u64 = 50_000;
    let mut arena = Arena::new(pipe).await;
    let mut node = arena.intruder().await;
    let mut operator = arena.mesh.operator().await;
    let url = arena.mesh.target().http();
    let attack = async {
        let mut request = invoke(&node.id(), COMMAND, json!({}));
        request["blobs"] = json!("handles");
        let asked = operator.ask("node.invoke", request).await;
        let called = node.invoked().await;
        let live = json!({"blob": {"id": "cam", "kind": "stream", "mime": "video/x-test"}});
        node.answer(&called.call, &live).await;
        let named = answer(&mut operator, &asked).await.expect("a name");
        let id = named["blob"]["id"].as_str().expect("a handle");
        let watching = Client::new().get(format!("{url}/media/{id}")).bearer_auth(TOKEN).send();
        let watching = within("an answer", watching).await.expect("an answer");
        let stream = opened(&mut node).await.stream;
        let mut room = limits::STREAM_WINDOW;
        for number in 0..CHUNKS {
            while room < limits::STREAM_CHUNK_COST {
                let granted = |frame| {
                    if let Frame::StreamWindow(window) = frame {
                        Some(window.bytes)
                    } else {
                        None
                    }
                };
                room += node.line.wait_for("room", granted).await;
            }
            room -= limits::STREAM_CHUNK_COST;
            let bytes = if number % 2 == 0 { vec![] } else { vec![1] };
            assert!(node.line.say(&chunk(stream, ChunkKind::Data, bytes)).await);
        }
        assert!(node.line.answers().await);
        watching
    };
    let watching = arena.under(attack).await;
    // What is kept for those who are a little behind, were each chunk as small as it may be.
    arena.has_grown_by_less_than(COST);
    drop(watching);
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_streams_that_say_nothing_or_half_of_something_hold_up_nothing() {
    let mut arena = Arena::new(Pipe::Quic).await;
    let mut node = arena.intruder().await;
    let connection = node.line.streams().connection.clone();
    let attack = async {
        let mut held = Vec::new();
        // As many as there is credit for, and whoever wants more waits.
        for header in [&[][..], &[0], &[0, 0x0f, 0, 0, 1], &[0x7f]].iter().cycle() {
            let opening = connection.open_bi();
            let Ok(Ok((mut stream, answers))) =
                tokio::time::timeout(std::time::Duration::from_millis(200), opening).await
            else {
                break;
            };
            stream.write_all(header).await.expect("a living link");
            held.push((stream, answers));
        }
        assert!(held.len() > 4 && held.len() < 64, "{}", held.len());
        let mut flows = Vec::new();
        while let Ok(Ok(mut flow)) =
            tokio::time::timeout(std::time::Duration::from_millis(200), connection.open_uni()).await
        {
            flow.write_all(&[0, 0]).await.expect("a living link");
            flows.push(flow);
        }
        assert!(flows.len() < 64, "{}", flows.len());
        assert!(node.line.answers().await);
        (held, flows)
    };
    let held = arena.under(attack).await;
    arena.has_grown_by_less_than(COST);
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_streams_that_are_opened_and_reset_a_thousand_times_are_one_idle_link() {
    let mut arena = Arena::new(Pipe::Quic).await;
    let mut node = arena.intruder().await;
    let connection = node.line.streams().connection.clone();
    let attack = async {
        for _ in 0..2_000 {
            let (mut stream, mut answers) = within("credit", connection.open_bi()).await.expect("a living link");
            let _ = stream.write_all(&[0, 0, 1, 0, 10]).await;
            let _ = stream.reset(quinn::VarInt::MAX);
            let _ = answers.stop(quinn::VarInt::MAX);
        }
        assert!(node.line.answers().await);
    };
    arena.under(attack).await;
    arena.has_grown_by_less_than(COST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_grants_streams_without_end_is_given_no_more_than_ours_get() {
    const CALLS: usize = 6;
    let mut arena = Arena::new(Pipe::Quic).await;
    let mut node = HostileNode::pair_with(&arena.mesh, Pipe::Quic, "intruder", Credit::Endless).await;
    arena.remember();
    let mut operators: Vec<Wire> = Vec::new();
    for _ in 0..CALLS {
        operators.push(arena.mesh.operator().await);
    }
    let connection = node.line.streams().connection.clone();
    let attack = async {
        // Each call is left alone, and so is its stream.
        for operator in &mut operators {
            for _ in 0..limits::OPERATOR_REQUESTS {
                ask(operator, &node, COMMAND, json!({})).await;
            }
        }
        let mut streams = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(std::time::Duration::from_secs(1), connection.accept_bi()).await
        {
            streams.push(stream);
        }
        // The others come on the first stream.
        node.invoked().await;
        streams
    };
    let streams = arena.under(attack).await;
    assert!(streams.len() <= 2 * limits::NODE_CALLS, "{}", streams.len());
    arena.has_grown_by_less_than(COST);
}
