//! The handshake of `atoll/1`: Hello → Challenge → Proof → Waiting* → Admitted or Refused.
//!
//! Hello commits to a nonce that Proof reveals; both nonces and keys give the [`Digits`] that a person may compare.
//! The gateway proves itself first. A client sends its proof, and with it the token, only to a gateway whose
//! signature over this very exchange and channel held and whose key is the pinned one, where there is a pin.

use std::fmt;
use std::sync::Arc;

use atoll_protocol::dialect::refusal::{DeviceFault, PairingRefusal, Refusal};
use atoll_protocol::error::WireError;
use atoll_protocol::frame::{self, Admitted, Challenge, Frame, Hello, Proof, VERSIONS};
use atoll_protocol::limits;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::{Ask, ClientStep, HandshakeError, Outcome, Step, Waiting, close};
use crate::digits::{Digits, Ends, commit, is_committed};
use crate::identity::{Identity, device_id_of, device_key, verify};
use crate::link::Message;
use crate::proven::{Claims, Language, Offered, Proven};
use crate::transcript::{GATEWAY, PEER, Transcript};

/// The gateway's side.
#[derive(Debug)]
pub(super) struct Gateway {
    identity: Arc<Identity>,
    nonce: [u8; 32],
    exporter: Option<[u8; 32]>,
    state: GatewayState,
}

enum GatewayState {
    Hello,
    Proof {
        hello: Box<Hello>,
        version: u16,
        transcript: Transcript,
    },
    Verdict,
    Over,
}

impl fmt::Debug for GatewayState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello => "Hello",
            Self::Proof { .. } => "Proof",
            Self::Verdict => "Verdict",
            Self::Over => "Over",
        })
    }
}

impl Gateway {
    pub(super) fn new(identity: Arc<Identity>, nonce: [u8; 32], exporter: Option<[u8; 32]>) -> Self {
        Self {
            identity,
            nonce,
            exporter,
            state: GatewayState::Hello,
        }
    }

    pub(super) fn handle(&mut self, message: &Message) -> Vec<Step> {
        let frame = read(message, limits::PRE_AUTH_FRAME);
        match (std::mem::replace(&mut self.state, GatewayState::Over), frame) {
            (GatewayState::Hello, Some(Frame::Hello(hello))) => self.challenge(hello),
            (
                GatewayState::Proof {
                    hello,
                    version,
                    transcript,
                },
                Some(Frame::Proof(proof)),
            ) => self.check(*hello, version, &transcript, proof),
            (GatewayState::Over, _) => Vec::new(),
            (GatewayState::Hello | GatewayState::Proof { .. } | GatewayState::Verdict, _) => {
                vec![close(1008, "invalid handshake")]
            }
        }
    }

    pub(super) fn wait(&mut self, pairing: &PairingRefusal) -> Vec<Step> {
        vec![say(&Frame::Waiting(frame::Waiting {
            request: pairing.request.clone(),
            reason: pairing.reason.as_str().to_owned(),
        }))]
    }

    pub(super) fn admit(&mut self, admitted: Admitted) -> Vec<Step> {
        self.state = GatewayState::Over;
        vec![say(&Frame::Admitted(admitted))]
    }

    pub(super) fn refuse(&mut self, refusal: &Refusal) -> Vec<Step> {
        self.refuse_with(refusal.error(), refusal.close())
    }

    pub(super) fn give_up(&mut self) {
        self.state = GatewayState::Over;
    }

    fn refuse_with(&mut self, error: WireError, (code, reason): (u16, String)) -> Vec<Step> {
        self.state = GatewayState::Over;
        vec![say(&Frame::Refused(error)), close(code, reason)]
    }

