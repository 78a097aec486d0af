//! Both machines against each other on a virtual clock.

use atoll_protocol::dialect::refusal::PairingReason;
use atoll_protocol::frame::{Challenge, Frame, Hello, Proof, VERSIONS, Versions};
use atoll_protocol::id::PairingId;
use proptest::prelude::*;
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
        setup_code: None,
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

    let steps = pair.gateway.wait(&PairingRefusal {
        reason: PairingReason::NotPaired,
        request: PairingId::new("p1").unwrap(),
        device: identity(1).device_id(),
        role: Role::Node,
        scopes: Scopes::none(),
        approved_roles: Vec::new(),
        approved_scopes: Scopes::none(),
    });
    pair.gateway_did(steps);
    pair.run(|message| message);
    assert!(matches!(pair.verdicts.pop(), Some(ClientStep::Waiting(_))));
    assert!(pair.client.poll_timeout().is_none() && pair.gateway.poll_timeout().is_none());

    let steps = pair.gateway.admit(admitted(), |_| HelloOk::default());
    pair.gateway_did(steps);
    pair.run(|message| message);
    let Some(ClientStep::Admitted(outcome)) = pair.verdicts.pop() else {
        panic!("admitted")
    };
    assert_eq!(outcome.gateway, Some(identity(2).device()));
    assert_eq!(outcome.admitted, admitted());
}

/// Runs a handshake in which everything that passes is changed by `meddle`.
fn run_meddled(setup: NativeClient, gateway: Gateway, meddle: impl FnMut(Message) -> Message) -> Pair {
    let mut pair = Pair::new(setup, gateway);
    pair.run(meddle);
    pair
}

fn change_frame(message: Message, change: &mut impl FnMut(&mut Frame)) -> Message {
    let Message::Binary(bytes) = message else {
        panic!("native is binary")
    };
    let mut frame = Frame::decode(&bytes, limits::NATIVE_FRAME).expect("a frame");
    change(&mut frame);
    Message::Binary(frame.encode().expect("fits"))
}

fn detail(step: &ClientStep) -> String {
    match step {
        ClientStep::Refused(error) => error.detail_code().unwrap_or_default(),
        ClientStep::Broken(error) => format!("{error:?}"),
        ClientStep::Send(_) | ClientStep::Waiting(_) | ClientStep::Admitted(_) => String::new(),
    }
}

#[test]
fn another_gateway_than_the_pinned_one_gets_neither_proof_nor_token() {
    let gateway = Gateway::native(identity(9), [4; 32], Some(EXPORTER), now());
    let pair = run_meddled(setup(3), gateway, |message| message);
    assert!(pair.proven.is_empty());
    assert!(matches!(
        &pair.verdicts[..],
        [ClientStep::Broken(HandshakeError::WrongGateway { .. })]
    ));
}

#[test]
fn without_a_pin_the_first_gateway_is_learnt() {
    let setup = NativeClient { pin: None, ..setup(3) };
    let mut pair = run_meddled(setup, gateway(4, Some(EXPORTER)), |message| message);
    let steps = pair.gateway.admit(admitted(), |_| HelloOk::default());
    pair.gateway_did(steps);
    pair.run(|message| message);
    let Some(ClientStep::Admitted(outcome)) = pair.verdicts.pop() else {
        panic!("admitted")
    };
    assert_eq!(outcome.gateway, Some(identity(2).device()));
}

type Change = fn(&mut Frame);

fn in_hello(change: fn(&mut Hello), frame: &mut Frame) {
    if let Frame::Hello(hello) = frame {
        change(hello);
    }
}

fn in_challenge(change: fn(&mut Challenge), frame: &mut Frame) {
    if let Frame::Challenge(challenge) = frame {
        change(challenge);
    }
}

fn in_proof(change: fn(&mut Proof), frame: &mut Frame) {
    if let Frame::Proof(proof) = frame {
        change(proof);
    }
}

