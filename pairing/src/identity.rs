//! This device's Ed25519 key: made once, kept in one file that only its owner can read, and never made again.
//!
//! Also the only place that verifies a signature of another device. Never decides what a key may do.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use atoll_protocol::frame::SignedPlan;
use atoll_protocol::id::DeviceId;
use atoll_protocol::plan::{self, Plan};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};

use crate::proven::DeviceKey;

/// What the file starts with; the seed follows in base64url, then a line feed.
const HEADER: &str = "atoll-ed25519-1:";

/// PKCS#8 version 1 for Ed25519 up to the 32-byte seed (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A private key and the device id that follows from it. The key is wiped from memory on drop.
pub struct Identity {
    key: SigningKey,
    device: DeviceKey,
}

/// Why there is no identity. None of these is ever answered by making a new key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Others can read it, so it may have been copied.
    #[error("{path} can be read by others (mode {mode:03o}); if nobody has copied it, run: chmod 600 {path}")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key. The device would get another id with a new one, so only a person may delete it.
    #[error("{path} is not an identity file; restore it from a backup, or delete it and pair this device again")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
}

impl Identity {
    /// Reads the key at `path`, or makes one there with mode 0600 when there is no file.
    ///
    /// Two programs that start at once end up with the same key.
    ///
    /// # Errors
    /// See [`IdentityError`]; a file that exists is never replaced.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match File::open(path) {
            Ok(file) => Self::load(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(source) => Err(io_error("open", path, source)),
        }
    }

    /// A key from its 32-byte seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let device = device_key(key.verifying_key().to_bytes());
        Self { key, device }
    }

    /// SHA-256 of the public key.
    pub fn device_id(&self) -> DeviceId {
        self.device.id
    }

    /// The raw Ed25519 public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.device.public_key
    }

    /// Both of them.
    pub fn device(&self) -> DeviceKey {
        self.device
    }

    /// Signs `context` followed by `message`. The context says what the signature is for and ends with a zero
    /// byte, so that no signature can be used for anything else.
    pub fn sign(&self, context: &'static [u8], message: &[u8]) -> [u8; 64] {
        debug_assert!(context.last() == Some(&0), "a context ends with a zero byte");
        self.key.sign(&[context, message].concat()).to_bytes()
    }

    /// Signs what a person approved.
    pub fn sign_plan(&self, plan: &Plan) -> SignedPlan {
        let encoded = plan.encode();
        let signature = self.sign(plan::CONTEXT, &encoded).to_vec();
        SignedPlan {
            plan: encoded,
            signature,
        }
    }

    /// Signs the dialect's text, which begins with `v3|` or `v2|` and so is like no context of ours.
    pub(crate) fn sign_text(&self, text: &str) -> [u8; 64] {
        debug_assert!(text.starts_with("v3|") || text.starts_with("v2|"));
        self.key.sign(text.as_bytes()).to_bytes()
    }

    /// The private key in the form that TLS takes.
    pub(crate) fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&PKCS8_PREFIX[..], self.key.as_bytes()].concat())
    }

    /// A secret of this device for one purpose, the same at every start. The context ends with a zero byte.
    pub(crate) fn derive(&self, context: &'static [u8]) -> Zeroizing<[u8; 32]> {
        debug_assert!(context.last() == Some(&0), "a context ends with a zero byte");
        let digest = Sha256::new().chain_update(context).chain_update(self.key.as_bytes());
        Zeroizing::new(digest.finalize().into())
    }

    fn load(path: &Path, file: File) -> Result<Self, IdentityError> {
        check_mode(path, &file)?;
        let mut text = Zeroizing::new(String::new());
        // A little more than an identity file has, so that a huge file is malformed and not read whole.
        file.take(256).read_to_string(&mut text).map_err(|source| {
            if source.kind() == io::ErrorKind::InvalidData {
                IdentityError::Malformed { path: path.to_owned() }
            } else {
                io_error("read", path, source)
            }
        })?;
        let seed = decode_seed(&text).ok_or_else(|| IdentityError::Malformed { path: path.to_owned() })?;
        Ok(Self::from_seed(&seed))
    }

    fn create(path: &Path) -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(IdentityError::Random)?;
        let text = Zeroizing::new(format!("{HEADER}{}\n", URL_SAFE_NO_PAD.encode(*seed)));
        match place(path, text.as_bytes()) {
            Ok(()) => Ok(Self::from_seed(&seed)),
            // Another program was faster: its key is this device's.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = File::open(path).map_err(|source| io_error("open", path, source))?;
                Self::load(path, file)
            }
            Err(source) => Err(io_error("create", path, source)),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.device.id.short())
    }
}

/// The id of the device that holds the private half of `public_key`.
pub fn device_id_of(public_key: &[u8; 32]) -> DeviceId {
    DeviceId::from_digest(Sha256::digest(public_key).into())
}

/// A public key with its id.
pub fn device_key(public_key: [u8; 32]) -> DeviceKey {
    DeviceKey {
        id: device_id_of(&public_key),
        public_key,
    }
}

