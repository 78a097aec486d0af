//! Peers that hold the right keys and break every other rule, against the real programs. Each attack ends in a close or an answer that says
//! why, leaves memory within a stated bound, and meanwhile another node goes on being served.

mod bombs;
mod bytes;
pub(crate) mod calls;
mod gateway;
mod slow;
mod streams;

use std::time::{Duration, Instant};

use atoll_tests::hostile::HostileNode;
use atoll_tests::mesh::{Mesh, Node, Pipe};
use atoll_tests::wait::{within, within_time};
use atoll_tests::wire::Wire;
use serde_json::{Value, json};

const MIB: u64 = 1024 * 1024;

/// What one peer may make a program's memory grow by: the windows of its link (8 MiB each way), a frame that is being put together and
/// what it is decoded into, and what the allocator keeps of all that.
const COST: u64 = 40 * MIB;

/// What a call of the honest node may take while another one attacks, on a machine that is busy with other things too.
const CALM: Duration = Duration::from_secs(8);

/// The same scenario over the pipes that cross a network.
macro_rules! over_networks {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use atoll_tests::mesh::Pipe;

            #[tokio::test(flavor = "multi_thread")]
            async fn over_wss() {
                super::$name(Pipe::Wss).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn over_quic() {
                super::$name(Pipe::Quic).await;
            }
        }
    )*};
}
use over_networks;

/// A gateway with an honest node that an operator calls.
struct Arena {
    mesh: Mesh,
    pipe: Pipe,
    operator: Wire,
    honest: String,
    _node: Node,
    before: u64,
}

impl Arena {
    async fn new(pipe: Pipe) -> Self {
        let mesh = Mesh::start().await.over(pipe);
        let node = mesh.node("honest").await;
        let honest = mesh.connected("honest").await;
        let mut operator = mesh.operator().await;
        for _ in 0..5 {
            serve(&mut operator, &honest).await;
        }
        let mut arena = Self {
            mesh,
            pipe,
            operator,
            honest,
            _node: node,
            before: 0,
        };
        arena.remember();
        arena
    }

    /// Memory counts from here.
    fn remember(&mut self) {
        let gateway = self.mesh.gateway();
        gateway.forget_peak();
        self.before = gateway.resident();
    }

    /// A node that has been let in and is about to misbehave.
    async fn intruder(&mut self) -> HostileNode {
        let node = HostileNode::pair(&self.mesh, self.pipe, "intruder").await;
        self.remember();
        node
    }

    /// Runs an attack while the honest node is called over and over, and once more after it.
    async fn under<T>(&mut self, attack: impl Future<Output = T>) -> T {
        let (operator, honest) = (&mut self.operator, &self.honest);
        let attacked = {
            let serving = async {
                loop {
                    serve(operator, honest).await;
                }
            };
            tokio::select! {
                biased;
                attacked = attack => attacked,
                never = serving => never,
            }
        };
        let mut fresh = self.mesh.operator().await;
        serve(&mut fresh, &self.honest).await;
        attacked
    }

    /// The gateway has grown by less than this at any time, and nothing in it has panicked.
    fn has_grown_by_less_than(&mut self, most: u64) {
        let before = self.before;
        let gateway = self.mesh.gateway();
        let grown = gateway.peak().saturating_sub(before);
        println!("grown by {} KiB of {} KiB", grown / 1024, most / 1024);
        assert!(grown < most, "from {before} by {grown} bytes, more than {most}");
        assert!(!gateway.log().contains("panicked"), "something panicked");
    }

    /// What the gateway wrote about the intruder.
    async fn said(&mut self, words: &str) {
        self.mesh.gateway().line(words).await;
    }
}

fn invoke(node: &str, command: &str, params: Value) -> Value {
    let key = uuid::Uuid::new_v4().to_string();
    json!({"nodeId": node, "command": command, "params": params, "timeoutMs": 15_000, "idempotencyKey": key})
}

/// Asks for a call of a node; gives the request's id.
async fn ask(operator: &mut Wire, node: &HostileNode, command: &str, params: Value) -> String {
    operator.ask("node.invoke", invoke(&node.id(), command, params)).await
}

/// Its answer.
async fn answer(operator: &mut Wire, request: &str) -> Result<Value, Value> {
    let answer = within("an answer", operator.answer(request)).await;
    answer.map(|mut answer| answer["payload"].take())
}

/// One call of an honest node, in time.
async fn serve(operator: &mut Wire, node: &str) {
    let call = invoke(node, "system.which", json!({"bins": ["sh"]}));
    let began = Instant::now();
    let answer = within_time("an honest node's answer", CALM, operator.call("node.invoke", call)).await;
    assert!(answer.is_ok(), "{answer:?} after {:?}", began.elapsed());
}
