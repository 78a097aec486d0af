//! Who is not let in, and in which words. The same expectations hold for the real OpenClaw gateway, where
//! `openclaw.rs` runs them too.

use std::time::Duration;

use atoll_tests::mesh::Mesh;
use atoll_tests::wait::within_time;
use atoll_tests::wire::{ALL_SCOPES, Challenge, Device, Heard, Refusal, Target, Wire, node, operator};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

/// What a case is made of.
struct Setting<'a> {
    target: &'a Target,
    challenge: &'a Challenge,
    device: &'a Device,
}

impl Setting<'_> {
    /// Parameters of a node, signed after `change` was applied.
    fn signed(&self, change: impl Fn(&mut Value)) -> Value {
        let mut params = node(&self.target.token, "Refused", &["system.which"]);
        change(&mut params);
        self.device.sign(&mut params, self.challenge);
        params
    }

    /// Parameters of a node, changed after they were signed.
    fn forged(&self, change: impl Fn(&mut Value)) -> Value {
        let mut params = self.signed(|_| {});
        change(&mut params);
        params
    }
}

/// A connect and how it is refused. Texts that end with `…` are beginnings.
struct Case {
    name: &'static str,
    params: fn(&Setting) -> Value,
    code: &'static str,
    message: &'static str,
    details: Value,
    close: u16,
}

fn case(
    name: &'static str,
    code: &'static str,
    message: &'static str,
    details: Value,
    params: fn(&Setting) -> Value,
) -> Case {
    Case {
        name,
        params,
        code,
        message,
        details,
        close: 1008,
    }
}

fn credentials() -> Vec<Case> {
    vec![
        case(
            "neither secret nor device",
            "NOT_PAIRED",
            "device identity required",
            json!({"code": "DEVICE_IDENTITY_REQUIRED"}),
            |_| {
                let mut params = operator("", &["operator.read"]);
                params.as_object_mut().expect("an object").remove("auth");
                params
            },
        ),
        case(
            "a wrong token",
            "INVALID_REQUEST",
            "unauthorized: gateway token mismatch (…",
            json!({"code": "AUTH_TOKEN_MISMATCH", "authReason": "token_mismatch", "canRetryWithDeviceToken": false,
                "recommendedNextStep": "update_auth_credentials"}),
            |_| operator("wrong", &["operator.read"]),
        ),
        case(
            "a wrong setup code",
            "INVALID_REQUEST",
            "unauthorized: setup code invalid, expired, revoked, or already used (…",
            json!({"code": "AUTH_BOOTSTRAP_TOKEN_INVALID"}),
            |setting| setting.signed(|params| params["auth"] = json!({"bootstrapToken": "x".repeat(43)})),
        ),
        case(
            "a device nobody approved",
            "NOT_PAIRED",
            "pairing required: device is not approved yet",
            json!({"code": "PAIRING_REQUIRED", "reason": "not-paired", "requestedRole": "node"}),
            |setting| setting.signed(|_| {}),
        ),
    ]
}

fn broken(name: &'static str, message: &'static str, code: &str, params: fn(&Setting) -> Value) -> Case {
    case(name, "INVALID_REQUEST", message, json!({"code": code}), params)
}

fn proofs() -> Vec<Case> {
    vec![
        broken(
            "a signature over something else",
            "device signature invalid",
            "DEVICE_AUTH_SIGNATURE_INVALID",
            |setting| setting.forged(|params| params["scopes"] = json!(["operator.admin"])),
        ),
        broken(
            "a signature without the challenge",
            "device signature invalid",
            "DEVICE_AUTH_SIGNATURE_INVALID",
            |setting| {
                let mut params = setting.signed(|_| {});
                setting.device.sign_as(&mut params, setting.challenge, "v1");
                params
            },
        ),
        broken(
            "a signature by another key",
            "device signature invalid",
            "DEVICE_AUTH_SIGNATURE_INVALID",
            |setting| {
                let mut params = setting.signed(|_| {});
                let text = setting.device.signed_text(&params, setting.challenge, "v3");
                params["device"]["signature"] = json!(Device::default().signature(&text));
                params
            },
        ),
    ]
}

