//! What a program on a node writes, written here: each stream to its own, to the byte; on a terminal without what could steer it.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::call::unread;
use crate::cli::CliError;
use crate::cli::output::{text, visible};

/// Pieces between the link and the terminal. More: the link waits, and with it in the end the program.
const PIECES: usize = 1024;

/// How long a terminal has for what was written before a call was given up.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The streams of a program, standard output first.
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// How it is written.
pub(super) struct Output {
    pieces: Option<mpsc::Sender<(usize, Vec<u8>)>>,
    end: oneshot::Receiver<io::Result<()>>,
    /// Bytes of each stream so far.
    shown: [u64; 2],
    /// Something in between never came: nothing is shown behind it.
    has_gap: bool,
}

impl Output {
    /// A thread of its own writes, so that one that does not get rid of its text holds up nothing else.
    pub(super) fn open() -> Self {
        let (pieces, queue) = mpsc::channel(PIECES);
        let (done, end) = oneshot::channel();
        std::thread::spawn(move || drop(done.send(write(queue))));
        Self {
            pieces: Some(pieces),
            end,
            shown: [0; 2],
            has_gap: false,
        }
    }

    /// Takes what a call says. False: nobody reads it.
    pub(super) async fn take(&mut self, event: &Value) -> bool {
        self.has_gap |= event.get("missed").is_some();
        let Some(stream) = STREAMS.iter().position(|stream| *stream == text(event, "stream")) else {
            return true;
        };
        if self.has_gap {
            return true;
        }
        let bytes = match event.get("base64").and_then(Value::as_str) {
            Some(base64) => STANDARD.decode(base64).unwrap_or_default(),
            None => text(event, "text").as_bytes().to_vec(),
        };
        self.shown[stream] += bytes.len() as u64;
        self.put(stream, bytes).await
    }

    async fn put(&self, stream: usize, bytes: Vec<u8>) -> bool {
        match &self.pieces {
            Some(pieces) => pieces.send((stream, bytes)).await.is_ok(),
            None => false,
        }
    }

    /// Writes what has come, of a call that has no result.
    pub(super) async fn close(mut self) {
        self.pieces = None;
        let _ = tokio::time::timeout(LAST_WORDS, self.end).await;
    }

    /// Writes what has not come yet and is in the result, and says if something is in neither.
    pub(super) async fn finish(mut self, result: &Value) -> Result<(), CliError> {
        let mut missing = 0;
        for (index, stream) in STREAMS.iter().enumerate() {
            let written = result.get(format!("{stream}Bytes")).and_then(Value::as_u64);
            let rest = rest(
                text(result, stream),
                written,
                result["truncated"] == true,
                self.shown[index],
            );
            missing += rest.missing;
            if !rest.text.is_empty() && !self.put(index, rest.text.into_bytes()).await {
                break;
            }
        }
        self.pieces = None;
        match self.end.await.unwrap_or(Ok(())) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(unread()),
            Err(error) => Err(error.into()),
            Ok(()) if missing > 0 => Err(CliError::Failed {
                message: format!(
                    "{missing} bytes of the output are missing: it was too much to pass on\n\
                     next: write it to a file there, and bring that with `atoll nodes get`"
                ),
                code: 1,
            }),
            Ok(()) => Ok(()),
        }
    }
}

struct Rest {
    text: String,
    missing: u64,
}

/// What is still to be shown of a stream of which `shown` bytes have been.
fn rest(text: &str, written: Option<u64>, is_truncated: bool, shown: u64) -> Rest {
    let none = |missing| Rest {
        text: String::new(),
        missing,
    };
    let is_whole = !is_truncated && written.is_none_or(|written| written == text.len() as u64);
    let behind = usize::try_from(shown).ok().and_then(|shown| text.get(shown..));
    match (written, behind) {
        (Some(written), _) if shown >= written => none(0),
        (_, Some(behind)) if is_whole => Rest {
            text: behind.to_owned(),
            missing: 0,
        },
        // Better than nothing: both ends of it, or with other letters.
        _ if shown == 0 => Rest {
            text: text.to_owned(),
            missing: written.unwrap_or_default().saturating_sub(text.len() as u64).max(1),
        },
        _ => none(written.unwrap_or_default().saturating_sub(shown).max(1)),
    }
}

fn write(mut queue: mpsc::Receiver<(usize, Vec<u8>)>) -> io::Result<()> {
    let mut filters = [io::stdout().is_terminal(), io::stderr().is_terminal()].map(|is| is.then(Filter::default));
    while let Some((stream, bytes)) = queue.blocking_recv() {
        let bytes = match &mut filters[stream] {
            Some(filter) => filter.pass(&bytes).into_bytes(),
            None => bytes,
        };
        if stream == 0 {
            put(&mut io::stdout().lock(), &bytes)?;
        } else {
            put(&mut io::stderr().lock(), &bytes)?;
        }
    }
    // Colours end with the program that chose them.
    if filters[0].as_ref().is_some_and(|filter| filter.is_coloured) {
        put(&mut io::stdout().lock(), b"\x1b[0m")?;
    }
    Ok(())
}

