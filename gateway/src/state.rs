//! The state folder: where everything lies, who may see it, and that one gateway at most uses it. Never reads or interprets the
//! files in it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use atoll_protocol::id::AgentId;

/// Overrides the folder's place.
pub const STATE_DIR_ENV: &str = "ATOLL_STATE_DIR";

/// How often a taken lock is tried again.
const LOCK_TRIES: u32 = 10;

/// Between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Neither an option, nor the environment, nor a home says where it is.
    #[error("no state folder: HOME is not set; say where with --state-dir or {STATE_DIR_ENV}")]
    NoHome,
    /// It could not be made or looked at.
    #[error("cannot use the state folder {}: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else than a folder.
    #[error("the state folder {} is not a folder; choose another with --state-dir", .0.display())]
    NotAFolder(PathBuf),
    /// Another user could put files there.
    #[error("others can write to the state folder {}; run: chmod go-w {}", .0.display(), .0.display())]
    Writable(PathBuf),
    /// It belongs to another user.
    #[error("the state folder {} belongs to another user (uid {owner}); choose another with --state-dir", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Another gateway uses it.
    #[error(
        "another gateway ({}) uses the state folder {}; stop it with `atoll gateway stop`, or choose another folder with --state-dir",
        pid.map_or_else(|| "process unknown".to_owned(), |pid| format!("process {pid}")),
        path.display()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, where it says so.
        pid: Option<u32>,
    },
}

/// The folder, once it is known to be safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
}

/// Keeps every other gateway out of the folder as long as it lives.
#[derive(Debug)]
#[must_use = "the folder is free again when this is dropped"]
pub struct StateLock {
    _file: File,
}

impl StateDir {
    /// Finds the folder (`chosen`, else the environment's `ATOLL_STATE_DIR`, else `~/.atoll`), makes it with mode 0700 when there
    /// is none, and checks that only its owner can write to it. Sets the process's umask to 077 first.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(chosen: Option<&Path>) -> Result<Self, StateError> {
        keep_new_files_private();
        let root = locate(chosen, |name| std::env::var_os(name)).ok_or(StateError::NoHome)?;
        Self::at(&root)
    }

    fn at(root: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Io {
            path: root.to_owned(),
            source,
        };
        make_private_folder(root).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        check_owner(&root)?;
        Ok(Self { root })
    }

    /// Takes the folder for this process.
    ///
    /// # Errors
    /// [`StateError::Locked`] when another process has it, [`StateError::Io`] when the lock file cannot be used.
    pub fn lock(&self) -> Result<StateLock, StateError> {
        let path = self.root.join("gateway.lock");
        let failed = |source| StateError::Io {
            path: path.clone(),
            source,
        };
        let options = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options
        };
        let mut file = options().open(&path).map_err(failed)?;
        match take(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: a holder that cannot be read is still a holder.
                let _ = file.read_to_string(&mut holder);
                return Err(StateError::Locked {
                    path: self.root.clone(),
                    pid: holder.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(StateLock { _file: file })
    }

    /// The folder itself (absolute, without symbolic links).
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration, `atoll.json`.
    pub fn config(&self) -> PathBuf {
        self.root.join("atoll.json")
    }

    /// The journal, `state.db`.
    pub fn journal(&self) -> PathBuf {
        self.root.join("state.db")
    }

    /// The gateway's key, `identity.key`.
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity.key")
    }

    /// The socket of the local command line, `gateway.sock`.
    pub fn socket(&self) -> PathBuf {
        self.root.join("gateway.sock")
    }

    /// The transcripts of an agent, `agents/<id>/sessions`.
    pub fn sessions(&self, agent: &AgentId) -> PathBuf {
        self.agent(agent).join("sessions")
    }

    /// The model credentials of an agent, `agents/<id>/agent/auth-profiles.json`.
    pub fn auth_profiles(&self, agent: &AgentId) -> PathBuf {
        self.agent(agent).join("agent").join("auth-profiles.json")
    }

    /// The folder an agent works in unless the configuration names another, `workspace-<id>`.
    pub fn workspace(&self, agent: &AgentId) -> PathBuf {
        self.root.join(format!("workspace-{}", file_name(agent.as_str())))
    }

    /// Received and made media, `media`.
    pub fn media(&self) -> PathBuf {
        self.root.join("media")
    }

    /// Skills of every agent, `skills`.
    pub fn skills(&self) -> PathBuf {
        self.root.join("skills")
    }

    /// Log files, `logs`.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    fn agent(&self, agent: &AgentId) -> PathBuf {
        self.root.join("agents").join(file_name(agent.as_str()))
    }
}

/// A path as people write it: `~/` is the home folder.
pub fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        (Some(_), None) | (None, _) => PathBuf::from(path),
    }
}

/// Makes a folder and its parents, readable by nobody else where it is new.
///
/// # Errors
/// What the system says.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Replaces a file's content so that a crash leaves either the old or the new one: a new file beside it, flushed, renamed over it,
/// and the folder flushed. A symbolic link stays one; an existing file keeps its permissions, a new one is 0600.
///
/// # Errors
/// What the system says; then the old content is untouched.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let folder = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}-{number}.tmp", std::process::id()));
    let temporary = folder.join(temporary);
    let written = write_new(&temporary, content, fs::metadata(&target).ok());
    let renamed = written.and_then(|()| fs::rename(&temporary, &target));
    if renamed.is_err() {
        // It may not even exist; the error that matters is returned below.
        let _ = fs::remove_file(&temporary);
    }
    renamed?;
    flush_folder(folder)
}

