//! What comes of the bytes of a result: for a model a small picture, for a chat the whole thing, both by their handles. Never decodes
//! anything in this process.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_agent::message::{Media as Given, View};
use atoll_agent::port::Pictures as Port;
use atoll_capabilities::shrink::{self, Small};
use atoll_channels::port::{FileError, Files, Outbound};
use atoll_protocol::blob::{self, BlobHandle, BlobKind};
use atoll_protocol::json::Json;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::config::ConfigStore;
use crate::media::{self, Media, Reading};

/// Files of one result that are looked at. More are only named in its text.
const MOST: usize = 8;

/// How long a picture waits for those before it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The beginning of a file, which tells what it is.
const MAGIC: usize = 16;

/// Pictures and files out of the store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pictures {
    media: Media,
    config: ConfigStore,
    /// One helper at a time: each may take much memory.
    turn: Arc<Semaphore>,
}

/// The files of a result, and what a model is told about those that it cannot be shown.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) media: Vec<Given>,
    pub(crate) notes: Vec<String>,
}

impl Pictures {
    /// Those of this store.
    pub(crate) fn new(media: Media, config: ConfigStore) -> Self {
        Self {
            media,
            config,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// What a result names, with a small picture of each picture.
    pub(crate) async fn of(&self, result: &Json) -> Found {
        let mut found = Found::default();
        let files = blob::handles(result)
            .into_iter()
            .filter(|handle| handle.kind == BlobKind::File);
        for handle in files.take(MOST) {
            let name = handle.name.clone();
            match self.one(handle).await {
                Ok((given, None)) => found.media.push(given),
                Ok((given, Some(note))) => {
                    found.media.push(given);
                    found
                        .notes
                        .push(format!("[The picture {name} cannot be shown: {note}.]"));
                }
                Err(error) => found.notes.push(format!("[The file {name} cannot be read: {error}.]")),
            }
        }
        found
    }

    /// What a result names, for somebody who is sent the whole of it.
    pub(crate) async fn named(&self, result: &Json) -> Found {
        let mut found = Found::default();
        let files = blob::handles(result)
            .into_iter()
            .filter(|handle| handle.kind == BlobKind::File);
        for handle in files.take(MOST) {
            match self.opened(handle.id.as_str()).await {
                Ok((reading, mime)) => found.media.push(given(&handle, &reading, mime)),
                Err(error) => found.notes.push(error),
            }
        }
        found
    }

    /// Puts bytes into the store, durably.
    ///
    /// # Errors
    /// They have no room, or the disk fails.
    pub(crate) async fn keep(&self, name: &str, mime: &'static str, bytes: Vec<u8>) -> Result<Given, String> {
        let (media, bounds, label) = (
            self.media.clone(),
            self.config.current().media.bounds(),
            name.to_owned(),
        );
        let size = bytes.len() as u64;
        let store = move || media::store(&media, bounds, &bytes, &label, mime);
        let handle = tokio::task::spawn_blocking(store)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Given {
            handle: handle.map_err(|error| error.to_string())?.to_string(),
            name: name.to_owned(),
            mime: mime.to_owned(),
            size,
            view: None,
        })
    }

    /// The same with a small picture of it.
    ///
    /// # Errors
    /// It cannot be decoded, or too many wait.
    pub(crate) async fn shown(&self, given: Given) -> Result<Given, String> {
        let (reading, _) = self.opened(&given.handle).await?;
        let view = Some(self.viewed(&reading).await?);
        Ok(Given { view, ..given })
    }

    async fn one(&self, handle: BlobHandle) -> Result<(Given, Option<String>), String> {
        let (reading, mime) = self.opened(handle.id.as_str()).await?;
        let given = given(&handle, &reading, mime);
        if !mime.starts_with("image/") {
            return Ok((given, None));
        }
        Ok(match self.viewed(&reading).await {
            Ok(view) => (
                Given {
                    view: Some(view),
                    ..given
                },
                None,
            ),
            Err(note) => (given, Some(note)),
        })
    }

    async fn opened(&self, handle: &str) -> Result<(Reading, &'static str), String> {
        let (media, handle) = (self.media.clone(), handle.to_owned());
        let open = move || -> io::Result<Option<(Reading, &'static str)>> {
            let Some(reading) = handle
                .parse()
                .ok()
                .map(|handle| media.read(handle))
                .transpose()?
                .flatten()
            else {
                return Ok(None);
            };
            let mut magic = Vec::with_capacity(MAGIC);
            reading.reopen()?.take(MAGIC as u64).read_to_end(&mut magic)?;
            Ok(Some((reading, media::kind_of(&magic))))
        };
        let opened = tokio::task::spawn_blocking(open)
            .await
            .map_err(|error| error.to_string())?;
        opened
            .map_err(|error| error.to_string())?
            .ok_or_else(|| "it is not in the media store any more".to_owned())
    }

    /// A small picture in the store. The same picture always gives the same one.
    async fn viewed(&self, reading: &Reading) -> Result<View, String> {
        if reading.facts.size > shrink::LARGEST {
            return Err(format!(
                "it has {} bytes, more than {}",
                reading.facts.size,
                shrink::LARGEST
            ));
        }
        let file = reading.reopen().map_err(|error| error.to_string())?;
        let turn = timeout(PATIENCE, self.turn.acquire()).await;
        let _turn = turn
            .map_err(|_| "too many pictures wait")?
            .map_err(|error| error.to_string())?;
        let small = shrink::shrink(file).await.map_err(|error| error.to_string())?;
        let (media, bounds) = (self.media.clone(), self.config.current().media.bounds());
        let Small { width, height, jpeg } = small;
        let keep = move || media::store(&media, bounds, &jpeg, "view.jpg", View::MIME);
        let kept = tokio::task::spawn_blocking(keep)
            .await
            .map_err(|error| error.to_string())?;
        Ok(View {
            handle: kept.map_err(|error| error.to_string())?.to_string(),
            width,
            height,
        })
    }

    async fn bytes(&self, handle: &str, limit: u64) -> Result<Vec<u8>, FileError> {
        let (media, handle) = (self.media.clone(), handle.to_owned());
        let read = move || {
            let failed = |error: io::Error| FileError::Failed(error.to_string());
            let handle = handle.parse().map_err(|_| FileError::Gone)?;
            let reading = media.read(handle).map_err(failed)?.ok_or(FileError::Gone)?;
            if reading.facts.size > limit {
                return Err(FileError::TooLarge(reading.facts.size));
            }
            let mut bytes = Vec::new();
            reading
                .reopen()
                .map_err(failed)?
                .take(limit)
                .read_to_end(&mut bytes)
                .map_err(failed)?;
            Ok(bytes)
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|error| Err(FileError::Failed(error.to_string())))
    }
}

fn given(handle: &BlobHandle, reading: &Reading, mime: &str) -> Given {
    Given {
        handle: handle.id.to_string(),
        name: reading.facts.name.clone(),
        mime: mime.to_owned(),
        size: reading.facts.size,
        view: None,
    }
}

/// A file as a channel sends it.
pub(crate) fn outbound(media: &Given, caption: String) -> Outbound {
    Outbound::File {
        handle: media.handle.clone(),
        name: media.name.clone(),
        mime: media.mime.clone(),
        caption,
        reply_to: None,
    }
}

#[async_trait]
impl Port for Pictures {
    async fn view(&self, handle: &str) -> Option<Vec<u8>> {
        match self.bytes(handle, shrink::BYTES as u64).await {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                tracing::info!(handle, %error, "a model is not shown a picture again");
                None
            }
        }
    }
}

#[async_trait]
impl Files for Pictures {
    async fn read(&self, handle: &str, limit: u64) -> Result<Vec<u8>, FileError> {
        self.bytes(handle, limit).await
    }
}
