//! Before a link is admitted: the challenge, the connect request, and how both ends read them.
//!
//! The gateway reads strictly, the client loosely. Never checks a signature, a secret or a right.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hello::HelloOk;
use super::node::{BadText, ErrorIn};
use super::signed::{self, SignedFacts};
use super::text::{self, RequestText};
use super::{Reject, name};
use crate::capability::Surface;
use crate::error::WireError;
use crate::frame::ClientInfo;
use crate::id::RequestId;
use crate::json::Json;
use crate::method::{Text, read_params};
use crate::scope::{Role, Scopes};
use crate::strict::{self, closed, words};

/// The protocol that hello always names.
pub const CURRENT: u64 = 4;

/// The lowest protocol that a node, or a program that only probes, may speak.
pub const LOWEST: u64 = 3;

const CHALLENGE: &str = "connect.challenge";

words! {
    /// The programs that there are. The set is closed: another program borrows one of these.
    #[allow(missing_docs, reason = "each variant is the word it is written as")]
    ClientId {
        WebchatUi = "webchat-ui",
        ControlUi = "openclaw-control-ui",
        BrowserCopilot = "openclaw-browser-copilot",
        Tui = "openclaw-tui",
        Webchat = "webchat",
        Cli = "cli",
        GatewayClient = "gateway-client",
        Macos = "openclaw-macos",
        Linux = "openclaw-linux",
        Ios = "openclaw-ios",
        Watchos = "openclaw-watchos",
        Android = "openclaw-android",
        NodeHost = "node-host",
        Worker = "openclaw-worker",
        Test = "test",
        Fingerprint = "fingerprint",
        Probe = "openclaw-probe",
    }

    /// How a program is used. Closed as well.
    #[allow(missing_docs, reason = "each variant is the word it is written as")]
    ClientMode {
        Webchat = "webchat",
        Cli = "cli",
        Ui = "ui",
        Backend = "backend",
        Node = "node",
        Worker = "worker",
        Probe = "probe",
        Test = "test",
    }
}

closed! {
    /// The parameters of `connect`.
    pub struct Connect {
        /// The lowest protocol spoken.
        min_protocol: u64,
        /// The highest protocol spoken.
        max_protocol: u64,
        /// What the peer says of itself.
        client: Client;
        /// Capabilities.
        caps?: Vec<Text>,
        /// Commands (nodes).
        commands?: Vec<Text>,
        /// Of no use yet.
        computer_use?: Json,
        /// Of no use here.
        worker_runs?: Json,
        /// Permissions by name (nodes).
        permissions?: BTreeMap<String, bool>,
        /// The node's `PATH`.
        path_env?: String,
        /// The role; `operator` when absent.
        role?: Text,
        /// The scopes asked for, in the order that is signed.
        scopes?: Vec<Text>,
        /// Of no use here.
        model_catalog?: Json,
        /// The device and its signature.
        device?: Device,
        /// Credentials.
        auth?: Auth,
        /// The person's language.
        locale?: String,
        /// The browser.
        user_agent?: String,
    }

    /// `connect.client`.
    pub struct Client {
        /// The program.
        id: ClientId,
        /// Its version.
        version: Text,
        /// The system.
        platform: Text,
        /// How it is used.
        mode: ClientMode;
        /// What a person calls it.
        display_name?: Text,
        /// Its build.
        build_id?: Text,
        /// The kind of device.
        device_family?: Text,
        /// The hardware.
        model_identifier?: Text,
        /// Where it is.
        time_zone?: Text,
        /// One start of the program.
        instance_id?: Text,
    }

    /// `connect.device`.
    pub struct Device {
        /// SHA-256 of the key, in hex.
        id: Text,
        /// The raw Ed25519 key, base64url without padding.
        public_key: Text,
        /// Over the signed text, base64url without padding.
        signature: Text,
        /// Unix milliseconds, copied from the challenge.
        signed_at: u64,
        /// Copied from the challenge.
        nonce: Text;
    }

    /// `connect.auth`.
    #[derive(Default)]
    pub struct Auth {;
        /// The shared secret, or a device token in its place.
        token?: Credential,
        /// A setup code's token.
        bootstrap_token?: Credential,
        /// A device token.
        device_token?: Credential,
        /// The shared password.
        password?: Credential,
        /// Of no use here.
        approval_runtime_token?: Credential,
        /// Of no use here.
        agent_runtime_identity_token?: Credential,
    }
}

/// A secret inside `connect`; it serialises only into the message that carries it.
#[derive(Clone)]
pub struct Credential(SecretString);

