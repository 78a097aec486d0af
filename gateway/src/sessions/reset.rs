//! When a conversation begins anew by itself: `session.reset`. Pure; the clock and its zone come in.

use jiff::civil::Date;
use jiff::{Timestamp, Zoned};

use crate::config::{Reset, ResetMode};

/// Why a conversation that was last active then (Unix milliseconds) begins anew with what is said now; none when it goes on.
pub(crate) fn due(reset: &Reset, last_ms: i64, now: &Zoned) -> Option<&'static str> {
    match reset.mode {
        ResetMode::None => None,
        ResetMode::Idle => {
            let silence = now.timestamp().as_millisecond().saturating_sub(last_ms);
            (silence >= i64::from(reset.idle_minutes) * 60_000).then_some("idle")
        }
        ResetMode::Daily => {
            let began = latest(now, reset.at_hour)?;
            (last_ms < began.as_millisecond()).then_some("daily")
        }
    }
}

/// The latest moment at which this hour began here. Where the clock skips it that day, the moment it skips to.
fn latest(now: &Zoned, hour: u8) -> Option<Timestamp> {
    let hour = i8::try_from(hour).ok()?;
    let on = |date: Date| {
        let began = date.at(hour, 0, 0, 0).to_zoned(now.time_zone().clone());
        began.ok().map(|began| began.timestamp())
    };
    let today = on(now.date())?;
    if today <= now.timestamp() {
        return Some(today);
    }
    on(now.date().yesterday().ok()?)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    /// Berlin's rule: one hour ahead of UTC, two in summer.
    const ZONE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    fn at(text: &str) -> Zoned {
        let zone = TimeZone::posix(ZONE).expect("a rule");
        text.parse::<Timestamp>().expect("a time").to_zoned(zone)
    }

    fn check(mode: ResetMode, last: &str, now: &str, expected: Option<&str>) {
        let reset = Reset {
            mode,
            at_hour: 4,
            idle_minutes: 60,
        };
        let last_ms = at(last).timestamp().as_millisecond();
        assert_eq!(due(&reset, last_ms, &at(now)), expected, "{mode:?}: {last}, then {now}");
    }

    #[test]
    fn a_day_begins_at_its_hour_of_the_hosts_clock() {
        let daily = |last, now, expected| check(ResetMode::Daily, last, now, expected);
        // Four o'clock is 03:00 UTC in winter and 02:00 in summer.
        daily("2026-01-10T02:59:59Z", "2026-01-10T03:00:00Z", Some("daily"));
        daily("2026-01-10T03:00:00Z", "2026-01-10T23:30:00Z", None);
        daily("2026-01-10T12:00:00Z", "2026-01-11T02:59:00Z", None);
        daily("2026-07-10T02:30:00Z", "2026-07-10T03:30:00Z", None);
        daily("2026-07-10T01:59:00Z", "2026-07-10T03:30:00Z", Some("daily"));
        // After days of silence, and at a time of day before the hour.
        daily("2026-01-01T12:00:00Z", "2026-01-10T00:30:00Z", Some("daily"));
        // A clock that was set back.
        daily("2026-01-10T12:00:00Z", "2026-01-09T12:00:00Z", None);
    }

    #[test]
    fn a_silence_counts_from_its_length_on() {
        let idle = |last, now, expected| check(ResetMode::Idle, last, now, expected);
        idle("2026-01-10T12:00:00Z", "2026-01-10T12:59:59Z", None);
        idle("2026-01-10T12:00:00Z", "2026-01-10T13:00:00Z", Some("idle"));
        idle("2026-01-10T12:00:00Z", "2026-01-10T11:00:00Z", None);
    }

    #[test]
    fn without_a_rule_a_conversation_goes_on_for_ever() {
        check(ResetMode::None, "2020-01-01T00:00:00Z", "2026-01-10T12:00:00Z", None);
    }
}
