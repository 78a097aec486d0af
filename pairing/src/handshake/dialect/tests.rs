//! Both ends of the dialect against each other, and every fault that a real client acts upon.

use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use std::sync::Arc;

use atoll_protocol::capability::Surface;
use atoll_protocol::dialect::connect::{CURRENT, Challenge, LOWEST, write_challenge};
use atoll_protocol::dialect::hello::HelloOk;
use atoll_protocol::dialect::refusal::Refusal;
use atoll_protocol::frame::ClientInfo;
use atoll_protocol::id::RequestId;
use atoll_protocol::limits;
use atoll_protocol::scope::{Role, Scope, Scopes};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;

use super::*;
use crate::handshake::{Ask, ClientStep, HandshakeError, Now, Step};
use crate::identity::Identity;
use crate::link::Message;
use crate::proven::Offered;

const NONCE: &str = "0811091b-dfd7-4c98-be7a-85a94cc7c975";
const TOKEN: &str = "shared-secret";

fn now() -> Now {
    Now {
        instant: std::time::Instant::now(),
        unix_ms: 1_700_000_000_000,
    }
}

fn identity() -> Arc<Identity> {
    Arc::new(Identity::from_seed(&std::array::from_fn(|index| index as u8)))
}

fn ask(role: Role) -> Ask {
    let (id, mode) = match role {
        Role::Node => ("node-host", "node"),
        Role::Operator => ("cli", "cli"),
    };
    Ask {
        role,
        scopes: match role {
            Role::Node => Scopes::none(),
            Role::Operator => [Scope::Read, Scope::Write].into_iter().collect(),
        },
        client: ClientInfo {
            id: id.into(),
            mode: mode.into(),
            version: "2026.9.6".into(),
            platform: "Linux".into(),
            device_family: "Linux".into(),
            model: String::new(),
            display_name: "Laptop".into(),
            instance_id: "i1".into(),
        },
        surface: Surface {
            caps: vec!["system".into()],
            commands: vec!["system.run".into()],
            ..Surface::default()
        },
        path_env: "/usr/bin".into(),
    }
}

fn setup(role: Role) -> DialectClient {
    DialectClient {
        identity: Some(identity()),
        ask: ask(role),
        credentials: Offered {
            token: Some(TOKEN.into()),
            ..Offered::default()
        },
        protocol: CURRENT,
        request: RequestId::new("1:r").unwrap(),
    }
}

fn text(message: &Message) -> &str {
    match message {
        Message::Text(text) => text,
        Message::Binary(_) => panic!("the dialect is text"),
    }
}

/// The gateway after its challenge, and what `client` answers to it.
fn meet(client: DialectClient) -> (Gateway, Client, Message) {
    let (gateway, steps) = Gateway::start(NONCE.to_owned(), now());
    let [Step::Send(challenge)] = &steps[..] else {
        panic!("a challenge first")
    };
    let mut client = Client::new(client);
    let steps = client.handle(challenge.clone());
    let [ClientStep::Send(connect)] = &steps[..] else {
        panic!("a connect: {steps:?}")
    };
    (gateway, client, connect.clone())
}

/// What the gateway makes of a connect that `change` has changed after it was signed.
fn judge(change: impl FnOnce(&mut Value)) -> Vec<Step> {
    let (mut gateway, _, connect) = meet(setup(Role::Node));
    let mut message: Value = serde_json::from_str(text(&connect)).unwrap();
    change(&mut message);
    gateway.handle(Message::Text(message.to_string()), now())
}

fn refusal(steps: &[Step]) -> (String, u16) {
    let [answer @ .., Step::Close { code, .. }] = steps else {
        panic!("closed: {steps:?}")
    };
    let detail = match answer {
        [Step::Send(answer)] => {
            let answer: Value = serde_json::from_str(text(answer)).unwrap();
            assert_eq!(answer["id"], "1:r");
            assert_eq!(answer["ok"], false);
            let error = &answer["error"];
            error["details"]["code"]
                .as_str()
                .or(error["message"].as_str())
                .unwrap()
                .to_owned()
        }
        [] => String::new(),
        other => panic!("at most one answer: {other:?}"),
    };
    (detail, *code)
}