#[test]
fn whoever_changes_a_field_on_the_way_ends_the_handshake() {
    let changes: &[(&str, Change)] = &[
        ("role", |frame| in_hello(|hello| hello.role = Role::Operator, frame)),
        ("scopes", |frame| {
            in_hello(
                |hello| hello.scopes = [atoll_protocol::scope::Scope::Admin].into_iter().collect(),
                frame,
            )
        }),
        ("versions", |frame| in_hello(|hello| hello.versions.highest = 9, frame)),
        ("client key", |frame| {
            in_hello(|hello| hello.public_key = identity(9).public_key(), frame)
        }),
        ("commitment", |frame| {
            in_hello(|hello| hello.commitment = [0; 32], frame)
        }),
        ("client nonce", |frame| in_proof(|proof| proof.nonce = [0; 32], frame)),
        ("client name", |frame| {
            in_hello(|hello| hello.client.display_name.push('!'), frame)
        }),
        ("commands", |frame| {
            in_hello(|hello| hello.surface.commands.push("camera.snap".into()), frame)
        }),
        ("permissions", |frame| {
            in_hello(
                |hello| {
                    hello.surface.permissions.insert("camera".into(), true);
                },
                frame,
            )
        }),
        ("path", |frame| in_hello(|hello| hello.path_env = "/tmp".into(), frame)),
        ("gateway key", |frame| {
            in_challenge(|challenge| challenge.public_key = identity(9).public_key(), frame)
        }),
        ("gateway nonce", |frame| {
            in_challenge(|challenge| challenge.nonce = [0; 32], frame)
        }),
        ("version", |frame| {
            in_challenge(|challenge| challenge.version = 0, frame)
        }),
        ("gateway signature", |frame| {
            in_challenge(|challenge| challenge.signature[9] ^= 1, frame)
        }),
        ("client signature", |frame| {
            in_proof(|proof| proof.signature[9] ^= 1, frame)
        }),
        ("token", |frame| {
            in_proof(|proof| proof.token = Some("another-token".into()), frame)
        }),
        ("no token", |frame| in_proof(|proof| proof.token = None, frame)),
    ];
    for (name, change) in changes {
        for pin in [None, Some(identity(2).public_key())] {
            let setup = NativeClient { pin, ..setup(3) };
            let pair = run_meddled(setup, gateway(4, Some(EXPORTER)), |message| {
                change_frame(message, &mut |frame| change(frame))
            });
            assert!(pair.proven.is_empty(), "{name}");
            assert!(!pair.verdicts.is_empty(), "{name}");
        }
    }
}

/// The Proof that an honest client gives to an honest gateway.
fn overheard_proof() -> Message {
    let mut proof = None;
    let mut pair = run_meddled(setup(3), gateway(4, Some(EXPORTER)), |message| {
        if let Message::Binary(bytes) = &message
            && let Ok(Frame::Proof(_)) = Frame::decode(bytes, limits::NATIVE_FRAME)
        {
            proof = Some(message.clone());
        }
        message
    });
    assert_eq!(pair.proven.drain(..).count(), 1);
    proof.expect("a proof was sent")
}

#[test]
fn a_proof_is_good_for_one_connection_only() {
    let proof = overheard_proof();
    let others = [
        ("another gateway nonce", gateway(5, Some(EXPORTER))),
        ("another channel", gateway(4, Some([1; 32]))),
        ("a channel without TLS", gateway(4, None)),
        (
            "another gateway",
            Gateway::native(identity(9), [4; 32], Some(EXPORTER), now()),
        ),
    ];
    for (name, mut gateway) in others {
        let (_, steps) = Client::native(setup(3), now());
        let [ClientStep::Send(hello)] = &steps[..] else {
            panic!("hello first")
        };
        gateway.handle(hello.clone(), now());
        let steps = gateway.handle(proof.clone(), now());
        assert!(!steps.iter().any(|step| matches!(step, Step::Proven(_))), "{name}");
        assert!(matches!(steps.last(), Some(Step::Close { code: 1008, .. })), "{name}");
    }
}

#[test]
fn a_proof_relayed_into_another_channel_is_refused() {
    // Somebody in between holds one channel to each side and carries every byte.
    let setup = NativeClient {
        exporter: Some([1; 32]),
        ..setup(3)
    };
    let pair = run_meddled(setup, gateway(4, Some([2; 32])), |message| message);
    assert!(pair.proven.is_empty());
    assert_eq!(detail(&pair.verdicts[0]), "Unproven");
}

