//! The daemon against a small gateway over real WebSockets.

use std::path::{Path, PathBuf};

use atoll_pairing::greet::{GreetError, Guest, greet};
use atoll_pairing::link::{Facts, Link, Received, ws};
use atoll_pairing::proven::Language;
use atoll_protocol::capability::Surface;
use atoll_protocol::dialect::hello::{Auth, HelloOk, SecretText};
use atoll_protocol::dialect::refusal::{CredentialFault, PairingReason, PairingRefusal, Refusal};
use atoll_protocol::error::CallError;
use atoll_protocol::frame::{Acknowledge, Admitted, Frame, Invoke, Outcome as CallOutcome, Resume, SignedPlan};
use atoll_protocol::id::{ApprovalId, CallId, DeviceId, PairingId};
use atoll_protocol::json::Json;
use atoll_protocol::plan::{FileHash, Plan};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::ask::Ways;
use crate::config::Found;

mod dialect;
mod found;
mod resume;

/// Whatever a test waits for comes long before that.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// A gateway that a test conducts.
struct TestGateway {
    listener: TcpListener,
    identity: Arc<Identity>,
}

impl TestGateway {
    async fn new() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.expect("binds"),
            identity: Arc::new(Identity::from_seed(&[9; 32])),
        }
    }

    async fn guest(&self) -> Result<Guest, GreetError> {
        let (mut stream, _) = soon("a connection", self.listener.accept()).await.expect("accepts");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8(head).expect("text");
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let protocol = value("Sec-WebSocket-Protocol: ");
        let chosen = protocol
            .map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"))
            .unwrap_or_default();
        let key = ws::accept_key(value("Sec-WebSocket-Key: ").expect("a key"));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {key}\r\n{chosen}\r\n"
        );
        stream.write_all(answer.as_bytes()).await.expect("an answer");
        let language = if protocol.is_some() {
            Language::Native
        } else {
            Language::Dialect
        };
        let pipe = ws::accept(stream, Facts::default());
        soon("a handshake", greet(pipe, language, Arc::clone(&self.identity))).await
    }

    /// Lets the next guest in with all it asks for; gives the link after its first frame.
    async fn admit(&self) -> (Link, Resume) {
        let guest = self.guest().await.expect("a proven guest");
        let mut link = admit(guest).await;
        let Frame::Resume(resume) = next(&mut link).await else {
            panic!("resume comes first");
        };
        (link, resume)
    }
}

fn admitted(surface: Surface) -> Admitted {
    Admitted {
        connection: "c".to_owned(),
        server_version: "0".to_owned(),
        role: Role::Node,
        scopes: Scopes::none(),
        surface,
        generation: 1,
        tick_ms: 30_000,
    }
}

async fn admit(guest: Guest) -> Link {
    let admitted = admitted(guest.proven().claims().surface.clone());
    let hello = |_: &Admitted| HelloOk {
        auth: Some(Auth {
            device_token: Some(SecretText("device-token-1".to_owned())),
            ..Auth::default()
        }),
        ..HelloOk::default()
    };
    guest.admit(admitted, hello).await.expect("a link")
}

fn pairing(identity: &Identity) -> PairingRefusal {
    PairingRefusal {
        reason: PairingReason::NotPaired,
        request: PairingId::new("p1").expect("fits"),
        device: identity.device_id(),
        role: Role::Node,
        scopes: Scopes::none(),
        approved_roles: Vec::new(),
        approved_scopes: Scopes::none(),
    }
}

/// The next frame that is about calls.
async fn next(link: &mut Link) -> Frame {
    loop {
        let Received::Frame(frame) = soon("a frame", link.recv()).await.expect("a link") else {
            panic!("a frame that is none");
        };
        // Figures, and what it does not offer.
        let reports = ["node.host.stats", "node.commands.missing"];
        let is_report = |text: &str| reports.iter().any(|name| text.contains(name));
        let is_report = matches!(&frame, Frame::Request(request) if request.params.as_ref().is_some_and(|params| is_report(params.as_str())));
        if !is_report {
            return frame;
        }
    }
}

