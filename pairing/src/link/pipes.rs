//! Both ends of a pipe of each kind, for tests of what holds over every one of them.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};

use super::quic::Listener;
use super::ws::{self, fixture};
use super::{Facts, Message, Pipe, memory, quic};
use crate::identity::Identity;
use crate::proven::Language;
use crate::tls::{self, Server, Trust, WebCertificate};

/// The kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Ws,
    Wss,
    Quic,
}

/// The same scenario over every pipe: an `async fn` of a [`Kind`] becomes a module of four tests.
macro_rules! over_every_pipe {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use $crate::link::pipes::Kind;

            #[tokio::test]
            async fn over_memory() {
                super::$name(Kind::Memory).await;
            }

            #[tokio::test]
            async fn over_ws() {
                super::$name(Kind::Ws).await;
            }

            #[tokio::test]
            async fn over_wss() {
                super::$name(Kind::Wss).await;
            }

            #[tokio::test]
            async fn over_quic() {
                super::$name(Kind::Quic).await;
            }
        }
    )*};
}
pub(crate) use over_every_pipe;

/// The gateway's end and that of a client that trusts it, for the native language; nothing said yet.
pub(crate) async fn pair(kind: Kind, gateway: &Identity) -> (Pipe, Pipe) {
    match kind {
        Kind::Memory => memory::pair(Facts {
            language: Some(Language::Native),
            ..Facts::default()
        }),
        Kind::Ws => {
            let (near, far) = tcp().await;
            fixture::pair_over(near, far, Language::Native).await
        }
        Kind::Wss => {
            let (near, far) = tcp().await;
            let server = server(gateway);
            let trust = Trust::Device(gateway.public_key());
            let (near, far) = tokio::join!(server.accept(near), tls::connect(far, "localhost", trust));
            let ((near, near_facts), (far, far_facts)) = (near.unwrap(), far.unwrap());
            let client = ws::upgrade(far, "localhost", "/", Language::Native, far_facts);
            let (near, far) = tokio::join!(fixture::serve(near, near_facts), client);
            (near, far.unwrap())
        }
        Kind::Quic => over_quic(gateway).await,
    }
}

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, far)
}

fn server(gateway: &Identity) -> Server {
    let web = WebCertificate::ephemeral(&["localhost".to_owned()]).unwrap();
    Server::new(gateway, &web).unwrap()
}

/// A stream is there for the other end once something was said on it.
async fn over_quic(gateway: &Identity) -> (Pipe, Pipe) {
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = Listener::bind(any, &server(gateway), gateway).unwrap();
    let port = listener.address().unwrap().port();
    let accepting = async { listener.accept().await.unwrap().open().await.unwrap().native().unwrap() };
    let connecting = async {
        let trust = Trust::Device(gateway.public_key());
        let mut pipe = quic::connect("127.0.0.1", port, trust).await.unwrap();
        pipe.send(Message::Binary(b"hello".to_vec())).await.unwrap();
        pipe
    };
    let (mut near, far) = tokio::join!(accepting, connecting);
    near.recv().await.unwrap();
    (near, far)
}
