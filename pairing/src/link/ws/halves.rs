//! The two halves of a WebSocket: one task sends, one receives and keeps the heartbeat.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use atoll_protocol::limits;
use tokio::time::{Instant, Sleep, timeout};
use tungstenite::Message as WsMessage;
use tungstenite::error::{Error as WsError, ProtocolError};
use tungstenite::protocol::frame::CloseFrame;

use super::socket::{Shared, ended, pending};
use super::{CLOSE_GRACE, LinkError, Message, SILENCE};

/// With this many bytes in the buffer, the next message waits until the socket has taken them.
const FED: usize = 64 * 1024;

/// The sending half.
#[derive(Debug)]
pub(in crate::link) struct Tx {
    shared: Arc<Shared>,
    /// Bytes of messages since the last whole flush.
    fed: usize,
}

impl Tx {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, fed: 0 }
    }

    /// Puts a message into the buffer. What a sender that was given up left there counts too, so it never piles up.
    pub(in crate::link) async fn feed(&mut self, message: Message) -> Result<(), LinkError> {
        if self.fed >= FED {
            self.flush().await?;
        }
        self.fed += message.len();
        let message = match message {
            Message::Text(text) => WsMessage::text(text),
            Message::Binary(bytes) => WsMessage::binary(bytes),
        };
        self.shared.queue(message).map_err(ended)
    }

    pub(in crate::link) async fn flush(&mut self) -> Result<(), LinkError> {
        self.shared.flush().await?;
        self.fed = 0;
        Ok(())
    }

    pub(in crate::link) async fn close(&mut self, code: u16, reason: &str) {
        self.shared.queue_close(code, reason);
        let _ = timeout(CLOSE_GRACE, self.shared.flush()).await;
    }
}

/// How one end finds out that the other has gone.
#[derive(Debug)]
pub(super) enum Beat {
    /// The gateway asks, and counts any byte as an answer. `heard` is the count at the last question.
    Ping { heard: Option<u64> },
    /// A client listens to that. `heard` is the count one period ago.
    Listen { heard: u64 },
    /// Closed from here; the other end has a moment to answer.
    Closing,
}

impl Beat {
    fn period(&self) -> Duration {
        match self {
            Self::Ping { .. } => limits::PING,
            Self::Listen { .. } => SILENCE,
            Self::Closing => CLOSE_GRACE,
        }
    }
}

/// The receiving half.
#[derive(Debug)]
pub(in crate::link) struct Rx {
    shared: Arc<Shared>,
    beat: Beat,
    alarm: Pin<Box<Sleep>>,
    is_over: bool,
}

impl Rx {
    pub(super) fn new(shared: Arc<Shared>, beat: Beat) -> Self {
        Self {
            shared,
            alarm: Box::pin(tokio::time::sleep(beat.period())),
            beat,
            is_over: false,
        }
    }

    pub(in crate::link) async fn recv(&mut self) -> Result<Message, LinkError> {
        if self.is_over {
            return Err(LinkError::ClosedHere);
        }
        let result = self.next().await;
        self.is_over = result.is_err();
        result
    }

    pub(in crate::link) fn set_limit(&mut self, bytes: usize) {
        self.shared.lock().socket.set_config(|config| {
            config.max_message_size = Some(bytes);
            config.max_frame_size = Some(bytes);
        });
    }

    async fn next(&mut self) -> Result<Message, LinkError> {
        loop {
            match poll_fn(|cx| self.poll_next(cx)).await {
                Ok(Some(WsMessage::Text(text))) => return Ok(Message::Text(text.as_str().to_owned())),
                Ok(Some(WsMessage::Binary(bytes))) => return Ok(Message::Binary(bytes.into())),
                Ok(Some(WsMessage::Ping(_) | WsMessage::Pong(_) | WsMessage::Frame(_))) => {}
                Ok(Some(WsMessage::Close(frame))) => return Err(self.farewell(frame).await),
                Ok(None) => self.on_alarm()?,
                Err(error) => return Err(self.fail(error).await),
            }
        }
    }

    /// A message, or nothing when the alarm went off.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<WsMessage>, WsError>> {
        if let Poll::Ready(result) = self.shared.poll_read(cx) {
            return Poll::Ready(result.map(Some));
        }
        if self.shared.lock().closing && !matches!(self.beat, Beat::Closing) {
            self.set_beat(Beat::Closing);
        }
        ready!(self.alarm.as_mut().poll(cx));
        Poll::Ready(Ok(None))
    }

    fn set_beat(&mut self, beat: Beat) {
        self.alarm.as_mut().reset(Instant::now() + beat.period());
        self.beat = beat;
    }

    fn on_alarm(&mut self) -> Result<(), LinkError> {
        let heard = self.shared.lock().socket.get_ref().heard;
        let next = match self.beat {
            Beat::Closing => return Err(LinkError::ClosedHere),
            Beat::Ping { heard: Some(before) } | Beat::Listen { heard: before } if heard == before => {
                return Err(LinkError::Silent);
            }
            Beat::Listen { .. } => Beat::Listen { heard },
            Beat::Ping { .. } => {
                self.shared.queue(WsMessage::Ping(Vec::new().into())).map_err(ended)?;
                // If the socket is full, the peer has enough to answer to.
                let _ = pending(self.shared.lock().socket.flush()).is_ready();
                Beat::Ping { heard: Some(heard) }
            }
        };
        self.set_beat(next);
        Ok(())
    }

    /// The other end has closed: answer it, then say what it said.
    async fn farewell(&mut self, frame: Option<CloseFrame>) -> LinkError {
        let _ = timeout(CLOSE_GRACE, poll_fn(|cx| self.shared.poll_flush(cx))).await;
        if self.shared.lock().closing {
            return LinkError::ClosedHere;
        }
        match frame {
            Some(frame) => LinkError::Closed {
                code: frame.code.into(),
                reason: frame.reason.as_str().to_owned(),
            },
            None => LinkError::Closed {
                code: 1005,
                reason: String::new(),
            },
        }
    }

    /// What came cannot be taken: say so in the way of RFC 6455, section 7.4.1, and hang up.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign and open enum: see the last arm"
    )]
    async fn fail(&mut self, error: WsError) -> LinkError {
        let code = match &error {
            WsError::Capacity(_) => Some(1009),
            WsError::Utf8(_) => Some(1007),
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            WsError::Protocol(_) => Some(1002),
            // In all other cases there is nobody left to tell.
            _ => None,
        };
        if let Some(code) = code {
            self.shared.queue_close(code, "");
            let _ = timeout(CLOSE_GRACE, self.shared.flush()).await;
            let _ = timeout(CLOSE_GRACE, poll_fn(|cx| self.shared.poll_drain(cx))).await;
        }
        if self.shared.lock().closing && code.is_none() {
            return LinkError::ClosedHere;
        }
        ended(error)
    }
}
