//! Keeps the end of the gateway out of the moment between "written down as sent" and "given to the link": a call that is caught
//! there would count as uncertain at the next start, though it never left.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The calls that are on their way to a link, and whether more may set out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leaving {
    calls: TaskTracker,
    over: CancellationToken,
}

impl Leaving {
    /// Lets one call set out; it has left when the token is dropped. Never returns once the gateway ends.
    pub(super) async fn set_out(&self) -> TaskTrackerToken {
        // Counted before the look, so that the end waits for whoever it does not turn away.
        let token = self.calls.token();
        if self.over.is_cancelled() {
            drop(token);
            return std::future::pending().await;
        }
        token
    }

    /// Turns away whoever comes now and waits for those under way, each of which is one write to the journal.
    pub(crate) async fn end(&self) {
        self.over.cancel();
        self.calls.close();
        self.calls.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_calls_under_way_and_lets_no_other_set_out() {
        let leaving = Leaving::default();
        let under_way = leaving.set_out().await;
        let ending = tokio::spawn({
            let leaving = leaving.clone();
            async move { leaving.end().await }
        });
        leaving.over.cancelled().await;
        let late = tokio::time::timeout(Duration::from_secs(60), leaving.set_out()).await;
        assert!(late.is_err(), "turned away for good");
        assert!(!ending.is_finished());
        drop(under_way);
        ending.await.expect("ends");
    }
}
