//! Calls under way: joins the call table of [`atoll_protocol::calls`] with those who wait for an end.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_protocol::calls::{Calls, Effect, Failure, NewCall, Row, Said};
use atoll_protocol::frame::{Frame, Invoke, Resume};
use atoll_protocol::id::{CallId, DeviceId};
use atoll_protocol::limits;
use tokio::sync::{mpsc, oneshot};

use super::{CallEnd, NewInvoke, Part, Restored};

/// A node that has just been admitted says within this time what it knows; calls made before that wait for it.
const RESUME: Duration = Duration::from_secs(5);

/// One part of what a call says, bytes: a chunk of the longest characters. More: nobody hears it, as of any other that is missing.
const PART: usize = 4 * limits::PROGRESS_CHUNK;

/// Something to say to a node.
pub(super) struct Order {
    pub(super) node: DeviceId,
    pub(super) generation: u64,
    pub(super) frame: Frame,
    /// The call that it is about. If its invocation cannot be sent, say so with [`Flight::unsent`].
    pub(super) call: Option<CallId>,
}

#[derive(Default)]
pub(super) struct Flight {
    calls: Calls<()>,
    waiters: HashMap<CallId, Waiter>,
    /// Restored calls that ended before anybody asked for them.
    parked: HashMap<CallId, CallEnd>,
    /// Outcomes that a node keeps until their waiter has made them durable.
    owed: HashMap<CallId, Order>,
    /// The gateway ends: whoever goes away now takes no call with it.
    is_over: bool,
}

struct Waiter {
    node: DeviceId,
    caller: Arc<str>,
    reply: Option<oneshot::Sender<CallEnd>>,
    progress: Option<mpsc::Sender<Part>>,
    /// Parts of the output that whoever watches has not got so far, since the last one that it got.
    missed: u64,
    keeps: bool,
}

impl Waiter {
    /// Whoever watches the output and is behind misses parts of it, and is told how many; the result has it all.
    fn progress(&mut self, missed: u64, said: Said) {
        let Some(progress) = &self.progress else { return };
        let missed = self.missed + missed;
        let is_taken = size(&said) <= PART && progress.try_send(Part { missed, said }).is_ok();
        self.missed = if is_taken { 0 } else { missed + 1 };
    }
}

fn size(said: &Said) -> usize {
    match said {
        Said::Words(text) => text.len(),
        Said::Wrote(_, bytes) => bytes.len(),
    }
}

impl Flight {
    /// `linked`: the node is there, though it may not have said yet what it knows; the call waits for that.
    pub(super) fn invoke(
        &mut self,
        new: NewInvoke,
        linked: bool,
        reply: oneshot::Sender<CallEnd>,
        now: Instant,
    ) -> VecDeque<Order> {
        let call = new.invoke.call.clone();
        if self.waiters.contains_key(&call) {
            // The first one may have run; this one must not.
            drop(reply.send(Err(Failure::Lost)));
            return VecDeque::new();
        }
        let waiter = Waiter {
            node: new.invoke.node,
            caller: new.caller,
            reply: Some(reply),
            progress: new.progress,
            missed: 0,
            keeps: new.keep_until_acknowledged,
        };
        // The waiter is there before anything is sent.
        self.waiters.insert(call, waiter);
        let opened = NewCall {
            invoke: new.invoke,
            deadline: new.deadline,
            wait_until: linked.then(|| now + RESUME),
            idempotent: new.idempotent,
            memory: None,
        };
        let effects = self.calls.open(opened, (), now).unwrap_or_default();
        self.settle(effects)
    }

    pub(super) fn restore(&mut self, calls: Vec<Restored>, now: Instant) {
        for Restored {
            call,
            node,
            command,
            deadline,
            caller,
            idempotency_key,
            memory,
        } in calls
        {
            let invoke = Invoke {
                call: call.clone(),
                node,
                command,
                params: None,
                timeout_ms: 0,
                idempotency_key,
                plan: None,
            };
            let new = NewCall {
                invoke,
                deadline,
                wait_until: None,
                idempotent: false,
                memory,
            };
            if self.calls.restore(new, (), now).is_ok() {
                self.waiters.insert(
                    call,
                    Waiter {
                        node,
                        caller,
                        reply: None,
                        progress: None,
                        missed: 0,
                        keeps: true,
                    },
                );
            }
        }
    }

    pub(super) fn attach(&mut self, call: &CallId, reply: oneshot::Sender<CallEnd>) {
        if let Some(end) = self.parked.remove(call) {
            drop(reply.send(end));
        } else if let Some(waiter) = self.waiters.get_mut(call) {
            waiter.reply = Some(reply);
        } else {
            drop(reply.send(Err(Failure::Lost)));
        }
    }