impl Credential {
    /// The secret.
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

impl From<SecretString> for Credential {
    fn from(secret: SecretString) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Serialize for Credential {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl<'de> Deserialize<'de> for Credential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

impl Connect {
    /// What the peer says of itself.
    pub fn client_info(&self) -> ClientInfo {
        let text = |field: &Option<Text>| field.as_ref().map(ToString::to_string).unwrap_or_default();
        ClientInfo {
            id: self.client.id.as_str().to_owned(),
            mode: self.client.mode.as_str().to_owned(),
            version: self.client.version.to_string(),
            platform: self.client.platform.to_string(),
            device_family: text(&self.client.device_family),
            model: text(&self.client.model_identifier),
            display_name: text(&self.client.display_name),
            instance_id: text(&self.client.instance_id),
        }
    }

    /// What a node offers.
    pub fn surface(&self) -> Surface {
        let list = |field: &Option<Vec<Text>>| field.iter().flatten().map(ToString::to_string).collect();
        Surface {
            caps: list(&self.caps),
            commands: list(&self.commands),
            permissions: self.permissions.clone().unwrap_or_default(),
        }
    }

    /// The scopes asked for; a name outside the closed set asks for nothing.
    pub fn known_scopes(&self) -> Scopes {
        self.scopes
            .iter()
            .flatten()
            .filter_map(|scope| scope.parse().ok())
            .collect()
    }

    /// The role asked for; none when the word names no role.
    pub fn known_role(&self) -> Option<Role> {
        match self.role.as_deref() {
            None | Some("operator") => Some(Role::Operator),
            Some("node") => Some(Role::Node),
            Some(_) => None,
        }
    }

    /// The protocol to speak: always [`CURRENT`], though a node or a probe may speak [`LOWEST`] only.
    pub fn speaks_ours(&self) -> bool {
        let probes = self.client.mode == ClientMode::Probe;
        let lowest = if probes || self.known_role() == Some(Role::Node) {
            LOWEST
        } else {
            CURRENT
        };
        self.min_protocol <= CURRENT && self.max_protocol >= lowest
    }

    /// The texts that `device.signature` may be over, best first: version 3, then 2. None without a device.
    pub fn signed_texts(&self) -> Option<[String; 2]> {
        let device = self.device.as_ref()?;
        let scopes: Vec<String> = self.scopes.iter().flatten().map(ToString::to_string).collect();
        let token = self.auth.as_ref().and_then(Auth::signed);
        let facts = SignedFacts {
            device: &device.id,
            client_id: self.client.id.as_str(),
            client_mode: self.client.mode.as_str(),
            role: self.role.as_deref().unwrap_or(Role::Operator.as_str()),
            scopes: &scopes,
            signed_at: device.signed_at,
            token: token.map_or("", |token| token.0.expose_secret()),
            nonce: &device.nonce,
            platform: &self.client.platform,
            device_family: self.client.device_family.as_deref().unwrap_or_default(),
        };
        Some([signed::signed_text_v3(&facts), signed::signed_text_v2(&facts)])
    }
}

impl Auth {
    /// The credential that the device signs; a password never is.
    pub fn signed(&self) -> Option<&Credential> {
        self.token
            .as_ref()
            .or(self.device_token.as_ref())
            .or(self.bootstrap_token.as_ref())
    }
}

/// Reads the first message of a link at the gateway.
///
/// # Errors
/// What to answer and how to close; the link never goes on.
pub fn read_connect(text: &str) -> Result<(RequestId, Box<Connect>), Reject> {
    if !strict::is_json(text) {
        return Err(closing(None, 1000, ""));
    }
    let Ok(request) = RequestText::read(text) else {
        return Err(closing(None, 1008, "invalid request frame"));
    };
    let refuse = |sentence: &str| {
        let answer = text::response(&request.id, Err(&WireError::invalid(sentence)));
        closing(Some(answer), 1008, sentence)
    };
    if request.method.as_str() != name::CONNECT {
        return Err(refuse("invalid handshake: first request must be connect"));
    }
    let id = RequestId::new(request.id.as_str()).map_err(|_| closing(None, 1008, "invalid request frame"))?;
    let connect = read_params(name::CONNECT, request.params.as_ref()).map_err(|error| refuse(&error.message))?;
    Ok((id, Box::new(connect)))
}

fn closing(answer: Option<String>, code: u16, reason: &str) -> Reject {
    Reject {
        answer,
        close: Some((code, close_reason(reason))),
    }
}

/// A close reason, cut to the 120 bytes that real gateways allow themselves.
pub fn close_reason(reason: &str) -> String {
    reason[..reason.floor_char_boundary(120)].to_owned()
}

/// The gateway's opening words. A client needs both fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Fresh for this connection.
    pub nonce: String,
    /// The gateway's clock, Unix milliseconds.
    pub ts: u64,
    /// Names of extras.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

/// Writes the challenge.
pub fn write_challenge(challenge: &Challenge) -> String {
    text::event(CHALLENGE, Some(challenge), None, None)
}

/// Reads the challenge at the client.
///
/// # Errors
/// The text is not one.
pub fn read_challenge(text: &str) -> Result<Challenge, BadText> {
    #[derive(Deserialize)]
    struct ChallengeIn {
        event: String,
        payload: Challenge,
    }
    let message: ChallengeIn = serde_json::from_str(text).map_err(|_| BadText::Malformed)?;
    if message.event == CHALLENGE {
        Ok(message.payload)
    } else {
        Err(BadText::UnknownType)
    }
}

/// Writes the connect request.
pub fn write_connect(id: &RequestId, connect: &Connect) -> String {
    text::request(id.as_str(), name::CONNECT, Some(connect))
}

/// Writes the answer that admits.
pub fn write_hello(id: &RequestId, hello: &HelloOk) -> String {
    let payload = Json::of(hello).expect("a hello has text keys and checked JSON, so it always serialises");
    text::response(id.as_str(), Ok(&payload))
}

/// Reads the gateway's answer to the connect request `id` at the client. None: a message that is no answer to it, such as
/// an early event.
///
/// # Errors
/// The text is no message.
pub fn read_answer(text: &str, id: &RequestId) -> Result<Option<Result<Box<HelloOk>, WireError>>, BadText> {
    #[derive(Deserialize)]
    struct AnswerIn {
        id: Option<String>,
        ok: Option<bool>,
        payload: Option<Json>,
        error: Option<ErrorIn>,
    }
    let message: AnswerIn = serde_json::from_str(text).map_err(|_| BadText::Malformed)?;
    if message.id.as_deref() != Some(id.as_str()) {
        return Ok(None);
    }
    if message.ok != Some(true) {
        return Ok(Some(Err(message.error.unwrap_or_default().into())));
    }
    let hello = message.payload.ok_or(BadText::Malformed)?;
    hello
        .read()
        .map(|hello| Some(Ok(hello)))
        .map_err(|_| BadText::Malformed)
}

#[cfg(test)]
mod tests;
