//! All streams of one link that carries messages: which frame belongs to which, and what is said next.

use atoll_protocol::frame::Frame;

use super::Misuse;
use super::receiving::Receiving;
use super::sending::Sending;

/// Both directions.
#[derive(Debug)]
pub(super) struct Mux {
    pub(super) receiving: Receiving,
    pub(super) sending: Sending,
}

/// Who has something to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wake {
    /// Whoever receives this stream.
    Received(u64),
    /// Whoever sends this stream.
    Sendable(u64),
    /// Whoever accepts streams.
    Incoming,
    /// The writer.
    Writer,
}

impl Mux {
    /// Lets so many bytes of each stream that is sent be on their way.
    pub(super) fn new(most: u64) -> Self {
        Self {
            receiving: Receiving::default(),
            sending: Sending::new(most),
        }
    }

    /// Takes a frame of a stream and says who has something to do; any other comes back.
    pub(super) fn handle(&mut self, frame: Frame) -> Result<Handled, Misuse> {
        let wake = match frame {
            Frame::StreamChunk(chunk) => {
                let wake = Wake::Received(chunk.stream);
                self.receiving.handle_chunk(chunk)?;
                wake
            }
            Frame::StreamClosed(closed) => {
                let wake = Wake::Received(closed.stream);
                self.receiving.handle_closed(closed)?;
                wake
            }
            Frame::StreamWindow(window) => {
                self.sending.handle_window(window)?;
                Wake::Sendable(window.stream)
            }
            Frame::StreamAbandoned(stream) => {
                self.sending.handle_abandoned(stream)?;
                Wake::Sendable(stream)
            }
            Frame::StreamOpen(open) => {
                self.sending.handle_open(open)?;
                Wake::Incoming
            }
            other @ (Frame::Hello(_)
            | Frame::Challenge(_)
            | Frame::Proof(_)
            | Frame::Waiting(_)
            | Frame::Admitted(_)
            | Frame::Refused(_)
            | Frame::Request(_)
            | Frame::Response(_)
            | Frame::Event(_)
            | Frame::Invoke(_)
            | Frame::Progress(_)
            | Frame::Input(_)
            | Frame::Cancel(_)
            | Frame::Outcome(_)
            | Frame::Acknowledge(_)
            | Frame::Resume(_)
            | Frame::Ping(_)
            | Frame::Pong(_)
            | Frame::Granted(_)
            | Frame::BlobDone(_)
            | Frame::Clock(_)
            | Frame::Output(_)) => return Ok(Handled::Other(other)),
        };
        Ok(Handled::Stream(wake))
    }

    /// The next frame to send, and who has room since. Words that make room come first: they are small, and the other end waits
    /// for them.
    pub(super) fn poll_transmit(&mut self) -> Option<(Frame, Option<Wake>)> {
        if let Some(frame) = self.receiving.poll_transmit() {
            return Some((frame, None));
        }
        let (frame, stream) = self.sending.poll_transmit()?;
        Some((frame, Some(Wake::Sendable(stream))))
    }

    pub(super) fn is_due(&self) -> bool {
        self.receiving.is_due() || self.sending.is_due()
    }
}

/// What became of a frame.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Handled {
    Stream(Wake),
    Other(Frame),
}
