//! What is known of each node: one record, whoever reports it, however often.

use orchion_contract::node::{Node, NodeState, Registration};
use orchion_contract::{InstanceId, NodeId, UnixMs};
use std::collections::BTreeMap;
use std::ops::Bound;

/// How a process stands to the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the process that registered last.
    Registered,
    /// Its node was taken off the list, and it has not registered since.
    Removed,
    /// The node or the process is not known.
    Unknown,
}

/// What a registration changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upsert {
    /// A node that was not known.
    New,
    /// Another process of a known node.
    OtherProcess,
    /// The known process, with news.
    Changed,
    /// Nothing.
    Same,
}

/// All node records.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    nodes: BTreeMap<NodeId, Node>,
    /// The processes of nodes that were taken off the list.
    removed: BTreeMap<NodeId, InstanceId>,
}

impl Directory {
    /// One node.
    #[must_use]
    pub fn get(&self, node: &NodeId) -> Option<&Node> {
        self.nodes.get(node)
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The nodes behind another one, by id.
    pub fn nodes_after(&self, node: &NodeId) -> impl Iterator<Item = &Node> {
        let behind = (Bound::Excluded(node), Bound::Unbounded);
        self.nodes.range::<NodeId, _>(behind).map(|(_, node)| node)
    }

    /// Takes in a record from the bucket.
    pub fn restore(&mut self, node: Node) {
        self.nodes.insert(node.id.clone(), node);
    }

    /// How a process stands.
    #[must_use]
    pub fn standing(&self, node: &NodeId, instance: &InstanceId) -> Standing {
        match (self.nodes.get(node), self.removed.get(node)) {
            (Some(known), _) if known.instance == *instance => Standing::Registered,
            (None, Some(removed)) if removed == instance => Standing::Removed,
            (Some(_) | None, Some(_) | None) => Standing::Unknown,
        }
    }

    /// Takes in a registration. The first time a node was seen is kept, and so is
    /// its state: who lives is not decided here.
    pub fn register(&mut self, registration: Registration, unix_ms: UnixMs) -> Upsert {
        self.removed.remove(&registration.node);
        let before = self.nodes.get(&registration.node);
        let first_seen_ms = before.map_or(unix_ms, |before| before.first_seen_ms);
        let state = before.map_or(NodeState::Online, |before| before.state);
        let node = Node {
            id: registration.node,
            instance: registration.instance,
            hostname: registration.hostname,
            version: registration.version,
            labels: registration.labels,
            capabilities: registration.capabilities,
            replicas: registration.replicas,
            state,
            first_seen_ms,
            last_seen_ms: unix_ms,
            last_seen_unix: unix_ms / 1000,
            heartbeat_ms: registration.heartbeat_ms,
        };
        let upsert = match before {
            None => Upsert::New,
            Some(before) if before.instance != node.instance => Upsert::OtherProcess,
            Some(before) if !same(before, &node) => Upsert::Changed,
            Some(_) => Upsert::Same,
        };
        self.nodes.insert(node.id.clone(), node);
        upsert
    }

    /// Takes a node off the list; its process is not taken up again before it
    /// registers anew.
    pub fn remove(&mut self, node: &NodeId) -> Option<Node> {
        let removed = self.nodes.remove(node)?;
        self.removed.insert(node.clone(), removed.instance.clone());
        Some(removed)
    }

    /// Notes a sign of life.
    pub fn seen(&mut self, node: &NodeId, unix_ms: UnixMs) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.last_seen_ms = unix_ms;
            node.last_seen_unix = unix_ms / 1000;
        }
    }

    /// Notes a change of state; gives the record as it is now.
    pub fn set_state(&mut self, node: &NodeId, state: NodeState) -> Option<&Node> {
        let node = self.nodes.get_mut(node)?;
        node.state = state;
        Some(node)
    }

    /// The nodes whose stored record is not what is known: other, missing, or
    /// one too many.
    #[must_use]
    pub fn differing(&self, stored: &BTreeMap<NodeId, Node>) -> Vec<NodeId> {
        let changed = self.nodes.values().filter(|node| {
            stored
                .get(&node.id)
                .is_none_or(|stored| !same(stored, node))
        });
        let surplus = stored.keys().filter(|id| !self.nodes.contains_key(*id));
        changed
            .map(|node| &node.id)
            .chain(surplus)
            .cloned()
            .collect()
    }
}

/// Whether two records say the same; the last sign of life changes with every
/// beat and is no news.
fn same(a: &Node, b: &Node) -> bool {
    let with_times_of_b = Node {
        last_seen_ms: b.last_seen_ms,
        last_seen_unix: b.last_seen_unix,
        ..a.clone()
    };
    with_times_of_b == *b
}
