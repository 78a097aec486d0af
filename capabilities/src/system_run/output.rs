//! What is kept of a stream that may be endless: its head and its tail, and how much lies between.

use std::collections::VecDeque;

use atoll_protocol::limits::NATIVE_FRAME;

/// One stream as JSON, bytes: both together fit in a native frame, whatever they hold.
const WRITTEN: usize = NATIVE_FRAME / 5 * 2;

/// What one byte can become in JSON (`\u0000`).
const BYTE_WRITTEN: usize = 6;

/// One stream of a command. Never holds more than its cap.
#[derive(Debug)]
pub(crate) struct Capture {
    cap: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    missing: u64,
    written: u64,
}

impl Capture {
    /// Keeps at most `cap` bytes, half of them from either end.
    pub(crate) fn new(cap: usize) -> Self {
        Self {
            cap,
            head: Vec::new(),
            tail: VecDeque::new(),
            missing: 0,
            written: 0,
        }
    }

    /// Takes what the command wrote.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        let into_head = bytes.len().min(self.cap / 2 - self.head.len());
        let (head, rest) = bytes.split_at(into_head);
        self.head.extend_from_slice(head);
        let room = self.cap - self.cap / 2;
        // What cannot survive this very push is not copied at all.
        let (skipped, kept) = rest.split_at(rest.len().saturating_sub(room));
        let overflow = (self.tail.len() + kept.len()).saturating_sub(room);
        self.tail.drain(..overflow);
        self.tail.extend(kept);
        self.missing += (skipped.len() + overflow) as u64;
    }

    /// How much it wrote, bytes.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The text, and whether something was left out: head, a note where something is missing, tail; invalid UTF-8 replaced.
    pub(crate) fn into_text(mut self) -> (String, bool) {
        let text = self.text();
        if written_size(&text) <= WRITTEN {
            return (text, self.missing > 0);
        }
        self.shrink(WRITTEN / BYTE_WRITTEN / 2);
        (self.text(), true)
    }

    fn text(&mut self) -> String {
        if self.missing == 0 {
            let whole: Vec<u8> = self.head.iter().chain(&self.tail).copied().collect();
            return String::from_utf8_lossy(&whole).into_owned();
        }
        format!(
            "{}\n[… {} bytes left out …]\n{}",
            String::from_utf8_lossy(&self.head),
            self.missing,
            String::from_utf8_lossy(self.tail.make_contiguous())
        )
    }

    /// Keeps less of both ends.
    fn shrink(&mut self, half: usize) {
        let from_head = self.head.len().saturating_sub(half);
        self.head.truncate(half);
        let from_tail = self.tail.len().saturating_sub(half);
        self.tail.drain(..from_tail);
        self.missing += (from_head + from_tail) as u64;
    }
}

/// The size of a text as JSON, without its quotes.
fn written_size(text: &str) -> usize {
    let size = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => c.len_utf8(),
    };
    text.chars().map(size).sum()
}

/// Cuts a stream into pieces without tearing a character that two reads share. Changes no byte.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    pending: Vec<u8>,
}

impl Cutter {
    /// What ends with a whole character by now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(bytes);
        let torn = torn_tail(&self.pending);
        let rest = self.pending.split_off(self.pending.len() - torn);
        std::mem::replace(&mut self.pending, rest)
    }

    /// What is left when nothing follows.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }
}

/// How many bytes at the end begin a character and may still be completed.
fn torn_tail(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return 0,
        };
        return if length > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_stream_is_whole() {
        let mut capture = Capture::new(8);
        capture.push(b"abcd");
        capture.push(b"efgh");
        assert_eq!(capture.into_text(), ("abcdefgh".to_owned(), false));
    }

    #[test]
    fn a_long_stream_keeps_both_ends_and_counts_the_rest() {
        let mut capture = Capture::new(8);
        for byte in b'a'..=b'z' {
            capture.push(&[byte]);
        }
        assert_eq!(
            capture.into_text(),
            ("abcd\n[… 18 bytes left out …]\nwxyz".to_owned(), true)
        );
    }

    #[test]
    fn what_grows_in_json_still_fits() {
        for byte in [0, 0xff, b'"', b'a'] {
            for length in [WRITTEN / 6 - 1, WRITTEN / 4, 10 * WRITTEN] {
                let mut capture = Capture::new(200 * 1024);
                capture.push(&vec![byte; length]);
                let (text, truncated) = capture.into_text();
                let json = serde_json::to_string(&text).expect("writes");
                assert!(json.len() <= WRITTEN + 100, "{byte} {length}: {}", json.len());
                assert_eq!(json.len() - 2, written_size(&text), "{byte}");
                let kept = text
                    .chars()
                    .filter(|c| matches!(c, '\0' | '\u{fffd}' | '"' | 'a'))
                    .count();
                assert_eq!(truncated, kept < length, "{byte} {length}");
            }
        }
    }

    proptest! {
        #[test]
        fn how_it_is_cut_into_reads_changes_nothing(bytes: Vec<u8>, cuts in prop::collection::vec(1..9usize, 0..40)) {
            let mut whole = Capture::new(16);
            whole.push(&bytes);
            let mut parts = Capture::new(16);
            let mut cutter = Cutter::default();
            let (mut rest, mut pieces) = (bytes.as_slice(), Vec::new());
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                parts.push(part);
                pieces.push(cutter.push(part));
                rest = after;
            }
            parts.push(rest);
            pieces.push(cutter.push(rest));
            prop_assert_eq!(whole.missing, bytes.len().saturating_sub(16) as u64);
            prop_assert_eq!(whole.into_text(), parts.into_text());
            // Read one by one, the pieces are the text that they are together.
            let text: String = pieces.iter().map(|piece| String::from_utf8_lossy(piece)).collect();
            prop_assert!(String::from_utf8_lossy(&bytes).starts_with(&text));
            pieces.push(cutter.rest());
            prop_assert_eq!(pieces.concat(), bytes);
        }
    }
}