fn write_new(path: &Path, content: &[u8], like: Option<fs::Metadata>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    if let Some(like) = like {
        file.set_permissions(like.permissions())?;
    }
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(unix)]
fn flush_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn flush_folder(_: &Path) -> io::Result<()> {
    // A folder cannot be opened as a file; the rename is journaled by the file system.
    Ok(())
}

/// Takes a lock. A gateway that was killed while it started a program leaves it locked until that program has begun, a moment later.
fn take(file: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            taken => return taken,
        }
    }
    file.try_lock()
}

fn locate(chosen: Option<&Path>, env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let named = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || named("HOME").or_else(|| named("USERPROFILE"));
    chosen
        .map(Path::to_owned)
        .or_else(|| named(STATE_DIR_ENV))
        .or_else(|| home().map(|home| home.join(".atoll")))
}

#[cfg(unix)]
fn keep_new_files_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

#[cfg(not(unix))]
fn keep_new_files_private() {
    // The profile folder's access list already keeps other users out.
}

#[cfg(unix)]
fn check_owner(root: &Path) -> Result<(), StateError> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = folder_metadata(root)?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(StateError::Foreign {
            path: root.to_owned(),
            owner: meta.uid(),
        });
    }
    if meta.mode() & 0o022 != 0 {
        return Err(StateError::Writable(root.to_owned()));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_owner(root: &Path) -> Result<(), StateError> {
    folder_metadata(root).map(drop)
}

fn folder_metadata(root: &Path) -> Result<fs::Metadata, StateError> {
    let meta = fs::metadata(root).map_err(|source| StateError::Io {
        path: root.to_owned(),
        source,
    })?;
    if !meta.is_dir() {
        return Err(StateError::NotAFolder(root.to_owned()));
    }
    Ok(meta)
}

/// An id as one path component: everything but letters, digits, `-` and `_` (and dots inside) is written as `%XX`, so that no id can
/// lead out of its folder and no two ids share one.
fn file_name(id: &str) -> String {
    let mut name = String::with_capacity(id.len());
    for (at, byte) in id.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && at > 0);
        if plain {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_environment_and_that_over_home() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                let found = pairs.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| OsString::from(value))
            }
        };
        let both: &[_] = &[(STATE_DIR_ENV, "/env"), ("HOME", "/home/ann")];
        assert_eq!(locate(Some(Path::new("/opt")), env(both)), Some("/opt".into()));
        assert_eq!(locate(None, env(both)), Some("/env".into()));
        assert_eq!(
            locate(None, env(&[(STATE_DIR_ENV, ""), ("HOME", "/h")])),
            Some("/h/.atoll".into())
        );
        assert_eq!(locate(None, env(&[])), None);
    }

    #[test]
    fn a_second_lock_says_which_process_holds_the_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = StateDir::at(&dir.path().join("s")).expect("makes it");
        let lock = state.lock().expect("free");
        let error = state.lock().expect_err("taken");
        let pid = std::process::id();
        assert!(error.to_string().contains(&format!("process {pid}")), "{error}");
        drop(lock);
        let _again = state.lock().expect("free again");
    }

    #[cfg(unix)]
    #[test]
    fn a_new_folder_is_private_and_one_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().join("a").join("b");
        StateDir::at(&root).expect("makes it");
        let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode(&root), 0o700);
        for open in [0o770, 0o702] {
            fs::set_permissions(&root, fs::Permissions::from_mode(open)).expect("sets");
            assert!(matches!(StateDir::at(&root), Err(StateError::Writable(_))), "{open:o}");
        }
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("sets");
        StateDir::at(&root).expect("readable is no danger: the files in it are private");
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().join("s");
        fs::write(&root, "").expect("writes");
        assert!(StateDir::at(&root).is_err());
    }

    #[test]
    fn an_atomic_write_replaces_the_content_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        write_atomically(&path, b"one").expect("writes");
        write_atomically(&path, b"two").expect("writes");
        assert_eq!(fs::read(&path).expect("reads"), b"two");
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn an_atomic_write_keeps_links_and_permissions() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        write_atomically(&target, b"one").expect("writes");
        let mode = || fs::metadata(&target).expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).expect("sets");
        std::os::unix::fs::symlink(&target, &link).expect("links");
        write_atomically(&link, b"two").expect("writes");
        assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
        assert_eq!((fs::read(&target).expect("reads"), mode()), (b"two".to_vec(), 0o640));
    }

    #[test]
    fn an_id_is_one_path_component_whatever_it_holds() {
        for (id, name) in [
            ("main", "main"),
            ("a.b-c_D9", "a.b-c_D9"),
            ("..", "%2E."),
            ("../x", "%2E.%2Fx"),
            ("a/b\\c", "a%2Fb%5Cc"),
            ("é", "%C3%A9"),
            ("%2E", "%252E"),
        ] {
            assert_eq!(file_name(id), name);
        }
    }
}
