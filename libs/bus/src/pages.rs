//! Lists that come in pages, put together.

use crate::connect::Bus;
use crate::error::Error;
use orchion_contract::node::{ListNodes, Node};
use orchion_contract::rpc::LIST_NODES;
use std::time::Duration;

impl Bus {
    /// All nodes, sorted by id. Each page is waited for as long as `patience`.
    ///
    /// # Errors
    /// When the registry is away.
    pub async fn all_nodes(&self, patience: Duration) -> Result<Vec<Node>, Error> {
        let mut nodes: Vec<Node> = Vec::new();
        loop {
            let after = nodes.last().map(|node| node.id.clone());
            let question = ListNodes { after };
            let page = self.ask_patiently(&LIST_NODES, &(), &question, patience);
            let page = page.await?;
            let ends = !page.more || page.nodes.is_empty();
            nodes.extend(page.nodes);
            if ends {
                return Ok(nodes);
            }
        }
    }
}
