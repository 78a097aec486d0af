//! The real OpenClaw programs as peers. Slow: each test starts Node.js programs.

use atoll_tests::openclaw::OpenClawGateway;

use crate::{connect, invoke, pairing};

#[tokio::test]
async fn their_gateway_refuses_as_ours_does() {
    let gateway = OpenClawGateway::start().await;
    connect::expect_first_frames(gateway.target()).await;
    connect::expect_manners_after_hello(gateway.target()).await;
    connect::expect_refusals(gateway.target()).await;
}

#[tokio::test]
async fn their_gateway_ends_calls_as_ours_does() {
    let gateway = OpenClawGateway::start().await;
    invoke::expect_every_ending(gateway.target()).await;
}

#[tokio::test]
async fn their_gateway_gives_and_takes_rights_as_ours_does() {
    let gateway = OpenClawGateway::start().await;
    pairing::expect_lifecycle(gateway.target()).await;
}
