//! Which nodes are linked, for whoever only looks. The owner alone writes; a look waits for nobody, which halves what a call
//! costs before it is sent.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use atoll_protocol::id::DeviceId;

use super::LiveNode;

/// A shared look at the linked nodes. Each row is whole: it is replaced, never changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Linked(Arc<RwLock<HashMap<DeviceId, Arc<LiveNode>>>>);

impl Linked {
    pub(super) fn one(&self, node: DeviceId) -> Option<Arc<LiveNode>> {
        // Nothing panics while it holds the lock, and a row is whole in any case.
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rows.get(&node).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<LiveNode>> {
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rows.values().cloned().collect()
    }

    /// For the owner.
    pub(super) fn set(&self, live: LiveNode) {
        let mut rows = self.0.write().unwrap_or_else(PoisonError::into_inner);
        rows.insert(live.node, Arc::new(live));
    }

    /// For the owner.
    pub(super) fn remove(&self, node: DeviceId) {
        let mut rows = self.0.write().unwrap_or_else(PoisonError::into_inner);
        rows.remove(&node);
    }
}
