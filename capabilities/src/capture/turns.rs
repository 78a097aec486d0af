//! Who uses what: one call at a time has a camera, the others wait for their turn, and a stream keeps it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_protocol::error::CallError;
use tokio::sync::OwnedMutexGuard;

use super::Subject;

/// What was ever used, by a key: those who use it bound them. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<String, Arc<Place>>>>);

#[derive(Debug, Default)]
struct Place {
    lock: Arc<tokio::sync::Mutex<()>>,
    streams: AtomicBool,
}

/// It is this call's until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    place: Arc<Place>,
    _guard: OwnedMutexGuard<()>,
}

impl Turns {
    /// Waits until nobody else uses it, for at most `patience`.
    ///
    /// # Errors
    /// A stream keeps it, or others took too long.
    pub(super) async fn take(
        &self,
        subject: Subject,
        (key, name): (&str, &str),
        patience: Duration,
    ) -> Result<Turn, CallError> {
        let place = {
            let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            places.entry(key.to_owned()).or_default().clone()
        };
        let in_use = |by: &str| subject.unavailable(format!("{name} is in use by {by}; try again when that has ended"));
        if place.streams.load(Ordering::Acquire) {
            return Err(in_use("a live stream"));
        }
        let guard = tokio::time::timeout(patience, place.lock.clone().lock_owned()).await;
        let guard = guard.map_err(|_| in_use("other calls"))?;
        Ok(Turn { place, _guard: guard })
    }
}

impl Turn {
    /// From now on nobody waits for it.
    pub(super) fn keep_for_stream(&self) {
        self.place.streams.store(true, Ordering::Release);
    }

    /// From now on others wait again: what is left to do takes a moment.
    pub(super) fn end_stream(&self) {
        self.place.streams.store(false, Ordering::Release);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.end_stream();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn one_call_at_a_time_has_a_camera_and_a_stream_keeps_it() {
        let turns = Turns::default();
        let first = turns.take(Subject::Camera, ("a", "it"), SHORT).await.expect("free");
        turns
            .take(Subject::Camera, ("b", "it"), SHORT)
            .await
            .expect("another camera");
        let late = turns
            .take(Subject::Camera, ("a", "it"), SHORT)
            .await
            .expect_err("taken");
        assert!(late.message.contains("other calls"), "{}", late.message);
        first.keep_for_stream();
        let refused = turns
            .take(Subject::Camera, ("a", "it"), Duration::from_secs(3600))
            .await
            .expect_err("taken");
        assert!(refused.message.contains("live stream"), "{}", refused.message);
        first.end_stream();
        let late = turns
            .take(Subject::Camera, ("a", "it"), SHORT)
            .await
            .expect_err("not yet");
        assert!(late.message.contains("other calls"), "{}", late.message);
        drop(first);
        turns
            .take(Subject::Camera, ("a", "it"), SHORT)
            .await
            .expect("free again");
    }
}
