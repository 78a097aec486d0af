//! The ordinary certificate of the gateway, where it is kept, and the fingerprint that clients pin.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};

use super::TlsError;
use crate::identity::place;

/// The SHA-256 of a certificate's DER. Reads 64 hex digits with or without colons, after an optional `sha256:`, in any
/// case; writes `sha256:` and lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub(super) [u8; 32]);

impl Fingerprint {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate fingerprint is 64 hex digits (a SHA-256), with or without colons and a leading sha256:")]
pub struct BadFingerprint;

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.strip_prefix("sha256:").unwrap_or(&lower).replace(':', "");
        let id: atoll_protocol::id::DeviceId = digits.parse().map_err(|_| BadFingerprint)?;
        Ok(Self(*id.as_bytes()))
    }
}

/// The ordinary certificate: for browsers, OpenClaw's programs and whoever else does not speak `atoll/1`.
#[derive(Debug)]
pub struct WebCertificate {
    pub(super) key: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
}

impl WebCertificate {
    /// A self-signed P-256 certificate for `names` (host names and addresses), gone with the program.
    ///
    /// # Errors
    /// A name that no certificate can hold.
    pub fn ephemeral(names: &[String]) -> Result<Self, TlsError> {
        let (chain, key) = make_web(names)?;
        Self::new(vec![chain], PrivatePkcs8KeyDer::from(key.to_vec()).into())
    }

    /// The same, kept in one PEM file of mode 0600 so that clients which pinned it still know it after a restart.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds something else; it is never replaced.
    pub fn load_or_create(path: &Path, names: &[String]) -> Result<Self, TlsError> {
        let file_error = |source| TlsError::File {
            path: path.to_owned(),
            source,
        };
        if !path.try_exists().map_err(file_error)? {
            let (certificate, key) = make_web(names)?;
            let text = Zeroizing::new(pem("CERTIFICATE", &certificate) + &pem("PRIVATE KEY", &key));
            match place(path, text.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(file_error(error)),
                Ok(()) | Err(_) => {}
            }
        }
        Self::from_pem_files(path, path)
    }

    /// A certificate chain and its key that the owner brought.
    ///
    /// # Errors
    /// A file cannot be read, holds something else, or the two do not fit.
    pub fn from_pem_files(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(chain)?).flatten().collect();
        if certificates.is_empty() {
            return Err(content(chain, "certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| content(key, "private key"))?;
        Self::new(certificates, key)
    }

    /// What clients pin.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        let fingerprint = chain.first().map_or(Fingerprint([0; 32]), Fingerprint::of);
        let key = Arc::new(CertifiedKey::from_der(chain, key, &ring::default_provider())?);
        Ok(Self { key, fingerprint })
    }
}

fn make_web(names: &[String]) -> Result<(CertificateDer<'static>, Zeroizing<Vec<u8>>), TlsError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, "atoll-gateway");
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().clone(), Zeroizing::new(key.serialize_der())))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem + &format!("-----END {label}-----\n")
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    fs::read(path).map(Zeroizing::new).map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

fn content(path: &Path, what: &'static str) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        what,
    }
}
