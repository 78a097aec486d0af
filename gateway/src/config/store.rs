//! The running configuration: one task owns the file, everybody else holds a handle. A broken edit of the file is reported and the last
//! good version stays in force.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::edit::{self, EditError};
use super::redact::{self, redacted};
use super::source::{self, Source};
use super::{Config, Env, Invalid, Problem, load, load_text};
use crate::state::write_atomically;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Changes that wait for the owner. More: the caller waits.
const QUEUE: usize = 16;

/// Earlier versions of the file that are kept beside it, `atoll.json.bak` the latest.
const BACKUPS: usize = 5;

/// A configuration that holds, and what it was made from.
#[derive(Clone)]
pub struct Loaded {
    /// The typed tree.
    pub config: Arc<Config>,
    /// What is only strange.
    pub warnings: Vec<Problem>,
    /// Guards a change against another one in between.
    pub hash: String,
    /// Every file that took part, the main one first.
    pub files: Vec<PathBuf>,
    text: Option<String>,
    tree: Value,
}

impl fmt::Debug for Loaded {
    /// Neither text nor tree: both hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Loaded");
        debug
            .field("files", &self.files)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    pub(super) fn new(config: Config, source: Source, warnings: Vec<Problem>) -> Self {
        Self {
            config: Arc::new(config),
            warnings,
            hash: source::hash(source.text.as_deref()),
            text: source.text,
            files: source.files,
            tree: source.tree,
        }
    }

    /// What is written, all files in one tree, every secret replaced by [`super::REDACTED`].
    pub fn redacted(&self) -> Value {
        redacted(&self.tree)
    }

    /// The main file's text with every secret replaced; none when there is no file.
    pub fn redacted_text(&self) -> Option<String> {
        let text = self.text.as_deref()?;
        // It was parsed and scanned when it was loaded; if that were not so, nothing is better than a secret.
        let tree = source::parse(text).ok()?;
        redact::redacted_text(text, &tree).ok()
    }

    /// The same tree for one key; none when it is not written.
    pub fn redacted_at(&self, path: &[String]) -> Option<Value> {
        let tree = self.redacted();
        let found = path.iter().try_fold(&tree, |value, part| match value {
            Value::Object(members) => members.get(part),
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        });
        found.cloned()
    }
}

/// One change of the file. Not `Debug`: it may carry a secret.
#[derive(Clone, PartialEq)]
pub enum Change {
    /// Another text.
    Replace(String),
    /// A JSON merge patch (RFC 7396): null removes, objects go member by member.
    Patch(Value),
    /// One value.
    Set(Vec<String>, Value),
    /// One value less.
    Unset(Vec<String>),
}

/// Why the file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The file is not the one that the caller saw.
    #[error("the configuration has changed meanwhile; read it again")]
    Stale {
        /// The hash of the file as it is.
        hash: String,
    },
    /// The result could not be used.
    #[error(transparent)]
    Invalid(Invalid),
    /// The change has no place in the file.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The placeholder of a secret stands where there was none.
    #[error("{0}: the placeholder of a secret cannot be written; write the secret, or \"${{NAME}}\"")]
    Placeholder(String),
    /// The file could not be read or written.
    #[error("cannot write the configuration: {0}")]
    Io(#[from] io::Error),
    /// The gateway is ending.
    #[error("the configuration is closed")]
    Closed,
}

/// Changes the file of a gateway that is not running.
///
/// # Errors
/// See [`ChangeError`]; then the file is as it was.
pub fn edit_file(path: &Path, change: &Change, base: Option<&str>, env: &Env) -> Result<Loaded, ChangeError> {
    let old = match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let hash = source::hash(old.as_deref());
    if base.is_some_and(|base| base != hash) {
        return Err(ChangeError::Stale { hash });
    }
    let before = old.as_deref().unwrap_or("");
    let new = restore_secrets(before, changed(before, change)?)?;
    let loaded = load_text(path, Some(new.clone()), env).map_err(ChangeError::Invalid)?;
    if old.as_deref() != Some(&new) {
        if old.is_some() {
            back_up(path, before)?;
        }
        write_atomically(path, new.as_bytes())?;
    }
    Ok(loaded)
}

/// Reads, checks and types a configuration without keeping it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check_file(path: &Path, env: &Env) -> Result<Loaded, Invalid> {
    load(path, env)
}

fn changed(text: &str, change: &Change) -> Result<String, EditError> {
    match change {
        Change::Replace(new) => Ok(new.clone()),
        Change::Set(path, value) => edit::set(text, path, value),
        Change::Unset(path) => edit::unset(text, path),
        Change::Patch(patch) => patched(text.to_owned(), patch, &mut Vec::new()),
    }
}

fn patched(mut text: String, patch: &Value, path: &mut Vec<String>) -> Result<String, EditError> {
    let Value::Object(members) = patch else {
        return if patch.is_null() {
            edit::unset(&text, path)
        } else {
            edit::set(&text, path, patch)
        };
    };
    if members.is_empty() && !path.is_empty() && !edit::is_object(&text, path)? {
        return edit::set(&text, path, patch);
    }
    for (name, value) in members {
        path.push(name.clone());
        // A patch puts an object where a plain value was.
        if value.is_object() && !edit::is_object(&text, path)? {
            text = edit::unset(&text, path)?;
        }
        text = patched(text, value, path)?;
        path.pop();
    }
    Ok(text)
}

fn restore_secrets(old: &str, new: String) -> Result<String, ChangeError> {
    if !new.contains(redact::REDACTED) {
        return Ok(new);
    }
    let tree = source::parse(&new).map_err(EditError::from)?;
    let old = source::parse(old).unwrap_or_default();
    let restored = redact::restore(&new, &tree, &old).map_err(ChangeError::Placeholder)?;
    Ok(restored?)
}

