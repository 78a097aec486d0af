//! Both machines against each other on a virtual clock.

use atoll_protocol::id::PairingId;
use secrecy::ExposeSecret;

use super::*;

const EXPORTER: [u8; 32] = [0xee; 32];
const TOKEN: &str = "a-shared-token-of-a-decent-length";

fn now() -> Now {
    Now {
        instant: Instant::now(),
        unix_ms: 1_700_000_000_000,
    }
}

fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seed(&[seed; 32]))
}

fn ask() -> Ask {
    Ask {
        role: Role::Node,
        scopes: Scopes::none(),
        client: ClientInfo {
            id: "node-host".into(),
            mode: "node".into(),
            version: "0.1.0".into(),
            platform: "linux".into(),
            device_family: "Linux".into(),
            model: "Box".into(),
            display_name: "Laptop".into(),
            instance_id: "i1".into(),
        },
        surface: Surface {
            caps: vec!["system".into()],
            commands: vec!["system.run".into()],
            permissions: std::iter::once(("camera".to_owned(), false)).collect(),
        },
        path_env: "/usr/bin".into(),
    }
}

fn setup(nonce: u8) -> NativeClient {
    NativeClient {
        identity: identity(1),
        ask: ask(),
        nonce: [nonce; 32],
        pin: Some(identity(2).public_key()),
        token: Some(TOKEN.into()),
        exporter: Some(EXPORTER),
    }
}

fn gateway(nonce: u8, exporter: Option<[u8; 32]>) -> Gateway {
    Gateway::native(identity(2), [nonce; 32], exporter, now())
}

fn admitted() -> Admitted {
    Admitted {
        connection: "c1".into(),
        server_version: "0.1.0".into(),
        role: Role::Node,
        scopes: Scopes::none(),
        surface: Surface::default(),
        generation: 1,
        tick_ms: 30_000,
    }
}

/// One client and one gateway, and whoever sits between them.
struct Pair {
    client: Client,
    gateway: Gateway,
    to_gateway: Vec<Message>,
    to_client: Vec<Message>,
    proven: Vec<Proven>,
    closed: Option<u16>,
    verdicts: Vec<ClientStep>,
}

impl Pair {
    fn new(setup: NativeClient, gateway: Gateway) -> Self {
        let (client, steps) = Client::native(setup, now());
        let mut pair = Self {
            client,
            gateway,
            to_gateway: Vec::new(),
            to_client: Vec::new(),
            proven: Vec::new(),
            closed: None,
            verdicts: Vec::new(),
        };
        pair.client_did(steps);
        pair
    }

    fn client_did(&mut self, steps: Vec<ClientStep>) {
        for step in steps {
            match step {
                ClientStep::Send(message) => self.to_gateway.push(message),
                step @ (ClientStep::Waiting(_)
                | ClientStep::Admitted(_)
                | ClientStep::Refused(_)
                | ClientStep::Broken(_)) => self.verdicts.push(step),
            }
        }
    }

    fn gateway_did(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Send(message) => self.to_client.push(message),
                Step::Proven(proven) => self.proven.push(*proven),
                Step::Close { code, .. } => self.closed = Some(code),
            }
        }
    }

    /// Carries everything, through `meddle`, until nobody has anything to say.
    fn run(&mut self, mut meddle: impl FnMut(Message) -> Message) {
        while !self.to_gateway.is_empty() || !self.to_client.is_empty() {
            for message in std::mem::take(&mut self.to_gateway) {
                let steps = self.gateway.handle(meddle(message), now());
                self.gateway_did(steps);
            }
            for message in std::mem::take(&mut self.to_client) {
                let steps = self.client.handle(meddle(message));
                self.client_did(steps);
            }
        }
    }
}

#[test]
fn a_node_waits_and_is_let_in_without_starting_again() {
    let mut pair = Pair::new(setup(3), gateway(4, Some(EXPORTER)));
    pair.run(|message| message);
    let [proven] = &pair.proven[..] else {
        panic!("proven once")
    };
    assert_eq!(proven.device(), Some(&identity(1).device()));
    assert_eq!(proven.claims().surface, ask().surface);
    assert_eq!(proven.offered.token.as_ref().unwrap().expose_secret(), TOKEN);

    let steps = pair.gateway.wait(Waiting {
        request: PairingId::new("p1").unwrap(),
        reason: "not-paired".into(),
    });
    pair.gateway_did(steps);
    pair.run(|message| message);
    assert!(matches!(pair.verdicts.pop(), Some(ClientStep::Waiting(_))));
    assert!(pair.client.poll_timeout().is_none() && pair.gateway.poll_timeout().is_none());

    let steps = pair.gateway.admit(admitted());
    pair.gateway_did(steps);
    pair.run(|message| message);
    let Some(ClientStep::Admitted(outcome)) = pair.verdicts.pop() else {
        panic!("admitted")
    };
    assert_eq!(outcome.gateway, Some(identity(2).device()));
    assert_eq!(outcome.admitted, admitted());
}
