//! Pipes over real sockets, and over memory on a virtual clock.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::fixture::{grant, mute_client, pair, pair_over, read_head};
use tokio::time::{Instant, timeout};

use super::*;

/// Both ends (gateway, client) of one WebSocket over TCP.
async fn tcp_pair() -> (Pipe, Pipe) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (near, _) = listener.accept().await.unwrap();
    pair_over(near, far, Language::Native).await
}

#[tokio::test]
async fn text_and_bytes_stay_what_they_are() {
    let (mut gateway, mut client) = tcp_pair().await;
    for size in [0, 1, 125, 126, 65_535, 65_536] {
        let message = Message::Binary(vec![7; size]);
        client.send(message.clone()).await.unwrap();
        assert_eq!(gateway.recv().await.unwrap(), message);
        let message = Message::Text("x".repeat(size));
        gateway.send(message.clone()).await.unwrap();
        assert_eq!(client.recv().await.unwrap(), message);
    }
}

#[tokio::test]
async fn a_message_over_the_limit_closes_with_1009_and_no_reason() {
    let (mut gateway, mut client) = tcp_pair().await;
    let gateway = tokio::spawn(async move { gateway.recv().await });
    // The socket may close under the sender's hands: only what is read counts.
    let _ = client.send(Message::Binary(vec![0; limits::PRE_AUTH_FRAME + 1])).await;
    let error = client.recv().await.unwrap_err();
    assert!(
        matches!(&error, LinkError::Closed { code: 1009, reason } if reason.is_empty()),
        "{error}"
    );
    assert!(matches!(gateway.await.unwrap(), Err(LinkError::TooLarge)));
}

#[tokio::test]
async fn what_comes_together_with_the_upgrade_is_not_lost() {
    let (mut near, far) = duplex(4096);
    let client = tokio::spawn(upgrade(far, "localhost", "/", Language::Dialect, Facts::default()));
    let head = read_head(&mut near).await;
    let mut answer = grant(&head).into_bytes();
    answer.extend_from_slice(b"\x81\x02hi");
    near.write_all(&answer).await.unwrap();
    let mut client = client.await.unwrap().unwrap();
    assert_eq!(client.recv().await.unwrap(), Message::Text("hi".into()));
}

#[tokio::test]
async fn an_upgrade_that_is_not_granted_says_why() {
    async fn answered(language: Language, answer: impl FnOnce(&str) -> String) -> UpgradeError {
        let (mut near, far) = duplex(4096);
        let client = tokio::spawn(upgrade(far, "localhost", "/", language, Facts::default()));
        let head = read_head(&mut near).await;
        near.write_all(answer(&head).as_bytes()).await.unwrap();
        near.shutdown().await.unwrap();
        client.await.unwrap().unwrap_err()
    }
    let forbidden = |_: &str| "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope".to_owned();
    let error = answered(Language::Dialect, forbidden).await;
    assert!(matches!(&error, UpgradeError::Http { status: 403, .. }), "{error}");
    let without_language = |head: &str| grant(&head.replace("Sec-WebSocket-Protocol", "X"));
    let error = answered(Language::Native, without_language).await;
    assert!(
        matches!(&error, UpgradeError::Language | UpgradeError::Broken(_)),
        "{error}"
    );
    let error = answered(Language::Dialect, |_| "SSH-2.0-x\r\n\r\n".to_owned()).await;
    assert!(matches!(&error, UpgradeError::Broken(_)), "{error}");
    let wrong_key = |_: &str| grant("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\n");
    let error = answered(Language::Dialect, wrong_key).await;
    assert!(matches!(&error, UpgradeError::Broken(_)), "{error}");
}

#[tokio::test]
async fn a_close_arrives_with_code_and_a_reason_of_at_most_120_bytes() {
    let (gateway, mut client) = tcp_pair().await;
    let reason = "é".repeat(100);
    let closing = tokio::spawn(async move { gateway.close(4001, &reason).await });
    let error = client.recv().await.unwrap_err();
    assert!(
        matches!(&error, LinkError::Closed { code: 4001, reason } if *reason == "é".repeat(60)),
        "{error}"
    );
    closing.await.unwrap();
    assert!(client.send(Message::Text("late".into())).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_half_open_peer_is_given_up_after_two_pings() {
    let (mut gateway, _client) = mute_client(4096).await;
    let start = Instant::now();
    let error = gateway.recv().await.unwrap_err();
    assert!(matches!(error, LinkError::Silent), "{error}");
    assert_eq!(start.elapsed().as_secs(), 2 * limits::PING.as_secs());
}

#[tokio::test(start_paused = true)]
async fn an_idle_peer_that_answers_pings_is_kept() {
    let (mut gateway, mut client) = pair(4096).await;
    let client = tokio::spawn(async move { client.recv().await });
    let hour = Duration::from_secs(3600);
    assert!(timeout(hour, gateway.recv()).await.is_err(), "still linked");
    assert!(!client.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_gives_a_mute_gateway_up() {
    let (mut near, far) = duplex(4096);
    let client = tokio::spawn(upgrade(far, "localhost", "/", Language::Native, Facts::default()));
    let head = read_head(&mut near).await;
    near.write_all(grant(&head).as_bytes()).await.unwrap();
    let mut client = client.await.unwrap().unwrap();
    let start = Instant::now();
    assert!(matches!(client.recv().await, Err(LinkError::Silent)));
    assert!(start.elapsed() <= 2 * SILENCE);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_given_up_and_one_that_reads_slowly_is_not() {
    let (mut gateway, _client) = mute_client(4096).await;
    let start = Instant::now();
    let error = gateway.send(Message::Binary(vec![0; 64 * 1024])).await.unwrap_err();
    assert!(matches!(error, LinkError::Stalled), "{error}");
    assert_eq!(start.elapsed().as_secs(), STALL.as_secs());

    let (mut gateway, mut client) = mute_client(1024).await;
    let reading = tokio::spawn(async move {
        let mut buffer = [0; 1024];
        loop {
            tokio::time::sleep(STALL / 2).await;
            client.read_exact(&mut buffer).await.unwrap();
        }
    });
    gateway.send(Message::Binary(vec![0; 64 * 1024])).await.unwrap();
    reading.abort();
}

#[tokio::test(start_paused = true)]
async fn closing_a_peer_that_answers_nothing_takes_a_moment_only() {
    let (gateway, _client) = mute_client(4096).await;
    let start = Instant::now();
    gateway.close(1008, "bye").await;
    assert!(start.elapsed() <= 3 * CLOSE_GRACE, "{:?}", start.elapsed());
    // Not even one that has stopped reading altogether.
    let (mut gateway, _client) = mute_client(64).await;
    let _ = timeout(Duration::from_secs(1), gateway.send(Message::Binary(vec![0; 4096]))).await;
    let start = Instant::now();
    gateway.close(1008, "bye").await;
    assert!(start.elapsed() <= 3 * CLOSE_GRACE, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_receiving_half_ends_soon_after_the_sending_half_has_closed() {
    let (gateway, _client) = mute_client(4096).await;
    let Pipe { mut tx, mut rx, .. } = gateway;
    let receiving = tokio::spawn(async move { rx.recv().await });
    tokio::task::yield_now().await;
    let start = Instant::now();
    tx.close(1012, "service restart").await;
    assert!(matches!(receiving.await.unwrap(), Err(LinkError::ClosedHere)));
    assert!(start.elapsed() <= 2 * CLOSE_GRACE);
}