    fn challenge(&mut self, hello: Hello) -> Vec<Step> {
        let Some(version) = VERSIONS.agree(hello.versions) else {
            let error = version_mismatch(&hello);
            let reason = error.message.clone();
            return self.refuse_with(error, (1002, reason));
        };
        if hello.surface.caps.len() + hello.surface.commands.len() > limits::SURFACE_ENTRIES {
            let error = WireError::invalid(format!(
                "a node declares at most {} commands and capabilities",
                limits::SURFACE_ENTRIES
            ));
            let reason = error.message.clone();
            return self.refuse_with(error, (1008, reason));
        }
        let mut challenge = Challenge {
            version,
            public_key: self.identity.public_key(),
            nonce: self.nonce,
            signature: Vec::new(),
        };
        let Some(transcript) = Transcript::new(&hello, &challenge, self.exporter.as_ref()) else {
            return vec![close(1008, "invalid handshake")];
        };
        challenge.signature = self.identity.sign(GATEWAY, transcript.of_gateway()).to_vec();
        self.state = GatewayState::Proof {
            hello: Box::new(hello),
            version,
            transcript,
        };
        vec![say(&Frame::Challenge(challenge))]
    }

    fn check(&mut self, hello: Hello, version: u16, transcript: &Transcript, proof: Proof) -> Vec<Step> {
        if !is_committed(&proof.nonce, &hello.commitment) {
            return self.refuse(&Refusal::Device(DeviceFault::NonceMismatch));
        }
        let signed = transcript.of_peer(&proof.nonce, proof.token.as_deref(), proof.setup_code.as_deref());
        if verify(&hello.public_key, PEER, &signed, &proof.signature).is_err() {
            return self.refuse(&Refusal::Device(DeviceFault::Signature));
        }
        let digits = Digits::of(Ends {
            peer_key: &hello.public_key,
            gateway_key: &self.identity.public_key(),
            peer_nonce: &proof.nonce,
            gateway_nonce: &self.nonce,
        });
        self.state = GatewayState::Verdict;
        vec![Step::Proven(Box::new(proven(hello, version, proof, digits)))]
    }
}

fn proven(hello: Hello, version: u16, proof: Proof, digits: Digits) -> Proven {
    Proven {
        device: Some(device_key(hello.public_key)),
        claims: Claims {
            role: hello.role,
            scopes: hello.scopes,
            client: hello.client,
            surface: hello.surface,
            path_env: hello.path_env,
            protocol: version,
        },
        offered: Offered {
            token: proof.token.map(SecretString::from),
            bootstrap_token: proof.setup_code.map(SecretString::from),
            ..Offered::default()
        },
        language: Language::Native,
        digits: Some(digits),
    }
}

fn version_mismatch(hello: &Hello) -> WireError {
    WireError::invalid("protocol mismatch").with_details(&json!({
        "code": "PROTOCOL_MISMATCH",
        "clientMinProtocol": hello.versions.lowest,
        "clientMaxProtocol": hello.versions.highest,
        "expectedProtocol": VERSIONS.highest,
    }))
}

/// What a client brings to a native handshake.
#[derive(Debug)]
pub struct NativeClient {
    /// This device.
    pub identity: Arc<Identity>,
    /// What it says and asks for.
    pub ask: Ask,
    /// 32 fresh random bytes.
    pub nonce: [u8; 32],
    /// The key of the gateway that this device was paired with; none the first time.
    pub pin: Option<[u8; 32]>,
    /// The shared token.
    pub token: Option<SecretString>,
    /// A setup code.
    pub setup_code: Option<SecretString>,
    /// The TLS exporter of this connection where there is TLS.
    pub exporter: Option<[u8; 32]>,
}

/// The client's side.
#[derive(Debug)]
pub(super) struct Client {
    setup: NativeClient,
    hello: Hello,
    state: ClientState,
}

#[derive(Debug, Clone, Copy)]
enum ClientState {
    Challenge,
    Verdict {
        version: u16,
        gateway: [u8; 32],
        digits: Digits,
    },
    Over,
}

impl Client {
    pub(super) fn start(setup: NativeClient) -> (Self, Vec<ClientStep>) {
        let hello = Hello {
            versions: VERSIONS,
            role: setup.ask.role,
            scopes: setup.ask.scopes.clone(),
            public_key: setup.identity.public_key(),
            commitment: commit(&setup.nonce),
            client: setup.ask.client.clone(),
            surface: setup.ask.surface.clone(),
            path_env: setup.ask.path_env.clone(),
        };
        let steps = vec![tell(&Frame::Hello(hello.clone()))];
        let client = Self {
            setup,
            hello,
            state: ClientState::Challenge,
        };
        (client, steps)
    }