fn challenges_and_keys() -> Vec<Case> {
    vec![
        broken(
            "the challenge of another connection",
            "device nonce mismatch",
            "DEVICE_AUTH_NONCE_MISMATCH",
            |setting| {
                let mut params = setting.signed(|_| {});
                let other = Challenge {
                    nonce: "00000000-0000-4000-8000-000000000001".into(),
                    ts: setting.challenge.ts,
                };
                setting.device.sign(&mut params, &other);
                params
            },
        ),
        broken(
            "a blank challenge",
            "device nonce required",
            "DEVICE_AUTH_NONCE_REQUIRED",
            |setting| setting.forged(|params| params["device"]["nonce"] = json!(" ")),
        ),
        broken(
            "a proof of three minutes ago",
            "device signature expired",
            "DEVICE_AUTH_SIGNATURE_EXPIRED",
            |setting| {
                let mut params = setting.signed(|_| {});
                let old = Challenge {
                    nonce: setting.challenge.nonce.clone(),
                    ts: setting.challenge.ts - 180_000,
                };
                setting.device.sign(&mut params, &old);
                params
            },
        ),
        broken(
            "an id that is not the key's",
            "device identity mismatch",
            "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            |setting| setting.forged(|params| params["device"]["id"] = json!("0".repeat(64))),
        ),
        broken(
            "a key that is no key",
            "device identity mismatch",
            "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            |setting| setting.forged(|params| params["device"]["publicKey"] = json!("AAAA")),
        ),
    ]
}

fn shapes() -> Vec<Case> {
    let broken = |name, message, params| case(name, "INVALID_REQUEST", message, json!(null), params);
    vec![
        broken(
            "a program outside the list",
            "invalid connect params: at /client/id: must be equal to one of the allowed values…",
            |setting| setting.signed(|params| params["client"]["id"] = json!("ios-node")),
        ),
        broken("an unknown key", "invalid connect params: …", |setting| {
            setting.signed(|params| params["surprise"] = json!(1))
        }),
        broken(
            "a device without its challenge",
            "invalid connect params: …",
            |setting| {
                setting.forged(|params| {
                    params["device"].as_object_mut().expect("an object").remove("nonce");
                })
            },
        ),
        broken("a role that does not exist", "invalid role", |setting| {
            let mut params = operator(&setting.target.token, &[]);
            params["role"] = json!("emperor");
            params
        }),
    ]
}

fn versions() -> Vec<Case> {
    let mismatch = |name, lowest: u64, highest: u64, params| Case {
        close: 1002,
        ..case(
            name,
            "INVALID_REQUEST",
            "protocol mismatch",
            json!({"code": "PROTOCOL_MISMATCH", "clientMinProtocol": lowest, "clientMaxProtocol": highest,
                "expectedProtocol": 4, "minimumProbeProtocol": 3}),
            params,
        )
    };
    vec![
        mismatch("a language of the future", 5, 6, |setting| {
            let mut params = operator(&setting.target.token, &[]);
            (params["minProtocol"], params["maxProtocol"]) = (json!(5), json!(6));
            params
        }),
        mismatch("an operator with the language of old nodes", 3, 3, |setting| {
            let mut params = operator(&setting.target.token, &[]);
            (params["minProtocol"], params["maxProtocol"]) = (json!(3), json!(3));
            params
        }),
    ]
}

/// A frame made `bytes` long by blanks.
fn padded(frame: &Value, bytes: usize) -> String {
    let mut text = frame.to_string();
    text.push_str(&" ".repeat(bytes - text.len()));
    text
}

fn reads_as(expected: &str, text: &str) -> bool {
    match expected.strip_suffix('…') {
        Some(beginning) => text.starts_with(beginning),
        None => text == expected,
    }
}

