//! Work that nearly always ends at once and may not hold up its caller when it does not.

use std::time::Duration;

use tokio_util::task::TaskTracker;

/// The caller waits this long; then the work goes on without it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Does it, in line while that is quick and beside its caller when it is not.
pub(crate) async fn do_or_set_aside(tasks: &TaskTracker, work: impl Future<Output = ()> + Send + 'static) {
    let mut work = Box::pin(work);
    if tokio::time::timeout(PATIENCE, &mut work).await.is_err() {
        tasks.spawn(work);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn slow_work_does_not_hold_up_its_caller_and_is_done_all_the_same() {
        let tasks = TaskTracker::new();
        let (go, gone) = oneshot::channel::<()>();
        let (done, mut is_done) = oneshot::channel();
        do_or_set_aside(&tasks, async move {
            gone.await.expect("the test lets it go");
            done.send(()).expect("the test listens");
        })
        .await;
        assert!(is_done.try_recv().is_err());
        go.send(()).expect("it waits");
        is_done.await.expect("it is done");
    }
}
