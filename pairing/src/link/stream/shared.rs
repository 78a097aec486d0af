//! The streams of one link, for its two halves and for everybody who reads or writes one. The lock is held for one step of the
//! machine and never across an await.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use atoll_protocol::error::WireError;
use atoll_protocol::frame::{Frame, StreamHead};
use atoll_protocol::limits;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::mux::{Handled, Mux, Wake};
use super::sending::{Last, Offered};
use super::{Chunk, StreamError};

/// The machine, who waits for it, and places for streams that this end opens.
#[derive(Debug)]
pub(in crate::link) struct Shared {
    state: Mutex<State>,
    places: Semaphore,
}

#[derive(Debug)]
struct State {
    mux: Mux,
    /// One each: every end of a stream has one owner.
    wakers: HashMap<Wake, Waker>,
    fate: Option<Fate>,
}

/// Why there are no streams any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The link is gone.
    Over,
    /// The other end broke the rules.
    Misused(&'static str),
}

/// What the writer is to do.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(in crate::link) enum Outbound {
    Nothing,
    Frame(Frame),
    /// Close the link with this reason.
    Hangup(&'static str),
}

/// Ends the streams with the half of the link that holds it.
#[derive(Debug)]
pub(in crate::link) struct End(pub(in crate::link) Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.finish_all(Fate::Over);
    }
}

impl Shared {
    /// Lets so many bytes of each stream that is sent be on their way.
    pub(in crate::link) fn new(most: u64) -> Arc<Self> {
        let state = State {
            mux: Mux::new(most),
            wakers: HashMap::new(),
            fate: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            places: Semaphore::new(limits::STREAMS),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step of the machine.
    fn act<R>(&self, step: impl FnOnce(&mut Mux) -> R) -> R {
        let mut state = self.lock();
        let result = step(&mut state.mux);
        self.settle(state, None);
        result
    }

    /// What a step gives, or waits for another to be tried. `fallback` is the answer once the link is gone.
    fn poll<R>(
        &self,
        cx: &mut Context<'_>,
        wake: Wake,
        fallback: impl FnOnce() -> R,
        step: impl FnOnce(&mut Mux) -> Option<R>,
    ) -> Poll<R> {
        let mut state = self.lock();
        let mut result = step(&mut state.mux);
        if result.is_none() && state.fate.is_some() {
            result = Some(fallback());
        }
        if result.is_none() {
            state.wakers.insert(wake, cx.waker().clone());
        }
        self.settle(state, None);
        result.map_or(Poll::Pending, Poll::Ready)
    }

    /// After a step: wakes whoever has something to do.
    fn settle(&self, mut state: MutexGuard<'_, State>, wake: Option<Wake>) {
        let freed = state.mux.receiving.take_freed();
        let woken = wake.and_then(|wake| state.wakers.remove(&wake));
        let is_due = state.mux.is_due();
        let writer = is_due.then(|| state.wakers.remove(&Wake::Writer)).flatten();
        drop(state);
        if freed > 0 {
            self.places.add_permits(freed);
        }
        woken.into_iter().chain(writer).for_each(Waker::wake);
    }

    fn finish_all(&self, fate: Fate) {
        let mut state = self.lock();
        state.fate.get_or_insert(fate);
        let woken = std::mem::take(&mut state.wakers);
        drop(state);
        self.places.close();
        woken.into_values().for_each(Waker::wake);
    }

    // For those who use streams.

    pub(super) async fn open(&self, head: StreamHead) -> Result<u64, StreamError> {
        let place = self.places.acquire().await.map_err(|_| StreamError::Lost)?;
        // It comes back when the sender has ended the stream, not when the receiver has had enough.
        place.forget();
        Ok(self.act(|mux| mux.receiving.open(head)))
    }

    pub(super) fn poll_recv(&self, id: u64, cx: &mut Context<'_>) -> Poll<Result<Chunk, StreamError>> {
        let lost = || Err(StreamError::Lost);
        self.poll(cx, Wake::Received(id), lost, |mux| mux.receiving.poll_recv(id))
    }

    pub(super) fn abandon(&self, id: u64) {
        self.act(|mux| mux.receiving.abandon(id));
        self.lock().wakers.remove(&Wake::Received(id));
    }

    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<(u64, StreamHead)>> {
        self.poll(cx, Wake::Incoming, || None, |mux| mux.sending.poll_accept().map(Some))
    }

    pub(super) fn refuse_streams(&self) {
        self.act(|mux| mux.sending.close());
    }

    pub(super) fn poll_send(
        &self,
        id: u64,
        chunk: &mut Option<Chunk>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        let lost = || Err(StreamError::Lost);
        if self.lock().fate.is_some() {
            return Poll::Ready(lost());
        }
        self.poll(cx, Wake::Sendable(id), lost, |mux| {
            match mux.sending.offer(id, chunk.take()?) {
                Offered::Taken => Some(Ok(())),
                Offered::Unwanted => Some(Err(StreamError::Abandoned)),
                Offered::Later(again) => {
                    *chunk = Some(again);
                    None
                }
            }
        })
    }

    pub(super) fn poll_unwanted(&self, id: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(
            cx,
            Wake::Sendable(id),
            || (),
            |mux| (!mux.sending.is_wanted(id)).then_some(()),
        )
    }

    pub(super) fn finish(&self, id: u64, trailer: Bytes) {
        self.act(|mux| mux.sending.end(id, Last::Trailer(trailer)));
    }

    pub(super) fn fail(&self, id: u64, error: WireError) {
        self.act(|mux| mux.sending.end(id, Last::Error(error)));
        self.lock().wakers.remove(&Wake::Sendable(id));
    }

    // For the halves of the link.

    /// Takes a frame about streams; gives any other back. The error says that the other end broke the rules, and why.
    pub(in crate::link) fn handle(&self, frame: Frame) -> Result<Option<Frame>, &'static str> {
        let mut state = self.lock();
        match state.mux.handle(frame) {
            Ok(Handled::Other(frame)) => Ok(Some(frame)),
            Ok(Handled::Stream(wake)) => {
                self.settle(state, Some(wake));
                Ok(None)
            }
            Err(misuse) => {
                drop(state);
                self.finish_all(Fate::Misused(misuse.0));
                Err(misuse.0)
            }
        }
    }

    /// Ready when [`Self::next`] has something.
    pub(in crate::link) fn poll_due(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.mux.is_due() || matches!(state.fate, Some(Fate::Misused(_))) {
            return Poll::Ready(());
        }
        state.wakers.insert(Wake::Writer, cx.waker().clone());
        Poll::Pending
    }

    /// What to send next.
    pub(in crate::link) fn next(&self) -> Outbound {
        let mut state = self.lock();
        if let Some(Fate::Misused(reason)) = state.fate {
            return Outbound::Hangup(reason);
        }
        let Some((frame, wake)) = state.mux.poll_transmit() else {
            return Outbound::Nothing;
        };
        let woken = wake.and_then(|wake| state.wakers.remove(&wake));
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        Outbound::Frame(frame)
    }
}