/// Every key of `expected` has that value in `found`.
fn has(expected: &Value, found: &Value) -> bool {
    match expected.as_object() {
        Some(expected) => expected.iter().all(|(key, value)| found[key] == *value),
        None => expected == found,
    }
}

impl Case {
    async fn wrong_with(&self, target: &Target) -> Option<String> {
        let device = Device::default();
        let mut wire = Wire::open(target).await;
        let challenge = wire.challenge().await;
        let setting = Setting {
            target,
            challenge: &challenge,
            device: &device,
        };
        let error = match wire.call("connect", (self.params)(&setting)).await {
            Err(error) => error,
            Ok(hello) => return Some(format!("{}: let in with {hello}", self.name)),
        };
        let (code, reason) = wire.closed().await;
        let message = error["message"].as_str().unwrap_or_default();
        let fits = error["code"] == self.code
            && reads_as(self.message, message)
            && has(&self.details, &error["details"])
            && code == Some(self.close)
            && reason.starts_with(message.split(" (").next().unwrap_or_default());
        (!fits).then(|| format!("{}: {error}, then close {code:?} `{reason}`", self.name))
    }
}

/// Connects that are refused with an error and a close.
pub(crate) async fn expect_refusals(target: &Target) {
    let mut wrong = Vec::new();
    for case in cases() {
        wrong.extend(case.wrong_with(target).await);
    }
    assert!(wrong.is_empty(), "refused otherwise:\n  {}", wrong.join("\n  "));
}

fn cases() -> Vec<Case> {
    let families = [credentials(), proofs(), challenges_and_keys(), shapes(), versions()];
    families.into_iter().flatten().collect()
}

/// First frames that are not a connect, and how the connection ends: an error's message where there is an answer, then
/// code and reason.
pub(crate) async fn expect_first_frames(target: &Target) {
    let request = |id: Value, method: &str, params: Value| {
        json!({"type": "req", "id": id, "method": method, "params": params}).to_string()
    };
    let mut worker = operator(&target.token, &[]);
    worker["role"] = json!("worker");
    let table: [(&str, String, Option<&str>, u16, &str); 6] = [
        ("not JSON", "hello".into(), None, 1000, ""),
        (
            "JSON, not a request",
            json!({"a": 1}).to_string(),
            None,
            1008,
            "invalid request frame",
        ),
        (
            "a number as id",
            request(json!(7), "connect", operator(&target.token, &[])),
            None,
            1008,
            "invalid request frame",
        ),
        (
            "another method",
            request(json!("1"), "health", json!({})),
            Some("invalid handshake: first request must be connect"),
            1008,
            "invalid handshake: first request must be connect",
        ),
        (
            "a worker",
            request(json!("1"), "connect", worker),
            None,
            1008,
            "invalid-handshake",
        ),
        ("64 KiB and one byte", padded(&json!({"a": 1}), 65537), None, 1009, ""),
    ];
    let mut wrong = Vec::new();
    for (name, text, message, code, reason) in table {
        let mut wire = Wire::open(target).await;
        wire.challenge().await;
        wire.say(text).await;
        let mut heard = wire.next().await;
        let mut said = None;
        if let Heard::Frame(frame) = &heard {
            said = frame["error"]["message"].as_str().map(str::to_owned);
            heard = wire.next().await;
        }
        let expected = Heard::Closed {
            code: Some(code),
            reason: reason.to_owned(),
        };
        if said.as_deref() != message || heard != expected {
            wrong.push(format!("{name}: {said:?}, then {heard:?}"));
        }
    }
    assert!(wrong.is_empty(), "ended otherwise:\n  {}", wrong.join("\n  "));
}

