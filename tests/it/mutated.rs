//! A live gateway is thrown ten thousand broken frames, before and after the hello: it answers or closes, keeps its
//! memory, and goes on serving.

use std::time::Duration;

use atoll_protocol::capability::Surface;
use atoll_protocol::frame::{ClientInfo, Frame, Hello, Request, Resume, VERSIONS};
use atoll_protocol::id::RequestId;
use atoll_protocol::scope::{Role, Scopes};
use atoll_tests::fake_node::FakeNode;
use atoll_tests::hostile::HostileNode;
use atoll_tests::mesh::{Mesh, Pipe};
use atoll_tests::wait::within_time;
use atoll_tests::wire::{Device, Heard, Target, Wire};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::hostile::calls::out_of_turn;

/// One real frame of each kind, as recorded between the real OpenClaw programs.
const CAPTURED: &str = include_str!("../data/captured/frames.jsonl");

/// Longer frames are cut: what breaks a parser is at the beginning.
const CUT: usize = 4 * 1024;

/// Frames in all, shared out over the three places where they are thrown.
const FRAMES: u64 = 10_000;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// What `error.code` can be (reference §8).
const ERRORS: [&str; 5] = [
    "INVALID_REQUEST",
    "NOT_PAIRED",
    "FORBIDDEN",
    "UNAVAILABLE",
    "APPROVAL_NOT_FOUND",
];

/// How a gateway ends a connection because of what was said on it: not a word of ours, another version, against the rules, too long.
const CLOSES: [u16; 4] = [1000, 1002, 1008, 1009];

/// Growth of the gateway's memory between the first tenth and the end.
const GROWTH: u64 = 16 * 1024 * 1024;

/// A small deterministic generator: a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).expect("a small bound");
        usize::try_from(self.throw() % bound).expect("smaller than the bound")
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.throw() % 256).expect("a byte")
    }
}

/// Breaks a frame in one to four places.
fn mutate(frame: &str, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = frame.as_bytes().to_vec();
    bytes.truncate(CUT);
    for _ in 0..=dice.below(4) {
        let (from, to) = (dice.below(bytes.len()), dice.below(bytes.len()));
        let (from, to) = (from.min(to), from.max(to));
        match dice.below(8) {
            0 => bytes.truncate(to),
            1 => drop(bytes.drain(from..to)),
            2 => drop(bytes.splice(from..from, bytes[from..to].to_vec())),
            3 => drop(bytes.splice(from..from, "[".repeat(1 + dice.below(3_000)).into_bytes())),
            4 => drop(bytes.splice(from..from, *b"99999999999999999999999999")),
            5 => drop(bytes.splice(from..from, *b"\\ud800\\u0000")),
            _ => {
                let byte = dice.byte();
                if let Some(at) = bytes.get_mut(from) {
                    *at = byte;
                }
            }
        }
    }
    bytes
}

async fn throw(wire: &mut Wire, bytes: Vec<u8>) {
    match String::from_utf8(bytes) {
        Ok(text) => wire.say(text).await,
        Err(broken) => wire.say_bytes(broken.into_bytes()).await,
    }
}

/// Captured frames, with the secrets that were cut out when they were recorded put back.
fn captured(target: &Target) -> Vec<String> {
    let whole = |line: &str| -> String {
        let mut frame: Value = serde_json::from_str(line).expect("a captured frame");
        if frame["params"]["auth"]["token"].is_string() {
            frame["params"]["auth"]["token"] = json!(target.token);
        }
        frame.to_string()
    };
    CAPTURED.lines().map(whole).collect()
}

/// Looks that an answer is one that clients understand: a success, an error with a code that there is, or an event.
fn check_answer(shown: &str, answer: &Value) {
    let is_proper = match (&answer["type"], &answer["ok"]) {
        (kind, _) if kind == "event" => answer["event"].is_string(),
        (kind, ok) if kind == "res" && *ok == true => answer.get("payload").is_some(),
        (kind, ok) if kind == "res" && *ok == false => {
            let is_known = |code: &str| ERRORS.contains(&code);
            answer["error"]["code"].as_str().is_some_and(is_known) && answer["error"]["message"].is_string()
        }
        _ => false,
    };
    assert!(is_proper, "{shown} was answered by {answer}");
}

