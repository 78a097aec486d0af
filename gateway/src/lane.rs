//! The order of turns: one lane per session, one turn at a time in each. Owns what waits and what runs; the rows behind it are the
//! journal's. Never looks into a turn.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use atoll_protocol::id::{RunId, SessionKey};
use futures_util::FutureExt;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Turns that wait in one lane, whatever the configuration says. One more is refused, and its sender is told so.
pub(crate) const WAITING: usize = 64;

/// Requests that wait for the owner; callers wait for room.
const QUEUE: usize = 256;

/// One turn to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// The turn.
    pub(crate) run: RunId,
    /// Its lane.
    pub(crate) session: SessionKey,
}

/// Runs one turn to its end; whatever happens, the end is durable when this returns.
#[async_trait]
pub(crate) trait Runner: Send + Sync + 'static {
    /// `cancel` asks it to end early.
    async fn run(&self, job: Job, cancel: CancellationToken);
}

/// The lane has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} messages are waiting in this conversation already; wait, or send /stop")]
pub(crate) struct LaneFull(usize);

/// What `/stop` did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// The turn that was running and is being ended.
    pub(crate) running: Option<RunId>,
    /// Turns that will not start.
    pub(crate) waiting: Vec<RunId>,
}

/// How a lane is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneStatus {
    /// The session.
    pub(crate) session: SessionKey,
    /// The turn that runs.
    pub(crate) running: Option<RunId>,
    /// How many wait.
    pub(crate) waiting: usize,
}

/// A handle to the owner of all lanes.
#[derive(Debug, Clone)]
pub(crate) struct Lanes(mpsc::Sender<Request>);

#[derive(Debug)]
enum Request {
    Submit(Job, usize, oneshot::Sender<Result<(), LaneFull>>),
    Interrupt(Job, oneshot::Sender<Stopped>),
    Drop(SessionKey, oneshot::Sender<Option<RunId>>),
    Stop(SessionKey, oneshot::Sender<Stopped>),
    Abort(RunId, oneshot::Sender<bool>),
    List(oneshot::Sender<Vec<LaneStatus>>),
}

impl Lanes {
    /// Starts the owner; at most `at_once` turns run at a time in all lanes together.
    pub(crate) fn start(
        runner: Arc<dyn Runner>,
        at_once: usize,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (sender, requests) = mpsc::channel(QUEUE);
        let owner = Owner {
            runner,
            slots: Arc::new(Semaphore::new(at_once)),
            lanes: HashMap::new(),
            turns: JoinSet::new(),
        };
        (Self(sender), owner.run(requests, stop))
    }

    /// Puts a turn at the end of its lane, unless so many wait there already.
    pub(crate) async fn submit(&self, job: Job, cap: usize) -> Result<(), LaneFull> {
        self.ask(|reply| Request::Submit(job, cap.min(WAITING), reply))
            .await
            .unwrap_or(Ok(()))
    }

    /// Puts a turn into its lane in the place of everything that runs or waits there.
    pub(crate) async fn interrupt(&self, job: Job) -> Stopped {
        self.ask(|reply| Request::Interrupt(job, reply))
            .await
            .unwrap_or_default()
    }

    /// Takes the turn out of a lane that has waited there for longest.
    pub(crate) async fn drop_oldest(&self, session: SessionKey) -> Option<RunId> {
        self.ask(|reply| Request::Drop(session, reply)).await.flatten()
    }

    /// Ends what runs in a lane and drops what waits.
    pub(crate) async fn stop(&self, session: SessionKey) -> Stopped {
        self.ask(|reply| Request::Stop(session, reply))
            .await
            .unwrap_or_default()
    }

    /// Ends one turn, running or waiting; false when it is neither.
    pub(crate) async fn abort(&self, run: RunId) -> bool {
        self.ask(|reply| Request::Abort(run, reply)).await.unwrap_or_default()
    }

    /// All lanes that have something to do.
    pub(crate) async fn list(&self) -> Vec<LaneStatus> {
        self.ask(Request::List).await.unwrap_or_default()
    }

