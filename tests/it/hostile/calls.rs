//! Words about calls out of turn: for somebody else, for nobody, twice, after the end, and lies about what a node remembers.

use atoll_protocol::error::CallError;
use atoll_protocol::frame::{Acknowledge, Challenge, Frame, Invoke, Progress, Proof, Resume, Waiting};
use atoll_protocol::id::{CallId, DeviceId, PairingId};
use atoll_tests::hostile::{HostileNode, admitted, outcome};
use atoll_tests::mesh::Pipe;
use atoll_tests::wait::within;
use serde_json::json;

use super::{Arena, COST, answer, ask, over_networks};

over_networks! {
    what_only_others_say_changes_nothing,
    a_node_ends_no_call_but_its_own_and_each_once,
    what_comes_after_the_end_of_a_call_is_forgotten,
    a_node_that_lies_about_what_it_remembers_loses_its_own_calls_alone,
    a_node_that_comes_in_many_times_is_one_node,
}

const COMMAND: &str = "device.status";

fn call(name: &str) -> CallId {
    CallId::new(name).expect("a name")
}

fn progress(call: &CallId, seq: u64) -> Frame {
    Frame::Progress(Progress {
        call: call.clone(),
        seq,
        chunk: "x".to_owned(),
        receipt: None,
    })
}

/// Frames of a handshake that is over, of a gateway, and of nobody's calls.
pub(crate) fn out_of_turn() -> Vec<Frame> {
    let nobodys = call("nobody's");
    vec![
        Frame::Challenge(Challenge {
            version: 1,
            public_key: [1; 32],
            nonce: [2; 32],
            signature: vec![3; 64],
        }),
        Frame::Proof(Proof {
            nonce: [1; 32],
            signature: vec![0; 64],
            token: Some("x".to_owned()),
            setup_code: None,
        }),
        Frame::Waiting(Waiting {
            request: PairingId::new("r").expect("a name"),
            reason: "not-paired".to_owned(),
        }),
        Frame::Admitted(admitted()),
        Frame::Invoke(Invoke {
            call: nobodys.clone(),
            node: DeviceId::from_digest([1; 32]),
            command: "system.run".to_owned(),
            params: None,
            timeout_ms: u64::MAX,
            idempotency_key: None,
            plan: None,
        }),
        Frame::Cancel(nobodys.clone()),
        Frame::Acknowledge(Acknowledge {
            call: nobodys.clone(),
            receipt: None,
            ignored: false,
        }),
        progress(&nobodys, 0),
        progress(&nobodys, u64::MAX),
        outcome(&nobodys, Ok(None)),
        Frame::Pong(7),
    ]
}

async fn what_only_others_say_changes_nothing(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let mut node = arena.intruder().await;
    let mut operator = arena.mesh.operator().await;
    let attack = async {
        for _ in 0..100 {
            for frame in out_of_turn() {
                assert!(node.line.say(&frame).await);
            }
            assert!(node.line.answers().await);
        }
        let asked = ask(&mut operator, &node, COMMAND, json!({})).await;
        let invoke = node.invoked().await;
        node.answer(&invoke.call, &json!("still here")).await;
        assert_eq!(answer(&mut operator, &asked).await, Ok(json!("still here")));
    };
    arena.under(attack).await;
    arena.has_grown_by_less_than(COST);
}

async fn a_node_ends_no_call_but_its_own_and_each_once(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let mut liar = arena.intruder().await;
    let mut owner = HostileNode::pair(&arena.mesh, pipe, "owner").await;
    let mut operator = arena.mesh.operator().await;
    let attack = async {
        let asked = ask(&mut operator, &owner, COMMAND, json!({})).await;
        let invoke = owner.invoked().await;
        liar.line.say(&progress(&invoke.call, 0)).await;
        liar.answer(&invoke.call, &json!("forged")).await;
        assert!(liar.acknowledged(&invoke.call).await, "ignored");
        owner.answer(&invoke.call, &json!("genuine")).await;
        let failed = Err(CallError::new("X", "second thoughts"));
        owner.line.say(&outcome(&invoke.call, failed)).await;
        assert_eq!(answer(&mut operator, &asked).await, Ok(json!("genuine")));
    };
    arena.under(attack).await;
    let listed = arena.operator.call("node.calls.list", json!({})).await.expect("a list");
    assert!(!listed.to_string().contains("second thoughts"), "{listed}");
    assert!(liar.line.answers().await && owner.line.answers().await);
}

