//! Streams over a memory link: what arrives, who waits, and what a peer gets that breaks the rules.

use atoll_protocol::error::WireError;
use atoll_protocol::frame::{ChunkKind, Frame, StreamChunk, StreamHead, StreamOpen, StreamWindow};
use atoll_protocol::id::BlobId;
use atoll_protocol::limits;
use bytes::Bytes;
use tokio::time::{Duration, timeout};

use super::*;
use crate::link::{Codec, Facts, Link, LinkError, LinkRx, LinkTx, Message, Pipe, memory};

fn head() -> StreamHead {
    StreamHead::Fetch {
        blob: BlobId::new("b").unwrap(),
        offset: 0,
    }
}

/// Carries what the streams say, as the writers of both programs do.
async fn write(mut tx: LinkTx) -> LinkError {
    loop {
        tx.streams_due().await;
        if let Err(error) = tx.feed_streams().await {
            return error;
        }
        if let Err(error) = tx.flush().await {
            return error;
        }
    }
}

async fn read(mut rx: LinkRx) -> LinkError {
    loop {
        if let Err(error) = rx.recv().await {
            return error;
        }
    }
}

fn run(mut link: Link) -> (Streams, Incoming) {
    let streams = link.take_streams().expect("native");
    let (tx, rx) = link.split();
    tokio::spawn(async move {
        tokio::select! { _ = write(tx) => (), _ = read(rx) => () }
    });
    streams
}

fn pipes() -> (Pipe, Pipe) {
    memory::pair(Facts::default())
}

fn pair() -> ((Streams, Incoming), (Streams, Incoming)) {
    let (near, far) = pipes();
    (run(Link::new(near, Codec::Native)), run(Link::new(far, Codec::Native)))
}

/// Everything up to the end: the bytes, the trailer.
async fn whole(rx: &mut StreamRx) -> Result<(Vec<u8>, Bytes), StreamError> {
    let mut bytes = Vec::new();
    loop {
        match rx.recv().await? {
            Chunk::Data(part) | Chunk::Key(part) => bytes.extend_from_slice(&part),
            Chunk::End(trailer) => return Ok((bytes, trailer)),
        }
    }
}