    /// None only while the gateway is going down: then the journal still has the turn, and the next start takes it up.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.0.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}

#[derive(Default)]
struct Lane {
    running: Option<(RunId, CancellationToken)>,
    waiting: VecDeque<RunId>,
}

struct Owner {
    runner: Arc<dyn Runner>,
    slots: Arc<Semaphore>,
    lanes: HashMap<SessionKey, Lane>,
    turns: JoinSet<()>,
}

enum Event {
    Stop,
    Ended,
    Asked(Request),
}

impl Owner {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, stop: CancellationToken) {
        let (ended, mut endings) = mpsc::channel::<SessionKey>(QUEUE);
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => Event::Stop,
                Some(session) = endings.recv() => { self.end(&session, &ended); Event::Ended }
                Some(request) = requests.recv() => Event::Asked(request),
                else => Event::Stop,
            };
            match event {
                Event::Stop => break,
                Event::Ended => while self.turns.try_join_next().is_some() {},
                Event::Asked(request) => self.answer(request, &ended),
            }
        }
        // Dropped, not cancelled: a turn that was asked to end would end, and these go on at the next start.
        self.turns.shutdown().await;
    }

    fn answer(&mut self, request: Request, ended: &mpsc::Sender<SessionKey>) {
        match request {
            Request::Submit(job, cap, reply) => drop(reply.send(self.submit(job, cap, ended))),
            Request::Interrupt(job, reply) => drop(reply.send(self.interrupt(job, ended))),
            Request::Drop(session, reply) => {
                let lane = self.lanes.get_mut(&session);
                drop(reply.send(lane.and_then(|lane| lane.waiting.pop_front())));
            }
            Request::Stop(session, reply) => drop(reply.send(self.stop_lane(&session))),
            Request::Abort(run, reply) => drop(reply.send(self.abort(&run))),
            Request::List(reply) => drop(reply.send(self.list())),
        }
    }

    fn submit(&mut self, job: Job, cap: usize, ended: &mpsc::Sender<SessionKey>) -> Result<(), LaneFull> {
        let lane = self.lanes.entry(job.session.clone()).or_default();
        if lane.running.is_some() && lane.waiting.len() >= cap {
            return Err(LaneFull(lane.waiting.len()));
        }
        lane.waiting.push_back(job.run);
        self.advance(&job.session, ended);
        Ok(())
    }

    fn interrupt(&mut self, job: Job, ended: &mpsc::Sender<SessionKey>) -> Stopped {
        let stopped = self.stop_lane(&job.session);
        let lane = self.lanes.entry(job.session.clone()).or_default();
        lane.waiting.push_back(job.run);
        self.advance(&job.session, ended);
        stopped
    }

    fn end(&mut self, session: &SessionKey, ended: &mpsc::Sender<SessionKey>) {
        if let Some(lane) = self.lanes.get_mut(session) {
            lane.running = None;
        }
        self.advance(session, ended);
    }

    /// Starts the next turn of a lane that is free, and forgets a lane that is empty.
    fn advance(&mut self, session: &SessionKey, ended: &mpsc::Sender<SessionKey>) {
        let Some(lane) = self.lanes.get_mut(session).filter(|lane| lane.running.is_none()) else {
            return;
        };
        let Some(run) = lane.waiting.pop_front() else {
            self.lanes.remove(session);
            return;
        };
        let cancel = CancellationToken::new();
        lane.running = Some((run.clone(), cancel.clone()));
        let turn = Turn {
            session: session.clone(),
            ended: ended.clone(),
        };
        let (runner, slots, job) = (
            self.runner.clone(),
            self.slots.clone(),
            Job {
                run,
                session: session.clone(),
            },
        );
        self.turns.spawn(async move {
            let turn = turn;
            // One that was called off has nothing to do but end.
            let _slot = cancel.run_until_cancelled(slots.acquire_owned()).await;
            // A panic in a turn is that turn's end, not the lane's.
            if AssertUnwindSafe(runner.run(job, cancel)).catch_unwind().await.is_err() {
                tracing::error!(session = %turn.session, "a turn panicked");
            }
            let _ = turn.ended.send(turn.session).await;
        });
    }

    fn stop_lane(&mut self, session: &SessionKey) -> Stopped {
        let Some(lane) = self.lanes.get_mut(session) else {
            return Stopped::default();
        };
        let running = lane.running.as_ref().map(|(run, cancel)| {
            cancel.cancel();
            run.clone()
        });
        Stopped {
            running,
            waiting: lane.waiting.drain(..).collect(),
        }
    }

    fn abort(&mut self, run: &RunId) -> bool {
        for lane in self.lanes.values_mut() {
            if let Some((_, cancel)) = lane.running.as_ref().filter(|(running, _)| running == run) {
                cancel.cancel();
                return true;
            }
            if let Some(place) = lane.waiting.iter().position(|waiting| waiting == run) {
                lane.waiting.remove(place);
                return true;
            }
        }
        false
    }

    fn list(&self) -> Vec<LaneStatus> {
        let mut rows: Vec<_> = self
            .lanes
            .iter()
            .map(|(session, lane)| LaneStatus {
                session: session.clone(),
                running: lane.running.as_ref().map(|(run, _)| run.clone()),
                waiting: lane.waiting.len(),
            })
            .collect();
        rows.sort_by(|a, b| a.session.cmp(&b.session));
        rows
    }
}