async fn what_comes_after_the_end_of_a_call_is_forgotten(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let mut node = arena.intruder().await;
    let mut operator = arena.mesh.operator().await;
    let attack = async {
        let asked = ask(&mut operator, &node, COMMAND, json!({})).await;
        let invoke = node.invoked().await;
        // No number comes after the highest.
        for seq in [0, 5, u64::MAX, u64::MAX, 0] {
            assert!(node.line.say(&progress(&invoke.call, seq)).await);
        }
        node.answer(&invoke.call, &json!("done")).await;
        assert_eq!(answer(&mut operator, &asked).await, Ok(json!("done")));
        for seq in 0..1_000 {
            assert!(node.line.say(&progress(&invoke.call, seq)).await);
        }
        node.answer(&invoke.call, &json!("done again")).await;
        assert!(node.line.answers().await);
    };
    arena.under(attack).await;
    arena.has_grown_by_less_than(COST);
}

async fn a_node_that_lies_about_what_it_remembers_loses_its_own_calls_alone(pipe: Pipe) {
    let mut arena = Arena::new(pipe).await;
    let mut node = arena.intruder().await;
    let mut operator = arena.mesh.operator().await;
    let attack = async {
        let asked = ask(&mut operator, &node, COMMAND, json!({})).await;
        let invoke = node.invoked().await;
        // Another start that knows nothing of the call, said on the same link: only the first word counts.
        node.line.say(&resume("other", &[])).await;
        assert!(node.line.answers().await);
        let mut next = node.again().await;
        // Calls of nobody, one of them twice, and one that is both.
        next.line.say(&resume("another", &["a", "a", "b"])).await;
        let failed = answer(&mut operator, &asked)
            .await
            .expect_err("nobody knows whether it ran");
        assert!(failed.to_string().contains("NODE_LOST_CALL"), "{failed}");
        let called_off = |frame| matches!(frame, Frame::Cancel(call) if call.as_str() == "b").then_some(());
        next.line
            .wait_for("what nobody asked for to be called off", called_off)
            .await;
        // The link before has been replaced: what it says now is of the past.
        node.answer(&invoke.call, &json!("too late")).await;
        assert!(next.line.answers().await);
        next
    };
    let mut next = arena.under(attack).await;
    let asked = ask(&mut operator, &next, COMMAND, json!({})).await;
    let invoke = within("a call", next.invoked()).await;
    next.answer(&invoke.call, &json!("honest now")).await;
    assert_eq!(answer(&mut operator, &asked).await, Ok(json!("honest now")));
    arena.has_grown_by_less_than(COST);
}

fn resume(boot: &str, running: &[&str]) -> Frame {
    Frame::Resume(Resume {
        boot: boot.to_owned(),
        running: running.iter().map(|name| call(name)).collect(),
        finished: vec![call("b")],
    })
}

async fn a_node_that_comes_in_many_times_is_one_node(pipe: Pipe) {
    const LINKS: usize = 60;
    let mut arena = Arena::new(pipe).await;
    let node = arena.intruder().await;
    let attack = async {
        let mut links = Vec::new();
        for _ in 0..LINKS {
            let mut link = node.again().await;
            link.line.say(&Frame::Resume(Resume::default())).await;
            links.push(link);
        }
        links
    };
    let links = arena.under(attack).await;
    let rows = arena.operator.call("node.list", json!({})).await.expect("a list");
    assert_eq!(rows["nodes"].as_array().map(Vec::len), Some(2), "{rows}");
    arena.has_grown_by_less_than(COST);
    drop(links);
}
