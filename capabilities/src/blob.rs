//! Bytes that a command gives or takes beside its result. Whoever runs commands carries them; nothing here knows how.

use std::fs::File;

use async_trait::async_trait;
use atoll_protocol::blob::BlobHandle;
use atoll_protocol::error::CallError;
use tokio::sync::mpsc;

/// A file whose bytes belong to a result.
#[derive(Debug)]
pub struct NewBlob {
    /// Open for reading; its bytes are read from the start, and not before somebody wants them.
    pub file: File,
    /// How many they are.
    pub size: u64,
    /// A file name for people, without a folder.
    pub name: String,
    /// Media type.
    pub mime: String,
}

/// Bytes that go on for as long as somebody wants them.
#[derive(Debug)]
pub struct NewStream {
    /// A file name for people, without a folder.
    pub name: String,
    /// Media type.
    pub mime: String,
    /// Its parts; whoever begins with any of them understands the rest. The stream ends with them, or with the reason. It is dropped when
    /// nobody wants more.
    pub parts: mpsc::Receiver<Result<Vec<u8>, CallError>>,
}

/// Carries bytes of one call.
#[async_trait]
pub trait Blobs: Send + Sync + std::fmt::Debug {
    /// Keeps a file for whoever called; the handle belongs into the result.
    ///
    /// # Errors
    /// Too many are kept already.
    fn offer(&self, blob: NewBlob) -> Result<BlobHandle, CallError>;

    /// Keeps a stream for whoever called, to be taken once; the handle belongs into the result.
    fn offer_stream(&self, stream: NewStream) -> BlobHandle;

    /// Writes the bytes of a blob that came with the parameters into a file, from its start, and checks them.
    ///
    /// # Errors
    /// They cannot be had whole.
    async fn take(&self, blob: &BlobHandle, into: File) -> Result<(), CallError>;
}
