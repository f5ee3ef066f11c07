//! The connections of agents, as far as we have seen them.
//!
//! Two sources tell of them: events, in order, and now and then a list. The
//! list is older than the events that came since it was asked for, and must
//! neither revive a connection that ended nor hide one that began meanwhile.

use super::{Connection, GRACE};
use crate::Now;
use orchion_contract::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// The server's list, by node.
pub(super) type Listed = BTreeMap<NodeId, BTreeSet<Connection>>;

/// Connections by node; a node without one has no entry.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections {
    /// With the time at which we learnt of each.
    live: BTreeMap<NodeId, BTreeMap<Connection, Now>>,
    /// Those that ended lately.
    ended: BTreeMap<Connection, Now>,
}

impl Connections {
    pub(super) fn has(&self, node: &NodeId) -> bool {
        self.live.contains_key(node)
    }

    pub(super) fn opened(&mut self, node: &NodeId, connection: Connection, now: Now) {
        let live = self.live.entry(node.clone()).or_default();
        live.insert(connection, now);
    }

    pub(super) fn ended(&mut self, node: &NodeId, connection: Connection, now: Now) {
        if let Some(live) = self.live.get_mut(node) {
            live.remove(&connection);
            if live.is_empty() {
                self.live.remove(node);
            }
        }
        self.ended.insert(connection, now);
        self.ended.retain(|_, ended| *ended + GRACE * 2 > now);
    }

    /// Takes in what a list shows, but for what has ended since.
    pub(super) fn add(&mut self, listed: &Listed, asked: Now, now: Now) {
        for (node, connections) in listed {
            for connection in connections {
                let ended = self.ended.get(connection);
                if ended.is_none_or(|ended| *ended < asked) {
                    let live = self.live.entry(node.clone()).or_default();
                    live.entry(connection.clone()).or_insert(now);
                }
            }
        }
    }

    /// Forgets what a list does not show, but for what has begun since; gives
    /// the nodes that have no connection any more.
    pub(super) fn forget_unlisted(&mut self, listed: &Listed, asked: Now) -> BTreeSet<NodeId> {
        let mut gone = BTreeSet::new();
        self.live.retain(|node, live| {
            let found = listed.get(node);
            live.retain(|connection, learnt| {
                *learnt >= asked || found.is_some_and(|found| found.contains(connection))
            });
            if live.is_empty() {
                gone.insert(node.clone());
            }
            !live.is_empty()
        });
        gone
    }
}