struct Turn {
    session: SessionKey,
    ended: mpsc::Sender<SessionKey>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports each start and waits to be let go or cancelled.
    struct Scripted {
        started: mpsc::Sender<(Job, oneshot::Sender<()>)>,
    }

    #[async_trait]
    impl Runner for Scripted {
        async fn run(&self, job: Job, cancel: CancellationToken) {
            let (go, gone) = oneshot::channel();
            self.started.send((job.clone(), go)).await.expect("the test listens");
            assert_ne!(job.run.as_str(), "panic", "this turn panics");
            tokio::select! {
                () = cancel.cancelled() => {}
                _ = gone => {}
            }
        }
    }

    fn job(session: &str, run: &str) -> Job {
        Job {
            run: RunId::new(run).expect("an id"),
            session: SessionKey::new(session).expect("an id"),
        }
    }

    fn lanes(at_once: usize) -> (Lanes, mpsc::Receiver<(Job, oneshot::Sender<()>)>, CancellationToken) {
        let (started, starts) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let (lanes, owner) = Lanes::start(Arc::new(Scripted { started }), at_once, stop.clone());
        tokio::spawn(owner);
        (lanes, starts, stop)
    }

    #[tokio::test]
    async fn turns_of_one_session_run_one_after_another_and_sessions_side_by_side() {
        let (lanes, mut starts, _stop) = lanes(8);
        for (session, run) in [("a", "1"), ("a", "2"), ("b", "3")] {
            lanes.submit(job(session, run), WAITING).await.expect("room");
        }
        let (first, first_go) = starts.recv().await.expect("starts");
        let (other, _other_go) = starts.recv().await.expect("starts");
        let mut running = [first.run.to_string(), other.run.to_string()];
        running.sort();
        assert_eq!(running, ["1", "3"]);
        assert!(starts.try_recv().is_err());
        let go = if first.run.as_str() == "1" { first_go } else { _other_go };
        go.send(()).expect("runs");
        assert_eq!(starts.recv().await.expect("starts").0, job("a", "2"));
    }

    #[tokio::test]
    async fn stop_ends_the_running_turn_and_names_those_that_never_start() {
        let (lanes, mut starts, _stop) = lanes(8);
        for run in ["1", "2", "3"] {
            lanes.submit(job("a", run), WAITING).await.expect("room");
        }
        let _first = starts.recv().await.expect("starts");
        let stopped = lanes.stop(SessionKey::new("a").expect("an id")).await;
        assert_eq!(stopped.running, Some(RunId::new("1").expect("an id")));
        assert_eq!(stopped.waiting.len(), 2);
        lanes.submit(job("a", "4"), WAITING).await.expect("room");
        assert_eq!(starts.recv().await.expect("starts").0, job("a", "4"));
    }

