//! One session's transcript: an append-only file of JSON lines. Owns the file, what is in it and who may append; never rewrites a line and
//! never deletes one.
//!
//! The records are OpenClaw's (header version 4; version 3 is read too), with `runId` added to messages. Records of kinds unknown here are
//! kept as they are. Calls block for as long as the disk does.

mod facts;
mod media;
mod record;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_protocol::id::RunId;
use atoll_protocol::json::Json;

pub use facts::Facts;
pub use record::{Body, Entry};

use crate::message::Message;

/// The version of the header that new files get.
pub const VERSION: u32 = 4;

/// A transcript larger than this is not read into memory, bytes.
const LARGEST: u64 = 512 * 1024 * 1024;

/// Why a transcript could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk.
    #[error("the transcript {} could not be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The first line is not a header that this version knows.
    #[error("{} is not a session transcript of version 3 or 4; it is left as it is", path.display())]
    NotATranscript {
        /// The file.
        path: PathBuf,
    },
    /// Larger than memory should hold.
    #[error("{} is larger than 512 MiB; start a new session with /new", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Why a record was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A later turn, or a reset, has taken over.
    #[error("a later turn has taken over this session")]
    Superseded,
    /// The disk. Nothing of the record stays in the file.
    #[error("the transcript could not be written: {0}")]
    Io(#[from] std::io::Error),
}

/// What was wrong with a file that could be opened all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repairs {
    /// The last line was cut short by a crash; it was moved to this file.
    pub torn: Option<PathBuf>,
    /// Lines in the middle that are not records; they stay in the file and are not shown.
    pub unreadable_lines: usize,
}

/// A new session's header.
#[derive(Debug, Clone)]
pub struct Header {
    /// The session's own id.
    pub session_id: String,
    /// The agent's workspace.
    pub cwd: String,
}