/// The end of a call; its progress is passed over.
async fn outcome(link: &mut Link, call: &str) -> Result<Value, CallError> {
    loop {
        if let Frame::Outcome(CallOutcome { call: of, result, .. }) = next(link).await
            && of.as_str() == call
        {
            return result.map(|json| json.map(|json| json.tree()).unwrap_or_default());
        }
    }
}

/// A daemon and what it tells.
struct Node {
    stop: CancellationToken,
    notices: mpsc::Receiver<Notice>,
    task: JoinHandle<Result<(), RunError>>,
    identity: Identity,
    state: PathBuf,
}

impl Node {
    fn start(gateway: &TestGateway, state: &Path, dialect: Dialect) -> Self {
        Self::start_found(gateway, state, dialect, None)
    }

    fn start_found(gateway: &TestGateway, state: &Path, dialect: Dialect, found: Option<Found>) -> Self {
        let port = gateway.listener.local_addr().expect("bound").port();
        let config = Config {
            gateway: format!("ws://127.0.0.1:{port}").parse().expect("an address"),
            found,
            dialect,
            token: Some("shared-token".into()),
            name: "desk".to_owned(),
            state_dir: state.to_owned(),
            tls_fingerprint: None,
            quic_pause: crate::config::QUIC_PAUSE,
            ways: Ways::default(),
        };
        let stop = CancellationToken::new();
        let (sender, notices) = mpsc::channel(64);
        let task = tokio::spawn(run(config, stop.clone(), move |notice| drop(sender.try_send(notice))));
        let identity = StateDir::open(state).expect("opens").identity().expect("a key");
        Self {
            stop,
            notices,
            task,
            identity,
            state: state.to_owned(),
        }
    }

    async fn notice(&mut self, wanted: impl Fn(&Notice) -> bool) -> Notice {
        loop {
            let notice = soon("a notice", self.notices.recv()).await.expect("it runs");
            if wanted(&notice) {
                return notice;
            }
        }
    }

    fn status(&self) -> Status {
        StateDir::open(&self.state)
            .expect("opens")
            .status()
            .expect("reads")
            .expect("written")
    }

    fn invoke(&self, call: &str, command: &str, params: Value) -> Frame {
        self.invoke_with(call, command, params, None)
    }

    fn invoke_with(&self, call: &str, command: &str, params: Value, plan: Option<SignedPlan>) -> Frame {
        Frame::Invoke(Invoke {
            call: CallId::new(call).expect("fits"),
            node: self.identity.device_id(),
            command: command.to_owned(),
            params: Some(Json::from(params)),
            timeout_ms: 20_000,
            idempotency_key: None,
            plan,
        })
    }
}

fn state(policy: Option<Value>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    if let Some(policy) = policy {
        std::fs::write(folder.path().join("exec-approvals.json"), policy.to_string()).expect("written");
    }
    folder
}

fn open() -> Option<Value> {
    Some(json!({"version":1,"defaults":{"security":"full","ask":"off"}}))
}

#[tokio::test]
async fn a_new_node_waits_on_the_open_link_and_serves_the_moment_it_is_approved() {
    let (gateway, folder) = (TestGateway::new().await, state(None));
    let mut node = Node::start(&gateway, folder.path(), Dialect::Native);
    let guest = gateway.guest().await.expect("proven");
    assert_eq!(guest.proven().claims().client.display_name, "desk");
    let guest = guest
        .wait(&pairing(&node.identity))
        .await
        .expect("there")
        .expect("held");
    let waiting = node.notice(|notice| matches!(notice, Notice::Waiting { .. })).await;
    assert!(matches!(waiting, Notice::Waiting { request, digits: Some(_), is_held: true } if request == "p1"));
    assert_eq!(
        (node.status().phase, node.status().request_id.as_deref()),
        (Phase::Waiting, Some("p1"))
    );
    let mut link = admit(guest).await;
    node.notice(|notice| matches!(notice, Notice::Connected { .. })).await;
    link.send(&node.invoke("c1", "system.which", json!({"bins":["sh"]})))
        .await
        .expect("sent");
    let which = outcome(&mut link, "c1").await.expect("an answer");
    assert!(which["bins"]["sh"].as_str().is_some_and(|path| path.ends_with("/sh")));
    assert_eq!((node.status().phase, node.status().paired), (Phase::Connected, true));
}

