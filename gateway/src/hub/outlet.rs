//! The way to the writer of one link: frames in order, bounded in number and in bytes, and an end that no full queue holds up.

use std::sync::{Arc, OnceLock};

use atoll_protocol::frame::Frame;
use atoll_protocol::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Bytes are counted in blocks, so that every frame counts for something.
const BLOCK: usize = 1024;

/// What goes to the writer of one link.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A frame.
    Frame(Box<Frame>),
    /// A message of the dialect that is no frame.
    Text(String),
    /// The last thing: close with this code and reason.
    Close {
        /// WebSocket close code.
        code: u16,
        /// At most 120 bytes of it are sent.
        reason: String,
    },
}

/// The sending end. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    queue: mpsc::Sender<(Outgoing, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    cut: Arc<Cut>,
}

/// The writer's end.
#[derive(Debug)]
pub(crate) struct Queued {
    queue: mpsc::Receiver<(Outgoing, OwnedSemaphorePermit)>,
    cut: Arc<Cut>,
}

#[derive(Debug, Default)]
struct Cut {
    now: CancellationToken,
    why: OnceLock<(u16, String)>,
}

/// Makes both ends: [`limits::SEND_QUEUE`] frames and [`limits::SEND_BUFFER`] bytes.
pub(crate) fn outlet() -> (Outlet, Queued) {
    let (sender, queue) = mpsc::channel(limits::SEND_QUEUE);
    let cut = Arc::<Cut>::default();
    let outlet = Outlet {
        queue: sender,
        room: Arc::new(Semaphore::new(limits::SEND_BUFFER / BLOCK)),
        cut: cut.clone(),
    };
    (outlet, Queued { queue, cut })
}

impl Outlet {
    /// Queues it, or says that there is no room.
    pub(crate) fn try_send(&self, outgoing: Outgoing) -> bool {
        let room = self.room.clone().try_acquire_many_owned(blocks(&outgoing));
        room.is_ok_and(|room| self.queue.try_send((outgoing, room)).is_ok())
    }

    /// Queues it once there is room. A link that is gone takes nothing.
    pub(crate) async fn send(&self, outgoing: Outgoing) {
        let Ok(room) = self.room.clone().acquire_many_owned(blocks(&outgoing)).await else {
            return;
        };
        let _ = self.queue.send((outgoing, room)).await;
    }

    /// Closes the link after what is queued; at once where there is no room to say so.
    pub(crate) fn close(&self, code: u16, reason: &str) {
        let close = Outgoing::Close {
            code,
            reason: reason.to_owned(),
        };
        if !self.try_send(close) {
            self.cut(code, reason);
        }
    }

    /// Closes the link now, whatever it still has to read. The first reason counts.
    pub(crate) fn cut(&self, code: u16, reason: &str) {
        let _ = self.cut.why.set((code, reason.to_owned()));
        self.cut.now.cancel();
    }

    /// Resolves when the link is gone.
    pub(crate) async fn closed(&self) {
        self.queue.closed().await;
    }
}

impl Queued {
    /// The next in order; its room is free again once the second half is dropped. None when nobody sends any more.
    pub(crate) async fn next(&mut self) -> Option<(Outgoing, OwnedSemaphorePermit)> {
        self.queue.recv().await
    }

    /// What is queued now.
    pub(crate) fn try_next(&mut self) -> Option<(Outgoing, OwnedSemaphorePermit)> {
        self.queue.try_recv().ok()
    }

    /// Resolves when the link is to be closed at once, and says with what.
    pub(crate) fn cut(&self) -> impl Future<Output = (u16, String)> + Send + use<> {
        let cut = self.cut.clone();
        async move {
            cut.now.cancelled().await;
            cut.why.get().cloned().unwrap_or_else(|| (1008, String::new()))
        }
    }
}

/// What it counts for. One that is larger than all the room takes all of it.
fn blocks(outgoing: &Outgoing) -> u32 {
    let bytes = match outgoing {
        Outgoing::Frame(frame) => open_ended(frame),
        Outgoing::Text(text) => text.len(),
        // The end of a link frees more than it takes.
        Outgoing::Close { .. } => return 0,
    };
    u32::try_from((1 + bytes / BLOCK).min(limits::SEND_BUFFER / BLOCK)).unwrap_or(u32::MAX)
}

/// The part of a frame that can be large.
fn open_ended(frame: &Frame) -> usize {
    if let Frame::Response(response) = frame {
        return match &response.result {
            Ok(reply) => reply.as_str().len(),
            Err(error) => error.message.len() + error.details.as_ref().map_or(0, |details| details.as_str().len()),
        };
    }
    if let Frame::Event(event) = frame {
        return event.payload.as_str().len();
    }
    if let Frame::Invoke(invoke) = frame {
        return invoke.params.as_ref().map_or(0, |params| params.as_str().len());
    }
    0
}

#[cfg(test)]
mod tests {
    use atoll_protocol::json::Json;

    use super::*;

    fn text(bytes: usize) -> Outgoing {
        Outgoing::Text("x".repeat(bytes))
    }

    #[tokio::test]
    async fn bytes_are_bounded_like_frames() {
        let (outlet, mut queued) = outlet();
        let megabyte = 1024 * 1024;
        let fitting = (0..limits::SEND_QUEUE)
            .take_while(|_| outlet.try_send(text(megabyte)))
            .count();
        assert!(
            fitting * megabyte <= limits::SEND_BUFFER && fitting > 40,
            "{fitting} of a megabyte each"
        );
        drop(queued.next().await);
        assert!(outlet.try_send(text(megabyte)), "what was sent leaves room");
    }

    #[tokio::test]
    async fn small_frames_are_bounded_by_their_number() {
        let (outlet, _queued) = outlet();
        let fitting = (0..10_000).take_while(|_| outlet.try_send(text(1))).count();
        assert_eq!(fitting, limits::SEND_QUEUE);
    }

    #[tokio::test]
    async fn the_payload_of_an_event_counts() {
        let (outlet, _queued) = outlet();
        let event = atoll_protocol::frame::Event {
            name: "agent".to_owned(),
            payload: Json::of(&"x".repeat(limits::SEND_BUFFER)).expect("writes"),
            seq: None,
            state: None,
        };
        assert!(outlet.try_send(Outgoing::Frame(Box::new(Frame::Event(event)))));
        assert!(!outlet.try_send(text(1)), "there is no room beside it");
    }

    #[tokio::test]
    async fn a_full_queue_does_not_keep_a_link_open() {
        let (outlet, queued) = outlet();
        while outlet.try_send(text(1)) {}
        outlet.close(4001, "device removed");
        assert_eq!(queued.cut().await, (4001, "device removed".to_owned()));
    }

    #[tokio::test]
    async fn a_close_comes_after_what_was_said_before() {
        let (outlet, mut queued) = outlet();
        outlet.try_send(text(1));
        outlet.close(1012, "service restart");
        assert!(matches!(queued.next().await, Some((Outgoing::Text(_), _))));
        assert!(matches!(
            queued.next().await,
            Some((Outgoing::Close { code: 1012, .. }, _))
        ));
    }
}
