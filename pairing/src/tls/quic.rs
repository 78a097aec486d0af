//! The same TLS inside QUIC: which configuration each side uses, and what a connection says of itself. The native language
//! has its own name for ALPN, browsers have that of HTTP/3.

use quinn::crypto::rustls::{HandshakeData, NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use rustls::pki_types::CertificateDer;
use rustls::{Error as RustlsError, ServerConfig};

use super::{ALPN, ALPN_HTTP3, EXPORTER, Server, Trust, client_config, ed25519_key};
use crate::link::Facts;
use crate::proven::Language;

impl Server {
    /// The gateway's side.
    pub(crate) fn quic(&self) -> Result<QuicServerConfig, NoInitialCipherSuite> {
        let mut config = ServerConfig::clone(self.acceptor.config());
        config.alpn_protocols = vec![ALPN.to_vec(), ALPN_HTTP3.to_vec()];
        QuicServerConfig::try_from(config)
    }
}

/// A native client's side.
pub(crate) fn client(trust: Trust) -> Result<QuicClientConfig, RustlsError> {
    QuicClientConfig::try_from(client_config(trust)?).map_err(|error| RustlsError::General(error.to_string()))
}

/// What an established connection says; none when it speaks neither language.
pub(crate) fn facts(connection: &quinn::Connection) -> Option<Facts> {
    let handshake = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    let language = match handshake.protocol.as_deref() {
        Some(ALPN) => Language::Native,
        Some(ALPN_HTTP3) => Language::Dialect,
        Some(_) | None => return None,
    };
    let mut exporter = [0; 32];
    connection.export_keying_material(&mut exporter, EXPORTER, b"").ok()?;
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let key = chain.and_then(|chain| chain.first().and_then(|certificate| ed25519_key(certificate).ok()));
    Some(Facts {
        exporter: Some(exporter),
        certificate_key: key,
        language: Some(language),
    })
}