#[tokio::test]
async fn another_key_at_the_same_address_is_refused_loudly_and_the_pin_stays() {
    let (mut gateway, folder) = (TestGateway::new().await, state(None));
    let mut node = Node::start(&gateway, folder.path(), Dialect::Native);
    let (link, _) = gateway.admit().await;
    let pins = std::fs::read_to_string(folder.path().join("gateways.json")).expect("written");
    gateway.identity = Arc::new(Identity::from_seed(&[8; 32]));
    drop(link);
    assert!(gateway.guest().await.is_err(), "it proves nothing to a stranger");
    node.notice(|notice| matches!(notice, Notice::WrongGateway { .. }))
        .await;
    assert_eq!(
        std::fs::read_to_string(folder.path().join("gateways.json")).expect("there"),
        pins
    );
    gateway.identity = Arc::new(Identity::from_seed(&[9; 32]));
    gateway.admit().await;
}

#[tokio::test]
async fn a_running_call_holds_up_neither_others_nor_the_heartbeat_and_can_be_cancelled() {
    let (gateway, folder) = (TestGateway::new().await, state(open()));
    let node = Node::start(&gateway, folder.path(), Dialect::Native);
    let (mut link, _) = gateway.admit().await;
    link.send(&node.invoke("slow", "system.run", json!({"command":["sleep","60"]})))
        .await
        .expect("sent");
    link.send(&Frame::Ping(7)).await.expect("sent");
    assert_eq!(next(&mut link).await, Frame::Pong(7));
    link.send(&node.invoke("fast", "system.run", json!({"command":["echo","hi"]})))
        .await
        .expect("sent");
    assert_eq!(outcome(&mut link, "fast").await.expect("runs")["stdout"], "hi\n");
    link.send(&Frame::Cancel(CallId::new("slow").expect("fits")))
        .await
        .expect("sent");
    assert_eq!(
        outcome(&mut link, "slow").await.expect_err("cancelled").code,
        "CANCELLED"
    );
}

#[tokio::test]
async fn calls_for_others_and_unknown_commands_are_refused() {
    let (gateway, folder) = (TestGateway::new().await, state(open()));
    let node = Node::start(&gateway, folder.path(), Dialect::Native);
    let (mut link, _) = gateway.admit().await;
    link.send(&node.invoke("c1", "camera.snap", json!({})))
        .await
        .expect("sent");
    assert_eq!(
        outcome(&mut link, "c1").await.expect_err("refused").code,
        "INVALID_REQUEST"
    );
    let Frame::Invoke(mut invoke) = node.invoke("c2", "system.which", json!({"bins":[]})) else {
        unreachable!();
    };
    invoke.node = gateway.identity.device_id();
    link.send(&Frame::Invoke(invoke)).await.expect("sent");
    assert_eq!(
        outcome(&mut link, "c2").await.expect_err("refused").code,
        "INVALID_REQUEST"
    );
}

#[tokio::test]
async fn a_result_that_fits_in_no_frame_still_ends_its_call() {
    let (gateway, folder) = (TestGateway::new().await, state(open()));
    let node = Node::start(&gateway, folder.path(), Dialect::Native);
    let (mut link, _) = gateway.admit().await;
    // Each zero byte takes six characters in JSON.
    let params = json!({"command":["sh","-c","head -c 400000 /dev/zero; head -c 400000 /dev/zero >&2"]});
    link.send(&node.invoke("c1", "system.run", params)).await.expect("sent");
    let result = outcome(&mut link, "c1").await.expect("a result");
    assert_eq!((&result["exitCode"], &result["truncated"]), (&json!(0), &json!(true)));
}

