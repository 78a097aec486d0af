//! TLS for links: which certificate the gateway shows, and what a client takes for the right one.
//!
//! One listener serves two worlds, told apart by ALPN. A native link sees a certificate that carries nothing but the
//! gateway's device key and is compared by that key alone: no names, no dates, no authority. Everybody else sees an ordinary
//! certificate that is pinned by its SHA-256. Never decides who the peer is: the handshake does, bound to this channel by the exporter.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as RustlsError, ProtocolVersion, ServerConfig,
    SignatureScheme,
};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::identity::Identity;
use crate::link::Facts;
use crate::link::ws::Io;
use crate::proven::Language;

mod certificate;
pub(crate) mod quic;
mod rotation;
mod validity;

pub use certificate::{BadFingerprint, Fingerprint, WebCertificate};
pub use rotation::Rotation;

/// What a native client asks for, and what picks the device-key certificate.
pub const ALPN: &[u8] = b"atoll/1";

/// What everybody else may ask for.
const ALPN_HTTP: &[u8] = b"http/1.1";

/// What browsers ask for on the UDP port.
const ALPN_HTTP3: &[u8] = b"h3";

/// The label of the exporter that the handshake signs (RFC 5705; no context, 32 bytes).
const EXPORTER: &[u8] = b"EXPORTER-atoll/1";

/// SubjectPublicKeyInfo of an Ed25519 key up to its 32 bytes (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} does not hold a PEM {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Certificate and key do not fit, or are of an unknown kind.
    #[error("unusable certificate or key: {0}")]
    Key(#[from] RustlsError),
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

fn file_error(path: &Path, source: io::Error) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        source,
    }
}

/// The gateway's side of TLS.
#[derive(Clone)]
pub struct Server {
    acceptor: TlsAcceptor,
    certificates: Arc<ByAlpn>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tls::Server")
    }
}

impl Server {
    /// Serves `identity` to native clients and `web` to all others.
    ///
    /// # Errors
    /// The key is unusable.
    pub fn new(identity: &Identity, web: &WebCertificate) -> Result<Self, TlsError> {
        let certificates = Arc::new(ByAlpn {
            device: Arc::new(device_certificate(identity)?),
            web: watch::Sender::new(web.key.clone()),
        });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        config.alpn_protocols = vec![ALPN.to_vec(), ALPN_HTTP.to_vec()];
        // Thousands of links that come back at once need no state here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { acceptor, certificates })
    }

    /// Shows another certificate to everybody who connects from now on and is no native client.
    pub fn show(&self, web: &WebCertificate) {
        self.certificates.web.send_replace(web.key.clone());
    }

    /// Does the TLS handshake on an accepted connection. The caller bounds the time.
    ///
    /// # Errors
    /// What came is not TLS, or the client did not like the certificate.
    pub async fn accept<S: Io + 'static>(&self, io: S) -> io::Result<(impl Io + use<S>, Facts)> {
        let stream = self.acceptor.accept(io).await?;
        let (_, connection) = stream.get_ref();
        let facts = facts(connection, None);
        Ok((stream, facts))
    }
}

/// What a client takes for the right gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A native gateway: any device key for now, which the handshake then proves.
    AnyDevice,
    /// A native gateway with this device key.
    Device([u8; 32]),
    /// The certificate with this fingerprint, whatever it says.
    Certificate(Fingerprint),
}

/// Does the client's side of TLS. The caller bounds the time.
///
/// # Errors
/// What answers is not TLS, or not the one that is trusted.
pub async fn connect<S: Io + 'static>(io: S, host: &str, trust: Trust) -> io::Result<(impl Io + use<S>, Facts)> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(client_config(trust).map_err(io::Error::other)?));
    let stream = connector.connect(name, io).await?;
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    let key = certificate.and_then(|certificate| ed25519_key(certificate).ok());
    let facts = facts(connection, key);
    Ok((stream, facts))
}

fn client_config(trust: Trust) -> Result<ClientConfig, RustlsError> {
    let builder = ClientConfig::builder_with_provider(provider());
    let (builder, alpn) = match trust {
        Trust::AnyDevice | Trust::Device(_) => (builder.with_protocol_versions(&[&rustls::version::TLS13])?, ALPN),
        Trust::Certificate(_) => (builder.with_safe_default_protocol_versions()?, ALPN_HTTP),
    };
    let verifier = Arc::new(Verifier {
        trust,
        provider: provider(),
    });
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    // A resumed session would not show its certificate again.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn facts<Data>(connection: &rustls::ConnectionCommon<Data>, certificate_key: Option<[u8; 32]>) -> Facts {
    // The exporter of older versions can be the same on two connections (RFC 7627, section 1).
    let is_binding = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    let exporter = is_binding
        .then(|| connection.export_keying_material([0; 32], EXPORTER, None).ok())
        .flatten();
    Facts {
        exporter,
        certificate_key,
        language: (connection.alpn_protocol() == Some(ALPN)).then_some(Language::Native),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[derive(Debug)]
struct ByAlpn {
    device: Arc<CertifiedKey>,
    web: watch::Sender<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByAlpn {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_native = hello.alpn().is_some_and(|mut names| names.any(|name| name == ALPN));
        Some(if is_native {
            self.device.clone()
        } else {
            self.web.borrow().clone()
        })
    }
}

fn device_certificate(identity: &Identity) -> Result<CertifiedKey, TlsError> {
    let pkcs8 = identity.pkcs8();
    let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519)?;
    let certificate = CertificateParams::new(vec!["atoll".to_owned()])?.self_signed(&key)?;
    let chain = vec![certificate.der().clone()];
    Ok(CertifiedKey::from_der(
        chain,
        pkcs8.clone_key().into(),
        &ring::default_provider(),
    )?)
}

/// The key in a certificate that holds an Ed25519 key.
fn ed25519_key(certificate: &CertificateDer<'_>) -> Result<[u8; 32], RustlsError> {
    let spki = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    spki.strip_prefix(&SPKI_PREFIX)
        .and_then(|key| key.try_into().ok())
        .ok_or(RustlsError::InvalidCertificate(CertificateError::BadEncoding))
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        let is_right = match self.trust {
            Trust::AnyDevice => ed25519_key(certificate).map(|_| true)?,
            Trust::Device(pin) => ed25519_key(certificate)? == pin,
            Trust::Certificate(pin) => Fingerprint::of(certificate) == pin,
        };
        if is_right {
            Ok(ServerCertVerified::assertion())
        } else {
            let error = CertificateError::ApplicationVerificationFailure;
            Err(RustlsError::InvalidCertificate(error))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
