//! Who may hear an event.

use std::collections::HashSet;
use std::sync::Arc;

use atoll_pairing::approval::Requester;
use atoll_protocol::scope::{Role, Scope};

use super::LinkUp;

/// Who may hear an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Every link, nodes too.
    Everyone,
    /// Operators that hold this scope.
    Scope(Scope),
    /// Operators that may answer what this one asked: not itself, and what another operator asked is for
    /// administrators and for links of the same device.
    Approvers(Arc<Requester>),
    /// Operators on these connections, which asked for it.
    Watching(Arc<HashSet<String>>),
}

impl Audience {
    /// Whether a link belongs to it.
    pub(super) fn includes(&self, up: &LinkUp) -> bool {
        let LinkUp {
            role,
            scopes,
            device,
            connection,
            ..
        } = up;
        let operator = |scope: Scope| *role == Role::Operator && scopes.give(scope);
        match self {
            Self::Everyone => true,
            Self::Scope(scope) => operator(*scope),
            Self::Watching(connections) => operator(Scope::Read) && connections.contains(connection),
            Self::Approvers(asked) => {
                let is_same_device = asked.device.is_some() && asked.device == *device;
                let is_asker = asked.connection.as_ref() == Some(connection);
                let is_open = asked.connection.is_none() || is_same_device || scopes.give(Scope::Admin);
                operator(Scope::Approvals) && !is_asker && is_open
            }
        }
    }
}
