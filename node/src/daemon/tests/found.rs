//! A gateway that was found and not named.

use atoll_pairing::discovery::Air;

use super::*;

/// A port that nobody else looks at, within this machine.
fn found(announced: Option<[u8; 32]>) -> Option<Found> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    Some(Found {
        announced,
        air: Air::loopback(port),
    })
}

fn start(gateway: &TestGateway, state: &Path, announced: Option<[u8; 32]>) -> Node {
    Node::start_found(gateway, state, Dialect::Native, found(announced))
}

/// What came along is for admission alone to see; that something did can be read here.
fn shows_token(guest: &Guest) -> bool {
    !format!("{:?}", guest.proven()).contains("Offered { token: None,")
}

#[tokio::test]
async fn another_key_than_the_announced_one_ends_it_before_anything_is_said() {
    let (gateway, folder) = (TestGateway::new().await, state(None));
    let node = start(&gateway, folder.path(), Some([7; 32]));
    assert!(gateway.guest().await.is_err(), "it proves itself to nobody else");
    let error = soon("the end", node.task)
        .await
        .expect("no panic")
        .expect_err("it stops");
    assert!(matches!(error, RunError::OtherKey { .. }), "{error}");
    assert!(error.to_string().contains("ws://127.0.0.1:"), "{error}");
    let remembered = StateDir::open(&node.state).expect("opens").gateways().expect("reads");
    assert_eq!(remembered.remembered(None), crate::state::Remembered::Nobody);
}

#[tokio::test]
async fn the_shared_token_is_shown_only_to_a_gateway_that_is_paired_or_named() {
    let (gateway, folder) = (TestGateway::new().await, state(None));
    let announced = Some(gateway.identity.public_key());
    let mut node = start(&gateway, folder.path(), announced);
    let guest = gateway.guest().await.expect("a proven guest");
    assert!(!shows_token(&guest), "a stranger");
    let link = admit(guest).await;
    node.notice(|notice| matches!(notice, Notice::Connected { .. })).await;
    node.stop.cancel();
    soon("the end", node.task).await.expect("no panic").expect("in order");
    drop(link);
    for again in [announced, None] {
        let node = start(&gateway, folder.path(), again);
        let guest = gateway.guest().await.expect("a proven guest");
        assert!(shows_token(&guest), "paired by now");
        node.stop.cancel();
        soon("the end", node.task).await.expect("no panic").expect("in order");
    }
}
