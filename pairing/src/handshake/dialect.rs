//! The dialect's handshake: challenge → connect → hello or error, at both ends.
//!
//! The gateway's end checks in the order of the real one (protocol, role, device), since clients act on the first fault that they
//! are told. Credentials are passed on unchecked.

use std::sync::Arc;
use std::time::Duration;

use atoll_protocol::capability::Surface;
use atoll_protocol::dialect::connect::{
    Auth, CURRENT, Challenge, Client as ClientParams, Connect, Credential, Device, LOWEST, close_reason, read_answer,
    read_challenge, read_connect, write_challenge, write_connect, write_hello,
};
use atoll_protocol::dialect::hello::HelloOk;
use atoll_protocol::dialect::refusal::{DeviceFault, Refusal};
use atoll_protocol::dialect::{Gateway as Language, Reject};
use atoll_protocol::error::WireError;
use atoll_protocol::frame::{Admitted, Frame, Response};
use atoll_protocol::id::RequestId;
use atoll_protocol::limits;
use atoll_protocol::method::Text;
use atoll_protocol::scope::Role;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::de::DeserializeOwned;

use super::{Ask, ClientStep, HandshakeError, Now, Outcome, Step, close};
use crate::identity::{Identity, device_key, verify_bytes};
use crate::link::Message;
use crate::proven::{Claims, DeviceKey, Language as Spoken, Offered, Proven};

/// The gateway's side.
#[derive(Debug)]
pub(super) struct Gateway {
    nonce: String,
    state: GatewayState,
}

#[derive(Debug)]
enum GatewayState {
    Connect,
    Verdict(RequestId),
    Over,
}

impl Gateway {
    /// The challenge has to be sent at once.
    pub(super) fn start(nonce: String, now: Now) -> (Self, Vec<Step>) {
        let challenge = write_challenge(&Challenge {
            nonce: nonce.clone(),
            ts: now.unix_ms,
            capabilities: Vec::new(),
        });
        let gateway = Self {
            nonce,
            state: GatewayState::Connect,
        };
        (gateway, vec![Step::Send(Message::Text(challenge))])
    }

    pub(super) fn handle(&mut self, message: Message, now: Now) -> Vec<Step> {
        match self.state {
            GatewayState::Connect => self.connect(message, now),
            // Whoever drives this reads nothing while it decides.
            GatewayState::Verdict(_) => vec![close(1008, "too many pending handshake frames")],
            GatewayState::Over => Vec::new(),
        }
    }

    pub(super) fn admit(&mut self, hello: &HelloOk) -> Vec<Step> {
        match std::mem::replace(&mut self.state, GatewayState::Over) {
            GatewayState::Verdict(id) => vec![Step::Send(Message::Text(write_hello(&id, hello)))],
            GatewayState::Connect | GatewayState::Over => Vec::new(),
        }
    }

    pub(super) fn refuse(&mut self, refusal: &Refusal) -> Vec<Step> {
        match std::mem::replace(&mut self.state, GatewayState::Over) {
            GatewayState::Verdict(id) => reject(refusal.reject(&id)),
            GatewayState::Connect | GatewayState::Over => {
                let (code, reason) = refusal.close();
                vec![close(code, reason)]
            }
        }
    }

    fn connect(&mut self, message: Message, now: Now) -> Vec<Step> {
        self.state = GatewayState::Over;
        if message.len() > limits::PRE_AUTH_FRAME {
            return vec![close(1009, "")];
        }
        let Some(text) = message.into_text() else {
            return vec![close(1000, "")];
        };
        let (id, connect) = match read_connect(&text) {
            Ok(read) => read,
            Err(fault) => return reject(fault),
        };
        if is_oversized(&connect.surface()) {
            return refuse_surface(id);
        }
        match check(&connect, &self.nonce, now) {
            Ok((role, device)) => {
                self.state = GatewayState::Verdict(id);
                vec![Step::Proven(Box::new(proven(*connect, role, device)))]
            }
            Err(refusal) => reject(refusal.reject(&id)),
        }
    }
}

