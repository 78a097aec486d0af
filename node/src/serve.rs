//! One link, from admission to its end: takes calls, sends what they say, keeps an eye on silence. Only routes; the calls are the
//! desk's, and a link that ends takes none of them along.

use std::collections::VecDeque;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use atoll_capabilities::device::host_stats;
use atoll_pairing::dial::Dialled;
use atoll_pairing::link::{Link, LinkError, LinkTx, Received};
use atoll_protocol::capability::Surface;
use atoll_protocol::error::CallError;
use atoll_protocol::frame::{Frame, Outcome};
use atoll_protocol::id::CallId;
use atoll_protocol::limits;
use futures_util::future::FutureExt;
use tokio::sync::mpsc::{self, PermitIterator};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::desk::{Desk, NEWS_FRAMES, node_event};
use crate::roam::Roam;

/// Frames on their way to the writer. More: news of calls wait; a pong or a figure is left out.
const OUTBOX: usize = 32;

/// How often the host's figures are sent.
const STATS: Duration = Duration::from_secs(60);

/// How long calls have to end, and the goodbye to be sent, when the daemon stops.
pub(crate) const FAREWELL: Duration = Duration::from_secs(3);

/// Why a link is over.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The daemon was told to stop.
    Stopped,
    /// The link failed or was closed.
    Lost(LinkError),
    /// There is a better one.
    Moved(Box<Dialled>),
}

/// What whoever holds the link is told meanwhile.
#[derive(Debug)]
pub(crate) enum Told {
    /// Another surface is in force.
    Granted(Surface),
    /// How many calls run, every [`STATS`].
    Running(usize),
    /// The gateway's wall clock, Unix milliseconds.
    Clock(u64),
}

/// Fixed facts of one link.
pub(crate) struct Session<'a> {
    /// How often the gateway says something at least.
    pub(crate) tick: Duration,
    /// The folder whose file system counts.
    pub(crate) folder: &'a Path,
    /// Told when the daemon shall stop.
    pub(crate) stop: &'a CancellationToken,
    /// Looks for a better link meanwhile.
    pub(crate) roam: Option<Roam>,
}

/// What a turn of the loop is about.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, and a box would cost each frame an allocation"
)]
enum Turn<'a> {
    Stop,
    Received(Result<Received, LinkError>),
    Work(PermitIterator<'a, Frame>, Vec<Frame>),
    Stats,
    Quiet,
    Moved(Box<Dialled>),
    WriterEnded,
}

/// Serves one link until it ends.
pub(crate) async fn serve(link: Link, desk: &mut Desk, mut session: Session<'_>, mut tell: impl FnMut(Told)) -> Ended {
    let (tx, mut rx) = link.split();
    let (outbox, queue) = mpsc::channel(OUTBOX);
    let mut writer = tokio::spawn(write(tx, queue));
    let (resume, offers) = desk.resume();
    let mut offers = Offers(offers.into());
    // The queue is empty, so there is room.
    let _ = outbox.try_send(Frame::Resume(resume));
    let mut stats = interval(STATS);
    let mut silence = Silence::new(session.tick);
    let (quiet, is_quiet) = watch::channel(false);
    let mut better = pin!(roam(session.roam.take(), is_quiet));
    let ended = loop {
        quiet.send_replace(desk.running() == 0 && offers.0.is_empty());
        let turn = tokio::select! {
            () = session.stop.cancelled() => Turn::Stop,
            received = rx.recv() => Turn::Received(received),
            (room, frames) = work(&outbox, desk, &mut offers) => Turn::Work(room, frames),
            _ = stats.tick() => Turn::Stats,
            () = sleep_until(silence.next()) => Turn::Quiet,
            dialled = &mut better => Turn::Moved(Box::new(dialled)),
            () = outbox.closed() => Turn::WriterEnded,
        };
        match turn {
            Turn::Stop => break Ended::Stopped,
            Turn::Moved(dialled) => break Ended::Moved(dialled),
            Turn::Received(Ok(received)) => {
                silence.heard();
                route(received, desk, &outbox, &mut offers, &mut tell);
            }
            Turn::Received(Err(error)) => break Ended::Lost(error),
            Turn::Work(room, frames) => room.zip(frames).for_each(|(place, frame)| place.send(frame)),
            Turn::Stats => {
                drop(outbox.try_send(stats_event(session.folder)));
                tell(Told::Running(desk.running()));
            }
            Turn::Quiet if silence.is_over() => break Ended::Lost(LinkError::Silent),
            Turn::Quiet => drop(outbox.try_send(silence.ask())),
            Turn::WriterEnded => {
                break Ended::Lost((&mut writer).await.ok().flatten().unwrap_or(LinkError::ClosedHere));
            }
        }
    };
    match &ended {
        Ended::Lost(_) => writer.abort(),
        Ended::Stopped => {
            desk.cancel_all();
            farewell(desk, outbox, writer).await;
        }
        Ended::Moved(_) => {
            // What came on this link before the gateway knew of the new one.
            while let Some(Ok(received)) = rx.recv().now_or_never() {
                route(received, desk, &outbox, &mut offers, &mut tell);
            }
            hang_up(outbox, writer).await;
        }
    }
    ended
}

