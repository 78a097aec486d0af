//! The gateway's end: challenge, the checks on a connect in the order of the real gateway, the answer.

use std::time::Duration;

use atoll_protocol::capability::Surface;
use atoll_protocol::dialect::connect::{
    CURRENT, Challenge, Connect, Credential, Device, close_reason, read_connect, write_challenge, write_hello,
};
use atoll_protocol::dialect::hello::HelloOk;
use atoll_protocol::dialect::refusal::{DeviceFault, Refusal};
use atoll_protocol::dialect::{Gateway as Language, Reject};
use atoll_protocol::error::WireError;
use atoll_protocol::frame::{Frame, Response};
use atoll_protocol::id::RequestId;
use atoll_protocol::limits;
use atoll_protocol::scope::Role;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::handshake::{Now, Step, close};
use crate::identity::{device_key, verify_bytes};
use crate::link::Message;
use crate::proven::{Claims, DeviceKey, Language as Spoken, Offered, Proven};

/// The gateway's side.
#[derive(Debug)]
pub(in crate::handshake) struct Gateway {
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
    pub(in crate::handshake) fn start(nonce: String, now: Now) -> (Self, Vec<Step>) {
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

    pub(in crate::handshake) fn handle(&mut self, message: Message, now: Now) -> Vec<Step> {
        match self.state {
            GatewayState::Connect => self.connect(message, now),
            // Whoever drives this reads nothing while it decides.
            GatewayState::Verdict(_) => vec![close(1008, "too many pending handshake frames")],
            GatewayState::Over => Vec::new(),
        }
    }

    pub(in crate::handshake) fn admit(&mut self, hello: &HelloOk) -> Vec<Step> {
        match std::mem::replace(&mut self.state, GatewayState::Over) {
            GatewayState::Verdict(id) => vec![Step::Send(Message::Text(write_hello(&id, hello)))],
            GatewayState::Connect | GatewayState::Over => Vec::new(),
        }
    }

    pub(in crate::handshake) fn refuse(&mut self, refusal: &Refusal) -> Vec<Step> {
        match std::mem::replace(&mut self.state, GatewayState::Over) {
            GatewayState::Verdict(id) => reject(refusal.reject(&id)),
            GatewayState::Connect | GatewayState::Over => {
                let (code, reason) = refusal.close();
                vec![close(code, reason)]
            }
        }
    }

    pub(in crate::handshake) fn give_up(&mut self) {
        self.state = GatewayState::Over;
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
        "invalid connect params: caps and commands must not have more than {} items",
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
        digits: None,
    }
}
