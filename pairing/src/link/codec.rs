//! Frames as messages, in one of the two languages. Never does I/O.

use atoll_protocol::dialect;
use atoll_protocol::frame::{Frame, FrameError};
use atoll_protocol::limits;

use super::Message;

/// How frames are written on a link.
#[derive(Debug, Clone, Copy)]
pub enum Codec {
    /// `atoll/1`, either end.
    Native,
    /// OpenClaw's JSON at the gateway's end.
    DialectGateway(dialect::Gateway),
    /// OpenClaw's JSON at the end of a node or an operator's program.
    DialectNode(dialect::Node),
}

impl Codec {
    /// Whether there are streams beside the frames.
    pub(super) fn has_streams(self) -> bool {
        match self {
            Self::Native => true,
            Self::DialectGateway(_) | Self::DialectNode(_) => false,
        }
    }

    /// The largest message that this end takes, bytes.
    pub(super) fn limit(self) -> usize {
        match self {
            Self::Native => limits::NATIVE_FRAME,
            Self::DialectGateway(_) => limits::JSON_FRAME,
            Self::DialectNode(_) => limits::SEND_BUFFER,
        }
    }

    /// The message for a frame; none when the language has no words for it.
    pub(super) fn write(self, frame: &Frame) -> Result<Option<Message>, FrameError> {
        match self {
            Self::Native => frame.encode().map(|bytes| Some(Message::Binary(bytes))),
            // A result that came in one frame leaves it twice, as a tree and as text.
            Self::DialectGateway(language) => within(limits::SEND_BUFFER, language.write(frame)),
            Self::DialectNode(language) => within(limits::JSON_FRAME, language.write(frame)),
        }
    }

    /// What a message says; none when there is nothing to say or do about it.
    pub(super) fn read(self, message: Message) -> Result<Option<Received>, FrameError> {
        match self {
            Self::Native => match message {
                Message::Binary(bytes) => {
                    Frame::decode(&bytes, limits::NATIVE_FRAME).map(|frame| Some(Received::Frame(frame)))
                }
                Message::Text(text) => Err(FrameError::Body {
                    kind: text.bytes().next().unwrap_or_default(),
                }),
            },
            Self::DialectGateway(language) => {
                let Some(text) = message.into_text() else {
                    return Ok(None);
                };
                Ok(match language.read(&text) {
                    Ok(frame) => Some(Received::Frame(frame)),
                    Err(reject) => Some(Received::Reject(reject)),
                })
            }
            Self::DialectNode(language) => {
                let Some(text) = message.into_text() else {
                    return Ok(None);
                };
                Ok(match language.read(&text) {
                    Ok(frame) => frame.map(Received::Frame),
                    Err(error) => {
                        tracing::debug!(%error, "passed over a message of the gateway");
                        None
                    }
                })
            }
        }
    }
}

fn within(limit: usize, text: Option<String>) -> Result<Option<Message>, FrameError> {
    match text {
        Some(text) if text.len() > limit => Err(FrameError::TooLarge { len: text.len(), limit }),
        text => Ok(text.map(Message::Text)),
    }
}

/// What came.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are frames, and a box would cost each an allocation"
)]
pub enum Received {
    /// A frame.
    Frame(Frame),
    /// Text of the dialect that is no frame: send the answer with [`super::LinkTx::feed_text`], then close if it says so.
    Reject(dialect::Reject),
}
