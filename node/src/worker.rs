//! Runs one call beside all others, and reports how it ends whatever happens to it: a panic, a deadline it ignores, a cancel it ignores.

use std::sync::Arc;
use std::time::Duration;

use atoll_capabilities::{Call, Capability};
use atoll_protocol::calls::Said;
use atoll_protocol::error::CallError;
use atoll_protocol::id::CallId;
use atoll_protocol::json::Json;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// Chunks of one call on their way to the link. More: the command waits.
const PROGRESS_QUEUE: usize = 4;

/// How long a capability may take to obey its deadline or a cancel. Longer: it is dropped, which kills what it started.
const OBEDIENCE: Duration = Duration::from_secs(2);

/// What happens to calls.
#[derive(Debug)]
pub(crate) enum News {
    /// A part of the output.
    Progress {
        /// The call.
        call: CallId,
        /// The part.
        said: Said,
    },
    /// The end; the last of each call.
    Finished {
        /// The call.
        call: CallId,
        /// What it gave.
        result: Result<Option<Json>, CallError>,
    },
}

/// The two ends of a call's progress.
pub(crate) fn progress() -> (mpsc::Sender<Said>, mpsc::Receiver<Said>) {
    mpsc::channel(PROGRESS_QUEUE)
}

/// Runs a call to its end and reports.
pub(crate) async fn work(
    capability: Arc<dyn Capability>,
    call: Call,
    mut progress: mpsc::Receiver<Said>,
    news: mpsc::Sender<News>,
) {
    let (id, cancel) = (call.id.clone(), call.cancel.clone());
    let too_late = Instant::now() + call.deadline + OBEDIENCE;
    let mut task = AbortOnDropHandle::new(tokio::spawn(async move { capability.invoke(call).await }));
    let disobeyed = async {
        cancel.cancelled().await;
        sleep(OBEDIENCE).await;
    };
    tokio::pin!(disobeyed);
    let result = loop {
        tokio::select! {
            Some(said) = progress.recv() => {
                let _ = news.send(News::Progress { call: id.clone(), said }).await;
            }
            ended = &mut task => break ended.unwrap_or_else(|error| Err(crashed(&error))),
            () = sleep_until(too_late) => break Err(CallError::new("TIMEOUT", "the call took too long and was ended")),
            () = &mut disobeyed => break Err(CallError::new("CANCELLED", "the call was cancelled")),
        }
    };
    drop(task);
    while let Ok(said) = progress.try_recv() {
        let _ = news.send(News::Progress { call: id.clone(), said }).await;
    }
    let _ = news.send(News::Finished { call: id, result }).await;
}

fn crashed(error: &JoinError) -> CallError {
    tracing::error!(%error, "a capability crashed; this is a defect of atoll-node");
    CallError::new(
        "CAPABILITY_CRASHED",
        "the capability crashed, which is a defect of atoll-node; its log says where. Other calls go on",
    )
}
