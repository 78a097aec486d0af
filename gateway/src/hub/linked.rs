//! Which nodes are linked, for whoever only looks. The owner alone writes; a look waits for nobody, which halves what a call
//! costs before it is sent.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use atoll_protocol::id::DeviceId;

use tokio::sync::watch;

use super::{LinkId, LiveNode};

/// A shared look at the linked nodes. Each row is whole: it is replaced, never changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Linked(Arc<Rows>);

#[derive(Debug, Default)]
struct Rows {
    rows: RwLock<HashMap<DeviceId, Arc<LiveNode>>>,
    /// Counts the links that came up.
    came: watch::Sender<u64>,
}

impl Linked {
    pub(super) fn one(&self, node: DeviceId) -> Option<Arc<LiveNode>> {
        // Nothing panics while it holds the lock, and a row is whole in any case.
        let rows = self.0.rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.get(&node).cloned()
    }

    /// The node's row, once it has streams and is that of another link than `not`.
    pub(super) async fn anew(&self, node: DeviceId, not: Option<LinkId>) -> Arc<LiveNode> {
        let mut came = self.0.came.subscribe();
        loop {
            came.mark_unchanged();
            if let Some(live) = self
                .one(node)
                .filter(|live| live.streams.is_some() && Some(live.link) != not)
            {
                return live;
            }
            // It never fails: the sender is in what is held here.
            let _ = came.changed().await;
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<LiveNode>> {
        let rows = self.0.rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.values().cloned().collect()
    }

    /// For the owner.
    pub(super) fn set(&self, live: LiveNode) {
        let mut rows = self.0.rows.write().unwrap_or_else(PoisonError::into_inner);
        rows.insert(live.node, Arc::new(live));
        drop(rows);
        self.0.came.send_modify(|count| *count += 1);
    }

    /// For the owner.
    pub(super) fn remove(&self, node: DeviceId) {
        let mut rows = self.0.rows.write().unwrap_or_else(PoisonError::into_inner);
        rows.remove(&node);
    }
}
