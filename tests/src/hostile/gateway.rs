//! A gateway that a node takes for its own, and that keeps to nothing once the node has been let in.

use std::sync::Arc;

use atoll_pairing::handshake::{Gateway, Step};
use atoll_pairing::identity::Identity;
use atoll_pairing::link::Message;
use atoll_pairing::tls::{Server, WebCertificate};
use atoll_protocol::dialect::hello::HelloOk;
use atoll_protocol::frame::{Admitted, Frame, Invoke, Outcome};
use atoll_protocol::id::{CallId, DeviceId};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::scope::{Role, Scopes};
use quinn::Endpoint;
use tokio::net::TcpListener;

use super::{Line, carry, loopback, now, seed};
use crate::mesh::{Pipe, TOKEN};
use crate::wait::within;
use crate::wire::Target;

/// It listens, and never looks into its book.
pub struct HostileGateway {
    identity: Arc<Identity>,
    listener: Listener,
}

enum Listener {
    Quic(Endpoint),
    Tcp { listener: TcpListener, tls: Option<Server> },
}

/// A node in the middle of its handshake, proven.
pub struct Guest {
    /// The connection.
    pub line: Line,
    machine: Gateway,
    node: DeviceId,
}

/// A node that was let in.
pub struct Admittance {
    /// The connection.
    pub line: Line,
    /// The node.
    pub node: DeviceId,
}

impl HostileGateway {
    /// Listens for `pipe` on a port of its own.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn listen(pipe: Pipe) -> Self {
        let seed = seed();
        let identity = Arc::new(Identity::from_seed(&seed));
        let listener = match pipe {
            Pipe::Quic => Listener::Quic(carry::listen(&seed)),
            Pipe::Wss | Pipe::Ws | Pipe::Any => {
                let web = WebCertificate::ephemeral(&["localhost".to_owned()]).expect("a certificate");
                let tls = Server::new(&identity, &web).expect("a key");
                Listener::Tcp {
                    listener: TcpListener::bind(loopback(0)).await.expect("a free port"),
                    tls: (pipe == Pipe::Wss).then_some(tls),
                }
            }
        };
        Self { identity, listener }
    }

    /// Where a node finds it.
    ///
    /// # Panics
    /// When it is not bound.
    pub fn target(&self) -> Target {
        let address = match &self.listener {
            Listener::Quic(endpoint) => endpoint.local_addr(),
            Listener::Tcp { listener, .. } => listener.local_addr(),
        };
        Target {
            port: address.expect("a bound address").port(),
            token: TOKEN.to_owned(),
        }
    }

    /// The next node, let in as an honest gateway would.
    pub async fn admit(&self) -> Admittance {
        self.greet().await.admit(&admitted()).await
    }

    /// The next node, proven and not let in yet.
    ///
    /// # Panics
    /// When what comes is no node of ours.
    pub async fn greet(&self) -> Guest {
        within("a node to come", async {
            let (mut line, exporter) = self.accept().await;
            let mut machine = Gateway::native(self.identity.clone(), seed(), exporter, now());
            loop {
                let heard = line.hear_bytes().await.expect("a node that goes on");
                for step in machine.handle(Message::Binary(heard), now()) {
                    match step {
                        Step::Send(Message::Binary(bytes)) => assert!(line.say_bytes(&bytes).await, "a living link"),
                        Step::Proven(proven) => {
                            let node = proven.device().expect("a device").id;
                            return Guest { line, machine, node };
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        })
        .await
    }

    async fn accept(&self) -> (Line, Option<[u8; 32]>) {
        match &self.listener {
            Listener::Quic(endpoint) => {
                let incoming = endpoint.accept().await.expect("an open endpoint");
                let connection = incoming.await.expect("a node that speaks QUIC");
                let exporter = carry::exporter(&connection);
                let (control, answers) = connection.accept_bi().await.expect("the first stream");
                (Line::quic(connection, control, answers, None), Some(exporter))
            }
            Listener::Tcp { listener, tls } => {
                let (stream, _) = listener.accept().await.expect("an open listener");
                match tls {
                    Some(tls) => {
                        let (io, facts) = tls.accept(stream).await.expect("a node that speaks TLS");
                        (carry::upgrade(io).await, facts.exporter)
                    }
                    None => (carry::upgrade(stream).await, None),
                }
            }
        }
    }
}

impl Guest {
    /// Lets it in with these words.
    pub async fn admit(mut self, admitted: &Admitted) -> Admittance {
        for step in self.machine.admit(admitted.clone(), |_| HelloOk::default()) {
            if let Step::Send(Message::Binary(bytes)) = step {
                assert!(self.line.say_bytes(&bytes).await, "a living link");
            }
        }
        Admittance {
            line: self.line,
            node: self.node,
        }
    }
}

impl Admittance {
    /// A call of this node.
    ///
    /// # Panics
    /// When the call's name is none.
    pub fn invoke(&self, call: &str, command: &str, params: Json) -> Frame {
        Frame::Invoke(Invoke {
            call: CallId::new(call).expect("a name"),
            node: self.node,
            command: command.to_owned(),
            params: Some(params),
            timeout_ms: 10_000,
            idempotency_key: None,
            plan: None,
        })
    }

    /// Calls the node and waits for the end, as honest gateways do.
    pub async fn call(&mut self, call: &str, command: &str, params: Json) -> Outcome {
        let invoke = self.invoke(call, command, params);
        assert!(self.line.say(&invoke).await, "a living link");
        self.ended(call).await
    }

    /// Waits for the end of a call.
    pub async fn ended(&mut self, call: &str) -> Outcome {
        let wanted = |frame| match frame {
            Frame::Outcome(outcome) if outcome.call.as_str() == call => Some(outcome),
            _ => None,
        };
        self.line.wait_for("the end of a call", wanted).await
    }
}

/// What an honest gateway says when it lets a node in.
pub fn admitted() -> Admitted {
    Admitted {
        connection: "c".to_owned(),
        server_version: "0".to_owned(),
        role: Role::Node,
        scopes: Scopes::none(),
        surface: atoll_protocol::capability::Surface::default(),
        generation: 1,
        tick_ms: u64::try_from(limits::TICK.as_millis()).expect("seconds"),
    }
}
