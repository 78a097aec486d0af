//! The wall clock, in the one form that is stored and sent: Unix milliseconds.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Now, as the journal stores it.
pub(crate) fn now() -> i64 {
    i64::try_from(now_ms()).unwrap_or(i64::MAX)
}

/// Now, for deadlines: the clock that timers go by.
pub(crate) fn instant() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}
