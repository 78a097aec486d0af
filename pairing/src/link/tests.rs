//! Links over memory: what the languages do with messages.

use atoll_protocol::dialect;
use atoll_protocol::id::DeviceId;
use atoll_protocol::limits;
use atoll_protocol::scope::Role;

use super::*;

mod every;

fn links(gateway: Codec, node: Codec) -> (Link, Link) {
    let (near, far) = memory::pair(Facts::default());
    (Link::new(near, gateway), Link::new(far, node))
}

#[tokio::test]
async fn a_native_link_takes_no_text() {
    let (near, mut far) = memory::pair(Facts::default());
    let mut link = Link::new(near, Codec::Native);
    far.send(Message::Text("{}".into())).await.unwrap();
    assert!(matches!(link.recv().await, Err(LinkError::Frame(_))));
}

#[tokio::test]
async fn a_frame_that_is_too_large_is_not_sent_and_the_link_goes_on() {
    let (mut near, mut far) = links(Codec::Native, Codec::Native);
    let huge = Frame::Invoke(atoll_protocol::frame::Invoke {
        call: atoll_protocol::id::CallId::new("c").unwrap(),
        node: DeviceId::from_digest([0; 32]),
        command: "x".repeat(limits::NATIVE_FRAME),
        params: None,
        timeout_ms: 1,
        idempotency_key: None,
        plan: None,
    });
    assert!(matches!(
        near.send(&huge).await,
        Err(LinkError::Frame(FrameError::TooLarge { .. }))
    ));
    near.send(&Frame::Ping(1)).await.unwrap();
    assert!(matches!(far.recv().await.unwrap(), Received::Frame(Frame::Ping(1))));
}

#[tokio::test]
async fn a_broken_message_of_the_dialect_is_answered_and_the_link_goes_on() {
    let language = dialect::Gateway {
        peer: Role::Operator,
        own: None,
    };
    let (near, mut far) = memory::pair(Facts::default());
    let mut link = Link::new(near, Codec::DialectGateway(language));
    far.send(Message::Text(r#"{"type":"req","id":1,"method":"health"}"#.into()))
        .await
        .unwrap();
    let Received::Reject(reject) = link.recv().await.unwrap() else {
        panic!("a reject")
    };
    let (mut tx, mut rx) = link.split();
    tx.feed_text(reject.answer.unwrap()).await.unwrap();
    tx.flush().await.unwrap();
    let answer = far.recv().await.unwrap().into_text().unwrap();
    assert!(answer.contains("invalid request frame"), "{answer}");
    far.send(Message::Binary(
        br#"{"type":"req","id":"1","method":"health"}"#.to_vec(),
    ))
    .await
    .unwrap();
    assert!(matches!(rx.recv().await.unwrap(), Received::Frame(Frame::Request(_))));
}

#[tokio::test]
async fn what_the_dialect_has_no_words_for_is_not_sent() {
    let language = dialect::Gateway {
        peer: Role::Operator,
        own: None,
    };
    let node = dialect::Node {
        node: DeviceId::from_digest([0; 32]),
    };
    let (mut near, mut far) = links(Codec::DialectGateway(language), Codec::DialectNode(node));
    near.send(&Frame::Ping(1)).await.unwrap();
    let event = atoll_protocol::frame::Event {
        name: "tick".into(),
        payload: serde_json::json!({ "ts": 1 }).into(),
        seq: Some(1),
        state: None,
    };
    near.send(&Frame::Event(event.clone())).await.unwrap();
    let Received::Frame(Frame::Event(received)) = far.recv().await.unwrap() else {
        panic!("the event")
    };
    assert_eq!(received, event);
}

#[tokio::test(start_paused = true)]
async fn a_memory_pipe_is_bounded_and_says_how_it_ended() {
    let (mut near, mut far) = memory::pair(Facts::default());
    let flood = async {
        loop {
            near.send(Message::Text("x".into())).await.unwrap();
        }
    };
    let second = std::time::Duration::from_secs(1);
    assert!(tokio::time::timeout(second, flood).await.is_err(), "the sender waits");
    let closing = tokio::spawn(near.close(4001, "device removed"));
    let error = loop {
        if let Err(error) = far.recv().await {
            break error;
        }
    };
    assert!(matches!(error, LinkError::Closed { code: 4001, .. }), "{error}");
    drop(far);
    closing.await.unwrap();
}

#[test]
fn debug_shows_no_content() {
    let text = format!(
        "{:?}",
        [Message::Text("secret".into()), Message::Binary(b"secret".to_vec())]
    );
    assert!(!text.contains("secret"), "{text}");
}
