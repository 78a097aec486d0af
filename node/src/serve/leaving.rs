//! A link that another has taken the place of: it carries the bytes that are on their way to their end, and nothing new.

use atoll_pairing::link::{LinkError, LinkRx, Received};
use atoll_protocol::frame::Frame;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use super::{Silence, hang_up};

/// The parts of it.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) rx: LinkRx,
    pub(super) outbox: mpsc::Sender<Frame>,
    pub(super) writer: JoinHandle<Option<LinkError>>,
    pub(super) silence: Silence,
}

impl Leaving {
    /// Until `streams` is over or the link is, then says goodbye. Calls that still come here are sent again over the new link.
    pub(super) async fn end(mut self, streams: impl Future<Output = ()>) {
        tokio::pin!(streams);
        loop {
            tokio::select! {
                () = &mut streams => break,
                received = self.rx.recv() => match received {
                    Ok(Received::Frame(Frame::Ping(number))) => {
                        self.silence.heard();
                        drop(self.outbox.try_send(Frame::Pong(number)));
                    }
                    Ok(_) => self.silence.heard(),
                    Err(_) => break,
                },
                () = sleep_until(self.silence.next()) => {
                    if self.silence.is_over() {
                        break;
                    }
                    drop(self.outbox.try_send(self.silence.ask()));
                }
                () = self.outbox.closed() => break,
            }
        }
        hang_up(self.outbox, self.writer).await;
    }
}
