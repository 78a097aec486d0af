//! Every kind of frame: its bytes for ever, its round trip, and what broken bytes do.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::error::ErrorCode;
use crate::scope::Scope;

fn call(text: &str) -> CallId {
    CallId::new(text).expect("an id")
}

fn request_id(text: &str) -> RequestId {
    RequestId::new(text).expect("an id")
}

fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn surface() -> Surface {
    Surface {
        caps: vec!["a".to_owned()],
        commands: vec!["a.b".to_owned()],
        permissions: BTreeMap::from([("p".to_owned(), true)]),
    }
}

fn client() -> ClientInfo {
    ClientInfo {
        id: "i".to_owned(),
        mode: "m".to_owned(),
        version: "v".to_owned(),
        platform: "p".to_owned(),
        device_family: "f".to_owned(),
        model: "h".to_owned(),
        display_name: "n".to_owned(),
        instance_id: "s".to_owned(),
    }
}

/// One frame of every kind, small enough to check its bytes by hand.
fn samples() -> Vec<Frame> {
    [handshake_samples(), method_samples(), call_samples(), stream_samples()].concat()
}

fn handshake_samples() -> Vec<Frame> {
    vec![
        Frame::Hello(Hello {
            versions: VERSIONS,
            role: Role::Node,
            scopes: [Scope::Read].into_iter().collect(),
            public_key: [1; 32],
            commitment: [2; 32],
            client: client(),
            surface: surface(),
            path_env: "/".to_owned(),
        }),
        Frame::Challenge(Challenge {
            version: 1,
            public_key: [3; 32],
            nonce: [4; 32],
            signature: vec![5, 6],
        }),
        Frame::Proof(Proof {
            nonce: [20; 32],
            signature: vec![7],
            token: Some("t".to_owned()),
            setup_code: Some("s".to_owned()),
        }),
        Frame::Waiting(Waiting {
            request: PairingId::new("r").expect("an id"),
            reason: "w".to_owned(),
        }),
        Frame::Admitted(Admitted {
            connection: "c".to_owned(),
            server_version: "v".to_owned(),
            role: Role::Operator,
            scopes: Scopes::none(),
            surface: surface(),
            generation: 300,
            tick_ms: 5,
        }),
        Frame::Refused(WireError {
            code: ErrorCode::Unavailable,
            message: "m".to_owned(),
            details: Some(json("{}")),
            retryable: Some(true),
            retry_after_ms: Some(9),
        }),
    ]
}

fn method_samples() -> Vec<Frame> {
    vec![
        Frame::Request(Request {
            id: request_id("1"),
            method: "m".to_owned(),
            params: Some(json("[]")),
        }),
        Frame::Response(Response {
            id: request_id("1"),
            result: Ok(json("1")),
        }),
        Frame::Event(Event {
            name: "e".to_owned(),
            payload: json("0"),
            seq: Some(1),
            state: Some(StateVersion { presence: 2, health: 3 }),
        }),
    ]
}

fn call_samples() -> Vec<Frame> {
    vec![
        Frame::Invoke(Invoke {
            call: call("c"),
            node: DeviceId::from_digest([0xaa; 32]),
            command: "x".to_owned(),
            params: None,
            timeout_ms: 128,
            idempotency_key: Some("k".to_owned()),
            plan: Some(SignedPlan {
                plan: vec![1],
                signature: vec![2],
            }),
        }),
        Frame::Progress(Progress {
            call: call("c"),
            seq: 0,
            chunk: "é".to_owned(),
            receipt: None,
        }),
        Frame::Input(Input {
            call: call("c"),
            seq: 1,
            payload: json("2"),
        }),
        Frame::Cancel(call("c")),
        Frame::Outcome(Outcome {
            call: call("c"),
            result: Err(CallError::new("C", "m")),
            receipt: Some(request_id("1")),
        }),
        Frame::Acknowledge(Acknowledge {
            call: call("c"),
            receipt: None,
            ignored: true,
        }),
        Frame::Resume(Resume {
            boot: "b".to_owned(),
            running: vec![call("c")],
            finished: Vec::new(),
        }),
        Frame::Ping(1),
        Frame::Pong(u64::MAX),
        Frame::Granted(surface()),
    ]
}

