//! The threads that read. Each owns a read-only connection and sees what was committed before its read began. Never writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

/// Reads at once. More wait in the queue.
pub(super) const READERS: usize = 2;

/// What a thread is told.
pub(super) enum Ask {
    /// One read, which answers by itself and catches its own panic.
    Read(Read),
    /// Take no more, say so, finish what waits, end.
    Close(oneshot::Sender<()>),
}

pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

/// Starts one thread for each connection.
pub(super) fn start(connections: Vec<Connection>, queue: mpsc::Receiver<Ask>) -> std::io::Result<()> {
    // The threads take turns waiting: whoever holds the lock waits for the next read, the others for the lock.
    let queue = Arc::new(Mutex::new(queue));
    for conn in connections {
        let queue = Arc::clone(&queue);
        thread::Builder::new()
            .name("journal-read".into())
            .spawn(move || run(&conn, &queue))?;
    }
    Ok(())
}

fn run(conn: &Connection, queue: &Mutex<mpsc::Receiver<Ask>>) {
    while let Some(read) = next(queue) {
        read(conn);
    }
}

/// Whoever holds the queue closes it, since another would wait for the lock until one more read comes.
fn next(queue: &Mutex<mpsc::Receiver<Ask>>) -> Option<Read> {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        match queue.blocking_recv()? {
            Ask::Read(read) => return Some(read),
            Ask::Close(closed) => {
                queue.close();
                let _ = closed.send(());
            }
        }
    }
}
