//! Bytes as a native frame: whatever is read is written and read again as the same, in no more bytes, within every limit.

use atoll_protocol::capability::Surface;
use atoll_protocol::frame::{Frame, FrameError};
use atoll_protocol::limits;

/// One message.
///
/// # Panics
/// When a promise is broken.
pub fn run(bytes: &[u8]) {
    for limit in [bytes.len().saturating_sub(1), 0] {
        let short = Frame::decode(bytes, limit);
        let too_large = FrameError::TooLarge {
            len: bytes.len(),
            limit,
        };
        assert!(bytes.len() <= limit || short == Err(too_large), "{short:?}");
    }
    match Frame::decode(bytes, limits::NATIVE_FRAME) {
        Ok(frame) => holds(&frame, bytes),
        Err(error) => assert!(!error.is_skippable() || bytes[0] > 25 || bytes[0] == 0, "{error}"),
    }
}

fn holds(frame: &Frame, bytes: &[u8]) {
    assert_eq!(frame.kind(), bytes[0]);
    let written = frame.encode().expect("what was read fits");
    assert!(written.len() <= bytes.len(), "{frame:?} grew");
    let again = Frame::decode(&written, bytes.len()).expect("what was written is read");
    assert_eq!(again, *frame);
    assert_eq!(again.encode().as_ref(), Ok(&written));
    if let Frame::Resume(resume) = frame {
        assert!(resume.boot.len() <= limits::ID_CHARS);
        assert!(resume.running.len().max(resume.finished.len()) <= limits::RESUME_CALLS);
    }
    if let Frame::Hello(hello) = frame {
        is_bounded(&hello.surface);
    }
    if let Frame::Admitted(admitted) = frame {
        is_bounded(&admitted.surface);
    }
    if let Frame::Granted(surface) = frame {
        is_bounded(surface);
    }
}

fn is_bounded(surface: &Surface) {
    for entries in [surface.caps.len(), surface.commands.len(), surface.permissions.len()] {
        assert!(entries <= limits::SURFACE_LIST);
    }
}
