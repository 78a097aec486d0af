//! Nodes that do not read what is said to them.

use atoll_protocol::frame::{Frame, Request};
use atoll_protocol::id::RequestId;
use atoll_protocol::limits;
use atoll_tests::mesh::Pipe;
use atoll_tests::wire::Wire;
use serde_json::json;

use super::{Arena, COST, answer, ask, over_networks};

over_networks! {
    calls_of_a_node_that_never_reads_end_and_its_link_is_closed,
    a_node_that_asks_and_never_reads_the_answers_is_read_no_further,
}

async fn calls_of_a_node_that_never_reads_end_and_its_link_is_closed(pipe: Pipe) {
    const OPERATORS: usize = 10;
    let mut arena = Arena::new(pipe).await;
    let node = arena.intruder().await;
    let text = "x".repeat(32 * 1024);
    let mut operators: Vec<Wire> = Vec::new();
    // One operator has so many requests under way at most.
    for _ in 0..OPERATORS {
        operators.push(arena.mesh.operator().await);
    }
    let attack = async {
        let calling = operators.iter_mut().map(async |operator| {
            let mut asked = Vec::new();
            for _ in 0..limits::OPERATOR_REQUESTS {
                asked.push(ask(operator, &node, "device.status", json!({"text": text})).await);
            }
            for asked in asked {
                answer(operator, &asked).await.expect_err("it never answers");
            }
        });
        futures_util::future::join_all(calling).await;
    };
    arena.under(attack).await;
    arena.said("does not read").await;
    // What may wait for one peer, and the calls of so many operators.
    arena.has_grown_by_less_than(2 * limits::SEND_BUFFER as u64 + COST);
    drop(node);
}

async fn a_node_that_asks_and_never_reads_the_answers_is_read_no_further(pipe: Pipe) {
    const REQUESTS: usize = 20_000;
    let mut arena = Arena::new(pipe).await;
    let mut node = arena.intruder().await;
    let request = Frame::Request(Request {
        id: RequestId::new("r".repeat(limits::ID_CHARS)).expect("a name"),
        method: "x".repeat(16 * 1024),
        params: None,
    });
    let attack = async {
        for number in 0..REQUESTS {
            if !node.line.say(&request).await {
                return number;
            }
        }
        REQUESTS
    };
    let taken = arena.under(attack).await;
    assert!(taken < REQUESTS, "{taken} were taken");
    arena.has_grown_by_less_than(COST);
}
