//! Base64 in the results of nodes that know nothing else, moved into the store: whoever works with handles gets one in its place, and no
//! base64 reaches a model, a transcript or the journal.

use atoll_protocol::blob::FIELD;
use atoll_protocol::json::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Bounds, Media, MediaError};

/// The field that OpenClaw's results have bytes in.
const BASE64: &str = "base64";

/// Blobs of one result. More: the rest is left out, and said to be.
const MOST: usize = 16;

/// Text of fewer characters is shown whatever it is made of.
const SHORT: usize = 512;

/// Whether a result may hold bytes as base64.
pub(crate) fn is_packed(result: &Json) -> bool {
    result.as_str().contains("\"base64\"")
}

/// A result with handles of the store in the place of its base64. Waits for the disk.
///
/// # Errors
/// Some of it is not base64, or has no room.
pub(crate) fn unpacked(media: &Media, bounds: Bounds, result: &Json) -> Result<Json, String> {
    let mut tree = result.tree();
    let mut left = MOST;
    unpack(&mut tree, &mut |fields, text| {
        if left == 0 {
            return Err(format!("it has more than {MOST} files in it"));
        }
        left -= 1;
        let bytes = STANDARD
            .decode(text.as_bytes())
            .map_err(|_| "it is no valid base64".to_owned())?;
        let mime = kind_of(&bytes);
        let name = name_of(fields, mime);
        let handle = store(media, bounds, &bytes, &name, mime).map_err(|error| error.to_string())?;
        let blob = json!({"id": handle.to_string(), "name": name, "size": bytes.len(), "mime": mime, "kind": "file"});
        fields.insert(FIELD.to_owned(), blob);
        Ok(())
    })?;
    Ok(tree.into())
}

fn unpack(
    value: &mut Value,
    store: &mut impl FnMut(&mut Map<String, Value>, String) -> Result<(), String>,
) -> Result<(), String> {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut(BASE64).map(Value::take) {
                fields.shift_remove(BASE64);
                store(fields, text)?;
            }
            fields.values_mut().try_for_each(|value| unpack(value, store))
        }
        Value::Array(items) => items.iter_mut().try_for_each(|value| unpack(value, store)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn name_of(fields: &Map<String, Value>, mime: &str) -> String {
    let given = fields
        .get("name")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty());
    let ending = match mime {
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "video/mp4" => "mp4",
        "video/webm" => "webm",
        _ => "bin",
    };
    given.map_or_else(|| format!("file.{ending}"), str::to_owned)
}

/// What bytes are, by how they begin; never by what somebody calls them.
pub(crate) fn kind_of(bytes: &[u8]) -> &'static str {
    match bytes {
        [0xFF, 0xD8, 0xFF, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "video/mp4",
        [0x1A, 0x45, 0xDF, 0xA3, ..] => "video/webm",
        _ => "application/octet-stream",
    }
}

/// Bytes of ours, in the store.
///
/// # Errors
/// See [`MediaError`].
pub(crate) fn store(
    media: &Media,
    bounds: Bounds,
    bytes: &[u8],
    name: &str,
    mime: &str,
) -> Result<super::Handle, MediaError> {
    use std::io::Write;
    let size = bytes.len() as u64;
    let draft = media.begin(size, bounds)?;
    draft.arrived(size)?;
    draft.file()?.write_all(bytes)?;
    draft.keep(atoll_pairing::blob::hash(bytes), name, mime)
}

/// A result in words for a model: without any text that is nothing but encoded bytes, wherever it stands.
pub(crate) fn in_words(result: &Json) -> String {
    let text = result.as_str();
    if text.len() < SHORT {
        return text.to_owned();
    }
    let mut tree = match result.read::<Value>() {
        Ok(tree) => tree,
        Err(_) => return format!("[a result of {} bytes that nests too deep to be read]", text.len()),
    };
    if without_bytes(&mut tree) {
        tree.to_string()
    } else {
        text.to_owned()
    }
}

