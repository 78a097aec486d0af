//! Both call tables under everything that can be said to them, true or not: each call ends once and in time, by nobody's word but its
//! node's on the link in use; a node starts nothing twice and keeps no more than it may.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use atoll_protocol::calls::{Calls, Effect, NewCall, NodeCalls, Start};
use atoll_protocol::error::CallError;
use atoll_protocol::frame::{Frame, Invoke, Outcome, Progress, Resume};
use atoll_protocol::id::{CallId, DeviceId};
use atoll_protocol::json::Json;
use atoll_protocol::limits;

use super::input::Input;

/// A choice for each thing that happens.
///
/// # Panics
/// When a promise is broken.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.byte() & 1 == 0 {
        let mut gateway = Gateway::new();
        while !input.is_empty() {
            gateway.act(&mut input);
        }
        gateway.come_to_an_end();
    } else {
        let mut node = Node::new();
        while !input.is_empty() {
            node.act(&mut input);
        }
    }
}

/// One beginning of time for all runs: only differences count.
fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(Instant::now)
}

fn call(number: u8) -> CallId {
    CallId::new(format!("c{number}")).expect("a name")
}

fn node(number: u8) -> DeviceId {
    DeviceId::from_digest([number % 2; 32])
}

/// What is known of a call that was opened.
struct Known {
    call: CallId,
    node: DeviceId,
    deadline: Instant,
    ends: usize,
    heard: u64,
}

/// What is true of the gateway's table, kept beside it.
struct Gateway {
    table: Calls<usize>,
    now: Instant,
    opened: Vec<Known>,
    links: BTreeMap<DeviceId, u64>,
}

impl Gateway {
    fn new() -> Self {
        Self {
            table: Calls::new(),
            now: beginning(),
            opened: Vec::new(),
            links: BTreeMap::new(),
        }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.below(10) {
            0 | 1 => self.open(input),
            2 => self.link_up(input),
            3 => {
                let (node, generation) = (node(input.byte()), u64::from(input.byte()));
                self.table.handle_link_down(node, generation, self.now);
                if self.links.get(&node) == Some(&generation) {
                    self.links.remove(&node);
                }
            }
            4 | 5 => self.outcome(input),
            6 => self.progress(input),
            7 => {
                let effects = self.table.cancel(&call(input.byte()));
                self.carry_out(effects, None);
            }
            8 => {
                let effects = self.table.unsent(&call(input.byte()), self.now);
                self.carry_out(effects, None);
            }
            _ => self.pass(Duration::from_millis(u64::from(input.short()))),
        }
        assert_eq!(self.table.len(), self.open_calls(), "each call is open or has ended");
    }

    fn open_calls(&self) -> usize {
        self.opened.iter().filter(|known| known.ends == 0).count()
    }

    fn open(&mut self, input: &mut Input<'_>) {
        let (number, flags) = (input.byte(), input.byte());
        let deadline = self.now + Duration::from_millis(u64::from(input.short()));
        let new = NewCall {
            invoke: Invoke {
                call: call(number),
                node: node(flags),
                command: "x".to_owned(),
                params: None,
                timeout_ms: u64::MAX,
                idempotency_key: None,
                plan: None,
            },
            deadline,
            wait_until: (flags & 2 != 0).then(|| self.now + Duration::from_millis(u64::from(input.short()))),
            idempotent: flags & 4 != 0,
            memory: (flags & 8 != 0).then(|| Arc::from("0")),
        };
        let waiter = self.opened.len();
        let is_open = self
            .opened
            .iter()
            .any(|known| known.call == call(number) && known.ends == 0);
        let restores = flags & 16 != 0;
        let done = if restores {
            self.table.restore(new, waiter, self.now).map(|()| Vec::new())
        } else {
            self.table.open(new, waiter, self.now)
        };
        assert_eq!(done.is_err(), is_open, "an id is open once");
        if let Ok(effects) = done {
            self.opened.push(Known {
                call: call(number),
                node: node(flags),
                deadline,
                ends: 0,
                heard: 0,
            });
            self.carry_out(effects, None);
        }
    }

    fn link_up(&mut self, input: &mut Input<'_>) {
        let (node, generation) = (node(input.byte()), u64::from(input.byte()));
        let resume = (input.byte() & 1 == 0).then(|| Resume {
            boot: input.below(3).to_string(),
            running: list(input),
            finished: list(input),
        });
        let effects = self.table.handle_link_up(node, generation, resume.as_ref(), self.now);
        let held = self.links.entry(node).or_insert(generation);
        *held = generation.max(*held);
        self.carry_out(effects, None);
    }

    fn outcome(&mut self, input: &mut Input<'_>) {
        let (node, generation) = (node(input.byte()), u64::from(input.byte()));
        let number = input.byte();
        let outcome = Outcome {
            call: call(number),
            result: if number & 1 == 0 {
                Ok(None)
            } else {
                Err(CallError::new("X", "x"))
            },
            receipt: None,
        };
        let effects = self.table.handle_outcome(node, generation, outcome);
        let is_heard = self.links.get(&node) == Some(&generation);
        assert_eq!(
            is_heard,
            !effects.is_empty(),
            "answered on the link in use and on no other"
        );
        self.carry_out(effects, Some(node));
    }

