//! Which nodes' hosts are being worked on, so that each is worked on by one task at a time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use straas_schemas::NodeId;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Hosts that are made or removed at once.
const AT_ONCE: usize = 8;

/// The nodes whose hosts are being worked on.
pub struct Busy {
    nodes: Mutex<BTreeMap<NodeId, CancellationToken>>,
    /// Places to work in.
    pub(super) slots: Semaphore,
}

impl Default for Busy {
    fn default() -> Self {
        Self { nodes: Mutex::default(), slots: Semaphore::new(AT_ONCE) }
    }
}

impl Busy {
    /// Whether a node's host is being worked on.
    pub fn contains(&self, node: &NodeId) -> bool {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).contains_key(node)
    }

    /// Takes a node; `None` if it is taken, and then `unwanted` ends what its work waits for.
    pub(super) fn begin(&self, node: &NodeId, unwanted: bool) -> Option<CancellationToken> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = nodes.get(node) {
            if unwanted {
                running.cancel();
            }
            return None;
        }
        let token = CancellationToken::new();
        // a removal waits for nothing that a second wish to remove could end
        nodes.insert(node.clone(), if unwanted { CancellationToken::new() } else { token.clone() });
        Some(token)
    }

    pub(super) fn end(&self, node: &NodeId) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}
