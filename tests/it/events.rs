//! What a gateway tells by itself: which facts are in it, and who does not hear it.

use atoll_tests::clock::Clock;
use atoll_tests::fake_node::FakeNode;
use atoll_tests::mesh::Mesh;
use atoll_tests::scene::Scene;
use atoll_tests::wire::{Device, Wire, node, operator};
use serde_json::{Value, json};

const READ: &str = "operator.read";
const APPROVALS: &str = "operator.approvals";
const PAIRING: &str = "operator.pairing";
const NOTHING: &str = "operator.questions";

/// An event, who hears it, and where clients look in it.
type Told = (&'static str, &'static str, &'static [&'static str]);

const TOLD: [Told; 8] = [
    (
        "presence",
        READ,
        &[
            "/presence/0/host",
            "/presence/0/mode",
            "/presence/0/ts",
            "/presence/0/text",
        ],
    ),
    (
        "agent",
        READ,
        &["/runId", "/sessionKey", "/seq", "/stream", "/ts", "/data/phase"],
    ),
    ("chat", READ, &["/runId", "/sessionKey", "/agentId", "/seq", "/state"]),
    (
        "exec.approval.requested",
        APPROVALS,
        &[
            "/id",
            "/request/command",
            "/request/host",
            "/request/nodeId",
            "/request/agentId",
            "/request/sessionKey",
            "/request/allowedDecisions/0",
            "/createdAtMs",
            "/expiresAtMs",
        ],
    ),
    (
        "exec.approval.resolved",
        APPROVALS,
        &["/id", "/decision", "/resolvedBy", "/ts", "/request/command"],
    ),
    (
        "device.pair.requested",
        PAIRING,
        &[
            "/requestId",
            "/deviceId",
            "/publicKey",
            "/displayName",
            "/clientId",
            "/role",
            "/isRepair",
            "/ts",
        ],
    ),
    (
        "device.pair.resolved",
        PAIRING,
        &["/requestId", "/deviceId", "/decision", "/ts"],
    ),
    (
        "node.pair.resolved",
        PAIRING,
        &["/requestId", "/nodeId", "/decision", "/ts"],
    ),
];

/// The operators with one scope each, and a node.
struct Audience {
    operators: Vec<(&'static str, Wire)>,
    node: FakeNode,
}

impl Audience {
    async fn of(mesh: &Mesh) -> Self {
        let mut operators = Vec::new();
        for scope in [READ, APPROVALS, PAIRING, NOTHING] {
            operators.push((scope, mesh.operator_with(&[scope]).await));
        }
        let node = FakeNode::pair(
            &mesh.target(),
            &mut mesh.operator().await,
            "Listener",
            &["system.which"],
        )
        .await;
        Self { operators, node }
    }

