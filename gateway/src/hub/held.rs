//! Acknowledgements that wait for company. Nobody waits for them, and with the next call to their node they leave in one write.

use std::time::{Duration, Instant};

use atoll_protocol::frame::Frame;

use super::flight::Order;

/// So long without a call they wait.
pub(super) const PAUSE: Duration = Duration::from_millis(5);

/// More do not wait: a node keeps only so many ends.
pub(super) const MOST: usize = 32;

/// Those that wait.
#[derive(Default)]
pub(super) struct Held {
    orders: Vec<Order>,
    due: Option<Instant>,
}

impl Held {
    /// Takes what may wait, and gives back what may not. A peer of the dialect waits for its receipt.
    pub(super) fn hold(&mut self, order: Order, now: Instant) -> Option<Order> {
        let may_wait = matches!(&order.frame, Frame::Acknowledge(acknowledge) if acknowledge.receipt.is_none());
        if !may_wait {
            return Some(order);
        }
        self.orders.push(order);
        self.due.get_or_insert(now + PAUSE);
        None
    }

    /// When they must go.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether they must go now.
    pub(super) fn is_full(&self) -> bool {
        self.orders.len() >= MOST
    }

    /// All of them, to be sent.
    pub(super) fn release(&mut self) -> Vec<Order> {
        self.due = None;
        std::mem::take(&mut self.orders)
    }
}
