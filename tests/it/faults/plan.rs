//! One schedule, drawn from a seed: over which pipe, which calls are made when, and which faults come and go meanwhile.

use std::time::Duration;

use atoll_tests::chance::Chance;
use atoll_tests::mesh::Pipe;
use atoll_tests::weather::Weather;

/// What a node's links may be made of.
pub(super) const PIPES: [Pipe; 4] = [Pipe::Ws, Pipe::Wss, Pipe::Quic, Pipe::Any];

/// Calls of a schedule.
pub(super) const CALLS: usize = 3;

/// Calls and faults begin within this time.
const BEGIN: Duration = Duration::from_millis(700);

/// A fault lasts at most this long.
const LAST: Duration = Duration::from_millis(1200);

/// What a storm stays below.
const WORST: Weather = Weather {
    delay: Duration::from_millis(150),
    jitter: Duration::from_millis(100),
    loss: 301,
    doubled: 201,
    is_up_blocked: false,
    is_down_blocked: false,
    is_udp_blocked: false,
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// Every connection ends without a word.
    Cut,
    /// The node has another address.
    Move,
    /// The network is bad for a while.
    Weather(Weather),
    /// The node sleeps.
    Suspended,
    /// The node is killed, and started again.
    NodeKilled,
    /// The gateway is killed, and started again.
    GatewayKilled,
}

/// What a call is to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Asked {
    /// Run a command that sleeps that many seconds.
    Run(&'static str),
    /// The same, and wait for a node that is away.
    WaitAndRun(&'static str),
    /// Fetch a file of the node, whose bytes flow beside the call.
    Fetch,
    /// Write one there.
    Write,
}

/// What happens at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Happening {
    /// A call.
    Call(Asked),
    /// A fault begins.
    Begin(Fault),
    /// And is over.
    End(Fault),
}

/// A schedule.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) pipe: Pipe,
    happenings: Vec<(Duration, Happening)>,
}

impl Plan {
    /// Draws one. At most one fault at a time, so that the end of each sets right what it did.
    pub(super) fn draw(chance: &mut Chance) -> Self {
        let pipe = chance.one_of(&PIPES);
        let mut happenings: Vec<_> = (0..CALLS)
            .map(|_| (chance.below(BEGIN), Happening::Call(draw_call(chance))))
            .collect();
        let mut free = Duration::ZERO;
        for _ in 0..chance.one_of(&[1, 1, 2, 3]) {
            let fault = draw_fault(chance);
            let begin = free + chance.below(BEGIN);
            let end = begin + chance.below(LAST);
            happenings.push((begin, Happening::Begin(fault)));
            happenings.push((end, Happening::End(fault)));
            free = end;
        }
        // Stable, so that an end stays behind its beginning.
        happenings.sort_by_key(|(at, _)| *at);
        Self { pipe, happenings }
    }

    /// What happens, by its time from the start.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (Duration, Happening)> + '_ {
        self.happenings.iter().copied()
    }
}

fn draw_call(chance: &mut Chance) -> Asked {
    let sleep = chance.one_of(&["0", "0", "0.1", "0.5"]);
    match chance.draw() % 8 {
        0..=3 => Asked::Run(sleep),
        4..=5 => Asked::WaitAndRun(sleep),
        6 => Asked::Fetch,
        _ => Asked::Write,
    }
}

fn draw_fault(chance: &mut Chance) -> Fault {
    match chance.draw() % 10 {
        0..=1 => Fault::Cut,
        2 => Fault::Move,
        3..=6 => Fault::Weather(draw_weather(chance)),
        7 => Fault::Suspended,
        8 => Fault::NodeKilled,
        _ => Fault::GatewayKilled,
    }
}

fn draw_weather(chance: &mut Chance) -> Weather {
    let fine = Weather::default();
    match chance.draw() % 6 {
        0 => Weather::partition(),
        1 => Weather {
            is_up_blocked: true,
            ..fine
        },
        2 => Weather {
            is_down_blocked: true,
            ..fine
        },
        3 => Weather {
            is_udp_blocked: true,
            ..fine
        },
        // Datagrams are lost, come twice and overtake one another; streams take their time.
        _ => Weather {
            delay: chance.below(WORST.delay),
            jitter: chance.below(WORST.jitter),
            loss: chance.draw() % WORST.loss,
            doubled: chance.draw() % WORST.doubled,
            ..fine
        },
    }
}
