//! Pictures that come with a message: read from base64, put into the media store and made small for a model, before the message itself
//! is stored. Whatever is wrong with one refuses the message, which then leaves nothing behind but bytes that the store forgets in time.

use std::sync::Arc;

use atoll_agent::message::Media;
use atoll_protocol::error::WireError;
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use crate::house::House;
use crate::media::kind_of;

/// Characters of a name that are kept.
const NAME: usize = 120;

/// With or without padding, as clients of the dialect write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One picture, as it came.
#[derive(Debug, PartialEq, Eq)]
struct Attached {
    name: String,
    mime: &'static str,
    bytes: Vec<u8>,
}

/// Keeps all of them, in their order.
///
/// # Errors
/// One of them is no picture, too large, or cannot be kept; or there are too many.
pub(super) async fn keep(house: &Arc<House>, attachments: Option<Vec<Json>>) -> Result<Vec<Media>, WireError> {
    let attachments = attachments.unwrap_or_default();
    if attachments.is_empty() {
        return Ok(Vec::new());
    }
    let read = move || read_all(&attachments);
    let all = tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| WireError::unavailable(error.to_string()))??;
    let mut kept = Vec::with_capacity(all.len());
    for Attached { name, mime, bytes } in all {
        let stored = house.pictures.keep(&name, mime, bytes).await;
        let media = stored.map_err(|error| WireError::unavailable(format!("attachment {name}: {error}")))?;
        let shown = house.pictures.shown(media).await;
        kept.push(shown.map_err(|why| WireError::invalid(format!("attachment {name}: it cannot be shown: {why}")))?);
    }
    Ok(kept)
}

fn read_all(attachments: &[Json]) -> Result<Vec<Attached>, WireError> {
    if attachments.len() > limits::ATTACHMENTS {
        return Err(WireError::invalid(format!(
            "attachments: {} are too many for one message; {} at most",
            attachments.len(),
            limits::ATTACHMENTS
        )));
    }
    let one = |(index, attachment): (usize, &Json)| {
        let tree = attachment.tree();
        let label = label(&tree, index);
        read(&tree, &label).map_err(|why| WireError::invalid(format!("attachment {label}: {why}")))
    };
    attachments.iter().enumerate().map(one).collect()
}

fn label(tree: &Value, index: usize) -> String {
    let word = |name: &str| tree.get(name).and_then(Value::as_str).filter(|word| !word.is_empty());
    let label = word("fileName").or_else(|| word("type"));
    let label = label.map_or_else(|| format!("attachment-{}", index + 1), str::to_owned);
    label.chars().filter(|c| !c.is_control()).take(NAME).collect()
}

fn read(tree: &Value, label: &str) -> Result<Attached, String> {
    let content = content(tree).ok_or("content must be base64 string")?.trim();
    // A data URL holds the same.
    let data = content
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(";base64,"));
    let text = data.map_or(content, |(_, text)| text);
    if text.is_empty() {
        return Err("empty payload".to_owned());
    }
    let most = limits::ATTACHED_PICTURE;
    let size = text.trim_end_matches('=').len() / 4 * 3;
    if size > most {
        return Err(format!("image exceeds size limit ({size} > {most} bytes)"));
    }
    let bytes = BASE64.decode(text).map_err(|_| "invalid base64 content")?;
    if bytes.len() > most {
        return Err(format!("image exceeds size limit ({} > {most} bytes)", bytes.len()));
    }
    // Its bytes decide, and not what somebody calls them.
    let mime = kind_of(&bytes);
    if !mime.starts_with("image/") {
        let called = tree.get("mimeType").and_then(Value::as_str).unwrap_or(mime);
        let called: String = called.chars().filter(|c| !c.is_control()).take(NAME).collect();
        return Err(format!(
            "its bytes are no JPEG and no PNG, the pictures that are taken here; other attachments ({called}) are not supported"
        ));
    }
    Ok(Attached {
        name: named(label, mime),
        mime,
        bytes,
    })
}

/// `content`, or the source of a block of the Messages API.
fn content(tree: &Value) -> Option<&str> {
    let source = || {
        let source = tree.get("source")?;
        (source.get("type")? == "base64")
            .then_some(source.get("data")?)?
            .as_str()
    };
    tree.get("content").and_then(Value::as_str).or_else(source)
}

/// A name with an ending.
fn named(label: &str, mime: &str) -> String {
    let ending = mime.strip_prefix("image/").unwrap_or("bin");
    match label.rsplit_once('.') {
        Some((_, old)) if !old.is_empty() && old.chars().all(|c| c.is_ascii_alphanumeric()) => label.to_owned(),
        Some(_) | None => format!("{label}.{ending}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PNG: [u8; 10] = [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, 1, 2];

    fn one(attachment: Value) -> Result<Attached, String> {
        let all = read_all(&[attachment.into()]).map_err(|error| error.message)?;
        all.into_iter().next().ok_or_else(|| "none".to_owned())
    }

    #[test]
    fn a_picture_is_read_however_a_client_writes_it() {
        let text = BASE64.encode(PNG);
        let bare = text.trim_end_matches('=');
        for content in [text.clone(), bare.to_owned(), format!("data:image/png;base64,{text}")] {
            let read =
                one(json!({"fileName": "cat", "mimeType": "image/jpeg", "content": content})).expect("a picture");
            assert_eq!(
                (&*read.name, read.mime, &*read.bytes),
                ("cat.png", "image/png", &PNG[..])
            );
        }
        let block = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": text}});
        assert_eq!(one(block).expect("a picture").name, "image.png");
        let named = one(json!({"fileName": "a.b.jpeg", "content": text})).expect("a picture");
        assert_eq!(named.name, "a.b.jpeg");
    }

    #[test]
    fn what_is_no_picture_is_refused_and_named() {
        let large = BASE64.encode(vec![0; limits::ATTACHED_PICTURE + 10]);
        let refused = [
            (
                json!({"fileName": "x.png", "content": "**"}),
                "attachment x.png: invalid base64 content",
            ),
            (json!({"content": ""}), "attachment attachment-1: empty payload"),
            (
                json!({"type": "image"}),
                "attachment image: content must be base64 string",
            ),
            (json!(7), "attachment attachment-1: content must be base64 string"),
            (
                json!({"fileName": "x.pdf", "mimeType": "application/pdf", "content": "JVBERi0="}),
                "(application/pdf) are not supported",
            ),
            (
                json!({"fileName": "x", "mimeType": "image/png", "content": "JVBERi0="}),
                "no JPEG and no PNG",
            ),
            (json!({"fileName": "x", "content": large}), "image exceeds size limit"),
        ];
        for (attachment, words) in refused {
            let error = one(attachment).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
        let many: Vec<Json> = vec![json!({"content": BASE64.encode(PNG)}).into(); limits::ATTACHMENTS + 1];
        assert!(read_all(&many).expect_err("too many").message.contains("too many"));
        assert_eq!(read_all(&many[1..]).expect("fit").len(), limits::ATTACHMENTS);
    }
}
