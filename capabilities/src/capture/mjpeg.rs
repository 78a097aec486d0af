//! Where JPEGs begin and end: takes them out of a stream of bytes, and what a camera wrote beside the picture out of them. Never decodes.

/// One picture, bytes. More: it is not taken for one.
pub(crate) const PICTURE: usize = 16 * 1024 * 1024;

/// Where a walk through the segments of a JPEG has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// More bytes are needed.
    Torn,
    /// It is none.
    Broken,
    /// It ends before this byte.
    Whole(usize),
}

/// Goes through the segments of what begins with a JPEG; `each` sees every marker, its place and its segment, bytes of marker and length
/// included.
fn walk(bytes: &[u8], mut each: impl FnMut(u8, usize, &[u8])) -> Walk {
    if !bytes.starts_with(&[0xFF, 0xD8]) {
        return if bytes.len() < 2 { Walk::Torn } else { Walk::Broken };
    }
    let mut at = 2;
    loop {
        let Some(&[first, marker]) = bytes.get(at..at + 2).and_then(|two| two.first_chunk()) else {
            return Walk::Torn;
        };
        match (first, marker) {
            (0xFF, 0xFF) => at += 1, // fill
            (0xFF, 0xD9) => return Walk::Whole(at + 2),
            (0xFF, 0x01 | 0xD0..=0xD7) => at += 2,
            (0xFF, 0x02..=0xCF | 0xDA..=0xFE) => {
                let Some(length) = bytes.get(at + 2..at + 4).and_then(|two| two.first_chunk()) else {
                    return Walk::Torn;
                };
                let end = at + 2 + usize::from(u16::from_be_bytes(*length));
                if end < at + 4 {
                    return Walk::Broken;
                }
                let Some(segment) = bytes.get(at..end) else {
                    return Walk::Torn;
                };
                each(marker, at, segment);
                at = end;
                if marker == 0xDA {
                    match scan_end(bytes, at) {
                        Some(end) => at = end,
                        None => return Walk::Torn,
                    }
                }
            }
            _ => return Walk::Broken,
        }
    }
}

/// The marker after the coded picture that begins at `from`.
fn scan_end(bytes: &[u8], from: usize) -> Option<usize> {
    let pairs = bytes.get(from..)?.windows(2);
    let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xFF | 0xD0..=0xD7);
    let found = pairs.enumerate().find(|(_, pair)| is_marker(pair));
    found.map(|(offset, _)| from + offset)
}

/// Takes JPEGs out of bytes that come in parts. What lies between them (the parts of `multipart/x-mixed-replace`) is skipped.
#[derive(Debug, Default)]
pub struct Splitter {
    pending: Vec<u8>,
}

impl Splitter {
    /// Takes more bytes; gives the pictures that are whole now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.pending.extend_from_slice(bytes);
        let mut pictures = Vec::new();
        loop {
            self.skip_to_start();
            match walk(&self.pending, |_, _, _| {}) {
                Walk::Whole(end) => {
                    let rest = self.pending.split_off(end);
                    pictures.push(std::mem::replace(&mut self.pending, rest));
                }
                Walk::Torn if self.pending.len() <= PICTURE => return pictures,
                Walk::Torn | Walk::Broken => drop(self.pending.drain(..1)),
            }
        }
    }

    fn skip_to_start(&mut self) {
        let start = self.pending.windows(2).position(|two| two == [0xFF, 0xD8]);
        // The last byte may be the first of the two.
        let start = start.unwrap_or(self.pending.len().saturating_sub(1));
        self.pending.drain(..start);
    }
}

/// What a camera wrote beside its picture.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    /// The picture without them.
    pub(crate) bare: Vec<u8>,
    /// How it has to be turned, as Exif numbers it; 1 is not at all.
    pub(crate) orientation: u8,
    /// It has the tables that it is coded with, so anything can show it.
    pub(crate) is_complete: bool,
}

