//! A house in memory: it stores like the journal does, refuses or hangs when told to, and tells when something changed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::port::{AccountRef, AccountStatus, Content, FileError, Files, Inbound, Port, PortError};

/// What a commit does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Stores.
    #[default]
    Store,
    /// Refuses.
    Refuse,
    /// Stores and never returns, like a crash right after.
    StoreAndHang,
}

/// What is kept.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// What arrived, in order, each id once.
    pub arrived: Vec<Inbound>,
    /// How often a commit was asked for.
    pub attempts: usize,
    cursor: Option<String>,
    status: AccountStatus,
    mode: Mode,
}

impl Kept {
    /// The texts and clicks that arrived.
    pub fn texts(&self) -> Vec<&str> {
        self.arrived.iter().map(text_of).collect()
    }
}

fn text_of(inbound: &Inbound) -> &str {
    match &inbound.content {
        Content::Message { text, .. } => text,
        Content::Click { data, .. } => data,
    }
}

/// A media store that holds one picture.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryFiles;

impl MemoryFiles {
    /// The handle of its picture.
    pub const PICTURE: &str = "picture";

    /// The bytes of its picture: a JPEG of one grey pixel.
    pub fn picture() -> Vec<u8> {
        include_bytes!("pixel.jpg").to_vec()
    }
}

#[async_trait]
impl Files for MemoryFiles {
    async fn read(&self, handle: &str, limit: u64) -> Result<Vec<u8>, FileError> {
        let bytes = Self::picture();
        match handle {
            Self::PICTURE if bytes.len() as u64 <= limit => Ok(bytes),
            Self::PICTURE => Err(FileError::TooLarge(bytes.len() as u64)),
            _ => Err(FileError::Gone),
        }
    }
}

/// The house.
#[derive(Debug, Default)]
pub struct MemoryPort {
    kept: Mutex<Kept>,
    changed: watch::Sender<u64>,
}

impl MemoryPort {
    /// What commits do from now on.
    pub fn set_mode(&self, mode: Mode) {
        self.change(|kept| kept.mode = mode);
    }

    /// As if the cursor had never been stored.
    pub fn forget_cursor(&self) {
        self.change(|kept| kept.cursor = None);
    }

    /// What arrived.
    pub fn texts(&self) -> Vec<String> {
        self.kept().texts().into_iter().map(str::to_owned).collect()
    }

    /// The last status reported.
    pub fn status(&self) -> AccountStatus {
        self.kept().status.clone()
    }

    /// Waits until what is kept is as wanted; the caller has the deadline.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Kept) -> bool) -> Kept {
        let mut changed = self.changed.subscribe();
        loop {
            let kept = self.kept().clone();
            if wanted(&kept) {
                return kept;
            }
            changed.changed().await.unwrap_or_else(|_| panic!("no {what}"));
        }
    }

    /// Waits until the status is as wanted.
    pub async fn until_status(&self, what: &str, wanted: impl Fn(&AccountStatus) -> bool) -> AccountStatus {
        self.until(what, |kept| wanted(&kept.status)).await.status
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        let result = change(&mut self.kept());
        self.changed.send_modify(|version| *version += 1);
        result
    }
}

#[async_trait]
impl Port for MemoryPort {
    async fn cursor(&self, _: &AccountRef) -> Result<Option<String>, PortError> {
        Ok(self.kept().cursor.clone())
    }

    async fn commit(&self, _: &AccountRef, cursor: &str, arrived: Vec<Inbound>) -> Result<(), PortError> {
        let mode = self.change(|kept| {
            kept.attempts += 1;
            if kept.mode != Mode::Refuse {
                kept.cursor = Some(cursor.to_owned());
                for inbound in arrived {
                    if !kept.arrived.iter().any(|known| known.id == inbound.id) {
                        kept.arrived.push(inbound);
                    }
                }
            }
            kept.mode
        });
        match mode {
            Mode::Store => Ok(()),
            Mode::Refuse => Err(PortError("told to refuse".to_owned())),
            Mode::StoreAndHang => std::future::pending().await,
        }
    }

    fn status(&self, _: &AccountRef, status: AccountStatus) {
        self.change(|kept| kept.status = status);
    }
}
