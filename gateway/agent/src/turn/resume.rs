//! Continues a turn that a crash cut short, from what it had appended.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::{Effect, Offer, State, Turn};
use crate::message::{Assistant, Message, StopReason, ToolCall};
use crate::port::Progress;

impl Turn {
    pub(super) fn resume(&mut self, history: Vec<Arc<Message>>, tail: Vec<Arc<Message>>, effects: &mut Vec<Effect>) {
        if !matches!(self.state, State::Fresh) {
            return;
        }
        self.own = history.len();
        self.messages = history;
        self.messages.extend(tail.iter().cloned());
        let pending = self.replay(&tail);
        if ended(&tail) {
            return self.finish(effects);
        }
        effects.push(Effect::Watch(Progress::Started));
        self.next_tool(pending, Offer::Taken, effects);
    }

    /// Rebuilds what the machine knew; gives the calls of the last message that have no result yet.
    fn replay(&mut self, tail: &[Arc<Message>]) -> VecDeque<ToolCall> {
        let answered: HashSet<&str> = tail.iter().filter_map(|message| answered_call(message)).collect();
        let mut pending = VecDeque::new();
        for message in tail.iter().filter_map(|message| as_assistant(message)) {
            self.usage.add(message.usage);
            self.rounds += u32::from(message.error.is_none());
            pending.clear();
            for call in message.calls() {
                if answered.contains(call.id.as_str()) {
                    self.guard.note(call);
                } else {
                    pending.push_back(call.clone());
                }
            }
        }
        pending
    }
}

/// Whether the last word of the turn was spoken: a message of the model without calls, or the record of its failure.
fn ended(tail: &[Arc<Message>]) -> bool {
    let Some(last) = tail.last().and_then(|message| as_assistant(message)) else {
        return false;
    };
    match last.stop {
        StopReason::Error | StopReason::Aborted => true,
        StopReason::Stop | StopReason::Length | StopReason::ToolUse => last.calls().next().is_none(),
    }
}

fn as_assistant(message: &Message) -> Option<&Assistant> {
    match message {
        Message::Assistant(message) => Some(message),
        Message::User(_) | Message::ToolResult(_) => None,
    }
}

fn answered_call(message: &Message) -> Option<&str> {
    match message {
        Message::ToolResult(result) => Some(&result.call),
        Message::User(_) | Message::Assistant(_) => None,
    }
}
