//! The terminal while `atoll nodes top` draws on it: its other page, its size, its keys; all given back, whatever ends the program.

use std::io::{self, IsTerminal, Read, Write};

use tokio::sync::mpsc;

use super::view::{self, Key};
use crate::cli::output::visible;

/// Lines of a terminal that does not say.
const LINES: usize = 24;

/// Keys that wait to be looked at; whoever types faster waits.
const KEYS: usize = 16;

/// The terminal's other page for as long as this lives, so that what was there before is there again.
pub(super) struct Screen {
    keys: mpsc::Receiver<Key>,
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
}

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        let (found, keys) = mpsc::channel(KEYS);
        let screen = Self {
            keys,
            #[cfg(unix)]
            before: by_key(),
        };
        write("\x1b[?1049h\x1b[?25l")?;
        if io::stdin().is_terminal() {
            // It ends with the process: reading a terminal cannot be called off.
            std::thread::spawn(move || read(&found));
        }
        Ok(screen)
    }

    /// The next key; never, where nobody can type.
    pub(super) async fn key(&mut self) -> Key {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }

    /// Over what was there: no line is wiped before it is written, so that nothing flickers.
    pub(super) fn draw(&self, lines: &[String]) -> io::Result<()> {
        let lines: Vec<_> = lines.iter().map(|line| format!("{}\x1b[K", visible(line))).collect();
        write(&format!("\x1b[H{}\x1b[J", lines.join("\r\n")))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write("\x1b[?25h\x1b[?1049l");
        #[cfg(unix)]
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, before);
        }
    }
}

/// The lines of the terminal as it is now.
pub(super) fn lines() -> usize {
    #[cfg(unix)]
    if let Ok(size) = rustix::termios::tcgetwinsize(io::stdout())
        && size.ws_row > 0
    {
        return size.ws_row.into();
    }
    LINES
}

/// Gives keys as they are typed and shows none of them; Ctrl-C stays what it is. What was before comes back.
#[cfg(unix)]
fn by_key() -> Option<rustix::termios::Termios> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let before = tcgetattr(io::stdin()).ok()?;
    let mut now = before.clone();
    now.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Now, &now).ok()?;
    Some(before)
}

fn read(found: &mpsc::Sender<Key>) {
    let mut bytes = [0; 64];
    while let Ok(read @ 1..) = io::stdin().lock().read(&mut bytes) {
        for key in view::keys(&bytes[..read]) {
            if found.blocking_send(key).is_err() {
                return;
            }
        }
    }
}

/// Resolves when somebody wants the program to end.
pub(super) async fn asked_to_end() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut terminate), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