/// What happens to frames after the hello.
pub(crate) async fn expect_manners_after_hello(target: &Target) {
    let (mut wire, hello) = Wire::connect(target, operator(&target.token, &ALL_SCOPES), None)
        .await
        .expect("an operator");
    assert_eq!(hello["protocol"], 4);
    assert_eq!(hello["auth"]["role"], "operator");
    let error = wire
        .call("connect", operator(&target.token, &[]))
        .await
        .expect_err("one connect is enough");
    assert_eq!(error["message"], "connect is only valid as the first request");
    let error = wire
        .call("no.such.method", json!({}))
        .await
        .expect_err("an unknown method");
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!("INVALID_REQUEST"), &json!("unknown method: no.such.method"))
    );

    // Not JSON is ignored, a broken request is answered, and the connection lives on.
    wire.say("hello").await;
    wire.say(json!({"type": "req", "id": 7, "method": "health"}).to_string())
        .await;
    let frame = wire
        .frame("an answer to a broken frame", |frame| frame["ok"] == false)
        .await;
    assert_eq!(
        frame["error"]["message"],
        "invalid request frame: at /id: must be string"
    );

    // The same id twice is two requests.
    let twice = json!({"type": "req", "id": "same", "method": "health", "params": {}});
    wire.send(&twice).await;
    wire.say_bytes(twice.to_string().into_bytes()).await;
    for _ in 0..2 {
        assert_eq!(wire.answer("same").await.expect("health is open to all")["ok"], true);
    }
}

#[tokio::test]
async fn every_refused_connect_says_why_and_closes() {
    let mesh = Mesh::start().await;
    expect_refusals(&mesh.target()).await;
}

#[tokio::test]
async fn a_first_frame_that_is_not_a_connect_ends_the_connection() {
    let mesh = Mesh::start().await;
    expect_first_frames(&mesh.target()).await;
}

#[tokio::test]
async fn after_the_hello_a_broken_frame_is_answered_and_the_link_stays() {
    let mesh = Mesh::start().await;
    expect_manners_after_hello(&mesh.target()).await;
}

#[tokio::test]
async fn a_program_without_a_device_that_is_not_the_command_line_gets_no_scope() {
    let mesh = Mesh::start().await;
    let mut params = operator(&mesh.target().token, &ALL_SCOPES);
    (params["client"]["id"], params["client"]["mode"]) = (json!("test"), json!("test"));
    let (mut wire, hello) = Wire::connect(&mesh.target(), params, None)
        .await
        .expect("the secret lets it in");
    assert_eq!(hello["auth"]["scopes"], json!([]));
    let error = wire.call("node.list", json!({})).await.expect_err("no scope");
    assert_eq!(
        (&error["code"], &error["details"]["code"]),
        (&json!("FORBIDDEN"), &json!("MISSING_SCOPE"))
    );
    assert_eq!(wire.call("health", json!({})).await.expect("open to all")["ok"], true);
}

#[tokio::test]
async fn a_method_beyond_the_scopes_names_the_missing_one() {
    let mesh = Mesh::start().await;
    let mut reader = mesh.operator_with(&["operator.read"]).await;
    let call = json!({"nodeId": "x", "command": "system.which", "idempotencyKey": "k"});
    let error = reader
        .call("node.invoke", call)
        .await
        .expect_err("a reader invokes nothing");
    assert_eq!(error["message"], "missing scope: operator.write");
    assert_eq!(error["details"]["missingScope"], "operator.write");
    // Somebody without admin does not learn which methods exist.
    let error = reader
        .call("no.such.method", json!({}))
        .await
        .expect_err("an unknown method");
    assert_eq!(error["message"], "missing scope: operator.admin");
    let error = reader
        .call("node.event", json!({"event": "x"}))
        .await
        .expect_err("a node's method");
    assert_eq!(error["message"], "unauthorized role: operator");
}