    /// Waits until those with the scope have heard each event, then looks that the others have not.
    async fn have_heard(&mut self, events: &[Told]) {
        for (event, scope, pointers) in events {
            for (_, wire) in self.operators.iter_mut().filter(|(held, _)| held == scope) {
                let payload = wire.event(event).await;
                for pointer in *pointers {
                    assert!(
                        payload.pointer(pointer).is_some(),
                        "{event} has no {pointer}: {payload}"
                    );
                }
            }
        }
        for (held, wire) in &mut self.operators {
            // Whatever was told before is there before the answer.
            wire.call("health", json!({})).await.expect("open to all");
            for (event, scope, _) in events.iter().filter(|(_, scope, _)| scope != held) {
                assert!(
                    !wire.overheard().contains(event),
                    "{held} hears {event}, which is for {scope}"
                );
            }
        }
        self.node.wire.call("health", json!({})).await.expect("open to all");
        for (event, ..) in events.iter().filter(|(event, ..)| *event != "node.pair.resolved") {
            assert!(!self.node.wire.overheard().contains(event), "a node hears {event}");
        }
    }
}

#[tokio::test]
async fn every_event_reaches_those_with_its_scope_and_nobody_else() {
    let mut scene = Scene::new().await;
    let mut audience = Audience::of(&scene.mesh).await;
    scene.ask("told");
    scene.allow("told").await;
    assert_eq!(scene.answer("told").await, "finished told: it ran");
    audience.have_heard(&TOLD).await;
    let resolved = declared_more(&scene.mesh, &mut audience).await;
    assert_eq!(resolved["decision"], "rejected", "{resolved}");

    // The end is for everybody.
    scene.mesh.stop().await;
    let wires = audience.operators.iter_mut().map(|(_, wire)| wire);
    for wire in wires.chain([&mut audience.node.wire]) {
        assert_eq!(wire.event("shutdown").await, json!({"reason": "gateway stopping"}));
        assert_eq!(wire.closed().await, (Some(1012), "service restart".to_owned()));
    }
}

/// A node that comes again with more than was approved: asked about, and refused; gives what the node is told of it.
async fn declared_more(mesh: &Mesh, audience: &mut Audience) -> Value {
    let more = ["system.run", "system.which"];
    let device = audience.node.device.clone();
    let again = FakeNode::connect(&mesh.target(), device, "Listener", &more).await;
    audience.node = again.expect("it is let in with what it has");
    let pairing = &mut audience
        .operators
        .iter_mut()
        .find(|(held, _)| *held == PAIRING)
        .expect("one of them")
        .1;
    let requested = pairing.event("node.pair.requested").await;
    assert_eq!(
        (&requested["nodeId"], &requested["commands"]),
        (&json!(audience.node.id()), &json!(more)),
        "{requested}"
    );
    assert_eq!(
        requested["requiredApproveScopes"],
        json!(["operator.pairing", "operator.admin"]),
        "{requested}"
    );
    let reject = json!({"requestId": requested["requestId"]});
    let rejected = pairing.call("node.pair.reject", reject).await.expect("rejected");
    assert_eq!(
        rejected,
        json!({"requestId": requested["requestId"], "nodeId": audience.node.id()})
    );
    let told = audience.node.wire.event("node.pair.resolved").await;
    audience
        .have_heard(&[("node.pair.resolved", PAIRING, &["/requestId"])])
        .await;
    let heard = |(_, wire): &(&str, Wire)| wire.overheard().contains(&"node.pair.requested");
    assert!(!audience.operators.iter().any(heard), "it is for those who pair");
    told
}

/// So many times faster than this machine's.
const FAST: u32 = 6;

#[tokio::test]
async fn ticks_and_health_come_to_everybody_by_themselves() {
    let mesh = Mesh::with_environment(&json!({}), &Clock::environment_at(FAST)).await;
    let (mut nobody, hello) = Wire::connect(&mesh.target(), operator(&mesh.target().token, &[]), None)
        .await
        .expect("the secret lets it in");
    assert_eq!(hello["auth"]["scopes"], json!([]));
    let device = Device::default();
    let offer = || node(&mesh.target().token, "Listener", &["system.which"]);
    let refused = Wire::connect(&mesh.target(), offer(), Some(&device))
        .await
        .expect_err("a new device waits");
    mesh.approve(&refused).await;
    let (mut node, _) = Wire::connect(&mesh.target(), offer(), Some(&device))
        .await
        .expect("an approved device");
    tokio::join!(goes_on(&mut nobody), goes_on(&mut node));
}

/// Hears two ticks, so far apart by the gateway's clock as it says, and how the gateway is.
async fn goes_on(wire: &mut Wire) {
    let ticks = [wire.event("tick").await, wire.event("tick").await].map(|tick| tick["ts"].as_u64().expect("a time"));
    let apart = ticks[1] - ticks[0];
    assert!((29_000..60_000).contains(&apart), "{apart} ms");
    let health = wire.event("health").await;
    for pointer in [
        "/ok",
        "/ts",
        "/durationMs",
        "/channels",
        "/agents/0/agentId",
        "/sessions/count",
    ] {
        assert!(health.pointer(pointer).is_some(), "no {pointer}: {health}");
    }
}
