//! A fresh link with what this node offers now, while the old one is kept: that is how a gateway hears of a change of the owner's rules.
//! Calls go on; what gets wider waits for the gateway's owner as at any connect. Owns the pauses.

use std::time::Duration;

use atoll_pairing::dial::{Dial, Speak, dial};
use atoll_protocol::capability::Surface;
use atoll_protocol::limits;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::roam::Better;

/// Changes within this time are told together.
const SETTLED: Duration = Duration::from_millis(200);

/// The first pause after a dial that failed; then ever longer, up to [`RAREST`].
const PAUSE: Duration = Duration::from_secs(1);
const RAREST: Duration = Duration::from_secs(30);

/// Resolves with a link on which `surface` was declared.
pub(crate) async fn redeclare(mut how: Dial, surface: Surface, mut is_quiet: watch::Receiver<bool>) -> Better {
    how.ask.surface = surface;
    sleep(SETTLED).await;
    // In OpenClaw's language calls end with their link.
    if matches!(how.speak, Speak::Dialect { .. }) && is_quiet.wait_for(|is_quiet| *is_quiet).await.is_err() {
        return std::future::pending().await; // the loop is at its end
    }
    let mut pause = PAUSE;
    loop {
        match timeout(limits::HANDSHAKE, dial(&how, |_| {})).await {
            Ok(Ok(dialled)) => {
                let declared = how.ask.surface;
                return Better { dialled, declared };
            }
            Ok(Err(error)) => tracing::info!(%error, "the gateway was not told yet what this node offers now"),
            Err(_) => tracing::info!("the gateway was not told yet what this node offers now: it took too long"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(RAREST);
    }
}
