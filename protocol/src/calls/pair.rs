//! Both tables against each other, each with a virtual clock of its own, under every schedule that proptest thinks of: links that
//! are cut with frames on them, restarts of either side, a machine that sleeps while the other one does not.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::frame::{Invoke, Outcome, Output, OutputStream, Progress, Resume};

const DEADLINE: Duration = Duration::from_secs(30);

/// One thing that happens.
#[derive(Debug, Clone)]
enum Act {
    Open { waits: bool, idempotent: bool },
    ToNode,
    ToGateway,
    TwiceToNode,
    TwiceToGateway,
    Finish(usize),
    Say(usize),
    Cancel(usize),
    Drop,
    Connect,
    Replace,
    RestartNode,
    RestartGateway,
    Wait(u8),
    NodeSlept(u8),
    GatewaySlept(u8),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => any::<(bool, bool)>().prop_map(|(waits, idempotent)| Act::Open { waits, idempotent }),
        6 => Just(Act::ToNode),
        6 => Just(Act::ToGateway),
        1 => Just(Act::TwiceToNode),
        1 => Just(Act::TwiceToGateway),
        4 => any::<usize>().prop_map(Act::Finish),
        4 => any::<usize>().prop_map(Act::Say),
        1 => any::<usize>().prop_map(Act::Cancel),
        2 => Just(Act::Drop),
        3 => Just(Act::Connect),
        1 => Just(Act::Replace),
        1 => Just(Act::RestartNode),
        1 => Just(Act::RestartGateway),
        2 => any::<u8>().prop_map(Act::Wait),
        1 => any::<u8>().prop_map(Act::NodeSlept),
        1 => any::<u8>().prop_map(Act::GatewaySlept),
    ]
}

/// What the gateway has written down of a call.
struct Journal {
    new: NewCall,
    may_be_sent: bool,
    ended: Vec<Result<Option<Json>, Failure>>,
    /// Parts of the output that were heard or known to be missing, since the gateway's start.
    heard: u64,
}

/// A program that the node's system runs.
struct Program {
    call: CallId,
    /// By the node's clock.
    deadline: Instant,
    said: u64,
}

/// A gateway, a node and the link between them.
struct Pair {
    now: Instant,
    gateway: Calls<usize>,
    /// The node's own clock.
    node_now: Instant,
    node: NodeCalls,
    /// Programs that run now; a restart of the node kills them.
    programs: Vec<Program>,
    started: BTreeMap<CallId, usize>,
    journal: Vec<Journal>,
    link: Option<u64>,
    generation: u64,
    boot: u64,
    /// What the gateway was told of the node's memory last.
    memory: Option<Arc<str>>,
    to_node: VecDeque<Frame>,
    to_gateway: VecDeque<Frame>,
}

fn node_id() -> DeviceId {
    DeviceId::from_digest([1; 32])
}

