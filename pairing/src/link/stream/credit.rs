//! How many bytes of a stream may be under way: the sender's allowance, the receiver's budget. Nothing but counting.

use atoll_protocol::limits::{STREAM_CHUNK_COST, STREAM_STEP, STREAM_WINDOW};

/// What a chunk counts for.
pub(super) fn cost(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX).max(STREAM_CHUNK_COST)
}

/// The other end broke the rules of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overdrawn;

/// What a sender may still send.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u64,
    /// What of the window is never used.
    unused: u64,
}

impl Allowance {
    /// As much as this sender lets be on its way, at most a whole window.
    pub(super) fn new(most: u64) -> Self {
        Self {
            left: STREAM_WINDOW,
            unused: STREAM_WINDOW.saturating_sub(most),
        }
    }

    /// Takes a chunk out of it; false, and nothing taken, when it does not fit now.
    pub(super) fn take(&mut self, len: usize) -> bool {
        match self.left.checked_sub(cost(len)) {
            Some(left) if left >= self.unused => {
                self.left = left;
                true
            }
            Some(_) | None => false,
        }
    }

    /// The receiver gave room for more. It can never give more than the window holds.
    pub(super) fn add(&mut self, bytes: u64) -> Result<(), Overdrawn> {
        let left = self.left.checked_add(bytes).filter(|left| *left <= STREAM_WINDOW);
        self.left = left.ok_or(Overdrawn)?;
        Ok(())
    }
}

/// What a receiver has promised to take, and what it has taken.
#[derive(Debug)]
pub(super) struct Budget {
    /// What the sender may still send, as it must know it.
    left: u64,
    /// Taken and not yet given back.
    taken: u64,
}

impl Budget {
    /// A whole window.
    pub(super) fn new() -> Self {
        Self {
            left: STREAM_WINDOW,
            taken: 0,
        }
    }

    /// A chunk came.
    pub(super) fn receive(&mut self, len: usize) -> Result<(), Overdrawn> {
        self.left = self.left.checked_sub(cost(len)).ok_or(Overdrawn)?;
        Ok(())
    }

    /// A chunk was taken. Gives what the sender is to be told, once that is worth a frame.
    pub(super) fn take(&mut self, len: usize) -> Option<u64> {
        self.taken += cost(len);
        if self.taken < STREAM_STEP {
            return None;
        }
        let given = std::mem::take(&mut self.taken);
        self.left += given;
        Some(given)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use atoll_protocol::limits::{STREAM_CHUNK, STREAM_SHARED};
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Send(usize),
        Arrive,
        Take,
        Grant,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..=STREAM_CHUNK).prop_map(Step::Send),
            Just(Step::Send(STREAM_CHUNK)),
            Just(Step::Send(0)),
            Just(Step::Arrive),
            Just(Step::Take),
            Just(Step::Grant),
        ]
    }

    /// Both ends and what is on its way between them.
    struct World {
        allowance: Allowance,
        budget: Budget,
        chunks: VecDeque<usize>,
        buffer: VecDeque<usize>,
        grants: VecDeque<u64>,
    }

    impl World {
        fn apply(&mut self, step: &Step) {
            match step {
                Step::Send(len) => {
                    if self.allowance.take(*len) {
                        self.chunks.push_back(*len);
                    }
                }
                Step::Arrive => {
                    if let Some(len) = self.chunks.pop_front() {
                        self.budget.receive(len).expect("an honest sender");
                        self.buffer.push_back(len);
                    }
                }
                Step::Take => {
                    if let Some(len) = self.buffer.pop_front() {
                        self.grants.extend(self.budget.take(len));
                    }
                }
                Step::Grant => {
                    if let Some(bytes) = self.grants.pop_front() {
                        self.allowance.add(bytes).expect("an honest receiver");
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn honest_ends_never_overdraw_hold_at_most_their_share_and_never_get_stuck(
            most in prop_oneof![Just(STREAM_SHARED), Just(STREAM_WINDOW)],
            steps in proptest::collection::vec(step(), 0..120),
        ) {
            let mut world = World {
                allowance: Allowance::new(most),
                budget: Budget::new(),
                chunks: VecDeque::new(),
                buffer: VecDeque::new(),
                grants: VecDeque::new(),
            };
            for step in &steps {
                world.apply(step);
                let held: u64 = world.buffer.iter().chain(&world.chunks).map(|len| cost(*len)).sum();
                prop_assert!(held <= most);
            }
            while !world.chunks.is_empty() || !world.buffer.is_empty() || !world.grants.is_empty() {
                [Step::Arrive, Step::Take, Step::Grant].iter().for_each(|step| world.apply(step));
            }
            prop_assert!(world.allowance.take(STREAM_CHUNK), "the largest chunk fits when all was taken");
        }
    }

    #[test]
    fn a_sender_that_goes_beyond_the_window_is_noticed_at_the_first_byte() {
        let mut budget = Budget::new();
        let chunks = STREAM_WINDOW / cost(STREAM_CHUNK);
        for _ in 0..chunks {
            budget.receive(STREAM_CHUNK).expect("in the window");
        }
        assert_eq!(budget.receive(0), Err(Overdrawn));
    }

    #[test]
    fn a_receiver_that_gives_more_than_a_window_is_noticed() {
        let mut allowance = Allowance::new(STREAM_WINDOW);
        assert!(allowance.take(1000));
        assert_eq!(allowance.add(1001), Err(Overdrawn));
        assert_eq!(allowance.add(u64::MAX), Err(Overdrawn));
        assert_eq!(allowance.add(1000), Ok(()));
    }
}
