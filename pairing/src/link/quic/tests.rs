//! QUIC over the loopback address: what both ends promise one another.

use std::time::Duration;

use atoll_protocol::frame::{ChunkKind, Frame, Invoke, Outcome, Progress, StreamChunk, StreamHead, StreamOpen};
use atoll_protocol::id::{BlobId, CallId, DeviceId};
use atoll_protocol::json::Json;
use quinn::{RecvStream, VarInt};
use tokio::time::timeout;

use super::*;
use crate::identity::Identity;
use crate::link::{Codec, Link, Received};
use crate::tls::{Server, WebCertificate};

mod hostile;

/// How long anything may take that is to happen.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it happens soon")
}

fn listener(identity: &Identity) -> Listener {
    let web = WebCertificate::ephemeral(&["test".to_owned()]).unwrap();
    let tls = Server::new(identity, &web).unwrap();
    Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), &tls, identity).unwrap()
}

/// The connection of the gateway and, with its endpoint, that of a client, nothing said yet.
async fn connections() -> (Connection, (Endpoint, Connection)) {
    let listener = listener(&Identity::from_seed(&[1; 32]));
    let address = listener.address().unwrap();
    let endpoint = endpoint(address).unwrap();
    let connecting = endpoint.connect_with(client(Trust::AnyDevice).unwrap(), address, "localhost");
    let accepting = async { listener.0.accept().await.unwrap().await.unwrap() };
    let (near, far) = tokio::join!(accepting, connecting.unwrap());
    (near, (endpoint, far.unwrap()))
}

/// The gateway's pipe, and the other end as bare streams.
async fn gateway_end() -> (Pipe, Bare) {
    let (near, (endpoint, far)) = connections().await;
    let (mut control, answers) = far.open_bi().await.unwrap();
    control.write_all(&message(b"hello")).await.unwrap();
    let (tx, rx) = near.accept_bi().await.unwrap();
    let mut pipe = pipe(near, tx, rx, Facts::default(), None);
    assert_eq!(pipe.recv().await.unwrap(), Message::Binary(b"hello".to_vec()));
    let bare = Bare {
        connection: far,
        control,
        answers,
        _endpoint: endpoint,
    };
    (pipe, bare)
}

/// A client's pipe, and the gateway as bare streams.
async fn client_end() -> (Pipe, Bare) {
    let (near, (endpoint, far)) = connections().await;
    let (mut tx, rx) = far.open_bi().await.unwrap();
    tx.write_all(&message(b"hello")).await.unwrap();
    let (control, mut answers) = near.accept_bi().await.unwrap();
    assert_eq!(read(&mut answers).await.unwrap(), b"hello");
    let bare = Bare {
        connection: near,
        control,
        answers,
        _endpoint: endpoint,
    };
    (pipe(far, tx, rx, Facts::default(), None), bare)
}

/// Both ends (gateway, node) as links.
async fn links() -> (Link, Link, Endpoint) {
    let (near, (endpoint, far)) = connections().await;
    let (tx, rx) = far.open_bi().await.unwrap();
    let mut node = pipe(far, tx, rx, Facts::default(), None);
    node.send(Message::Binary(b"hello".to_vec())).await.unwrap();
    let (tx, rx) = near.accept_bi().await.unwrap();
    let mut gateway = pipe(near, tx, rx, Facts::default(), None);
    gateway.recv().await.unwrap();
    (
        Link::new(gateway, Codec::Native),
        Link::new(node, Codec::Native),
        endpoint,
    )
}

/// One end without our code around it.
struct Bare {
    connection: Connection,
    control: SendStream,
    answers: RecvStream,
    _endpoint: Endpoint,
}

fn message(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap();
    [&len.to_be_bytes(), bytes].concat()
}

async fn read(stream: &mut RecvStream) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.ok()?;
    let mut bytes = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

fn call(name: &str) -> CallId {
    CallId::new(name).unwrap()
}

