//! Which calls are repeats of one another: the same key by the same caller for the same thing. Remembers keys and who waits for
//! an end; the ends of calls that are over stand in the journal. Never makes a call.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atoll_protocol::error::WireError;
use atoll_protocol::id::{CallId, DeviceId};
use atoll_protocol::json::Json;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::journal::calls::{CallRow, CallState, Fingerprint};

/// How long a key stands for its call after its end, or after its beginning where that is all we know.
pub(crate) const KEPT: Duration = Duration::from_secs(5 * 60);

/// Keys that are remembered. More: the oldest whose call is over is forgotten before its time.
pub(crate) const KEYS: usize = 1 << 16;

/// How a call ended, for whoever repeats it.
pub(crate) type End = Result<Option<Json>, WireError>;

/// A caller's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(Fingerprint);

impl Key {
    /// Of one caller (its label) alone: two callers may choose the same words.
    pub(crate) fn of(caller: &str, key: &str) -> Self {
        Self(digest(&[caller.as_bytes(), key.as_bytes()]))
    }
}

/// What a key stands for.
pub(crate) fn fingerprint(node: DeviceId, command: &str, params: Option<&Json>) -> Fingerprint {
    let params = params.map(Json::as_str).unwrap_or_default();
    digest(&[node.as_bytes(), command.as_bytes(), params.as_bytes()])
}

/// Each part with its length before it, so that no two lists of parts look alike.
fn digest(parts: &[&[u8]]) -> Fingerprint {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let whole: [u8; 32] = hash.finalize().into();
    let mut half = Fingerprint::default();
    half.copy_from_slice(&whole[..16]);
    half
}

/// What a call with a key is.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The first: make it.
    First,
    /// It was made before and is under way: its end comes here. A sender that is dropped without one says that nobody knows.
    UnderWay(CallId, oneshot::Receiver<End>),
    /// It was made before and is over: the journal has its end.
    Over(CallId),
    /// The key stands for something else.
    Conflict,
}

/// The keys of this gateway. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Repeats(Arc<Mutex<Table>>);

impl Repeats {
    /// Takes up what calls from before a restart stood for, newest first.
    pub(crate) fn restore(&self, rows: &[CallRow], now: Instant) {
        let mut table = self.lock();
        for row in rows.iter().rev() {
            let details = &row.new.details;
            if let (Some(key), Some(fingerprint)) = (&details.idempotency_key, details.fingerprint) {
                let key = Key::of(&row.new.caller, key);
                table.begin(key, fingerprint, &row.new.call, now);
                match row.state {
                    CallState::Queued | CallState::Sent | CallState::Running => {}
                    CallState::NodeAway => table.release(key),
                    CallState::Ok
                    | CallState::Error
                    | CallState::TimedOut
                    | CallState::Cancelled
                    | CallState::Uncertain => table.end(key, None, now),
                }
            }
        }
    }

    /// Asks what a call with this key is; the first of its key is noted.
    pub(crate) fn begin(&self, key: Key, fingerprint: Fingerprint, call: &CallId, now: Instant) -> Begun {
        self.lock().begin(key, fingerprint, call, now)
    }

    /// The call has ended; whoever repeated it hears so.
    pub(crate) fn end(&self, key: Key, end: &End, now: Instant) {
        self.lock().end(key, Some(end), now);
    }

    /// Whether somebody repeated a call that is under way, and waits for its end.
    pub(crate) fn is_awaited(&self, key: Key) -> bool {
        let table = self.lock();
        let state = table.entries.get(&key).map(|entry| &entry.state);
        matches!(state, Some(State::Open(waiters)) if waiters.iter().any(|waiter| !waiter.is_closed()))
    }

    /// Nobody knows its end, and nobody will say it here.
    pub(crate) fn abandon(&self, key: Key, now: Instant) {
        self.lock().end(key, None, now);
    }

