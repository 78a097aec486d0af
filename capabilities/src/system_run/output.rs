//! What is kept of a stream that may be endless: its head and its tail, and how much lies between.

use std::collections::VecDeque;

/// One stream of a command. Never holds more than its cap.
#[derive(Debug)]
pub(crate) struct Capture {
    cap: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    missing: u64,
}

impl Capture {
    /// Keeps at most `cap` bytes, half of them from either end.
    pub(crate) fn new(cap: usize) -> Self {
        Self {
            cap,
            head: Vec::new(),
            tail: VecDeque::new(),
            missing: 0,
        }
    }

    /// Takes what the command wrote.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
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

    /// Whether something was left out.
    pub(crate) fn is_truncated(&self) -> bool {
        self.missing > 0
    }

    /// The text: head, a note where something is missing, tail; invalid UTF-8 replaced.
    pub(crate) fn into_text(mut self) -> String {
        if self.missing == 0 {
            self.head.extend(self.tail);
            return String::from_utf8_lossy(&self.head).into_owned();
        }
        let tail = Vec::from(self.tail);
        format!(
            "{}\n[… {} bytes left out …]\n{}",
            String::from_utf8_lossy(&self.head),
            self.missing,
            String::from_utf8_lossy(&tail)
        )
    }
}

/// Turns a stream's bytes into text piece by piece without tearing a character that two reads share.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pending: Vec<u8>,
}

impl Decoder {
    /// The text that is certain by now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let torn = torn_tail(&self.pending);
        let rest = self.pending.split_off(self.pending.len() - torn);
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending = rest;
        text
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
        assert!(!capture.is_truncated());
        assert_eq!(capture.into_text(), "abcdefgh");
    }

    #[test]
    fn a_long_stream_keeps_both_ends_and_counts_the_rest() {
        let mut capture = Capture::new(8);
        for byte in b'a'..=b'z' {
            capture.push(&[byte]);
        }
        assert!(capture.is_truncated());
        assert_eq!(capture.into_text(), "abcd\n[… 18 bytes left out …]\nwxyz");
    }

    proptest! {
        #[test]
        fn how_it_is_cut_into_reads_changes_nothing(bytes: Vec<u8>, cuts in prop::collection::vec(1..9usize, 0..40)) {
            let mut whole = Capture::new(16);
            whole.push(&bytes);
            let mut parts = Capture::new(16);
            let mut decoder = Decoder::default();
            let (mut rest, mut text) = (bytes.as_slice(), String::new());
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                parts.push(part);
                text.push_str(&decoder.push(part));
                rest = after;
            }
            parts.push(rest);
            text.push_str(&decoder.push(rest));
            prop_assert_eq!(whole.missing, bytes.len().saturating_sub(16) as u64);
            prop_assert_eq!(whole.into_text(), parts.into_text());
            let lossy = String::from_utf8_lossy(&bytes).into_owned();
            prop_assert!(lossy.starts_with(&text));
        }
    }
}
