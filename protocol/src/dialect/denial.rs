//! Errors of an admitted link, in the exact words that real clients know. Never decides: the reason comes from who checked.

use serde_json::json;

use crate::error::{CallError, ErrorCode, WireError};
use crate::scope::{Role, Scope};
use crate::shown::one_line;

/// What a refusal repeats of a node's words, characters.
const REASON_CHARS: usize = 200;

/// A method that is not served, as an admin sees it.
pub fn unknown_method(method: &str) -> WireError {
    WireError::invalid(format!("unknown method: {method}"))
}

/// A scope is missing; `required` are all that the method wants.
pub fn missing_scope(missing: Scope, required: &[Scope]) -> WireError {
    WireError::new(ErrorCode::Forbidden, format!("missing scope: {missing}")).with_details(&json!({
        "code": "MISSING_SCOPE",
        "missingScope": missing,
        "requiredScopes": required,
    }))
}

/// The peer's role has no such method, whether it exists or not.
pub fn unauthorized_role(role: Role) -> WireError {
    WireError::invalid(format!("unauthorized role: {role}"))
}

/// `node.describe` and `node.rename` of a node that is none.
pub fn unknown_node() -> WireError {
    WireError::invalid("unknown nodeId")
}

/// The node is known and away.
pub fn node_not_connected() -> WireError {
    WireError::unavailable("node not connected").with_details(&json!({ "code": "NOT_CONNECTED" }))
}

/// What was going on when a node turned out not to be the paired one (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// An invocation of it; also of a node that was never known.
    Invocation,
    /// Its own request, before it was handled.
    Dispatch,
    /// Its own request about pending work.
    PendingWork,
}

/// The pairing is not, or no longer, in force.
pub fn pairing_changed(during: Interrupted) -> WireError {
    let tail = match during {
        Interrupted::Invocation => "while invocation was active",
        Interrupted::Dispatch => "before request dispatch",
        Interrupted::PendingWork => "while pending work was active",
    };
    WireError::unavailable(format!("node pairing changed {tail}"))
        .with_details(&json!({ "code": "PAIRING_CHANGED" }))
        .with_retry(true, None)
}

/// Why a command does not go to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandBar {
    /// Policy does not let it through on that platform.
    NotAllowlisted,
    /// It is of the kind that the owner has to allow by name.
    NotOptedIn,
    /// The node does not have it.
    NotDeclared,
    /// The node has no commands at all.
    NothingDeclared,
}

/// A command that does not go to the node.
pub fn command_not_allowed(command: &str, platform: &str, bar: CommandBar) -> WireError {
    let (hint, reason) = match bar {
        CommandBar::NotAllowlisted => (
            format!("\"{command}\" is not in the allowlist for platform \"{platform}\""),
            "command not allowlisted",
        ),
        CommandBar::NotOptedIn => (
            format!("\"{command}\" requires explicit gateway.nodes.commands.allow opt-in"),
            "command not allowlisted",
        ),
        CommandBar::NotDeclared => (
            format!("the node (platform: {platform}) does not support \"{command}\""),
            "command not declared by node",
        ),
        CommandBar::NothingDeclared => (
            "the node did not declare any supported commands".to_owned(),
            "node did not declare commands",
        ),
    };
    WireError::invalid(format!("node command not allowed: {hint}"))
        .with_details(&json!({ "reason": reason, "command": command }))
}

/// The same refusal with what the node itself says of the command, after the words that clients know.
#[must_use]
pub fn with_reason_of_node(mut refusal: WireError, reason: &str) -> WireError {
    let shown = one_line(reason.trim(), REASON_CHARS);
    if !shown.is_empty() {
        refusal.message.push_str("; the node says: ");
        refusal.message.push_str(&shown);
    }
    refusal
}

/// A command that ran on the node, or was refused there.
pub fn node_error(error: &CallError) -> WireError {
    node_fault(error, true)
}

/// A command that never reached the node.
pub fn node_unasked(error: &CallError) -> WireError {
    node_fault(error, false)
}

fn node_fault(error: &CallError, is_dispatched: bool) -> WireError {
    let CallError { code, message } = error;
    // Some nodes begin the sentence with the code already.
    let sentence = if message.starts_with(&format!("{code}:")) {
        message.clone()
    } else {
        error.to_string()
    };
    WireError::unavailable(sentence).with_details(&json!({
        "nodeError": { "code": code, "message": message },
        "nodeCommandDispatched": is_dispatched,
    }))
}

/// The node did not answer in time.
pub fn node_timeout() -> WireError {
    node_error(&CallError::new("TIMEOUT", "node invoke timed out"))
}

/// An approval that needs more than the caller holds. The command line tries again as admin on these very words.
pub fn device_approval_denied() -> WireError {
    WireError::invalid("device pairing approval denied")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_words_come_after_ours_and_are_one_short_line() {
        let refusal = || command_not_allowed("screen.snapshot", "linux", CommandBar::NotDeclared);
        let ours = "node command not allowed: the node (platform: linux) does not support \"screen.snapshot\"";
        for (reason, expected) in [
            ("there is no display", "; the node says: there is no display".to_owned()),
            (" \n", String::new()),
            ("a\n\x1b[2Jb", "; the node says: a··[2Jb".to_owned()),
            (&"x".repeat(500), format!("; the node says: {}…", "x".repeat(200))),
        ] {
            let told = with_reason_of_node(refusal(), reason);
            assert_eq!(told.message, format!("{ours}{expected}"), "{reason:?}");
            assert_eq!((told.code, told.details), (refusal().code, refusal().details));
        }
    }
}