fn put(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

/// Lets text and colours through to a terminal. What would move the cursor, hide letters, set titles or answer for the person there is
/// shown and does nothing.
#[derive(Debug, Default)]
struct Filter {
    /// A sequence that is not over, or a carriage return.
    held: String,
    is_coloured: bool,
}

/// A longer one is no colour.
const SEQUENCE: usize = 32;

impl Filter {
    fn pass(&mut self, bytes: &[u8]) -> String {
        let mut shown = String::with_capacity(bytes.len());
        for c in String::from_utf8_lossy(bytes).chars() {
            self.step(c, &mut shown);
        }
        shown
    }

    fn step(&mut self, c: char, shown: &mut String) {
        if self.held == "\r" {
            self.held.clear();
            // A line that would be written over stays to be read.
            shown.push('\n');
            if c == '\n' {
                return;
            }
        }
        if self.held.is_empty() && !matches!(c, '\x1b' | '\r') {
            shown.push_str(&visible(c.encode_utf8(&mut [0; 4])));
            return;
        }
        self.held.push(c);
        let is_open = matches!(self.held.as_str(), "\r" | "\x1b" | "\x1b[");
        let is_colour = self.held.starts_with("\x1b[") && self.held.len() <= SEQUENCE;
        if is_open || (is_colour && matches!(c, '0'..='9' | ';' | ':')) {
            return;
        }
        let held = std::mem::take(&mut self.held);
        if is_colour && c == 'm' && !hides(&held) {
            self.is_coloured = true;
            shown.push_str(&held);
        } else {
            shown.push_str(&visible(&held));
        }
    }
}

/// Whether letters could not be seen behind it.
fn hides(sequence: &str) -> bool {
    let mut words = sequence
        .trim_start_matches("\x1b[")
        .trim_end_matches('m')
        .split([';', ':']);
    while let Some(word) = words.next() {
        match word {
            "8" | "08" => return true,
            // The number behind it is a colour of a table, or three are one.
            "38" | "48" | "58" => match words.next() {
                Some("5") => drop(words.next()),
                Some("2") => drop(words.nth(2)),
                _ => return true,
            },
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_terminal_gets_text_and_colours_and_nothing_that_steers_it() {
        for (text, expected) in [
            ("plain ü\tx\n", "plain ü\tx\n"),
            ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            ("\x1b[38;5;8mgrey\x1b[m", "\x1b[38;5;8mgrey\x1b[m"),
            ("\x1b[38;2;1;2;8;8mhidden", "�[38;2;1;2;8;8mhidden"),
            ("\x1b[8mhidden", "�[8mhidden"),
            ("\x1b[2Jgone", "�[2Jgone"),
            ("\x1b]0;title\x07", "�]0;title�"),
            ("\x1b[6n", "�[6n"),
            ("\x1b\x1b[2J", "��[2J"),
            ("one\r\ntwo\rthree\n", "one\ntwo\nthree\n"),
            ("\x1b[\r2J", "�[�2J"),
            ("a\u{202e}b\u{9b}2J", "a�b�2J"),
        ] {
            assert_eq!(Filter::default().pass(text.as_bytes()), expected, "{text:?}");
        }
        // Cut anywhere, it is the same.
        let mut filter = Filter::default();
        let passed: String = b"\x1b[1;31mx\r\ny".iter().map(|byte| filter.pass(&[*byte])).collect();
        assert_eq!(passed, "\x1b[1;31mx\ny");
    }

    #[test]
    fn what_did_not_come_is_in_the_result_or_is_said_to_be_missing() {
        let check = |text: &str, written, truncated, shown, expected: (&str, u64)| {
            let rest = rest(text, written, truncated, shown);
            assert_eq!(
                (rest.text.as_str(), rest.missing),
                expected,
                "{text} {written:?} {shown}"
            );
        };
        check("abc", Some(3), false, 3, ("", 0));
        check("abc", Some(3), false, 1, ("bc", 0));
        // A node that says nothing while it runs, and does not count.
        check("abc", None, false, 0, ("abc", 0));
        check("a…c", None, true, 0, ("a…c", 1));
        // All of a long output came.
        check("a…c", Some(9_000_000), true, 9_000_000, ("", 0));
        check("a…c", Some(9_000_000), true, 4_000_000, ("", 5_000_000));
        // What is no text has other letters in the result.
        check("a\u{fffd}", Some(2), false, 1, ("", 1));
    }

    #[tokio::test]
    async fn behind_a_gap_nothing_is_shown_until_the_end() {
        let (pieces, mut queue) = mpsc::channel(8);
        let (done, end) = oneshot::channel();
        done.send(Ok(())).expect("room");
        let mut output = Output {
            pieces: Some(pieces),
            end,
            shown: [0; 2],
            has_gap: false,
        };
        for event in [
            json!({"stream": "stdout", "text": "a"}),
            json!({"stream": "stderr", "base64": "/w=="}),
            json!({"callId": "words"}),
            json!({"stream": "stdout", "text": "c", "missed": 1}),
            json!({"stream": "stdout", "text": "d"}),
        ] {
            assert!(output.take(&event).await);
        }
        let result = json!({"stdout": "abcd", "stdoutBytes": 4, "stderr": "\u{fffd}", "stderrBytes": 1});
        output.finish(&result).await.expect("all of it");
        let mut shown = Vec::new();
        while let Some(piece) = queue.recv().await {
            shown.push(piece);
        }
        assert_eq!(shown, [(0, b"a".to_vec()), (1, vec![0xff]), (0, b"bcd".to_vec())]);
    }
}
