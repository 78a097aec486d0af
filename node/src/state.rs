//! The node's folder on disk: `identity.key`, `gateways.json`, `status.json`, `node.lock`, and the files of others in it. Owns who may
//! use it (one daemon at a time, no other user) and how files in it are replaced.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use atoll_pairing::identity::{Identity, IdentityError};

mod gateways;
mod status;

pub use gateways::{Gateways, Known, Remembered, Way};
pub use status::{Phase, Status};

/// How often a taken lock is tried again.
const LOCK_TRIES: u32 = 10;

/// Between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The folder, not locked: what short commands use.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

/// The folder, used by this daemon alone for as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Two daemons would answer as one device.
    #[error("another atoll-node runs in {path}; stop it first, or give this one its own folder with --state-dir")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Somebody else could put rules or keys there.
    #[error("{path} can be written by others (mode {mode:03o}); run: chmod 700 {path}")]
    TooOpen {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// No key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file of ours does not parse.
    #[error("{path} cannot be read as it is: {reason}; repair it, or move it away and pair again")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file system said no.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl StateDir {
    /// Makes the folder, for this user alone, where there is none.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        create_private(path).map_err(|source| StateError::Io {
            action: "create",
            path: path.to_owned(),
            source,
        })?;
        check_mode(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This device's key; made the first time.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn identity(&self) -> Result<Identity, StateError> {
        Ok(Identity::load_or_create(&self.identity_path())?)
    }

    /// Where the key is.
    pub fn identity_path(&self) -> PathBuf {
        self.path.join("identity.key")
    }

    /// Takes the folder for one daemon.
    ///
    /// # Errors
    /// [`StateError::InUse`] while another one runs.
    pub fn lock(&self) -> Result<Lock, StateError> {
        let path = self.path.join("node.lock");
        let io = |source| StateError::Io {
            action: "lock",
            path: path.clone(),
            source,
        };
        let mut file = private(OpenOptions::new().create(true).write(true))
            .open(&path)
            .map_err(io)?;
        match take(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::InUse {
                    path: self.path.clone(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        // For whoever looks; the lock itself is the system's and ends with the process.
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(io)?;
        Ok(Lock { _file: file })
    }

    /// Whether a daemon has the folder.
    pub fn is_in_use(&self) -> bool {
        let file = OpenOptions::new().write(true).open(self.path.join("node.lock"));
        file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// The gateways that this node knows.
    ///
    /// # Errors
    /// A file that does not parse is never taken for an empty one: that would forget whom to trust.
    pub fn gateways(&self) -> Result<Gateways, StateError> {
        Gateways::load(self.path.join("gateways.json"))
    }

    /// What the daemon last wrote of itself; none before its first start.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn status(&self) -> Result<Option<Status>, StateError> {
        let path = self.status_path();
        let Some(text) = read(&path)? else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| StateError::Malformed {
                path,
                reason: error.to_string(),
            })
    }

    /// Replaces it.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn write_status(&self, status: &Status) -> Result<(), StateError> {
        replace(&self.status_path(), &json_text(status))
    }

    fn status_path(&self) -> PathBuf {
        self.path.join("status.json")
    }
}

/// Takes a lock. A daemon that was killed while it started a program leaves it locked until that program has begun, a moment later.
fn take(file: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            taken => return taken,
        }
    }
    file.try_lock()
}

/// The time as people and other machines write it down: Unix milliseconds.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The text of a file; none when there is no file.
fn read(path: &Path) -> Result<Option<String>, StateError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

pub(crate) fn json_text(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("our own types have text keys, so they always serialise");
    text.push('\n');
    text
}

/// Replaces a file in one step that survives a crash; only this user can read it.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), StateError> {
    let draft = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4()));
    let written = private(OpenOptions::new().create_new(true).write(true))
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    let done = written.and_then(|()| fs::rename(&draft, path));
    if done.is_err() {
        let _ = fs::remove_file(&draft);
    }
    done.map_err(|source| StateError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), StateError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = fs::metadata(path).map_err(|source| StateError::Io {
        action: "inspect",
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o022 == 0 {
        Ok(())
    } else {
        Err(StateError::TooOpen {
            path: path.to_owned(),
            mode,
        })
    }
}

#[cfg(not(unix))]
fn check_mode(_path: &Path) -> Result<(), StateError> {
    Ok(()) // the user's profile folder is closed to others by its own access list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_at_a_time_uses_a_folder() {
        let folder = tempfile::tempdir().expect("folder");
        let state = StateDir::open(&folder.path().join("new/state")).expect("made");
        let lock = state.lock().expect("free");
        assert!(matches!(state.lock(), Err(StateError::InUse { .. })));
        drop(lock);
        state.lock().expect("free again");
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_is_made_for_this_user_alone_and_refused_when_others_can_write() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state");
        StateDir::open(&path).expect("made");
        assert_eq!(fs::metadata(&path).expect("exists").permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).expect("changed");
        assert!(matches!(
            StateDir::open(&path),
            Err(StateError::TooOpen { mode: 0o770, .. })
        ));
    }
}
