//! The gateway's table.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{CallState, Effect, Failure, Row, Said};
use crate::frame::{Acknowledge, Frame, Invoke, Outcome, Output, Progress, Resume};
use crate::id::{CallId, DeviceId};
use crate::json::Json;
use crate::limits;

/// A call to register.
#[derive(Debug, Clone)]
pub struct NewCall {
    /// What to say to the node; its `timeout_ms` is set when it is sent.
    pub invoke: Invoke,
    /// When it ends at the latest.
    pub deadline: Instant,
    /// How long to wait for a node that is away; none fails at once.
    pub wait_until: Option<Instant>,
    /// Running it twice does no harm, so it may be sent again to a node that does not know it.
    pub idempotent: bool,
    /// For [`Calls::restore`]: the node's [`Resume::boot`] when it was sent. A node that still has this memory and does not
    /// know the call never began it. None where that cannot be relied on.
    pub memory: Option<Arc<str>>,
}

/// There is a call of this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a call of this id is open already")]
pub struct AlreadyOpen;

/// The calls of a gateway that have not ended. `W` names who waits for one.
///
/// The owner tells it of every link and every frame; generations tell the links of one node apart, the higher is newer.
#[derive(Debug)]
pub struct Calls<W> {
    calls: HashMap<u64, Call<W>>,
    keys: HashMap<CallId, u64>,
    by_node: HashMap<DeviceId, BTreeSet<u64>>,
    timers: BTreeSet<(Instant, u64)>,
    links: HashMap<DeviceId, Link>,
    next_key: u64,
}

/// The link of a node in use.
#[derive(Debug)]
struct Link {
    generation: u64,
    /// None for a node that says nothing of what it knows.
    memory: Option<Arc<str>>,
}

#[derive(Debug)]
struct Call<W> {
    invoke: Invoke,
    deadline: Instant,
    wait_until: Instant,
    idempotent: bool,
    waiter: W,
    state: CallState,
    since: Instant,
    next_seq: u64,
    /// What the node remembered when it was sent.
    memory: Option<Arc<str>>,
    /// From before a restart: nobody knows its parameters any more.
    is_restored: bool,
}

impl<W> Call<W> {
    fn timer(&self) -> Instant {
        match self.state {
            CallState::Queued => self.wait_until.min(self.deadline),
            CallState::Sent | CallState::Running | CallState::NodeAway => self.deadline,
        }
    }

    fn was_sent(&self) -> bool {
        self.state != CallState::Queued
    }

    fn enter(&mut self, state: CallState, now: Instant) {
        if self.state != state {
            self.state = state;
            self.since = now;
        }
    }
}

impl<W> Default for Calls<W> {
    fn default() -> Self {
        Self {
            calls: HashMap::new(),
            keys: HashMap::new(),
            by_node: HashMap::new(),
            timers: BTreeSet::new(),
            links: HashMap::new(),
            next_key: 0,
        }
    }
}

