//! A client of the JSON dialect, written from the description of the wire alone: it shares no code with the programs
//! under test, so that a mistake in theirs is not repeated here.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use atoll_protocol::hex;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::wait::{PATIENCE, within, within_time};

/// A gateway to speak to: ours, or the real OpenClaw.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its port on the loopback address.
    pub port: u16,
    /// Its shared secret.
    pub token: String,
}

impl Target {
    /// `ws://127.0.0.1:<port>`.
    pub fn ws(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// `wss://127.0.0.1:<port>`.
    pub fn wss(&self) -> String {
        format!("wss://127.0.0.1:{}", self.port)
    }

    /// `http://127.0.0.1:<port>`.
    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// What came from the gateway.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// One JSON object.
    Frame(Value),
    /// The end. `code` is none when the connection ended without a close frame or without a code.
    Closed {
        /// The close code.
        code: Option<u16>,
        /// The close reason.
        reason: String,
    },
}

/// An upgrade that was answered by an ordinary HTTP response.
#[derive(Debug)]
pub struct NotUpgraded {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

/// The first frame of the gateway.
#[derive(Debug, Clone)]
pub struct Challenge {
    /// To be signed.
    pub nonce: String,
    /// The gateway's clock, Unix milliseconds.
    pub ts: u64,
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    socket: WebSocketStream<TcpStream>,
    /// Frames that were read while something else was waited for.
    passed: VecDeque<Value>,
    next_id: u64,
}

impl Wire {
    /// Opens one and stops before anything is said.
    pub async fn open(target: &Target) -> Self {
        Self::open_with(target, &[]).await.expect("an upgrade")
    }

    /// [`Wire::open`] with more HTTP headers.
    ///
    /// # Errors
    /// [`NotUpgraded`], when the gateway answers with an ordinary response.
    pub async fn open_with(target: &Target, headers: &[(&str, &str)]) -> Result<Self, NotUpgraded> {
        let mut request = target.ws().into_client_request().expect("a loopback address");
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a header's name");
            request
                .headers_mut()
                .insert(name, HeaderValue::from_str(value).expect("a header's value"));
        }
        let stream = within("a TCP connection", TcpStream::connect(("127.0.0.1", target.port))).await;
        let stream = stream.expect("a gateway that listens");
        stream.set_nodelay(true).expect("a fresh socket");
        let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
        let opening = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        match within("the upgrade", opening).await {
            Ok((socket, _)) => Ok(Self {
                socket,
                passed: VecDeque::new(),
                next_id: 0,
            }),
            Err(Error::Http(response)) => Err(NotUpgraded {
                status: response.status().as_u16(),
                body: String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned(),
            }),
            Err(error) => panic!("the upgrade failed: {error}"),
        }
    }

    /// Reads the challenge.
    pub async fn challenge(&mut self) -> Challenge {
        let payload = self.event("connect.challenge").await;
        Challenge {
            nonce: payload["nonce"].as_str().expect("a nonce").to_owned(),
            ts: payload["ts"].as_u64().expect("a time"),
        }
    }

    /// Sends text as it is. A connection that is gone shows when it is read.
    pub async fn say(&mut self, text: impl Into<String>) {
        let _ = within("room to send", self.socket.send(Message::text(text.into()))).await;
    }

    /// Sends bytes in a binary message.
    pub async fn say_bytes(&mut self, bytes: Vec<u8>) {
        let _ = within("room to send", self.socket.send(Message::binary(bytes))).await;
    }

    /// Sends one frame.
    pub async fn send(&mut self, frame: &Value) {
        self.say(frame.to_string()).await;
    }

    /// Closes as clients do.
    pub async fn close(mut self) {
        let _ = within("room to close", self.socket.close(None)).await;
    }

    /// The next thing from the gateway, frames that were passed over first.
    pub async fn next(&mut self) -> Heard {
        match self.passed.pop_front() {
            Some(frame) => Heard::Frame(frame),
            None => within("a frame", self.read()).await,
        }
    }

