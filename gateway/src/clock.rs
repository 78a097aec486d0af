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

/// So much later than now, as the journal stores it.
pub(crate) fn after(time: std::time::Duration) -> i64 {
    now().saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

/// The moment of the timers' clock at that time of the wall clock, Unix milliseconds; now when it is over.
pub(crate) fn instant_at(unix_ms: u64) -> std::time::Instant {
    let left = std::time::Duration::from_millis(unix_ms.saturating_sub(now_ms()));
    instant().checked_add(left).unwrap_or_else(instant)
}

/// Now, for deadlines: the clock that timers go by.
pub(crate) fn instant() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}
