//! Text as a message of the dialect, at either end: what is read is said again and read as the same; what is refused is refused in words
//! that are themselves of the language.

use atoll_protocol::dialect::{Gateway, Node, Reject, connect};
use atoll_protocol::frame::{Frame, Outcome, Progress, Request};
use atoll_protocol::id::{DeviceId, RequestId};
use atoll_protocol::limits;
use atoll_protocol::scope::Role;

use super::input::Input;

const OWN: DeviceId = DeviceId::from_digest([1; 32]);

/// A choice of the end, then the text.
///
/// # Panics
/// When a promise is broken.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choice = input.byte();
    let text = String::from_utf8_lossy(input.bytes(usize::MAX));
    match choice % 5 {
        0 => of_a_peer(&text, Role::Node),
        1 => of_a_peer(&text, Role::Operator),
        2 => of_a_gateway(&text),
        3 => of_a_stranger(&text),
        _ => of_an_answer(&text),
    }
}

fn of_a_peer(text: &str, peer: Role) {
    let gateway = Gateway { peer, own: Some(OWN) };
    let node = Node { node: OWN };
    match gateway.read(text) {
        Ok(frame) => {
            let said = node.write(&frame).expect("a peer said it");
            if let Some(frame) = with_our_receipt(frame) {
                assert_eq!(gateway.read(&said), Ok(frame), "{said}");
            }
        }
        Err(reject) => is_worded(&reject),
    }
}

/// The ids of requests that carry results are those of whoever writes them; none when ours would be too long for its end.
fn with_our_receipt(frame: Frame) -> Option<Frame> {
    Some(match frame {
        Frame::Outcome(outcome) => Frame::Outcome(Outcome {
            receipt: Some(RequestId::new(format!("result:{}", outcome.call)).ok()?),
            ..outcome
        }),
        Frame::Progress(progress) => Frame::Progress(Progress {
            receipt: Some(RequestId::new(format!("progress:{}:{}", progress.call, progress.seq)).ok()?),
            ..progress
        }),
        frame => frame,
    })
}

fn of_a_gateway(text: &str) {
    let gateway = Gateway {
        peer: Role::Node,
        own: Some(OWN),
    };
    let node = Node { node: OWN };
    let Ok(Some(frame)) = node.read(text) else { return };
    // What it says of results is said under ids that only the node knows.
    if matches!(frame, Frame::Acknowledge(_)) {
        return;
    }
    let said = gateway.write(&frame).expect("a gateway said it");
    let again = node.read(&said).expect("what was said is read");
    let again = again.expect("and is something");
    let said_again = gateway.write(&again).expect("a gateway says it");
    if said_again != said {
        // An error without words gets some, once.
        assert!(
            matches!(&again, Frame::Response(response) if response.result.is_err()),
            "{said}"
        );
        assert_eq!(node.read(&said_again), Ok(Some(again)));
    }
}

fn of_a_stranger(text: &str) {
    match connect::read_connect(text) {
        Ok((id, connect)) => {
            let said = connect::write_connect(&id, &connect);
            let (id_again, again) = connect::read_connect(&said).expect("what was said is read");
            assert_eq!(id_again, id);
            assert_eq!(connect::write_connect(&id, &again), said);
            assert!(id.as_str().len() <= limits::ID_CHARS);
        }
        Err(reject) => is_worded(&reject),
    }
}

fn of_an_answer(text: &str) {
    let id = RequestId::new("1").expect("a name");
    if let Ok(challenge) = connect::read_challenge(text) {
        let said = connect::write_challenge(&challenge);
        let again = connect::read_challenge(&said).expect("what was said is read");
        assert_eq!(connect::write_challenge(&again), said);
    }
    if let Ok(Some(Ok(hello))) = connect::read_answer(text, &id) {
        let said = connect::write_hello(&id, &hello);
        let again = connect::read_answer(&said, &id).expect("what was said is read");
        let again = again.expect("it is the answer").expect("it lets in");
        assert_eq!(connect::write_hello(&id, &again), said);
    }
    // What a node asks is no answer to anybody.
    let request = Frame::Request(Request {
        id,
        method: text.chars().take(limits::ID_CHARS).collect(),
        params: None,
    });
    let said = Node { node: OWN }.write(&request).expect("a node says it");
    let operator = Gateway {
        peer: Role::Operator,
        own: None,
    };
    match operator.read(&said) {
        Ok(read) => assert_eq!(read, request),
        Err(reject) => is_worded(&reject),
    }
}

/// A refusal is a message too.
fn is_worded(reject: &Reject) {
    if let Some(answer) = &reject.answer {
        let tree: Result<serde_json::Value, _> = serde_json::from_str(answer);
        let tree = tree.unwrap_or_else(|error| panic!("{error} in {answer}"));
        assert_eq!(tree["type"], "res", "{answer}");
    }
    if let Some((code, reason)) = &reject.close {
        assert!((1000..5000).contains(code), "{code}");
        assert!(reason.len() <= 123, "{reason}");
    }
}
