//! The tasks without which the gateway is none: one that panics has lost its facts, so the gateway says so, is ready no more, and ends in
//! order for a new start to read them back. Owns who has panicked; never starts anything again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Vital(Arc<watch::Sender<Option<&'static str>>>);

impl Default for Vital {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Vital {
    /// Runs a task; its panic is told under this name.
    pub(crate) fn keep<T: Future<Output = ()> + Send>(
        &self,
        name: &'static str,
        task: T,
    ) -> impl Future<Output = ()> + Send + use<T> {
        let told = self.0.clone();
        async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!(task = name, "a part of the gateway panicked; the gateway ends");
                told.send_if_modified(|failed| failed.replace(name).is_none());
            }
        }
    }

    /// The part that panicked last.
    pub(crate) fn failed(&self) -> Option<&'static str> {
        *self.0.borrow()
    }

    /// Resolves when a part has panicked.
    pub(crate) async fn failure(&self) -> &'static str {
        let mut failed = self.0.subscribe();
        let name = failed.wait_for(Option::is_some).await.ok().and_then(|name| *name);
        match name {
            Some(name) => name,
            // The sender is held by this handle.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_by_name_and_an_end_is_not() {
        let vital = Vital::default();
        vital.keep("hub", async {}).await;
        assert_eq!(vital.failed(), None);
        let waits = vital.clone();
        let waiter = tokio::spawn(async move { waits.failure().await });
        vital.keep("book", async { panic!("this part panics") }).await;
        assert_eq!(waiter.await.expect("resolves"), "book");
        assert_eq!(vital.failed(), Some("book"));
        assert_eq!(vital.failure().await, "book", "whoever asks later hears it too");
    }
}
