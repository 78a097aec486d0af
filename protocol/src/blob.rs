//! Blobs: bytes that belong to a call and travel beside it. A result names one as `{"blob": {"id", "name", "size", "mime"}}`; the
//! bytes stay where they are until somebody fetches them ([`crate::frame::StreamHead::Fetch`]).
//!
//! Names, sizes and types are the other end's words: they are shown, never believed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::BlobId;
use crate::json::Json;

/// The field under which a result or parameters hold a [`BlobHandle`].
pub const FIELD: &str = "blob";

/// What is said of a blob before it is fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobHandle {
    /// Names it to whoever keeps it.
    pub id: BlobId,
    /// A file name for people, without a folder.
    #[serde(default)]
    pub name: String,
    /// Bytes; 0 for a stream.
    #[serde(default)]
    pub size: u64,
    /// Media type.
    #[serde(default)]
    pub mime: String,
    /// Whether it ends by itself.
    #[serde(default)]
    pub kind: BlobKind,
}

/// Whether a blob ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobKind {
    /// A certain number of bytes.
    #[default]
    File,
    /// It goes on for as long as somebody wants it.
    Stream,
}

/// What a sender says at the end of a blob that ends by itself: the BLAKE3 of all its bytes, also of those before the offset.
/// Later versions may append to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// BLAKE3, 32 bytes.
    pub hash: [u8; 32],
}

impl Trailer {
    /// Its bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        self.hash.to_vec()
    }

    /// Reads one; none when it is too short.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let hash = *bytes.first_chunk()?;
        Some(Self { hash })
    }
}

/// Every handle in a value, in the order in which they stand there. What has another shape is not a handle.
pub fn handles(value: &Json) -> Vec<BlobHandle> {
    if !value.as_str().contains("\"blob\"") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut tree = value.tree();
    visit(&mut tree, &mut |fields| found.extend(handle_in(fields)));
    found
}

/// Lets `change` rewrite every object of a value that holds a handle; it is given the object and the handle.
pub fn rewrite(value: &Json, mut change: impl FnMut(&mut serde_json::Map<String, Value>, &BlobHandle)) -> Json {
    let mut tree = value.tree();
    visit(&mut tree, &mut |fields| {
        if let Some(handle) = handle_in(fields) {
            change(fields, &handle);
        }
    });
    tree.into()
}

fn handle_in(fields: &serde_json::Map<String, Value>) -> Option<BlobHandle> {
    BlobHandle::deserialize(fields.get(FIELD)?).ok()
}

fn visit(value: &mut Value, each: &mut impl FnMut(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            each(fields);
            fields.values_mut().for_each(|value| visit(value, each));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| visit(value, each)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn handles_are_found_wherever_they_stand_and_nothing_else_is_one() {
        let value = json!({
            "blob": {"id": "a", "name": "x.jpg", "size": 5, "mime": "image/jpeg"},
            "items": [{"blob": {"id": "b", "kind": "stream"}}, {"blob": "text"}, {"blob": {"size": 1}}],
            "text": "\"blob\"",
        });
        let found = handles(&value.into());
        let ids: Vec<_> = found.iter().map(|handle| (handle.id.as_str(), handle.kind)).collect();
        assert_eq!(ids, [("a", BlobKind::File), ("b", BlobKind::Stream)]);
        assert!(handles(&json!({"a": 1}).into()).is_empty());
    }

    #[test]
    fn a_rewritten_value_keeps_everything_else() {
        let value = json!({"path": "/x", "blob": {"id": "a", "size": 5}}).into();
        let rewritten = rewrite(&value, |fields, handle| {
            fields.shift_remove(FIELD);
            fields.insert("was".to_owned(), json!(handle.id));
        });
        assert_eq!(rewritten.tree(), json!({"path": "/x", "was": "a"}));
    }

    #[test]
    fn a_trailer_survives_its_bytes_and_what_is_appended_to_them() {
        let trailer = Trailer { hash: [7; 32] };
        let mut bytes = trailer.to_bytes();
        bytes.push(1);
        assert_eq!(Trailer::read(&bytes), Some(trailer));
        assert_eq!(Trailer::read(&bytes[..31]), None);
    }
}