    /// A frame that a node sent about calls.
    pub(super) fn heard(&mut self, node: DeviceId, generation: u64, frame: Frame, now: Instant) -> VecDeque<Order> {
        if self.is_over {
            // Nobody is left to make it durable: the node keeps it for the next start.
            return VecDeque::new();
        }
        if let Frame::Outcome(outcome) = frame {
            let effects = self.calls.handle_outcome(node, generation, outcome);
            return self.settle_with(effects, Self::owe);
        }
        if let Frame::Progress(progress) = frame {
            let effects = self.calls.handle_progress(node, generation, progress, now);
            return self.settle(effects);
        }
        if let Frame::Output(output) = frame {
            let effects = self.calls.handle_output(node, generation, output, now);
            return self.settle(effects.into_iter().collect());
        }
        if let Frame::Resume(resume) = frame {
            return self.link_up(node, generation, Some(&resume), now);
        }
        tracing::debug!(node = %node.short(), kind = frame.kind(), "a frame that a node does not send");
        VecDeque::new()
    }

    pub(super) fn link_up(
        &mut self,
        node: DeviceId,
        generation: u64,
        resume: Option<&Resume>,
        now: Instant,
    ) -> VecDeque<Order> {
        let effects = self.calls.handle_link_up(node, generation, resume, now);
        self.settle(effects)
    }

    pub(super) fn link_down(&mut self, node: DeviceId, generation: u64, now: Instant) {
        self.calls.handle_link_down(node, generation, now);
    }

    pub(super) fn cancel(&mut self, call: &CallId) -> VecDeque<Order> {
        if self.is_over {
            return VecDeque::new();
        }
        let effects = self.calls.cancel(call);
        self.settle(effects)
    }

    pub(super) fn unsent(&mut self, call: &CallId, now: Instant) -> VecDeque<Order> {
        let effects = self.calls.unsent(call, now);
        self.settle(effects)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> VecDeque<Order> {
        let effects = self.calls.handle_timeout(now);
        self.settle(effects)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.calls.poll_timeout().map(|(at, _)| at)
    }

    /// The waiter has made the outcome durable.
    pub(super) fn acknowledge(&mut self, call: &CallId) -> VecDeque<Order> {
        self.waiters.remove(call);
        self.owed.remove(call).into_iter().collect()
    }

    /// Every open call, and on whose behalf it was made.
    pub(super) fn rows(&self) -> Vec<(Row, Arc<str>)> {
        let with_caller = |row: Row| {
            let caller = self.waiters.get(&row.call).map(|waiter| waiter.caller.clone());
            (row, caller.unwrap_or_default())
        };
        self.calls.rows().map(with_caller).collect()
    }

    /// The gateway ends: whoever waits hears so now, by its dropped sender. The nodes keep their results for the next start.
    pub(super) fn give_up(&mut self) {
        self.waiters.clear();
        self.is_over = true;
    }

    fn settle(&mut self, effects: Vec<Effect<()>>) -> VecDeque<Order> {
        self.settle_with(effects, |_, order| Some(order))
    }

    /// `acknowledged` says whether an acknowledgement goes out now.
    fn settle_with(
        &mut self,
        effects: Vec<Effect<()>>,
        acknowledged: impl Fn(&mut Self, Order) -> Option<Order>,
    ) -> VecDeque<Order> {
        let mut orders = VecDeque::with_capacity(effects.len());
        for effect in effects {
            match effect {
                Effect::Send {
                    node,
                    generation,
                    frame,
                } => {
                    let call = if let Frame::Invoke(invoke) = &frame {
                        Some(invoke.call.clone())
                    } else {
                        None
                    };
                    orders.push_back(Order {
                        node,
                        generation,
                        frame,
                        call,
                    });
                }
                Effect::Deliver {
                    waiter: (),
                    call,
                    result,
                } => self.deliver(call, result),
                Effect::Progress {
                    waiter: (),
                    call,
                    missed,
                    said,
                    ..
                } => {
                    if let Some(waiter) = self.waiters.get_mut(&call) {
                        waiter.progress(missed, said);
                    }
                }
                Effect::Acknowledge {
                    node,
                    generation,
                    acknowledge,
                } => {
                    let call = Some(acknowledge.call.clone());
                    let order = Order {
                        node,
                        generation,
                        frame: Frame::Acknowledge(acknowledge),
                        call,
                    };
                    orders.extend(acknowledged(self, order));
                }
            }
        }
        orders
    }

    fn deliver(&mut self, call: CallId, result: CallEnd) {
        let Some(waiter) = self.waiters.get_mut(&call) else {
            return;
        };
        let is_kept = waiter.keeps;
        let is_heard = match waiter.reply.take() {
            Some(reply) => reply.send(result).is_ok(),
            None => self.parked.insert(call.clone(), result).is_none(),
        };
        if !(is_kept && is_heard) {
            self.waiters.remove(&call);
        }
    }

    /// Holds the acknowledgement of an outcome back until its waiter says that it is durable.
    fn owe(&mut self, order: Order) -> Option<Order> {
        let keeps = |call: &&CallId| {
            let waiter = self.waiters.get(*call);
            waiter.is_some_and(|waiter| waiter.keeps && waiter.node == order.node)
        };
        match order.call.as_ref().filter(keeps).cloned() {
            Some(call) => {
                self.owed.insert(call, order);
                None
            }
            None => Some(order),
        }
    }
}
