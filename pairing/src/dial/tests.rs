//! Whole dials against a small gateway, over every transport and in both languages.

use std::collections::VecDeque;
use std::path::PathBuf;

use atoll_protocol::dialect::hello::HelloOk;
use atoll_protocol::dialect::refusal::{CredentialFault, PairingReason, PairingRefusal, Refusal};
use atoll_protocol::frame::{Admitted, ClientInfo, Frame, Request};
use atoll_protocol::id::{PairingId, RequestId};
use atoll_protocol::limits;
use atoll_protocol::scope::{Role, Scopes};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

use super::open::STEP;
use super::*;
use crate::greet::{GreetError, Guest, greet};
use crate::handshake::HandshakeError;
use crate::link::Received;
use crate::link::ws::fixture;
use crate::tls::{self, WebCertificate};

mod every;
mod race;

const GATEWAY: u8 = 2;

fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seed(&[seed; 32]))
}

fn ask() -> Ask {
    Ask {
        role: Role::Node,
        scopes: Scopes::none(),
        client: ClientInfo {
            id: "node-host".into(),
            mode: "node".into(),
            version: "0.1.0".into(),
            platform: "linux".into(),
            device_family: "Linux".into(),
            ..ClientInfo::default()
        },
        surface: atoll_protocol::capability::Surface::default(),
        path_env: String::new(),
    }
}

fn native(target: &Target, pin: Option<u8>) -> Dial {
    Dial {
        target: target.clone(),
        first: None,
        identity: Some(identity(1)),
        ask: ask(),
        speak: Speak::Native {
            pin: pin.map(|seed| identity(seed).public_key()),
            token: Some("token".into()),
            setup_code: None,
        },
    }
}

fn dialect(target: &Target, certificate: Option<Fingerprint>) -> Dial {
    Dial {
        speak: Speak::Dialect {
            credentials: Offered::default(),
            certificate,
        },
        ..native(target, None)
    }
}

fn admitted() -> Admitted {
    Admitted {
        connection: "c1".into(),
        server_version: "0.1.0".into(),
        role: Role::Node,
        scopes: Scopes::none(),
        surface: atoll_protocol::capability::Surface::default(),
        generation: 1,
        tick_ms: 30_000,
    }
}

fn pairing() -> PairingRefusal {
    PairingRefusal {
        reason: PairingReason::NotPaired,
        request: PairingId::new("p1").unwrap(),
        device: identity(1).device_id(),
        role: Role::Node,
        scopes: Scopes::none(),
        approved_roles: Vec::new(),
        approved_scopes: Scopes::none(),
    }
}

/// What the gateway does with its next guest.
#[derive(Debug, Clone)]
enum Plan {
    Admit,
    WaitThenAdmit,
    Refuse(Refusal),
}