fn stream_samples() -> Vec<Frame> {
    vec![
        Frame::StreamOpen(StreamOpen {
            stream: 0,
            head: StreamHead::Fetch {
                blob: BlobId::new("b").expect("an id"),
                offset: 300,
            },
        }),
        Frame::StreamChunk(StreamChunk {
            stream: 1,
            kind: ChunkKind::Key,
            bytes: Bytes::from_static(&[7, 255]),
        }),
        Frame::StreamWindow(StreamWindow { stream: 2, bytes: 128 }),
        Frame::StreamClosed(StreamClosed {
            stream: 3,
            error: WireError::unavailable("m"),
        }),
        Frame::StreamAbandoned(4),
        Frame::BlobDone(BlobId::new("b").expect("an id")),
        Frame::Clock(1_700_000_000_000),
        Frame::Output(Output {
            call: call("c"),
            seq: 300,
            stream: OutputStream::Stderr,
            bytes: Bytes::from_static(&[0, 255]),
        }),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of [`samples`], for ever: a device of today must be understood by a gateway of tomorrow.
const GOLDEN: &[&str] = &[
    "010101010101010101010101010101010101010101010101010101010101010101010101010102020202020202020202020202020202020202020202020202020202020202020169016d0176017001660168016e01730101610103612e6201017001012f",
    "020103030303030303030303030303030303030303030303030303030303030303030404040404040404040404040404040404040404040404040404040404040404020506",
    "0314141414141414141414141414141414141414141414141414141414141414140107010174010173",
    "0401720177",
    "050163017600000101610103612e6201017001ac0205",
    "0603016d01027b7d01010109",
    "070131016d01025b5d",
    "080131000131",
    "09016501300101010203",
    "0a0163aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa017800800101016b0101010102",
    "0b01630002c3a900",
    "0c0163010132",
    "0d0163",
    "0e0163010143016d010131",
    "0f01630001",
    "10016201016300",
    "1101",
    "12ffffffffffffffffff01",
    "130101610103612e6201017001",
    "1400000162ac02",
    "1501010207ff",
    "16028001",
    "170303016d000000",
    "1804",
    "190162",
    "1a80d095ffbc31",
    "1b0163ac02010200ff",
];

#[test]
fn the_bytes_of_every_kind_stay_as_they_are() {
    let samples = samples();
    let kinds: Vec<u8> = samples.iter().map(Frame::kind).collect();
    assert_eq!(kinds, (1..=27).collect::<Vec<u8>>(), "one of every kind, in order");
    let bytes: Vec<String> = samples
        .iter()
        .map(|frame| hex(&frame.encode().expect("small")))
        .collect();
    assert_eq!(bytes, GOLDEN);
}

fn any_text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn any_call() -> impl Strategy<Value = CallId> {
    "[a-z0-9-]{1,40}".prop_map(|text| call(&text))
}

fn any_receipt() -> impl Strategy<Value = Option<RequestId>> {
    proptest::option::of("[a-z0-9:-]{1,40}".prop_map(|text| request_id(&text)))
}

fn any_json() -> impl Strategy<Value = Json> {
    any_text().prop_map(|text| serde_json::json!({ "text": text, "list": [null, 1.5, true] }).into())
}

fn any_error() -> impl Strategy<Value = WireError> {
    (
        any_text(),
        proptest::option::of(any_json()),
        any::<Option<bool>>(),
        any::<Option<u64>>(),
    )
        .prop_map(|(message, details, retryable, retry_after_ms)| WireError {
            details,
            retryable,
            retry_after_ms,
            ..WireError::invalid(message)
        })
}

fn any_invoke() -> impl Strategy<Value = Frame> {
    (
        any_call(),
        any::<[u8; 32]>(),
        any_text(),
        proptest::option::of(any_json()),
        any::<u64>(),
        any::<Option<Vec<u8>>>(),
    )
        .prop_map(|(call, node, command, params, timeout_ms, plan)| {
            Frame::Invoke(Invoke {
                call,
                node: DeviceId::from_digest(node),
                command,
                params,
                timeout_ms,
                idempotency_key: None,
                plan: plan.map(|plan| SignedPlan {
                    signature: plan.clone(),
                    plan,
                }),
            })
        })
}

fn any_outcome() -> impl Strategy<Value = Frame> {
    let result = prop_oneof![
        proptest::option::of(any_json()).prop_map(Ok),
        (any_text(), any_text()).prop_map(|(code, message)| Err(CallError { code, message })),
    ];
    (any_call(), result, any_receipt())
        .prop_map(|(call, result, receipt)| Frame::Outcome(Outcome { call, result, receipt }))
}

fn any_chunk() -> impl Strategy<Value = Frame> {
    let kind = proptest::sample::select(vec![ChunkKind::Data, ChunkKind::Key, ChunkKind::End]);
    (any::<u64>(), kind, any::<Vec<u8>>()).prop_map(|(stream, kind, bytes)| {
        Frame::StreamChunk(StreamChunk {
            stream,
            kind,
            bytes: bytes.into(),
        })
    })
}

fn any_output() -> impl Strategy<Value = Frame> {
    let stream = proptest::sample::select(vec![OutputStream::Stdout, OutputStream::Stderr]);
    (any_call(), any::<u64>(), stream, any::<Vec<u8>>()).prop_map(|(call, seq, stream, bytes)| {
        Frame::Output(Output {
            call,
            seq,
            stream,
            bytes: bytes.into(),
        })
    })
}

fn any_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        proptest::sample::select(samples()),
        any_error().prop_map(Frame::Refused),
        any_invoke(),
        any_outcome(),
        any_chunk(),
        any_output(),
        (any_call(), any::<u64>(), any_text(), any_receipt()).prop_map(|(call, seq, chunk, receipt)| {
            Frame::Progress(Progress {
                call,
                seq,
                chunk,
                receipt,
            })
        }),
        (any_text(), any_json(), any::<Option<u64>>()).prop_map(|(name, payload, seq)| {
            Frame::Event(Event {
                name,
                payload,
                seq,
                state: None,
            })
        }),
        (any_text(), proptest::collection::vec(any_call(), 0..4)).prop_map(|(boot, calls)| {
            Frame::Resume(Resume {
                boot,
                finished: calls.clone(),
                running: calls,
            })
        }),
    ]
}