fn invoke(name: &str) -> Frame {
    Frame::Invoke(Invoke {
        call: call(name),
        node: DeviceId::from_digest([7; 32]),
        command: "system.which".to_owned(),
        params: None,
        timeout_ms: 1_000,
        idempotency_key: None,
        plan: None,
    })
}

fn progress(name: &str, seq: u64, chunk: String) -> Frame {
    Frame::Progress(Progress {
        call: call(name),
        seq,
        chunk,
        receipt: None,
    })
}

fn outcome(name: &str, size: usize) -> Frame {
    Frame::Outcome(Outcome {
        call: call(name),
        result: Ok(Some(Json::of(&"x".repeat(size)).unwrap())),
        receipt: None,
    })
}

async fn frame(link: &mut Link) -> Frame {
    match soon(link.recv()).await.unwrap() {
        Received::Frame(frame) => frame,
        Received::Reject(reject) => panic!("{reject:?}"),
    }
}

#[tokio::test]
async fn both_ends_see_the_same_channel_and_the_client_sees_whose_key_it_is() {
    let identity = Identity::from_seed(&[1; 32]);
    let listener = listener(&identity);
    let port = listener.address().unwrap().port();
    let accepting = async { listener.accept().await.unwrap().open().await.unwrap().native().unwrap() };
    let trust = Trust::Device(identity.public_key());
    let connecting = async {
        let mut pipe = connect("127.0.0.1", port, trust).await.unwrap();
        pipe.send(Message::Binary(vec![1])).await.unwrap();
        pipe
    };
    let (gateway, client) = soon(async { tokio::join!(accepting, connecting) }).await;
    let (gateway, client) = (gateway.facts(), client.facts());
    assert!(gateway.exporter.is_some());
    assert_eq!(gateway.exporter, client.exporter);
    assert_eq!(gateway.language, Some(crate::proven::Language::Native));
    assert_eq!(client.certificate_key, Some(identity.public_key()));
}

#[tokio::test]
async fn a_gateway_with_another_key_than_the_pinned_one_is_not_spoken_to() {
    let listener = listener(&Identity::from_seed(&[1; 32]));
    let port = listener.address().unwrap().port();
    let accepting = async { listener.accept().await.unwrap().open().await };
    let connecting = connect("127.0.0.1", port, Trust::Device([9; 32]));
    let (_, refused) = soon(async { tokio::join!(accepting, connecting) }).await;
    assert!(matches!(refused, Err(ConnectError::WrongCertificate)), "{refused:?}");
}

#[tokio::test]
async fn every_call_has_a_stream_of_its_own_and_its_answers_come_back_on_it() {
    let (pipe, mut bare) = gateway_end().await;
    transport::admit(&bare.connection);
    let mut gateway = Link::new(pipe, Codec::Native);
    // The credit for streams has arrived when this has.
    bare.control
        .write_all(&message(&Frame::Ping(1).encode().unwrap()))
        .await
        .unwrap();
    assert_eq!(frame(&mut gateway).await, Frame::Ping(1));
    for name in ["first", "second"] {
        gateway.send(&invoke(name)).await.unwrap();
        let (mut answer, mut stream) = soon(bare.connection.accept_bi()).await.unwrap();
        assert_eq!(soon(read(&mut stream)).await.unwrap(), invoke(name).encode().unwrap());
        gateway.send(&Frame::Cancel(call(name))).await.unwrap();
        assert_eq!(
            soon(read(&mut stream)).await.unwrap(),
            Frame::Cancel(call(name)).encode().unwrap()
        );
        for said in [progress(name, 0, "half".into()), outcome(name, 10)] {
            answer.write_all(&message(&said.encode().unwrap())).await.unwrap();
            assert_eq!(frame(&mut gateway).await, said);
        }
        answer.finish().unwrap();
        // The gateway ends its half too, once it has seen the end of the other.
        let listening = async { frame(&mut gateway).await };
        let ended = async {
            assert_eq!(read(&mut stream).await, None);
            bare.control
                .write_all(&message(&Frame::Ping(2).encode().unwrap()))
                .await
                .unwrap();
        };
        let (heard, ()) = soon(async { tokio::join!(listening, ended) }).await;
        assert_eq!(heard, Frame::Ping(2));
    }
}