fn pattern(len: usize) -> Bytes {
    (0..len).map(|place| u8::try_from(place % 251).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn bytes_arrive_whole_and_both_ends_may_open() {
    let ((near, mut near_in), (far, mut far_in)) = pair();
    let sizes = [0, 1, limits::STREAM_CHUNK, 3_000_000];
    for size in sizes {
        for (opener, incoming) in [(&near, &mut far_in), (&far, &mut near_in)] {
            let mut rx = opener.open(head()).await.unwrap();
            let (asked, mut tx) = incoming.accept().await.unwrap();
            assert_eq!(asked, head());
            let sending = tokio::spawn(async move {
                tx.send(pattern(size)).await.unwrap();
                tx.finish(Bytes::from_static(b"sum")).await.unwrap();
            });
            let (bytes, trailer) = whole(&mut rx).await.unwrap();
            sending.await.unwrap();
            assert!(bytes == pattern(size) && trailer == "sum", "{size}");
            assert_eq!(rx.recv().await, Err(StreamError::Over));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_waits_for_a_receiver_that_takes_nothing_and_others_do_not() {
    let ((near, _near_in), (_far, mut far_in)) = pair();
    let mut slow = near.open(head()).await.unwrap();
    let (_, mut tx) = far_in.accept().await.unwrap();
    let mut sent = 0;
    let part = pattern(limits::STREAM_CHUNK);
    while timeout(Duration::from_secs(1), tx.send(part.clone())).await.is_ok() {
        sent += part.len();
    }
    let window = usize::try_from(limits::STREAM_SHARED).unwrap();
    assert_eq!(sent, window, "exactly its share is on its way");
    let mut quick = near.open(head()).await.unwrap();
    let (_, mut other) = far_in.accept().await.unwrap();
    let sending = tokio::spawn(async move {
        other.send(pattern(1_000_000)).await.unwrap();
        other.finish(Bytes::new()).await.unwrap();
    });
    assert_eq!(whole(&mut quick).await.unwrap().0.len(), 1_000_000);
    sending.await.unwrap();
    for _ in 0..=window / limits::STREAM_CHUNK / 2 {
        slow.recv().await.unwrap();
    }
    timeout(Duration::from_secs(1), tx.send(part)).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_end_with_an_error_says_it_and_so_does_a_sender_that_vanishes() {
    let ((near, _near_in), (_far, mut far_in)) = pair();
    let mut rx = near.open(head()).await.unwrap();
    let (_, tx) = far_in.accept().await.unwrap();
    tx.fail(WireError::invalid("gone")).await;
    assert_eq!(rx.recv().await, Err(StreamError::Refused(WireError::invalid("gone"))));
    let mut rx = near.open(head()).await.unwrap();
    drop(far_in.accept().await.unwrap());
    assert!(matches!(rx.recv().await, Err(StreamError::Refused(_))));
    let mut rx = near.open(head()).await.unwrap();
    drop(far_in);
    assert!(matches!(rx.recv().await, Err(StreamError::Refused(_))));
    let mut rx = near.open(head()).await.unwrap();
    assert!(
        matches!(rx.recv().await, Err(StreamError::Refused(_))),
        "later ones too"
    );
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_has_enough_stops_the_sender() {
    let ((near, _near_in), (_far, mut far_in)) = pair();
    let mut rx = near.open(head()).await.unwrap();
    let (_, mut tx) = far_in.accept().await.unwrap();
    tx.send_key(pattern(10)).await.unwrap();
    assert_eq!(rx.recv().await, Ok(Chunk::Key(pattern(10))));
    drop(rx);
    tx.abandoned().await;
    assert_eq!(tx.send(pattern(1)).await, Err(StreamError::Abandoned));
}

#[tokio::test(start_paused = true)]
async fn the_sixty_fifth_stream_waits_for_a_place_even_if_the_others_were_abandoned() {
    let ((near, _near_in), (_far, mut far_in)) = pair();
    let mut open = Vec::new();
    let mut accepted = Vec::new();
    for _ in 0..limits::STREAMS {
        open.push(near.open(head()).await.unwrap());
        accepted.push(far_in.accept().await.unwrap().1);
    }
    let second = Duration::from_secs(1);
    assert!(
        timeout(second, near.open(head())).await.is_err(),
        "all places are taken"
    );
    accepted.pop().unwrap().finish(Bytes::new()).await.unwrap();
    let last = timeout(second, near.open(head())).await.unwrap().unwrap();
    drop(open);
    drop(last);
    let reopened = timeout(second, near.open(head())).await;
    assert!(reopened.unwrap().is_ok(), "the senders gave theirs up by themselves");
}

#[tokio::test(start_paused = true)]
async fn a_lost_link_ends_everything_after_what_has_come() {
    let (near, far) = pipes();
    let (streams, _incoming) = run(Link::new(near, Codec::Native));
    let mut link = Link::new(far, Codec::Native);
    let (_, mut far_in) = link.take_streams().unwrap();
    let (far_tx, mut far_rx) = link.split();
    let writer = tokio::spawn(write(far_tx));
    let mut rx = streams.open(head()).await.unwrap();
    let (_, mut tx) = tokio::select! {
        accepted = far_in.accept() => accepted.unwrap(),
        _ = far_rx.recv() => unreachable!("no frame is due"),
    };
    tx.send(pattern(3)).await.unwrap();
    let first = rx.recv().await;
    assert_eq!(first, Ok(Chunk::Data(pattern(3))));
    tx.send(pattern(4)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    writer.abort();
    drop(far_rx);
    assert_eq!(rx.recv().await, Ok(Chunk::Data(pattern(4))), "what had come before");
    assert_eq!(rx.recv().await, Err(StreamError::Lost));
    assert!(matches!(streams.open(head()).await, Err(StreamError::Lost)));
    assert_eq!(tx.send(pattern(1)).await, Err(StreamError::Lost));
    assert!(far_in.accept().await.is_none());
}

/// One end that follows the rules, and the bare pipe to it.
async fn misused(frames: Vec<Frame>) -> (LinkError, String) {
    let (near, mut far) = pipes();
    let mut link = Link::new(near, Codec::Native);
    let (streams, _incoming) = link.take_streams().unwrap();
    let (tx, rx) = link.split();
    let (writer, reader) = (tokio::spawn(write(tx)), tokio::spawn(read(rx)));
    let _open = streams.open(head()).await.unwrap();
    let opened = far.recv().await.unwrap();
    assert!(matches!(opened, Message::Binary(_)));
    for frame in frames {
        far.send(Message::Binary(frame.encode().unwrap())).await.unwrap();
    }
    let closed = loop {
        match far.recv().await {
            Ok(_) => {}
            Err(closed) => break closed,
        }
    };
    drop(far);
    let (written, _read) = (writer.await.unwrap(), reader.await.unwrap());
    (closed, written.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_breaks_the_rules_is_told_so_and_hung_up_on() {
    let chunk = |stream, kind, len: usize| {
        Frame::StreamChunk(StreamChunk {
            stream,
            kind,
            bytes: pattern(len),
        })
    };
    let open = |stream| Frame::StreamOpen(StreamOpen { stream, head: head() });
    let one_too_many = |cost: u64| usize::try_from(limits::STREAM_WINDOW / cost).unwrap() + 1;
    let flood = vec![chunk(0, ChunkKind::Data, limits::STREAM_CHUNK); one_too_many(limits::STREAM_CHUNK as u64)];
    let tiny = vec![chunk(0, ChunkKind::Data, 0); one_too_many(limits::STREAM_CHUNK_COST)];
    let many = (0..65).map(open).collect();
    let window = Frame::StreamWindow(StreamWindow { stream: 0, bytes: 1 });
    let ended_twice = vec![chunk(0, ChunkKind::End, 1), chunk(0, ChunkKind::End, 1)];
    for (frames, expected) in [
        (flood, "more bytes of a stream than its window holds"),
        (tiny, "more bytes of a stream than its window holds"),
        (
            vec![chunk(0, ChunkKind::Key, limits::STREAM_CHUNK + 1)],
            "a chunk is too large",
        ),
        (
            vec![chunk(0, ChunkKind::End, limits::STREAM_TRAILER + 1)],
            "a chunk is too large",
        ),
        (
            vec![chunk(1, ChunkKind::Data, 1)],
            "a chunk of a stream that is not open",
        ),
        (ended_twice, "a chunk of a stream that is not open"),
        (vec![window.clone()], "a stream that was never opened"),
        (vec![open(0), window], "more room for a stream than its window holds"),
        (vec![open(1), open(0)], "a stream id was used twice"),
        (vec![open(u64::MAX), open(u64::MAX)], "a stream id was used twice"),
        (many, "too many streams at once"),
        (vec![Frame::StreamAbandoned(0)], "a stream that was never opened"),
    ] {
        let (closed, written) = misused(frames).await;
        assert!(
            matches!(&closed, LinkError::Closed { code: 1008, reason } if reason == expected),
            "{closed}"
        );
        assert!(written.contains(expected), "{written}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_waits_for_one_chunk_at_most_however_many_streams_are_full() {
    let (near, mut far) = pipes();
    let mut link = Link::new(near, Codec::Native);
    let (_streams, mut incoming) = link.take_streams().unwrap();
    let (mut tx, rx) = link.split();
    tokio::spawn(read(rx));
    for stream in 0..8 {
        let open = Frame::StreamOpen(StreamOpen { stream, head: head() });
        far.send(Message::Binary(open.encode().unwrap())).await.unwrap();
        let (_, mut stream_tx) = incoming.accept().await.unwrap();
        tokio::spawn(async move { while stream_tx.send(pattern(limits::STREAM_CHUNK)).await.is_ok() {} });
    }
    let mut order = Vec::new();
    for number in 0..16 {
        tx.feed(&Frame::Ping(number)).await.unwrap();
        tx.streams_due().await;
        tx.feed_streams().await.unwrap();
        for _ in 0..2 {
            let Message::Binary(bytes) = far.recv().await.unwrap() else {
                unreachable!("native")
            };
            order.push(Frame::decode(&bytes, limits::NATIVE_FRAME).unwrap());
        }
    }
    for (place, frame) in order.iter().enumerate() {
        let place = place as u64;
        if let Frame::StreamChunk(chunk) = frame {
            assert_eq!(place % 2, 1);
            assert_eq!(chunk.stream, (place / 2) % 8, "they take turns");
        } else {
            assert_eq!(frame, &Frame::Ping(place / 2));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_dialect_has_no_streams() {
    let language = atoll_protocol::dialect::Gateway {
        peer: atoll_protocol::scope::Role::Operator,
        own: None,
    };
    let (near, _far) = pipes();
    assert!(
        Link::new(near, Codec::DialectGateway(language))
            .take_streams()
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn frames_and_streams_share_a_link() {
    let (near, far) = pipes();
    let (streams, _incoming) = run(Link::new(near, Codec::Native));
    let mut link = Link::new(far, Codec::Native);
    let (_far_streams, mut far_in) = link.take_streams().unwrap();
    let mut rx = streams.open(head()).await.unwrap();
    link.send(&Frame::Ping(1)).await.unwrap();
    let accepted = tokio::select! {
        accepted = far_in.accept() => accepted,
        received = link.recv() => unreachable!("{received:?}"),
    };
    let (_, tx) = accepted.unwrap();
    tx.finish(Bytes::new()).await.unwrap();
    let (tx, _rx) = link.split();
    tokio::spawn(write(tx));
    assert_eq!(rx.recv().await, Ok(Chunk::End(Bytes::new())));
}
