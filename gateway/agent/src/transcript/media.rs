//! Pictures and files in a transcript: OpenClaw's part `image`, with handles of the media store in the place of its `data`. A file that is
//! no picture is a part `media`. Bytes never get into a transcript.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::message::{Media, View};

/// The type of a part that a model can look at.
pub(super) const IMAGE: &str = "image";

/// The type of any other.
pub(super) const MEDIA: &str = "media";

/// `media` of a part.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MediaLine {
    handle: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    mime_type: String,
    #[serde(default)]
    size: u64,
}

/// `view` of a part.
#[derive(Serialize, Deserialize)]
pub(super) struct ViewLine {
    handle: String,
    width: u32,
    height: u32,
}

impl MediaLine {
    pub(super) fn with(self, view: Option<ViewLine>) -> Media {
        Media {
            handle: self.handle,
            name: self.name,
            mime: self.mime_type,
            size: self.size,
            view: view.map(|view| View {
                handle: view.handle,
                width: view.width,
                height: view.height,
            }),
        }
    }
}

pub(super) fn json(media: &Media) -> Value {
    let line = MediaLine {
        handle: media.handle.clone(),
        name: media.name.clone(),
        mime_type: media.mime.clone(),
        size: media.size,
    };
    match &media.view {
        Some(view) => {
            let view = ViewLine {
                handle: view.handle.clone(),
                width: view.width,
                height: view.height,
            };
            json!({"type": IMAGE, "mimeType": View::MIME, "media": line, "view": view})
        }
        None => json!({"type": MEDIA, "media": line}),
    }
}
