//! The HTTP side of an upgrade, as small as tests need it.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// Reads the head of a request, and nothing after it.
pub(crate) async fn read_head(io: &mut impl Io) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.expect("a head"));
    }
    String::from_utf8(head).expect("text")
}

/// The answer that grants the upgrade, with the subprotocol that was asked for.
pub(crate) fn grant(head: &str) -> String {
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let key = value("Sec-WebSocket-Key: ").expect("a key");
    let protocol = value("Sec-WebSocket-Protocol: ")
        .map(|protocol| format!("Sec-WebSocket-Protocol: {protocol}\r\n"))
        .unwrap_or_default();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n{protocol}\r\n",
        accept_key(key)
    )
}

/// The gateway's end: answers the upgrade and says which language was asked for.
pub(crate) async fn serve(mut io: impl Io + 'static, mut facts: Facts) -> Pipe {
    let head = read_head(&mut io).await;
    let is_native = head.contains(SUBPROTOCOL);
    facts.language = Some(if is_native { Language::Native } else { Language::Dialect });
    io.write_all(grant(&head).as_bytes()).await.expect("an answer");
    accept(io, facts)
}

/// Both ends (gateway, client) over streams that are given.
pub(crate) async fn pair_over(near: impl Io + 'static, far: impl Io + 'static, language: Language) -> (Pipe, Pipe) {
    let client = upgrade(far, "localhost", "/", language, Facts::default());
    let (gateway, client) = tokio::join!(serve(near, Facts::default()), client);
    (gateway, client.expect("an upgrade"))
}

/// Both ends over a buffer of `size` bytes each way.
pub(crate) async fn pair(size: usize) -> (Pipe, Pipe) {
    let (near, far) = duplex(size);
    pair_over(near, far, Language::Native).await
}

/// The gateway's end, and the raw stream of a client that has gone mute after the upgrade.
pub(crate) async fn mute_client(size: usize) -> (Pipe, DuplexStream) {
    let (near, mut far) = duplex(size);
    let ask = b"GET / HTTP/1.1\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let client = async {
        far.write_all(ask).await.expect("asked");
        read_head(&mut far).await;
    };
    let (gateway, ()) = tokio::join!(serve(near, Facts::default()), client);
    (gateway, far)
}