impl Pair {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            gateway: Calls::new(),
            node_now: Instant::now(),
            node: NodeCalls::new(),
            programs: Vec::new(),
            started: BTreeMap::new(),
            journal: Vec::new(),
            link: None,
            generation: 0,
            boot: 0,
            memory: None,
            to_node: VecDeque::new(),
            to_gateway: VecDeque::new(),
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Open { waits, idempotent } => self.open(waits, idempotent),
            Act::ToNode => self.step_node(),
            Act::ToGateway => self.step_gateway(),
            Act::TwiceToNode => self.to_node.extend(self.to_node.front().cloned()),
            Act::TwiceToGateway => self.to_gateway.extend(self.to_gateway.front().cloned()),
            Act::Finish(pick) => self.finish(pick),
            Act::Say(pick) => self.say(pick),
            Act::Cancel(pick) => self.cancel(pick),
            Act::Drop => self.drop_link(),
            Act::Connect if self.link.is_none() => self.connect(),
            Act::Connect => {}
            Act::Replace => self.connect(),
            Act::RestartNode => self.restart_node(),
            Act::RestartGateway => self.restart_gateway(),
            Act::Wait(time) => {
                self.pass_on_node(sixteenths(time));
                self.pass(sixteenths(time));
            }
            Act::NodeSlept(time) => self.pass(sixteenths(time)),
            Act::GatewaySlept(time) => self.pass_on_node(sixteenths(time)),
        }
    }

    fn open(&mut self, waits: bool, idempotent: bool) {
        let waiter = self.journal.len();
        let new = NewCall {
            invoke: Invoke {
                call: CallId::new(format!("c{waiter}")).expect("an id"),
                node: node_id(),
                command: "system.run".to_owned(),
                params: None,
                timeout_ms: 0,
                idempotency_key: None,
                plan: None,
            },
            deadline: self.now + DEADLINE,
            wait_until: waits.then_some(self.now + DEADLINE / 2),
            idempotent,
            memory: None,
        };
        self.journal.push(Journal {
            new: new.clone(),
            may_be_sent: false,
            ended: Vec::new(),
            heard: 0,
        });
        let effects = self.gateway.open(new, waiter, self.now).expect("the id is new");
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect<usize>>) {
        for effect in effects {
            match effect {
                Effect::Send { generation, frame, .. } => {
                    assert_eq!(Some(generation), self.link, "said on a link that is gone");
                    if let Frame::Invoke(invoke) = &frame {
                        let waiter: usize = invoke.call.as_str()[1..].parse().expect("a number");
                        if !self.journal[waiter].may_be_sent {
                            self.journal[waiter].may_be_sent = true;
                            self.journal[waiter].new.memory.clone_from(&self.memory);
                        }
                    }
                    self.to_node.push_back(frame);
                }
                Effect::Deliver { waiter, result, .. } => self.journal[waiter].ended.push(result),
                Effect::Progress {
                    waiter, seq, missed, ..
                } => {
                    let heard = &mut self.journal[waiter].heard;
                    assert_eq!(*heard + missed, seq, "a gap that nobody is told of");
                    *heard = seq + 1;
                }
                Effect::Acknowledge { acknowledge, .. } => self.to_node.push_back(Frame::Acknowledge(acknowledge)),
            }
        }
    }

    fn step_node(&mut self) {
        match self.to_node.pop_front() {
            Some(Frame::Invoke(invoke)) => match self.node.start(&invoke.call, self.node_now) {
                Start::Run => {
                    *self.started.entry(invoke.call.clone()).or_default() += 1;
                    self.programs.push(Program {
                        call: invoke.call,
                        deadline: self.node_now + Duration::from_millis(invoke.timeout_ms),
                        said: 0,
                    });
                }
                Start::Busy => self.answer(&invoke.call, Err(CallError::new("BUSY", "full"))),
                Start::Duplicate => {}
            },
            Some(Frame::Cancel(call)) if self.node.cancel(&call) => {
                self.programs.retain(|program| program.call != call);
                self.answer(&call, Err(CallError::new("CANCELLED", "stopped")));
            }
            Some(Frame::Acknowledge(acknowledge)) => self.node.acknowledge(&acknowledge.call, self.node_now),
            _ => {}
        }
    }

    fn step_gateway(&mut self) {
        let link = self.link.unwrap_or_default();
        let effects = match self.to_gateway.pop_front() {
            Some(Frame::Outcome(outcome)) => self.gateway.handle_outcome(node_id(), link, outcome),
            Some(Frame::Resume(resume)) => {
                self.memory = Some(resume.boot.as_str().into());
                self.gateway.handle_link_up(node_id(), link, Some(&resume), self.now)
            }
            Some(Frame::Progress(progress)) => self.gateway.handle_progress(node_id(), link, progress, self.now),
            Some(Frame::Output(output)) => {
                let effect = self.gateway.handle_output(node_id(), link, output, self.now);
                effect.into_iter().collect()
            }
            _ => Vec::new(),
        };
        self.carry_out(effects);
    }

    fn answer(&mut self, call: &CallId, result: Result<Option<Json>, CallError>) {
        let outcome: Outcome = self.node.finish(call, result, self.node_now).expect("it was started");
        if self.link.is_some() {
            self.to_gateway.push_back(Frame::Outcome(outcome));
        }
    }

    fn finish(&mut self, pick: usize) {
        if !self.programs.is_empty() {
            let program = self.programs.remove(pick % self.programs.len());
            self.answer(&program.call, Ok(None));
        }
    }

    /// What is said while there is no link is lost.
    fn say(&mut self, pick: usize) {
        let count = self.programs.len().max(1);
        let Some(program) = self.programs.get_mut(pick % count) else {
            return;
        };
        let (call, seq) = (program.call.clone(), program.said);
        let frame = if seq.is_multiple_of(2) {
            Frame::Progress(Progress {
                call,
                seq,
                chunk: "x".to_owned(),
                receipt: None,
            })
        } else {
            Frame::Output(Output {
                call,
                seq,
                stream: OutputStream::Stdout,
                bytes: "x".into(),
            })
        };
        program.said += 1;
        if self.link.is_some() {
            self.to_gateway.push_back(frame);
        }
    }

    fn cancel(&mut self, pick: usize) {
        if !self.journal.is_empty() {
            let call = self.journal[pick % self.journal.len()].new.invoke.call.clone();
            let effects = self.gateway.cancel(&call);
            self.carry_out(effects);
        }
    }

    fn drop_link(&mut self) {
        if let Some(link) = self.link.take() {
            self.gateway.handle_link_down(node_id(), link, self.now);
        }
        self.to_node.clear();
        self.to_gateway.clear();
    }

    fn connect(&mut self) {
        self.to_node.clear();
        self.to_gateway.clear();
        self.generation += 1;
        self.link = Some(self.generation);
        let resume: Resume = self.node.resume(&self.boot.to_string());
        self.to_gateway.push_back(Frame::Resume(resume));
        self.to_gateway
            .extend(self.node.outcomes_to_offer().into_iter().map(Frame::Outcome));
        // A gateway takes nothing else from a link before this.
        self.step_gateway();
    }

    fn restart_node(&mut self) {
        self.drop_link();
        self.node = NodeCalls::new();
        self.programs.clear();
        self.boot += 1;
    }

    /// Calls live on in the journal: what may have been sent is restored, the rest is as good as not connected.
    fn restart_gateway(&mut self) {
        self.drop_link();
        self.gateway = Calls::new();
        for (waiter, record) in self.journal.iter_mut().enumerate() {
            record.heard = 0;
            if !record.ended.is_empty() {
                continue;
            }
            if record.may_be_sent {
                self.gateway
                    .restore(record.new.clone(), waiter, self.now)
                    .expect("the table was empty");
            } else {
                record.ended.push(Err(Failure::NotConnected));
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let effects = self.gateway.handle_timeout(self.now);
        self.carry_out(effects);
        let due = self.gateway.poll_timeout().map(|(at, _)| at);
        assert!(due.is_none_or(|at| at > self.now), "a call outlives its time");
    }

    fn pass_on_node(&mut self, time: Duration) {
        self.node_now += time;
        self.node.handle_timeout(self.node_now);
        let (over, running) = std::mem::take(&mut self.programs)
            .into_iter()
            .partition(|program| program.deadline <= self.node_now);
        self.programs = running;
        let over: Vec<Program> = over;
        for program in over {
            self.answer(&program.call, Err(CallError::new("TIMEOUT", "too long")));
        }
    }

    /// Everything comes back and works from now on.
    fn settle(&mut self) {
        self.drop_link();
        self.connect();
        while !(self.to_node.is_empty() && self.to_gateway.is_empty() && self.programs.is_empty()) {
            self.step_node();
            self.step_gateway();
            self.finish(0);
        }
    }
}

fn sixteenths(seconds: u8) -> Duration {
    Duration::from_secs(u64::from(seconds) / 16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_call_ends_exactly_once_and_none_runs_twice(acts in proptest::collection::vec(any_act(), 0..120)) {
        let mut pair = Pair::new();
        for act in acts {
            pair.act(act);
            for record in &pair.journal {
                prop_assert!(record.ended.len() <= 1, "{:?}", record.new.invoke.call);
            }
        }
        pair.settle();
        prop_assert!(pair.gateway.is_empty(), "open: {:?}", pair.gateway.rows().collect::<Vec<_>>());
        prop_assert_eq!(pair.gateway.poll_timeout(), None);
        prop_assert_eq!(pair.node.outcomes_to_offer(), Vec::<Outcome>::new());
        for record in &pair.journal {
            let started = pair.started.get(&record.new.invoke.call).copied().unwrap_or(0);
            prop_assert_eq!(record.ended.len(), 1);
            prop_assert!(started <= 1 || record.new.idempotent, "started {} times", started);
            match &record.ended[0] {
                Ok(_) => prop_assert!(started >= 1, "ended well and never ran"),
                Err(Failure::NotConnected) => prop_assert_eq!(started, 0, "ran although it was said not to"),
                Err(Failure::TimedOut { sent } | Failure::Cancelled { sent }) => {
                    prop_assert!(*sent || started == 0, "ran although it was never sent");
                }
                Err(Failure::Node(_) | Failure::Lost) => {}
            }
        }
    }
}

#[test]
fn an_invocation_that_was_lost_with_its_link_runs_on_the_next_one() {
    for restart in [false, true] {
        let mut pair = Pair::new();
        pair.connect();
        pair.open(false, false);
        assert_eq!(pair.to_node.len(), 1);
        pair.drop_link();
        if restart {
            pair.restart_gateway();
        }
        pair.settle();
        // Another start of the gateway does not know its parameters, but it knows that it has not run.
        let expected = if restart { Err(Failure::NotConnected) } else { Ok(None) };
        assert_eq!(pair.journal[0].ended, [expected]);
        assert_eq!(pair.started.len(), usize::from(!restart));
    }
}

#[test]
fn what_a_restarted_node_had_is_lost_and_never_sent_again() {
    let mut pair = Pair::new();
    pair.connect();
    pair.open(false, false);
    pair.restart_node();
    pair.settle();
    assert_eq!(pair.journal[0].ended, [Err(Failure::Lost)]);
    assert!(pair.started.is_empty());
}

#[test]
fn ten_thousand_calls_end_when_their_node_comes_back() {
    let mut pair = Pair::new();
    for _ in 0..10_000 {
        pair.open(true, false);
    }
    pair.settle();
    assert!(pair.gateway.is_empty());
    assert!(pair.journal.iter().all(|record| record.ended.len() == 1));
}
