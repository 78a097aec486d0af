//! Photos, videos and files that the bot sends.

use serde_json::{Value, json};

use super::{Refusal, World, html};
use crate::fake::telegram::form::Upload;

/// What Telegram takes as a photo, bytes.
const PHOTO: usize = 10 << 20;
/// What a bot may upload, bytes.
const LARGEST: usize = 50 << 20;
/// What a caption may hold, UTF-16 units.
const CAPTION: usize = 1024;

/// A file that the bot sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentFile {
    /// `photo`, `video` or `document`.
    pub kind: String,
    /// Its file name.
    pub name: String,
    /// Its media type, as the bot said.
    pub mime: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl SentFile {
    /// As a message of the API shows it.
    pub(super) fn describe(&self, message: &mut Value, caption: &str) {
        let one =
            json!({"file_id": "f", "file_unique_id": "u", "width": 1, "height": 1, "file_size": self.bytes.len()});
        message[self.kind.as_str()] = match self.kind.as_str() {
            "photo" => json!([one]),
            _ => one,
        };
        if !caption.is_empty() {
            message["caption"] = json!(caption);
        }
    }
}

impl World {
    pub(in crate::fake::telegram) fn send_file(
        &mut self,
        method: &str,
        parameters: &Value,
        upload: Upload,
    ) -> Result<Value, Refusal> {
        let kind = method.strip_prefix("send").unwrap_or_default();
        if upload.field != kind {
            return Err(Refusal::bad(&format!("there is no {kind} in the request")));
        }
        check(kind, &upload)?;
        let mut parameters = parameters.clone();
        for name in ["message_thread_id", "reply_parameters", "reply_markup"] {
            if let Some(text) = parameters[name].as_str() {
                parameters[name] =
                    serde_json::from_str(text).map_err(|_| Refusal::bad(&format!("can't parse {name}")))?;
            }
        }
        let shown = caption_of(&parameters)?;
        let file = SentFile {
            kind: kind.to_owned(),
            name: upload.name,
            mime: upload.mime,
            bytes: upload.bytes,
        };
        self.show(&parameters, shown, Some(file))
    }
}

fn check(kind: &str, upload: &Upload) -> Result<(), Refusal> {
    let size = upload.bytes.len();
    if size == 0 {
        return Err(Refusal::bad("file must be non-empty"));
    }
    if size > LARGEST {
        return Err(Refusal::new(413, "Request Entity Too Large"));
    }
    if kind != "photo" {
        return Ok(());
    }
    if size > PHOTO {
        return Err(Refusal::bad(
            "file of size is too big for a photo; the maximum size is 10485760 bytes",
        ));
    }
    let is_png = upload.bytes.starts_with(&[0x89, b'P', b'N', b'G']);
    if !is_png && atoll_capabilities::capture::preview(&upload.bytes, 64).is_none() {
        return Err(Refusal::bad("IMAGE_PROCESS_FAILED"));
    }
    Ok(())
}

/// The source, what is shown of it, and whether it was marked up.
fn caption_of(parameters: &Value) -> Result<(String, String, bool), Refusal> {
    let source = parameters["caption"].as_str().unwrap_or_default();
    let (shown, is_html) = match parameters["parse_mode"].as_str() {
        Some("HTML") => {
            let shown = html::visible(source);
            (
                shown.map_err(|error| Refusal::bad(&format!("can't parse entities: {error}")))?,
                true,
            )
        }
        None => (source.to_owned(), false),
        Some(_) => return Err(Refusal::bad("unsupported parse_mode")),
    };
    if shown.encode_utf16().count() > CAPTION {
        return Err(Refusal::bad("message caption is too long"));
    }
    Ok((source.to_owned(), shown.trim().to_owned(), is_html))
}
