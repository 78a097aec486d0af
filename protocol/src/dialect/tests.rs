//! Small texts, one rule each. The captured sessions of the real programs are in `tests/captured.rs`.

use super::*;
use crate::frame::Response;

fn node_id() -> DeviceId {
    DeviceId::from_digest([7; 32])
}

fn gateway(peer: Role) -> Gateway {
    Gateway {
        peer,
        own: Some(node_id()),
    }
}

fn tree(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

fn error_message(reject: &Reject) -> String {
    let answer = tree(reject.answer.as_deref().expect("an answer"));
    assert_eq!(answer["ok"], false);
    assert_eq!(reject.close, None);
    answer["error"]["message"].as_str().expect("text").to_owned()
}

#[test]
fn a_broken_frame_after_hello_is_answered_and_the_link_stays() {
    let cases = [
        (
            r#"{"type":"req","id":5,"method":"health"}"#,
            "invalid request frame: at /id: must be string",
        ),
        (
            r#"{"type":"req","id":"a","method":"health","x":1}"#,
            "invalid request frame: at root: unexpected property 'x'",
        ),
        (
            r#"{"type":"res","id":"a","method":"health"}"#,
            "invalid request frame: at /type: must be equal to one of the allowed values",
        ),
        ("[1]", "invalid request frame: must be object"),
        (
            r#"{"type":"req","id":"a","method":"connect"}"#,
            "connect is only valid as the first request",
        ),
    ];
    for (text, expected) in cases {
        let reject = gateway(Role::Operator).read(text).expect_err(text);
        assert_eq!(error_message(&reject), expected, "{text}");
    }
}

#[test]
fn a_broken_frame_is_answered_under_the_id_that_it_had() {
    for (text, id) in [
        (r#"{"type":"req","id":5,"method":"m"}"#, serde_json::json!(5)),
        (r#"{"type":"req","id":"a","x":1}"#, serde_json::json!("a")),
        (r#"{"type":"req","id":{"a":1}}"#, serde_json::json!("invalid")),
        ("5", serde_json::json!("invalid")),
        (
            r#"{"type":"req","id":"\ud800","method":"m"}"#,
            serde_json::json!("invalid"),
        ),
    ] {
        let reject = gateway(Role::Operator).read(text).expect_err(text);
        assert_eq!(tree(&reject.answer.expect("an answer"))["id"], id, "{text}");
    }
}

#[test]
fn text_that_is_not_json_is_passed_over() {
    for text in ["", "hello", "{", "{\"type\":\"req\"} x"] {
        assert_eq!(gateway(Role::Node).read(text), Err(Reject::default()), "{text}");
    }
}

#[test]
fn a_result_becomes_an_outcome_with_its_receipt() {
    let node = node_id();
    let text = format!(
        r#"{{"type":"req","id":"10","method":"node.invoke.result","params":{{"id":"c1","nodeId":"{node}","ok":true,"payloadJSON":"{{\"a\": 1}}"}}}}"#
    );
    let frame = gateway(Role::Node).read(&text).expect("reads");
    let Frame::Outcome(outcome) = &frame else {
        panic!("{frame:?}")
    };
    assert_eq!(outcome.receipt.as_ref().map(RequestId::as_str), Some("10"));
    assert_eq!(
        outcome.result.clone().expect("ok").expect("a payload").as_str(),
        r#"{"a": 1}"#
    );

    let answer = gateway(Role::Node)
        .write(&Frame::Acknowledge(Acknowledge {
            call: outcome.call.clone(),
            receipt: outcome.receipt.clone(),
            ignored: true,
        }))
        .expect("has words");
    assert_eq!(
        tree(&answer),
        serde_json::json!({"type":"res","id":"10","ok":true,"payload":{"ok":true,"ignored":true}})
    );

    assert!(matches!(gateway(Role::Operator).read(&text), Ok(Frame::Request(_))));
}

#[test]
fn a_result_in_the_name_of_another_node_is_refused() {
    let other = DeviceId::from_digest([8; 32]);
    let text = format!(
        r#"{{"type":"req","id":"10","method":"node.invoke.result","params":{{"id":"c1","nodeId":"{other}","ok":true}}}}"#
    );
    let reject = gateway(Role::Node).read(&text).expect_err("refused");
    assert_eq!(error_message(&reject), "nodeId mismatch");
    let nobody = Gateway {
        peer: Role::Node,
        own: None,
    };
    assert!(nobody.read(&text).is_err());
}

#[test]
fn every_order_of_a_gateway_is_read_back_by_a_node() {
    let call = CallId::new("c1").expect("an id");
    let frames = [
        Frame::Invoke(Invoke {
            call: call.clone(),
            node: node_id(),
            command: "system.which".to_owned(),
            params: Some(Json::parse(r#"{"bins": ["sh"]}"#).expect("JSON")),
            timeout_ms: 5,
            idempotency_key: Some("k".to_owned()),
            plan: None,
        }),
        Frame::Invoke(Invoke {
            call: call.clone(),
            node: node_id(),
            command: "canvas.hide".to_owned(),
            params: None,
            timeout_ms: 5,
            idempotency_key: None,
            plan: None,
        }),
        Frame::Cancel(call.clone()),
        Frame::Input(Input {
            call,
            seq: 3,
            payload: Json::parse("[1]").expect("JSON"),
        }),
        Frame::Response(Response {
            id: RequestId::new("2").expect("an id"),
            result: Err(denial::missing_scope(
                crate::scope::Scope::Write,
                &[crate::scope::Scope::Write],
            )),
        }),
        Frame::Event(Event {
            name: "tick".to_owned(),
            payload: Json::parse(r#"{"ts":1}"#).expect("JSON"),
            seq: Some(4),
            state: None,
        }),
    ];
    for frame in frames {
        let text = gateway(Role::Node).write(&frame).expect("has words");
        assert_eq!(Node { node: node_id() }.read(&text), Ok(Some(frame)), "{text}");
    }
}

#[test]
fn what_a_node_says_is_read_back_by_a_gateway_and_its_answer_acknowledges_the_call() {
    let node = Node { node: node_id() };
    let call = CallId::new("c1").expect("an id");
    for result in [
        Ok(Some(Json::parse("{}").expect("JSON"))),
        Ok(None),
        Err(CallError::new("BUSY", "64 calls run already")),
    ] {
        let text = node
            .write(&Frame::Outcome(Outcome {
                call: call.clone(),
                result: result.clone(),
                receipt: None,
            }))
            .expect("has words");
        let Ok(Frame::Outcome(read)) = gateway(Role::Node).read(&text) else {
            panic!("{text}")
        };
        assert_eq!((&read.call, &read.result), (&call, &result));

        let acknowledge = |ignored, receipt| {
            Frame::Acknowledge(Acknowledge {
                call: call.clone(),
                receipt,
                ignored,
            })
        };
        let answer = gateway(Role::Node)
            .write(&acknowledge(false, read.receipt))
            .expect("has words");
        assert_eq!(node.read(&answer), Ok(Some(acknowledge(false, None))));
    }
}

#[test]
fn a_result_that_may_be_taken_later_is_not_forgotten() {
    let node = Node { node: node_id() };
    let refused = |error: &WireError| text::response("result:c1", Err(error));
    assert_eq!(
        node.read(&refused(&denial::pairing_changed(denial::Interrupted::Dispatch))),
        Ok(None)
    );
    assert!(matches!(
        node.read(&refused(&denial::unauthorized_role(Role::Operator))),
        Ok(Some(Frame::Acknowledge(Acknowledge { ignored: true, .. })))
    ));
}

#[test]
fn a_client_tolerates_what_it_does_not_know() {
    let node = Node { node: node_id() };
    let event = node
        .read(r#"{"type":"event","event":"moon.phase","extra":1}"#)
        .expect("reads");
    assert!(matches!(event, Some(Frame::Event(event)) if event.payload.is_null()));
    assert_eq!(node.read(r#"{"type":"song"}"#), Err(BadText::UnknownType));
    assert_eq!(node.read("la"), Err(BadText::Malformed));
}

proptest::proptest! {
    #[test]
    fn broken_text_is_answered_or_passed_over_and_never_a_panic(
        pick in 0..TEXTS.len(),
        edits in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), ".{0,3}"), 0..5),
    ) {
        let mut text = TEXTS[pick].to_owned();
        for (place, with) in edits {
            let start = text.floor_char_boundary(place.index(text.len() + 1));
            let end = text.ceil_char_boundary((start + 1).min(text.len()));
            text.replace_range(start..end, &with);
        }
        for peer in [Role::Operator, Role::Node] {
            if let Err(reject) = gateway(peer).read(&text) {
                assert_eq!(reject.close, None);
                // An answer is itself a message that a client can read.
                if let Some(answer) = reject.answer {
                    assert_eq!(tree(&answer)["ok"] == true, answer.contains("ignored"), "{answer}");
                }
            }
        }
        let _ = Node { node: node_id() }.read(&text);
        if let Err(reject) = connect::read_connect(&text) {
            assert!(reject.close.is_some(), "a handshake that failed never goes on");
        }
    }
}

/// What the edits start from: one text of each shape.
const TEXTS: &[&str] = &[
    r#"{"type":"req","id":"1","method":"node.list","params":{"a":[1,{"b":null}]}}"#,
    r#"{"type":"req","id":"1","method":"node.invoke.result","params":{"id":"c","nodeId":"n","ok":true,"payloadJSON":"{\"a\":1}"}}"#,
    r#"{"type":"req","id":"1","method":"node.invoke.progress","params":{"invokeId":"c","nodeId":"n","seq":0,"chunk":"é"}}"#,
    r#"{"type":"req","id":"1","method":"connect","params":{"minProtocol":4,"maxProtocol":4,"client":{"id":"cli","version":"1","platform":"linux","mode":"cli"}}}"#,
    r#"{"type":"event","event":"node.invoke.request","payload":{"id":"c","nodeId":"n","command":"x","paramsJSON":null,"timeoutMs":1}}"#,
    r#"{"type":"res","id":"result:c","ok":false,"error":{"code":"UNAVAILABLE","message":"é","retryable":true}}"#,
];