/// A session's transcript. Clones share it.
#[derive(Debug, Clone)]
pub struct Transcript {
    inner: Arc<Mutex<Inner>>,
    /// Held while the disk is told, so that nobody who finds that done by another goes on before it is.
    keeping: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct Inner {
    file: Arc<File>,
    length: u64,
    /// Raised by whoever may append next; an older writer's number no longer fits.
    generation: u64,
    session_id: String,
    last_id: Option<String>,
    /// Something was appended that the disk was not yet told to keep.
    unsynced: bool,
    /// The folder of a file that it was not yet told to keep either.
    new_in: Option<PathBuf>,
    /// Records since the latest reset.
    window: Vec<Arc<Entry>>,
    facts: Facts,
}

impl Transcript {
    /// Opens a transcript, or begins one.
    ///
    /// # Errors
    /// The disk, or a file that is not a transcript; such a file is left as it is.
    pub fn open(path: &Path, header: &Header) -> Result<(Self, Repairs), OpenError> {
        let io = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() > LARGEST {
            return Err(OpenError::TooLarge { path: path.to_owned() });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let torn = set_torn_aside(path, &mut file, &mut bytes).map_err(io)?;
        let is_new = bytes.is_empty();
        if is_new {
            bytes = record::header_line(header, now());
            file.write_all(&bytes).map_err(io)?;
        }
        let mut inner = Inner {
            file: Arc::new(file),
            length: bytes.len() as u64,
            generation: 0,
            session_id: String::new(),
            last_id: None,
            unsynced: is_new,
            new_in: path.parent().filter(|_| is_new).map(Path::to_owned),
            window: Vec::new(),
            facts: Facts::default(),
        };
        let unreadable_lines = inner
            .load(&bytes)
            .ok_or_else(|| OpenError::NotATranscript { path: path.to_owned() })?;
        let repairs = Repairs { torn, unreadable_lines };
        let transcript = Self {
            inner: Arc::new(Mutex::new(inner)),
            keeping: Arc::default(),
        };
        Ok((transcript, repairs))
    }

    /// Lets `run` append, and nobody who asked before.
    pub fn writer(&self, run: &RunId) -> Writer {
        let mut inner = self.lock();
        inner.generation += 1;
        Writer {
            transcript: self.clone(),
            generation: inner.generation,
            run: run.clone(),
        }
    }

    /// Everything since the latest reset, oldest first: what people are shown.
    pub fn history(&self) -> Vec<Arc<Entry>> {
        self.lock().window.clone()
    }

    /// The messages that a model is shown, split into those before `run` and those of `run`.
    ///
    /// After a compaction its summary stands for what it replaced.
    pub fn conversation(&self, run: &RunId) -> (Vec<Arc<Message>>, Vec<Arc<Message>>) {
        let inner = self.lock();
        record::conversation(&inner.window, run)
    }

    /// The same without a turn, and the record that it ends with.
    pub fn so_far(&self) -> (Vec<Arc<Message>>, Option<String>) {
        let inner = self.lock();
        (record::so_far(&inner.window), inner.last_id.clone())
    }

    /// The messages that the latest compaction keeps from models.
    pub fn replaced(&self) -> Vec<Arc<Message>> {
        record::replaced(&self.lock().window)
    }

    /// Lets a summary stand for everything before the record `first_kept`, or for all of it, durably; false when `last` is not the last
    /// record any more. An empty summary says that what it stands for was taken out. The file keeps all of it.
    ///
    /// # Errors
    /// The disk.
    pub fn compact(&self, summary: &str, first_kept: Option<&str>, last: Option<&str>) -> Result<bool, AppendError> {
        let mut inner = self.lock();
        if inner.last_id.as_deref() != last {
            return Ok(false);
        }
        let body = Body::Compaction {
            summary: summary.to_owned(),
            first_kept: first_kept.map(str::to_owned),
        };
        inner.append(body, None, now())?;
        drop(inner);
        self.keep()?;
        Ok(true)
    }

    /// Takes all but the last `most` messages out of what models are shown, durably. Gives how many are left, and whether any was taken
    /// out.
    ///
    /// # Errors
    /// The disk.
    pub fn keep_last(&self, most: usize) -> Result<(usize, bool), AppendError> {
        let (ids, last) = {
            let inner = self.lock();
            (record::kept_ids(&inner.window), inner.last_id.clone())
        };
        if ids.len() <= most {
            return Ok((ids.len(), false));
        }
        let first = ids[ids.len() - most].clone();
        let is_done = self.compact("", Some(&first), last.as_deref())?;
        Ok((if is_done { most } else { ids.len() }, is_done))
    }

    /// Counts and times, for the index of sessions.
    pub fn facts(&self) -> Facts {
        self.lock().facts.clone()
    }

    /// Whether all that was appended survives a power cut, as far as the disk was told.
    pub fn is_kept(&self) -> bool {
        !self.lock().unsynced
    }

    /// Whether there is a clone of it, or somebody who may append.
    pub fn is_held(&self) -> bool {
        Arc::strong_count(&self.inner) > 1
    }

    /// The session's own id: from the header, or from the latest reset.
    pub fn session_id(&self) -> String {
        self.lock().session_id.clone()
    }

    /// Begins a new window under another id: what came before stays in the file and is no longer shown. A turn that runs can append no
    /// more.
    ///
    /// # Errors
    /// The disk.
    pub fn reset(&self, reason: &str, session_id: &str) -> Result<(), AppendError> {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.append(
            Body::Reset {
                reason: reason.to_owned(),
                session_id: Some(session_id.to_owned()),
            },
            None,
            now(),
        )?;
        drop(inner);
        self.keep()?;
        Ok(())
    }

    /// Appends a record of our own that is no message and that models never see.
    ///
    /// # Errors
    /// The disk.
    pub fn note(&self, kind: &str, data: &Json) -> Result<(), AppendError> {
        let raw = Json::from(serde_json::json!({"type": "custom", "customType": kind, "data": data.tree()}));
        self.lock().append(Body::Other(raw), None, now())?;
        Ok(())
    }

    /// Makes all that was appended survive a power cut; does nothing where it does already.
    ///
    /// # Errors
    /// The disk; then it is still to be done.
    pub fn keep(&self) -> std::io::Result<()> {
        let _keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, new_in) = {
            let mut inner = self.lock();
            if !std::mem::replace(&mut inner.unsynced, false) {
                return Ok(());
            }
            (Arc::clone(&inner.file), inner.new_in.clone())
        };
        let kept = file
            .sync_data()
            .and_then(|()| new_in.as_deref().map_or(Ok(()), sync_folder));
        let mut inner = self.lock();
        match kept {
            Ok(()) => inner.new_in = None,
            Err(_) => inner.unsynced = true,
        }
        kept
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change of `Inner` is whole before anything can panic, so a poisoned lock still guards a sound value.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One turn's right to append, until the next turn asks for it.
#[derive(Debug)]
pub struct Writer {
    transcript: Transcript,
    generation: u64,
    run: RunId,
}

impl Writer {
    /// Appends a message; it survives the end of this process, and after [`Transcript::keep`] a power cut too.
    ///
    /// # Errors
    /// Another turn has taken over, or the disk.
    pub fn append(&self, message: Arc<Message>) -> Result<(), AppendError> {
        let mut inner = self.transcript.lock();
        if inner.generation != self.generation {
            return Err(AppendError::Superseded);
        }
        inner.append(Body::Message(message), Some(self.run.clone()), now())
    }
}

impl Inner {
    /// Reads all lines; `None` when the first is not a header. Gives the number of unreadable lines.
    fn load(&mut self, bytes: &[u8]) -> Option<usize> {
        // What is not UTF-8 spoils its own line only.
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split('\n').filter(|line| !line.is_empty());
        self.session_id = record::read_header(lines.next()?)?;
        let lines: Vec<&str> = lines.collect();
        let from = lines.iter().rposition(|line| record::is_reset(line)).unwrap_or(0);
        let resets = lines[..from].iter().filter(|line| record::is_reset(line)).count();
        self.facts.pass_over(from, resets);
        let mut unreadable = 0;
        for line in &lines[from..] {
            match record::read(line) {
                Some(entry) => self.admit(entry),
                None => unreadable += 1,
            }
        }
        Some(unreadable)
    }

    fn admit(&mut self, entry: Entry) {
        if let Body::Reset { session_id, .. } = &entry.body {
            self.window.clear();
            if let Some(session_id) = session_id {
                self.session_id.clone_from(session_id);
            }
        }
        self.facts.count(&entry);
        self.last_id = Some(entry.id.clone());
        self.window.push(Arc::new(entry));
    }

    fn append(&mut self, body: Body, run: Option<RunId>, at: i64) -> Result<(), AppendError> {
        let entry = Entry {
            id: fresh_id(),
            parent: self.last_id.clone(),
            at,
            run,
            body,
        };
        let line = record::line(&entry);
        let mut file = &*self.file;
        let written = file
            .seek(SeekFrom::Start(self.length))
            .and_then(|_| file.write_all(&line));
        if let Err(error) = written {
            // Half a line would spoil the next one. If even this fails, opening sets the half line aside.
            let _ = file.set_len(self.length);
            return Err(error.into());
        }
        self.length += line.len() as u64;
        self.unsynced = true;
        self.admit(entry);
        Ok(())
    }
}

fn fresh_id() -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    id[..16].to_owned()
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Moves a last line without its end to a file beside the transcript, so that it is neither lost nor in the way.
fn set_torn_aside(path: &Path, file: &mut File, bytes: &mut Vec<u8>) -> std::io::Result<Option<PathBuf>> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if whole == bytes.len() {
        return Ok(None);
    }
    // A file of another program need not end in a line feed; a whole record is no torn one.
    let last = std::str::from_utf8(&bytes[whole..]).unwrap_or_default();
    if record::read(last).is_some() || record::read_header(last).is_some() {
        file.seek(SeekFrom::End(0))?;
        file.write_all(b"\n")?;
        bytes.push(b'\n');
        return Ok(None);
    }
    let aside = path.with_extension(format!("torn-{}", now()));
    let mut kept = File::create_new(&aside)?;
    kept.write_all(&bytes[whole..])?;
    kept.sync_all()?;
    bytes.truncate(whole);
    file.set_len(whole as u64)?;
    file.seek(SeekFrom::End(0))?;
    Ok(Some(aside))
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if folder.as_os_str().is_empty() {
        return Ok(());
    }
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
