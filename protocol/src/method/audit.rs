//! `audit.entries`: who did what, and how it ended.

use crate::json::Json;
use crate::method::Int;
use crate::strict::{closed, open};

closed! {
    /// `audit.entries`.
    #[derive(Default)]
    pub struct AuditEntries {;
        /// At or after, Unix milliseconds.
        since?: u64,
        /// So many at most, the newest; 100 if left out.
        limit?: Int<1, 10_000>,
    }
}

open! {
    /// The reply of `audit.entries`.
    pub struct AuditListed {
        /// Unix milliseconds.
        ts: u64,
        /// Newest first.
        entries: Vec<AuditEntry>;
    }

    /// Something that somebody did, or was not let do.
    pub struct AuditEntry {
        /// When, Unix milliseconds.
        at: u64,
        /// Who: a device id, `agent:main`, `telegram:123`, `uid:1000`, `shared-secret`.
        actor: String,
        /// What: `node.invoke`, or another method or change.
        action: String,
        /// To what: a device, approval, session, key.
        target: String,
        /// How it ended: `ok`, `denied`, `unknown_node`, `node_away`, or the state of a call as it is stored.
        outcome: String,
        /// More facts; never what was said, nor parameters of a call.
        detail: Json;
    }
}
