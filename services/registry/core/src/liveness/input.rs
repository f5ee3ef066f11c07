//! What is told to the machine, and what it asks for.

use crate::Now;
use orchion_contract::NodeId;
use orchion_contract::node::NodeState;
use std::time::Duration;

/// A connection as the server numbers it: server id and number.
pub type Connection = (String, u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Since when each of our own connections has been there without a break.
    /// Told before every other input.
    Watching {
        /// The one over which heartbeats come.
        beats: Option<Now>,
        /// The one over which the server's connection events come.
        connections: Option<Now>,
    },
    /// A record was found in the bucket.
    Restored {
        /// The node.
        node: NodeId,
        /// Its longest time between two beats.
        interval: Duration,
        /// What the record says.
        state: NodeState,
    },
    /// A node made itself known.
    Registered {
        /// The node.
        node: NodeId,
        /// Its longest time between two beats.
        interval: Duration,
    },
    /// A node was taken off the list.
    Removed(NodeId),
    /// The registered process of a node beat.
    Beat {
        /// The node.
        node: NodeId,
        /// When the next one is due.
        interval: Duration,
    },
    /// A node's agent opened a connection.
    Connected {
        /// The node.
        node: NodeId,
        /// The connection.
        connection: Connection,
    },
    /// A connection of a node's agent ended.
    Disconnected {
        /// The node.
        node: NodeId,
        /// The connection.
        connection: Connection,
        /// Why, in the server's words.
        reason: String,
    },
    /// The connections there were when the server answered.
    Listed {
        /// When the question was sent.
        asked: Now,
        /// The connections of agents.
        connections: Vec<(NodeId, Connection)>,
    },
    /// Time has passed.
    Tick,
}

/// What the shell owes the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A node's state changed.
    Changed {
        /// The node.
        node: NodeId,
        /// Its state now.
        state: NodeState,
        /// Why, as a sentence.
        reason: String,
    },
    /// Ask the server for its connections; answer with [`Input::Listed`].
    List,
}
