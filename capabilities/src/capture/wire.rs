//! What the node and its helper say to one another: one job in, pictures and one end out, each with its kind and its length before
//! it. Lengths are checked before anything is taken.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::clip::Recipe;
use super::mjpeg::PICTURE;
use super::picture::{Picture, Size};
use super::program::Program;

/// A job, and what is said at an end, bytes.
const WORDS: usize = 64 * 1024;

/// Kind and length.
const HEAD: usize = 5;

/// Width and height before a picture.
const SIZES: usize = 8;

/// What the helper shall do. It does it once and ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Name the cameras of the system.
    Cameras,
    /// Name the screens of the X display in the environment.
    Screens,
    /// Give one picture.
    Snap { source: Source, size: Size, delay_ms: u64 },
    /// Give pictures until the time is over.
    Stream {
        source: Source,
        size: Size,
        fps: u32,
        duration_ms: u64,
    },
    /// Film into a file, which is there and empty.
    Clip {
        source: Source,
        size: Size,
        recipe: Recipe,
        file: PathBuf,
    },
}

/// Where pictures come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    /// The test pattern.
    Pattern,
    /// A program of the owner's.
    Program(Program),
    /// A camera of the system, by its id.
    Camera(String),
    /// A screen of that display.
    Screen(u32),
}

/// What the helper says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message {
    Picture(Picture),
    /// The job is done.
    Done(Value),
    /// It is not, and why.
    Failed(Trouble),
}

/// Why there is no picture: what goes to the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// None: the usual one of what was to be seen.
    pub(crate) code: Option<String>,
    pub(crate) message: String,
}

impl Trouble {
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self {
            code: None,
            message: message.into(),
        }
    }
}

/// The other end does not speak like this.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// It ended in the middle, or the pipe broke.
    #[error("the pipe broke: {0}")]
    Io(#[from] io::Error),
    /// More than it may say at once.
    #[error("it announced {length} bytes where {limit} are allowed")]
    TooLong {
        /// Announced.
        length: usize,
        /// Allowed.
        limit: usize,
    },
    /// Anything else.
    #[error("it said something that has no meaning")]
    Meaningless,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Picture = 1,
    Done = 2,
    Failed = 3,
}

impl Kind {
    /// What comes, and how long it is.
    fn read(head: [u8; HEAD]) -> Result<(Self, usize), WireError> {
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        let (kind, limit) = match kind {
            1 => (Self::Picture, SIZES + PICTURE),
            2 => (Self::Done, WORDS),
            3 => (Self::Failed, WORDS),
            _ => return Err(WireError::Meaningless),
        };
        if length > limit {
            return Err(WireError::TooLong { length, limit });
        }
        Ok((kind, length))
    }

    fn message(self, bytes: Vec<u8>) -> Result<Message, WireError> {
        let meaningless = |_| WireError::Meaningless;
        match self {
            Self::Picture => {
                let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
                let (Some(width), Some(height)) = (number(0), number(4)) else {
                    return Err(WireError::Meaningless);
                };
                let bytes = bytes[SIZES..].to_vec();
                Ok(Message::Picture(Picture { width, height, bytes }))
            }
            Self::Done => serde_json::from_slice(&bytes).map(Message::Done).map_err(meaningless),
            Self::Failed => serde_json::from_slice(&bytes).map(Message::Failed).map_err(meaningless),
        }
    }
}

/// Says something. Waits for a reader.
pub(crate) fn say(out: &mut impl Write, message: &Message) -> io::Result<()> {
    let (kind, payload) = match message {
        Message::Picture(picture) => {
            let mut bytes = Vec::with_capacity(SIZES + picture.bytes.len());
            bytes.extend(picture.width.to_be_bytes());
            bytes.extend(picture.height.to_be_bytes());
            bytes.extend_from_slice(&picture.bytes);
            (Kind::Picture, bytes)
        }
        Message::Done(value) => (Kind::Done, serde_json::to_vec(value)?),
        Message::Failed(trouble) => (Kind::Failed, serde_json::to_vec(trouble)?),
    };
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    out.write_all(&[kind as u8])?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&payload)?;
    out.flush()
}

/// What the helper says next; none when it has ended between two messages.
pub(crate) async fn hear(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Message>, WireError> {
    let mut head = [0; HEAD];
    if from.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[1..]).await?;
    let (kind, length) = Kind::read(head)?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    kind.message(bytes).map(Some)
}

/// A job as it travels.
pub(crate) fn job(job: &Job) -> Result<Vec<u8>, WireError> {
    let text = serde_json::to_vec(job).map_err(|_| WireError::Meaningless)?;
    if text.len() > WORDS {
        return Err(WireError::TooLong {
            length: text.len(),
            limit: WORDS,
        });
    }
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend(text);
    Ok(bytes)
}

/// The job that the node gives.
pub(crate) fn take_job(from: &mut impl Read) -> Result<Job, WireError> {
    let mut head = [0; 4];
    from.read_exact(&mut head)?;
    let length = u32::from_be_bytes(head) as usize;
    if length > WORDS {
        return Err(WireError::TooLong { length, limit: WORDS });
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text)?;
    serde_json::from_slice(&text).map_err(|_| WireError::Meaningless)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::picture::Format;
    use proptest::prelude::*;
    use serde_json::json;

    fn messages() -> Vec<Message> {
        vec![
            Message::Picture(Picture {
                width: 640,
                height: 360,
                bytes: vec![7; 300],
            }),
            Message::Done(json!({"devices": []})),
            Message::Failed(Trouble::unavailable("gone")),
        ]
    }

    #[tokio::test]
    async fn what_is_said_is_heard() {
        let mut bytes = Vec::new();
        messages()
            .iter()
            .for_each(|message| say(&mut bytes, message).expect("room"));
        let mut from = bytes.as_slice();
        for message in messages() {
            assert_eq!(hear(&mut from).await.expect("whole"), Some(message));
        }
        assert_eq!(hear(&mut from).await.expect("the end"), None);
    }

    #[tokio::test]
    async fn what_is_too_long_is_refused_before_it_takes_room() {
        for (kind, length) in [(1, u32::MAX), (1, (PICTURE + 9) as u32), (2, 65_537), (3, 65_537)] {
            let head = [&[kind][..], &length.to_be_bytes()].concat();
            let refused = hear(&mut head.as_slice()).await;
            assert!(matches!(refused, Err(WireError::TooLong { .. })), "{kind} {length}");
        }
        let torn = hear(&mut &[2, 0, 0, 0, 9, b'{'][..]).await;
        assert!(matches!(torn, Err(WireError::Io(_))));
    }

    #[test]
    fn a_job_travels_whole_or_not_at_all() {
        let told = Job::Snap {
            source: Source::Camera("0".to_owned()),
            size: Size {
                max_width: 1600,
                quality: 90,
                is_exact: false,
                format: Format::Png,
            },
            delay_ms: 5,
        };
        let bytes = job(&told).expect("fits");
        assert_eq!(take_job(&mut bytes.as_slice()).expect("whole"), told);
        assert!(take_job(&mut &bytes[..9]).is_err());
        assert!(take_job(&mut &[0xFF; 8][..]).is_err());
        let long = Job::Snap {
            source: Source::Camera("x".repeat(WORDS)),
            size: Size {
                max_width: 1,
                quality: 1,
                is_exact: true,
                format: Format::Jpeg,
            },
            delay_ms: 0,
        };
        assert!(job(&long).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let _ = runtime.block_on(hear(&mut bytes.as_slice()));
            let _ = take_job(&mut bytes.as_slice());
        }
    }
}