    /// It certainly did not run, so the next one with this key is a first one again. Whoever waits hears why.
    pub(crate) fn release(&self, key: Key, end: &End) {
        let mut table = self.lock();
        table.tell(key, end);
        table.release(key);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Table {
    entries: HashMap<Key, Entry>,
    /// When to look whether a key can be forgotten, roughly in order.
    order: VecDeque<(Instant, Key)>,
}

struct Entry {
    fingerprint: Fingerprint,
    call: CallId,
    state: State,
}

enum State {
    Open(Vec<oneshot::Sender<End>>),
    Over(Instant),
}

impl Table {
    fn begin(&mut self, key: Key, fingerprint: Fingerprint, call: &CallId, now: Instant) -> Begun {
        self.forget(now);
        let Some(entry) = self.entries.get_mut(&key) else {
            let entry = Entry {
                fingerprint,
                call: call.clone(),
                state: State::Open(Vec::new()),
            };
            self.entries.insert(key, entry);
            self.order.push_back((now + KEPT, key));
            return Begun::First;
        };
        if entry.fingerprint != fingerprint {
            return Begun::Conflict;
        }
        match &mut entry.state {
            State::Over(_) => Begun::Over(entry.call.clone()),
            State::Open(waiters) => {
                let (waiter, ended) = oneshot::channel();
                waiters.retain(|waiter| !waiter.is_closed());
                waiters.push(waiter);
                Begun::UnderWay(entry.call.clone(), ended)
            }
        }
    }

    fn end(&mut self, key: Key, end: Option<&End>, now: Instant) {
        if let Some(end) = end {
            self.tell(key, end);
        }
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = State::Over(now);
        }
    }

    fn tell(&mut self, key: Key, end: &End) {
        if let Some(State::Open(waiters)) = self.entries.get_mut(&key).map(|entry| &mut entry.state) {
            for waiter in waiters.drain(..) {
                // Whoever repeated it may have stopped waiting.
                let _ = waiter.send(end.clone());
            }
        }
    }

    fn release(&mut self, key: Key) {
        self.entries.remove(&key);
    }

    /// A key is looked at when it was to be forgotten at the earliest; one whose call goes on, or ended later, stays.
    fn forget(&mut self, now: Instant) {
        for _ in 0..2 {
            let is_full = self.order.len() >= KEYS;
            let Some((_, key)) = self.order.pop_front_if(|(due, _)| *due <= now || is_full) else {
                return;
            };
            let until = match self.entries.get(&key).map(|entry| &entry.state) {
                None => continue,
                Some(State::Open(_)) => now + KEPT,
                Some(State::Over(ended)) => *ended + KEPT,
            };
            let is_open = matches!(self.entries.get(&key).map(|entry| &entry.state), Some(State::Open(_)));
            if until > now && (is_open || !is_full) {
                self.order.push_back((until, key));
            } else {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: Fingerprint = [1; 16];
    const OTHERS: Fingerprint = [2; 16];

    fn call(name: &str) -> CallId {
        CallId::new(name).expect("an id")
    }

    fn ended(text: &str) -> End {
        Ok(Some(Json::of(&text).expect("writes")))
    }

    #[tokio::test]
    async fn a_repeat_waits_for_the_first_and_later_ones_are_sent_to_the_journal() {
        let (repeats, now, key) = (Repeats::default(), Instant::now(), Key::of("me", "k"));
        assert!(matches!(repeats.begin(key, PARAMS, &call("a"), now), Begun::First));
        let Begun::UnderWay(_, waiting) = repeats.begin(key, PARAMS, &call("b"), now) else {
            panic!("it is under way");
        };
        assert!(matches!(repeats.begin(key, OTHERS, &call("c"), now), Begun::Conflict));
        assert!(repeats.is_awaited(key));
        repeats.end(key, &ended("x"), now);
        assert!(!repeats.is_awaited(key));
        assert_eq!(waiting.await.expect("told"), ended("x"));
        assert!(matches!(repeats.begin(key, PARAMS, &call("d"), now), Begun::Over(first) if first == call("a")));
        assert!(matches!(repeats.begin(key, OTHERS, &call("e"), now), Begun::Conflict));
    }

    #[tokio::test]
    async fn what_did_not_run_may_be_tried_again_and_what_nobody_knows_may_not() {
        let (repeats, now, key) = (Repeats::default(), Instant::now(), Key::of("me", "k"));
        repeats.begin(key, PARAMS, &call("a"), now);
        let Begun::UnderWay(_, waiting) = repeats.begin(key, PARAMS, &call("b"), now) else {
            panic!("it is under way");
        };
        let away: End = Err(WireError::unavailable("node not connected"));
        repeats.release(key, &away);
        assert_eq!(waiting.await.expect("told"), away);
        assert!(matches!(repeats.begin(key, OTHERS, &call("c"), now), Begun::First));
        let Begun::UnderWay(_, waiting) = repeats.begin(key, OTHERS, &call("d"), now) else {
            panic!("it is under way");
        };
        repeats.abandon(key, now);
        assert!(waiting.await.is_err());
        assert!(matches!(repeats.begin(key, OTHERS, &call("e"), now), Begun::Over(first) if first == call("c")));
    }

    #[test]
    fn a_key_belongs_to_one_caller() {
        assert_ne!(Key::of("me", "k"), Key::of("you", "k"));
        assert_ne!(Key::of("me", "k"), Key::of("m", "ek"));
        let node = DeviceId::from_digest([1; 32]);
        let some = Json::of(&1).expect("writes");
        assert_ne!(fingerprint(node, "c", None), fingerprint(node, "c", Some(&some)));
    }

    #[test]
    fn a_key_is_kept_for_its_time_after_the_end_and_longer_while_its_call_goes_on() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let (short, long) = (Key::of("me", "short"), Key::of("me", "long"));
        repeats.begin(short, PARAMS, &call("a"), start);
        repeats.begin(long, PARAMS, &call("b"), start);
        let end = start + KEPT / 2;
        repeats.end(short, &ended("x"), end);
        let almost = end + KEPT - Duration::from_millis(1);
        assert!(matches!(
            repeats.begin(short, PARAMS, &call("c"), almost),
            Begun::Over(_)
        ));
        assert!(matches!(
            repeats.begin(short, PARAMS, &call("d"), end + KEPT),
            Begun::First
        ));
        assert!(matches!(
            repeats.begin(long, PARAMS, &call("e"), start + 9 * KEPT),
            Begun::UnderWay(..)
        ));
    }

    #[test]
    fn keys_are_bounded_and_those_of_open_calls_stay() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let open = Key::of("me", "open");
        repeats.begin(open, PARAMS, &call("open"), now);
        for number in 0..KEYS + 1_000 {
            let key = Key::of("me", &number.to_string());
            assert!(matches!(repeats.begin(key, PARAMS, &call("a"), now), Begun::First));
            repeats.end(key, &ended("x"), now);
        }
        assert!(repeats.lock().entries.len() <= KEYS + 1);
        assert!(matches!(
            repeats.begin(open, PARAMS, &call("b"), now),
            Begun::UnderWay(..)
        ));
    }
}