fn check_close(shown: &str, code: Option<u16>) {
    assert!(
        code.is_some_and(|code| CLOSES.contains(&code)),
        "{shown} ended with {code:?}"
    );
}

/// As the first frame of a connection: the rare one that is still a connect is let in, any other is refused and the connection closed.
async fn before_hello(target: Target, frames: u64) {
    let captured = captured(&target);
    let mut dice = Dice(0x5eed_0001);
    for _ in 0..frames {
        let frame = mutate(&captured[dice.below(captured.len())], &mut dice);
        let mut wire = Wire::open(&target).await;
        wire.challenge().await;
        let shown = String::from_utf8_lossy(&frame).into_owned();
        throw(&mut wire, frame).await;
        within_time(&format!("an answer to {shown}"), ANSWER, async {
            loop {
                match wire.next().await {
                    Heard::Frame(answer) => {
                        check_answer(&shown, &answer);
                        if answer["ok"] == true {
                            assert_eq!(answer["payload"]["type"], "hello-ok", "{shown}");
                            return;
                        }
                    }
                    Heard::Closed { code, .. } => return check_close(&shown, code),
                }
            }
        })
        .await;
    }
}

/// On a link that was let in: each frame is followed by a question, which is answered unless the link was closed.
async fn after_hello(frames: u64, seed: u64, captured: Vec<String>, mut wire: Wire, again: impl AsyncFn() -> Wire) {
    let mut dice = Dice(seed);
    for n in 0..frames {
        let frame = mutate(&captured[dice.below(captured.len())], &mut dice);
        let shown = String::from_utf8_lossy(&frame).into_owned();
        let probe = format!("probe-{n}");
        throw(&mut wire, frame).await;
        wire.send(&json!({"type": "req", "id": probe, "method": "health", "params": {}}))
            .await;
        let alive = within_time(&format!("an answer after {shown}"), ANSWER, async {
            loop {
                match wire.next().await {
                    Heard::Frame(answer) => {
                        check_answer(&shown, &answer);
                        if answer["id"] == probe.as_str() {
                            return true;
                        }
                    }
                    Heard::Closed { code, .. } => {
                        check_close(&shown, code);
                        return false;
                    }
                }
            }
        })
        .await;
        if !alive {
            wire = again().await;
        }
    }
}

async fn throw_everywhere(mesh: &Mesh, device: &Device, frames: u64, seed: u64) {
    let target = mesh.target();
    let captured = captured(&target);
    let node = async || {
        let node = FakeNode::connect(&target, device.clone(), "Thrower", &["system.notify"]).await;
        node.expect("an approved device").wire
    };
    let operator = async || mesh.operator().await;
    tokio::join!(
        before_hello(target.clone(), frames / 4),
        after_hello(frames * 3 / 8, seed, captured.clone(), operator().await, operator),
        after_hello(frames * 3 / 8, seed + 1, captured.clone(), node().await, node),
    );
}

/// A native hello of a node, with this and that of every kind in it.
fn native_hello() -> Vec<u8> {
    let hello = Hello {
        versions: VERSIONS,
        role: Role::Node,
        scopes: Scopes::none(),
        public_key: [3; 32],
        commitment: [5; 32],
        client: ClientInfo {
            id: "node-host".into(),
            platform: "linux".into(),
            display_name: "Thrower".into(),
            ..ClientInfo::default()
        },
        surface: Surface {
            caps: vec!["system".into()],
            commands: vec!["system.run".into(), "system.which".into()],
            ..Surface::default()
        },
        path_env: "/usr/bin:/bin".into(),
    };
    Frame::Hello(hello).encode().expect("a small frame")
}

