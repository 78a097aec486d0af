//! How often a command or a family may be called: `"10/m"`. Pure; the time is a parameter.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

/// The most that a rate can count.
const MOST: usize = 10_000;

const UNITS: [(&str, &str, u64); 4] = [
    ("s", "second", 1),
    ("m", "minute", 60),
    ("h", "hour", 3600),
    ("d", "day", 86_400),
];

/// So many calls within any such time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    count: usize,
    unit: (&'static str, &'static str, u64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no rate; one looks like 10/m, with s, m, h or d");
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let unit = UNITS
            .into_iter()
            .find(|(letter, ..)| *letter == unit)
            .ok_or_else(wrong)?;
        let count = count.parse().map_err(|_| wrong())?;
        if !(1..=MOST).contains(&count) {
            return Err(format!(
                "a rate counts from 1 to {MOST}, not {count}; what must not run at all is denied"
            ));
        }
        Ok(Self { count, unit })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.0)
    }
}

impl Rate {
    fn window(self) -> Duration {
        Duration::from_secs(self.unit.2)
    }

    /// As people say it.
    fn words(self) -> String {
        let times = if self.count == 1 {
            "once".to_owned()
        } else {
            format!("{} times", self.count)
        };
        format!("{times} a {}", self.unit.1)
    }
}

/// A rate that is used up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// The command or family that it is for.
    pub(crate) name: String,
    pub(crate) rate: Rate,
    /// When there is room again.
    pub(crate) wait: Duration,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.wait.as_millis().div_ceil(1000);
        write!(
            f,
            "{} may run {} on this device; it works again in {seconds} s",
            self.name,
            self.rate.words()
        )
    }
}

/// The calls of late, by the name of the rate that counts them.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    past: HashMap<String, VecDeque<Instant>>,
}

impl Limits {
    /// Counts a call in each of its rates, or in none.
    ///
    /// # Errors
    /// The rate that has no room for the longest.
    pub(crate) fn take(&mut self, rates: &[(String, Rate)], now: Instant) -> Result<(), Full> {
        let full = rates.iter().filter_map(|(name, rate)| {
            let past = self.past.entry(name.clone()).or_default();
            while past.front().is_some_and(|at| now.duration_since(*at) >= rate.window()) {
                past.pop_front();
            }
            // The rate may have become smaller meanwhile.
            let oldest = past.get(past.len().checked_sub(rate.count)?)?;
            Some(Full {
                name: name.clone(),
                rate: *rate,
                wait: rate.window().saturating_sub(now.duration_since(*oldest)),
            })
        });
        if let Some(full) = full.max_by_key(|full| full.wait) {
            return Err(full);
        }
        for (name, _) in rates {
            if let Some(past) = self.past.get_mut(name) {
                past.push_back(now);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    #[test]
    fn a_rate_is_read_as_it_is_written_and_a_wrong_one_is_named() {
        for text in ["1/s", "10/m", "3/h", "10000/d"] {
            assert_eq!(rate(text).to_string(), text);
        }
        for text in ["", "10", "10/x", "m/10", "-1/m", "0/m", "10001/m", "1/"] {
            let error = text.parse::<Rate>().expect_err(text);
            assert!(error.contains("rate"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_too_many_waits_until_the_first_is_old_enough() {
        let mut limits = Limits::default();
        let both = [
            ("camera.snap".to_owned(), rate("2/s")),
            ("camera".to_owned(), rate("3/m")),
        ];
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        for (millis, expected) in [
            (0, None),
            (400, None),
            (600, Some(("camera.snap", 400))),
            (1000, None),
            // The family is full now.
            (2000, Some(("camera", 58_000))),
            (59_999, Some(("camera", 1))),
            (60_000, None),
            (60_001, Some(("camera", 399))),
            (60_400, None),
        ] {
            let full = limits.take(&both, at(millis)).err();
            let told = full.as_ref().map(|full| (full.name.as_str(), full.wait.as_millis()));
            assert_eq!(told, expected, "at {millis}");
        }
        let one = [("camera".to_owned(), rate("1/m"))];
        let full = limits
            .take(&one, at(60_500))
            .expect_err("a smaller rate counts at once");
        assert_eq!(
            full.to_string(),
            "camera may run once a minute on this device; it works again in 60 s"
        );
    }

    proptest! {
        #[test]
        fn no_window_ever_has_more_than_its_rate(pauses in prop::collection::vec(0_u64..700, 1..200), count in 1_usize..6) {
            let mut limits = Limits::default();
            let rates = [("x".to_owned(), rate(&format!("{count}/s")))];
            let mut now = Instant::now();
            let mut passed: Vec<Instant> = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                let within = passed.iter().filter(|at| now.duration_since(**at) < Duration::from_secs(1)).count();
                match limits.take(&rates, now) {
                    Ok(()) => passed.push(now),
                    Err(full) => {
                        prop_assert_eq!(within, count, "refused only when it is full");
                        let later = now + full.wait;
                        let then = passed.iter().filter(|at| later.duration_since(**at) < Duration::from_secs(1)).count();
                        prop_assert!(then < count, "there is room when it says so");
                    }
                }
                let within = passed.iter().filter(|at| now.duration_since(**at) < Duration::from_secs(1)).count();
                prop_assert!(within <= count);
            }
        }
    }
}
