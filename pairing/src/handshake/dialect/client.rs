//! The end of a node or an operator's program: waits for the challenge, connects, reads the verdict.

use std::sync::Arc;

use atoll_protocol::dialect::connect::{
    Auth, Challenge, Client as ClientParams, Connect, Credential, Device, LOWEST, read_answer, read_challenge,
    write_connect,
};
use atoll_protocol::dialect::hello::HelloOk;
use atoll_protocol::frame::Admitted;
use atoll_protocol::id::RequestId;
use atoll_protocol::method::Text;
use atoll_protocol::scope::Role;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use crate::handshake::{Ask, ClientStep, HandshakeError, Outcome};
use crate::identity::Identity;
use crate::link::Message;
use crate::proven::Offered;

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
pub(in crate::handshake) struct Client {
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
    pub(in crate::handshake) fn new(setup: DialectClient) -> Self {
        Self {
            setup,
            state: ClientState::Challenge,
        }
    }

    pub(in crate::handshake) fn handle(&mut self, message: Message) -> Vec<ClientStep> {
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
            device_token: device_token.filter(|token| !token.expose_secret().is_empty()),
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