/// Breaks a native frame in one to four places.
fn mutate_native(frame: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        match dice.below(3) {
            0 => bytes.truncate(at + 1),
            1 => bytes.insert(at, dice.byte()),
            _ => bytes[at] = dice.byte(),
        }
    }
    bytes
}

#[tokio::test]
async fn a_thousand_broken_native_hellos_are_answered_or_closed() {
    let mut mesh = Mesh::start().await;
    let mut dice = Dice(0x5eed_3000);
    let hello = native_hello();
    for _ in 0..1_000 {
        let bytes = mutate_native(&hello, &mut dice);
        let native = [("Sec-WebSocket-Protocol", "atoll.1")];
        let mut wire = Wire::open_with(&mesh.target(), &native).await.expect("an upgrade");
        wire.say_bytes(bytes.clone()).await;
        let shown = format!("{bytes:?}");
        match within_time(&format!("an answer to {shown}"), ANSWER, wire.message()).await {
            Some(Message::Binary(answer)) => {
                let answer = Frame::decode(&answer, answer.len()).expect("a frame");
                assert!(
                    matches!(answer, Frame::Challenge(_) | Frame::Refused(_)),
                    "{shown}: {answer:?}"
                );
            }
            Some(Message::Close(close)) => check_close(&shown, close.map(|close| close.code.into())),
            other => panic!("{shown} was answered by {other:?}"),
        }
    }
    still_serves(&mut mesh).await;
}

async fn still_serves(mesh: &mut Mesh) {
    assert!(!mesh.gateway().log().contains("panicked"), "something panicked");
    let mut operator = mesh.operator().await;
    assert_eq!(operator.call("health", json!({})).await.expect("health")["ok"], true);
}

/// What nodes and others say on a link, one frame of a kind.
fn native_frames() -> Vec<Vec<u8>> {
    let request = Frame::Request(Request {
        id: RequestId::new("r").expect("a name"),
        method: "node.event".to_owned(),
        params: Some((&json!({"event": "node.host.stats", "payloadJSON": "{\"cpuCount\":2}"})).into()),
    });
    let resume = Frame::Resume(Resume::default());
    let frames = out_of_turn().into_iter().chain([request, resume]);
    frames.map(|frame| frame.encode().expect("a small frame")).collect()
}

/// Most of them cost their link, and another one takes a while.
const NATIVE_FRAMES: u32 = 300;

#[tokio::test]
async fn broken_native_frames_are_answered_or_close_their_link() {
    let mut mesh = Mesh::start().await;
    let mut node = HostileNode::pair(&mesh, Pipe::Ws, "Thrower").await;
    let mut dice = Dice(0x5eed_4000);
    let frames = native_frames();
    let mut closed = 0;
    for _ in 0..NATIVE_FRAMES {
        let bytes = mutate_native(&frames[dice.below(frames.len())], &mut dice);
        node.line.say_bytes(&bytes).await;
        // Every answer on the way to this one is read, and has to be a frame.
        if let Err(end) = node.line.asked_back().await {
            closed += 1;
            check_close(
                &format!("{bytes:?}"),
                end.code.and_then(|code| u16::try_from(code).ok()),
            );
            node = node.again().await;
        }
    }
    assert!(
        (1..NATIVE_FRAMES).contains(&closed),
        "{closed} of them closed their link"
    );
    still_serves(&mut mesh).await;
}

#[tokio::test]
async fn ten_thousand_broken_frames_neither_crash_nor_hang_nor_bloat_the_gateway() {
    let mut mesh = Mesh::start().await;
    let mut operator = mesh.operator().await;
    let fake = FakeNode::pair(&mesh.target(), &mut operator, "Thrower", &["system.notify"]).await;
    throw_everywhere(&mesh, &fake.device, FRAMES / 10, 0x5eed_1000).await;
    let before = mesh.gateway().resident();
    throw_everywhere(&mesh, &fake.device, FRAMES * 9 / 10, 0x5eed_2000).await;
    let after = mesh.gateway().resident();
    assert!(after < before + GROWTH, "from {before} to {after} bytes");
    still_serves(&mut mesh).await;
}
