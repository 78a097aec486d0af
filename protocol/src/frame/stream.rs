//! Bytes beside calls: streams of chunks, each with its own credit, so that none of them delays a call.
//!
//! Whoever opens a stream receives its bytes. Ids count up from 0 at each end, and every kind of frame travels in one direction
//! with respect to the opener, so that both ends may use the same number. A stream ends with exactly one
//! [`ChunkKind::End`] or [`StreamClosed`], both from the sender; only then does its place count as free.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::WireError;
use crate::id::BlobId;

/// What a stream is to carry. Variants are only appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamHead {
    /// The bytes of a blob that the other end has offered.
    Fetch {
        /// The blob.
        blob: BlobId,
        /// How many of its bytes are here already.
        offset: u64,
    },
}

/// Opener → sender: send me this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOpen {
    /// Counts up from 0 among the streams that this end opens on this link.
    pub stream: u64,
    /// What it is to carry.
    pub head: StreamHead,
}

/// What a chunk is. Variants are only appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkKind {
    /// More bytes.
    Data,
    /// More bytes, and somebody who has seen none of the earlier ones can begin here.
    Key,
    /// No more bytes; these are the trailer, at most [`crate::limits::STREAM_TRAILER`].
    End,
}

/// Sender → opener: a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamChunk {
    /// The stream.
    pub stream: u64,
    /// What it is.
    pub kind: ChunkKind,
    /// At most [`crate::limits::STREAM_CHUNK`].
    #[serde(with = "bulk")]
    pub bytes: Bytes,
}

/// Opener → sender: so many more bytes than before may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamWindow {
    /// The stream.
    pub stream: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Sender → opener: nothing more comes, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamClosed {
    /// The stream.
    pub stream: u64,
    /// The reason.
    pub error: WireError,
}

/// The same bytes on the wire as a list of numbers, taken as one piece.
pub(super) mod bulk {
    use std::fmt;

    use bytes::Bytes;
    use serde::de::{self, Visitor};
    use serde::{Deserializer, Serializer};

    pub(in crate::frame) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(in crate::frame) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_byte_buf(Piece)
    }

    struct Piece;

    impl Visitor<'_> for Piece {
        type Value = Bytes;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
            Ok(Bytes::copy_from_slice(bytes))
        }

        fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
            Ok(bytes.into())
        }
    }
}
