//! The bare thing that blobs are compared with: two processes and one stream between them on the loopback address, from memory into
//! nothing. QUIC is quinn as it comes, TLS is rustls over TCP; no files, no hashes, no frames, no window but theirs.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use atoll_pairing::identity::Identity;
use atoll_pairing::tls::{self, Server, Trust, WebCertificate};
use atoll_tests::mesh::Pipe;
use atoll_tests::wait::within;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quinn::{ClientConfig, Endpoint, ServerConfig};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::echo::{begin, said, say, word};

/// Bytes that are given to a stream at once.
const PART: usize = 64 * 1024;

/// The name in the certificate.
const NAME: &str = "localhost";

/// How long `size` bytes take from one process to another over a bare stream of that pipe, the first handshake not counted.
pub(crate) async fn seconds(pipe: Pipe, size: usize) -> f64 {
    let sink = begin(&["sink", word(pipe)]);
    let certificate: String = said(&sink, "certificate ").await;
    let port: u16 = said(&sink, "listening on ").await;
    let source = begin(&["source", word(pipe), &port.to_string(), &certificate, &size.to_string()]);
    said(&source, "took ").await
}

/// Takes one stream after the other, and says so when one has ended.
pub(crate) async fn sink(pipe: Pipe) {
    match pipe {
        Pipe::Quic => quic_sink().await,
        Pipe::Wss => tls_sink().await,
        Pipe::Ws | Pipe::Any => panic!("there is no bare stream of that kind"),
    }
}

/// Sends `size` bytes there and says how long they took.
pub(crate) async fn source(pipe: Pipe, port: u16, certificate: &str, size: usize) {
    let took = if pipe == Pipe::Quic {
        let client = client(certificate);
        let connecting = client.connect((Ipv4Addr::LOCALHOST, port).into(), NAME);
        let connection = connecting.expect("an address").await.expect("a sink");
        let (mut to, mut from) = connection.open_bi().await.expect("a stream");
        timed(&mut to, &mut from, size).await
    } else {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a sink");
        let (stream, _) = tls::connect(stream, NAME, Trust::AnyDevice).await.expect("TLS");
        let (mut from, mut to) = tokio::io::split(stream);
        timed(&mut to, &mut from, size).await
    };
    say("took", took.expect("a living sink"));
}

async fn timed(
    to: &mut (impl AsyncWrite + Unpin),
    from: &mut (impl AsyncRead + Unpin),
    size: usize,
) -> io::Result<f64> {
    let part = [0x5a; PART];
    let started = Instant::now();
    to.write_all(&size.to_be_bytes()).await?;
    for _ in 0..size / PART {
        to.write_all(&part).await?;
    }
    to.flush().await?;
    from.read_u8().await?;
    Ok(started.elapsed().as_secs_f64())
}

/// Reads as much as was announced, and says when that is here.
async fn swallow(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut left = usize::try_from(from.read_u64().await?).map_err(io::Error::other)?;
    let mut buffer = vec![0; PART];
    while left > 0 {
        left -= match from.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => count,
        };
    }
    to.write_u8(1).await?;
    to.flush().await?;
    // The other end leaves first, so that nothing is cut off.
    let _ = from.read_u8().await;
    Ok(())
}

fn client(certificate: &str) -> Endpoint {
    let certificate = STANDARD.decode(certificate).expect("base64");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate)).expect("a certificate");
    let mut client = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    client.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots)).expect("a provider"));
    client
}

async fn quic_sink() {
    let key = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).expect("a certificate");
    let certificate = key.cert.der().clone();
    let private = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let config = ServerConfig::with_single_cert(vec![certificate.clone()], private.into()).expect("a key");
    let server = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    say("certificate", STANDARD.encode(&certificate));
    say("listening on", server.local_addr().expect("a bound address").port());
    while let Some(knock) = server.accept().await {
        let connection = knock.await.expect("a source");
        let (mut to, mut from) = connection.accept_bi().await.expect("a stream");
        swallow(&mut from, &mut to).await.expect("a whole stream");
    }
}

async fn tls_sink() {
    let web = WebCertificate::ephemeral(&[NAME.to_owned()]).expect("a certificate");
    let server = Server::new(&Identity::from_seed(&[1; 32]), &web).expect("a key");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    say("certificate", "none");
    say("listening on", listener.local_addr().expect("a bound address").port());
    while let Ok((stream, _)) = listener.accept().await {
        let (stream, _) = within("TLS", server.accept(stream)).await.expect("TLS");
        let (mut from, mut to) = tokio::io::split(stream);
        swallow(&mut from, &mut to).await.expect("a whole stream");
    }
}
