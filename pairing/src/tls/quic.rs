//! The same TLS inside QUIC: which configuration each side uses, and what a connection says of itself. Only the native language
//! runs over QUIC; the resolver already picks by ALPN, so another name can be added to the list here.

use quinn::crypto::rustls::{HandshakeData, NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use rustls::pki_types::CertificateDer;
use rustls::{Error as RustlsError, ServerConfig};

use super::{ALPN, EXPORTER, Server, Trust, client_config, ed25519_key};
use crate::link::Facts;
use crate::proven::Language;

impl Server {
    /// The gateway's side.
    pub(crate) fn quic(&self) -> Result<QuicServerConfig, NoInitialCipherSuite> {
        let mut config = ServerConfig::clone(self.acceptor.config());
        config.alpn_protocols = vec![ALPN.to_vec()];
        QuicServerConfig::try_from(config)
    }
}

/// A native client's side.
pub(crate) fn client(trust: Trust) -> Result<QuicClientConfig, RustlsError> {
    QuicClientConfig::try_from(client_config(trust)?).map_err(|error| RustlsError::General(error.to_string()))
}

/// What an established connection says; none when it does not speak the native language.
pub(crate) fn facts(connection: &quinn::Connection) -> Option<Facts> {
    let handshake = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    if handshake.protocol.as_deref() != Some(ALPN) {
        return None;
    }
    let mut exporter = [0; 32];
    connection.export_keying_material(&mut exporter, EXPORTER, b"").ok()?;
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let key = chain.and_then(|chain| chain.first().and_then(|certificate| ed25519_key(certificate).ok()));
    Some(Facts {
        exporter: Some(exporter),
        certificate_key: key,
        language: Some(Language::Native),
    })
}
