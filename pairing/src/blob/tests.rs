//! Blobs over streams that end too early, too late and wrong.

use std::io::Write;

use atoll_protocol::frame::StreamHead;
use atoll_protocol::id::BlobId;

use super::*;
use tokio_util::task::AbortOnDropHandle;

use crate::link::stream::{Incoming, Streams};
use crate::link::{Codec, Facts, Link, memory};

/// The streams of a link, and the link itself, which ends when that is dropped.
fn run(mut link: Link) -> ((Streams, Incoming), AbortOnDropHandle<()>) {
    let streams = link.take_streams().expect("native");
    let (mut tx, mut rx) = link.split();
    let carrying = tokio::spawn(async move {
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
    (streams, AbortOnDropHandle::new(carrying))
}

async fn stream(offset: u64) -> (StreamRx, StreamTx, impl Sized) {
    let (near, far) = memory::pair(Facts::default());
    let (near, mut far) = (run(Link::new(near, Codec::Native)), run(Link::new(far, Codec::Native)));
    let blob = BlobId::new("b").unwrap();
    let rx = near.0.0.open(StreamHead::Fetch { blob, offset }).await.unwrap();
    let (_, tx) = far.0.1.accept().await.unwrap();
    (rx, tx, (near, far))
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|place| u8::try_from(place % 253).unwrap()).collect()
}

fn file_of(bytes: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

fn written(arrival: &Arrival) -> Vec<u8> {
    let len = usize::try_from(arrival.file.metadata().unwrap().len()).unwrap();
    read_at(&arrival.file, 0, len).unwrap()
}

const LEN: usize = 700_001;

#[tokio::test]
async fn a_blob_arrives_with_its_hash() {
    for len in [0, 1, LEN] {
        let bytes = content(len);
        let (mut rx, tx, _links) = stream(0).await;
        tokio::spawn(send(tx, file_of(&bytes), len as u64, 0));
        let mut arrival = Arrival::new(tempfile::tempfile().unwrap(), len as u64);
        let hash = arrival.receive(&mut rx, |_| {}).await.unwrap();
        assert_eq!(hash, *blake3::hash(&bytes).as_bytes());
        assert!(written(&arrival) == bytes, "{len}");
    }
}

#[tokio::test]
async fn a_large_blob_that_is_to_be_durable_arrives_too() {
    let len = 3 * usize::try_from(SYNC).unwrap() + 1;
    let bytes = content(len);
    let (mut rx, tx, _links) = stream(0).await;
    tokio::spawn(send(tx, file_of(&bytes), len as u64, 0));
    let mut arrival = Arrival::new(tempfile::tempfile().unwrap(), len as u64).durable();
    let hash = arrival.receive(&mut rx, |_| {}).await.unwrap();
    assert_eq!(hash, *blake3::hash(&bytes).as_bytes());
    assert!(written(&arrival) == bytes);
    let disk = arrival.disk.unwrap();
    assert!(disk.synced >= SYNC && disk.syncing.is_none(), "{disk:?}");
}

#[tokio::test]
async fn a_lost_link_costs_only_what_had_not_arrived() {
    let bytes = content(LEN);
    let mut arrival = Arrival::new(tempfile::tempfile().unwrap(), LEN as u64);
    let (mut rx, mut tx, links) = stream(0).await;
    let part = Bytes::from(bytes[..300_000].to_vec());
    let sending = tokio::spawn(async move {
        tx.send(part).await.unwrap();
        // The window is 256 KiB: when this has gone, the link goes too.
        drop(links);
        tx
    });
    let error = arrival.receive(&mut rx, |_| {}).await.unwrap_err();
    drop(sending.await.unwrap());
    assert!(error.is_lost() || matches!(error, ArrivalError::Refused(_)), "{error}");
    let offset = arrival.offset();
    assert!(offset > 0 && offset <= 300_000, "{offset}");
    let (mut rx, tx, _links) = stream(offset).await;
    tokio::spawn(send(tx, file_of(&bytes), LEN as u64, offset));
    let hash = arrival.receive(&mut rx, |_| {}).await.unwrap();
    assert_eq!(hash, *blake3::hash(&bytes).as_bytes());
    assert!(written(&arrival) == bytes);
}

#[tokio::test]
async fn other_bytes_more_bytes_and_fewer_bytes_are_told_apart() {
    let bytes = content(LEN);
    for (announced, expected) in [(LEN - 1, "announced"), (LEN + 1, "announced"), (LEN, "not those")] {
        let (mut rx, mut tx, _links) = stream(0).await;
        let sent = Bytes::from(bytes.clone());
        tokio::spawn(async move {
            if tx.send(sent).await.is_ok() {
                let _ = tx.finish(Bytes::from(vec![0; 32])).await;
            }
        });
        let mut arrival = Arrival::new(tempfile::tempfile().unwrap(), announced as u64);
        let error = arrival.receive(&mut rx, |_| {}).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_shrinks_in_the_middle_is_an_error_at_the_receiver() {
    let (mut rx, tx, _links) = stream(0).await;
    tokio::spawn(send(tx, file_of(&content(1000)), 2000, 0));
    let mut arrival = Arrival::new(tempfile::tempfile().unwrap(), 2000);
    let error = arrival.receive(&mut rx, |_| {}).await.unwrap_err();
    assert!(matches!(&error, ArrivalError::Refused(_)), "{error}");
}