#[tokio::test]
async fn a_node_answers_on_the_stream_of_the_call_and_ends_it_with_the_outcome() {
    let (pipe, bare) = client_end().await;
    let mut node = Link::new(pipe, Codec::Native);
    let opening = async {
        let (mut stream, answers) = bare.connection.open_bi().await.unwrap();
        stream
            .write_all(&message(&invoke("c").encode().unwrap()))
            .await
            .unwrap();
        (stream, answers)
    };
    let ((_stream, mut answers), heard) = soon(async { tokio::join!(opening, frame(&mut node)) }).await;
    assert_eq!(heard, invoke("c"));
    for said in [progress("c", 0, "half".into()), outcome("c", 10)] {
        node.send(&said).await.unwrap();
        assert_eq!(soon(read(&mut answers)).await.unwrap(), said.encode().unwrap());
    }
    assert_eq!(soon(read(&mut answers)).await, None, "nothing follows an outcome");
}

#[tokio::test]
async fn an_outcome_of_an_earlier_link_goes_on_the_first_stream() {
    let (pipe, mut bare) = client_end().await;
    let mut node = Link::new(pipe, Codec::Native);
    node.send(&outcome("old", 1)).await.unwrap();
    assert_eq!(
        soon(read(&mut bare.answers)).await.unwrap(),
        outcome("old", 1).encode().unwrap()
    );
}

#[tokio::test]
async fn without_credit_for_streams_calls_go_on_the_first_one() {
    let (pipe, mut bare) = gateway_end().await;
    let mut gateway = Link::new(pipe, Codec::Native);
    for name in ["a", "b"] {
        gateway.send(&invoke(name)).await.unwrap();
        assert_eq!(
            soon(read(&mut bare.answers)).await.unwrap(),
            invoke(name).encode().unwrap()
        );
    }
}

fn chunk(stream: u64, kind: ChunkKind, bytes: &'static [u8]) -> Frame {
    let bytes = bytes.into();
    Frame::StreamChunk(StreamChunk { stream, kind, bytes })
}

fn fetch(stream: u64) -> Frame {
    let head = StreamHead::Fetch {
        blob: BlobId::new("b").unwrap(),
        offset: 0,
    };
    Frame::StreamOpen(StreamOpen { stream, head })
}

/// A node that serves the first bytes that it is asked for.
async fn serve_bytes(mut node: Link) {
    let (_streams, mut incoming) = node.take_streams().unwrap();
    let (mut tx, mut rx) = node.split();
    let sending = async {
        let (_, mut bytes) = incoming.accept().await.unwrap();
        bytes.send(b"some".as_slice().into()).await.unwrap();
        bytes.finish(b"sum".as_slice().into()).await.unwrap();
        std::future::pending::<()>().await;
    };
    let writing = async {
        loop {
            tx.streams_due().await;
            tx.feed_streams().await.unwrap();
            tx.flush().await.unwrap();
        }
    };
    tokio::select! { () = sending => {}, () = writing => {}, _ = rx.recv() => {} }
}