/// A gateway that handles one guest after another by plan, and echoes the requests of those it admits.
struct Fixture {
    target: Target,
    fingerprint: Option<Fingerprint>,
    task: JoinHandle<()>,
    _folder: Option<tempfile::TempDir>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Transport {
    Tcp,
    Tls,
    Unix,
}

async fn gateway(transport: Transport, plans: impl IntoIterator<Item = Plan>) -> Fixture {
    let plans: VecDeque<Plan> = plans.into_iter().collect();
    if transport == Transport::Unix {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("g.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let task = tokio::spawn(async move {
            for plan in plans {
                let (stream, _) = listener.accept().await.unwrap();
                serve(fixture::serve(stream, Facts::default()).await, plan).await;
            }
        });
        return Fixture {
            target: Target::Unix(path),
            fingerprint: None,
            task,
            _folder: Some(folder),
        };
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let web = WebCertificate::ephemeral(&["127.0.0.1".into()]).unwrap();
    let server = tls::Server::new(&identity(GATEWAY), &web).unwrap();
    let is_tls = transport == Transport::Tls;
    let task = tokio::spawn(async move {
        for plan in plans {
            let (stream, _) = listener.accept().await.unwrap();
            if !is_tls {
                serve(fixture::serve(stream, Facts::default()).await, plan).await;
            } else if let Ok((stream, facts)) = server.accept(stream).await {
                serve(fixture::serve(stream, facts).await, plan).await;
            }
        }
    });
    let scheme = if is_tls { "wss" } else { "ws" };
    Fixture {
        target: format!("{scheme}://127.0.0.1:{port}").parse().unwrap(),
        fingerprint: is_tls.then(|| web.fingerprint()),
        task,
        _folder: None,
    }
}

async fn serve(pipe: Pipe, plan: Plan) {
    let language = pipe.facts().language.unwrap();
    let Ok(guest) = greet(pipe, language, identity(GATEWAY)).await else {
        return;
    };
    assert_eq!(guest.proven().device(), Some(&identity(1).device()));
    let guest = match plan {
        Plan::Admit => guest,
        Plan::WaitThenAdmit => match guest.wait(&pairing()).await.unwrap() {
            Some(guest) => guest,
            None => return,
        },
        Plan::Refuse(refusal) => return guest.refuse(&refusal).await,
    };
    echo(guest).await;
}

async fn echo(guest: Guest) {
    let mut link = guest.admit(admitted(), |_| HelloOk::default()).await.unwrap();
    while let Ok(received) = link.recv().await {
        let Received::Frame(Frame::Request(request)) = received else {
            continue;
        };
        let response = atoll_protocol::frame::Response {
            id: request.id,
            result: Ok(serde_json::json!({ "method": request.method }).into()),
        };
        link.send(&Frame::Response(response)).await.unwrap();
    }
}

async fn ask_something(link: &mut Link) {
    let id = RequestId::new("1:q").unwrap();
    let request = Request {
        id: id.clone(),
        method: "health".into(),
        params: None,
    };
    link.send(&Frame::Request(request)).await.unwrap();
    let Received::Frame(Frame::Response(response)) = link.recv().await.unwrap() else {
        panic!("a response");
    };
    assert_eq!(response.id, id);
    assert_eq!(response.result.unwrap().as_str(), r#"{"method":"health"}"#);
}

fn no_waiting(waiting: Waiting) {
    panic!("nobody was to wait: {waiting:?}");
}

#[tokio::test]
async fn both_languages_get_through_every_transport() {
    for transport in [Transport::Tcp, Transport::Tls, Transport::Unix] {
        let gateway = gateway(transport, [Plan::Admit, Plan::Admit]).await;
        let mut native = dial(&native(&gateway.target, None), no_waiting).await.unwrap();
        assert_eq!(
            native.outcome.gateway,
            Some(identity(GATEWAY).device()),
            "{transport:?}"
        );
        assert_eq!(native.link.facts().exporter.is_some(), transport == Transport::Tls);
        ask_something(&mut native.link).await;
        drop(native);
        let plain = dialect(&gateway.target, gateway.fingerprint);
        let mut plain = dial(&plain, no_waiting).await.unwrap();
        assert_eq!(plain.outcome.gateway, None);
        ask_something(&mut plain.link).await;
    }
}

#[tokio::test]
async fn a_device_of_the_dialect_is_told_to_come_again() {
    let gateway = gateway(Transport::Tcp, [Plan::WaitThenAdmit]).await;
    let error = dial(&dialect(&gateway.target, None), no_waiting).await.unwrap_err();
    assert_eq!(error.needs_pairing().as_deref(), Some("p1"));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn another_gateway_than_the_pinned_one_is_not_spoken_to() {
    let plain = gateway(Transport::Tcp, [Plan::Admit]).await;
    let error = dial(&native(&plain.target, Some(9)), no_waiting).await.unwrap_err();
    assert!(
        matches!(error, DialError::Handshake(HandshakeError::WrongGateway { .. })),
        "{error}"
    );
    let secured = gateway(Transport::Tls, [Plan::Admit, Plan::Admit]).await;
    let error = dial(&native(&secured.target, Some(9)), no_waiting).await.unwrap_err();
    assert!(matches!(error, DialError::WrongCertificate { .. }), "{error}");
    let fingerprint = "00".repeat(32).parse().unwrap();
    let error = dial(&dialect(&secured.target, Some(fingerprint)), no_waiting)
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::WrongCertificate { .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_credential_is_for_a_person_to_mend_and_a_stale_device_token_is_not() {
    let refuse = |fault| {
        Plan::Refuse(Refusal::Credential {
            fault,
            has_device_token: false,
        })
    };
    let plans = [
        refuse(CredentialFault::TokenMismatch),
        refuse(CredentialFault::DeviceTokenMismatch),
        Plan::Refuse(Refusal::RateLimited { retry_after_ms: 700 }),
    ];
    let gateway = gateway(Transport::Tcp, plans).await;
    for (dial_with, fatal, stale, after) in [
        (native(&gateway.target, None), true, false, None),
        (dialect(&gateway.target, None), false, true, None),
        (
            dialect(&gateway.target, None),
            false,
            false,
            Some(Duration::from_millis(700)),
        ),
    ] {
        let error = dial(&dial_with, no_waiting).await.unwrap_err();
        assert!(matches!(error, DialError::Refused(_)), "{error}");
        assert_eq!(error.is_fatal(), fatal, "{error}");
        assert_eq!(error.is_stale_device_token(), stale, "{error}");
        assert_eq!(error.retry_after(), after, "{error}");
        assert_eq!(error.needs_pairing(), None);
    }
}

#[tokio::test]
async fn what_would_be_too_open_or_unknowable_is_not_even_dialled() {
    let far = "ws://203.0.113.1:1".parse().unwrap();
    for attempt in [native(&far, None), dialect(&far, None)] {
        let error = dial(&attempt, no_waiting).await.unwrap_err();
        assert!(
            error.is_fatal() && error.to_string().contains("wss://203.0.113.1:1"),
            "{error}"
        );
    }
    let secured = "wss://203.0.113.1:1".parse().unwrap();
    let error = dial(&dialect(&secured, None), no_waiting).await.unwrap_err();
    assert!(
        matches!(error, DialError::NoFingerprint { .. }) && error.is_fatal(),
        "{error}"
    );
}

#[tokio::test]
async fn a_closed_port_can_be_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let error = dial(&native(&target, None), no_waiting).await.unwrap_err();
    assert!(
        matches!(error, DialError::Unreachable { .. }) && error.is_retryable(),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_accepts_and_says_nothing_is_left_at_every_step() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            kept.push(listener.accept().await.unwrap());
        }
    });
    for (scheme, step) in [("ws", "upgrade"), ("wss", "TLS")] {
        let target = format!("{scheme}://{address}").parse().unwrap();
        let start = tokio::time::Instant::now();
        let error = dial(&native(&target, None), no_waiting).await.unwrap_err();
        assert!(
            matches!(&error, DialError::Timeout { what, .. } if what.contains(step)),
            "{error}"
        );
        assert!(error.is_retryable() && start.elapsed() <= 3 * STEP);
    }
    silent.abort();
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_stops_in_the_handshake_is_left_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let silent = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let pipe = fixture::serve(stream, Facts::default()).await;
        std::future::pending::<()>().await;
        drop(pipe);
    });
    let error = dial(&native(&Target::Unix(path), None), no_waiting).await.unwrap_err();
    assert!(
        matches!(&error, DialError::Timeout { what, .. } if what.contains("handshake")),
        "{error}"
    );
    silent.abort();
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_says_nothing_is_sent_away_with_1000() {
    for language in [Language::Native, Language::Dialect] {
        let (gateway, mut client) = crate::link::memory::pair(Facts::default());
        let start = tokio::time::Instant::now();
        let greeting = tokio::spawn(greet(gateway, language, identity(GATEWAY)));
        while client.recv().await.is_ok() {}
        drop(client);
        let error = greeting.await.unwrap().unwrap_err();
        assert!(matches!(error, GreetError::Refused { code: 1000, .. }), "{error}");
        assert_eq!(start.elapsed().as_secs(), limits::HANDSHAKE.as_secs());
    }
}

#[tokio::test]
async fn a_gateway_of_protocol_3_gets_a_second_connect_in_its_language() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target: Target = format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap();
    let older = tokio::spawn(async move {
        let mut offered = Vec::new();
        for answer in [
            r#""ok":false,"error":{"code":"INVALID_REQUEST","message":"protocol mismatch","details":{"code":"PROTOCOL_MISMATCH","expectedProtocol":3}}"#,
            r#""ok":true,"payload":{"type":"hello-ok","protocol":3}"#,
        ] {
            let (stream, _) = listener.accept().await.unwrap();
            let mut pipe = fixture::serve(stream, Facts::default()).await;
            let challenge = r#"{"type":"event","event":"connect.challenge","payload":{"nonce":"n","ts":1}}"#;
            pipe.send(crate::link::Message::Text(challenge.into())).await.unwrap();
            let connect: serde_json::Value =
                serde_json::from_str(&pipe.recv().await.unwrap().into_text().unwrap()).unwrap();
            offered.push(connect["params"]["maxProtocol"].as_u64().unwrap());
            let answer = format!(r#"{{"type":"res","id":{},{answer}}}"#, connect["id"]);
            pipe.send(crate::link::Message::Text(answer)).await.unwrap();
            let _ = pipe.recv().await;
        }
        offered
    });
    let dialled = dial(&dialect(&target, None), no_waiting).await.unwrap();
    assert_eq!(dialled.outcome.protocol, 3);
    drop(dialled);
    assert_eq!(older.await.unwrap(), [4, 3]);
}

#[test]
fn a_dial_can_move_between_threads() {
    fn check<T: Send>(_: &T) {}
    let attempt = native(&"ws://127.0.0.1:1".parse().unwrap(), None);
    check(&dial(&attempt, |_| ()));
}
