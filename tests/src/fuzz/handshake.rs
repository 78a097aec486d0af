//! Two honest clients and one gateway with somebody in between who replaces, breaks, mixes and repeats what they say. The gateway takes
//! nobody for proven but whoever said exactly what arrived, for this very exchange; a client gives its proof, and with it its token, to
//! no gateway but the one it trusts.

use std::sync::Arc;
use std::time::Instant;

use atoll_pairing::handshake::{Ask, Client, ClientStep, DialectClient, Gateway, NativeClient, Now, Step};
use atoll_pairing::identity::Identity;
use atoll_pairing::link::Message;
use atoll_pairing::proven::{Language, Offered, Proven};
use atoll_protocol::capability::Surface;
use atoll_protocol::dialect::hello::HelloOk;
use atoll_protocol::dialect::refusal::{DeviceFault, Refusal};
use atoll_protocol::frame::{Admitted, ClientInfo};
use atoll_protocol::id::RequestId;
use atoll_protocol::scope::{Role, Scopes};

use super::input::Input;

const TOKEN: &str = "a-shared-token-of-a-decent-length";
const EXPORTER: [u8; 32] = [0xee; 32];
/// Unix milliseconds.
const NOW: u64 = 1_700_000_000_000;

/// A choice of the language, then a choice for each thing that happens.
///
/// # Panics
/// When a promise is broken.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choice = input.byte();
    let language = if choice & 1 == 0 {
        Language::Native
    } else {
        Language::Dialect
    };
    let mut between = Between::new(language, choice & 2 == 0);
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        between.act(&mut input);
    }
}

fn now() -> Now {
    Now {
        instant: Instant::now(),
        unix_ms: NOW,
    }
}

fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seed(&[seed; 32]))
}

fn ask(name: &str) -> Ask {
    Ask {
        role: Role::Node,
        scopes: Scopes::none(),
        client: ClientInfo {
            id: "node-host".into(),
            mode: "node".into(),
            version: "0".into(),
            platform: "linux".into(),
            device_family: "Linux".into(),
            display_name: name.into(),
            ..ClientInfo::default()
        },
        surface: Surface {
            commands: vec!["system.run".into()],
            ..Surface::default()
        },
        path_env: "/bin".into(),
    }
}

/// One honest end of a connection to the gateway.
struct Honest {
    machine: Client,
    identity: Arc<Identity>,
    /// What it has said.
    said: Vec<Message>,
    is_in: bool,
}

impl Honest {
    fn new(language: Language, seed: u8) -> Self {
        let identity = identity(seed);
        let offered = Offered {
            token: Some(TOKEN.into()),
            ..Offered::default()
        };
        let (machine, steps) = match language {
            Language::Native => Client::native(
                NativeClient {
                    identity: identity.clone(),
                    ask: ask("honest"),
                    nonce: [seed; 32],
                    pin: Some(gateway_identity().public_key()),
                    token: Some(TOKEN.into()),
                    setup_code: None,
                    exporter: Some(EXPORTER),
                },
                now(),
            ),
            Language::Dialect => {
                let client = DialectClient {
                    identity: Some(identity.clone()),
                    ask: ask("honest"),
                    credentials: offered,
                    protocol: 4,
                    request: RequestId::new("1").expect("a name"),
                };
                (Client::dialect(client, now()), Vec::new())
            }
        };
        let mut honest = Self {
            machine,
            identity,
            said: Vec::new(),
            is_in: false,
        };
        honest.did(steps);
        honest
    }

    fn did(&mut self, steps: Vec<ClientStep>) {
        for step in steps {
            match step {
                ClientStep::Send(message) => self.said.push(message),
                ClientStep::Admitted(_) => self.is_in = true,
                ClientStep::Waiting(_) | ClientStep::Refused(_) | ClientStep::Broken(_) => {}
            }
        }
    }
}

fn gateway_identity() -> Arc<Identity> {
    identity(9)
}

/// Whoever carries the messages.
struct Between {
    language: Language,
    clients: [Honest; 2],
    gateway: Gateway,
    /// What the gateway has said, and what it has been told.
    said: Vec<Message>,
    told: Vec<Message>,
    proven: usize,
    is_closed: bool,
}

