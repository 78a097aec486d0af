//! Reads what a server says, and ends with it when it says too much at once: one line that never ends, or lines without end. So whatever
//! reads behind this holds little.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;
use tokio::time::Instant;

/// One message, bytes. More: it is not read, and the calls under way are told so.
pub(super) const LINE: usize = 8 * 1024 * 1024;

/// Messages within [`WINDOW`]. More: the server is ended.
const LINES: u32 = 20_000;

const WINDOW: Duration = Duration::from_secs(10);

/// What a server said that cannot be taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Excess {
    /// Lines of more than [`LINE`] so far.
    pub(super) long_lines: u32,
    /// It said more than [`LINES`].
    pub(super) is_flood: bool,
}

/// A stream of lines under watch.
#[derive(Debug)]
pub(super) struct Metered<R> {
    inner: R,
    excess: watch::Sender<Excess>,
    /// Bytes of this line.
    line: usize,
    lines: u32,
    since: Instant,
}

impl<R> Metered<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            excess: watch::Sender::default(),
            line: 0,
            lines: 0,
            since: Instant::now(),
        }
    }

    /// For the client.
    #[cfg(any(feature = "mcp", test))]
    pub(super) fn excess(&self) -> watch::Receiver<Excess> {
        self.excess.subscribe()
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let before = self.line;
            self.line += part.len();
            if before <= LINE && self.line > LINE {
                self.excess.send_modify(|excess| excess.long_lines += 1);
            }
            if parts.peek().is_some() {
                self.line = 0;
                self.lines += 1;
            }
        }
        if self.since.elapsed() > WINDOW {
            (self.lines, self.since) = (0, Instant::now());
        } else if self.lines > LINES {
            self.excess.send_modify(|excess| excess.is_flood = true);
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Metered<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.excess.borrow().is_flood {
            return Poll::Ready(Ok(())); // as if it had hung up
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, into);
        self.take(&into.filled()[before..]);
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn read(bytes: &[u8]) -> (usize, Excess) {
        let mut metered = Metered::new(bytes);
        let excess = metered.excess();
        let mut heard = Vec::new();
        metered.read_to_end(&mut heard).await.expect("memory");
        let excess = *excess.borrow();
        (heard.len(), excess)
    }

    #[tokio::test]
    async fn long_lines_are_counted_and_floods_are_cut_off() {
        let quiet = b"one\ntwo\n".repeat(1000);
        assert_eq!(read(&quiet).await, (quiet.len(), Excess::default()));
        let mut long = vec![b'x'; LINE + 1];
        long.push(b'\n');
        let twice = long.repeat(2);
        assert_eq!(read(&twice).await.1.long_lines, 2);
        assert_eq!(read(&long[1..]).await.1.long_lines, 0);
        let flood = b"x\n".repeat(10 * LINES as usize);
        let (heard, excess) = read(&flood).await;
        assert!(excess.is_flood && heard < flood.len() / 2, "{heard}");
    }
}