    #[tokio::test]
    async fn a_turn_that_is_called_off_ends_though_all_others_go_on() {
        let (lanes, mut starts, _stop) = lanes(1);
        lanes.submit(job("a", "1"), WAITING).await.expect("room");
        let _first = starts.recv().await.expect("starts");
        lanes.submit(job("b", "2"), WAITING).await.expect("room");
        assert!(lanes.abort(RunId::new("2").expect("an id")).await);
        assert_eq!(starts.recv().await.expect("comes to its end").0, job("b", "2"));
    }

    #[tokio::test]
    async fn a_turn_that_panics_does_not_stop_its_lane() {
        let (lanes, mut starts, _stop) = lanes(1);
        lanes.submit(job("a", "panic"), WAITING).await.expect("room");
        lanes.submit(job("a", "2"), WAITING).await.expect("room");
        assert_eq!(starts.recv().await.expect("starts").0.run.as_str(), "panic");
        assert_eq!(starts.recv().await.expect("starts").0.run.as_str(), "2");
    }

    /// Says when it is dropped and when it is asked to end.
    struct Endless {
        started: mpsc::Sender<()>,
        ended: mpsc::Sender<&'static str>,
    }

    struct Dropped(mpsc::Sender<&'static str>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.try_send("dropped");
        }
    }

    #[async_trait]
    impl Runner for Endless {
        async fn run(&self, _: Job, cancel: CancellationToken) {
            let _dropped = Dropped(self.ended.clone());
            self.started.send(()).await.expect("the test listens");
            cancel.cancelled().await;
            self.ended.send("asked to end").await.expect("the test listens");
        }
    }

    #[tokio::test]
    async fn the_end_of_the_gateway_drops_turns_and_does_not_ask_them_to_end() {
        let ((started, mut starts), (ended, mut endings)) = (mpsc::channel(1), mpsc::channel(2));
        let stop = CancellationToken::new();
        let (lanes, owner) = Lanes::start(Arc::new(Endless { started, ended }), 1, stop.clone());
        let owner = tokio::spawn(owner);
        lanes.submit(job("a", "1"), WAITING).await.expect("room");
        starts.recv().await.expect("starts");
        stop.cancel();
        owner.await.expect("ends");
        assert_eq!(endings.recv().await, Some("dropped"));
    }

    #[tokio::test]
    async fn a_full_lane_says_so() {
        let (lanes, _starts, _stop) = lanes(1);
        for run in 0..=WAITING {
            lanes.submit(job("a", &run.to_string()), WAITING).await.expect("room");
        }
        assert_eq!(lanes.submit(job("a", "more"), WAITING).await, Err(LaneFull(WAITING)));
    }

    #[tokio::test]
    async fn a_lane_takes_no_more_than_it_is_told_to_and_lets_go_of_the_oldest_first() {
        let (lanes, mut starts, _stop) = lanes(1);
        for run in ["1", "2", "3"] {
            lanes.submit(job("a", run), 2).await.expect("room");
        }
        assert_eq!(lanes.submit(job("a", "4"), 2).await, Err(LaneFull(2)));
        let session = SessionKey::new("a").expect("an id");
        assert_eq!(lanes.drop_oldest(session).await, Some(RunId::new("2").expect("an id")));
        lanes.submit(job("a", "4"), 2).await.expect("room again");
        for run in ["1", "3", "4"] {
            let (started, go) = starts.recv().await.expect("starts");
            assert_eq!(started, job("a", run));
            go.send(()).expect("runs");
        }
    }

    #[tokio::test]
    async fn what_interrupts_runs_as_soon_as_what_ran_has_ended_and_before_anything_else() {
        let (lanes, mut starts, _stop) = lanes(1);
        for run in ["1", "2", "3"] {
            lanes.submit(job("a", run), WAITING).await.expect("room");
        }
        let _first = starts.recv().await.expect("starts");
        let stopped = lanes.interrupt(job("a", "4")).await;
        assert_eq!(stopped.running, Some(RunId::new("1").expect("an id")));
        assert_eq!(stopped.waiting.len(), 2);
        assert_eq!(starts.recv().await.expect("starts").0, job("a", "4"));
    }
}
