//! A scripted node and several who watch it, each at its own pace.

use atoll_pairing::link::stream::{Incoming, StreamTx};
use atoll_pairing::link::{Codec, Facts, Link, memory};
use atoll_protocol::blob::BlobKind;
use atoll_protocol::error::WireError;
use atoll_protocol::id::BlobId;
use tokio::time::timeout;

use super::*;

const NODE: DeviceId = DeviceId::from_digest([1; 32]);
const SOON: Duration = Duration::from_secs(5);

fn run(mut link: Link) -> (Streams, Incoming) {
    let streams = link.take_streams().expect("native");
    let (mut tx, mut rx) = link.split();
    tokio::spawn(async move {
        let writing = async {
            loop {
                tx.streams_due().await;
                if tx.feed_streams().await.is_err() || tx.flush().await.is_err() {
                    return;
                }
            }
        };
        let reading = async { while rx.recv().await.is_ok() {} };
        tokio::select! { () = writing => (), () = reading => () }
    });
    streams
}

struct Stage {
    live: Live,
    id: String,
    node: (Streams, Incoming),
    _gateway: Incoming,
}

impl Stage {
    fn new() -> Self {
        let (near, far) = memory::pair(Facts::default());
        let (streams, gateway) = run(Link::new(near, Codec::Native));
        let live = Live::default();
        let handle = BlobHandle {
            id: BlobId::new("cam").expect("an id"),
            name: String::new(),
            size: 0,
            mime: "video/mp4".to_owned(),
            kind: BlobKind::Stream,
        };
        let id = live.name(NODE, Way::Link(streams), &handle, Instant::now());
        Self {
            live,
            id,
            node: run(Link::new(far, Codec::Native)),
            _gateway: gateway,
        }
    }

    fn watch(&self) -> Watching {
        self.live.watch(&self.id).expect("it is named")
    }

    async fn filmed(&mut self) -> StreamTx {
        let (_, tx) = timeout(SOON, self.node.1.accept())
            .await
            .expect("in time")
            .expect("linked");
        tx
    }
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn next(watching: &mut Watching) -> Option<Bytes> {
    ended(watching).await.expect("whole")
}

/// As [`next`], or why there is nothing more.
async fn ended(watching: &mut Watching) -> Result<Option<Bytes>, Broken> {
    timeout(SOON, watching.next()).await.expect("in time")
}

#[tokio::test]
async fn many_watch_one_fetch_and_a_late_one_begins_at_the_newest_key() {
    let mut stage = Stage::new();
    let mut first = stage.watch();
    let mut film = stage.filmed().await;
    film.send(text("no beginning")).await.expect("somebody watches");
    for (is_key, part) in [(true, "K1"), (false, "a"), (true, "K2"), (false, "b")] {
        let sent = if is_key {
            film.send_key(text(part)).await
        } else {
            film.send(text(part)).await
        };
        sent.expect("somebody watches");
        assert_eq!(next(&mut first).await, Some(text(part)));
    }
    let mut late = stage.watch();
    for expected in ["K2", "b"] {
        assert_eq!(next(&mut late).await, Some(text(expected)));
    }
    film.send(text("c")).await.expect("somebody watches");
    assert_eq!(
        (next(&mut first).await, next(&mut late).await),
        (Some(text("c")), Some(text("c")))
    );
    let second_fetch = timeout(Duration::from_millis(50), stage.node.1.accept()).await;
    assert!(second_fetch.is_err(), "one fetch for all");
    film.finish(Bytes::new()).await.expect("ends");
    assert_eq!((next(&mut first).await, next(&mut late).await), (None, None));
}

#[tokio::test]
async fn a_slow_one_skips_to_the_newest_key_and_delays_nobody() {
    let mut stage = Stage::new();
    let (mut quick, mut slow) = (stage.watch(), stage.watch());
    let mut film = stage.filmed().await;
    film.send_key(text("K1")).await.expect("somebody watches");
    assert_eq!(next(&mut slow).await, Some(text("K1")));
    assert_eq!(next(&mut quick).await, Some(text("K1")));
    let part = Bytes::from(vec![7; 32 * 1024]);
    for _ in 0..KEPT / part.len() + 10 {
        timeout(SOON, film.send(part.clone()))
            .await
            .expect("nobody is waited for")
            .expect("watched");
        assert_eq!(next(&mut quick).await.map(|bytes| bytes.len()), Some(part.len()));
    }
    film.send_key(text("K2")).await.expect("somebody watches");
    assert_eq!(next(&mut quick).await, Some(text("K2")));
    assert_eq!(next(&mut slow).await, Some(text("K2")), "what it missed is gone");
    assert!(slow.source.tape.lock().bytes <= KEPT);
}

#[tokio::test]
async fn the_stream_ends_with_the_last_who_watches_and_with_its_link() {
    let mut stage = Stage::new();
    let (first, second) = (stage.watch(), stage.watch());
    let mut film = stage.filmed().await;
    film.send_key(text("K1")).await.expect("somebody watches");
    drop(first);
    film.send(text("a")).await.expect("one still watches");
    drop(second);
    timeout(SOON, film.abandoned()).await.expect("told to stop");
    assert!(stage.live.watch(&stage.id).is_none(), "it is over");

    let mut stage = Stage::new();
    let mut watching = stage.watch();
    let film = stage.filmed().await;
    drop(film);
    let broken = ended(&mut watching).await.expect_err("in the middle");
    assert!(broken.to_string().contains("gave up in the middle"), "{broken}");
}

#[tokio::test]
async fn whoever_watches_is_told_why_a_stream_broke_off_after_the_rest_of_it() {
    let mut stage = Stage::new();
    let (mut first, mut second) = (stage.watch(), stage.watch());
    let mut film = stage.filmed().await;
    film.send_key(text("K1")).await.expect("somebody watches");
    film.fail(WireError::unavailable("the camera was unplugged")).await;
    for watching in [&mut first, &mut second] {
        assert_eq!(next(watching).await, Some(text("K1")));
        let broken = ended(watching).await.expect_err("it broke off");
        assert_eq!(broken.to_string(), "the camera was unplugged");
    }

    let mut stage = Stage::new();
    let mut watching = stage.watch();
    drop((stage.filmed().await, stage.node));
    let broken = ended(&mut watching).await.expect_err("it broke off");
    assert!(!broken.to_string().is_empty());
}

#[tokio::test]
async fn a_stream_that_nobody_watches_is_forgotten_and_they_are_bounded() {
    let stage = Stage::new();
    let streams = Way::Link(stage.node.0.clone());
    let handle = stage.live.lock()[&stage.id].handle.clone();
    let later = Instant::now() + UNWATCHED;
    let new = stage.live.name(NODE, streams.clone(), &handle, later);
    assert!(stage.live.watch(&stage.id).is_none());
    for _ in 0..MOST {
        stage
            .live
            .name(NODE, streams.clone(), &handle, later + Duration::from_secs(1));
    }
    assert_eq!(stage.live.lock().len(), MOST);
    assert!(stage.live.watch(&new).is_none());
}

#[test]
fn chunks_of_nothing_do_not_pile_up() {
    let tape = Tape::default();
    for _ in 0..4 * KEPT / LEAST {
        tape.push(Chunk::Data(Bytes::new()));
        tape.push(Chunk::Key(text("x")));
    }
    let held = tape.lock();
    assert!(held.chunks.len() <= KEPT / LEAST, "{} are held", held.chunks.len());
    assert!(held.bytes <= KEPT);
}
