//! What a turn answers, as the journal keeps it. Pictures are there by their handles, never as bytes.

use std::time::Duration;

use atoll_agent::message::{Media, User, View};
use serde::{Deserialize, Serialize};

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// The text as the agent reads it.
    pub(crate) text: String,
    /// Pictures that came with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) pictures: Vec<Picture>,
    /// What was said to the turn while it ran, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) steered: Vec<String>,
    /// The conversation begins anew with it, for this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) anew: Option<String>,
    /// How long its turn may take, where whoever said it wants that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<Duration>,
    /// The model that answers, as `provider/model`, where whoever said it wants another than the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
}

/// A picture in the media store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Picture {
    handle: String,
    name: String,
    mime: String,
    size: u64,
    /// Handle, pixels in a row and rows of the small one that a model is shown.
    view: Option<(String, u32, u32)>,
}

impl Said {
    /// A text, and nothing else.
    pub(crate) fn of(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            pictures: Vec::new(),
            steered: Vec::new(),
            anew: None,
            limit: None,
            model: None,
        }
    }

    /// As the agent gets it.
    pub(crate) fn into_message(self) -> User {
        User::with_media(self.text, self.pictures.into_iter().map(Media::from))
    }
}

impl From<Media> for Picture {
    fn from(media: Media) -> Self {
        Self {
            handle: media.handle,
            name: media.name,
            mime: media.mime,
            size: media.size,
            view: media.view.map(|view| (view.handle, view.width, view.height)),
        }
    }
}

impl From<Picture> for Media {
    fn from(picture: Picture) -> Self {
        Self {
            handle: picture.handle,
            name: picture.name,
            mime: picture.mime,
            size: picture.size,
            view: picture
                .view
                .map(|(handle, width, height)| View { handle, width, height }),
        }
    }
}
