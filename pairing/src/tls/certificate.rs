//! The ordinary certificate of the gateway, where it is kept, and the fingerprint that clients pin.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use atoll_protocol::hex::{self, Hex};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};

use super::validity::Validity;
use super::{TlsError, file_error};
use crate::identity::place;

/// The life of a certificate that clients pin for good.
const LASTING: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// The SHA-256 of a certificate's DER. Reads 64 hex digits with or without colons, after an optional `sha256:`, in any
/// case; writes `sha256:` and lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub(super) [u8; 32]);

impl Fingerprint {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// 64 lower-case hex digits.
    pub fn hex(&self) -> String {
        hex::encode(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        Hex(&self.0).fmt(f)
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
    validity: Option<Validity>,
}

impl WebCertificate {
    /// A self-signed P-256 certificate for `names` (host names and addresses), gone with the program.
    ///
    /// # Errors
    /// A name that no certificate can hold.
    pub fn ephemeral(names: &[String]) -> Result<Self, TlsError> {
        let made = Made::sign(CertificateParams::new(names.to_vec())?)?;
        Self::new(
            vec![made.certificate],
            PrivatePkcs8KeyDer::from(made.key.to_vec()).into(),
        )
    }

    /// Makes a self-signed certificate that lives for years, for an owner whose clients pin it: chain and key in new files.
    ///
    /// # Errors
    /// A file cannot be written, or is there already.
    pub fn make_lasting(names: &[String], now_ms: u64, chain: &Path, key: &Path) -> Result<(), TlsError> {
        let now = Duration::from_millis(now_ms);
        let made = Made::new(names, now.saturating_sub(Duration::from_secs(60 * 60)), now + LASTING)?;
        put(key, made.key_pem().as_bytes())?;
        put(chain, made.certificate_pem().as_bytes())
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

    /// When it ends, Unix milliseconds; none where that cannot be read.
    pub fn not_after_ms(&self) -> Option<u64> {
        self.validity.map(|validity| validity.not_after_ms)
    }

    pub(super) fn validity(&self) -> Option<Validity> {
        self.validity
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        let first = chain.first();
        let fingerprint = first.map_or(Fingerprint([0; 32]), Fingerprint::of);
        let validity = first.and_then(|certificate| Validity::of(certificate));
        let key = Arc::new(CertifiedKey::from_der(chain, key, &ring::default_provider())?);
        Ok(Self {
            key,
            fingerprint,
            validity,
        })
    }
}

/// A new certificate and its key, not kept anywhere yet.
pub(super) struct Made {
    certificate: CertificateDer<'static>,
    key: Zeroizing<Vec<u8>>,
}

impl Made {
    /// Self-signed, P-256, good between two moments since 1970.
    pub(super) fn new(names: &[String], from: Duration, until: Duration) -> Result<Self, TlsError> {
        let mut params = CertificateParams::new(names.to_vec())?;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + from;
        params.not_after = epoch + until;
        Self::sign(params)
    }

    fn sign(mut params: CertificateParams) -> Result<Self, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        params.distinguished_name.push(DnType::CommonName, "atoll-gateway");
        let certificate = params.self_signed(&key)?.der().clone();
        let key = Zeroizing::new(key.serialize_der());
        Ok(Self { certificate, key })
    }

    /// Writes both into a new file of mode 0600.
    pub(super) fn place(&self, path: &Path) -> Result<(), TlsError> {
        let text = Zeroizing::new(self.certificate_pem() + &self.key_pem());
        put(path, text.as_bytes())
    }

    fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem("PRIVATE KEY", &self.key))
    }
}

fn put(path: &Path, text: &[u8]) -> Result<(), TlsError> {
    place(path, text).map_err(|source| file_error(path, source))
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
    fs::read(path)
        .map(Zeroizing::new)
        .map_err(|source| file_error(path, source))
}

fn content(path: &Path, what: &'static str) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        what,
    }
}