#[tokio::test]
async fn forwarding_headers_and_foreign_origins_are_not_local() {
    let mesh = Mesh::start().await;
    for header in ["X-Forwarded-For", "Forwarded"] {
        let refused = Wire::open_with(&mesh.target(), &[(header, "192.0.2.7")])
            .await
            .expect_err("not attributed");
        assert_eq!(refused.status, 403, "{header}");
        assert!(refused.body.contains("proxy_attribution_required"), "{}", refused.body);
    }
    // A page in the owner's browser can reach the loopback address; its origin gives it away.
    match Wire::open_with(&mesh.target(), &[("Origin", "https://evil.example")]).await {
        Err(refused) => assert_eq!(refused.status, 403),
        Ok(mut wire) => {
            wire.challenge().await;
            let error = wire
                .call("connect", operator(&mesh.target().token, &[]))
                .await
                .expect_err("a foreign page");
            assert_eq!(error["details"]["code"], "CONTROL_UI_ORIGIN_NOT_ALLOWED");
            assert_eq!(wire.closed().await.0, Some(1008));
        }
    }
}

#[tokio::test]
async fn silence_before_the_connect_ends_after_fifteen_seconds() {
    let mesh = Mesh::start().await;
    let mut wire = Wire::open(&mesh.target()).await;
    wire.challenge().await;
    let started = std::time::Instant::now();
    let heard = within_time("the handshake's end", Duration::from_secs(19), wire.next()).await;
    assert_eq!(
        heard,
        Heard::Closed {
            code: Some(1000),
            reason: String::new()
        }
    );
    assert!(started.elapsed() > Duration::from_secs(14), "{:?}", started.elapsed());
}

#[tokio::test]
async fn the_eleventh_call_of_the_wrong_role_ends_the_link() {
    let mesh = Mesh::start().await;
    let mut wire = mesh.operator().await;
    for _ in 0..10 {
        let error = wire
            .call("node.event", json!({"event": "x"}))
            .await
            .expect_err("a node's method");
        assert_eq!(error["message"], "unauthorized role: operator");
    }
    wire.ask("node.event", json!({"event": "x"})).await;
    assert_eq!(
        wire.closed().await,
        (Some(1008), "repeated unauthorized calls".to_owned())
    );
}

#[tokio::test]
async fn a_frame_beyond_25_mib_ends_the_link_and_one_below_does_not() {
    let mesh = Mesh::start().await;
    let mut wire = mesh.operator().await;
    let request = json!({"type": "req", "id": "big", "method": "health", "params": {}});
    wire.say(padded(&request, 25 * 1024 * 1024)).await;
    wire.answer("big").await.expect("health");
    wire.say(padded(&request, 25 * 1024 * 1024 + 1)).await;
    assert_eq!(wire.closed().await, (Some(1009), String::new()));
}

#[tokio::test]
async fn a_refused_device_is_told_to_wait_and_keeps_its_request() {
    let mesh = Mesh::start().await;
    let device = Device::default();
    let knock = async || -> Refusal {
        let params = node(&mesh.target().token, "Patient", &["system.which"]);
        Wire::connect(&mesh.target(), params, Some(&device))
            .await
            .expect_err("not approved")
    };
    let first = knock().await;
    let details = &first.error["details"];
    assert_eq!(details["deviceId"], device.id());
    assert!(
        details["pauseReconnect"] == false || details["recommendedNextStep"] == "wait_then_retry",
        "{details}"
    );
    assert!(first.reason.contains(first.request_id()), "{first:?}");
    assert_eq!(knock().await.request_id(), first.request_id());
}

/// What many systems give a program that does not ask.
const FEW: u64 = 1024;

#[tokio::test]
async fn a_gateway_asks_for_the_file_descriptors_that_its_connections_take() {
    let ours = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(FEW),
        ..ours
    };
    setrlimit(Resource::Nofile, few).expect("fewer than before");
    let mut mesh = Mesh::start().await;
    setrlimit(Resource::Nofile, ours).expect("as before");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", mesh.gateway().pid())).expect("a living process");
    let words = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut words = words.expect("a limit").split_whitespace();
    let (now, most) = (words.next(), words.next());
    let wanted = ours.maximum.map_or(32 * 1024, |most| most.min(32 * 1024));
    assert_eq!(now, Some(wanted.to_string().as_str()), "of {most:?}");
}