impl Between {
    fn new(language: Language, is_same_channel: bool) -> Self {
        let exporter = if is_same_channel { EXPORTER } else { [0; 32] };
        let (gateway, steps) = match language {
            Language::Native => (
                Gateway::native(gateway_identity(), [7; 32], Some(exporter), now()),
                Vec::new(),
            ),
            Language::Dialect => Gateway::dialect("00000000-0000-4000-8000-000000000007".to_owned(), now()),
        };
        let mut between = Self {
            language,
            clients: [Honest::new(language, 1), Honest::new(language, 2)],
            gateway,
            said: Vec::new(),
            told: Vec::new(),
            proven: 0,
            is_closed: false,
        };
        between.gateway_did(steps);
        between
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let client = usize::from(choice >> 7);
        match choice % 8 {
            0 | 1 => {
                let message = pick(&self.clients[client].said, input);
                self.tell_gateway(message);
            }
            2 | 3 => {
                let message = pick(&self.said, input);
                self.tell_client(client, message);
            }
            4 => {
                let message = pick(&self.clients[client].said, input).map(|message| broken(message, input));
                self.tell_gateway(message);
            }
            5 => {
                let message = pick(&self.said, input).map(|message| broken(message, input));
                self.tell_client(client, message);
            }
            6 => {
                let bytes = input.bytes(usize::from(choice >> 3)).to_vec();
                self.tell_gateway(Some(Message::Binary(bytes)));
            }
            _ => self.decide(input),
        }
    }

    fn tell_gateway(&mut self, message: Option<Message>) {
        let Some(message) = message else { return };
        self.told.push(message.clone());
        let steps = self.gateway.handle(message, now());
        self.gateway_did(steps);
    }

    fn tell_client(&mut self, client: usize, message: Option<Message>) {
        let Some(message) = message else { return };
        let is_genuine = self.said.contains(&message);
        let honest = &mut self.clients[client];
        let before = honest.said.len();
        let steps = honest.machine.handle(message);
        honest.did(steps);
        // In the dialect nobody knows who a gateway is; what is signed there is its challenge.
        assert!(
            is_genuine || honest.said.len() == before || self.language == Language::Dialect,
            "it gave its proof to another gateway"
        );
    }

    fn gateway_did(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Send(message) => self.said.push(message),
                Step::Proven(proven) => self.judge(&proven),
                Step::Close { code, reason } => {
                    assert!((1000..5000).contains(&code) && reason.len() <= 512, "{code} {reason}");
                    self.is_closed = true;
                }
            }
        }
    }

    /// It was proven: by one of the two, who said exactly this.
    fn judge(&mut self, proven: &Proven) {
        self.proven += 1;
        assert_eq!(self.proven, 1, "proven twice");
        assert!(!self.is_closed, "proven after the end");
        let Some(device) = proven.device() else {
            assert_eq!(self.language, Language::Dialect, "a native peer has a key");
            return;
        };
        let by = self
            .clients
            .iter()
            .find(|client| client.identity.device_id() == device.id);
        let by = by.expect("a key whose holder is here");
        let claims = proven.claims();
        let honest = ask("honest");
        assert_eq!(claims.role, honest.role);
        assert_eq!(claims.scopes, honest.scopes);
        assert_eq!(claims.client.id, honest.client.id);
        assert_eq!(claims.client.mode, honest.client.mode);
        assert_eq!(proven.language(), self.language);
        if self.language == Language::Native {
            assert_eq!(self.told, by.said, "it said something else");
            assert_eq!(claims.surface, honest.surface);
        }
    }

    /// The house has its say.
    fn decide(&mut self, input: &mut Input<'_>) {
        let steps = match input.below(3) {
            0 if self.proven == 1 => self.gateway.admit(admitted(), |_| HelloOk::default()),
            1 if self.proven == 1 => self.gateway.refuse(&Refusal::Device(DeviceFault::Signature)),
            _ => self.gateway.handle_timeout(),
        };
        self.gateway_did(steps);
    }
}

fn admitted() -> Admitted {
    Admitted {
        connection: "c".into(),
        server_version: "0".into(),
        role: Role::Node,
        scopes: Scopes::none(),
        surface: Surface::default(),
        generation: 1,
        tick_ms: 30_000,
    }
}

fn pick(messages: &[Message], input: &mut Input<'_>) -> Option<Message> {
    let at = input.below(messages.len());
    messages.get(at).cloned()
}

/// The message with one byte changed, or cut, or with more behind it.
fn broken(message: Message, input: &mut Input<'_>) -> Message {
    let (mut bytes, is_text) = match message {
        Message::Text(text) => (text.into_bytes(), true),
        Message::Binary(bytes) => (bytes, false),
    };
    let at = usize::from(input.short()) % bytes.len().max(1);
    match input.below(4) {
        0 => bytes.truncate(at),
        1 => bytes.push(input.byte()),
        2 => bytes.insert(at, input.byte()),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= input.byte();
            }
        }
    }
    if is_text {
        Message::Text(String::from_utf8_lossy(&bytes).into_owned())
    } else {
        Message::Binary(bytes)
    }
}
