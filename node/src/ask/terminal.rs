//! The terminal that the daemon was started in: one question after the other, answered by a line.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc};

use super::{Question, Way};

/// Lines that were typed and not read yet. More: the reader waits.
const LINES: usize = 8;

/// A person at a terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Whose turn it is to ask has what is typed.
    lines: Mutex<mpsc::Receiver<String>>,
    typed: mpsc::Sender<String>,
    is_read: AtomicBool,
}

impl Terminal {
    /// None where the daemon was not started in one.
    pub(super) fn find() -> Option<Self> {
        (io::stdin().is_terminal() && io::stdout().is_terminal()).then(Self::new)
    }

    fn new() -> Self {
        let (typed, lines) = mpsc::channel(LINES);
        Self {
            lines: Mutex::new(lines),
            typed,
            is_read: AtomicBool::new(false),
        }
    }

    /// Begins to read, the first time that something is asked. Reading cannot be called off, so it has a thread of its own.
    fn begin(&self) {
        if self.is_read.swap(true, Ordering::Relaxed) {
            return;
        }
        let typed = self.typed.clone();
        let reading = move || {
            for line in io::stdin().lines() {
                let Ok(line) = line else { return };
                if typed.blocking_send(line).is_err() {
                    return;
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("terminal".to_owned()).spawn(reading) {
            tracing::warn!(%error, "nothing is read from the terminal");
        }
    }
}

#[async_trait]
impl Way for Terminal {
    fn name(&self) -> &'static str {
        "terminal"
    }

    async fn ask(&self, question: &Question) -> bool {
        let mut lines = self.lines.lock().await;
        if !is_in_front() {
            // Reading would stop the whole program (job control).
            return std::future::pending().await;
        }
        // What was typed before the question is no answer to it.
        forget_typed();
        self.begin();
        while lines.try_recv().is_ok() {}
        let mut prompt = Prompt::new(question);
        loop {
            prompt.show();
            let Some(line) = lines.recv().await else {
                return std::future::pending().await;
            };
            if let Some(said) = read_answer(&line) {
                prompt.is_answered = true;
                return said;
            }
        }
    }

    fn show(&self, what: &str) {
        say(&format!("In use: {what}\n"));
    }
}

/// A word that is neither is asked again.
fn read_answer(line: &str) -> Option<bool> {
    match line.trim().to_lowercase().as_str() {
        "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}

/// A question on the screen; says when it is over without an answer given here.
struct Prompt {
    text: String,
    id: String,
    is_answered: bool,
}

impl Prompt {
    fn new(question: &Question) -> Self {
        let seconds = question.patience.as_secs();
        Self {
            text: format!("{question}. Allow it? [y/n, denied in {seconds} s] "),
            id: question.id.clone(),
            is_answered: false,
        }
    }

    fn show(&self) {
        say(&self.text);
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        if !self.is_answered {
            say(&format!("\nQuestion {} is over.\n", self.id));
        }
    }
}

/// Output that nobody takes is no reason to stop.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Whether what is typed goes to this program.
#[cfg(unix)]
fn is_in_front() -> bool {
    rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|front| front == rustix::process::getpgrp())
}

#[cfg(not(unix))]
fn is_in_front() -> bool {
    true
}

#[cfg(unix)]
fn forget_typed() {
    let _ = rustix::termios::tcflush(io::stdin(), rustix::termios::QueueSelector::IFlush);
}

#[cfg(not(unix))]
fn forget_typed() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_word_is_an_answer() {
        for (line, said) in [
            ("y\n", Some(true)),
            (" YES ", Some(true)),
            ("n", Some(false)),
            ("No", Some(false)),
            ("", None),
            ("yy", None),
            ("yesterday", None),
        ] {
            assert_eq!(read_answer(line), said, "{line:?}");
        }
    }
}
