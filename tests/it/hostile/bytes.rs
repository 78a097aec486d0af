//! Bytes that are no frames: lengths without end, messages of nothing, halves, datagrams of noise.

use std::time::Duration;

use atoll_protocol::limits;
use atoll_tests::chance::{Chance, seed};
use atoll_tests::hostile::stranger;
use atoll_tests::mesh::Pipe;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{Arena, COST, MIB, over_networks};

over_networks! {
    a_length_without_end_closes_the_link_before_anything_is_kept,
    what_is_no_frame_closes_the_link_with_a_reason_and_a_line_in_the_log,
    a_frame_of_a_later_version_is_skipped,
    strangers_that_say_half_of_a_hello_take_little_and_hold_up_nobody,
}

async fn a_length_without_end_closes_the_link_before_anything_is_kept(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let first = arena.intruder().await;
    for len in [limits::NATIVE_FRAME as u64 + 1, (1 << 31) - 1, 1 << 62] {
        let attack = async {
            let mut node = first.again().await;
            node.line.begin(len, &[0; 1000]).await;
            node.line.closed().await
        };
        let closed = arena.under(attack).await;
        assert_eq!(closed.code, Some(1009), "{len}: {closed:?}");
    }
    arena.said("too large").await;
    arena.has_grown_by_less_than(COST);
}

async fn what_is_no_frame_closes_the_link_with_a_reason_and_a_line_in_the_log(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let first = arena.intruder().await;
    // Nothing; a kind without a body; a length in a body beyond all memory; a call with something behind it.
    let endless = [&[7][..], &[0xff; 9], &[1]].concat();
    for bytes in [&[][..], &[10], &endless, &[13, 1, b'c', 0]] {
        let attack = async {
            let mut node = first.again().await;
            node.line.say_bytes(bytes).await;
            node.line.closed().await
        };
        let closed = arena.under(attack).await;
        assert_eq!(closed.code, Some(1002), "{bytes:?}: {closed:?}");
        assert!(!closed.reason.is_empty(), "{bytes:?}");
    }
    arena.said("broke the rules").await;
    arena.has_grown_by_less_than(COST);
}

async fn a_frame_of_a_later_version_is_skipped(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let mut node = arena.intruder().await;
    assert!(node.line.say_bytes(&[250, 1, 2, 3]).await);
    assert!(node.line.answers().await);
}

async fn strangers_that_say_half_of_a_hello_take_little_and_hold_up_nobody(pipe: Pipe) {
    const STRANGERS: u64 = 100;
    let mut arena = Arena::new(pipe).await;
    let port = arena.mesh.target().port;
    let attack = async {
        let mut lines = Vec::new();
        for _ in 0..STRANGERS {
            let mut line = stranger(pipe, port).await;
            line.begin(limits::PRE_AUTH_FRAME as u64, &[1; 48 * 1024]).await;
            lines.push(line);
        }
        lines
    };
    let lines = arena.under(attack).await;
    // What they said and TLS or QUIC around it.
    arena.has_grown_by_less_than(STRANGERS * 4 * limits::PRE_AUTH_FRAME as u64 + COST);
    drop(lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_on_the_udp_port_costs_nothing_and_disturbs_nobody() {
    const DATAGRAMS: usize = 20_000;
    let seed = seed();
    println!("ATOLL_SEED={seed}");
    let mut arena = Arena::new(Pipe::Quic).await;
    let to = ("127.0.0.1", arena.mesh.target().port);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let mut chance = Chance::new(seed, 0);
    let attack = async {
        for number in 0..DATAGRAMS {
            let mut datagram = vec![0; usize::try_from(chance.draw() % 1_452).expect("small") + 1];
            datagram
                .iter_mut()
                .for_each(|byte| *byte = chance.draw().to_le_bytes()[0]);
            if number % 2 == 0 {
                // What could be the first packet of QUIC, by its length and its head.
                datagram.resize(1_200, 0);
                datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
            }
            // The system may have no room for so many at once.
            let _ = timeout(Duration::from_secs(1), socket.send_to(&datagram, to)).await;
        }
    };
    arena.under(attack).await;
    arena.has_grown_by_less_than(8 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_begun_and_left_are_forgotten() {
    const LEFT: usize = 400;
    const AT_ONCE: usize = 20;
    let mut arena = Arena::new(Pipe::Quic).await;
    let port = arena.mesh.target().port;
    let attack = async {
        for _ in 0..LEFT / AT_ONCE {
            let many = (0..AT_ONCE).map(|_| timeout(Duration::from_millis(250), stranger(Pipe::Quic, port)));
            drop(futures_util::future::join_all(many).await);
        }
    };
    arena.under(attack).await;
    arena.has_grown_by_less_than(COST);
}
