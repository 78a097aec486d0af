//! Every frame that the real programs said, read by us at both ends and said again.
//!
//! `captured/*.jsonl` are recordings of the OpenClaw 2026.9.6 programs, secrets shortened. What both languages can express
//! must come out as it went in; the ids that a node gives to its results are ours to choose.

use std::collections::BTreeMap;
use std::path::Path;

use atoll_protocol::dialect::connect::{self, Connect};
use atoll_protocol::dialect::denial::{self, Interrupted};
use atoll_protocol::dialect::hello::HelloOk;
use atoll_protocol::dialect::refusal::{PairingReason, PairingRefusal, Refusal};
use atoll_protocol::dialect::{Gateway, Node};
use atoll_protocol::error::WireError;
use atoll_protocol::frame::Frame;
use atoll_protocol::id::{DeviceId, RequestId};
use atoll_protocol::json::Json;
use atoll_protocol::method::{device, gateway, node, read_params};
use atoll_protocol::scope::Role;
use serde_json::Value;

/// One connection of a recording.
#[derive(Default)]
struct Conn {
    connect: Option<(RequestId, Box<Connect>)>,
    refusal: Option<Refusal>,
    asked: BTreeMap<String, String>,
    seen: usize,
}

impl Conn {
    fn gateway(&self) -> Gateway {
        let (_, connect) = self.connect.as_ref().expect("nothing is said before connect");
        Gateway {
            peer: connect.known_role().expect("a role"),
            own: connect
                .device
                .as_ref()
                .map(|device| device.id.parse().expect("a device id")),
        }
    }

    fn node(&self) -> Node {
        Node {
            node: self.gateway().own.unwrap_or(DeviceId::from_digest([0; 32])),
        }
    }

    fn client_says(&mut self, text: &str) {
        if tree(text)["method"] == "connect" {
            let (id, connect) = connect::read_connect(text).expect(text);
            assert!(connect.speaks_ours());
            assert_same(&connect::write_connect(&id, &connect), text);
            self.connect = Some((id, connect));
            return;
        }
        let frame = self
            .gateway()
            .read(text)
            .unwrap_or_else(|reject| panic!("{reject:?}: {text}"));
        let mut again = tree(&self.node().write(&frame).expect("a client says it"));
        if matches!(frame, Frame::Outcome(_)) {
            again["id"] = tree(text)["id"].clone();
        } else {
            let Frame::Request(request) = &frame else {
                panic!("{frame:?}")
            };
            self.asked.insert(request.id.to_string(), request.method.clone());
        }
        assert_eq!(again, tree(text));
    }

    fn gateway_says(&mut self, text: &str) {
        let Some((id, _)) = &self.connect else {
            let challenge = connect::read_challenge(text).expect(text);
            assert_same(&connect::write_challenge(&challenge), text);
            return;
        };
        match connect::read_answer(text, id).expect(text) {
            Some(Ok(hello)) => assert_same(&connect::write_hello(id, &hello), text),
            Some(Err(_)) => self.refused(text),
            None => {
                let frame = self.node().read(text).expect(text).expect("a frame");
                assert_same(&self.gateway().write(&frame).expect("a gateway says it"), text);
                if let Frame::Response(response) = &frame {
                    let method = self.asked.remove(response.id.as_str());
                    check_reply(method.as_deref().unwrap_or_default(), &response.result);
                }
                check_denial(text);
            }
        }
    }

    /// A refused connect says what was recorded, and that the client shall try again.
    fn refused(&mut self, text: &str) {
        let (id, connect) = self.connect.as_ref().expect("it was answered");
        let recorded = tree(text);
        let details = &recorded["error"]["details"];
        assert_eq!(
            (&details["code"], &details["reason"]),
            (&"PAIRING_REQUIRED".into(), &"not-paired".into())
        );
        let refusal = Refusal::Pairing(Box::new(PairingRefusal {
            reason: PairingReason::NotPaired,
            request: details["requestId"].as_str().expect("text").parse().expect("an id"),
            device: details["deviceId"].as_str().expect("text").parse().expect("an id"),
            role: connect.known_role().expect("a role"),
            scopes: connect.known_scopes(),
            approved_roles: Vec::new(),
            approved_scopes: [].into_iter().collect(),
        }));
        let mut ours = tree(&refusal.reject(id).answer.expect("an answer"));
        let said = ours["error"]["details"].as_object_mut().expect("details");
        assert_eq!(said.shift_remove("pauseReconnect"), Some(false.into()));
        assert_eq!(said.shift_remove("retryable"), Some(true.into()));
        assert_eq!(said.shift_remove("recommendedNextStep"), Some("wait_then_retry".into()));
        assert_eq!(ours, recorded);
        self.refusal = Some(refusal);
    }

