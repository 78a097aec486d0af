//! The bare thing that calls are compared with: an operator, a relay and an echo, three processes with nothing between
//! them but pipes on the loopback address. The operator's is a WebSocket; the one between relay and echo is chosen.

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::str::FromStr;

use atoll_pairing::identity::Identity;
use atoll_pairing::link::quic::{self, Listener};
use atoll_pairing::link::ws::Io;
use atoll_pairing::link::{Message as PipeMessage, Pipe as Messages};
use atoll_pairing::tls::{self, Server, Trust, WebCertificate};
use atoll_tests::mesh::Pipe;
use atoll_tests::program::Program;
use atoll_tests::wait::within;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The words for pipes among the arguments of a child.
const WORDS: [(&str, Pipe); 3] = [("ws", Pipe::Ws), ("wss", Pipe::Wss), ("quic", Pipe::Quic)];

pub(crate) fn word(pipe: Pipe) -> &'static str {
    WORDS
        .iter()
        .find_map(|(word, named)| (*named == pipe).then_some(*word))
        .expect("a pipe that has a word")
}

/// What a child was told to use.
pub(crate) fn pipe(word: &str) -> Pipe {
    WORDS
        .iter()
        .find_map(|(named, pipe)| (*named == word).then_some(*pipe))
        .expect("a word for a pipe")
}

/// A running chain, and the port where it begins.
pub(crate) struct Chain {
    pub(crate) port: u16,
    _programs: Vec<Program>,
}

impl Chain {
    pub(crate) async fn start() -> Self {
        Self::over(Pipe::Ws).await
    }

    /// With this pipe between relay and echo.
    pub(crate) async fn over(pipe: Pipe) -> Self {
        let (echo, port) = child(&["echo", word(pipe)]).await;
        let (relay, port) = child(&["relay", word(pipe), &port.to_string()]).await;
        Self {
            port,
            _programs: vec![echo, relay],
        }
    }

    /// The last link of it alone.
    pub(crate) async fn echo() -> Self {
        let (echo, port) = child(&["echo", "ws"]).await;
        Self {
            port,
            _programs: vec![echo],
        }
    }
}

async fn child(arguments: &[&str]) -> (Program, u16) {
    let program = begin(arguments);
    let port = said(&program, "listening on ").await;
    (program, port)
}

/// This program once more, as another process.
pub(crate) fn begin(arguments: &[&str]) -> Program {
    begin_with(arguments, &[])
}

/// The same with more environment variables.
pub(crate) fn begin_with(arguments: &[&str], environment: &[(&str, &str)]) -> Program {
    let mut command = Command::new(std::env::current_exe().expect("a running program has a path"));
    command.args(arguments).envs(environment.iter().copied());
    Program::start(arguments[0], command)
}

/// What the first line that a child writes with these words has at its end.
pub(crate) async fn said<T: FromStr>(program: &Program, words: &str) -> T {
    let line = program.line(words).await;
    let value = line.rsplit(' ').next().and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("something else at the end of `{line}`"))
}

/// A plain WebSocket to a loopback port.
pub(crate) async fn dial(port: u16) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a listener");
    stream.set_nodelay(true).expect("a fresh socket");
    let opening = tokio_tungstenite::client_async(format!("ws://127.0.0.1:{port}"), stream);
    within("an upgrade", opening).await.expect("an upgrade").0
}

/// What a child dials and is dialled over.
enum Far {
    Plain(Box<WebSocketStream<TcpStream>>),
    Secured(Box<WebSocketStream<Box<dyn Io>>>),
    Quic(Box<Messages>),
}

impl Far {
    async fn to(pipe: Pipe, port: u16) -> Self {
        match pipe {
            Pipe::Ws => Self::Plain(Box::new(dial(port).await)),
            Pipe::Wss => {
                let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a listener");
                stream.set_nodelay(true).expect("a fresh socket");
                let secured = tls::connect(stream, "127.0.0.1", Trust::AnyDevice).await.expect("TLS");
                Self::Secured(Box::new(bare(secured.0, Role::Client).await))
            }
            Pipe::Quic | Pipe::Any => {
                let connected = quic::connect("127.0.0.1", port, Trust::AnyDevice).await;
                Self::Quic(Box::new(connected.expect("a listener")))
            }
        }
    }

    async fn next(&mut self) -> Option<Message> {
        match self {
            Self::Plain(socket) => socket.next().await?.ok(),
            Self::Secured(socket) => socket.next().await?.ok(),
            Self::Quic(pipe) => pipe.recv().await.ok()?.into_text().map(Message::text),
        }
    }

    async fn send(&mut self, message: Message) -> Option<()> {
        match self {
            Self::Plain(socket) => socket.send(message).await.ok(),
            Self::Secured(socket) => socket.send(message).await.ok(),
            Self::Quic(pipe) => {
                let bytes = message.into_data().to_vec();
                pipe.send(PipeMessage::Binary(bytes)).await.ok()
            }
        }
    }

    /// Answers every message: itself, or by what `onward` answers.
    async fn answer(mut self, mut onward: Option<Self>) {
        while let Some(message) = self.next().await {
            let answer = match &mut onward {
                Some(onward) => {
                    onward.send(message).await.expect("a living chain");
                    onward.next().await.expect("a living chain")
                }
                None => message,
            };
            if self.send(answer).await.is_none() {
                break;
            }
        }
    }
}

/// WebSocket frames and no upgrade.
async fn bare(io: impl Io + 'static, role: Role) -> WebSocketStream<Box<dyn Io>> {
    WebSocketStream::from_raw_socket(Box::new(io) as Box<dyn Io>, role, None).await
}

/// An echo over that pipe.
pub(crate) async fn echo(pipe: Pipe) {
    let identity = Identity::from_seed(&[1; 32]);
    let web = WebCertificate::ephemeral(&["localhost".to_owned()]).expect("a certificate");
    let server = Server::new(&identity, &web).expect("a key");
    if pipe == Pipe::Quic {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), &server, &identity).expect("a free port");
        say("listening on", listener.address().expect("a bound address").port());
        while let Some(knock) = listener.accept().await {
            let entry = knock.open().await.expect("a client");
            let pipe = entry.native().expect("our own client");
            tokio::spawn(Far::Quic(Box::new(pipe)).answer(None));
        }
        return;
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    say("listening on", listener.local_addr().expect("a bound address").port());
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("a fresh socket");
        let far = if pipe == Pipe::Wss {
            let secured = server.accept(stream).await.expect("TLS");
            Far::Secured(Box::new(bare(secured.0, Role::Server).await))
        } else {
            Far::Plain(Box::new(
                tokio_tungstenite::accept_async(stream).await.expect("an upgrade"),
            ))
        };
        tokio::spawn(far.answer(None));
    }
}

/// Takes WebSockets, and answers each message by what the program at `next` answers.
pub(crate) async fn relay(pipe: Pipe, next: u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    say("listening on", listener.local_addr().expect("a bound address").port());
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            stream.set_nodelay(true).expect("a fresh socket");
            let near = Far::Plain(Box::new(
                tokio_tungstenite::accept_async(stream).await.expect("an upgrade"),
            ));
            near.answer(Some(Far::to(pipe, next).await)).await;
        });
    }
}

/// How the parent learns something.
#[expect(clippy::print_stdout, reason = "it is read by the parent")]
pub(crate) fn say(words: &str, value: impl Display) {
    println!("{words} {value}");
}
