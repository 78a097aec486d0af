//! Server-sent events, as far as model APIs use them: bytes in, events out. No I/O.

/// One line, bytes. More: the stream is refused.
const LINE: usize = 4 * 1024 * 1024;
/// A whole stream, bytes. More: the stream is refused.
const STREAM: usize = 128 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SseEvent {
    /// The field `event`; empty when there was none.
    pub name: String,
    /// All `data` lines, joined by line feeds.
    pub data: String,
}

/// More than a model has any reason to send.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is larger than it may be")]
pub(super) struct TooLarge;

/// The reader of one stream.
#[derive(Debug, Default)]
pub(super) struct Sse {
    line: Vec<u8>,
    after_cr: bool,
    seen: usize,
    name: String,
    data: String,
    has_data: bool,
}

impl Sse {
    /// Takes bytes as they come, cut anywhere; gives the events that are complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, TooLarge> {
        self.seen = self.seen.saturating_add(bytes.len());
        if self.seen > STREAM {
            return Err(TooLarge);
        }
        let mut events = Vec::new();
        for &byte in bytes {
            let ends = byte == b'\n' || byte == b'\r';
            if ends && !(byte == b'\n' && self.after_cr) {
                events.extend(self.end_line());
            } else if !ends {
                if self.line.len() >= LINE {
                    return Err(TooLarge);
                }
                self.line.push(byte);
            }
            self.after_cr = byte == b'\r';
        }
        Ok(events)
    }

    /// The stream ended: an event whose blank line never came still counts, since some servers leave it out.
    pub(super) fn end(&mut self) -> Option<SseEvent> {
        if !self.line.is_empty() {
            let _ = self.end_line();
        }
        self.end_event()
    }

    fn end_line(&mut self) -> Option<SseEvent> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_prefix('\u{feff}').unwrap_or(&line);
        if line.is_empty() {
            return self.end_event();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // Comments (an empty field) keep the connection alive; ids and retry times have no use here.
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<SseEvent> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        std::mem::take(&mut self.has_data).then_some(SseEvent { name, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM_TEXT: &str =
        ": hi\r\nevent: a\r\ndata: 1\r\ndata:2\r\n\r\nid: 7\n\ndata: {\"x\":\"é\"}\n\ndata: [DONE]";

    fn expected() -> Vec<SseEvent> {
        [("a", "1\n2"), ("", "{\"x\":\"é\"}"), ("", "[DONE]")]
            .map(|(name, data)| SseEvent {
                name: name.to_owned(),
                data: data.to_owned(),
            })
            .to_vec()
    }

    #[test]
    fn events_are_the_same_wherever_the_bytes_are_cut() {
        for size in 1..STREAM_TEXT.len() {
            let mut sse = Sse::default();
            let mut events = Vec::new();
            for chunk in STREAM_TEXT.as_bytes().chunks(size) {
                events.extend(sse.feed(chunk).expect("small"));
            }
            events.extend(sse.end());
            assert_eq!(events, expected(), "chunks of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut sse = Sse::default();
        assert_eq!(sse.feed(&vec![b'x'; LINE]), Ok(Vec::new()));
        assert_eq!(sse.feed(b"x"), Err(TooLarge));
    }
}