fn back_up(path: &Path, text: &str) -> io::Result<()> {
    let name = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 0 {
            ".bak".to_owned()
        } else {
            format!(".bak.{number}")
        });
        PathBuf::from(name)
    };
    for number in (1..BACKUPS).rev() {
        match fs::rename(name(number - 1), name(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    write_atomically(&name(0), text.as_bytes())
}

/// What holds now.
#[derive(Debug, Clone)]
struct State {
    loaded: Arc<Loaded>,
    broken: Option<Arc<Invalid>>,
}

struct Order {
    change: Change,
    base: Option<String>,
    answer: oneshot::Sender<Result<Arc<Loaded>, ChangeError>>,
}

/// The handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConfigStore {
    orders: mpsc::Sender<Order>,
    configs: watch::Receiver<Arc<Config>>,
    state: watch::Receiver<State>,
}

/// The owner; run it as a task.
pub struct Keeper {
    path: PathBuf,
    env: Box<Env>,
    seen: Vec<Print>,
    every: Duration,
    orders: mpsc::Receiver<Order>,
    configs: watch::Sender<Arc<Config>>,
    state: watch::Sender<State>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl ConfigStore {
    /// Loads the file. The second half must be run as a task for changes and hot reload to work.
    ///
    /// # Errors
    /// Everything that is wrong with the file: a gateway does not start on a guess.
    pub fn open(path: PathBuf, env: Box<Env>) -> Result<(Self, Keeper), Invalid> {
        let loaded = load(&path, &env)?;
        let (configs, read_configs) = watch::channel(Arc::clone(&loaded.config));
        let seen = prints(&loaded.files);
        let (state, read_state) = watch::channel(State {
            loaded: Arc::new(loaded),
            broken: None,
        });
        let (send_orders, orders) = mpsc::channel(QUEUE);
        let store = Self {
            orders: send_orders,
            configs: read_configs,
            state: read_state,
        };
        let keeper = Keeper {
            path,
            env,
            seen,
            every: LOOK,
            orders,
            configs,
            state,
        };
        Ok((store, keeper))
    }

    /// What holds now.
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.configs.borrow())
    }

    /// What holds now and every later version.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.configs.clone()
    }

    /// What holds now, with its text, warnings and hash.
    pub fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.state.borrow().loaded)
    }

    /// Guards a change against another one in between.
    pub fn hash(&self) -> String {
        self.state.borrow().loaded.hash.clone()
    }

    /// What is wrong with the file as it is now; none when it is the one in force.
    pub fn broken(&self) -> Option<Arc<Invalid>> {
        self.state.borrow().broken.clone()
    }

    /// Changes the file and puts the result in force. With `base`, only when the file still has this hash.
    ///
    /// # Errors
    /// See [`ChangeError`]; then file and configuration are as they were.
    pub async fn change(&self, change: Change, base: Option<String>) -> Result<Arc<Loaded>, ChangeError> {
        let (answer, answered) = oneshot::channel();
        let order = Order { change, base, answer };
        self.orders.send(order).await.map_err(|_| ChangeError::Closed)?;
        answered.await.unwrap_or(Err(ChangeError::Closed))
    }
}

impl Keeper {
    /// Makes changes and follows the files until stopped. Its file operations are short and rare enough to run in place.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut look = tokio::time::interval(self.every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                _ = look.tick() => self.look(),
            }
        }
    }

    fn obey(&mut self, order: Order) {
        let outcome = edit_file(&self.path, &order.change, order.base.as_deref(), &self.env);
        let outcome = outcome.map(|loaded| self.put_in_force(loaded));
        // The one who asked may have stopped waiting.
        let _ = order.answer.send(outcome);
    }

    /// Loads again when a file has changed. While the file is broken it is read each time, since what repairs it may be a file
    /// that is not known yet.
    fn look(&mut self) {
        let (files, was_broken) = {
            let state = self.state.borrow();
            (state.loaded.files.clone(), state.broken.clone())
        };
        let now = prints(&files);
        if now == self.seen && was_broken.is_none() {
            return;
        }
        self.seen = now;
        match load(&self.path, &self.env) {
            Ok(loaded) => drop(self.put_in_force(loaded)),
            Err(invalid) if was_broken.as_deref() == Some(&invalid) => {}
            Err(invalid) => {
                tracing::error!("{invalid}\nthe last good configuration stays in force");
                self.state.send_modify(|state| state.broken = Some(Arc::new(invalid)));
            }
        }
    }

    fn put_in_force(&mut self, loaded: Loaded) -> Arc<Loaded> {
        let loaded = Arc::new(loaded);
        self.seen = prints(&loaded.files);
        let changed = self.state.borrow().loaded.tree != loaded.tree;
        for warning in loaded.warnings.iter().filter(|_| changed) {
            tracing::warn!("{warning}");
        }
        self.state.send_replace(State {
            loaded: Arc::clone(&loaded),
            broken: None,
        });
        if changed {
            tracing::info!(path = %self.path.display(), "the configuration has changed");
            self.configs.send_replace(Arc::clone(&loaded.config));
        }
        loaded
    }
}

/// What tells one version of a file from another without reading it.
type Print = Option<(Option<SystemTime>, u64, u64)>;

fn prints(files: &[PathBuf]) -> Vec<Print> {
    let print = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.modified().ok(), meta.len(), inode(&meta)))
    };
    files.iter().map(print).collect()
}

#[cfg(unix)]
fn inode(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests;