    /// The caller bounds the time.
    async fn read(&mut self) -> Heard {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame = serde_json::from_str(&text);
                    return Heard::Frame(frame.unwrap_or_else(|error| panic!("{error} in {text}")));
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Heard::Closed {
                        code: Some(frame.code.into()),
                        reason: frame.reason.to_string(),
                    };
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Binary(bytes))) => panic!("{} binary bytes in the dialect", bytes.len()),
                Some(Ok(Message::Close(None) | Message::Frame(_)) | Err(_)) | None => {
                    return Heard::Closed {
                        code: None,
                        reason: String::new(),
                    };
                }
            }
        }
    }

    /// The next message that carries something or closes, whatever it is; none when the connection ended.
    pub async fn message(&mut self) -> Option<Message> {
        loop {
            match within("a message", self.socket.next()).await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next text as it came, unread.
    ///
    /// # Panics
    /// When the connection ends.
    pub async fn text(&mut self) -> String {
        loop {
            let message = within("a frame", self.socket.next())
                .await
                .expect("a living link")
                .expect("a living link");
            if let Message::Text(text) = message {
                return text.to_string();
            }
        }
    }

    /// The first frame for which `wanted` is true; the others stay for later.
    ///
    /// # Panics
    /// When the connection ends first.
    pub async fn frame(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.frame_within(PATIENCE, what, wanted).await
    }

    async fn frame_within(&mut self, patience: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.passed.iter().position(&wanted) {
            return self.passed.remove(at).expect("found there");
        }
        within_time(what, patience, async {
            loop {
                match self.read().await {
                    Heard::Frame(frame) if wanted(&frame) => return frame,
                    Heard::Frame(frame) => self.passed.push_back(frame),
                    Heard::Closed { code, reason } => panic!("closed ({code:?} {reason}) before {what}"),
                }
            }
        })
        .await
    }

    /// The payload of the next event of that name.
    pub async fn event(&mut self, name: &str) -> Value {
        let wanted = |frame: &Value| frame["type"] == "event" && frame["event"] == name;
        self.frame(&format!("the event {name}"), wanted).await["payload"].take()
    }

    /// Waits for the end, whatever comes before it.
    pub async fn closed(&mut self) -> (Option<u16>, String) {
        within("the connection to close", async {
            loop {
                if let Heard::Closed { code, reason } = self.read().await {
                    return (code, reason);
                }
            }
        })
        .await
    }

    /// Sends a request and gives its id.
    pub async fn ask(&mut self, method: &str, params: Value) -> String {
        self.next_id += 1;
        let id = format!("{}:{}", self.next_id, uuid::Uuid::new_v4());
        self.send(&json!({"type": "req", "id": id, "method": method, "params": params}))
            .await;
        id
    }

    /// The answer to a request: its payload, or its error.
    ///
    /// # Errors
    /// The `error` object of the answer.
    pub async fn answer(&mut self, id: &str) -> Result<Value, Value> {
        self.answer_within(PATIENCE, id).await
    }

    /// [`Wire::answer`], with another patience.
    ///
    /// # Errors
    /// The `error` object of the answer.
    pub async fn answer_within(&mut self, patience: Duration, id: &str) -> Result<Value, Value> {
        let wanted = |frame: &Value| frame["type"] == "res" && frame["id"] == id;
        let mut frame = self.frame_within(patience, "an answer", wanted).await;
        if frame["ok"] == true {
            Ok(frame["payload"].take())
        } else {
            Err(frame["error"].take())
        }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// The `error` object of the answer.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.ask(method, params).await;
        self.answer(&id).await
    }

    /// Opens, signs where there is a device, connects.
    ///
    /// # Errors
    /// [`Refusal`], with the close that followed.
    pub async fn connect(target: &Target, params: Value, device: Option<&Device>) -> Result<(Self, Value), Refusal> {
        Self::open(target).await.introduce(params, device).await
    }

    /// [`Wire::connect`], on a connection that is open.
    ///
    /// # Errors
    /// [`Refusal`], with the close that followed.
    pub async fn introduce(mut self, mut params: Value, device: Option<&Device>) -> Result<(Self, Value), Refusal> {
        let challenge = self.challenge().await;
        if let Some(device) = device {
            device.sign(&mut params, &challenge);
        }
        match self.call("connect", params).await {
            Ok(hello) => Ok((self, hello)),
            Err(error) => Err(Refusal::of(error, self).await),
        }
    }

    /// The names of the events that came and that nobody has waited for, in their order.
    pub fn overheard(&self) -> Vec<&str> {
        let names = self.passed.iter().filter_map(|frame| frame["event"].as_str());
        names.collect()
    }
}

/// A connect that was refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The error of the answer; null when there was no answer.
    pub error: Value,
    /// The close code that followed.
    pub code: Option<u16>,
    /// The close reason.
    pub reason: String,
}

impl Refusal {
    async fn of(error: Value, mut wire: Wire) -> Self {
        let (code, reason) = wire.closed().await;
        Self { error, code, reason }
    }

    /// The pairing request to approve.
    pub fn request_id(&self) -> &str {
        self.error["details"]["requestId"]
            .as_str()
            .unwrap_or_else(|| panic!("no pairing request in {self:?}"))
    }
}

/// A device: a key and the id made of it.
#[derive(Debug, Clone)]
pub struct Device {
    key: SigningKey,
}

