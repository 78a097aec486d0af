//! Ids of tool calls that hold: unique in the conversation, and in an alphabet and length that every model API takes.
//!
//! Some servers number their calls from zero in every message. The same id twice in one turn would make a second command look like the
//! first one, which is never run twice.

use std::collections::HashSet;
use std::sync::Arc;

use atoll_protocol::json::Json;

use crate::message::{Assistant, MALFORMED_ARGS, Message, Part};

/// The shortest limit among the APIs.
const LONGEST: usize = 40;

pub(super) fn make_unique(message: &mut Assistant, conversation: &[Arc<Message>]) {
    let mut taken: HashSet<String> = HashSet::new();
    for earlier in conversation {
        if let Message::Assistant(earlier) = &**earlier {
            taken.extend(earlier.calls().map(|call| call.id.clone()));
        }
    }
    for part in &mut message.content {
        if let Part::ToolCall(call) = part {
            call.id = fresh(&call.id, &taken);
            taken.insert(call.id.clone());
        }
    }
}

fn fresh(id: &str, taken: &HashSet<String>) -> String {
    let mut base: String = id
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    if base.is_empty() {
        base.push_str("call");
    }
    let whole = base[..base.len().min(LONGEST)].to_owned();
    if !taken.contains(&whole) {
        return whole;
    }
    base.truncate(LONGEST - 8);
    (2u32..)
        .map(|n| format!("{base}_{n}"))
        .find(|candidate| !taken.contains(candidate))
        .unwrap_or(whole)
}

pub(super) fn is_malformed(args: &Json) -> bool {
    args.read::<serde_json::Map<String, serde_json::Value>>()
        .map_or(true, |map| map.contains_key(MALFORMED_ARGS))
}
