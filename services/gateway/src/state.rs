//! What the routes share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use orchion_bus::Bus;
use orchion_contract::ReaderId;
use orchion_contract::node::Node;
use orchion_service::{Stop, Tasks};
use tokio::sync::Semaphore;

use crate::config;
use crate::error::{Error, Result};
use crate::feed::Feed;
use crate::grants::Slots;
use crate::routes::logs::Tap;

/// How long the list of nodes is good for.
const FRESH: Duration = Duration::from_secs(1);

/// The gateway, connected. Nothing in it would be missed by a second gateway.
pub(crate) struct Gateway {
    pub(crate) config: config::Gateway,
    pub(crate) bus: Bus,
    /// This process's own token: where the transcripts of its jobs are.
    pub(crate) reader: ReaderId,
    pub(crate) feed: Feed,
    /// Slots that chats may be sent to without asking.
    pub(crate) slots: Slots,
    pub(crate) logs: Tap,
    pub(crate) tasks: Tasks,
    /// Time is up for streams that are still open.
    pub(crate) closing: Stop,
    pub(crate) nodes: Nodes,
    /// Turns for requests that are larger than a message.
    pub(crate) large: Semaphore,
}

/// The registry's list, remembered for a second.
#[derive(Default)]
pub(crate) struct Nodes(Mutex<Option<(Instant, Arc<[Node]>)>>);

impl Gateway {
    /// All nodes, sorted by id; at most a second old.
    ///
    /// # Errors
    /// When the registry is away.
    pub(crate) async fn list_nodes(&self) -> Result<Arc<[Node]>> {
        let known = self
            .nodes
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((at, nodes)) = known
            && at.elapsed() < FRESH
        {
            return Ok(nodes);
        }
        self.list_nodes_now().await
    }

    /// All nodes, sorted by id, as the registry sees them now.
    ///
    /// # Errors
    /// When the registry is away.
    pub(crate) async fn list_nodes_now(&self) -> Result<Arc<[Node]>> {
        let patience = self.config.patience.get();
        let nodes = self.bus.all_nodes(patience).await;
        let nodes: Arc<[Node]> = nodes
            .map_err(|error| Error::from_bus(error, "registry"))?
            .into();
        *self.nodes.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), nodes.clone()));
        Ok(nodes)
    }
}
