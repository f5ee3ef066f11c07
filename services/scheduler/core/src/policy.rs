//! What the owner of the cluster decided about queues and placement.

use crate::score::{LEAST_LOADED, Strategy};
use orchion_contract::ModelName;
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that is set, not learnt.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Orders the replicas that can take a job.
    pub strategy: &'static dyn Strategy,
    /// How long a model whose nodes are all gone still takes jobs in.
    pub gone_after: Duration,
    /// A replica that generates at less than this share of the fastest one of
    /// its pool gets jobs only when no other has a free slot.
    pub slow_share: f64,
    /// Pools that differ from the usual one, by their name: the model's.
    pub pools: BTreeMap<ModelName, PoolPolicy>,
    /// The usual pool.
    pub usual_pool: PoolPolicy,
}

impl Settings {
    /// What holds for the pool of a model.
    #[must_use]
    pub fn pool(&self, model: &ModelName) -> &PoolPolicy {
        self.pools.get(model).unwrap_or(&self.usual_pool)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strategy: LEAST_LOADED,
            gone_after: Duration::from_secs(30),
            slow_share: 0.25,
            pools: BTreeMap::new(),
            usual_pool: PoolPolicy::default(),
        }
    }
}

/// What holds for one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPolicy {
    /// Jobs that may wait.
    pub capacity: usize,
    /// What happens when that many wait.
    pub full_policy: FullPolicy,
    /// Whether a running batch job gives its slot to an interactive job.
    pub preempt: bool,
    /// Whether callers may name the only place.
    pub pinning: bool,
    /// Whether replicas without graphics memory are left out.
    pub gpu_only: bool,
}

impl Default for PoolPolicy {
    fn default() -> Self {
        Self {
            capacity: 256,
            full_policy: FullPolicy::Reject,
            preempt: true,
            pinning: true,
            gpu_only: false,
        }
    }
}

/// What happens when a queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullPolicy {
    /// The newcomer is refused.
    Reject,
    /// The oldest batch job goes, else the oldest job of the newcomer's class.
    DropLru,
    /// Batch newcomers are refused from nine tenths on.
    ShedLowPriority,
}

impl FullPolicy {
    /// The word in configuration, errors and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::DropLru => "drop-lru",
            Self::ShedLowPriority => "shed-low-priority",
        }
    }
}