#[test]
fn a_node_is_proven_with_everything_it_said() {
    let (mut gateway, mut client, connect) = meet(setup(Role::Node));
    let steps = gateway.handle(connect, now());
    let [Step::Proven(proven)] = &steps[..] else {
        panic!("proven: {steps:?}")
    };
    assert_eq!(proven.device(), Some(&identity().device()));
    assert_eq!(proven.claims().role, Role::Node);
    assert_eq!(proven.claims().surface, ask(Role::Node).surface);
    assert_eq!(proven.claims().client, ask(Role::Node).client);
    assert_eq!(proven.claims().path_env, "/usr/bin");
    assert_eq!(proven.claims().protocol, 4);
    assert_eq!(proven.offered.token.as_ref().unwrap().expose_secret(), TOKEN);

    let mut hello = HelloOk::default();
    hello.server.conn_id = "c9".into();
    hello.auth = Some(atoll_protocol::dialect::hello::Auth {
        role: "node".into(),
        device_token: Some(atoll_protocol::dialect::hello::SecretText("device-secret".into())),
        ..Default::default()
    });
    let steps = gateway.admit(&hello);
    let [Step::Send(hello)] = &steps[..] else {
        panic!("a hello")
    };
    let steps = client.handle(hello.clone());
    let [ClientStep::Admitted(outcome)] = &steps[..] else {
        panic!("admitted: {steps:?}")
    };
    assert_eq!(outcome.admitted.connection, "c9");
    assert_eq!(outcome.admitted.tick_ms, 30_000);
    assert_eq!(outcome.device_token.as_ref().unwrap().expose_secret(), "device-secret");
}

#[test]
fn the_signature_is_the_one_of_the_real_programs() {
    // The first case of the captured vectors: seed 00…1f, this nonce, time and token.
    let mut client = Client::new(DialectClient {
        ask: Ask {
            client: ClientInfo {
                platform: "linux".into(),
                ..ask(Role::Node).client
            },
            ..ask(Role::Node)
        },
        ..setup(Role::Node)
    });
    let challenge = write_challenge(&Challenge {
        nonce: "00000000-0000-4000-8000-000000000001".into(),
        ts: 1_700_000_000_000,
        capabilities: Vec::new(),
    });
    let steps = client.handle(Message::Text(challenge));
    let [ClientStep::Send(connect)] = &steps[..] else {
        panic!("a connect")
    };
    let connect: Value = serde_json::from_str(text(connect)).unwrap();
    assert_eq!(
        connect["params"]["device"]["signature"],
        "p7L7ms-FrHIA4uKvuEOgvxBslpIr5bhQ6cKSjxtrzV5ullPzzyk7NyPQm1gRPf8V0WmpG7AwVQaTwFTECj7SDw"
    );
}

#[test]
fn an_operators_program_may_come_without_a_device() {
    let (mut gateway, _, connect) = meet(DialectClient {
        identity: None,
        ..setup(Role::Operator)
    });
    let steps = gateway.handle(connect, now());
    let [Step::Proven(proven)] = &steps[..] else {
        panic!("proven: {steps:?}")
    };
    assert_eq!(proven.device(), None);
    assert!(proven.claims().scopes.give(Scope::Write));
}

#[test]
fn credentials_go_where_the_real_client_puts_them() {
    let secret = |text: &str| Some(SecretString::from(text));
    let all = Offered {
        token: secret("t"),
        password: secret("p"),
        device_token: secret("d"),
        bootstrap_token: secret("b"),
    };
    let without_token = Offered {
        token: None,
        ..all.clone()
    };
    let only_code = Offered {
        device_token: None,
        ..without_token.clone()
    };
    for (credentials, expected) in [
        (all, json!({ "token": "t", "password": "p" })),
        (without_token, json!({ "deviceToken": "d", "password": "p" })),
        (only_code, json!({ "bootstrapToken": "b", "password": "p" })),
        (Offered::default(), Value::Null),
    ] {
        let (mut gateway, _, connect) = meet(DialectClient {
            credentials,
            ..setup(Role::Node)
        });
        let sent: Value = serde_json::from_str(text(&connect)).unwrap();
        assert_eq!(sent["params"]["auth"], expected);
        // Whatever is shown is under the signature, too.
        assert!(matches!(&gateway.handle(connect, now())[..], [Step::Proven(_)]));
    }
}