fn reject(reject: Reject) -> Vec<Step> {
    let answer = reject.answer.map(|text| Step::Send(Message::Text(text)));
    let close = reject.close.map(|(code, reason)| close(code, reason));
    answer.into_iter().chain(close).collect()
}

fn is_oversized(surface: &Surface) -> bool {
    surface.caps.len() + surface.commands.len() > limits::SURFACE_ENTRIES
}

fn refuse_surface(id: RequestId) -> Vec<Step> {
    let error = WireError::invalid(format!(
        "invalid connect params: caps and commands must NOT have more than {} items",
        limits::SURFACE_ENTRIES
    ));
    let reason = close_reason(&error.message);
    let language = Language {
        peer: Role::Node,
        own: None,
    };
    let answer = language.write(&Frame::Response(Response { id, result: Err(error) }));
    reject(Reject {
        answer,
        close: Some((1008, reason)),
    })
}

fn check(connect: &Connect, nonce: &str, now: Now) -> Result<(Role, Option<DeviceKey>), Refusal> {
    if !connect.speaks_ours() {
        return Err(Refusal::Protocol {
            lowest: connect.min_protocol,
            highest: connect.max_protocol,
        });
    }
    let Some(role) = connect.known_role() else {
        let is_worker = connect.role.as_deref() == Some("worker");
        return Err(if is_worker { Refusal::Worker } else { Refusal::Role });
    };
    let device = connect
        .device
        .as_ref()
        .map(|device| check_device(connect, device, nonce, now))
        .transpose()
        .map_err(Refusal::Device)?;
    Ok((role, device))
}

/// The id comes first: a key that is none then reports a wrong id, as with the real gateway.
fn check_device(connect: &Connect, device: &Device, nonce: &str, now: Now) -> Result<DeviceKey, DeviceFault> {
    let key = URL_SAFE_NO_PAD
        .decode(device.public_key.as_str())
        .ok()
        .and_then(|key| <[u8; 32]>::try_from(key).ok())
        .map(device_key)
        .filter(|key| key.id.to_string() == device.id.as_str())
        .ok_or(DeviceFault::IdMismatch)?;
    if Duration::from_millis(device.signed_at.abs_diff(now.unix_ms)) > limits::SIGNATURE_SKEW {
        return Err(DeviceFault::Stale);
    }
    if device.nonce.trim().is_empty() {
        return Err(DeviceFault::NonceMissing);
    }
    if device.nonce.as_str() != nonce {
        return Err(DeviceFault::NonceMismatch);
    }
    let signature = URL_SAFE_NO_PAD
        .decode(device.signature.as_str())
        .map_err(|_| DeviceFault::Signature)?;
    let holds = |text: &String| verify_bytes(&key.public_key, text.as_bytes(), &signature).is_ok();
    if connect.signed_texts().iter().flatten().any(holds) {
        Ok(key)
    } else {
        Err(DeviceFault::Signature)
    }
}

fn proven(connect: Connect, role: Role, device: Option<DeviceKey>) -> Proven {
    let secret = |credential: Option<Credential>| credential.map(|credential| credential.secret().clone());
    let protocol = connect.max_protocol.min(CURRENT);
    let claims = Claims {
        role,
        scopes: connect.known_scopes(),
        client: connect.client_info(),
        surface: connect.surface(),
        path_env: connect.path_env.unwrap_or_default(),
        protocol: u16::try_from(protocol).expect("at most the current protocol"),
    };
    let auth = connect.auth.unwrap_or_default();
    Proven {
        device,
        claims,
        offered: Offered {
            token: secret(auth.token),
            password: secret(auth.password),
            device_token: secret(auth.device_token),
            bootstrap_token: secret(auth.bootstrap_token),
        },
        language: Spoken::Dialect,
    }
}