#[test]
fn a_signature_of_the_gateway_is_no_proof_of_a_client() {
    // A gateway that dials itself gets its own signature back as a proof.
    let mut gateway = Gateway::native(identity(2), [4; 32], None, now());
    let own = NativeClient {
        identity: identity(2),
        exporter: None,
        ..setup(3)
    };
    let (_, steps) = Client::native(own, now());
    let [ClientStep::Send(hello)] = &steps[..] else {
        panic!("hello first")
    };
    let steps = gateway.handle(hello.clone(), now());
    let [Step::Send(Message::Binary(bytes))] = &steps[..] else {
        panic!("a challenge")
    };
    let Ok(Frame::Challenge(challenge)) = Frame::decode(bytes, limits::NATIVE_FRAME) else {
        panic!("a challenge")
    };
    let proof = Frame::Proof(Proof {
        nonce: [3; 32],
        signature: challenge.signature,
        token: None,
        setup_code: None,
    });
    let steps = gateway.handle(Message::Binary(proof.encode().unwrap()), now());
    assert!(!steps.iter().any(|step| matches!(step, Step::Proven(_))));
}

#[test]
fn no_common_version_is_said_and_closed_with_1002() {
    let mut gateway = gateway(4, None);
    let (_, steps) = Client::native(setup(3), now());
    let [ClientStep::Send(hello)] = &steps[..] else {
        panic!("hello first")
    };
    let later = Versions {
        lowest: VERSIONS.highest + 1,
        highest: VERSIONS.highest + 1,
    };
    let hello = change_frame(hello.clone(), &mut |frame| {
        if let Frame::Hello(hello) = frame {
            hello.versions = later;
        }
    });
    let steps = gateway.handle(hello, now());
    assert!(
        matches!(&steps[..], [Step::Send(_), Step::Close { code: 1002, .. }]),
        "{steps:?}"
    );
}

#[test]
fn what_is_too_large_or_out_of_turn_ends_the_handshake() {
    let large = Message::Binary(vec![1; limits::PRE_AUTH_FRAME + 1]);
    let early = Frame::Proof(Proof {
        nonce: [3; 32],
        signature: vec![0; 64],
        token: None,
        setup_code: None,
    })
    .encode()
    .unwrap();
    for message in [
        large,
        Message::Binary(early),
        Message::Text("{}".into()),
        Message::Binary(Vec::new()),
    ] {
        let steps = gateway(4, None).handle(message, now());
        assert!(matches!(&steps[..], [Step::Close { code: 1008, .. }]), "{steps:?}");
    }
}

#[test]
fn a_silent_peer_has_a_deadline() {
    let start = now();
    let mut gateway = Gateway::native(identity(2), [4; 32], None, start);
    let (deadline, _) = gateway.poll_timeout().expect("it runs from the first moment");
    assert_eq!(deadline, start.instant + limits::HANDSHAKE);
    assert!(matches!(&gateway.handle_timeout()[..], [Step::Close { code: 1000, reason }] if reason.is_empty()));
    let (_, steps) = Client::native(setup(3), now());
    let [ClientStep::Send(hello)] = &steps[..] else {
        panic!("a hello")
    };
    assert!(gateway.handle(hello.clone(), now()).is_empty(), "it is over");
    let (client, _) = Client::native(setup(3), start);
    assert_eq!(
        client.poll_timeout().map(|(at, _)| at),
        Some(start.instant + limits::HANDSHAKE)
    );
}

