//! Which typed commands run on devices now, so that they can be stopped and are not too many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_protocol::id::{RunId, SessionKey};
use tokio_util::sync::CancellationToken;

/// Typed commands that run at once. One more is refused, and its sender is told so.
pub(super) const AT_ONCE: usize = 32;

/// The typed commands that run now, so that they can be stopped. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Typed(Arc<Mutex<HashMap<RunId, (SessionKey, CancellationToken)>>>);

/// One that runs; forgotten when this is dropped.
pub(super) struct Running {
    typed: Typed,
    run: RunId,
    /// Asks it to end.
    pub(super) cancel: CancellationToken,
}

impl Typed {
    /// Notes that one begins; none when it runs already, or too many do.
    pub(super) fn begin(&self, run: &RunId, session: &SessionKey) -> Option<Running> {
        let mut all = self.lock();
        if all.len() >= AT_ONCE || all.contains_key(run) {
            return None;
        }
        let cancel = CancellationToken::new();
        all.insert(run.clone(), (session.clone(), cancel.clone()));
        Some(Running {
            typed: self.clone(),
            run: run.clone(),
            cancel,
        })
    }

    /// Ends one; false when it does not run.
    pub(crate) fn abort(&self, run: &RunId) -> bool {
        let all = self.lock();
        all.get(run).inspect(|(_, cancel)| cancel.cancel()).is_some()
    }

    /// Ends those of a session; gives which.
    pub(super) fn stop(&self, session: &SessionKey) -> Vec<RunId> {
        let all = self.lock();
        let of_session = all.iter().filter(|(_, (of, _))| of == session);
        let cancelled = of_session.map(|(run, (_, cancel))| {
            cancel.cancel();
            run.clone()
        });
        cancelled.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, (SessionKey, CancellationToken)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.typed.lock().remove(&self.run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_id(name: &str) -> RunId {
        RunId::new(name).expect("an id")
    }

    fn session(name: &str) -> SessionKey {
        SessionKey::new(name).expect("a key")
    }

    #[test]
    fn stopping_a_session_ends_its_typed_commands_and_no_others() {
        let typed = Typed::default();
        let one = typed.begin(&run_id("1"), &session("a")).expect("room");
        let other = typed.begin(&run_id("2"), &session("b")).expect("room");
        assert!(typed.begin(&run_id("1"), &session("a")).is_none());
        assert_eq!(typed.stop(&session("a")), [run_id("1")]);
        assert!(one.cancel.is_cancelled() && !other.cancel.is_cancelled());
        assert!(typed.abort(&run_id("2")) && other.cancel.is_cancelled());
        drop(one);
        assert!(!typed.abort(&run_id("1")));
    }

    #[test]
    fn there_is_a_bound_on_typed_commands() {
        let typed = Typed::default();
        let begun: Vec<_> = (0..AT_ONCE)
            .map(|n| typed.begin(&run_id(&n.to_string()), &session("a")))
            .collect();
        assert!(begun.iter().all(Option::is_some));
        assert!(typed.begin(&run_id("more"), &session("a")).is_none());
    }
}
