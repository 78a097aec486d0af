//! How fast we may write: Telegram names about one message a second to a person, twenty a minute to a group, and
//! thirty a second in all, and allows short bursts. Keeping to that avoids most 429 answers. Never sleeps: it says how
//! long to wait.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// One rate: an interval, and how many may come at once.
#[derive(Clone, Copy)]
struct Rate {
    interval: Duration,
    burst: u32,
}

const PERSON: Rate = Rate {
    interval: Duration::from_secs(1),
    burst: 3,
};
const GROUP: Rate = Rate {
    interval: Duration::from_secs(3),
    burst: 5,
};
const ALL: Rate = Rate {
    interval: Duration::from_millis(34),
    burst: 25,
};
/// Chats remembered; beyond it those that may write at once anyway are forgotten.
const REMEMBERED: usize = 1024;

/// The rates of one bot.
#[derive(Default)]
pub(super) struct Pacer {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    all: Option<Instant>,
    chats: HashMap<i64, Instant>,
}

impl Pacer {
    /// Takes the next slot for a chat when it is at most `patience` away, and says how far it is.
    ///
    /// # Errors
    /// The wait, when it is longer; no slot was taken.
    pub(super) fn reserve(&self, chat: i64, now: Instant, patience: Duration) -> Result<Duration, Duration> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Groups have negative ids.
        let rate = if chat < 0 { GROUP } else { PERSON };
        let (chat_wait, chat_next) = rate.next(state.chats.get(&chat).copied(), now);
        let (all_wait, all_next) = ALL.next(state.all, now);
        let wait = chat_wait.max(all_wait);
        if wait > patience {
            return Err(wait);
        }
        if state.chats.len() >= REMEMBERED {
            state.chats.retain(|_, next| *next > now);
        }
        state.chats.insert(chat, chat_next);
        state.all = Some(all_next);
        Ok(wait)
    }
}

impl Rate {
    /// The wait, and the theoretical arrival time to remember (the generic cell rate algorithm).
    fn next(self, theoretical: Option<Instant>, now: Instant) -> (Duration, Instant) {
        let theoretical = theoretical.map_or(now, |at| at.max(now));
        let slack = self.interval * (self.burst - 1);
        let wait = theoretical.duration_since(now).saturating_sub(slack);
        (wait, theoretical + self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_burst_is_free_and_then_a_message_a_second() {
        let pacer = Pacer::default();
        let now = Instant::now();
        let waits: Vec<u64> = (0..5)
            .map(|_| pacer.reserve(7, now, LONG).expect("patient").as_secs())
            .collect();
        assert_eq!(waits, [0, 0, 0, 1, 2]);
        let later = now + Duration::from_secs(10);
        assert_eq!(pacer.reserve(7, later, LONG), Ok(Duration::ZERO));
    }

    #[test]
    fn a_wait_beyond_patience_takes_no_slot() {
        let pacer = Pacer::default();
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(pacer.reserve(7, now, Duration::ZERO), Ok(Duration::ZERO));
        }
        for _ in 0..3 {
            assert_eq!(pacer.reserve(7, now, Duration::ZERO), Err(Duration::from_secs(1)));
        }
    }

    #[test]
    fn all_chats_together_keep_to_thirty_a_second() {
        let pacer = Pacer::default();
        let now = Instant::now();
        let last = (0..100)
            .map(|chat| pacer.reserve(chat, now, LONG))
            .fold(None, |_, wait| Some(wait));
        let wait = last.and_then(Result::ok).expect("patient");
        assert!(wait >= Duration::from_millis(2400), "{wait:?}");
    }
}
