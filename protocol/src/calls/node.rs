//! A node's table.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use crate::error::CallError;
use crate::frame::{Outcome, Resume};
use crate::id::CallId;
use crate::json::Json;
use crate::limits;

/// The calls that a node knows of: running, finished and kept, and lately acknowledged.
///
/// It outlives links; a new start of the program begins with an empty one and another boot id.
#[derive(Debug, Default)]
pub struct NodeCalls {
    running: HashSet<CallId>,
    finished: HashMap<CallId, Result<Option<Json>, CallError>>,
    /// Of all in `finished`.
    finished_bytes: usize,
    /// Oldest first, the same calls.
    finished_order: VecDeque<(Instant, CallId)>,
    /// Results that were dropped before anybody had them.
    dropped: u64,
    past: HashSet<CallId>,
    past_order: VecDeque<(Instant, CallId)>,
}

/// What to do with an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Run it.
    Run,
    /// This very call runs, has run or was refused before: do nothing.
    Duplicate,
    /// [`limits::NODE_CALLS`] run already: answer `BUSY`, which [`NodeCalls::finish`] takes like any result.
    Busy,
}

impl NodeCalls {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers an invocation before anything of it runs. After [`Start::Run`] and [`Start::Busy`] a
    /// [`Self::finish`] must follow.
    pub fn start(&mut self, call: &CallId, now: Instant) -> Start {
        self.handle_timeout(now);
        if self.running.contains(call) || self.finished.contains_key(call) || self.past.contains(call) {
            return Start::Duplicate;
        }
        let start = if self.running.len() < limits::NODE_CALLS {
            Start::Run
        } else {
            Start::Busy
        };
        self.running.insert(call.clone());
        start
    }

    /// A call has ended: keeps the result and gives what to send. None when there was no such call.
    pub fn finish(&mut self, call: &CallId, result: Result<Option<Json>, CallError>, now: Instant) -> Option<Outcome> {
        let call = self.running.take(call)?;
        self.finished_bytes += size(&result);
        self.finished.insert(call.clone(), result);
        self.finished_order.push_back((now, call.clone()));
        while self.finished.len() > limits::NODE_RESULTS || self.is_too_much() {
            self.drop_oldest_result(now);
        }
        self.outcome(&call)
    }

    /// The newest is kept whatever its size.
    fn is_too_much(&self) -> bool {
        self.finished_bytes > limits::NODE_RESULT_BYTES && self.finished.len() > 1
    }

    /// Whether a call that shall stop runs here. It still ends with [`Self::finish`].
    pub fn cancel(&self, call: &CallId) -> bool {
        self.running.contains(call)
    }

    /// The gateway has it safe: the result is forgotten, the id is not.
    pub fn acknowledge(&mut self, call: &CallId, now: Instant) {
        let Some(result) = self.finished.remove(call) else {
            return;
        };
        self.finished_bytes -= size(&result);
        // At most as many as results are kept, and mostly it is the first.
        if let Some(place) = self.finished_order.iter().position(|(_, kept)| kept == call) {
            self.finished_order.remove(place);
        }
        self.remember(call.clone(), now);
    }

    /// What to say first on a new link. A memory that has dropped results is another one than it was.
    pub fn resume(&self, boot: &str) -> Resume {
        Resume {
            boot: match self.dropped {
                0 => boot.to_owned(),
                dropped => format!("{boot}#{dropped}"),
            },
            running: self.running.iter().cloned().collect(),
            finished: self.kept().cloned().collect(),
        }
    }

    /// The results to send after [`Self::resume`], oldest first.
    pub fn outcomes_to_offer(&self) -> Vec<Outcome> {
        self.kept().filter_map(|call| self.outcome(call)).collect()
    }

    /// The calls of [`Self::outcomes_to_offer`].
    pub fn kept(&self) -> impl Iterator<Item = &CallId> {
        self.finished_order.iter().map(|(_, call)| call)
    }

    /// The result of a call as long as it is kept.
    pub fn outcome(&self, call: &CallId) -> Option<Outcome> {
        Some(Outcome {
            call: call.clone(),
            result: self.finished.get(call)?.clone(),
            receipt: None,
        })
    }

    /// Forgets what is too old to keep.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.finished_order.front().is_some_and(|(at, _)| is_old(*at, now)) {
            self.drop_oldest_result(now);
        }
        while self.past_order.front().is_some_and(|(at, _)| is_old(*at, now)) {
            self.drop_oldest_past();
        }
    }

    /// When to call [`Self::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let (at, _) = self.finished_order.front()?;
        Some((*at + limits::NODE_RESULT_AGE, "a kept result grows too old"))
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    fn drop_oldest_result(&mut self, now: Instant) {
        let Some((_, call)) = self.finished_order.pop_front() else {
            return;
        };
        if let Some(result) = self.finished.remove(&call) {
            self.finished_bytes -= size(&result);
            self.dropped += 1;
        }
        self.remember(call, now);
    }

    /// Ids are small: four times as many as results are kept, against an invocation that arrives twice.
    fn remember(&mut self, call: CallId, now: Instant) {
        self.past.insert(call.clone());
        self.past_order.push_back((now, call));
        while self.past_order.len() > 4 * limits::NODE_RESULTS {
            self.drop_oldest_past();
        }
    }

    fn drop_oldest_past(&mut self) {
        if let Some((_, call)) = self.past_order.pop_front() {
            self.past.remove(&call);
        }
    }
}