/// Whether anything was left out.
fn without_bytes(value: &mut Value) -> bool {
    match value {
        Value::String(text) if is_bytes(text) => {
            *value = format!("[{} characters of encoded bytes are left out]", text.len()).into();
            true
        }
        Value::Object(fields) => fields.values_mut().fold(false, |any, value| without_bytes(value) | any),
        Value::Array(items) => items.iter_mut().fold(false, |any, value| without_bytes(value) | any),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn is_bytes(text: &str) -> bool {
    if text.len() < SHORT {
        return false;
    }
    let data = text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    let body = data.map_or(text, |(_, body)| body);
    let is_digit =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_' | b'\r' | b'\n');
    body.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        budget: 1024 * 1024,
        age: Duration::from_secs(3600),
    };

    fn open() -> (tempfile::TempDir, Media) {
        let folder = tempfile::tempdir().expect("a folder");
        let media = Media::open(&folder.path().join("media")).expect("opens");
        (folder, media)
    }

    #[test]
    fn bytes_become_handles_wherever_they_stand() {
        let (_folder, media) = open();
        let jpeg = [0xFF, 0xD8, 0xFF, 0xE0, 1, 2, 3];
        let result = json!({"format": "png", "base64": STANDARD.encode(jpeg), "width": 3,
            "more": [{"name": "x.txt", "base64": STANDARD.encode("hello")}, {"base64": 5}]});
        let unpacked = unpacked(&media, BOUNDS, &result.into()).expect("stored").tree();
        assert_eq!(
            (&unpacked["width"], &unpacked["blob"]["mime"]),
            (&json!(3), &json!("image/jpeg"))
        );
        assert_eq!(
            (
                &unpacked["more"][0]["blob"]["name"],
                &unpacked["more"][0]["blob"]["size"]
            ),
            (&json!("x.txt"), &json!(5))
        );
        assert!(!unpacked.to_string().contains(&STANDARD.encode(jpeg)));
        let handle = unpacked["blob"]["id"]
            .as_str()
            .and_then(|id| id.parse().ok())
            .expect("a handle");
        let reading = media.read(handle).expect("reads").expect("is there");
        assert_eq!(reading.facts.size, 7);
    }

    #[test]
    fn what_is_not_base64_or_has_no_room_is_an_error() {
        let (_folder, media) = open();
        let large = json!({"base64": STANDARD.encode(vec![7; 2 * 1024 * 1024])});
        assert!(
            unpacked(&media, BOUNDS, &large.into())
                .expect_err("no room")
                .contains("no room")
        );
        let wrong = json!({"base64": "**"});
        assert!(
            unpacked(&media, BOUNDS, &wrong.into())
                .expect_err("wrong")
                .contains("base64")
        );
        let many: Vec<_> = (0..=MOST)
            .map(|n| json!({"base64": STANDARD.encode(n.to_string())}))
            .collect();
        assert!(unpacked(&media, BOUNDS, &json!(many).into()).is_err());
    }

    #[test]
    fn no_encoded_bytes_are_told_to_a_model_under_any_name() {
        let bytes = STANDARD.encode(vec![7; 600]);
        let prose = "many words with spaces ".repeat(60);
        let result =
            json!({"data": bytes, "url": format!("data:image/png;base64,{bytes}"), "text": prose, "list": [bytes]});
        let words = in_words(&result.into());
        assert!(!words.contains(&bytes[..200]) && words.contains(&prose), "{words}");
        assert_eq!(words.matches("left out").count(), 3);
        let small = json!({"hash": "ab".repeat(32)});
        assert_eq!(in_words(&small.clone().into()), small.to_string());
        let deep = format!("{}\"{bytes}\"{}", "[".repeat(300), "]".repeat(300));
        assert!(in_words(&Json::parse(&deep).expect("JSON")).contains("too deep"));
    }
}