/// The signature was not made by this key over these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold")]
pub struct BadSignature;

/// Checks a signature made by [`Identity::sign`].
///
/// # Errors
/// [`BadSignature`], also for a weak key or a signature in a non-canonical form.
pub fn verify(
    public_key: &[u8; 32],
    context: &'static [u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), BadSignature> {
    verify_bytes(public_key, &[context, message].concat(), signature)
}

/// Checks the signature of the gateway with `public_key` and reads the plan under it.
///
/// # Errors
/// [`BadSignature`], also when what was signed is not a plan.
pub fn open_plan(public_key: &[u8; 32], signed: &SignedPlan) -> Result<Plan, BadSignature> {
    verify(public_key, plan::CONTEXT, &signed.plan, &signed.signature)?;
    Plan::decode(&signed.plan).ok_or(BadSignature)
}

/// Checks a signature over exactly these bytes.
pub(crate) fn verify_bytes(public_key: &[u8; 32], bytes: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    let signature = Signature::from_slice(signature).map_err(|_| BadSignature)?;
    VerifyingKey::from_bytes(public_key)
        .and_then(|key| key.verify_strict(bytes, &signature))
        .map_err(|_| BadSignature)
}

fn decode_seed(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let encoded = text.strip_prefix(HEADER)?.strip_suffix('\n')?;
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).ok()?);
    <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> IdentityError {
    IdentityError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(unix)]
fn check_mode(path: &Path, file: &File) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().map_err(|source| io_error("inspect", path, source))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(IdentityError::TooOpen {
            path: path.to_owned(),
            mode,
        })
    }
}

#[cfg(not(unix))]
fn check_mode(_path: &Path, _file: &File) -> Result<(), IdentityError> {
    Ok(()) // the user's profile folder is closed to others by its own access list
}

/// Puts `content` at `path` whole or not at all; `AlreadyExists` when something is there.
pub(crate) fn place(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let draft = folder.join(format!(".identity-{}", URL_SAFE_NO_PAD.encode(random)));
    write_new(&draft, content)?;
    // A link, unlike a rename, never replaces what is there.
    let placed = match fs::hard_link(&draft, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => write_new(path, content), // Android has no hard links
        linked => linked,
    };
    fs::remove_file(&draft)?;
    placed?;
    sync_folder(folder)
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(()) // a folder cannot be opened for this there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/identity.key");
        let made = Identity::load_or_create(&path).unwrap();
        let found = Identity::load_or_create(&path).unwrap();
        assert_eq!(made.device(), found.device());
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "no draft is left behind");
    }

    #[test]
    fn programs_that_start_at_once_share_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        let ids: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Identity::load_or_create(&path).unwrap().device_id()))
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        Identity::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err();
            assert!(matches!(error, IdentityError::TooOpen { mode: found, .. } if found == mode));
        }
    }

    #[test]
    fn a_broken_file_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        for broken in [&b""[..], b"atoll-ed25519-1:AAAA\n", b"\xff\xfe", b"atoll-ed25519-1:"] {
            fs::remove_file(&path).ok();
            write_new(&path, broken).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err();
            assert!(matches!(error, IdentityError::Malformed { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), broken);
        }
    }

    #[test]
    fn the_device_id_is_the_one_of_the_reference_vector() {
        let seed = std::array::from_fn(|index| index as u8);
        let identity = Identity::from_seed(&seed);
        assert_eq!(
            URL_SAFE_NO_PAD.encode(identity.public_key()),
            "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
        );
        assert_eq!(
            identity.device_id().to_string(),
            "56475aa75463474c0285df5dbf2bcab73da651358839e9b77481b2eab107708c"
        );
    }

    #[test]
    fn debug_shows_the_short_id_and_no_key() {
        let identity = Identity::from_seed(&[7; 32]);
        assert_eq!(
            format!("{identity:?}"),
            format!("Identity({})", identity.device_id().short())
        );
    }

    #[test]
    fn a_signature_is_good_for_one_context_one_message_and_one_key() {
        let identity = Identity::from_seed(&[7; 32]);
        let signature = identity.sign(b"a\0", b"text");
        let key = identity.public_key();
        assert_eq!(verify(&key, b"a\0", b"text", &signature), Ok(()));
        assert_eq!(verify(&key, b"b\0", b"text", &signature), Err(BadSignature));
        assert_eq!(verify(&key, b"a\0", b"texT", &signature), Err(BadSignature));
        assert_eq!(verify(&key, b"a\0", b"text", &signature[1..]), Err(BadSignature));
        let other = Identity::from_seed(&[8; 32]).public_key();
        assert_eq!(verify(&other, b"a\0", b"text", &signature), Err(BadSignature));
    }

    #[test]
    fn a_weak_key_proves_nothing() {
        // The neutral element: every message has a "valid" signature under it by the loose equation.
        let mut weak = [0; 32];
        weak[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert_eq!(verify(&weak, b"a\0", b"anything", &signature), Err(BadSignature));
    }
}
