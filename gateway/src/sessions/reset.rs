//! When a conversation begins anew by itself: `session.reset`. Pure; the clock and its zone come in.

use jiff::civil::Date;
use jiff::{Timestamp, Zoned};

use atoll_channels::port::{PeerKind, Place};

use crate::config::{Reset, ResetChange, ResetMode, Session};

/// What holds for a conversation there, or for one with no chat: what is written for its channel, else for its kind, else for all.
pub(crate) fn rule(session: &Session, place: Option<&Place>) -> Reset {
    let by_channel = place.and_then(|place| session.reset_by_channel.get(&place.account.channel));
    let by_type = match place {
        Some(Place { thread: Some(_), .. }) => &session.reset_by_type.thread,
        Some(Place {
            kind: PeerKind::Group | PeerKind::Channel,
            ..
        }) => &session.reset_by_type.group,
        Some(Place {
            kind: PeerKind::Direct, ..
        })
        | None => &session.reset_by_type.direct,
    };
    let change = by_channel.or(by_type.as_ref()).cloned().unwrap_or_default();
    let ResetChange {
        mode,
        at_hour,
        idle_minutes,
    } = change;
    Reset {
        mode: mode.unwrap_or(session.reset.mode),
        at_hour: at_hour.unwrap_or(session.reset.at_hour),
        idle_minutes: idle_minutes.unwrap_or(session.reset.idle_minutes),
    }
}

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

    #[test]
    fn the_rule_of_a_channel_wins_over_that_of_a_kind_and_both_over_the_rule_for_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("atoll.json");
        let text = r#"{session: {
            reset: {mode: "daily", atHour: 5, idleMinutes: 10},
            resetByType: {group: {mode: "idle"}, thread: {mode: "none"}},
            resetByChannel: {slack: {idleMinutes: 7}},
        }}"#;
        std::fs::write(&path, text).expect("writes");
        let session = crate::config::check_file(&path, &|_| None)
            .expect("valid")
            .config
            .session
            .clone();
        let place = |channel: &str, kind, thread: Option<&str>| Place {
            account: atoll_channels::port::AccountRef {
                channel: channel.to_owned(),
                account: "default".to_owned(),
            },
            kind,
            chat: "1".to_owned(),
            thread: thread.map(str::to_owned),
        };
        let check = |place: Option<Place>, mode, hour, minutes| {
            let rule = rule(&session, place.as_ref());
            assert_eq!(
                (rule.mode, rule.at_hour, rule.idle_minutes),
                (mode, hour, minutes),
                "{place:?}"
            );
        };
        check(None, ResetMode::Daily, 5, 10);
        check(Some(place("telegram", PeerKind::Direct, None)), ResetMode::Daily, 5, 10);
        check(Some(place("telegram", PeerKind::Group, None)), ResetMode::Idle, 5, 10);
        check(
            Some(place("telegram", PeerKind::Group, Some("3"))),
            ResetMode::None,
            5,
            10,
        );
        check(Some(place("slack", PeerKind::Group, None)), ResetMode::Daily, 5, 7);
    }
}