#[test]
fn every_fault_has_the_code_that_real_clients_act_upon() {
    type Change = fn(&mut Value);
    let cases: &[(Change, &str, u16)] = &[
        (
            |m| {
                m["params"]["minProtocol"] = 5.into();
                m["params"]["maxProtocol"] = 5.into();
            },
            "PROTOCOL_MISMATCH",
            1002,
        ),
        (
            |m| {
                m["params"]["minProtocol"] = 2.into();
                m["params"]["maxProtocol"] = 2.into();
            },
            "PROTOCOL_MISMATCH",
            1002,
        ),
        (|m| m["params"]["role"] = "king".into(), "invalid role", 1008),
        (|m| m["params"]["role"] = "worker".into(), "", 1008),
        (
            |m| m["params"]["device"]["id"] = "00".repeat(32).into(),
            "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            1008,
        ),
        (
            |m| m["params"]["device"]["publicKey"] = "broken".into(),
            "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            1008,
        ),
        (
            |m| m["params"]["device"]["nonce"] = " ".into(),
            "DEVICE_AUTH_NONCE_REQUIRED",
            1008,
        ),
        (
            |m| m["params"]["device"]["nonce"] = "another".into(),
            "DEVICE_AUTH_NONCE_MISMATCH",
            1008,
        ),
        (
            |m| m["params"]["device"]["signature"] = "AAAA".into(),
            "DEVICE_AUTH_SIGNATURE_INVALID",
            1008,
        ),
        (
            |m| m["params"]["device"]["signedAt"] = 1_700_000_000_001_u64.into(),
            "DEVICE_AUTH_SIGNATURE_INVALID",
            1008,
        ),
        (
            |m| m["params"]["device"]["signedAt"] = 1_700_000_120_001_u64.into(),
            "DEVICE_AUTH_SIGNATURE_EXPIRED",
            1008,
        ),
        (
            |m| m["params"]["device"]["signedAt"] = 1_699_999_879_999_u64.into(),
            "DEVICE_AUTH_SIGNATURE_EXPIRED",
            1008,
        ),
        (
            |m| m["params"]["role"] = "operator".into(),
            "DEVICE_AUTH_SIGNATURE_INVALID",
            1008,
        ),
        (
            |m| m["params"]["scopes"] = json!(["operator.admin"]),
            "DEVICE_AUTH_SIGNATURE_INVALID",
            1008,
        ),
        (
            |m| m["params"]["auth"]["token"] = "other".into(),
            "DEVICE_AUTH_SIGNATURE_INVALID",
            1008,
        ),
        (
            |m| m["params"]["client"]["mode"] = "ui".into(),
            "DEVICE_AUTH_SIGNATURE_INVALID",
            1008,
        ),
        (
            |m| m["method"] = "health".into(),
            "invalid handshake: first request must be connect",
            1008,
        ),
        (
            |m| m["params"]["client"]["id"] = "me".into(),
            "invalid connect params: at /client/id: must be equal to one of the allowed values",
            1008,
        ),
        (|m| m["type"] = "event".into(), "", 1008),
    ];
    for (change, detail, code) in cases {
        assert_eq!(refusal(&judge(change)), ((*detail).to_owned(), *code));
    }
}

#[test]
fn what_is_not_json_is_closed_with_1000_and_what_is_too_large_with_1009() {
    for (message, code) in [
        (Message::Text("hello".into()), 1000),
        (Message::Binary(vec![0xff]), 1000),
        (Message::Text(" ".repeat(limits::PRE_AUTH_FRAME + 1)), 1009),
    ] {
        let (mut gateway, _) = Gateway::start(NONCE.to_owned(), now());
        let steps = gateway.handle(message, now());
        assert!(matches!(&steps[..], [Step::Close { code: found, reason }] if *found == code && reason.is_empty()));
    }
}

#[test]
fn json_in_a_binary_message_counts() {
    let (mut gateway, _, connect) = meet(setup(Role::Node));
    let connect = Message::Binary(text(&connect).as_bytes().to_vec());
    assert!(matches!(&gateway.handle(connect, now())[..], [Step::Proven(_)]));
}