/// What a client brings to a handshake in the dialect.
#[derive(Debug)]
pub struct DialectClient {
    /// This device; none for an operator's program on the gateway's own machine.
    pub identity: Option<Arc<Identity>>,
    /// What it says and asks for. The client's id and mode are of the dialect's closed sets.
    pub ask: Ask,
    /// What it can show. A token is preferred to a device token, that to a setup code.
    pub credentials: Offered,
    /// The protocol to speak: 4; or 3 after a gateway that asked for it.
    pub protocol: u64,
    /// A fresh id for the request.
    pub request: RequestId,
}

/// The client's side.
#[derive(Debug)]
pub(super) struct Client {
    setup: DialectClient,
    state: ClientState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientState {
    Challenge,
    Verdict,
    Over,
}

impl Client {
    pub(super) fn new(setup: DialectClient) -> Self {
        Self {
            setup,
            state: ClientState::Challenge,
        }
    }

    pub(super) fn handle(&mut self, message: Message) -> Vec<ClientStep> {
        let state = std::mem::replace(&mut self.state, ClientState::Over);
        let text = message.into_text().unwrap_or_default();
        let step = match state {
            ClientState::Challenge => self.connect(&text).map(Some),
            ClientState::Verdict => self.verdict(&text),
            ClientState::Over => Ok(None),
        };
        step.unwrap_or_else(|error| Some(ClientStep::Broken(error)))
            .into_iter()
            .collect()
    }

    fn connect(&mut self, text: &str) -> Result<ClientStep, HandshakeError> {
        let expected = HandshakeError::Unexpected {
            expected: "a challenge",
        };
        let challenge = read_challenge(text).map_err(|_| expected)?;
        let connect = self.setup.connect(&challenge)?;
        self.state = ClientState::Verdict;
        Ok(ClientStep::Send(Message::Text(write_connect(
            &self.setup.request,
            &connect,
        ))))
    }

    fn verdict(&mut self, text: &str) -> Result<Option<ClientStep>, HandshakeError> {
        let answer =
            read_answer(text, &self.setup.request).map_err(|_| HandshakeError::Unexpected { expected: "a verdict" })?;
        match answer {
            Some(Ok(hello)) => self
                .setup
                .outcome(*hello)
                .map(|outcome| Some(ClientStep::Admitted(Box::new(outcome)))),
            Some(Err(error)) => Ok(Some(ClientStep::Refused(error))),
            None => {
                self.state = ClientState::Verdict; // an early event
                Ok(None)
            }
        }
    }
}

impl DialectClient {
    fn connect(&self, challenge: &Challenge) -> Result<Connect, HandshakeError> {
        let ask = &self.ask;
        let text = |text: &str| Text::new(text);
        let texts = |list: &[String]| {
            list.iter()
                .filter_map(|entry| Text::new(entry.as_str()))
                .collect::<Vec<_>>()
        };
        let is_node = ask.role == Role::Node;
        let mut connect = Connect {
            min_protocol: self.protocol,
            max_protocol: self.protocol,
            client: self.client()?,
            caps: Some(texts(&ask.surface.caps)),
            commands: is_node.then(|| texts(&ask.surface.commands)),
            computer_use: None,
            worker_runs: None,
            permissions: (is_node && !ask.surface.permissions.is_empty()).then(|| ask.surface.permissions.clone()),
            path_env: (!ask.path_env.is_empty()).then(|| ask.path_env.clone()),
            role: text(ask.role.as_str()),
            scopes: Some(ask.scopes.iter().filter_map(|scope| text(scope.as_str())).collect()),
            model_catalog: None,
            device: None,
            auth: self.auth(),
            locale: None,
            user_agent: None,
        };
        if let Some(identity) = &self.identity {
            sign(&mut connect, identity, challenge)?;
        }
        Ok(connect)
    }

