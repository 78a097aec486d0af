//! How many digits an operator is ever shown, and how many wrong ones he may type.
//!
//! Each pair of links gives somebody in between one try in a million. He could open links until his digits at the gateway are
//! those that a device shows, so new digits are given out slowly: a link beyond the bound waits without any.

use super::change::{self, Change, Decision};
use super::pending::PendingRequest;
use super::{Book, DeviceId, PairingId};
use crate::digits::Digits;

/// Wrong codes that a request bears; the last of them ends it.
pub const WRONG_CODES: u8 = 5;

/// Links that are given digits at once.
const AT_ONCE: u64 = 20;

/// One more link is given digits each time.
const ANOTHER_MS: u64 = 30_000;

/// Bounds the digits given out, by whichever devices.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// When all that was given out is forgotten, Unix milliseconds.
    forgotten_ms: u64,
}

impl Shown {
    /// Whether one more link may be given digits.
    fn take(&mut self, now_ms: u64) -> bool {
        // A clock that was set back does not close the door for longer than a full bound.
        let owed = self.forgotten_ms.saturating_sub(now_ms).min(AT_ONCE * ANOTHER_MS);
        let is_free = owed + ANOTHER_MS <= AT_ONCE * ANOTHER_MS;
        if is_free {
            self.forgotten_ms = now_ms + owed + ANOTHER_MS;
        }
        is_free
    }
}

/// What a link that waits says of its digits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LinkDigits {
    /// It has none: the dialect.
    None,
    /// A link that was not heard of before; its digits take the place of an older link's.
    New(Digits),
    /// A link that asks again. Its digits, if it was given any, stay as they are unless the request is new.
    Again(Digits),
}

/// A code was typed that the device does not show.
#[derive(Debug)]
pub struct WrongCode {
    /// The request.
    pub request: PairingId,
    /// The device.
    pub device: DeviceId,
    /// Codes that may still be tried; none: the request has ended.
    pub left: u8,
    /// What follows.
    pub changes: Vec<Change>,
}

impl Book {
    /// Gives a waiting request the digits of its link. Whether there is something new to see.
    pub(super) fn show(&mut self, device: DeviceId, link: LinkDigits, is_new: bool, now_ms: u64) -> bool {
        let digits = match link {
            LinkDigits::None => None,
            LinkDigits::New(digits) => Some(digits),
            LinkDigits::Again(digits) if is_new => Some(digits),
            LinkDigits::Again(_) => return false,
        };
        let Some(request) = self.pending.of_mut(device) else {
            return false;
        };
        let shown = digits.filter(|_| self.shown.take(now_ms));
        let is_changed = request.digits != shown;
        request.digits = shown;
        is_changed
    }

    pub(super) fn wrong_code(&mut self, device: DeviceId, now_ms: u64) -> Option<WrongCode> {
        let request = self.pending.of_mut(device)?;
        request.wrong_codes = request.wrong_codes.saturating_add(1);
        let left = WRONG_CODES.saturating_sub(request.wrong_codes);
        let id = request.id.clone();
        let burned = (left == 0).then(|| self.pending.take(device)).flatten();
        Some(WrongCode {
            request: id,
            device,
            left,
            changes: burned
                .as_ref()
                .map(|request| ended(request, now_ms))
                .unwrap_or_default(),
        })
    }
}

fn ended(request: &PendingRequest, now_ms: u64) -> Vec<Change> {
    change::resolved(request, Decision::Rejected, now_ms)
}
