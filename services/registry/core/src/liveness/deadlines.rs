//! Who is to be looked at when.

use crate::Now;
use orchion_contract::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// At most one time for each node.
#[derive(Debug, Clone, Default)]
pub(super) struct Deadlines {
    queue: BTreeSet<(Now, NodeId)>,
    of: BTreeMap<NodeId, Now>,
}

impl Deadlines {
    /// The earliest time.
    pub(super) fn first(&self) -> Option<Now> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Looks at a node at this time, or earlier when that is planned. A later
    /// time is found when the earlier one has come, so that a beat costs nothing.
    pub(super) fn look_at(&mut self, node: &NodeId, at: Now) {
        match self.of.get(node) {
            Some(planned) if *planned <= at => return,
            Some(planned) => {
                self.queue.remove(&(*planned, node.clone()));
            }
            None => {}
        }
        self.of.insert(node.clone(), at);
        self.queue.insert((at, node.clone()));
    }

    /// Takes out a node whose time has come.
    pub(super) fn take_due(&mut self, now: Now) -> Option<NodeId> {
        if self.first()? > now {
            return None;
        }
        let (_, node) = self.queue.pop_first()?;
        self.of.remove(&node);
        Some(node)
    }

    /// Looks at a node no more.
    pub(super) fn remove(&mut self, node: &NodeId) {
        if let Some(at) = self.of.remove(node) {
            self.queue.remove(&(at, node.clone()));
        }
    }
}