#[tokio::test]
async fn bytes_flow_on_a_stream_of_their_own() {
    let (pipe, mut bare) = client_end().await;
    transport::admit(&bare.connection);
    // The credit for streams has arrived when this has.
    bare.control
        .write_all(&message(&Frame::Ping(1).encode().unwrap()))
        .await
        .unwrap();
    let mut node = Link::new(pipe, Codec::Native);
    assert_eq!(frame(&mut node).await, Frame::Ping(1));
    let serving = tokio::spawn(serve_bytes(node));
    bare.control
        .write_all(&message(&fetch(0).encode().unwrap()))
        .await
        .unwrap();
    let mut flow = soon(bare.connection.accept_uni()).await.unwrap();
    for said in [chunk(0, ChunkKind::Data, b"some"), chunk(0, ChunkKind::End, b"sum")] {
        assert_eq!(soon(read(&mut flow)).await.unwrap(), said.encode().unwrap());
    }
    assert_eq!(soon(read(&mut flow)).await, None, "nothing follows the end");
    serving.abort();
}

#[tokio::test]
async fn bytes_without_credit_for_a_stream_take_the_first_one() {
    let (pipe, mut bare) = gateway_end().await;
    let serving = tokio::spawn(serve_bytes(Link::new(pipe, Codec::Native)));
    bare.control
        .write_all(&message(&fetch(0).encode().unwrap()))
        .await
        .unwrap();
    for said in [chunk(0, ChunkKind::Data, b"some"), chunk(0, ChunkKind::End, b"sum")] {
        assert_eq!(soon(read(&mut bare.answers)).await.unwrap(), said.encode().unwrap());
    }
    serving.abort();
}

#[tokio::test]
async fn a_large_outcome_holds_up_no_other_call() {
    let (mut gateway, mut node, _endpoint) = links().await;
    let large = atoll_protocol::limits::NATIVE_FRAME - 100;
    for name in ["large", "small"] {
        gateway.send(&invoke(name)).await.unwrap();
        assert_eq!(frame(&mut node).await, invoke(name));
    }
    let sending = async {
        node.send(&outcome("large", large)).await.unwrap();
        node.send(&outcome("small", 1)).await.unwrap();
    };
    let listening = async {
        let mut heard = [frame(&mut gateway).await, frame(&mut gateway).await];
        heard.sort_by_key(|frame| frame.encode().unwrap().len());
        heard
    };
    let ((), heard) = tokio::join!(sending, listening);
    assert_eq!(heard, [outcome("small", 1), outcome("large", large)]);
}

#[tokio::test]
async fn a_call_whose_stream_is_reset_is_cancelled() {
    let (pipe, bare) = client_end().await;
    let mut node = Link::new(pipe, Codec::Native);
    let opening = async {
        let (mut stream, answers) = bare.connection.open_bi().await.unwrap();
        stream
            .write_all(&message(&invoke("c").encode().unwrap()))
            .await
            .unwrap();
        (stream, answers)
    };
    let ((mut stream, mut answers), _) = soon(async { tokio::join!(opening, frame(&mut node)) }).await;
    stream.reset(VarInt::from_u32(0)).unwrap();
    assert_eq!(frame(&mut node).await, Frame::Cancel(call("c")));
    // Its end is still told.
    node.send(&outcome("c", 1)).await.unwrap();
    assert_eq!(
        soon(read(&mut answers)).await.unwrap(),
        outcome("c", 1).encode().unwrap()
    );
}

#[tokio::test]
async fn an_outcome_whose_stream_was_stopped_takes_the_first_one() {
    let (pipe, mut bare) = client_end().await;
    let mut node = Link::new(pipe, Codec::Native);
    let opening = async {
        let (mut stream, answers) = bare.connection.open_bi().await.unwrap();
        stream
            .write_all(&message(&invoke("c").encode().unwrap()))
            .await
            .unwrap();
        (stream, answers)
    };
    let ((mut stream, mut answers), _) = soon(async { tokio::join!(opening, frame(&mut node)) }).await;
    answers.stop(VarInt::from_u32(0)).unwrap();
    stream
        .write_all(&message(&Frame::Ping(1).encode().unwrap()))
        .await
        .unwrap();
    // Whatever was sent before this has arrived too.
    assert_eq!(frame(&mut node).await, Frame::Ping(1));
    node.send(&outcome("c", 1)).await.unwrap();
    assert_eq!(
        soon(read(&mut bare.answers)).await.unwrap(),
        outcome("c", 1).encode().unwrap()
    );
}