#[test]
fn a_signature_of_version_2_is_good_too() {
    let (mut gateway, _, connect) = meet(setup(Role::Node));
    let mut message: Value = serde_json::from_str(text(&connect)).unwrap();
    let older = format!(
        "v2|{}|node-host|node|node||1700000000000|{TOKEN}|{NONCE}",
        identity().device_id()
    );
    message["params"]["device"]["signature"] = URL_SAFE_NO_PAD.encode(identity().sign_text(&older)).into();
    let steps = gateway.handle(Message::Text(message.to_string()), now());
    assert!(matches!(&steps[..], [Step::Proven(_)]), "{steps:?}");
}

#[test]
fn a_connect_is_good_for_one_challenge_only() {
    let (_, _, connect) = meet(setup(Role::Node));
    let (mut other, _) = Gateway::start("another-nonce".to_owned(), now());
    assert_eq!(refusal(&other.handle(connect, now())).0, "DEVICE_AUTH_NONCE_MISMATCH");
}

#[test]
fn protocol_3_leaves_the_family_out_and_is_told_4_only_by_mistake() {
    let (mut gateway, mut client, connect) = meet(DialectClient {
        protocol: LOWEST,
        ..setup(Role::Node)
    });
    let sent: Value = serde_json::from_str(text(&connect)).unwrap();
    assert_eq!(sent["params"]["client"].get("deviceFamily"), None);
    assert_eq!(sent["params"]["maxProtocol"], 3);
    let steps = gateway.handle(connect, now());
    let [Step::Proven(proven)] = &steps[..] else {
        panic!("proven: {steps:?}")
    };
    assert_eq!(proven.claims().protocol, 3);
    let steps = gateway.admit(&HelloOk::default());
    let [Step::Send(hello)] = &steps[..] else {
        panic!("a hello")
    };
    let steps = client.handle(hello.clone());
    assert!(
        matches!(&steps[..], [ClientStep::Broken(HandshakeError::Version { version: 4 })]),
        "{steps:?}"
    );
}

#[test]
fn a_client_passes_over_early_events_and_hears_the_refusal() {
    let (mut gateway, mut client, connect) = meet(setup(Role::Node));
    gateway.handle(connect, now());
    let event = r#"{"type":"event","event":"tick","payload":{"ts":1}}"#;
    assert!(client.handle(Message::Text(event.into())).is_empty());
    let steps = gateway.refuse(&Refusal::DeviceRequired);
    let [Step::Send(answer), Step::Close { code: 1008, .. }] = &steps[..] else {
        panic!("refused: {steps:?}")
    };
    let steps = client.handle(answer.clone());
    let [ClientStep::Refused(error)] = &steps[..] else {
        panic!("refused: {steps:?}")
    };
    assert_eq!(error.detail_code().as_deref(), Some("DEVICE_IDENTITY_REQUIRED"));
}

#[test]
fn a_gateway_that_opens_with_something_else_is_left() {
    for opening in [
        "",
        "hi",
        r#"{"type":"event","event":"connect.challenge","payload":{"nonce":"n"}}"#,
    ] {
        let mut client = Client::new(setup(Role::Node));
        let steps = client.handle(Message::Text(opening.into()));
        assert!(
            matches!(&steps[..], [ClientStep::Broken(HandshakeError::Unexpected { .. })]),
            "{steps:?}"
        );
    }
}

#[test]
fn a_program_without_a_word_for_itself_hears_which_field_is_wrong() {
    let mut client = setup(Role::Node);
    client.ask.client.id = "atoll".into();
    let (_, steps) = Gateway::start(NONCE.to_owned(), now());
    let [Step::Send(challenge)] = &steps[..] else {
        panic!("a challenge")
    };
    let steps = Client::new(client).handle(challenge.clone());
    assert!(matches!(
        &steps[..],
        [ClientStep::Broken(HandshakeError::Unspeakable { field: "client.id" })]
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_flipped_bit_never_proves_another_device(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let (mut gateway, _, connect) = meet(setup(Role::Node));
        let mut bytes = text(&connect).as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        for step in gateway.handle(Message::Binary(bytes), now()) {
            if let Step::Proven(proven) = step {
                // What the signed text does not cover can change, and the key or its absence never by that.
                prop_assert!(proven.device().is_none_or(|device| *device == identity().device()));
            }
        }
    }
}