#[test]
fn nothing_secret_is_in_the_debug_text_of_a_machine() {
    let pair = Pair::new(setup(3), gateway(4, None));
    let text = format!("{:?} {:?}", pair.client, pair.gateway);
    assert!(!text.contains(TOKEN), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_flipped_bit_never_proves_another_key(which in 0_usize..3, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut count = 0;
        let pair = run_meddled(NativeClient { pin: None, ..setup(3) }, gateway(4, Some(EXPORTER)), |message| {
            let Message::Binary(mut bytes) = message else { panic!("native is binary") };
            if count == which {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            count += 1;
            Message::Binary(bytes)
        });
        prop_assert!(pair.proven.is_empty());
    }
}

/// The digits that both machines of a finished handshake show.
fn digits_of(pair: &mut Pair) -> (crate::digits::Digits, crate::digits::Digits) {
    let steps = pair.gateway.wait(&PairingRefusal {
        reason: PairingReason::NotPaired,
        request: PairingId::new("p1").unwrap(),
        device: identity(1).device_id(),
        role: Role::Node,
        scopes: Scopes::none(),
        approved_roles: Vec::new(),
        approved_scopes: Scopes::none(),
    });
    pair.gateway_did(steps);
    pair.run(|message| message);
    let Some(ClientStep::Waiting(waiting)) = pair.verdicts.pop() else {
        panic!("waiting")
    };
    (
        waiting.digits,
        pair.proven[0].digits().expect("a native peer has digits"),
    )
}

#[test]
fn both_ends_show_the_same_digits_and_every_link_others() {
    let mut seen = Vec::new();
    for (client_nonce, gateway_nonce) in [(3, 4), (3, 5), (6, 4)] {
        let mut pair = run_meddled(setup(client_nonce), gateway(gateway_nonce, Some(EXPORTER)), |message| {
            message
        });
        let (at_node, at_gateway) = digits_of(&mut pair);
        assert!(at_node.matches(at_gateway));
        assert!(!seen.contains(&at_node.to_string()), "{gateway_nonce}");
        seen.push(at_node.to_string());
    }
}

#[test]
fn a_nonce_is_not_said_before_the_gateways_and_cannot_be_chosen_after_it() {
    let (_, steps) = Client::native(setup(3), now());
    let [ClientStep::Send(Message::Binary(hello))] = &steps[..] else {
        panic!("hello first")
    };
    assert!(
        !hello.windows(32).any(|window| window == [3; 32]),
        "the hello says the nonce"
    );

    // A device that signs another nonce than the one it committed to, once it has seen the gateway's.
    let own = identity(1);
    let mut gateway = gateway(4, None);
    let hello = Frame::decode(hello, limits::NATIVE_FRAME).expect("a hello");
    let steps = gateway.handle(Message::Binary(hello.encode().unwrap()), now());
    let ([Step::Send(Message::Binary(bytes))], Frame::Hello(hello)) = (&steps[..], hello) else {
        panic!("a challenge")
    };
    let Ok(Frame::Challenge(challenge)) = Frame::decode(bytes, limits::NATIVE_FRAME) else {
        panic!("a challenge")
    };
    let transcript = crate::transcript::Transcript::new(&hello, &challenge, None).expect("a transcript");
    let nonce = [99; 32];
    let signature = own
        .sign(crate::transcript::PEER, &transcript.of_peer(&nonce, None, None))
        .to_vec();
    let proof = Frame::Proof(Proof {
        nonce,
        signature,
        token: None,
        setup_code: None,
    });
    let steps = gateway.handle(Message::Binary(proof.encode().unwrap()), now());
    assert!(!steps.iter().any(|step| matches!(step, Step::Proven(_))), "{steps:?}");
    assert!(
        matches!(steps.last(), Some(Step::Close { code: 1008, .. })),
        "{steps:?}"
    );
}

#[test]
fn somebody_in_between_with_keys_of_his_own_makes_both_ends_show_different_digits() {
    let own = |nonce| NativeClient {
        identity: identity(9),
        pin: None,
        exporter: Some([2; 32]),
        ..setup(nonce)
    };
    let victim = NativeClient {
        pin: None,
        exporter: Some([1; 32]),
        ..setup(3)
    };
    let impostor = Gateway::native(identity(9), [7; 32], Some([1; 32]), now());
    let mut near = run_meddled(victim, impostor, |message| message);
    let mut far = run_meddled(own(8), gateway(4, Some([2; 32])), |message| message);
    let (at_device, _) = digits_of(&mut near);
    let (_, at_gateway) = digits_of(&mut far);
    assert!(!at_device.matches(at_gateway));
}
