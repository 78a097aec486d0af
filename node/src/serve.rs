//! One link, from admission to its end: takes calls, sends what they say, keeps an eye on silence. Only routes; the calls are the
//! desk's, and a link that ends takes none of them along.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use atoll_capabilities::device::host_stats;
use atoll_pairing::link::{Link, LinkError, LinkRx, LinkTx, Received};
use atoll_protocol::capability::Surface;
use atoll_protocol::error::CallError;
use atoll_protocol::frame::{Frame, Outcome};
use atoll_protocol::id::CallId;
use atoll_protocol::limits;
use futures_util::future::FutureExt;
use tokio::sync::mpsc::{self, Permit, PermitIterator};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::desk::{Desk, NEWS_FRAMES, node_event};
use crate::roam::Better;
use crate::tools::Tools;

mod leaving;
mod search;

use leaving::Leaving;
pub(crate) use search::Next;
use search::{Found, Search};

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
    Moved(Box<Better>),
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
    /// What may take its place.
    pub(crate) next: Next,
    /// What it is told of the tools of this node.
    pub(crate) tools: Tools,
}

/// What a turn of the loop is about.
enum Turn<'a> {
    Stop,
    Received(Result<Received, LinkError>),
    Work(PermitIterator<'a, Frame>, Vec<Frame>),
    Published(Permit<'a, Frame>, Frame),
    Stats,
    Quiet,
    Found(Found),
    WriterEnded,
}

/// What is left of a link that another has taken the place of: carries what is on its way to its end.
pub(crate) type Left = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves one link and the streams on it until it ends.
pub(crate) async fn serve(
    mut link: Link,
    desk: &mut Desk,
    session: Session<'_>,
    tell: impl FnMut(Told),
) -> (Ended, Option<Left>) {
    let is_left = CancellationToken::new();
    let shelf = Arc::clone(desk.shelf());
    let mut streams = Box::pin(shelf.serve(link.take_streams(), is_left.clone()));
    let carrying = async {
        (&mut streams).await;
        // Not before it is left.
        std::future::pending::<Infallible>().await
    };
    let (ended, leaving) = tokio::select! {
        ended = serve_calls(link, desk, session, tell) => ended,
        never = carrying => match never {},
    };
    is_left.cancel();
    let left = leaving.map(|leaving| Box::pin(leaving.end(streams)) as Left);
    (ended, left)
}

async fn serve_calls(
    link: Link,
    desk: &mut Desk,
    session: Session<'_>,
    mut tell: impl FnMut(Told),
) -> (Ended, Option<Leaving>) {
    let (tx, rx) = link.split();
    let (resume, offers) = desk.resume();
    let mut line = Line::new(tx, rx, offers, session.tick);
    // The queue is empty, so there is room.
    line.say(Frame::Resume(resume));
    desk.missing().into_iter().for_each(|frame| line.say(frame));
    let mut stats = interval(STATS);
    let (quiet, is_quiet) = watch::channel(false);
    let mut search = Search::new(session.next, is_quiet, desk);
    let mut tools = session.tools;
    let ended = loop {
        quiet.send_replace(desk.running() == 0 && line.offers.0.is_empty());
        let turn = tokio::select! {
            () = session.stop.cancelled() => Turn::Stop,
            received = line.rx.recv() => Turn::Received(received),
            (room, frames) = work(&line.outbox, desk, &mut line.offers) => Turn::Work(room, frames),
            (room, frame) = tools.next(&line.outbox) => Turn::Published(room, frame),
            _ = stats.tick() => Turn::Stats,
            () = sleep_until(line.silence.next()) => Turn::Quiet,
            found = search.next() => Turn::Found(found),
            () = line.outbox.closed() => Turn::WriterEnded,
        };
        match turn {
            Turn::Stop => break Ended::Stopped,
            Turn::Found(Found::Rules) => {
                search.look_again(desk);
                desk.missing().into_iter().for_each(|frame| line.say(frame));
            }
            Turn::Found(Found::Better(better)) => break Ended::Moved(better),
            Turn::Received(Ok(received)) => {
                line.silence.heard();
                tools.heard(&received);
                route(received, desk, &line.outbox, &mut line.offers, &mut tell);
            }
            Turn::Received(Err(error)) => break Ended::Lost(error),
            Turn::Work(room, frames) => room.zip(frames).for_each(|(place, frame)| place.send(frame)),
            Turn::Published(room, frame) => room.send(frame),
            Turn::Stats => {
                line.say(stats_event(session.folder));
                tell(Told::Running(desk.running()));
            }
            Turn::Quiet if line.silence.is_over() => break Ended::Lost(LinkError::Silent),
            Turn::Quiet => drop(line.outbox.try_send(line.silence.ask())),
            Turn::WriterEnded => break Ended::Lost(why_ended(&mut line.writer).await),
        }
    };
    line.part(ended, desk, &mut tell).await
}

async fn why_ended(writer: &mut JoinHandle<Option<LinkError>>) -> LinkError {
    writer.await.ok().flatten().unwrap_or(LinkError::ClosedHere)
}

/// The parts of a link that is served.
struct Line {
    rx: LinkRx,
    outbox: mpsc::Sender<Frame>,
    writer: JoinHandle<Option<LinkError>>,
    offers: Offers,
    silence: Silence,
}

impl Line {
    fn new(tx: LinkTx, rx: LinkRx, offers: Vec<CallId>, tick: Duration) -> Self {
        let (outbox, queue) = mpsc::channel(OUTBOX);
        Self {
            rx,
            outbox,
            writer: tokio::spawn(write(tx, queue)),
            offers: Offers(offers.into()),
            silence: Silence::new(tick),
        }
    }

    /// What can be left out.
    fn say(&self, frame: Frame) {
        drop(self.outbox.try_send(frame));
    }

    async fn part(mut self, ended: Ended, desk: &mut Desk, tell: &mut impl FnMut(Told)) -> (Ended, Option<Leaving>) {
        match ended {
            Ended::Lost(_) => {
                self.writer.abort();
                (ended, None)
            }
            Ended::Stopped => {
                desk.cancel_all();
                farewell(desk, self.outbox, self.writer).await;
                (ended, None)
            }
            Ended::Moved(_) => {
                // What came on this link before the gateway knew of the new one.
                while let Some(Ok(received)) = self.rx.recv().now_or_never() {
                    route(received, desk, &self.outbox, &mut self.offers, tell);
                }
                let (rx, outbox, writer, silence) = (self.rx, self.outbox, self.writer, self.silence);
                let leaving = Leaving {
                    rx,
                    outbox,
                    writer,
                    silence,
                };
                (ended, Some(leaving))
            }
        }
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
        | Frame::Output(_)
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
#[derive(Debug)]
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
