//! Peers that flood, lie about lengths, leave in the middle, or do not read: bounded memory, one failed call or one closed link.

use futures_util::future::FutureExt;

use super::*;

async fn closed_with(bare: &Bare) -> u64 {
    let error = soon(bare.connection.closed()).await;
    let ConnectionError::ApplicationClosed(close) = error else {
        panic!("{error}");
    };
    close.error_code.into_inner()
}

#[tokio::test]
async fn a_length_over_the_limit_closes_the_link_before_anything_is_kept() {
    for len in [limits::PRE_AUTH_FRAME + 1, 0x7fff_ffff] {
        let (mut gateway, mut bare) = gateway_end().await;
        bare.control
            .write_all(&u32::try_from(len).unwrap().to_be_bytes())
            .await
            .unwrap();
        assert!(matches!(soon(gateway.recv()).await, Err(LinkError::TooLarge)));
        assert_eq!(closed_with(&bare).await, 1009);
    }
}

#[tokio::test]
async fn a_length_over_the_limit_on_the_stream_of_a_call_closes_the_link_too() {
    let (pipe, bare) = gateway_end().await;
    let mut gateway = Link::new(pipe, Codec::Native);
    let opening = async {
        let (mut stream, _answers) = bare.connection.open_bi().await.unwrap();
        stream
            .write_all(&(limits::NATIVE_FRAME as u32 + 1).to_be_bytes())
            .await
            .unwrap();
        // Held open until the gateway has read it.
        closed_with(&bare).await
    };
    let (code, heard) = soon(async { tokio::join!(opening, gateway.recv()) }).await;
    assert!(matches!(heard, Err(LinkError::TooLarge)));
    assert_eq!(code, 1009);
}

#[tokio::test]
async fn a_reason_that_is_too_long_closes_the_link() {
    let (mut gateway, mut bare) = gateway_end().await;
    let header = FAREWELL | (1_000 << 16) | 1_000;
    bare.control.write_all(&header.to_be_bytes()).await.unwrap();
    assert!(matches!(soon(gateway.recv()).await, Err(LinkError::TooLarge)));
}

#[tokio::test]
async fn a_stranger_opens_one_stream_and_an_admitted_client_a_few() {
    let (pipe, mut bare) = gateway_end().await;
    assert!(
        bare.connection.open_bi().now_or_never().is_none(),
        "not before it is admitted"
    );
    let mut gateway = Link::new(pipe, Codec::Native);
    gateway.send(&Frame::Ping(1)).await.unwrap();
    assert!(soon(read(&mut bare.answers)).await.is_some());
    let mut opened = Vec::new();
    while let Some(streams) = bare.connection.open_bi().now_or_never() {
        let (mut stream, answers) = streams.unwrap();
        // A header, and never the message.
        stream.write_all(&[0, 0, 1, 0]).await.unwrap();
        opened.push((stream, answers));
    }
    assert_eq!(opened.len(), 16);
    // They hold up nothing.
    bare.control
        .write_all(&message(&Frame::Ping(2).encode().unwrap()))
        .await
        .unwrap();
    assert_eq!(frame(&mut gateway).await, Frame::Ping(2));
}

#[tokio::test]
async fn an_answer_that_is_torn_costs_its_call_alone() {
    let (pipe, mut bare) = gateway_end().await;
    transport::admit(&bare.connection);
    let mut gateway = Link::new(pipe, Codec::Native);
    bare.control
        .write_all(&message(&Frame::Ping(1).encode().unwrap()))
        .await
        .unwrap();
    assert_eq!(frame(&mut gateway).await, Frame::Ping(1));
    for is_reset in [true, false] {
        gateway.send(&invoke("torn")).await.unwrap();
        let (mut answer, _stream) = soon(bare.connection.accept_bi()).await.unwrap();
        answer.write_all(&[0, 0, 1, 0, 14]).await.unwrap();
        if is_reset {
            answer.reset(VarInt::from_u32(7)).unwrap();
        } else {
            answer.finish().unwrap();
        }
        bare.control
            .write_all(&message(&Frame::Ping(2).encode().unwrap()))
            .await
            .unwrap();
        assert_eq!(frame(&mut gateway).await, Frame::Ping(2));
    }
}

#[tokio::test]
async fn a_torn_first_stream_ends_the_link() {
    let (mut gateway, mut bare) = gateway_end().await;
    bare.control.write_all(&[0, 0, 1]).await.unwrap();
    bare.control.finish().unwrap();
    assert_eq!(soon(gateway.recv()).await.unwrap_err().code(), Some(1006));
}

#[tokio::test]
async fn messages_that_never_end_take_bounded_room_and_hold_up_no_small_one() {
    let (pipe, mut bare) = gateway_end().await;
    let mut gateway = Link::new(pipe, Codec::Native);
    gateway.send(&Frame::Ping(1)).await.unwrap();
    assert!(soon(read(&mut bare.answers)).await.is_some());
    let shared = |link: &Link| match &link.rx.pipe {
        PipeRx::Quic(rx) => rx.shared(),
        PipeRx::Ws(_) | PipeRx::Memory(_) => panic!("not QUIC"),
    };
    let shared = shared(&gateway);
    let mut held = Vec::new();
    let header = u32::try_from(limits::NATIVE_FRAME).unwrap().to_be_bytes();
    while let Some(streams) = bare.connection.open_bi().now_or_never() {
        let (mut stream, answers) = streams.unwrap();
        stream.write_all(&header).await.unwrap();
        stream.write_all(&[0; 1000]).await.unwrap();
        held.push((stream, answers));
    }
    bare.control
        .write_all(&message(&Frame::Ping(2).encode().unwrap()))
        .await
        .unwrap();
    assert_eq!(frame(&mut gateway).await, Frame::Ping(2));
    assert!(held.len() > ROOM / limits::NATIVE_FRAME, "more than there is room for");
    let taking = async {
        while shared.room.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
    };
    let (heard, ()) = tokio::join!(timeout(Duration::from_secs(5), gateway.recv()), soon(taking));
    assert!(heard.is_err(), "no message is whole");
    bare.control
        .write_all(&message(&Frame::Ping(3).encode().unwrap()))
        .await
        .unwrap();
    assert_eq!(frame(&mut gateway).await, Frame::Ping(3));
}

#[tokio::test]
async fn a_peer_that_nobody_listens_to_is_slowed_down() {
    let (mut gateway, mut node, _endpoint) = links().await;
    gateway.send(&invoke("c")).await.unwrap();
    assert_eq!(frame(&mut node).await, invoke("c"));
    let chunk = "x".repeat(512 * 1024);
    let (mut tx, _rx) = node.split();
    let mut sent = 0;
    // Nobody reads at the other end, so this comes to a halt.
    while let Ok(done) = timeout(Duration::from_millis(500), tx.send(&progress("c", sent, chunk.clone()))).await {
        done.unwrap();
        sent += 1;
        assert!(sent < 64, "32 MiB in flight");
    }
    for seq in 0..sent {
        assert_eq!(frame(&mut gateway).await, progress("c", seq, chunk.clone()));
    }
}