proptest! {
    #[test]
    fn a_frame_survives_its_bytes(frame in any_frame()) {
        let bytes = frame.encode().expect("small");
        prop_assert_eq!(Frame::decode(&bytes, limits::NATIVE_FRAME), Ok(frame));
    }

    #[test]
    fn broken_bytes_are_an_error_or_another_frame_and_never_a_panic(
        frame in any_frame(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        extra in proptest::collection::vec(any::<u8>(), 0..3),
    ) {
        let mut bytes = frame.encode().expect("small");
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        bytes.extend(extra);
        if let Ok(read) = Frame::decode(&bytes, limits::NATIVE_FRAME) {
            // Whatever was read is a frame like any other: it can be said again and means the same.
            let again = read.encode().expect("no larger");
            prop_assert_eq!(Frame::decode(&again, limits::NATIVE_FRAME), Ok(read));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Frame::decode(&bytes, limits::NATIVE_FRAME);
    }

    #[test]
    fn every_true_prefix_of_a_frame_is_an_error(frame in any_frame(), cut in any::<prop::sample::Index>()) {
        let bytes = frame.encode().expect("small");
        prop_assert!(Frame::decode(&bytes[..cut.index(bytes.len())], limits::NATIVE_FRAME).is_err());
    }
}

#[test]
fn size_is_checked_before_anything_is_read() {
    // These bytes are no frame at all: had they been read, the error would be another.
    let bytes = [0xff; 11];
    assert_eq!(
        Frame::decode(&bytes, 10),
        Err(FrameError::TooLarge { len: 11, limit: 10 })
    );
    assert_eq!(Frame::decode(&bytes, 11), Err(FrameError::UnknownKind(0xff)));
}

#[test]
fn a_length_that_promises_more_than_there_is_costs_nothing() {
    // A signature of 2^62 bytes.
    let bytes = [3, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
    assert_eq!(
        Frame::decode(&bytes, limits::PRE_AUTH_FRAME),
        Err(FrameError::Body { kind: 3 })
    );
}

#[test]
fn a_frame_that_is_too_large_is_not_sent() {
    let frame = Frame::Request(Request {
        id: request_id("1"),
        method: "x".repeat(limits::NATIVE_FRAME),
        params: None,
    });
    assert!(matches!(frame.encode(), Err(FrameError::TooLarge { .. })));
}

#[test]
fn bytes_after_a_frame_and_kinds_of_later_versions_are_told_apart() {
    let mut bytes = Frame::Ping(1).encode().expect("small");
    bytes.push(0);
    let trailing = Frame::decode(&bytes, 99).expect_err("one byte too many");
    assert_eq!(trailing, FrameError::Trailing { kind: 17, extra: 1 });
    assert!(!trailing.is_skippable());
    assert!(Frame::decode(&[200, 1], 99).expect_err("not yet").is_skippable());
    assert_eq!(Frame::decode(&[], 99), Err(FrameError::Empty));
}

#[test]
fn the_highest_common_version_is_agreed_upon() {
    let versions = |lowest, highest| Versions { lowest, highest };
    assert_eq!(versions(1, 3).agree(versions(2, 5)), Some(3));
    assert_eq!(versions(1, 1).agree(versions(2, 5)), None);
}

#[test]
fn neither_token_nor_code_is_shown() {
    let proof = Proof {
        nonce: [1; 32],
        signature: vec![1],
        token: Some("hush".to_owned()),
        setup_code: Some("hush".to_owned()),
    };
    assert!(!format!("{:?}", Frame::Proof(proof)).contains("hush"));
}
