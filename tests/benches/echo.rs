//! The bare thing that calls are compared with: an operator, a relay and an echo, three processes with nothing between
//! them but WebSockets on the loopback address.

use atoll_tests::program::Program;
use atoll_tests::wait::within;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_tungstenite::WebSocketStream;

/// A running chain, and the port where it begins.
pub(crate) struct Chain {
    pub(crate) port: u16,
    _programs: Vec<Program>,
}

impl Chain {
    pub(crate) async fn start() -> Self {
        let (echo, port) = child(&["echo"]).await;
        let (relay, port) = child(&["relay", &port.to_string()]).await;
        Self {
            port,
            _programs: vec![echo, relay],
        }
    }

    /// The last link of it alone.
    pub(crate) async fn echo() -> Self {
        let (echo, port) = child(&["echo"]).await;
        Self {
            port,
            _programs: vec![echo],
        }
    }
}

async fn child(arguments: &[&str]) -> (Program, u16) {
    let mut command = Command::new(std::env::current_exe().expect("a running program has a path"));
    command.args(arguments);
    let program = Program::start(arguments[0], command);
    let line = program.line("listening on ").await;
    let port = line.rsplit(' ').next().and_then(|port| port.parse().ok());
    (program, port.expect("a port at the end of the line"))
}

/// A plain WebSocket to a loopback port.
pub(crate) async fn dial(port: u16) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a listener");
    stream.set_nodelay(true).expect("a fresh socket");
    let opening = tokio_tungstenite::client_async(format!("ws://127.0.0.1:{port}"), stream);
    within("an upgrade", opening).await.expect("an upgrade").0
}

/// Answers every message: itself, or by what the program at `next` answers.
#[expect(clippy::print_stdout, reason = "how the parent learns the port")]
pub(crate) async fn serve(next: Option<u16>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    println!(
        "listening on {}",
        listener.local_addr().expect("a bound address").port()
    );
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            stream.set_nodelay(true).expect("a fresh socket");
            let mut socket = tokio_tungstenite::accept_async(stream).await.expect("an upgrade");
            let mut onward = match next {
                Some(port) => Some(dial(port).await),
                None => None,
            };
            while let Some(Ok(message)) = socket.next().await {
                let answer = match &mut onward {
                    Some(onward) => {
                        onward.send(message).await.expect("a living chain");
                        onward.next().await.expect("a living chain").expect("a living chain")
                    }
                    None => message,
                };
                if socket.send(answer).await.is_err() {
                    break;
                }
            }
        });
    }
}