    pub(super) fn handle(&mut self, message: &Message) -> Vec<ClientStep> {
        let state = std::mem::replace(&mut self.state, ClientState::Over);
        let frame = read(message, limits::NATIVE_FRAME);
        let result = match (state, frame) {
            (ClientState::Over, _) => return Vec::new(),
            (ClientState::Challenge | ClientState::Verdict { .. }, Some(Frame::Refused(error))) => {
                Ok(ClientStep::Refused(error))
            }
            (ClientState::Challenge, Some(Frame::Challenge(challenge))) => self.prove(challenge),
            (ClientState::Challenge, _) => Err(HandshakeError::Unexpected {
                expected: "a challenge",
            }),
            (ClientState::Verdict { digits, .. }, Some(Frame::Waiting(waiting))) => {
                self.state = state;
                Ok(ClientStep::Waiting(Waiting {
                    request: waiting.request,
                    reason: waiting.reason,
                    digits,
                }))
            }
            (ClientState::Verdict { version, gateway, .. }, Some(Frame::Admitted(admitted))) => {
                Ok(ClientStep::Admitted(Box::new(Outcome {
                    admitted,
                    protocol: version,
                    gateway: Some(device_key(gateway)),
                    device_token: None,
                })))
            }
            (ClientState::Verdict { .. }, _) => Err(HandshakeError::Unexpected { expected: "a verdict" }),
        };
        vec![result.unwrap_or_else(ClientStep::Broken)]
    }

    fn prove(&mut self, mut challenge: Challenge) -> Result<ClientStep, HandshakeError> {
        let version = challenge.version;
        if version < VERSIONS.lowest || version > VERSIONS.highest {
            return Err(HandshakeError::Version { version });
        }
        if let Some(pin) = self.setup.pin.filter(|pin| *pin != challenge.public_key) {
            return Err(HandshakeError::WrongGateway {
                expected: device_id_of(&pin).short(),
                found: device_id_of(&challenge.public_key).short(),
            });
        }
        let signature = std::mem::take(&mut challenge.signature);
        let transcript = Transcript::new(&self.hello, &challenge, self.setup.exporter.as_ref()).ok_or(
            HandshakeError::Unexpected {
                expected: "a challenge",
            },
        )?;
        verify(&challenge.public_key, GATEWAY, transcript.of_gateway(), &signature)
            .map_err(|_| HandshakeError::Unproven)?;
        let text = |secret: &Option<SecretString>| secret.as_ref().map(|secret| secret.expose_secret().to_owned());
        let (token, setup_code) = (text(&self.setup.token), text(&self.setup.setup_code));
        let signed = transcript.of_peer(&self.setup.nonce, token.as_deref(), setup_code.as_deref());
        let signature = self.setup.identity.sign(PEER, &signed).to_vec();
        self.state = ClientState::Verdict {
            version,
            gateway: challenge.public_key,
            digits: Digits::of(Ends {
                peer_key: &self.hello.public_key,
                gateway_key: &challenge.public_key,
                peer_nonce: &self.setup.nonce,
                gateway_nonce: &challenge.nonce,
            }),
        };
        Ok(tell(&Frame::Proof(Proof {
            nonce: self.setup.nonce,
            signature,
            token,
            setup_code,
        })))
    }
}

fn read(message: &Message, limit: usize) -> Option<Frame> {
    match message {
        Message::Binary(bytes) => Frame::decode(bytes, limit).ok(),
        Message::Text(_) => None,
    }
}

fn say(frame: &Frame) -> Step {
    frame.encode().map_or_else(
        |_| close(1011, "the answer is too large"),
        |bytes| Step::Send(Message::Binary(bytes)),
    )
}

fn tell(frame: &Frame) -> ClientStep {
    match frame.encode() {
        Ok(bytes) if bytes.len() <= limits::PRE_AUTH_FRAME => ClientStep::Send(Message::Binary(bytes)),
        Ok(_) | Err(_) => ClientStep::Broken(HandshakeError::TooLarge),
    }
}