#[tokio::test]
async fn stopping_ends_the_calls_and_says_goodbye() {
    let (gateway, folder) = (TestGateway::new().await, state(open()));
    let node = Node::start(&gateway, folder.path(), Dialect::Native);
    let (mut link, _) = gateway.admit().await;
    let pid = folder.path().join("pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 60", pid.display());
    link.send(&node.invoke("c1", "system.run", json!({"command":["sh","-c",script]})))
        .await
        .expect("sent");
    let started = async {
        while !pid.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the command starts", started).await;
    node.stop.cancel();
    assert_eq!(outcome(&mut link, "c1").await.expect_err("cancelled").code, "CANCELLED");
    let error = soon("the end", link.recv()).await.expect_err("closed");
    assert_eq!(error.code(), Some(1000), "{error}");
    soon("the daemon ends", node.task)
        .await
        .expect("joins")
        .expect("no error");
    let pid = std::fs::read_to_string(&pid).expect("written");
    assert!(
        !Path::new(&format!("/proc/{}", pid.trim())).exists(),
        "the command is dead"
    );
}

#[tokio::test]
async fn a_first_try_with_a_wrong_token_ends_with_the_reason() {
    let (gateway, folder) = (TestGateway::new().await, state(None));
    let node = Node::start(&gateway, folder.path(), Dialect::Native);
    let guest = gateway.guest().await.expect("proven");
    let refusal = Refusal::Credential {
        fault: CredentialFault::TokenMismatch,
        has_device_token: false,
    };
    guest.refuse(&refusal).await;
    let error = soon("the daemon ends", node.task)
        .await
        .expect("joins")
        .expect_err("refused");
    assert!(matches!(error, RunError::Dial(DialError::Refused(_))), "{error}");
}

/// What the gateway signs after a person said yes to what the node prepared.
fn approved(node: &Node, call: &str, prepared: &Value) -> Plan {
    let digest = |value: &Value| {
        let digits: DeviceId = serde_json::from_value(value.clone()).expect("64 hex digits");
        *digits.as_bytes()
    };
    let files = prepared["files"].as_array().expect("files").iter();
    Plan {
        approval: ApprovalId::new("a1").expect("fits"),
        call: CallId::new(call).expect("fits"),
        node: node.identity.device_id(),
        argv: serde_json::from_value(prepared["plan"]["argv"].clone()).expect("argv"),
        cwd: prepared["plan"]["cwd"].as_str().expect("text").to_owned(),
        env_sha256: digest(&prepared["envSha256"]),
        stdin_sha256: EMPTY_SHA256,
        files: files
            .map(|file| FileHash {
                path: file["path"].as_str().expect("text").to_owned(),
                sha256: digest(&file["sha256"]),
            })
            .collect(),
        session: String::new(),
        expires_at_ms: unix_ms() + 60_000,
    }
}

const EMPTY_SHA256: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

#[tokio::test]
async fn only_what_a_person_approved_runs_and_only_once() {
    let (gateway, folder) = (TestGateway::new().await, state(None));
    let node = Node::start(&gateway, folder.path(), Dialect::Native);
    let (mut link, _) = gateway.admit().await;
    let params = json!({"command":["echo","approved"]});
    link.send(&node.invoke("c0", "system.run", params.clone()))
        .await
        .expect("sent");
    assert_eq!(
        outcome(&mut link, "c0").await.expect_err("nobody said yes").code,
        "SYSTEM_RUN_DENIED"
    );
    link.send(&node.invoke("c1", "system.run.prepare", params.clone()))
        .await
        .expect("sent");
    let prepared = outcome(&mut link, "c1").await.expect("a plan");
    let forged = Identity::from_seed(&[1; 32]).sign_plan(&approved(&node, "c2", &prepared));
    link.send(&node.invoke_with("c2", "system.run", params.clone(), Some(forged)))
        .await
        .expect("sent");
    assert_eq!(
        outcome(&mut link, "c2").await.expect_err("forged").code,
        "SYSTEM_RUN_DENIED"
    );
    let signed = gateway.identity.sign_plan(&approved(&node, "c3", &prepared));
    link.send(&node.invoke_with("c3", "system.run", params.clone(), Some(signed)))
        .await
        .expect("sent");
    assert_eq!(outcome(&mut link, "c3").await.expect("runs")["stdout"], "approved\n");
    let again = gateway.identity.sign_plan(&approved(&node, "c4", &prepared));
    link.send(&node.invoke_with("c4", "system.run", params, Some(again)))
        .await
        .expect("sent");
    let error = outcome(&mut link, "c4").await.expect_err("the same approval");
    assert!(error.message.contains("used already"), "{error}");
}
