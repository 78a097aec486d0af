//! QUIC and TLS WebSocket side by side: whichever opens, with a little patience for QUIC.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::open::{quic, wss};
use super::{Dial, DialError, PipeKind};
use crate::link::Pipe;

/// QUIC wins when it opens at most this much later than TLS WebSocket.
const PATIENCE: Duration = Duration::from_millis(300);

/// What worked last time goes ahead of the other by this much.
const AHEAD: Duration = Duration::from_millis(300);

/// Why there is no pipe: over QUIC, and over TLS WebSocket.
type Neither = (DialError, DialError);

/// The better pipe of the two.
pub(super) async fn race(dial: &Dial, host: &str, port: u16) -> Result<(Pipe, PipeKind), DialError> {
    let outrun = || DialError::outrun(dial);
    let raced = first_of(dial.first, quic(dial, host, port), wss(dial, host, "/"), outrun).await;
    raced.map_err(|(quic, wss)| DialError::neither(dial, quic, wss))
}

/// The first that opens. The other one is not begun before what worked last has had its chance.
pub(super) async fn first_of<P>(
    first: Option<PipeKind>,
    quic: impl Future<Output = Result<P, DialError>>,
    wss: impl Future<Output = Result<P, DialError>>,
    outrun: impl Fn() -> DialError,
) -> Result<(P, PipeKind), Neither> {
    let (quic_waits, wss_waits, patience) = match first {
        None => (Duration::ZERO, Duration::ZERO, PATIENCE),
        Some(PipeKind::Quic) => (Duration::ZERO, AHEAD, PATIENCE),
        Some(PipeKind::Wss | PipeKind::Ws) => (AHEAD, Duration::ZERO, Duration::ZERO),
    };
    let (quic_now, wss_now) = (Notify::new(), Notify::new());
    let mut quic = pin!(after(quic_waits, &quic_now, quic));
    let mut wss = pin!(after(wss_waits, &wss_now, wss));
    let (mut no_quic, mut no_wss, mut open) = (None, None, None);
    let mut until = Instant::now();
    loop {
        tokio::select! {
            biased;
            opened = &mut quic, if no_quic.is_none() => match opened {
                Ok(pipe) => return Ok((pipe, PipeKind::Quic)),
                Err(error) => no_quic = Some(error),
            },
            opened = &mut wss, if no_wss.is_none() && open.is_none() => match opened {
                Ok(pipe) => {
                    open = Some(pipe);
                    until = Instant::now() + patience;
                }
                Err(error) => no_wss = Some(error),
            },
            () = sleep_until(until), if open.is_some() => no_quic = Some(outrun()),
        }
        match (no_quic.take(), no_wss.take(), open.take()) {
            (Some(_), _, Some(pipe)) => return Ok((pipe, PipeKind::Wss)),
            (Some(quic), Some(wss), None) => return Err((quic, wss)),
            left => (no_quic, no_wss, open) = left,
        }
        // Whoever waits for the other's chance need not wait any more.
        if no_quic.is_some() {
            wss_now.notify_one();
        }
        if no_wss.is_some() {
            quic_now.notify_one();
        }
    }
}

async fn after<T>(wait: Duration, now: &Notify, then: impl Future<Output = T>) -> T {
    tokio::select! {
        () = sleep(wait), if !wait.is_zero() => {}
        () = now.notified(), if !wait.is_zero() => {}
        else => {}
    }
    then.await
}
