//! The bytes of one blob over a stream, checked by BLAKE3: out of a file at one end, into a file at the other, whatever becomes of
//! the link in between. Never holds more than a buffer of it.

use std::fs::File;
use std::io;
use std::sync::Arc;

use atoll_protocol::blob::Trailer;
use atoll_protocol::error::WireError;
use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::link::stream::{Chunk, StreamError, StreamRx, StreamTx};

/// What is read from or written to a file at once, bytes.
const BUFFER: usize = 256 * 1024;

/// What is to be durable goes to the disk in steps of so many bytes while more of it comes, so that little is left to wait for at its end.
const SYNC: u64 = 8 * 1024 * 1024;

/// Sends the bytes of `file` from `offset` on, `size` in all, then the hash of all of them. Reads the first `offset` bytes too,
/// for the hash. What goes wrong is said to the receiver.
pub async fn send(tx: StreamTx, file: Arc<File>, size: u64, offset: u64) {
    let mut tx = tx;
    match send_all(&mut tx, file, size, offset).await {
        Ok(hash) => drop(tx.finish(Trailer { hash }.to_bytes().into()).await),
        Err(SendError::Stream(error)) => tracing::debug!(%error, "a blob was not taken whole"),
        Err(SendError::File(error)) => {
            tracing::warn!(%error, "a blob could not be read");
            tx.fail(WireError::unavailable(format!("it could not be read: {error}")))
                .await;
        }
    }
}

enum SendError {
    Stream(StreamError),
    File(io::Error),
}

/// The next part is read and hashed while one goes.
async fn send_all(tx: &mut StreamTx, file: Arc<File>, size: u64, offset: u64) -> Result<[u8; 32], SendError> {
    let (mut at, mut hash) = (0, blake3::hash(&[]));
    let mut ahead = Some(read(&file, blake3::Hasher::new(), at, part(at, size, offset)));
    while let Some(step) = ahead.take() {
        let (hasher, bytes) = step
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(SendError::File)?;
        let next = at + bytes.len() as u64;
        if next < size {
            ahead = Some(read(&file, hasher, next, part(next, size, offset)));
        } else {
            hash = hasher.finalize();
        }
        if at >= offset {
            tx.send(Bytes::from(bytes)).await.map_err(SendError::Stream)?;
        }
        at = next;
    }
    Ok(hash.into())
}

type Step = JoinHandle<io::Result<(blake3::Hasher, Vec<u8>)>>;

fn read(file: &Arc<File>, mut hasher: blake3::Hasher, at: u64, len: usize) -> Step {
    let file = file.clone();
    tokio::task::spawn_blocking(move || {
        let bytes = read_at(&file, at, len)?;
        hasher.update(&bytes);
        Ok((hasher, bytes))
    })
}

/// How much to read at once. The part that is there already ends where the new one begins.
fn part(at: u64, size: u64, offset: u64) -> usize {
    let end = if at < offset { offset.min(size) } else { size };
    usize::try_from(end - at).unwrap_or(usize::MAX).min(BUFFER)
}

/// The BLAKE3 of bytes that are here.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    blake3::hash(bytes).into()
}

/// Exactly `len` bytes from `at` on. Waits for the disk.
///
/// # Errors
/// The disk; or the file is shorter.
pub fn read_at(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match place::read_at(file, &mut bytes[filled..], at + filled as u64)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has become shorter")),
            read => filled += read,
        }
    }
    Ok(bytes)
}

#[cfg(unix)]
mod place {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt as _;

    pub(super) fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        file.read_at(buffer, at)
    }

    pub(super) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }
}

#[cfg(windows)]
mod place {
    use std::fs::File;
    use std::io;
    use std::os::windows::fs::FileExt as _;

    pub(super) fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        file.seek_read(buffer, at)
    }

    pub(super) fn write_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = file.seek_write(bytes, at)?;
            bytes = &bytes[written..];
            at += written as u64;
        }
        Ok(())
    }
}

/// Why a blob is not here whole.
#[derive(Debug, thiserror::Error)]
pub enum ArrivalError {
    /// The link went away; what came is kept, and the rest can be asked for on another.
    #[error("the link was lost in the middle")]
    Lost,
    /// The sender said so.
    #[error("the sender says: {0}")]
    Refused(WireError),
    /// It sent more or less than it had said, or ended without a hash.
    #[error("{received} bytes came where {size} were announced")]
    Size {
        /// What came.
        received: u64,
        /// What was announced.
        size: u64,
    },
    /// What came is not what was sent; the file may have changed meanwhile.
    #[error("the bytes are not those that were sent; was the file changed meanwhile?")]
    Hash,
    /// They could not be stored.
    #[error("they could not be stored: {0}")]
    File(#[from] io::Error),
}

impl ArrivalError {
    /// Whether another link can bring the rest.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Lost => true,
            Self::Refused(_) | Self::Size { .. } | Self::Hash | Self::File(_) => false,
        }
    }
}

/// A blob on its way into a file. One part is written and hashed while the next one comes.
#[derive(Debug)]
pub struct Arrival {
    file: Arc<File>,
    size: u64,
    /// Written and hashed.
    stored: u64,
    hasher: blake3::Hasher,
    /// A part that is being written and hashed, and its length.
    storing: Option<(Step, u64)>,
    buffer: Vec<u8>,
    /// The buffer of the part before.
    spare: Vec<u8>,
    /// Some when it is to be durable.
    disk: Option<Disk>,
}

