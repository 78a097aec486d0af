//! Hours of the day in which commands rest, by the clock on the device's wall. Pure; the time is a parameter.

use jiff::civil::Time;
use jiff::{ToSpan, Zoned};
use serde_json::Value;

use super::document::{covers, plain};

/// From one time of the day to another, over midnight where the second is the earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quiet {
    from: Time,
    to: Time,
    commands: Vec<String>,
}

impl Quiet {
    /// Reads `{"from": "22:00", "to": "07:00", "commands": ["camera"]}`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(value: &Value) -> Result<Self, String> {
        let fields = value
            .as_object()
            .ok_or("must be an object with from, to and commands")?;
        if let Some(strange) = fields
            .keys()
            .find(|name| !["from", "to", "commands"].contains(&name.as_str()))
        {
            return Err(format!("{strange:?} is not known; it has from, to and commands"));
        }
        let time = |name: &str| {
            let text = value[name].as_str().unwrap_or_default();
            let time = text.parse::<Time>();
            time.map_err(|_| format!("{name}: {text:?} is no time of the day; one looks like 22:00"))
        };
        let (from, to) = (time("from")?, time("to")?);
        if from == to {
            return Err("from and to are the same; what must never run is denied".to_owned());
        }
        let names = value["commands"].as_array().filter(|names| !names.is_empty());
        let names = names.ok_or("commands: must name commands or families")?;
        let names = names
            .iter()
            .map(|name| name.as_str().map(|name| plain(name).to_owned()));
        let commands = names
            .collect::<Option<_>>()
            .ok_or("commands: must name commands or families")?;
        Ok(Self { from, to, commands })
    }

    /// The names that it is for.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.commands.iter().map(String::as_str)
    }

    /// Whether it is for a command.
    pub(crate) fn is_for(&self, command: &str) -> bool {
        self.commands.iter().any(|name| covers(name, command))
    }

    /// When it is over, while it lasts.
    pub(crate) fn end(&self, now: &Zoned) -> Option<Zoned> {
        let time = now.time();
        let lasts = if self.from < self.to {
            self.from <= time && time < self.to
        } else {
            self.from <= time || time < self.to
        };
        lasts.then(|| next(now, self.to))
    }

    /// When it begins next.
    pub(crate) fn beginning(&self, now: &Zoned) -> Zoned {
        next(now, self.from)
    }

    /// Why a command rests, while it does.
    pub(crate) fn refusal(&self, command: &str, now: &Zoned) -> Option<String> {
        let end = self.end(now).filter(|_| self.is_for(command))?;
        let [from, to] = [self.from, self.to].map(|time| time.strftime("%H:%M").to_string());
        let end = end.strftime("%Y-%m-%d %H:%M %:z");
        Some(format!(
            "{command} rests on this device from {from} to {to}; it works again at {end}"
        ))
    }
}

