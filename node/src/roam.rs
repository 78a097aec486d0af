//! Back to QUIC: while a link is held over TLS WebSocket, looks now and then whether UDP gets through again, ever more rarely, and dials
//! anew in a quiet moment. The old link is kept until the new one is there. Owns the pauses; whether it is quiet, the link's loop says.

use std::time::Duration;

use atoll_pairing::dial::{Dial, Dialled, dial, quic_answers};
use atoll_protocol::capability::Surface;
use atoll_protocol::limits;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// A network that lets no UDP through is asked this rarely in the end.
const RAREST: Duration = Duration::from_secs(30 * 60);

/// A link that takes the place of another, and what was declared on it.
#[derive(Debug)]
pub(crate) struct Better {
    /// The link.
    pub(crate) dialled: Dialled,
    /// What this node said that it offers.
    pub(crate) declared: Surface,
}

/// One search.
#[derive(Debug)]
pub(crate) struct Roam {
    dial: Dial,
    pause: Duration,
}

impl Roam {
    /// Dials like `dial`, whose target names QUIC, after `pause` at the earliest.
    pub(crate) fn new(dial: Dial, pause: Duration) -> Self {
        Self { dial, pause }
    }

    /// Resolves with a link over QUIC. Begins it only while `is_quiet`.
    pub(crate) async fn run(mut self, mut is_quiet: watch::Receiver<bool>) -> Better {
        loop {
            sleep(self.pause).await;
            self.pause = (self.pause * 2).min(RAREST);
            if !quic_answers(&self.dial).await {
                continue;
            }
            if is_quiet.wait_for(|is_quiet| *is_quiet).await.is_err() {
                return std::future::pending().await; // the loop is at its end
            }
            // A device that has to be approved again stays where it is.
            match timeout(limits::HANDSHAKE, dial(&self.dial, |_| {})).await {
                Ok(Ok(dialled)) => {
                    let declared = self.dial.ask.surface;
                    return Better { dialled, declared };
                }
                Ok(Err(error)) => tracing::debug!(%error, "QUIC answers, but there is no link over it"),
                Err(_) => tracing::debug!("QUIC answers, but it took too long to be let in"),
            }
        }
    }
}
