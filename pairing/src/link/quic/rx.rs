//! The receiving half: messages of all streams, one after the other. A stream is read only as far as somebody takes its messages, so
//! that whoever does not listen slows the peer down and keeps nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use atoll_protocol::frame::Frame;
use atoll_protocol::id::CallId;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::sync::mpsc;

use super::lanes::Purpose;
use super::reader::{Heard, Lane, Reader};
use super::web::Session;
use super::{CLOSE_GRACE, LinkError, Message, Opened, Shared, lost, transport};

/// What there is to do.
enum Turn {
    Heard(Reader, Result<Heard, LinkError>),
    Opened(Opened),
    Accepted(Result<(SendStream, RecvStream), ConnectionError>),
    Flows(Result<RecvStream, ConnectionError>),
    Left,
}

/// The receiving half.
#[derive(Debug)]
pub(in crate::link) struct Rx {
    connection: Connection,
    readers: FuturesUnordered<BoxFuture<'static, (Reader, Result<Heard, LinkError>)>>,
    opened: mpsc::Receiver<Opened>,
    shared: Arc<Shared>,
    /// The peer opened its stream with the message that was given out last.
    held: Option<Reader>,
    is_admitted: bool,
    /// Of a browser, which ends the link when it ends.
    web: Option<Session>,
    /// The first stream has ended without a word.
    is_cut: bool,
    is_over: bool,
}

impl Rx {
    pub(super) fn new(
        connection: Connection,
        control: RecvStream,
        opened: mpsc::Receiver<Opened>,
        web: Option<Session>,
        shared: Arc<Shared>,
    ) -> Self {
        let rx = Self {
            connection,
            readers: FuturesUnordered::new(),
            opened,
            shared,
            held: None,
            is_admitted: false,
            web,
            is_cut: false,
            is_over: false,
        };
        rx.watch(Reader::new(Lane::Control, control, rx.shared.clone()));
        rx
    }

    pub(in crate::link) fn set_limit(&mut self, bytes: usize) {
        self.shared.limit.store(bytes, Ordering::Relaxed);
    }

    pub(in crate::link) fn admit(&mut self) {
        if self.web.is_some() {
            // Further streams are none of its language.
            return transport::admit_web(&self.connection);
        }
        transport::admit(&self.connection);
        self.is_admitted = true;
    }

    /// Ties the stream of the last message to the call that the message began.
    pub(in crate::link) fn note(&mut self, frame: &Frame) {
        let (Some(reader), Frame::Invoke(invoke)) = (&mut self.held, frame) else {
            return;
        };
        if let Lane::Theirs { call, answer } = &mut reader.lane
            && let Some(answer) = answer.take()
        {
            *call = Some(invoke.call.clone());
            self.shared.lanes.insert(Purpose::Call(invoke.call.clone()), answer);
        }
    }

    pub(in crate::link) async fn recv(&mut self) -> Result<Message, LinkError> {
        if self.is_over {
            return Err(LinkError::ClosedHere);
        }
        let result = self.next().await;
        if let Err(error) = &result {
            self.is_over = true;
            let code = if matches!(error, LinkError::TooLarge) { 1009 } else { 0 };
            self.connection.close(self.shared.code(code), b"");
        }
        result
    }

    async fn next(&mut self) -> Result<Message, LinkError> {
        if let Some(mut reader) = self.held.take() {
            if let Lane::Theirs { answer, .. } = &mut reader.lane {
                // It began no call, so there will be no answer.
                *answer = None;
            }
            self.watch(reader);
        }
        loop {
            if self.is_cut {
                return Err(self.last_word().await);
            }
            let turn = tokio::select! {
                Some((reader, heard)) = self.readers.next() => Turn::Heard(reader, heard),
                Some(opened) = self.opened.recv() => Turn::Opened(opened),
                accepted = self.connection.accept_bi(), if self.is_admitted => Turn::Accepted(accepted),
                flows = self.connection.accept_uni(), if self.is_admitted => Turn::Flows(flows),
                () = over(&mut self.web, &self.connection) => Turn::Left,
            };
            match turn {
                Turn::Left => self.is_cut = true,
                Turn::Heard(reader, heard) => {
                    if let Some(message) = self.heard(reader, heard?)? {
                        return Ok(message);
                    }
                }
                Turn::Opened(Opened { call, answers }) => {
                    self.watch(Reader::new(Lane::Own(call), answers, self.shared.clone()));
                }
                Turn::Accepted(accepted) => {
                    let (answer, stream) = accepted.map_err(|error| self.shared.ended(error))?;
                    let lane = Lane::Theirs {
                        call: None,
                        answer: Some(answer),
                    };
                    self.watch(Reader::new(lane, stream, self.shared.clone()));
                }
                Turn::Flows(accepted) => {
                    let stream = accepted.map_err(|error| self.shared.ended(error))?;
                    self.watch(Reader::new(Lane::Flow, stream, self.shared.clone()));
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    fn watch(&self, reader: Reader) {
        self.readers.push(Box::pin(reader.next()));
    }

    /// What one stream brought; none when there is nothing to hand on.
    fn heard(&mut self, reader: Reader, heard: Heard) -> Result<Option<Message>, LinkError> {
        match heard {
            Heard::Message(bytes) => {
                match &reader.lane {
                    Lane::Theirs { answer: Some(_), .. } => self.held = Some(reader),
                    Lane::Control | Lane::Own(_) | Lane::Flow | Lane::Theirs { answer: None, .. } => self.watch(reader),
                }
                Ok(Some(Message::Binary(bytes)))
            }
            Heard::Farewell { code, reason } => Err(LinkError::Closed { code, reason }),
            Heard::Reset if matches!(reader.lane, Lane::Flow) => {
                Err(LinkError::Broken("a stream of bytes was torn".to_owned()))
            }
            Heard::End | Heard::Reset => Ok(self.ended(reader.lane, matches!(heard, Heard::Reset))),
        }
    }

    fn ended(&mut self, lane: Lane, is_reset: bool) -> Option<Message> {
        match lane {
            Lane::Control => {
                self.is_cut = true;
                None
            }
            // Its answer is here, or will never come: then the call ends at its deadline.
            Lane::Own(call) => {
                self.shared.lanes.remove(&Purpose::Call(call));
                None
            }
            Lane::Theirs { call: Some(call), .. } if is_reset => cancelled(call),
            Lane::Theirs { .. } | Lane::Flow => None,
        }
    }

    /// The connection ends with its first stream; what it says then comes a moment later.
    async fn last_word(&mut self) -> LinkError {
        match tokio::time::timeout(CLOSE_GRACE, self.connection.closed()).await {
            Ok(error) => self.shared.ended(error),
            Err(_) => lost(),
        }
    }
}

/// Resolves when a browser has ended its session.
async fn over(web: &mut Option<Session>, connection: &Connection) {
    match web {
        Some(session) => session.over(connection).await,
        None => std::future::pending().await,
    }
}

/// A call whose stream is called off is cancelled.
fn cancelled(call: CallId) -> Option<Message> {
    Frame::Cancel(call).encode().ok().map(Message::Binary)
}