impl<W: Clone> Calls<W> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a call, then sends it if its node is linked.
    ///
    /// # Errors
    /// [`AlreadyOpen`]; nothing has happened then.
    pub fn open(&mut self, new: NewCall, waiter: W, now: Instant) -> Result<Vec<Effect<W>>, AlreadyOpen> {
        let key = self.insert(new, waiter, CallState::Queued, now)?;
        let call = &self.calls[&key];
        let mut effects = Vec::new();
        if self.links.contains_key(&call.invoke.node) {
            self.send(key, now, &mut effects);
        } else if call.wait_until <= now {
            self.end(key, Err(Failure::NotConnected), &mut effects);
        }
        Ok(effects)
    }

    /// Registers a call that an earlier start of the gateway had sent: nobody knows yet what became of it.
    ///
    /// # Errors
    /// [`AlreadyOpen`].
    pub fn restore(&mut self, new: NewCall, waiter: W, now: Instant) -> Result<(), AlreadyOpen> {
        let memory = new.memory.clone();
        let key = self.insert(new, waiter, CallState::NodeAway, now)?;
        if let Some(call) = self.calls.get_mut(&key) {
            call.memory = memory;
            call.is_restored = true;
        }
        Ok(())
    }

    /// Takes back a [`Effect::Send`] that never reached the link.
    pub fn unsent(&mut self, call: &CallId, now: Instant) -> Vec<Effect<W>> {
        let mut effects = Vec::new();
        let Some(&key) = self.keys.get(call) else {
            return effects;
        };
        let call = &self.calls[&key];
        if call.state == CallState::Sent {
            if call.wait_until > now {
                self.shift(key, CallState::Queued, now);
            } else {
                self.end(key, Err(Failure::NotConnected), &mut effects);
            }
        }
        effects
    }

    /// A call ended on the node. One that nobody waits for is acknowledged all the same, so that the node forgets it.
    pub fn handle_outcome(&mut self, node: DeviceId, generation: u64, outcome: Outcome) -> Vec<Effect<W>> {
        let mut effects = Vec::new();
        if self.generation(&node) != Some(generation) {
            return effects;
        }
        let key = self.key_on(&outcome.call, node);
        if let Some(key) = key {
            self.end(key, outcome.result.map_err(Failure::Node), &mut effects);
        }
        effects.push(Effect::Acknowledge {
            node,
            generation,
            acknowledge: Acknowledge {
                call: outcome.call,
                receipt: outcome.receipt,
                ignored: key.is_none(),
            },
        });
        effects
    }

    /// A part of the output came. Parts that came before are dropped.
    pub fn handle_progress(
        &mut self,
        node: DeviceId,
        generation: u64,
        progress: Progress,
        now: Instant,
    ) -> Vec<Effect<W>> {
        let mut effects = Vec::new();
        if self.generation(&node) != Some(generation) {
            return effects;
        }
        if progress.receipt.is_some() {
            effects.push(Effect::Acknowledge {
                node,
                generation,
                acknowledge: Acknowledge {
                    call: progress.call.clone(),
                    receipt: progress.receipt,
                    ignored: self.key_on(&progress.call, node).is_none(),
                },
            });
        }
        let said = Said::Words(progress.chunk);
        effects.extend(self.said(node, progress.call, progress.seq, said, now));
        effects
    }

    /// A program wrote something. Parts that came before are dropped.
    pub fn handle_output(
        &mut self,
        node: DeviceId,
        generation: u64,
        output: Output,
        now: Instant,
    ) -> Option<Effect<W>> {
        if self.generation(&node) != Some(generation) {
            return None;
        }
        let said = Said::Wrote(output.stream, output.bytes);
        self.said(node, output.call, output.seq, said, now)
    }

    fn said(&mut self, node: DeviceId, id: CallId, seq: u64, said: Said, now: Instant) -> Option<Effect<W>> {
        let key = self.key_on(&id, node)?;
        let call = self.calls.get_mut(&key)?;
        call.enter(CallState::Running, now);
        if seq < call.next_seq {
            return None;
        }
        let missed = seq - call.next_seq;
        call.next_seq = seq.saturating_add(1);
        Some(Effect::Progress {
            waiter: call.waiter.clone(),
            call: id,
            seq,
            missed,
            said,
        })
    }

    /// A node is linked, and says what it knows; a node of the dialect says nothing.
    ///
    /// What waited is sent. What was sent before and the node does not know is sent again where it certainly never began,
    /// and lost otherwise. What the node runs and nobody here knows is called off.
    pub fn handle_link_up(
        &mut self,
        node: DeviceId,
        generation: u64,
        resume: Option<&Resume>,
        now: Instant,
    ) -> Vec<Effect<W>> {
        let mut effects = Vec::new();
        if self.generation(&node).is_some_and(|held| held >= generation) {
            return effects;
        }
        let memory: Option<Arc<str>> = resume.map(|resume| resume.boot.as_str().into());
        self.links.insert(
            node,
            Link {
                generation,
                memory: memory.clone(),
            },
        );
        let empty = Resume::default();
        let known = resume.unwrap_or(&empty);
        let alive: BTreeSet<&CallId> = known.running.iter().chain(&known.finished).collect();
        let keys: Vec<u64> = self.by_node.get(&node).into_iter().flatten().copied().collect();
        for key in keys {
            let call = &self.calls[&key];
            if !call.was_sent() {
                self.send(key, now, &mut effects);
            } else if alive.contains(&call.invoke.call) {
                self.shift(key, CallState::Running, now);
            } else {
                self.unknown_to_its_node(key, memory.as_ref(), now, &mut effects);
            }
        }
        for call in &known.running {
            if self.key_on(call, node).is_none() {
                effects.push(cancel(node, generation, call.clone()));
            }
        }
        effects
    }

    /// A node's link is gone. An older link than the one in use does not matter.
    pub fn handle_link_down(&mut self, node: DeviceId, generation: u64, now: Instant) {
        if self.generation(&node) != Some(generation) {
            return;
        }
        self.links.remove(&node);
        for key in self.by_node.get(&node).into_iter().flatten() {
            if let Some(call) = self.calls.get_mut(key).filter(|call| call.was_sent()) {
                call.enter(CallState::NodeAway, now);
            }
        }
    }

    /// Calls one off. A node that is away is told when it comes back.
    pub fn cancel(&mut self, call: &CallId) -> Vec<Effect<W>> {
        let mut effects = Vec::new();
        if let Some(&key) = self.keys.get(call) {
            let sent = self.calls[&key].was_sent();
            self.call_off(key, Failure::Cancelled { sent }, &mut effects);
        }
        effects
    }

    /// Ends every call whose time is over.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Effect<W>> {
        let mut effects = Vec::new();
        while let Some(&(at, key)) = self.timers.first() {
            if at > now {
                break;
            }
            let call = &self.calls[&key];
            let sent = call.was_sent();
            if sent || call.deadline <= now {
                self.call_off(key, Failure::TimedOut { sent }, &mut effects);
            } else {
                self.end(key, Err(Failure::NotConnected), &mut effects);
            }
        }
        effects
    }

    /// When to call [`Self::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let (at, key) = self.timers.first()?;
        let why = match self.calls[key].state {
            CallState::Queued => "the wait for a node ends",
            CallState::Sent | CallState::Running | CallState::NodeAway => "the deadline of a call",
        };
        Some((*at, why))
    }

    /// Every open call, in no order.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.calls.values().map(|call| Row {
            call: call.invoke.call.clone(),
            node: call.invoke.node,
            command: call.invoke.command.clone(),
            state: call.state,
            since: call.since,
            deadline: call.timer(),
            idempotency_key: call.invoke.idempotency_key.clone(),
        })
    }

    /// How many calls are open.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether no call is open.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    fn insert(&mut self, new: NewCall, waiter: W, state: CallState, now: Instant) -> Result<u64, AlreadyOpen> {
        if self.keys.contains_key(&new.invoke.call) {
            return Err(AlreadyOpen);
        }
        let key = self.next_key;
        self.next_key += 1;
        let call = Call {
            wait_until: new.wait_until.unwrap_or(now),
            invoke: new.invoke,
            deadline: new.deadline,
            idempotent: new.idempotent,
            waiter,
            state,
            since: now,
            next_seq: 0,
            memory: None,
            is_restored: false,
        };
        self.keys.insert(call.invoke.call.clone(), key);
        self.by_node.entry(call.invoke.node).or_default().insert(key);
        self.timers.insert((call.timer(), key));
        self.calls.insert(key, call);
        Ok(key)
    }

    /// A call that was sent, and that the node does not know. It certainly never began when the node has forgotten nothing since.
    fn unknown_to_its_node(&mut self, key: u64, memory: Option<&Arc<str>>, now: Instant, effects: &mut Vec<Effect<W>>) {
        let call = &self.calls[&key];
        let never_began = memory.is_some() && call.memory.as_ref() == memory;
        match (never_began || call.idempotent, call.is_restored) {
            (true, false) => self.send(key, now, effects),
            (true, true) if never_began => self.end(key, Err(Failure::NotConnected), effects),
            (true | false, _) => self.end(key, Err(Failure::Lost), effects),
        }
    }

    fn generation(&self, node: &DeviceId) -> Option<u64> {
        self.links.get(node).map(|link| link.generation)
    }

    fn key_on(&self, call: &CallId, node: DeviceId) -> Option<u64> {
        let key = *self.keys.get(call)?;
        (self.calls[&key].invoke.node == node).then_some(key)
    }

    /// Moves a call to another state, and its timer with it.
    fn shift(&mut self, key: u64, state: CallState, now: Instant) {
        if let Some(call) = self.calls.get_mut(&key) {
            self.timers.remove(&(call.timer(), key));
            call.enter(state, now);
            self.timers.insert((call.timer(), key));
        }
    }

    /// From here on the node may have it: it counts as sent before anybody tries.
    fn send(&mut self, key: u64, now: Instant, effects: &mut Vec<Effect<W>>) {
        let is_first = !self.calls[&key].was_sent();
        self.shift(key, CallState::Sent, now);
        let Some(call) = self.calls.get_mut(&key) else { return };
        let mut invoke = call.invoke.clone();
        invoke.timeout_ms = node_budget(call.deadline.saturating_duration_since(now));
        if let Some(link) = self.links.get(&invoke.node) {
            if is_first {
                // Later ones may have forgotten that it began.
                call.memory.clone_from(&link.memory);
            }
            effects.push(Effect::Send {
                node: invoke.node,
                generation: link.generation,
                frame: Frame::Invoke(invoke),
            });
        }
    }

    /// Ends a call, and tells the node if it may have it.
    fn call_off(&mut self, key: u64, failure: Failure, effects: &mut Vec<Effect<W>>) {
        let call = &self.calls[&key];
        if let Some(generation) = self.generation(&call.invoke.node).filter(|_| call.was_sent()) {
            effects.push(cancel(call.invoke.node, generation, call.invoke.call.clone()));
        }
        self.end(key, Err(failure), effects);
    }

    /// The only way out of the table.
    fn end(&mut self, key: u64, result: Result<Option<Json>, Failure>, effects: &mut Vec<Effect<W>>) {
        let Some(call) = self.calls.remove(&key) else { return };
        self.timers.remove(&(call.timer(), key));
        self.keys.remove(&call.invoke.call);
        if let Some(keys) = self.by_node.get_mut(&call.invoke.node) {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_node.remove(&call.invoke.node);
            }
        }
        effects.push(Effect::Deliver {
            waiter: call.waiter,
            call: call.invoke.call,
            result,
        });
    }
}

fn cancel<W>(node: DeviceId, generation: u64, call: CallId) -> Effect<W> {
    Effect::Send {
        node,
        generation,
        frame: Frame::Cancel(call),
    }
}

/// The node's share of the time left: a little shorter, so that its own answer wins.
fn node_budget(left: Duration) -> u64 {
    let margin = limits::CALL_DEADLINE_MARGIN.min(left / 2);
    u64::try_from((left - margin).as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests;
