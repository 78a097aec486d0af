//! The store of blobs: content-addressed files under `media/`, found by the BLAKE3 of their bytes. Owns their age and their size in
//! all. Knows neither nodes nor HTTP; never deletes what is being read, and never believes a name or a type.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use atoll_protocol::limits;
use serde::{Deserialize, Serialize};

use crate::config::MediaStore;
use crate::state::{make_private_folder, write_atomically};

mod bring;
mod handle;
mod inline;
pub(crate) mod live;
mod offers;
mod tickets;
mod told;
mod unpack;

pub(crate) use bring::{Bring, FETCH_AFTER_RESTART};
pub(crate) use handle::Handle;
pub(crate) use inline::{as_base64, is_heavy, lift};
pub(crate) use live::{Live, Way};
pub(crate) use offers::{Offer, Offers};
pub(crate) use tickets::{LIFE as TICKET_LIFE, Tickets};
pub(crate) use told::{CAPABILITY as STREAMS_CAPABILITY, CLOSE as STREAM_CLOSE, OPEN as STREAM_OPEN};
pub(crate) use unpack::{in_words, is_packed, kind_of, store, unpacked};

/// What holds for the store, out of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Bytes in all. More: what was not used for longest goes, once the bytes of what comes are here and are the right ones. As many
    /// again may be on their way; more: the blob that brings them fails.
    pub(crate) budget: u64,
    /// Kept so long after it came.
    pub(crate) age: Duration,
}

impl MediaStore {
    /// In the store's own units.
    pub(crate) fn bounds(self) -> Bounds {
        Bounds {
            budget: self.max_mb.saturating_mul(1024 * 1024),
            age: Duration::from_secs(self.ttl_hours.saturating_mul(60 * 60)),
        }
    }
}

/// What is known of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Bytes.
    pub(crate) size: u64,
    /// A file name, in the words of whoever sent it.
    pub(crate) name: String,
    /// A media type, in the same words.
    pub(crate) mime: String,
}

/// Why a blob cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MediaError {
    /// It is larger than any blob may be.
    #[error("a blob has at most {} bytes; this one has {size}", limits::BLOB)]
    TooLarge {
        /// Its bytes.
        size: u64,
    },
    /// It does not fit beside what is in use.
    #[error("the media store has no room for {size} bytes (media.maxMb)")]
    Full {
        /// Its bytes.
        size: u64,
    },
    /// The disk.
    #[error("the media store failed: {0}")]
    Io(#[from] io::Error),
}

/// A handle to the store. Cheap to clone. Its functions wait for the disk, so they belong on a blocking thread.
#[derive(Debug, Clone)]
pub(crate) struct Media(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    entries: HashMap<Handle, Entry>,
    /// Bytes of all entries.
    total: u64,
    /// Bytes that are here of what is on its way in.
    coming: u64,
}

#[derive(Debug)]
struct Entry {
    facts: Facts,
    came: SystemTime,
    used: SystemTime,
    readers: usize,
}

/// Beside each blob, so that a restart forgets nothing.
#[derive(Debug, Serialize, Deserialize)]
struct Label {
    name: String,
    mime: String,
}

impl Media {
    /// Opens the store and clears away what was half there when the gateway ended.
    ///
    /// # Errors
    /// The folder can be neither made nor read.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        make_private_folder(folder)?;
        let coming = folder.join("coming");
        match fs::remove_dir_all(&coming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => make_private_folder(&coming)?,
        }
        let mut index = Index::default();
        for found in fs::read_dir(folder)? {
            let found = found?;
            let handle = found.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(handle) = handle {
                let entry = Entry::read(folder, handle, &found.metadata()?);
                index.total += entry.facts.size;
                index.entries.insert(handle, entry);
            }
        }
        Ok(Self(Arc::new(Inner {
            folder: folder.to_owned(),
            index: Mutex::new(index),
        })))
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, handle: Handle) -> PathBuf {
        self.0.folder.join(handle.to_string())
    }

    /// A file for the bytes of a blob. What was announced takes no room; only what comes does.
    ///
    /// # Errors
    /// See [`MediaError`].
    pub(crate) fn begin(&self, size: u64, bounds: Bounds) -> Result<Draft, MediaError> {
        if size > limits::BLOB {
            return Err(MediaError::TooLarge { size });
        }
        if size > bounds.budget {
            return Err(MediaError::Full { size });
        }
        let path = self.0.folder.join("coming").join(uuid::Uuid::new_v4().to_string());
        let draft = Draft {
            media: self.clone(),
            path,
            size,
            bounds,
            arrived: AtomicU64::new(0),
            is_kept: false,
        };
        draft.create()?;
        Ok(draft)
    }

    /// Lets go of what was not used for longest until so many bytes more fit. When they cannot, nothing goes.
    fn make_room(&self, index: &mut Index, size: u64, budget: u64) -> Result<(), MediaError> {
        if index.in_use().saturating_add(size) > budget {
            return Err(MediaError::Full { size });
        }
        while index.total.saturating_add(size) > budget {
            let Some(oldest) = index.least_used() else { break };
            self.remove(index, oldest);
        }
        Ok(())
    }

    /// What is known of a blob.
    #[cfg(test)]
    fn facts(&self, handle: Handle) -> Option<Facts> {
        self.index().entries.get(&handle).map(|entry| entry.facts.clone())
    }

    /// Opens a blob for reading, and keeps it for as long as that lives. None when it is not here (any more).
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn read(&self, handle: Handle) -> io::Result<Option<Reading>> {
        let mut index = self.index();
        let Some(entry) = index.entries.get_mut(&handle) else {
            return Ok(None);
        };
        entry.used = SystemTime::now();
        entry.readers += 1;
        let facts = entry.facts.clone();
        drop(index);
        let _held = Held {
            media: self.clone(),
            handle,
        };
        let file = Arc::new(File::open(self.path(handle))?);
        Ok(Some(Reading { file, facts, _held }))
    }

    /// Deletes what is too old or too much. Gives how many blobs went.
    pub(crate) fn sweep(&self, bounds: Bounds, now: SystemTime) -> usize {
        let mut index = self.index();
        let is_old = |entry: &Entry| now.duration_since(entry.came).is_ok_and(|age| age >= bounds.age);
        let old = index
            .entries
            .iter()
            .filter(|(_, entry)| entry.readers == 0 && is_old(entry));
        let mut gone: Vec<Handle> = old.map(|(handle, _)| *handle).collect();
        for handle in &gone {
            self.remove(&mut index, *handle);
        }
        while index.total > bounds.budget {
            let Some(oldest) = index.least_used() else { break };
            self.remove(&mut index, oldest);
            gone.push(oldest);
        }
        gone.len()
    }

    fn remove(&self, index: &mut Index, handle: Handle) {
        let Some(entry) = index.entries.remove(&handle) else {
            return;
        };
        index.total = index.total.saturating_sub(entry.facts.size);
        for path in [self.path(handle), self.0.folder.join(label_name(handle))] {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a blob could not be deleted");
            }
        }
    }
}

