//! How long to wait before the next try. Pure: the random number comes from outside.

use std::time::Duration;

/// The longest first wait, which doubles from then on.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait of all.
const LAST: Duration = Duration::from_secs(30);

/// Tries that failed in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: anything from nothing to a bound that doubles up to [`LAST`], so that nodes which lost
    /// their gateway at the same moment do not come back at the same moment.
    pub(crate) fn wait(&mut self, random: u64) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(16)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        part_of(bound, random)
    }
}

/// A part of `bound` chosen by `random`.
pub(crate) fn part_of(bound: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(((u128::from(nanos) * u128::from(random)) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let bounds: Vec<u64> = (0..8).map(|_| backoff.wait(u64::MAX).as_millis() as u64 + 1).collect();
        assert_eq!(bounds, [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
        backoff.reset();
        assert!(backoff.wait(u64::MAX) < FIRST);
    }

    #[test]
    fn a_wait_can_be_anything_up_to_its_bound() {
        assert_eq!(part_of(LAST, 0), Duration::ZERO);
        assert_eq!(part_of(LAST, 1 << 63), LAST / 2);
        assert!(part_of(LAST, u64::MAX) < LAST);
    }

    #[test]
    fn trying_for_ever_never_overflows() {
        let mut backoff = Backoff { failures: u32::MAX };
        assert!(backoff.wait(u64::MAX) < LAST);
    }
}
