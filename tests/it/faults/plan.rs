//! One schedule, drawn from a seed: which calls are made when, and which faults come and go meanwhile.

use std::time::Duration;

use atoll_tests::chance::Chance;
use atoll_tests::weather::Weather;

/// Calls of a schedule.
pub(super) const CALLS: usize = 3;

/// Calls and faults begin within this time.
const BEGIN: Duration = Duration::from_millis(700);

/// A fault lasts at most this long.
const LAST: Duration = Duration::from_millis(1200);

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

/// What happens at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Happening {
    /// A call whose command sleeps that many seconds.
    Call(&'static str),
    /// A fault begins.
    Begin(Fault),
    /// And is over.
    End(Fault),
}

/// A schedule.
#[derive(Debug)]
pub(super) struct Plan {
    happenings: Vec<(Duration, Happening)>,
}

impl Plan {
    /// Draws one. At most one fault at a time, so that the end of each sets right what it did.
    pub(super) fn draw(chance: &mut Chance) -> Self {
        let mut happenings: Vec<_> = (0..CALLS)
            .map(|_| {
                (
                    chance.below(BEGIN),
                    Happening::Call(chance.one_of(&["0", "0", "0.1", "0.5"])),
                )
            })
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
        Self { happenings }
    }

    /// What happens, by its time from the start.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (Duration, Happening)> + '_ {
        self.happenings.iter().copied()
    }
}

fn draw_fault(chance: &mut Chance) -> Fault {
    let fine = Weather::default();
    let bad = [
        Weather::partition(),
        Weather {
            is_up_blocked: true,
            ..fine
        },
        Weather {
            is_down_blocked: true,
            ..fine
        },
        Weather {
            delay: Duration::from_millis(80),
            jitter: Duration::from_millis(60),
            loss: 300,
            doubled: 100,
            ..fine
        },
    ];
    match chance.draw() % 10 {
        0..=1 => Fault::Cut,
        2 => Fault::Move,
        3..=6 => Fault::Weather(chance.one_of(&bad)),
        7 => Fault::Suspended,
        8 => Fault::NodeKilled,
        _ => Fault::GatewayKilled,
    }
}
