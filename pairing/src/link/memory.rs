//! A pipe inside one process, for tests and for parts of one program. Never copies a message.

use tokio::sync::mpsc;

use super::{Facts, LinkError, Message, Pipe, PipeRx, PipeTx};

/// Messages on their way in one direction. More: the sender waits.
const QUEUE: usize = 64;

#[derive(Debug)]
enum Item {
    Message(Message),
    Close { code: u16, reason: String },
}

/// Two ends of one pipe, both with the same facts.
pub fn pair(facts: Facts) -> (Pipe, Pipe) {
    let (there, here_rx) = mpsc::channel(QUEUE);
    let (here, there_rx) = mpsc::channel(QUEUE);
    (end(here, here_rx, facts), end(there, there_rx, facts))
}

fn end(tx: mpsc::Sender<Item>, rx: mpsc::Receiver<Item>, facts: Facts) -> Pipe {
    let tx = Tx { queue: Some(tx) };
    let rx = Rx {
        queue: rx,
        limit: usize::MAX,
    };
    Pipe::new(PipeTx::Memory(tx), PipeRx::Memory(rx), facts)
}

/// The sending half.
#[derive(Debug)]
pub(super) struct Tx {
    queue: Option<mpsc::Sender<Item>>,
}

impl Tx {
    pub(super) async fn send(&mut self, message: Message) -> Result<(), LinkError> {
        let queue = self.queue.as_ref().ok_or(LinkError::ClosedHere)?;
        queue.send(Item::Message(message)).await.map_err(|_| ended())
    }

    pub(super) async fn close(&mut self, code: u16, reason: &str) {
        if let Some(queue) = self.queue.take() {
            let reason = reason.to_owned();
            let farewell = queue.send(Item::Close { code, reason });
            // A peer that does not read sees the end of the queue in place of the reason.
            let _ = tokio::time::timeout(super::ws::CLOSE_GRACE, farewell).await;
        }
    }
}

/// The receiving half.
#[derive(Debug)]
pub(super) struct Rx {
    queue: mpsc::Receiver<Item>,
    limit: usize,
}

impl Rx {
    pub(super) async fn recv(&mut self) -> Result<Message, LinkError> {
        match self.queue.recv().await {
            Some(Item::Message(message)) if message.len() > self.limit => {
                self.queue.close();
                Err(LinkError::TooLarge)
            }
            Some(Item::Message(message)) => Ok(message),
            Some(Item::Close { code, reason }) => Err(LinkError::Closed { code, reason }),
            None => Err(ended()),
        }
    }

    pub(super) fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }
}

fn ended() -> LinkError {
    LinkError::Closed {
        code: 1006,
        reason: String::new(),
    }
}
