//! A node and a gateway that prove who they are, as honest ones do, and from then on say whatever a test wants on a bare [`Line`].

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use atoll_pairing::access::commands::NATIVE_CLIENT;
use atoll_pairing::handshake::{Ask, Client, ClientStep, NativeClient, Now};
use atoll_pairing::identity::Identity;
use atoll_pairing::link::Message;
use atoll_protocol::capability::Surface;
use atoll_protocol::error::CallError;
use atoll_protocol::frame::{ClientInfo, Frame, Invoke, Outcome, Resume};
use atoll_protocol::id::CallId;
use atoll_protocol::json::Json;
use atoll_protocol::scope::{Role, Scopes};
use serde_json::Value;

use crate::mesh::{Mesh, Pipe, TOKEN, admit};
use crate::wait::{PATIENCE, within};

mod carry;
mod gateway;
mod line;

pub use carry::{Credit, stranger};
pub use gateway::{Admittance, Guest, HostileGateway, admitted};
pub use line::{Closed, Line, Quic, ws_header};

/// Commands that a gateway lets through to a Linux node of ours without further configuration.
pub const COMMANDS: [&str; 3] = ["device.status", "file.fetch", "file.write"];

/// A node that a gateway has let in, and that keeps to nothing from then on.
pub struct HostileNode {
    /// The connection.
    pub line: Line,
    device: Device,
}

/// What it is on every connection, and where it connects.
#[derive(Clone)]
struct Device {
    identity: Arc<Identity>,
    name: String,
    pipe: Pipe,
    port: u16,
}

impl HostileNode {
    /// Comes in over `pipe` as a new device, has the owner approve it, and says that it remembers no calls.
    pub async fn pair(mesh: &Mesh, pipe: Pipe, name: &str) -> Self {
        Self::pair_with(mesh, pipe, name, Credit::Little).await
    }

    /// The same with other credit, where the pipe has any.
    pub async fn pair_with(mesh: &Mesh, pipe: Pipe, name: &str, credit: Credit) -> Self {
        let mut operator = mesh.operator().await;
        let device = Device {
            identity: Arc::new(Identity::from_seed(&seed())),
            name: name.to_owned(),
            pipe,
            port: mesh.target().port,
        };
        let coming = Self::come_in(device, credit);
        let (mut node, _) = tokio::join!(coming, admit(&mut operator, name, PATIENCE));
        assert!(node.line.say(&Frame::Resume(Resume::default())).await, "a living link");
        node
    }

    /// Comes in again, on a further connection, and says nothing.
    pub async fn again(&self) -> Self {
        Self::come_in(self.device.clone(), Credit::Little).await
    }

    async fn come_in(device: Device, credit: Credit) -> Self {
        let (mut line, exporter) = carry::dial(device.pipe, device.port, credit).await;
        let client = NativeClient {
            identity: device.identity.clone(),
            ask: ask(&device.name),
            nonce: seed(),
            pin: None,
            token: Some(TOKEN.into()),
            setup_code: None,
            exporter,
        };
        let (mut machine, mut steps) = Client::native(client, now());
        within("the gateway to let the node in", async {
            while !tell(&mut line, steps).await {
                let heard = line.hear_bytes().await.expect("a gateway that goes on");
                steps = machine.handle(Message::Binary(heard));
            }
        })
        .await;
        Self { line, device }
    }

    /// Its id.
    pub fn id(&self) -> String {
        self.device.identity.device_id().to_string()
    }

    /// The next call.
    pub async fn invoked(&mut self) -> Invoke {
        let call = |frame| {
            if let Frame::Invoke(invoke) = frame {
                Some(invoke)
            } else {
                None
            }
        };
        self.line.wait_for("a call", call).await
    }

    /// Says how a call ended.
    pub async fn answer(&mut self, call: &CallId, payload: &Value) -> bool {
        self.line.say(&outcome(call, Ok(Some(payload.into())))).await
    }

    /// Waits until the gateway acknowledges a call; says whether it ignored the outcome.
    pub async fn acknowledged(&mut self, call: &CallId) -> bool {
        let wanted = |frame| match frame {
            Frame::Acknowledge(acknowledge) if acknowledge.call == *call => Some(acknowledge.ignored),
            _ => None,
        };
        self.line.wait_for("an acknowledgement", wanted).await
    }
}

/// The end of a call.
pub fn outcome(call: &CallId, result: Result<Option<Json>, CallError>) -> Frame {
    Frame::Outcome(Outcome {
        call: call.clone(),
        result,
        receipt: None,
    })
}

/// Does the steps; true when the handshake is over.
async fn tell(line: &mut Line, steps: Vec<ClientStep>) -> bool {
    let mut is_over = false;
    for step in steps {
        match step {
            ClientStep::Send(Message::Binary(bytes)) => assert!(line.say_bytes(&bytes).await, "a living link"),
            ClientStep::Send(Message::Text(_)) => panic!("text in the native language"),
            ClientStep::Waiting(_) => {}
            ClientStep::Admitted(_) => is_over = true,
            ClientStep::Refused(error) => panic!("refused: {error}"),
            ClientStep::Broken(error) => panic!("{error}"),
        }
    }
    is_over
}

fn ask(name: &str) -> Ask {
    Ask {
        role: Role::Node,
        scopes: Scopes::none(),
        client: ClientInfo {
            id: NATIVE_CLIENT.to_owned(),
            mode: "node".to_owned(),
            version: "0".to_owned(),
            platform: "linux".to_owned(),
            device_family: "Linux".to_owned(),
            display_name: name.to_owned(),
            ..ClientInfo::default()
        },
        surface: Surface {
            caps: vec!["device".to_owned(), "file".to_owned()],
            commands: COMMANDS.map(str::to_owned).to_vec(),
            ..Surface::default()
        },
        path_env: String::new(),
    }
}

fn seed() -> [u8; 32] {
    let halves = [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
    halves.try_into().expect("two times sixteen bytes")
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        instant: Instant::now(),
        unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