async fn roam(roam: Option<Roam>, is_quiet: watch::Receiver<bool>) -> Dialled {
    match roam {
        Some(roam) => roam.run(is_quiet).await,
        None => std::future::pending().await,
    }
}

/// Waits for room for as many frames as one piece of news makes, then for something to say: results from before first. Loses nothing
/// when dropped.
async fn work<'a>(
    outbox: &'a mpsc::Sender<Frame>,
    desk: &mut Desk,
    offers: &mut Offers,
) -> (PermitIterator<'a, Frame>, Vec<Frame>) {
    let Ok(room) = outbox.reserve_many(NEWS_FRAMES).await else {
        return std::future::pending().await; // the writer has ended, which is a turn of its own
    };
    match offers.next(desk) {
        Some(outcome) => (room, vec![Frame::Outcome(outcome)]),
        None => (room, desk.next().await),
    }
}

/// Calls whose results are to be said. The results stay with the desk, so that what a gateway does not read takes no room twice.
struct Offers(VecDeque<CallId>);

impl Offers {
    /// The desk keeps no more results than that, so the oldest is none any more.
    fn add(&mut self, outcome: Option<Outcome>) {
        self.0.extend(outcome.map(|outcome| outcome.call));
        if self.0.len() > limits::NODE_RESULTS {
            self.0.pop_front();
        }
    }

    fn next(&mut self, desk: &Desk) -> Option<Outcome> {
        while let Some(call) = self.0.pop_front() {
            if let Some(outcome) = desk.outcome(&call) {
                return Some(outcome);
            }
        }
        None
    }
}

fn route(
    received: Received,
    desk: &mut Desk,
    outbox: &mpsc::Sender<Frame>,
    offers: &mut Offers,
    tell: &mut impl FnMut(Told),
) {
    let frame = match received {
        Received::Frame(frame) => frame,
        // Only a gateway's end of a link says this.
        Received::Reject(_) => return,
    };
    match frame {
        Frame::Invoke(invoke) => offers.add(desk.begin(invoke)),
        Frame::Cancel(call) => desk.cancel(&call),
        Frame::Acknowledge(acknowledge) => desk.acknowledge(&acknowledge.call),
        Frame::Ping(number) => drop(outbox.try_send(Frame::Pong(number))),
        Frame::BlobDone(blob) => desk.shelf().forget(&blob),
        Frame::Granted(surface) => tell(Told::Granted(surface)),
        Frame::Clock(now_ms) => tell(Told::Clock(now_ms)),
        Frame::Event(event) if event.name == "tick" => {
            let said = event.payload.tree().get("ts").and_then(serde_json::Value::as_u64);
            said.into_iter().for_each(|now_ms| tell(Told::Clock(now_ms)));
        }
        Frame::Event(event) if event.name == "shutdown" => tracing::info!("the gateway is about to stop"),
        Frame::Response(response) => {
            if let Err(error) = response.result {
                tracing::debug!(%error, "the gateway did not take an event");
            }
        }
        Frame::Input(input) => tracing::debug!(call = %input.call, "no command here takes input"),
        Frame::Event(_)
        | Frame::Pong(_)
        | Frame::Hello(_)
        | Frame::Challenge(_)
        | Frame::Proof(_)
        | Frame::Waiting(_)
        | Frame::Admitted(_)
        | Frame::Refused(_)
        | Frame::Request(_)
        | Frame::Progress(_)
        | Frame::Outcome(_)
        | Frame::Resume(_)
        | Frame::StreamOpen(_)
        | Frame::StreamChunk(_)
        | Frame::StreamWindow(_)
        | Frame::StreamClosed(_)
        | Frame::StreamAbandoned(_) => {}
    }
}

