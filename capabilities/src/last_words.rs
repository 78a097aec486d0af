//! The end of what a program writes to its standard error: why it ended, for whoever hears of that.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes that are kept.
const MOST: usize = 1_000;

/// Reads to the end, so that the program never waits for somebody who reads it.
pub(crate) async fn remember(mut stderr: impl AsyncRead + Unpin, last_words: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        let mut words = last_words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(&buffer[..count]);
        let surplus = words.len().saturating_sub(MOST);
        words.drain(..surplus);
    }
}