/// When the clock shows this time next. A time that is left out as summer begins is taken as the clock goes on.
fn next(now: &Zoned, time: Time) -> Zoned {
    let day = if now.time() < time {
        Ok(now.date())
    } else {
        now.date().checked_add(1.day())
    };
    let then = day.and_then(|day| day.to_datetime(time).to_zoned(now.time_zone().clone()));
    // Only beyond the year 9999.
    then.unwrap_or_else(|_| now.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn quiet(from: &str, to: &str) -> Quiet {
        Quiet::read(&json!({"from": from, "to": to, "commands": ["camera.*", "audio.record"]})).expect("right")
    }

    fn at(text: &str) -> Zoned {
        text.parse().expect("a time")
    }

    #[test]
    fn it_lasts_over_midnight_and_ends_on_the_right_day() {
        for (from, to, now, end) in [
            ("22:00", "07:00", "2026-11-30T21:59:59[Europe/Berlin]", None),
            (
                "22:00",
                "07:00",
                "2026-11-30T22:00:00[Europe/Berlin]",
                Some("2026-12-01T07:00:00[Europe/Berlin]"),
            ),
            (
                "22:00",
                "07:00",
                "2026-12-01T00:00:00[Europe/Berlin]",
                Some("2026-12-01T07:00:00[Europe/Berlin]"),
            ),
            (
                "22:00",
                "07:00",
                "2026-12-01T06:59:59[Europe/Berlin]",
                Some("2026-12-01T07:00:00[Europe/Berlin]"),
            ),
            ("22:00", "07:00", "2026-12-01T07:00:00[Europe/Berlin]", None),
            (
                "09:00",
                "17:30",
                "2026-12-01T12:00:00[UTC]",
                Some("2026-12-01T17:30:00[UTC]"),
            ),
            ("09:00", "17:30", "2026-12-01T17:30:00[UTC]", None),
            ("09:00", "17:30", "2026-12-01T08:59:00[UTC]", None),
            // The clock is put forward in this night, from two to three.
            (
                "22:00",
                "02:30",
                "2026-03-29T01:00:00[Europe/Berlin]",
                Some("2026-03-29T03:30:00[Europe/Berlin]"),
            ),
        ] {
            let end = end.map(at);
            assert_eq!(quiet(from, to).end(&at(now)), end, "{from} to {to} at {now}");
        }
        let beginning = quiet("22:00", "07:00").beginning(&at("2026-11-30T22:00:00[UTC]"));
        assert_eq!(beginning, at("2026-12-01T22:00:00[UTC]"), "the next one");
    }

    #[test]
    fn a_refusal_says_when_it_works_again_and_others_are_not_refused() {
        let now = at("2026-11-30T23:00:00[Europe/Berlin]");
        let quiet = quiet("22:00", "07:00");
        let why = quiet.refusal("camera.snap", &now).expect("it rests");
        assert_eq!(
            why,
            "camera.snap rests on this device from 22:00 to 07:00; it works again at 2026-12-01 07:00 +01:00"
        );
        assert!(quiet.refusal("audio.record", &now).is_some());
        assert_eq!(quiet.refusal("audio.play", &now), None);
        assert_eq!(
            quiet.refusal("camera.snap", &at("2026-11-30T12:00:00[Europe/Berlin]")),
            None
        );
    }

    #[test]
    fn a_wrong_one_is_named() {
        for (value, words) in [
            (json!([]), "from, to and commands"),
            (json!({"from": "22", "to": "7:00", "commands": ["camera"]}), "22:00"),
            (json!({"from": "22:00", "commands": ["camera"]}), "to: \"\" is no time"),
            (
                json!({"from": "22:00", "to": "22:00", "commands": ["camera"]}),
                "the same",
            ),
            (json!({"from": "22:00", "to": "07:00"}), "commands"),
            (json!({"from": "22:00", "to": "07:00", "commands": [1]}), "commands"),
            (
                json!({"from": "22:00", "to": "07:00", "commands": ["a"], "day": 1}),
                "\"day\" is not known",
            ),
        ] {
            let error = Quiet::read(&value).expect_err("wrong");
            assert!(error.contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn it_ends_within_a_day_and_is_over_then(from in 0_i8..24, to in 0_i8..24, second in 0_i64..172_800) {
            prop_assume!(from != to);
            let quiet = quiet(&format!("{from:02}:00"), &format!("{to:02}:00"));
            let now = at("2026-03-28T00:00:00[Europe/Berlin]").checked_add(second.seconds()).expect("in range");
            if let Some(end) = quiet.end(&now) {
                prop_assert!(end > now && end.timestamp().duration_since(now.timestamp()).as_hours() <= 24);
                // An hour that is left out as summer begins may be all that lies between an end and the next beginning.
                prop_assert!(end.time() != quiet.to || quiet.end(&end).is_none());
            } else {
                let begins = quiet.beginning(&now);
                // An hour that is left out as summer begins may be all of it.
                let is_left_out = begins.time() != quiet.from;
                prop_assert!(begins > now && (is_left_out || quiet.end(&begins).is_some()));
            }
        }
    }
}
