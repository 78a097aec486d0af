//! Waiting with a deadline: every wait of a test says what it waits for and fails by itself.

use std::future::Future;
use std::time::Duration;

/// How long anything that should happen may take, on a machine that is busy with other things too.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often something that cannot announce itself (a file, a table of another process) is looked at.
pub const GLANCE: Duration = Duration::from_millis(20);

/// The future's end, or a failure that names what was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    within_time(what, PATIENCE, future).await
}

/// [`within`], with another patience.
pub async fn within_time<T>(what: &str, patience: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(patience, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s in vain for {what}", patience.as_secs_f32()),
    }
}

/// Asks again and again until there is an answer.
pub async fn until<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    until_time(what, PATIENCE, probe).await
}

/// [`until`], with another patience.
pub async fn until_time<T>(what: &str, patience: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::time::sleep(GLANCE).await;
        }
    };
    within_time(what, patience, asking).await
}