fn size(result: &Result<Option<Json>, CallError>) -> usize {
    match result {
        Ok(payload) => payload.as_ref().map_or(0, |payload| payload.as_str().len()),
        Err(error) => error.code.len() + error.message.len(),
    }
}

fn is_old(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) >= limits::NODE_RESULT_AGE
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn call(number: usize) -> CallId {
        CallId::new(format!("c{number}")).expect("an id")
    }

    #[test]
    fn a_call_is_started_once_however_often_it_arrives() {
        let now = Instant::now();
        let mut calls = NodeCalls::new();
        assert_eq!(calls.start(&call(1), now), Start::Run);
        assert_eq!(calls.start(&call(1), now), Start::Duplicate, "running");
        assert!(calls.finish(&call(1), Ok(None), now).is_some());
        assert_eq!(calls.start(&call(1), now), Start::Duplicate, "finished");
        calls.acknowledge(&call(1), now);
        assert_eq!(calls.start(&call(1), now), Start::Duplicate, "acknowledged");
        assert_eq!(calls.finish(&call(1), Ok(None), now), None, "it ends once");
    }

    #[test]
    fn one_call_too_many_is_answered_busy_and_does_not_run() {
        let now = Instant::now();
        let mut calls = NodeCalls::new();
        for number in 0..limits::NODE_CALLS {
            assert_eq!(calls.start(&call(number), now), Start::Run);
        }
        let extra = call(limits::NODE_CALLS);
        assert_eq!(calls.start(&extra, now), Start::Busy);
        assert!(
            calls
                .finish(&extra, Err(CallError::new("BUSY", "too many")), now)
                .is_some()
        );
        assert_eq!(calls.start(&extra, now), Start::Duplicate);
    }

    #[test]
    fn results_are_offered_until_they_are_acknowledged_or_too_many_or_too_old() {
        let start = Instant::now();
        let mut calls = NodeCalls::new();
        for number in 0..=limits::NODE_RESULTS {
            calls.start(&call(number), start);
            calls.finish(&call(number), Ok(None), start);
        }
        let offered = calls.outcomes_to_offer();
        assert_eq!(offered.len(), limits::NODE_RESULTS);
        assert_eq!(offered[0].call, call(1), "the oldest was dropped");
        assert_eq!(calls.resume("boot").finished.len(), limits::NODE_RESULTS);
        assert_eq!(
            calls.start(&call(0), start),
            Start::Duplicate,
            "dropped and still known"
        );

        calls.acknowledge(&call(1), start);
        assert_eq!(calls.outcomes_to_offer()[0].call, call(2));

        let (at, _) = calls.poll_timeout().expect("something is kept");
        calls.handle_timeout(at - Duration::from_millis(1));
        assert_eq!(calls.outcomes_to_offer().len(), limits::NODE_RESULTS - 1);
        calls.handle_timeout(at);
        assert_eq!(calls.outcomes_to_offer(), []);
        assert_eq!(calls.poll_timeout(), None);
    }

    #[test]
    fn large_results_are_bounded_by_their_bytes_and_the_newest_is_always_kept() {
        let now = Instant::now();
        let mut calls = NodeCalls::new();
        let large = |bytes: usize| Err(CallError::new("X", "x".repeat(bytes)));
        let mut finish = |number, bytes| {
            calls.start(&call(number), now);
            calls.finish(&call(number), large(bytes), now);
            calls.kept().cloned().collect::<Vec<_>>()
        };
        let third = limits::NODE_RESULT_BYTES / 3 - 1;
        assert_eq!(finish(0, third), [call(0)]);
        assert_eq!(finish(1, third), [call(0), call(1)]);
        assert_eq!(finish(2, third), [call(0), call(1), call(2)]);
        assert_eq!(finish(3, third), [call(1), call(2), call(3)]);
        assert_eq!(finish(4, limits::NODE_RESULT_BYTES + 1), [call(4)]);
        assert_eq!(finish(5, 1), [call(5)]);
        calls.acknowledge(&call(5), now);
        assert_eq!(calls.finished_bytes, 0);
    }

    #[test]
    fn a_memory_that_dropped_a_result_is_another_memory() {
        let now = Instant::now();
        let mut calls = NodeCalls::new();
        assert_eq!(calls.resume("boot").boot, "boot");
        calls.start(&call(0), now);
        calls.finish(&call(0), Ok(None), now);
        calls.acknowledge(&call(0), now);
        assert_eq!(calls.resume("boot").boot, "boot", "nothing is missing");
        calls.start(&call(1), now);
        calls.finish(&call(1), Ok(None), now);
        calls.handle_timeout(now + limits::NODE_RESULT_AGE);
        assert_ne!(calls.resume("boot").boot, "boot");
    }
}
