//! The bucket `nodes`, of which the active registry is the only writer.

use orchion_bus::{AppendError, Bus, Change, Error, Kv};
use orchion_contract::NodeId;
use orchion_contract::buckets::NODES;
use orchion_contract::node::Node;
use std::collections::BTreeMap;

/// How often a write is tried whose expected revision is wrong.
const TRIES: u32 = 3;

/// The records with their revisions.
pub(crate) struct Store {
    kv: Kv<NodeId, Node>,
    revisions: BTreeMap<NodeId, u64>,
}

/// What stands in the bucket at one moment.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    revisions: BTreeMap<NodeId, u64>,
}

impl Store {
    pub(crate) fn new(bus: &Bus) -> Self {
        Self {
            kv: bus.bucket(NODES),
            revisions: BTreeMap::new(),
        }
    }

    /// Reads the whole bucket.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub(crate) async fn load(&mut self) -> Result<BTreeMap<NodeId, Node>, Error> {
        let contents = contents(&self.kv).await?;
        self.revisions = contents.revisions;
        Ok(contents.nodes)
    }

    /// The bucket, for readers beside this one.
    pub(crate) fn kv(&self) -> Kv<NodeId, Node> {
        self.kv.clone()
    }

    /// Makes the bucket say `record` of this node; `None`: nothing.
    ///
    /// # Errors
    /// When nobody knows whether it was written; doing it again is safe.
    pub(crate) async fn save(
        &mut self,
        node: &NodeId,
        record: Option<&Node>,
    ) -> Result<(), AppendError> {
        let mut tries = 0;
        loop {
            let expected = self.revisions.get(node).copied().unwrap_or(0);
            let written = match record {
                Some(record) => self.kv.set(node, record, expected, None).await,
                None => self.kv.delete(node, expected).await,
            };
            tries += 1;
            let error = match written {
                Ok(revision) => {
                    self.revisions.insert(node.clone(), revision);
                    return Ok(());
                }
                Err(error) => error,
            };
            // An answer that got lost, or a bucket that somebody emptied.
            if let Ok(revision) = self.kv.revision(node).await {
                self.revisions.insert(node.clone(), revision);
            }
            let outdated = matches!(error, AppendError::WrongSequence { .. });
            if !outdated || tries == TRIES {
                return Err(error);
            }
        }
    }
}

/// Reads the whole bucket.
pub(crate) async fn contents(kv: &Kv<NodeId, Node>) -> Result<Contents, Error> {
    let mut watch = kv.watch().await?;
    let mut contents = Contents::default();
    loop {
        match watch.next().await? {
            Change::Loaded => return Ok(contents),
            Change::Set { key, found } => {
                contents.revisions.insert(key.clone(), found.revision);
                if let Some(node) = found.value {
                    contents.nodes.insert(key, node);
                }
            }
        }
    }
}