    fn closed_by_gateway(&self, line: &Value) {
        if let Some(refusal) = &self.refusal {
            let (code, reason) = refusal.close();
            assert_eq!(line["code"], code);
            assert_eq!(line["reason"], reason);
        }
    }
}

/// A reply that we give too is read into its type and written again without loss.
fn check_reply(method: &str, result: &Result<Json, WireError>) {
    let reply = match result {
        Ok(reply) => reply,
        Err(error) if method == "device.pair.approve" && error.message.starts_with("invalid ") => {
            let ours = read_params::<device::PairingRequest>(method, None).expect_err("a key is missing");
            assert_eq!(ours, *error);
            return;
        }
        Err(_) => return,
    };
    let again = match method {
        "device.pair.approve" => Json::of(&reply.read::<device::DeviceApproved>().expect(method)),
        "device.pair.list" => Json::of(&reply.read::<device::DevicePairings>().expect(method)),
        "node.event" => Json::of(&reply.read::<node::NodeEventTaken>().expect(method)),
        "node.list" => Json::of(&reply.read::<node::Nodes>().expect(method)),
        "node.describe" => Json::of(&reply.read::<node::NodeRow>().expect(method)),
        "health" => return drop(reply.read::<gateway::Health>().expect(method)),
        "status" => return drop(reply.read::<gateway::Status>().expect(method)),
        _ => return,
    };
    assert_same(again.expect("writes").as_str(), reply.as_str());
}

/// The errors that we have words for are worded as recorded.
fn check_denial(text: &str) {
    let error = &tree(text)["error"];
    let ours = match error["message"].as_str().unwrap_or_default() {
        "unknown method: no.such.method" => denial::unknown_method("no.such.method"),
        "unknown nodeId" => denial::unknown_node(),
        "device pairing approval denied" => denial::device_approval_denied(),
        "node pairing changed while invocation was active" => denial::pairing_changed(Interrupted::Invocation),
        "node pairing changed before request dispatch" => denial::pairing_changed(Interrupted::Dispatch),
        "node pairing changed while pending work was active" => denial::pairing_changed(Interrupted::PendingWork),
        _ => return,
    };
    let frame = Frame::Response(atoll_protocol::frame::Response {
        id: RequestId::new(tree(text)["id"].as_str().expect("text")).expect("an id"),
        result: Err(ours),
    });
    let operator = Gateway {
        peer: Role::Operator,
        own: None,
    };
    assert_same(&operator.write(&frame).expect("has words"), text);
}

fn tree(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn assert_same(ours: &str, recorded: &str) {
    assert_eq!(first_difference("", &tree(ours), &tree(recorded)), None);
}

/// Recordings are long: only the place where they part is worth printing.
fn first_difference(place: &str, ours: &Value, recorded: &Value) -> Option<String> {
    let (Value::Object(left), Value::Object(right)) = (ours, recorded) else {
        return (ours != recorded).then(|| format!("at {place}: {ours} instead of {recorded}"));
    };
    let keys: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    keys.into_iter().find_map(|key| {
        let side = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or("nothing".into());
        first_difference(&format!("{place}/{key}"), &side(left), &side(right))
    })
}

fn replay(path: &Path) -> usize {
    let recording = std::fs::read_to_string(path).expect("readable");
    let mut conns = BTreeMap::<String, Conn>::new();
    for line in recording.lines().map(tree) {
        let conn = conns.entry(line["conn"].to_string()).or_default();
        let direction = line["dir"].as_str().unwrap_or_default();
        match (line["kind"].as_str().unwrap_or_default(), direction) {
            ("frame", "C>G") => conn.client_says(&line["frame"].to_string()),
            ("frame", "G>C") => conn.gateway_says(&line["frame"].to_string()),
            ("close", "G>C" | "close") => conn.closed_by_gateway(&line),
            _ => continue,
        }
        conn.seen += 1;
    }
    conns.values().map(|conn| conn.seen).sum()
}

#[test]
fn everything_that_the_real_programs_said_is_understood_and_said_the_same_way() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captured");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("the recordings") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            seen += replay(&path);
        }
    }
    assert!(seen > 250, "only {seen} messages were recorded");
}

#[test]
fn the_least_hello_that_real_clients_accept_is_enough_for_ours() {
    let id = RequestId::new("1").expect("an id");
    let answer = r#"{"type":"res","id":"1","ok":true,"payload":{"type":"hello-ok","protocol":4}}"#;
    let hello = connect::read_answer(answer, &id)
        .expect("reads")
        .expect("is the answer")
        .expect("admits");
    assert_eq!(*hello, HelloOk::default());
    assert_eq!(hello.policy().tick_interval_ms, 30_000);
}