impl Index {
    /// Bytes of what somebody reads.
    fn in_use(&self) -> u64 {
        let read = self.entries.values().filter(|entry| entry.readers > 0);
        read.map(|entry| entry.facts.size).sum()
    }

    /// What nobody reads and was not used for longest.
    fn least_used(&self) -> Option<Handle> {
        let free = self.entries.iter().filter(|(_, entry)| entry.readers == 0);
        free.min_by_key(|(_, entry)| entry.used).map(|(handle, _)| *handle)
    }
}

impl Entry {
    fn read(folder: &Path, handle: Handle, metadata: &fs::Metadata) -> Self {
        let label = fs::read(folder.join(label_name(handle))).ok();
        let label: Option<Label> = label.and_then(|text| serde_json::from_slice(&text).ok());
        let (name, mime) = label.map(|label| (label.name, label.mime)).unwrap_or_default();
        let came = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Self {
            facts: Facts {
                size: metadata.len(),
                name,
                mime,
            },
            came,
            used: came,
            readers: 0,
        }
    }
}

fn label_name(handle: Handle) -> String {
    format!("{handle}.json")
}

/// A blob that is on its way in; gone again unless it is kept.
#[derive(Debug)]
pub(crate) struct Draft {
    media: Media,
    path: PathBuf,
    size: u64,
    bounds: Bounds,
    /// Its bytes that are here.
    arrived: AtomicU64,
    is_kept: bool,
}

impl Draft {
    /// So many of its bytes are here by now.
    ///
    /// # Errors
    /// [`MediaError::Full`]: too much is on its way.
    pub(crate) fn arrived(&self, bytes: u64) -> Result<(), MediaError> {
        let mut index = self.media.index();
        let before = self.arrived.swap(bytes, Ordering::Relaxed);
        index.coming = index.coming.saturating_add(bytes).saturating_sub(before);
        if index.coming > self.bounds.budget {
            return Err(MediaError::Full { size: self.size });
        }
        Ok(())
    }

    fn create(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).open(&self.path)
    }

    /// Where its bytes go.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn file(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(&self.path)
    }

    /// Its bytes are whole and have this hash: makes room for it, makes it durable and findable.
    ///
    /// # Errors
    /// See [`MediaError`].
    pub(crate) fn keep(mut self, hash: [u8; 32], name: &str, mime: &str) -> Result<Handle, MediaError> {
        let handle = Handle::of(hash);
        File::open(&self.path)?.sync_all()?;
        let label = Label {
            name: name.to_owned(),
            mime: mime.to_owned(),
        };
        let text = serde_json::to_vec(&label).map_err(io::Error::other)?;
        let now = SystemTime::now();
        let mut index = self.media.index();
        if !index.entries.contains_key(&handle) {
            self.media.make_room(&mut index, self.size, self.bounds.budget)?;
        }
        write_atomically(&self.media.0.folder.join(label_name(handle)), &text)?;
        fs::rename(&self.path, self.media.path(handle))?;
        self.is_kept = true;
        index.total += self.size;
        let readers = index.entries.get(&handle).map_or(0, |entry| entry.readers);
        let entry = Entry {
            facts: Facts {
                size: self.size,
                name: label.name,
                mime: label.mime,
            },
            came: now,
            used: now,
            readers,
        };
        if let Some(same) = index.entries.insert(handle, entry) {
            index.total = index.total.saturating_sub(same.facts.size);
        }
        Ok(handle)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
        let mut index = self.media.index();
        index.coming = index.coming.saturating_sub(self.arrived.load(Ordering::Relaxed));
    }
}

/// A blob that is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Its bytes.
    pub(crate) file: Arc<File>,
    /// What is known of it.
    pub(crate) facts: Facts,
    _held: Held,
}

impl Reading {
    /// A file of the same bytes whose place is its own; none any more when the store has let go of it.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn reopen(&self) -> io::Result<File> {
        File::open(self._held.media.path(self._held.handle))
    }
}

#[derive(Debug)]
struct Held {
    media: Media,
    handle: Handle,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(entry) = self.media.index().entries.get_mut(&self.handle) {
            entry.readers = entry.readers.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests;