/// Takes the notes out of a JPEG: they may say where and by what it was taken. None when it is no whole JPEG.
pub(crate) fn strip(jpeg: &[u8]) -> Option<Notes> {
    let mut notes = Notes {
        bare: vec![0xFF, 0xD8],
        orientation: 1,
        is_complete: false,
    };
    let mut scans_at = None;
    let walked = walk(jpeg, |marker, at, segment| {
        if scans_at.is_some() {
            return;
        }
        match marker {
            // APP1 to APP15 and comments; APP0 and Adobe's APP14 say how the colours are meant.
            0xE1 => notes.orientation = orientation(segment).unwrap_or(notes.orientation),
            0xE2..=0xED | 0xEF | 0xFE => {}
            0xDA => scans_at = Some(at),
            other => {
                notes.is_complete |= other == 0xC4;
                notes.bare.extend_from_slice(segment);
            }
        }
    });
    let (Walk::Whole(end), Some(scans)) = (walked, scans_at) else {
        return None;
    };
    notes.bare.extend_from_slice(jpeg.get(scans..end)?);
    Some(notes)
}

/// The orientation of an Exif segment (TIFF tag 0x0112), marker and length included.
fn orientation(segment: &[u8]) -> Option<u8> {
    let tiff = segment.get(4..)?.strip_prefix(b"Exif\0\0")?;
    let is_little = match tiff.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let number = |at: usize, len: usize| -> Option<usize> {
        let bytes = tiff.get(at..at.checked_add(len)?)?;
        let fold = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
        Some(if is_little {
            bytes.iter().rev().fold(0, fold)
        } else {
            bytes.iter().fold(0, fold)
        })
    };
    let directory = number(4, 4)?;
    let entries = number(directory, 2)?;
    let mut places = (0..entries).map_while(|entry| directory.checked_add(2 + entry * 12));
    let place = places.find(|place| number(*place, 2) == Some(0x0112))?;
    let value = number(place + 8, 2)?;
    u8::try_from(value).ok().filter(|value| (1..=8).contains(value))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Segments: a thumbnail that is a JPEG itself, an orientation, tables, a scan with stuffed bytes.
    pub(crate) fn noted(orientation: u8) -> Vec<u8> {
        let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0xFF, 0xD8, 0xFF, 0xD9]);
        let mut jpeg = vec![0xFF, 0xD8];
        for (marker, payload) in [(0xE1, exif.as_slice()), (0xFE, b"Paris"), (0xC4, &[1, 2]), (0xDA, &[3])] {
            jpeg.extend([0xFF, marker, 0, u8::try_from(payload.len() + 2).expect("short")]);
            jpeg.extend_from_slice(payload);
        }
        jpeg.extend([7, 0xFF, 0x00, 0xFF, 0xD3, 8, 0xFF, 0xD9]);
        jpeg
    }

    #[test]
    fn notes_go_and_the_picture_stays() {
        let notes = strip(&noted(6)).expect("a JPEG");
        assert_eq!((notes.orientation, notes.is_complete), (6, true));
        let text = String::from_utf8_lossy(&notes.bare).into_owned();
        assert!(!text.contains("Exif") && !text.contains("Paris"), "{text}");
        assert_eq!(strip(&notes.bare).expect("still one").bare, notes.bare);
        assert_eq!(strip(&noted(6)[..30]), None);
        assert_eq!(strip(b"GIF89a"), None);
    }

    proptest! {
        #[test]
        fn pictures_are_found_however_they_are_cut_and_whatever_lies_between(
            between in prop::collection::vec(b'\n'..b'z', 0..20),
            cuts in prop::collection::vec(1..40usize, 0..30),
            count in 1..4usize,
        ) {
            let one = noted(1);
            let mut all = Vec::new();
            for _ in 0..count {
                all.extend_from_slice(&between);
                all.extend_from_slice(&one);
            }
            let mut splitter = Splitter::default();
            let (mut rest, mut found) = (all.as_slice(), Vec::new());
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                found.extend(splitter.push(part));
                rest = after;
            }
            found.extend(splitter.push(rest));
            prop_assert_eq!(found, vec![one; count]);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, at in 0..60usize, with: u8) {
            let _ = strip(&bytes);
            let _ = Splitter::default().push(&bytes);
            let mut damaged = noted(3);
            let at = at % damaged.len();
            damaged[at] = with;
            let _ = strip(&damaged);
            let _ = Splitter::default().push(&damaged);
        }
    }
}
