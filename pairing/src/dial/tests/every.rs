//! The native handshake over every pipe, from one source: both ends are who they say, a person may take their time, and a no is understood.

use super::*;
use crate::link::pipes::{self, Kind, over_every_pipe};

over_every_pipe! {
    both_ends_prove_themselves_and_a_link_comes_of_it,
    a_device_that_waits_is_let_in_on_the_same_pipe,
    whoever_is_refused_learns_why,
    another_gateway_than_the_pinned_one_is_told_nothing,
}

/// What the client comes to when the gateway does this with it.
async fn meet(
    kind: Kind,
    pin: u8,
    plan: Plan,
) -> (Result<(Link, Box<Outcome>), DialError>, Vec<Waiting>, JoinHandle<()>) {
    let (near, far) = pipes::pair(kind, &identity(GATEWAY)).await;
    let serving = tokio::spawn(serve(near, plan));
    let (mut waited, dial) = (Vec::new(), native(&"ws://127.0.0.1:1".parse().unwrap(), Some(pin)));
    let met = introduce(&dial, far, CURRENT, &mut |waiting| waited.push(waiting)).await;
    (met, waited, serving)
}

async fn both_ends_prove_themselves_and_a_link_comes_of_it(kind: Kind) {
    let (met, waited, _serving) = meet(kind, GATEWAY, Plan::Admit).await;
    let (mut link, outcome) = met.unwrap();
    assert_eq!(outcome.gateway, Some(identity(GATEWAY).device()));
    assert_eq!(outcome.admitted, admitted());
    assert!(waited.is_empty());
    ask_something(&mut link).await;
}

async fn a_device_that_waits_is_let_in_on_the_same_pipe(kind: Kind) {
    let (met, waited, _serving) = meet(kind, GATEWAY, Plan::WaitThenAdmit).await;
    ask_something(&mut met.unwrap().0).await;
    assert_eq!(waited.len(), 1);
    assert_eq!(
        (waited[0].request.as_str(), waited[0].reason.as_str()),
        ("p1", "not-paired")
    );
}

async fn whoever_is_refused_learns_why(kind: Kind) {
    let refusal = Refusal::RateLimited { retry_after_ms: 700 };
    let (met, _, serving) = meet(kind, GATEWAY, Plan::Refuse(refusal)).await;
    let error = met.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_millis(700)), "{error}");
    serving.await.unwrap();
}

async fn another_gateway_than_the_pinned_one_is_told_nothing(kind: Kind) {
    let (met, _, serving) = meet(kind, 9, Plan::Admit).await;
    let error = met.unwrap_err();
    assert!(
        matches!(error, DialError::Handshake(HandshakeError::WrongGateway { .. })),
        "{error}"
    );
    serving.await.unwrap();
}
