//! `messages.queue`: what becomes of a message whose conversation is busy.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

/// `messages.queue`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// As written; [`Queue::mode_of`] is what holds.
    pub mode: QueueMode,
    /// How many may wait in one conversation.
    pub cap: usize,
    /// What goes beyond that.
    pub drop: QueueDrop,
    /// As written, milliseconds; [`Queue::debounce_of`] is what holds.
    pub debounce_ms: u64,
    /// Modes by channel.
    pub by_channel: BTreeMap<String, QueueMode>,
    /// Debounces by channel, milliseconds.
    pub debounce_ms_by_channel: BTreeMap<String, u64>,
}

/// `messages.queue.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueMode {
    /// Into the turn that runs, at its next step.
    Steer,
    /// A turn each.
    Followup,
    /// One turn for all that wait.
    Collect,
    /// In the place of the turn that runs.
    Interrupt,
}

/// `messages.queue.drop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueDrop {
    /// The oldest; its beginning is kept for the agent.
    Summarize,
    /// The oldest.
    Old,
    /// The newest.
    New,
}

impl Queue {
    /// The mode on a channel.
    pub fn mode_of(&self, channel: &str) -> QueueMode {
        self.by_channel.get(channel).copied().unwrap_or(self.mode)
    }

    /// How long it must be quiet on a channel before what waits is collected.
    pub fn debounce_of(&self, channel: &str) -> Duration {
        let ms = self.debounce_ms_by_channel.get(channel).copied();
        Duration::from_millis(ms.unwrap_or(self.debounce_ms))
    }
}
