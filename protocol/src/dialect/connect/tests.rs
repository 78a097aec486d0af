//! What is said before hello: faults, protocols, signed texts.

use serde_json::{Value, json};

use super::*;

fn params() -> Value {
    json!({
        "minProtocol": 4, "maxProtocol": 4,
        "client": {"id": "node-host", "version": "1", "platform": "linux", "mode": "node"},
        "role": "node",
    })
}

fn request(params: &Value) -> String {
    json!({"type": "req", "id": "1", "method": "connect", "params": params}).to_string()
}

fn connect(params: &Value) -> Box<Connect> {
    read_connect(&request(params)).expect("a connect request").1
}

/// Sets the value at a JSON pointer.
fn with(pointer: &str, value: Value) -> Value {
    let mut params = params();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    params.pointer_mut(parent).expect("a place")[key] = value;
    params
}

#[test]
fn what_is_no_request_is_closed_without_an_answer() {
    let cases = [
        ("hello", 1000, ""),
        ("", 1000, ""),
        ("5", 1008, "invalid request frame"),
        (r#"{"type":"event","event":"x"}"#, 1008, "invalid request frame"),
        (
            r#"{"type":"req","id":1,"method":"connect"}"#,
            1008,
            "invalid request frame",
        ),
    ];
    for (text, code, reason) in cases {
        let reject = read_connect(text).expect_err(text);
        assert_eq!(reject.answer, None, "{text}");
        assert_eq!(reject.close, Some((code, reason.to_owned())), "{text}");
    }
}

#[test]
fn a_faulty_connect_is_answered_and_closed_in_the_same_words() {
    let cases = [
        (
            r#"{"type":"req","id":"1","method":"health"}"#.to_owned(),
            "invalid handshake: first request must be connect",
        ),
        (
            request(&with("/client/id", json!("ios-node"))),
            "invalid connect params: at /client/id: must be equal to one of the allowed values",
        ),
        (
            request(&with("/client/mode", json!("operator"))),
            "invalid connect params: at /client/mode: must be equal to one of the allowed values",
        ),
        (
            request(&with("/client/displayName", json!(""))),
            "invalid connect params: at /client/displayName: must not have fewer than 1 characters",
        ),
        (
            request(&with("/extra", json!(1))),
            "invalid connect params: at root: unexpected property 'extra'",
        ),
        (
            request(&with(
                "/device",
                json!({"id": "a", "publicKey": "b", "signature": "c", "signedAt": 1}),
            )),
            "invalid connect params: at /device: must have required property 'nonce'",
        ),
    ];
    for (text, sentence) in cases {
        let reject = read_connect(&text).expect_err(&text);
        let answer: Value = serde_json::from_str(&reject.answer.expect("an answer")).expect("JSON");
        assert_eq!(answer["error"], json!({"code": "INVALID_REQUEST", "message": sentence}));
        assert_eq!(answer["id"], "1");
        assert_eq!(reject.close, Some((1008, sentence.to_owned())));
    }
}

#[test]
fn a_close_reason_is_cut_between_characters() {
    assert_eq!(close_reason(&"é".repeat(100)).len(), 120);
    assert_eq!(close_reason(&format!("a{}", "é".repeat(100))).len(), 119);
}

#[test]
fn nodes_and_probes_may_speak_the_older_protocol_and_operators_may_not() {
    let cases = [
        ("node", "node", 3, 3, true),
        ("node", "node", 3, 4, true),
        ("node", "node", 2, 2, false),
        ("node", "node", 5, 6, false),
        ("operator", "cli", 3, 3, false),
        ("operator", "cli", 3, 4, true),
        ("operator", "probe", 3, 3, true),
    ];
    for (role, mode, lowest, highest, expected) in cases {
        let mut params = with("/client/mode", json!(mode));
        params["role"] = json!(role);
        params["minProtocol"] = json!(lowest);
        params["maxProtocol"] = json!(highest);
        assert_eq!(
            connect(&params).speaks_ours(),
            expected,
            "{role} {mode} {lowest} {highest}"
        );
    }
}

#[test]
fn the_signed_token_is_the_first_present_and_never_the_password() {
    let cases = [
        (json!({"password": "p"}), ""),
        (json!({"password": "p", "bootstrapToken": "b"}), "b"),
        (json!({"bootstrapToken": "b", "deviceToken": "d"}), "d"),
        (json!({"deviceToken": "d", "token": "t"}), "t"),
    ];
    for (auth, token) in cases {
        let mut params = with("/auth", auth);
        params["scopes"] = json!(["operator.write", "operator.read", "made.up"]);
        params["device"] = json!({"id": "i", "publicKey": "k", "signature": "s", "signedAt": 7, "nonce": "n"});
        let connect = connect(&params);
        let [newer, older] = connect.signed_texts().expect("a device");
        assert_eq!(
            older,
            format!("v2|i|node-host|node|node|operator.write,operator.read,made.up|7|{token}|n")
        );
        assert_eq!(newer, format!("v3{}|linux|", &older[2..]));
        assert_eq!(
            connect.known_scopes().iter().count(),
            2,
            "a made-up scope asks for nothing"
        );
    }
    assert!(connect(&params()).signed_texts().is_none());
}

#[test]
fn a_role_that_is_none_is_told_apart_from_no_role() {
    assert_eq!(connect(&with("/role", json!("king"))).known_role(), None);
    let mut params = params();
    params.as_object_mut().expect("an object").remove("role");
    assert_eq!(connect(&params).known_role(), Some(Role::Operator));
}

#[test]
fn credentials_are_not_shown() {
    let connect = connect(&with("/auth", json!({"token": "hush", "password": "hush"})));
    assert!(!format!("{connect:?}").contains("hush"));
    assert!(write_connect(&RequestId::new("1").expect("an id"), &connect).contains("hush"));
}

#[test]
fn an_early_event_is_no_answer() {
    let id = RequestId::new("1").expect("an id");
    for text in [
        r#"{"type":"event","event":"health","payload":{}}"#,
        r#"{"type":"res","id":"2","ok":true,"payload":{}}"#,
    ] {
        assert!(matches!(read_answer(text, &id), Ok(None)), "{text}");
    }
    assert!(read_answer("la", &id).is_err());
}
