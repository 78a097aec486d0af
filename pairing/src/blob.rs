//! The bytes of one blob over a stream, checked by BLAKE3: out of a file at one end, into a file at the other, whatever becomes of
//! the link in between. Never holds more than a buffer of it.

use std::fs::File;
use std::io;
use std::sync::Arc;

use atoll_protocol::blob::Trailer;
use atoll_protocol::error::WireError;
use bytes::Bytes;

use crate::link::stream::{Chunk, StreamError, StreamRx, StreamTx};

/// What is read from or written to a file at once, bytes.
const BUFFER: usize = 256 * 1024;

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

async fn send_all(tx: &mut StreamTx, file: Arc<File>, size: u64, offset: u64) -> Result<[u8; 32], SendError> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < size {
        // The part that is there already ends where the new one begins.
        let end = if at < offset { offset.min(size) } else { size };
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(BUFFER);
        let file = file.clone();
        let step = tokio::task::spawn_blocking(move || {
            let bytes = read_at(&file, at, want)?;
            hasher.update(&bytes);
            Ok::<_, io::Error>((hasher, bytes))
        });
        let (hashed, bytes) = step
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(SendError::File)?;
        hasher = hashed;
        if at >= offset {
            tx.send(Bytes::from(bytes)).await.map_err(SendError::Stream)?;
        }
        at += want as u64;
    }
    Ok(hasher.finalize().into())
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

/// A blob on its way into a file.
#[derive(Debug)]
pub struct Arrival {
    file: Arc<File>,
    size: u64,
    /// Written and hashed.
    stored: u64,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
}

impl Arrival {
    /// Nothing of it is here. `size` is what the sender announced, and no more is taken.
    pub fn new(file: File, size: u64) -> Self {
        Self {
            file: Arc::new(file),
            size,
            stored: 0,
            hasher: blake3::Hasher::new(),
            buffer: Vec::new(),
        }
    }

    /// How many bytes are here: what to ask for from.
    pub fn offset(&self) -> u64 {
        self.stored + self.buffer.len() as u64
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

    /// Takes the next bytes; true when they and what was before them are in the file now.
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
        self.store().await?;
        Ok(true)
    }

    /// There is no more: gives the hash of the whole.
    ///
    /// # Errors
    /// [`ArrivalError::Size`] when it is less than was announced, [`ArrivalError::File`].
    pub async fn finish(&mut self) -> Result<[u8; 32], ArrivalError> {
        self.store().await?;
        let (received, size) = (self.stored, self.size);
        if received != size {
            return Err(ArrivalError::Size { received, size });
        }
        Ok(self.hasher.finalize().into())
    }

    /// Writes down and hashes what is in the buffer. Dropping the future in the middle leaves this of no use.
    async fn store(&mut self) -> Result<(), ArrivalError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let (file, at) = (self.file.clone(), self.stored);
        let buffer = std::mem::take(&mut self.buffer);
        let mut hasher = std::mem::take(&mut self.hasher);
        let step = tokio::task::spawn_blocking(move || {
            hasher.update(&buffer);
            place::write_at(&file, &buffer, at).map(|()| (hasher, buffer))
        });
        let (hasher, mut buffer) = step.await.map_err(io::Error::other).flatten()?;
        self.hasher = hasher;
        self.stored += buffer.len() as u64;
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
