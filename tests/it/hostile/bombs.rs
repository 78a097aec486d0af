//! Frames of a legal size that would take far more once they are read.

use atoll_protocol::capability::Surface;
use atoll_protocol::frame::{Admitted, ClientInfo, Frame, Hello, Progress, Request, Resume, VERSIONS};
use atoll_protocol::id::{CallId, RequestId};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::scope::{Role, Scopes};
use atoll_tests::hostile::{admitted, outcome};
use atoll_tests::mesh::Pipe;
use serde_json::json;

use super::{Arena, COST, MIB, ask, over_networks};

over_networks! {
    a_frame_that_lists_without_end_takes_no_more_than_its_link_may,
    a_result_that_nests_or_lists_without_end_is_one_answer,
    requests_that_nobody_understands_are_answered_and_cost_nothing,
}

/// Nearly as many bytes as a frame may have.
const FULL: usize = limits::NATIVE_FRAME - 1024;

fn surface(entries: usize) -> Surface {
    Surface {
        caps: vec![String::new(); entries],
        ..Surface::default()
    }
}

/// Each of them is small on the wire for what it says.
pub(super) fn bombs() -> Vec<Frame> {
    let hello = Hello {
        versions: VERSIONS,
        role: Role::Node,
        scopes: Scopes::none(),
        public_key: [1; 32],
        commitment: [2; 32],
        client: ClientInfo::default(),
        surface: surface(FULL),
        path_env: String::new(),
    };
    let call = |number: usize| CallId::new(char::from(b'a' + u8::try_from(number % 26).expect("a letter")).to_string());
    let calls: Vec<CallId> = (0..FULL / 2).map(|number| call(number).expect("a name")).collect();
    vec![
        Frame::Hello(hello),
        Frame::Granted(surface(FULL)),
        Frame::Admitted(Admitted {
            surface: surface(FULL),
            ..admitted()
        }),
        Frame::Resume(Resume {
            running: calls.clone(),
            ..Resume::default()
        }),
        Frame::Resume(Resume {
            finished: calls,
            ..Resume::default()
        }),
        Frame::Resume(Resume {
            boot: "x".repeat(FULL),
            ..Resume::default()
        }),
    ]
}

async fn a_frame_that_lists_without_end_takes_no_more_than_its_link_may(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let first = arena.intruder().await;
    for bomb in bombs() {
        let attack = async {
            let mut node = first.again().await;
            for _ in 0..8 {
                node.line.say(&bomb).await;
            }
            node.line.closed().await
        };
        let closed = arena.under(attack).await;
        assert_eq!(closed.code, Some(1002), "{}: {closed:?}", bomb.kind());
        arena.has_grown_by_less_than(COST);
    }
}

async fn a_result_that_nests_or_lists_without_end_is_one_answer(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let mut node = arena.intruder().await;
    let mut operator = arena.mesh.operator().await;
    let nested = format!("{}{}", "[".repeat(FULL / 2), "]".repeat(FULL / 2));
    let listed = format!(r#"{{"blob":1,"list":[{}1]}}"#, "1,".repeat(FULL / 2 - 64));
    for text in [nested, listed] {
        let attack = async {
            let asked = ask(&mut operator, &node, "device.status", json!({})).await;
            let invoke = node.invoked().await;
            let result = Json::parse(&text).expect("JSON");
            assert!(node.line.say(&outcome(&invoke.call, Ok(Some(result)))).await);
            // Too deep for a tree, in this client too.
            while !operator.text().await.contains(&asked) {}
        };
        arena.under(attack).await;
        arena.has_grown_by_less_than(COST + 64 * MIB);
        assert!(node.line.answers().await, "one call, not the link");
    }
}

async fn requests_that_nobody_understands_are_answered_and_cost_nothing(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let mut node = arena.intruder().await;
    let long = "x".repeat(FULL / 2);
    let requests = [
        ("no.such.method".to_owned(), json!({"text": long})),
        (long.clone(), json!({})),
        (
            "node.event".to_owned(),
            json!({"event": long, "payloadJSON": "{".repeat(1000)}),
        ),
        (
            "node.event".to_owned(),
            json!({"event": "node.host.stats", "payloadJSON": long}),
        ),
        ("node.skills.update".to_owned(), json!({"skills": vec![0; FULL / 4]})),
    ];
    let attack = async {
        for (number, (method, params)) in requests.into_iter().enumerate() {
            let id: RequestId = RequestId::new(format!("r{number}")).expect("a name");
            let request = Frame::Request(Request {
                id: id.clone(),
                method,
                params: Some(params.into()),
            });
            assert!(node.line.say(&request).await);
            let mine = |frame| matches!(frame, Frame::Response(response) if response.id == id).then_some(());
            node.line.wait_for("an answer", mine).await;
        }
        let call = CallId::new("nobody's").expect("a name");
        let progress = Frame::Progress(Progress {
            call,
            seq: u64::MAX,
            chunk: "x".repeat(FULL),
            receipt: None,
        });
        for _ in 0..50 {
            assert!(node.line.say(&progress).await);
        }
        assert!(node.line.answers().await);
    };
    arena.under(attack).await;
    // Some are lists that are read before they are refused.
    arena.has_grown_by_less_than(COST + 16 * MIB);
}