/// How far a file is on its way to the disk.
#[derive(Debug, Default)]
struct Disk {
    /// Bytes that are there, or on their way.
    synced: u64,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl Disk {
    /// Begins the next step, if it is time and the one before has ended.
    async fn follow(&mut self, file: &Arc<File>, stored: u64) -> io::Result<()> {
        if stored - self.synced < SYNC || self.syncing.as_ref().is_some_and(|step| !step.is_finished()) {
            return Ok(());
        }
        self.settle().await?;
        let file = file.clone();
        self.synced = stored;
        self.syncing = Some(tokio::task::spawn_blocking(move || file.sync_data()));
        Ok(())
    }

    /// A disk that failed says so once: whoever syncs later does not hear of it.
    async fn settle(&mut self) -> io::Result<()> {
        match self.syncing.take() {
            Some(step) => step.await.map_err(io::Error::other).flatten(),
            None => Ok(()),
        }
    }
}

impl Arrival {
    /// Nothing of it is here. `size` is what the sender announced, and no more is taken.
    pub fn new(file: File, size: u64) -> Self {
        Self {
            file: Arc::new(file),
            size,
            stored: 0,
            hasher: blake3::Hasher::new(),
            storing: None,
            buffer: Vec::new(),
            spare: Vec::new(),
            disk: None,
        }
    }

    /// Whoever owns the file is going to sync it.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.disk = Some(Disk::default());
        self
    }

    /// How many bytes are here: what to ask for from.
    pub fn offset(&self) -> u64 {
        let storing = self.storing.as_ref().map_or(0, |(_, len)| *len);
        self.stored + storing + self.buffer.len() as u64
    }

    /// Takes the rest, asked for from [`Self::offset`]. Gives the hash of the whole. `progress` hears the offset now and then.
    ///
    /// # Errors
    /// See [`ArrivalError`].
    pub async fn receive(&mut self, rx: &mut StreamRx, progress: impl FnMut(u64)) -> Result<[u8; 32], ArrivalError> {
        let received = self.receive_all(rx, progress).await;
        // What came is kept, however this ended.
        self.store().await?;
        let trailer = received?;
        let hash = self.finish().await?;
        match Trailer::read(&trailer) {
            Some(trailer) if trailer.hash == hash => Ok(hash),
            Some(_) | None => Err(ArrivalError::Hash),
        }
    }

    async fn receive_all(&mut self, rx: &mut StreamRx, mut progress: impl FnMut(u64)) -> Result<Bytes, ArrivalError> {
        loop {
            let chunk = rx.recv().await.map_err(|error| match error {
                StreamError::Refused(error) => ArrivalError::Refused(error),
                StreamError::Lost | StreamError::Abandoned | StreamError::Over => ArrivalError::Lost,
            })?;
            match chunk {
                Chunk::Data(bytes) | Chunk::Key(bytes) => {
                    if self.push(&bytes).await? {
                        progress(self.stored);
                    }
                }
                Chunk::End(trailer) => return Ok(trailer),
            }
        }
    }

    /// Takes the next bytes; true when more of what was before them is in the file now.
    ///
    /// # Errors
    /// [`ArrivalError::Size`] when they are more than was announced, [`ArrivalError::File`].
    pub async fn push(&mut self, bytes: &[u8]) -> Result<bool, ArrivalError> {
        let received = self.offset() + bytes.len() as u64;
        if received > self.size {
            let size = self.size;
            return Err(ArrivalError::Size { received, size });
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < BUFFER {
            return Ok(false);
        }
        let is_stored = self.settle().await?;
        self.begin();
        if let Some(disk) = &mut self.disk {
            disk.follow(&self.file, self.stored).await?;
        }
        Ok(is_stored)
    }

    /// There is no more: gives the hash of the whole.
    ///
    /// # Errors
    /// [`ArrivalError::Size`] when it is less than was announced, [`ArrivalError::File`].
    pub async fn finish(&mut self) -> Result<[u8; 32], ArrivalError> {
        self.store().await?;
        if let Some(disk) = &mut self.disk {
            disk.settle().await?;
        }
        let (received, size) = (self.stored, self.size);
        if received != size {
            return Err(ArrivalError::Size { received, size });
        }
        Ok(self.hasher.finalize().into())
    }

    /// Writes down and hashes what is here.
    async fn store(&mut self) -> io::Result<()> {
        self.settle().await?;
        if !self.buffer.is_empty() {
            self.begin();
            self.settle().await?;
        }
        Ok(())
    }

    /// Begins to write down and hash what is in the buffer. Nothing is being written: [`Self::settle`] has seen to that.
    fn begin(&mut self) {
        let (file, at) = (self.file.clone(), self.stored);
        let buffer = std::mem::replace(&mut self.buffer, std::mem::take(&mut self.spare));
        let mut hasher = std::mem::take(&mut self.hasher);
        let len = buffer.len() as u64;
        let step = tokio::task::spawn_blocking(move || {
            hasher.update(&buffer);
            place::write_at(&file, &buffer, at).map(|()| (hasher, buffer))
        });
        self.storing = Some((step, len));
    }

    /// Waits for what is being written; false when nothing was. After an error this is of no use.
    async fn settle(&mut self) -> io::Result<bool> {
        let Some((step, len)) = &mut self.storing else {
            return Ok(false);
        };
        let (done, len) = (step.await.map_err(io::Error::other).flatten(), *len);
        self.storing = None;
        let (hasher, mut buffer) = done?;
        self.hasher = hasher;
        self.stored += len;
        buffer.clear();
        self.spare = buffer;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
