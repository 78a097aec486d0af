//! Sending one photo, video or file. What is certain afterwards is said as for texts (`send`).
//!
//! A picture that Telegram does not take as a photo, for its shape or its size, goes as a file.

use std::time::Duration;

use teloxide::types::MessageId;

use super::api::{self, Failure};
use super::form::Form as Upload;
use super::send::{Form, Sent, Target, after_message, is_about_html, receipt, retry};
use super::{Telegram, to_html};
use crate::port::{FileError, Receipt, SendError};
use crate::split::prefix_within;

/// What Telegram takes as a photo, bytes.
const PHOTO: u64 = 10 * 1024 * 1024;
/// What a bot may upload, bytes.
const LARGEST: u64 = 50 * 1024 * 1024;
/// What a caption may hold, UTF-16 units.
const CAPTION: usize = 1024;
/// A line that is slower than this gives up, bytes a second.
const SLOWEST: u64 = 256 * 1024;
/// When the store did not answer.
const STORE_RETRY: Duration = Duration::from_secs(5);

/// What is sent.
pub(super) struct File<'a> {
    pub(super) handle: &'a str,
    pub(super) name: &'a str,
    pub(super) mime: &'a str,
    pub(super) caption: &'a str,
    pub(super) reply_to: Option<MessageId>,
}

/// How Telegram shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Photo,
    Video,
    Document,
}

impl Kind {
    fn of(mime: &str, size: u64) -> Self {
        match mime {
            "image/jpeg" | "image/png" | "image/webp" if size <= PHOTO => Self::Photo,
            "video/mp4" => Self::Video,
            _ => Self::Document,
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Photo => "SendPhoto",
            Self::Video => "SendVideo",
            Self::Document => "SendDocument",
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::Photo => "photo",
            Self::Video => "video",
            Self::Document => "document",
        }
    }
}

impl Telegram {
    /// Reads the bytes and sends them, once.
    pub(super) async fn send_file(&self, mut target: Target, file: File<'_>) -> Result<Receipt, SendError> {
        self.pause(target.chat).await?;
        // One at a time: each may be large.
        let turn = self.uploads.acquire().await;
        let _turn = turn.map_err(|error| retry(STORE_RETRY, error.to_string()))?;
        let bytes = self.files.read(file.handle, LARGEST).await.map_err(unreadable)?;
        let size = bytes.len() as u64;
        let deadline = self.timing.request + Duration::from_secs(size / SLOWEST);
        let (mut kind, mut form, mut moved) = (Kind::of(file.mime, size), Form::Html, false);
        loop {
            let upload = filled(target, &file, kind, form, &bytes);
            match api::upload::<Sent>(&self.sender, kind.method(), upload, deadline).await {
                Ok(sent) => return Ok(receipt(Some(sent.message_id.to_string()))),
                Err(Failure::Refused(reason)) if form == Form::Html && is_about_html(&reason) => form = Form::Plain,
                Err(Failure::Refused(reason)) if kind == Kind::Photo && is_about_photo(&reason) => {
                    kind = Kind::Document
                }
                Err(Failure::Moved(chat)) if !moved => {
                    target.chat = teloxide::types::ChatId(chat);
                    moved = true;
                }
                Err(failure) => return Err(after_message(failure)),
            }
        }
    }
}

fn filled(target: Target, file: &File<'_>, kind: Kind, form: Form, bytes: &[u8]) -> Upload {
    let mut upload = Upload::new();
    upload.text("chat_id", &target.chat.0.to_string());
    if let Some(thread) = target.thread {
        upload.text("message_thread_id", &thread.0.0.to_string());
    }
    if let Some(message) = file.reply_to {
        let reply = serde_json::json!({"message_id": message.0, "allow_sending_without_reply": true});
        upload.text("reply_parameters", &reply.to_string());
    }
    let caption = prefix_within(file.caption, CAPTION);
    if !caption.is_empty() {
        match form {
            Form::Html => {
                upload.text("caption", &to_html(caption));
                upload.text("parse_mode", "HTML");
            }
            Form::Plain => upload.text("caption", caption),
        }
    }
    upload.file(kind.field(), file.name, file.mime, bytes);
    upload
}

fn unreadable(error: FileError) -> SendError {
    match error {
        FileError::Failed(_) => retry(STORE_RETRY, error.to_string()),
        FileError::Gone | FileError::TooLarge(_) => SendError::Refused(error.to_string()),
    }
}

fn is_about_photo(reason: &str) -> bool {
    ["PHOTO_", "IMAGE_PROCESS_FAILED", "too big for a photo"]
        .iter()
        .any(|words| reason.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_decides_how_it_is_shown() {
        for (mime, size, kind) in [
            ("image/jpeg", 1, Kind::Photo),
            ("image/png", PHOTO, Kind::Photo),
            ("image/jpeg", PHOTO + 1, Kind::Document),
            ("image/svg+xml", 1, Kind::Document),
            ("video/mp4", LARGEST, Kind::Video),
            ("video/webm", 1, Kind::Document),
            ("", 1, Kind::Document),
        ] {
            assert_eq!(Kind::of(mime, size), kind, "{mime} {size}");
        }
    }

    #[test]
    fn bytes_that_are_gone_are_a_refusal_and_a_disk_that_fails_is_not() {
        assert!(matches!(unreadable(FileError::Gone), SendError::Refused(_)));
        assert!(matches!(unreadable(FileError::TooLarge(9)), SendError::Refused(_)));
        assert!(matches!(
            unreadable(FileError::Failed("x".into())),
            SendError::Retry { .. }
        ));
    }
}
