//! Streams of nodes that speak OpenClaw's language, which has none: such a node is asked for one by an event, and tells it part by part
//! in requests, each answered when there is room for the next. Knows nobody who watches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use atoll_pairing::link::stream::{Chunk, StreamError};
use atoll_protocol::error::WireError;
use atoll_protocol::frame::{Event, Frame};
use atoll_protocol::id::{BlobId, DeviceId};
use atoll_protocol::scope::Role;
use atoll_protocol::shown::one_line;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::hub::Hub;

/// The name under which the hello announces all this.
pub(crate) const CAPABILITY: &str = "node-streams-v1";

/// Asks for a stream.
pub(crate) const OPEN: &str = "node.stream.open";

/// Wants no more of it.
pub(crate) const CLOSE: &str = "node.stream.close";

/// Parts on their way to those who watch; a node that is faster waits for its answers.
const AHEAD: usize = 4;

/// What those who watch hear of a node's words about the end, characters.
const REASON_CHARS: usize = 300;

/// A node that tells nothing for so long is done.
const SILENCE: Duration = Duration::from_secs(30);

/// The streams that were asked for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Arc<Mutex<HashMap<String, Asked>>>);

#[derive(Debug)]
struct Asked {
    node: DeviceId,
    parts: mpsc::Sender<Chunk>,
    /// Why the node broke it off, if it did.
    broken: Arc<OnceLock<WireError>>,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a node for the stream that a result of its named so.
    pub(crate) async fn ask(&self, hub: &Hub, node: DeviceId, blob: &BlobId) -> Telling {
        let (parts, told) = mpsc::channel(AHEAD);
        let broken = Arc::default();
        let telling = Telling {
            all: self.clone(),
            hub: hub.clone(),
            node,
            id: uuid::Uuid::new_v4().to_string(),
            told,
            broken: Arc::clone(&broken),
        };
        self.lock().insert(telling.id.clone(), Asked { node, parts, broken });
        let open = json!({"streamId": telling.id, "nodeId": node, "blobId": blob});
        say(hub, node, OPEN, open).await;
        telling
    }

    /// Takes a part that a node tells; false when nobody wants it (any more).
    pub(crate) async fn part(&self, node: DeviceId, id: &str, part: Chunk) -> bool {
        let parts = self
            .lock()
            .get(id)
            .filter(|asked| asked.node == node)
            .map(|asked| asked.parts.clone());
        match parts {
            Some(parts) => parts.send(part).await.is_ok(),
            None => false,
        }
    }

    /// A node has nothing more to tell; with a reason, before its time.
    pub(crate) fn end(&self, node: DeviceId, id: &str, reason: Option<&str>) {
        let mut all = self.lock();
        if all.get(id).is_none_or(|asked| asked.node != node) {
            return;
        }
        if let (Some(asked), Some(reason)) = (all.remove(id), reason) {
            let _ = asked.broken.set(WireError::unavailable(one_line(reason, REASON_CHARS)));
        }
    }
}

/// One stream while it is wanted; its node hears of the end.
#[derive(Debug)]
pub(crate) struct Telling {
    all: Told,
    hub: Hub,
    node: DeviceId,
    id: String,
    told: mpsc::Receiver<Chunk>,
    broken: Arc<OnceLock<WireError>>,
}

impl Telling {
    /// The next part.
    ///
    /// # Errors
    /// The node has ended it ([`StreamError::Over`]), broke it off ([`StreamError::Refused`], in its words), or says nothing any more.
    pub(crate) async fn next(&mut self) -> Result<Chunk, StreamError> {
        let part = tokio::time::timeout(SILENCE, self.told.recv()).await;
        let silent = |_| {
            let message = format!("the node sent nothing for {} s", SILENCE.as_secs());
            WireError::unavailable(message)
        };
        part.map_err(silent)?.ok_or_else(|| match self.broken.get() {
            Some(why) => StreamError::Refused(why.clone()),
            None => StreamError::Over,
        })
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
        let (hub, node, close) = (
            self.hub.clone(),
            self.node,
            json!({"streamId": self.id, "nodeId": self.node}),
        );
        tokio::spawn(async move { say(&hub, node, CLOSE, close).await });
    }
}

async fn say(hub: &Hub, node: DeviceId, name: &str, payload: Value) {
    let event = Event {
        name: name.to_owned(),
        payload: payload.into(),
        seq: None,
        state: None,
    };
    hub.to_device(node, Role::Node, Frame::Event(event)).await;
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;
    use tokio::time::timeout;

    use super::*;
    use crate::hub::OwnPresence;

    const NODE: DeviceId = DeviceId::from_digest([1; 32]);
    const OTHER: DeviceId = DeviceId::from_digest([2; 32]);

    fn hub() -> Hub {
        let own = OwnPresence {
            host: "vps".to_owned(),
            version: "0",
            instance: "boot".into(),
        };
        let (hub, running) = Hub::start(own);
        tokio::spawn(running);
        hub
    }

    fn part(text: &'static str) -> Chunk {
        Chunk::Key(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_told_by_its_own_node_alone_no_faster_than_it_is_taken_and_ends_with_it() {
        let told = Told::default();
        let mut telling = told.ask(&hub(), NODE, &BlobId::new("cam").expect("an id")).await;
        let id = telling.id.clone();
        assert!(
            !told.part(OTHER, &id, part("forged")).await,
            "the stream of another node"
        );
        for _ in 0..AHEAD {
            assert!(told.part(NODE, &id, part("a")).await);
        }
        let ahead = timeout(SILENCE / 2, told.part(NODE, &id, part("b"))).await;
        assert!(ahead.is_err(), "it waits until there is room");
        assert_eq!(telling.next().await, Ok(part("a")));
        told.end(OTHER, &id, None);
        assert!(told.part(NODE, &id, part("c")).await, "another node ends nothing");
        told.end(NODE, &id, None);
        for expected in ["a", "a", "a", "c"] {
            assert_eq!(telling.next().await, Ok(part(expected)));
        }
        assert_eq!(telling.next().await, Err(StreamError::Over));
        assert!(!told.part(NODE, &id, part("late")).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_breaks_off_is_heard_after_what_came_before_it() {
        let told = Told::default();
        let mut telling = told.ask(&hub(), NODE, &BlobId::new("cam").expect("an id")).await;
        assert!(told.part(NODE, &telling.id, part("a")).await);
        told.end(NODE, &telling.id, Some("CANCELLED: paused\n\x1b[2J"));
        assert_eq!(telling.next().await, Ok(part("a")));
        let why = WireError::unavailable("CANCELLED: paused··[2J");
        assert_eq!(telling.next().await, Err(StreamError::Refused(why)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_falls_silent_is_done_and_one_that_nobody_watches_is_told_so() {
        let told = Told::default();
        let mut telling = told.ask(&hub(), NODE, &BlobId::new("cam").expect("an id")).await;
        let id = telling.id.clone();
        let silent = telling.next().await.expect_err("silent for too long");
        assert!(silent.to_string().contains("nothing for 30 s"), "{silent}");
        drop(telling);
        assert!(!told.part(NODE, &id, part("late")).await);
        assert!(told.lock().is_empty());
    }
}