#[tokio::test]
async fn a_close_comes_after_what_was_sent_before_with_code_and_a_cut_reason() {
    let (gateway, mut node, _endpoint) = links().await;
    let (mut tx, mut rx) = gateway.split();
    tx.send(&Frame::Ping(1)).await.unwrap();
    let reason = "é".repeat(100);
    let closing = tokio::spawn(async move { tx.close(4001, &reason).await });
    assert_eq!(frame(&mut node).await, Frame::Ping(1));
    let error = soon(node.recv()).await.unwrap_err();
    assert!(
        matches!(&error, LinkError::Closed { code: 4001, reason } if *reason == "é".repeat(60)),
        "{error}"
    );
    soon(closing).await.unwrap();
    assert!(matches!(soon(rx.recv()).await, Err(LinkError::ClosedHere)));
    assert!(
        matches!(node.recv().await, Err(LinkError::ClosedHere)),
        "once over, over"
    );
}

#[tokio::test]
async fn a_peer_that_answers_nothing_is_closed_in_a_moment() {
    let (gateway, bare) = gateway_end().await;
    timeout(3 * CLOSE_GRACE, gateway.close(1012, "restart")).await.unwrap();
    // Whoever was busy then still learns why.
    let error = soon(bare.connection.closed()).await;
    assert!(matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(1012)));
}

#[tokio::test]
async fn a_call_goes_on_when_the_node_moves_to_another_address() {
    let (mut gateway, mut node, endpoint) = links().await;
    gateway.send(&invoke("c")).await.unwrap();
    assert_eq!(frame(&mut node).await, invoke("c"));
    endpoint
        .rebind(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        .unwrap();
    node.send(&outcome("c", 100_000)).await.unwrap();
    assert_eq!(frame(&mut gateway).await, outcome("c", 100_000));
    gateway.send(&Frame::Ping(3)).await.unwrap();
    assert_eq!(frame(&mut node).await, Frame::Ping(3));
}

/// Passes packets between one client and the one of two gateways that it is switched to.
async fn pass(way: tokio::net::UdpSocket, gateways: [SocketAddr; 2], which: tokio::sync::watch::Receiver<usize>) {
    let (mut client, mut buffer) = (way.local_addr().unwrap(), [0; 2048]);
    loop {
        let (len, from) = way.recv_from(&mut buffer).await.unwrap();
        let current = gateways[*which.borrow()];
        if !gateways.contains(&from) {
            client = from;
            way.send_to(&buffer[..len], current).await.unwrap();
        } else if from == current {
            way.send_to(&buffer[..len], client).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_gateway_that_starts_again_tells_those_of_its_last_life_that_it_does_not_know_them() {
    let identity = Identity::from_seed(&[1; 32]);
    let (first, second) = (listener(&identity), listener(&identity));
    let gateways = [first.address().unwrap(), second.address().unwrap()];
    let way = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = way.local_addr().unwrap().port();
    let (switch, which) = tokio::sync::watch::channel(0);
    tokio::spawn(pass(way, gateways, which));
    let accepting = async {
        let mut pipe = first.accept().await.unwrap().open().await.unwrap().native().unwrap();
        pipe.recv().await.unwrap();
        pipe
    };
    let connecting = async {
        let mut pipe = connect("127.0.0.1", port, Trust::AnyDevice).await.unwrap();
        pipe.send(Message::Binary(vec![1])).await.unwrap();
        pipe
    };
    let (_gateway, mut client) = soon(async { tokio::join!(accepting, connecting) }).await;
    switch.send_replace(1);
    client.send(Message::Binary(vec![2])).await.unwrap();
    let ended = timeout(Duration::from_secs(5), client.recv())
        .await
        .expect("long before silence tells");
    assert_eq!(ended.unwrap_err().code(), Some(1006));
}