    fn progress(&mut self, input: &mut Input<'_>) {
        let (node, generation) = (node(input.byte()), u64::from(input.byte()));
        let seq = match input.byte() {
            255 => u64::MAX,
            low => u64::from(low),
        };
        let progress = Progress {
            call: call(input.byte()),
            seq,
            chunk: String::new(),
            receipt: None,
        };
        let effects = self.table.handle_progress(node, generation, progress, self.now);
        assert!(
            effects.is_empty() || self.links.get(&node) == Some(&generation),
            "heard on the link in use and on no other"
        );
        self.carry_out(effects, Some(node));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let effects = self.table.handle_timeout(self.now);
        self.carry_out(effects, None);
        let late = |known: &&Known| known.ends == 0 && known.deadline <= self.now;
        assert_eq!(
            self.opened.iter().find(late).map(|known| &known.call),
            None,
            "it outlives its time"
        );
    }

    /// `by` is the node whose words led to this.
    fn carry_out(&mut self, effects: Vec<Effect<usize>>, by: Option<DeviceId>) {
        for effect in effects {
            match effect {
                Effect::Send {
                    node,
                    generation,
                    frame,
                } => {
                    assert_eq!(self.links.get(&node), Some(&generation), "said on a link that is gone");
                    if let Frame::Invoke(invoke) = frame {
                        assert!(invoke.node == node && invoke.timeout_ms <= 65_536);
                    }
                }
                Effect::Deliver { waiter, call, .. } => {
                    let known = &mut self.opened[waiter];
                    known.ends += 1;
                    assert_eq!((known.ends, &known.call), (1, &call), "it ends once");
                    assert!(by.is_none_or(|by| by == known.node), "another node ended it");
                }
                Effect::Progress {
                    waiter, seq, missed, ..
                } => {
                    let known = &mut self.opened[waiter];
                    assert_eq!(known.ends, 0, "it says something after its end");
                    assert_eq!(known.heard + missed, seq, "a gap that nobody is told of");
                    assert_eq!(by, Some(known.node), "another node spoke for it");
                    known.heard = seq.saturating_add(1);
                }
                Effect::Acknowledge { node, generation, .. } => {
                    assert_eq!(self.links.get(&node), Some(&generation), "said on a link that is gone");
                }
            }
        }
    }

    /// Time alone ends whatever is left.
    fn come_to_an_end(&mut self) {
        self.pass(Duration::from_secs(200));
        assert_eq!(self.open_calls(), 0);
        assert!(self.table.is_empty());
        assert_eq!(self.table.rows().count(), 0);
        assert_eq!(self.table.poll_timeout(), None);
    }
}

fn list(input: &mut Input<'_>) -> Vec<CallId> {
    (0..input.below(4)).map(|_| call(input.byte())).collect()
}

/// What is true of a node's table, kept beside it.
struct Node {
    table: NodeCalls,
    now: Instant,
    running: BTreeSet<CallId>,
    started: BTreeSet<CallId>,
}

impl Node {
    fn new() -> Self {
        Self {
            table: NodeCalls::new(),
            now: beginning(),
            running: BTreeSet::new(),
            started: BTreeSet::new(),
        }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let call = call(input.byte());
        match choice % 6 {
            0 | 1 => self.start(call),
            2 => self.finish(&call, choice >= 224),
            3 => {
                assert_eq!(self.table.cancel(&call), self.running.contains(&call));
            }
            4 => self.table.acknowledge(&call, self.now),
            _ => {
                // So little that no id is forgotten by age.
                self.now += Duration::from_millis(u64::from(input.byte()));
                self.table.handle_timeout(self.now);
            }
        }
        assert_eq!(self.table.running(), self.running.len());
        self.is_bounded();
    }

    fn start(&mut self, call: CallId) {
        let is_new = self.started.insert(call.clone());
        let is_full = self.running.len() >= limits::NODE_CALLS;
        let expected = match (is_new, is_full) {
            (false, _) => Start::Duplicate,
            (true, true) => Start::Busy,
            (true, false) => Start::Run,
        };
        let start = self.table.start(&call, self.now);
        assert_eq!(start, expected, "{call}");
        if start != Start::Duplicate {
            self.running.insert(call.clone());
        }
        if start == Start::Busy {
            self.finish(&call, false);
        }
    }

    fn finish(&mut self, call: &CallId, is_large: bool) {
        let result = Ok(is_large.then(large));
        let outcome = self.table.finish(call, result, self.now);
        assert_eq!(outcome.is_some(), self.running.remove(call), "it ends once");
    }

    fn is_bounded(&self) {
        let resume = self.table.resume("boot");
        assert!(resume.boot.len() <= limits::ID_CHARS);
        assert!(resume.running.len() <= limits::NODE_CALLS && resume.finished.len() <= limits::NODE_RESULTS);
        let listed = resume.running.iter().chain(&resume.finished).collect::<BTreeSet<_>>();
        assert_eq!(
            listed.len(),
            resume.running.len() + resume.finished.len(),
            "one or the other"
        );
        let offered = self.table.kept().filter_map(|call| self.table.outcome(call));
        let bytes: usize = offered.map(|outcome| size(&outcome)).sum();
        assert!(
            bytes <= limits::NODE_RESULT_BYTES || resume.finished.len() == 1,
            "{bytes} bytes are kept"
        );
    }
}

/// More than a third of what a node may keep.
fn large() -> Json {
    static LARGE: OnceLock<Json> = OnceLock::new();
    let make = || Json::of(&"x".repeat(limits::NODE_RESULT_BYTES / 5 * 2)).expect("text");
    LARGE.get_or_init(make).clone()
}

fn size(outcome: &Outcome) -> usize {
    let payload = outcome.result.as_ref().ok().and_then(Option::as_ref);
    payload.map_or(0, |payload| payload.as_str().len())
}
