//! The threads that read. Each owns a read-only connection and sees what was committed before its read began. Never writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::Connection;
use tokio::sync::mpsc;

/// Reads at once. More wait in the queue.
pub(super) const READERS: usize = 2;

/// What a thread is told.
pub(super) enum Ask {
    /// One read, which answers by itself and catches its own panic.
    Read(Box<dyn FnOnce(&Connection) + Send>),
    /// Take no more, finish what waits, end.
    Close,
}

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
    while let Some(ask) = next(queue) {
        match ask {
            Ask::Read(read) => read(conn),
            Ask::Close => queue.lock().unwrap_or_else(PoisonError::into_inner).close(),
        }
    }
}

fn next(queue: &Mutex<mpsc::Receiver<Ask>>) -> Option<Ask> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}