/// Sends the ends of calls that are being stopped, says goodbye.
async fn farewell(desk: &mut Desk, outbox: mpsc::Sender<Frame>, writer: JoinHandle<Option<LinkError>>) {
    let _ = timeout(FAREWELL, async {
        while desk.running() > 0 {
            for frame in desk.next().await {
                if outbox.send(frame).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    hang_up(outbox, writer).await;
}

async fn hang_up(outbox: mpsc::Sender<Frame>, mut writer: JoinHandle<Option<LinkError>>) {
    drop(outbox);
    if timeout(FAREWELL, &mut writer).await.is_err() {
        writer.abort();
    }
}

/// Sends frame after frame, so that a slow peer never keeps the loop from listening; hangs up when there will be no more.
async fn write(mut tx: LinkTx, mut queue: mpsc::Receiver<Frame>) -> Option<LinkError> {
    loop {
        let next = tokio::select! {
            biased;
            frame = queue.recv() => match frame {
                Some(frame) => Some(frame),
                None => break,
            },
            () = tx.streams_due() => None,
        };
        if let Err(error) = write_all(&mut tx, next, &mut queue).await {
            return Some(error);
        }
    }
    tx.close(1000, "done").await;
    None
}

/// A frame and all that wait behind it leave together; then a little of the streams.
async fn write_all(
    tx: &mut LinkTx,
    mut next: Option<Frame>,
    queue: &mut mpsc::Receiver<Frame>,
) -> Result<(), LinkError> {
    while let Some(frame) = next {
        match tx.feed(&frame).await {
            Err(LinkError::Frame(error)) => {
                if let Some(frame) = too_large(frame, &error) {
                    tx.feed(&frame).await?;
                }
            }
            fed => fed?,
        }
        next = queue.try_recv().ok();
    }
    tx.feed_streams().await?;
    tx.flush().await
}

/// A result that does not fit in a frame ends its call all the same.
fn too_large(frame: Frame, error: &dyn std::error::Error) -> Option<Frame> {
    tracing::warn!(%error, kind = frame.kind(), "a frame was not sent");
    let Frame::Outcome(outcome) = frame else { return None };
    Some(Frame::Outcome(Outcome {
        result: Err(CallError::new(
            "PAYLOAD_TOO_LARGE",
            format!("the result does not fit: {error}"),
        )),
        ..outcome
    }))
}

fn stats_event(folder: &Path) -> Frame {
    let stats = serde_json::to_value(host_stats(folder)).unwrap_or_default();
    node_event("node.host.stats", &stats)
}

/// A gateway that says nothing for a tick is asked; one that says nothing for two is gone.
struct Silence {
    tick: Duration,
    heard: Instant,
    asked: bool,
}

impl Silence {
    fn new(tick: Duration) -> Self {
        Self {
            tick: if tick.is_zero() { limits::TICK } else { tick },
            heard: Instant::now(),
            asked: false,
        }
    }

    fn heard(&mut self) {
        self.heard = Instant::now();
        self.asked = false;
    }

    fn next(&self) -> Instant {
        self.heard + self.tick * if self.asked { 2 } else { 1 }
    }

    fn is_over(&self) -> bool {
        self.asked
    }

    fn ask(&mut self) -> Frame {
        self.asked = true;
        Frame::Ping(0)
    }
}