impl Default for Device {
    fn default() -> Self {
        let seed = [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
        Self::from_seed(seed.try_into().expect("two times sixteen bytes"))
    }
}

impl Device {
    /// The device with that private key.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self {
            key: SigningKey::from_bytes(&seed),
        }
    }

    /// Lower-case hex of SHA-256 over the public key.
    pub fn id(&self) -> String {
        hex::encode(&Sha256::digest(self.key.verifying_key().as_bytes()))
    }

    /// Base64url of the raw key.
    pub fn public_key(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes())
    }

    /// Base64url of the signature over `text`.
    pub fn signature(&self, text: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.key.sign(text.as_bytes()).to_bytes())
    }

    /// Adds `device` to connect parameters, signed in the newest form.
    pub fn sign(&self, params: &mut Value, challenge: &Challenge) {
        self.sign_as(params, challenge, "v3");
    }

    /// Adds `device`, signed in the form `v1`, `v2` or `v3`.
    pub fn sign_as(&self, params: &mut Value, challenge: &Challenge, form: &str) {
        let text = self.signed_text(params, challenge, form);
        params["device"] = json!({
            "id": self.id(), "publicKey": self.public_key(), "signature": self.signature(&text),
            "signedAt": challenge.ts, "nonce": challenge.nonce,
        });
    }

    /// The text that is signed.
    pub fn signed_text(&self, params: &Value, challenge: &Challenge, form: &str) -> String {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let scopes: Vec<String> = params["scopes"].as_array().into_iter().flatten().map(word).collect();
        let auth = &params["auth"];
        let token = ["token", "deviceToken", "bootstrapToken"]
            .iter()
            .find_map(|kind| auth[*kind].as_str());
        let client = &params["client"];
        let mut parts = vec![
            form.to_owned(),
            self.id(),
            word(&client["id"]),
            word(&client["mode"]),
            params["role"].as_str().unwrap_or("operator").to_owned(),
            scopes.join(","),
            challenge.ts.to_string(),
            token.unwrap_or_default().to_owned(),
        ];
        if form != "v1" {
            parts.push(challenge.nonce.clone());
        }
        if form == "v3" {
            parts.push(word(&client["platform"]).trim().to_ascii_lowercase());
            parts.push(word(&client["deviceFamily"]).trim().to_ascii_lowercase());
        }
        parts.join("|")
    }
}

/// Now, Unix milliseconds.
pub fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    u64::try_from(since.as_millis()).expect("a clock before the year 500 million")
}

/// Connect parameters of the command line: an operator with these scopes and the shared secret.
pub fn operator(token: &str, scopes: &[&str]) -> Value {
    json!({
        "minProtocol": 4, "maxProtocol": 4,
        "client": {"id": "cli", "version": "2026.9.6", "platform": "linux", "deviceFamily": "Linux", "mode": "cli",
            "instanceId": uuid::Uuid::new_v4().to_string()},
        "caps": [], "auth": {"token": token}, "role": "operator", "scopes": scopes,
    })
}

/// Connect parameters of a headless node that offers these commands.
pub fn node(token: &str, name: &str, commands: &[&str]) -> Value {
    json!({
        "minProtocol": 4, "maxProtocol": 4,
        "client": {"id": "node-host", "displayName": name, "version": "2026.9.6", "platform": "linux",
            "deviceFamily": "Linux", "mode": "node", "instanceId": uuid::Uuid::new_v4().to_string()},
        "caps": ["system"], "commands": commands, "pathEnv": "/usr/bin:/bin",
        "auth": {"token": token}, "role": "node", "scopes": [],
    })
}

/// Every scope an operator can hold.
pub const ALL_SCOPES: [&str; 6] = [
    "operator.admin",
    "operator.read",
    "operator.write",
    "operator.approvals",
    "operator.questions",
    "operator.pairing",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_recorded_vectors() {
        let seed: Vec<u8> = (0..32).collect();
        let device = Device::from_seed(seed.try_into().expect("32 bytes"));
        let challenge = Challenge {
            nonce: "00000000-0000-4000-8000-000000000001".into(),
            ts: 1_700_000_000_000,
        };
        let mut params = node("shared-secret", "x", &[]);
        assert_eq!(device.public_key(), "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg");
        device.sign(&mut params, &challenge);
        assert_eq!(
            params["device"]["signature"],
            "p7L7ms-FrHIA4uKvuEOgvxBslpIr5bhQ6cKSjxtrzV5ullPzzyk7NyPQm1gRPf8V0WmpG7AwVQaTwFTECj7SDw"
        );
        device.sign_as(&mut params, &challenge, "v2");
        assert_eq!(
            params["device"]["signature"],
            "vioEiliY3qeon2Pn6XsIlq3VZlVgQ0e873EQaWzCCc845V_4j5J5_AbOMKK0hXqe2k-l4ExKpgIWcPBB_5DwAQ"
        );
    }
}
