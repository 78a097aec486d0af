//! The `Range` header of RFC 9110, as far as one range goes.

/// From a byte up to, and not with, another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Everything. Also what several ranges get, and words that are no range.
    All,
    /// One part, not empty.
    Part(Range),
    /// A part that is not there.
    Nowhere,
}

impl Asked {
    /// Reads a header's value for something of `size` bytes.
    pub(crate) fn read(value: Option<&str>, size: u64) -> Self {
        let spec = value.and_then(|value| value.trim().strip_prefix("bytes="));
        let Some((first, last)) = spec.and_then(|spec| spec.trim().split_once('-')) else {
            return Self::All;
        };
        let number = |text: &str| {
            text.bytes()
                .all(|digit| digit.is_ascii_digit())
                .then(|| text.parse::<u64>().ok())
        };
        match (number(first).flatten(), number(last).flatten()) {
            (Some(first), Some(last)) if first > last => Self::All,
            (Some(from), Some(last)) => Self::part(from, last.saturating_add(1).min(size)),
            (Some(from), None) if last.is_empty() => Self::part(from, size),
            (None, Some(count)) if first.is_empty() => Self::part(size.saturating_sub(count), size),
            (Some(_) | None, Some(_) | None) => Self::All,
        }
    }

    fn part(from: u64, until: u64) -> Self {
        if from < until {
            Self::Part(Range { from, until })
        } else {
            Self::Nowhere
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let part = |from, until| Asked::Part(Range { from, until });
        for (value, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-99", part(0, 10)),
            ("bytes=3-", part(3, 10)),
            ("bytes=-4", part(6, 10)),
            ("bytes=-40", part(0, 10)),
            ("bytes=10-", Asked::Nowhere),
            ("bytes=-0", Asked::Nowhere),
            ("bytes=18446744073709551615-18446744073709551615", Asked::Nowhere),
            ("bytes=5-3", Asked::All),
            ("bytes=1-2,4-5", Asked::All),
            ("bytes=-", Asked::All),
            ("bytes=+1-2", Asked::All),
            ("lines=1-2", Asked::All),
        ] {
            assert_eq!(Asked::read(Some(value), 10), expected, "{value}");
        }
        assert_eq!(Asked::read(None, 10), Asked::All);
        assert_eq!(Asked::read(Some("bytes=0-"), 0), Asked::Nowhere);
    }
}
