//! How a hostile peer gets a connection: QUIC without any of the bounds that our own programs set themselves, TLS WebSocket and plain
//! WebSocket with the upgrade done by hand.

use std::sync::Arc;

use atoll_pairing::link::ws::{self, Io};
use atoll_pairing::tls::{self, Trust};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, ServerConfig, TransportConfig, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Line, loopback};
use crate::mesh::Pipe;
use crate::wait::within;

/// What a native client asks for.
const ALPN: &[u8] = b"atoll/1";

/// The label of the exporter that both sign.
const EXPORTER: &[u8] = b"EXPORTER-atoll/1";

/// A private Ed25519 key as PKCS8 up to its 32 bytes (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What a hostile peer lets the other end send over QUIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    /// A few bytes at once, and no stream of its own choice.
    Little,
    /// As much as can be said.
    Endless,
}

/// A connection to a gateway on which nothing has been said yet.
pub async fn stranger(pipe: Pipe, port: u16) -> Line {
    dial(pipe, port, Credit::Little).await.0
}

/// A connection to a gateway, nothing said yet, and its exporter.
pub(super) async fn dial(pipe: Pipe, port: u16, credit: Credit) -> (Line, Option<[u8; 32]>) {
    within("a connection", async {
        match pipe {
            Pipe::Quic => dial_quic(port, credit).await,
            Pipe::Wss => {
                let secured = tls::connect(tcp(port).await, "127.0.0.1", Trust::AnyDevice).await;
                let (io, facts) = secured.expect("a gateway that speaks TLS");
                (upgraded(io).await, facts.exporter)
            }
            Pipe::Ws => (upgraded(tcp(port).await).await, None),
            Pipe::Any => panic!("a hostile peer chooses"),
        }
    })
    .await
}

async fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(loopback(port))
        .await
        .expect("a gateway that listens");
    stream.set_nodelay(true).expect("a fresh socket");
    stream
}

async fn dial_quic(port: u16, credit: Credit) -> (Line, Option<[u8; 32]>) {
    let endpoint = Endpoint::client(loopback(0)).expect("a free port");
    let mut config = ClientConfig::new(Arc::new(client_tls()));
    config.transport_config(Arc::new(transport(credit)));
    let connecting = endpoint.connect_with(config, loopback(port), "localhost");
    let connection = connecting
        .expect("an address")
        .await
        .expect("a gateway that speaks QUIC");
    let exporter = exporter(&connection);
    let (control, answers) = connection.open_bi().await.expect("the first stream");
    (Line::quic(connection, control, answers, Some(endpoint)), Some(exporter))
}

pub(super) fn exporter(connection: &quinn::Connection) -> [u8; 32] {
    let mut exporter = [0; 32];
    let exported = connection.export_keying_material(&mut exporter, EXPORTER, b"");
    exported.expect("an established connection");
    exporter
}

fn transport(credit: Credit) -> TransportConfig {
    let (streams, window) = match credit {
        Credit::Little => (VarInt::from_u32(0), VarInt::from_u32(64 * 1024)),
        // More than anybody needs, in streams; the most that can be said, in bytes.
        Credit::Endless => (VarInt::from_u32(10_000), VarInt::MAX),
    };
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(streams)
        .max_concurrent_uni_streams(streams)
        .stream_receive_window(window)
        .receive_window(window)
        .send_window(u64::from(u32::MAX));
    config
}

/// A gateway's end of QUIC that shows the key of `seed` in its certificate.
pub(super) fn listen(seed: &[u8; 32]) -> Endpoint {
    let pkcs8 = [&PKCS8_PREFIX[..], seed].concat();
    let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8);
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519).expect("a key");
    let params = rcgen::CertificateParams::new(vec!["atoll".to_owned()]).expect("a name");
    let certificate = params.self_signed(&pair).expect("a certificate").der().clone();
    let builder = rustls::ServerConfig::builder_with_provider(provider());
    let builder = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3");
    let mut tls = builder
        .with_no_client_auth()
        .with_single_cert(vec![certificate], pkcs8.into())
        .expect("a certificate for its key");
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).expect("suites for QUIC");
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport(Credit::Endless)));
    Endpoint::server(config, loopback(0)).expect("a free port")
}

/// Asks for the upgrade as a native client.
async fn upgraded(mut io: impl Io + 'static) -> Line {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
        ws::SUBPROTOCOL
    );
    io.write_all(request.as_bytes()).await.expect("a gateway that listens");
    let head = head(&mut io).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    Line::ws(io, true)
}

/// Grants the upgrade that a native client asks for.
pub(super) async fn upgrade(mut io: impl Io + 'static) -> Line {
    let head = head(&mut io).await;
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let key = lines.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let accept = ws::accept_key(key.expect("a key").1);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\
         Sec-WebSocket-Protocol: {}\r\n\r\n",
        ws::SUBPROTOCOL
    );
    io.write_all(answer.as_bytes()).await.expect("a client that listens");
    Line::ws(io, false)
}

/// An HTTP head, byte by byte, so that nothing behind it is taken.
async fn head(io: &mut impl Io) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.expect("a head"));
    }
    String::from_utf8(head).expect("text")
}

fn client_tls() -> QuicClientConfig {
    let builder = rustls::ClientConfig::builder_with_provider(provider());
    let mut config = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    QuicClientConfig::try_from(config).expect("suites for QUIC")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The handshake on the connection proves the key; here it does not matter.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
