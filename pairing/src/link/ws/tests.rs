//! Pipes over real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Both ends of one WebSocket over TCP.
async fn tcp_pair() -> (Pipe, Pipe) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = tokio::spawn(async move {
        let stream = TcpStream::connect(address).await.unwrap();
        upgrade(stream, "localhost", "/", Language::Native, Facts::default())
            .await
            .unwrap()
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    answer_upgrade(&mut stream).await;
    (accept(stream, Facts::default()), client.await.unwrap())
}

async fn answer_upgrade(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .unwrap();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n",
        accept_key(key)
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn messages_arrive_whole_in_order_and_both_ways() {
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
