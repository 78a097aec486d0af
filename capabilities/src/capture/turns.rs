//! Who uses which camera: one call at a time has it, the others wait for their turn, and a stream keeps it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_protocol::error::CallError;
use tokio::sync::OwnedMutexGuard;

/// The cameras that were ever used, by id: the owner's own list bounds them.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Arc<Camera>>>);

#[derive(Debug, Default)]
struct Camera {
    lock: Arc<tokio::sync::Mutex<()>>,
    streams: AtomicBool,
}

/// The camera is this call's until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    camera: Arc<Camera>,
    _guard: OwnedMutexGuard<()>,
}

impl Turns {
    /// Waits until nobody else uses a camera, for at most `patience`.
    ///
    /// # Errors
    /// A stream keeps it, or others took too long.
    pub(crate) async fn take(&self, id: &str, patience: Duration) -> Result<Turn, CallError> {
        let camera = {
            let mut cameras = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            cameras.entry(id.to_owned()).or_default().clone()
        };
        let in_use = |by: &str| {
            let message = format!("camera \"{id}\" is in use by {by}; try again when that has ended");
            CallError::new("CAMERA_UNAVAILABLE", message)
        };
        if camera.streams.load(Ordering::Acquire) {
            return Err(in_use("a live stream"));
        }
        let guard = tokio::time::timeout(patience, camera.lock.clone().lock_owned()).await;
        let guard = guard.map_err(|_| in_use("other calls"))?;
        Ok(Turn { camera, _guard: guard })
    }
}

impl Turn {
    /// From now on nobody waits for it.
    pub(crate) fn keep_for_stream(&self) {
        self.camera.streams.store(true, Ordering::Release);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.camera.streams.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn one_call_at_a_time_has_a_camera_and_a_stream_keeps_it() {
        let turns = Turns::default();
        let first = turns.take("a", SHORT).await.expect("free");
        turns.take("b", SHORT).await.expect("another camera");
        let late = turns.take("a", SHORT).await.expect_err("taken");
        assert!(late.message.contains("other calls"), "{}", late.message);
        first.keep_for_stream();
        let refused = turns.take("a", Duration::from_secs(3600)).await.expect_err("taken");
        assert!(refused.message.contains("live stream"), "{}", refused.message);
        drop(first);
        turns.take("a", SHORT).await.expect("free again");
    }
}