    fn client(&self) -> Result<ClientParams, HandshakeError> {
        let client = &self.ask.client;
        // A gateway of protocol 3 does not know the family.
        let family = if self.protocol == LOWEST {
            ""
        } else {
            &client.device_family
        };
        let required = |text: &str, field| Text::new(text).ok_or(HandshakeError::Unspeakable { field });
        Ok(ClientParams {
            id: word(&client.id, "client.id")?,
            version: required(&client.version, "client.version")?,
            platform: required(&client.platform, "client.platform")?,
            mode: word(&client.mode, "client.mode")?,
            display_name: Text::new(client.display_name.as_str()),
            build_id: None,
            device_family: Text::new(family),
            model_identifier: Text::new(client.model.as_str()),
            time_zone: None,
            instance_id: Text::new(client.instance_id.as_str()),
        })
    }

    fn auth(&self) -> Option<Auth> {
        let Offered {
            token,
            password,
            device_token,
            bootstrap_token,
        } = &self.credentials;
        let credential = |secret: &Option<SecretString>| secret.clone().map(Credential::from);
        let mut auth = Auth {
            password: credential(password),
            ..Auth::default()
        };
        if token.is_some() {
            auth.token = credential(token);
        } else if device_token.is_some() {
            auth.device_token = credential(device_token);
        } else {
            auth.bootstrap_token = credential(bootstrap_token);
        }
        (auth.signed().is_some() || auth.password.is_some()).then_some(auth)
    }

    fn outcome(&self, hello: HelloOk) -> Result<Outcome, HandshakeError> {
        if hello.protocol > self.protocol {
            let version = u16::try_from(hello.protocol).unwrap_or(u16::MAX);
            return Err(HandshakeError::Version { version });
        }
        let policy = hello.policy();
        let auth = hello.auth.unwrap_or_default();
        let role = match auth.role.as_str() {
            "operator" => Role::Operator,
            "node" => Role::Node,
            _ => self.ask.role,
        };
        let device_token = auth.device_token.map(|token| SecretString::from(token.0));
        Ok(Outcome {
            admitted: Admitted {
                connection: hello.server.conn_id,
                server_version: hello.server.version,
                role,
                scopes: auth.scopes.iter().filter_map(|scope| scope.parse().ok()).collect(),
                // The dialect does not say what of it was approved.
                surface: self.ask.surface.clone(),
                generation: 0,
                tick_ms: policy.tick_interval_ms,
            },
            protocol: u16::try_from(self.protocol).expect("the protocol is 3 or 4"),
            gateway: None,
            device_token: device_token.filter(|token| !secrecy::ExposeSecret::expose_secret(token).is_empty()),
        })
    }
}

fn sign(connect: &mut Connect, identity: &Identity, challenge: &Challenge) -> Result<(), HandshakeError> {
    let unexpected = HandshakeError::Unexpected {
        expected: "a challenge",
    };
    let text = |text: String| Text::new(text).ok_or(unexpected.clone());
    let device = Device {
        id: text(identity.device_id().to_string())?,
        public_key: text(URL_SAFE_NO_PAD.encode(identity.public_key()))?,
        // Replaced below, once there is a text to sign.
        signature: text("-".to_owned())?,
        signed_at: challenge.ts,
        nonce: text(challenge.nonce.clone())?,
    };
    connect.device = Some(device);
    let [newest, _] = connect.signed_texts().ok_or(unexpected.clone())?;
    if let Some(device) = &mut connect.device {
        device.signature = text(URL_SAFE_NO_PAD.encode(identity.sign_text(&newest)))?;
    }
    Ok(())
}

/// A word of one of the dialect's closed sets.
fn word<T: DeserializeOwned>(text: &str, field: &'static str) -> Result<T, HandshakeError> {
    serde_json::from_value(text.into()).map_err(|_| HandshakeError::Unspeakable { field })
}

#[cfg(test)]
mod tests;
