//! A live gateway is thrown ten thousand broken frames, before and after the hello: it answers or closes, keeps its
//! memory, and goes on serving.

use std::time::Duration;

use atoll_protocol::capability::Surface;
use atoll_protocol::frame::{ClientInfo, Frame, Hello, VERSIONS};
use atoll_protocol::scope::{Role, Scopes};
use atoll_tests::fake_node::FakeNode;
use atoll_tests::mesh::Mesh;
use atoll_tests::wait::within_time;
use atoll_tests::wire::{Device, Heard, Target, Wire};
use serde_json::{Value, json};

/// One real frame of each kind, as recorded between the real OpenClaw programs.
const CAPTURED: &str = include_str!("../data/captured/frames.jsonl");

/// Longer frames are cut: what breaks a parser is at the beginning.
const CUT: usize = 4 * 1024;

/// Frames in all, shared out over the three places where they are thrown.
const FRAMES: u64 = 10_000;

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

/// As the first frame of a connection.
async fn before_hello(target: Target, frames: u64) {
    let captured = captured(&target);
    let mut dice = Dice(0x5eed_0001);
    for _ in 0..frames {
        let frame = mutate(&captured[dice.below(captured.len())], &mut dice);
        let mut wire = Wire::open(&target).await;
        wire.challenge().await;
        let shown = String::from_utf8_lossy(&frame).into_owned();
        throw(&mut wire, frame).await;
        let heard = within_time(&format!("an answer to {shown}"), Duration::from_secs(10), wire.next()).await;
        if let Heard::Frame(frame) = heard {
            assert_eq!(frame["type"], "res", "{shown} was answered by {frame}");
        }
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
        let alive = within_time(&format!("an answer after {shown}"), Duration::from_secs(10), async {
            loop {
                match wire.next().await {
                    Heard::Frame(frame) if frame["id"] == probe.as_str() => return true,
                    Heard::Frame(_) => {}
                    Heard::Closed { .. } => return false,
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

#[tokio::test]
async fn a_thousand_broken_native_hellos_are_answered_or_closed() {
    let mut mesh = Mesh::start().await;
    let mut dice = Dice(0x5eed_3000);
    let hello = native_hello();
    for _ in 0..1_000 {
        let mut bytes = hello.clone();
        for _ in 0..=dice.below(4) {
            let at = dice.below(bytes.len());
            match dice.below(3) {
                0 => bytes.truncate(at + 1),
                1 => bytes.insert(at, dice.byte()),
                _ => bytes[at] = dice.byte(),
            }
        }
        let native = [("Sec-WebSocket-Protocol", "atoll.1")];
        let mut wire = Wire::open_with(&mesh.target(), &native).await.expect("an upgrade");
        wire.say_bytes(bytes.clone()).await;
        within_time(
            &format!("an answer to {bytes:?}"),
            Duration::from_secs(10),
            wire.message(),
        )
        .await;
    }
    assert!(!mesh.gateway().log().contains("panicked"), "something panicked");
    let mut operator = mesh.operator().await;
    assert_eq!(operator.call("health", json!({})).await.expect("health")["ok"], true);
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
    assert!(!mesh.gateway().log().contains("panicked"), "something panicked");
    assert_eq!(operator.call("health", json!({})).await.expect("health")["ok"], true);
}
