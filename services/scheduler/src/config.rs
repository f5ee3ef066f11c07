//! Section `scheduler` of the configuration.

use orchion_contract::ModelName;
use orchion_scheduler_core::{FullPolicy, PoolPolicy, STRATEGIES, Settings as Policy, strategy};
use orchion_service::{HumanDuration, Settings};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Name of the section that holds for every pool without one of its own.
const DEFAULT_POOL: &str = "default";

/// What the scheduler reads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where NATS is.
    pub nats: orchion_bus::Config,
    /// What is logged, and where to.
    pub telemetry: orchion_service::telemetry::Settings,
    /// Our own section.
    pub scheduler: Scheduler,
}

/// Our own section.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scheduler {
    /// How the replicas that can take a job are ordered: `least-loaded` or `round-robin`.
    pub strategy: String,
    /// How long a model whose nodes are all gone still takes jobs in.
    pub gone_after: HumanDuration,
    /// A replica that generates at less than this share of the fastest one of
    /// its pool gets jobs only when no other has a free slot; 0 switches it off.
    pub slow_share: f64,
    /// Pools by name, which is the model's; `default` holds for all others and
    /// for what a pool leaves out.
    pub pools: BTreeMap<String, Pool>,
}

/// What holds for one pool; what is left out is as in `default`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// Jobs that may wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<usize>,
    /// What happens when that many wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_policy: Option<WhenFull>,
    /// Whether a running batch job gives its slot to an interactive job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preempt: Option<bool>,
    /// Whether callers may name the only place of a job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinning: Option<bool>,
    /// Whether replicas without graphics memory are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_only: Option<bool>,
}

/// What happens when a queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The newcomer is refused.
    Reject,
    /// The oldest batch job goes, else the oldest job of the newcomer's class.
    DropLru,
    /// Batch newcomers are refused from nine tenths on.
    ShedLowPriority,
}

impl Default for Scheduler {
    fn default() -> Self {
        let policy = Policy::default();
        let pool = policy.usual_pool;
        let usual = Pool {
            capacity: Some(pool.capacity),
            full_policy: Some(WhenFull::Reject),
            preempt: Some(pool.preempt),
            pinning: Some(pool.pinning),
            gpu_only: Some(pool.gpu_only),
        };
        Self {
            strategy: policy.strategy.name().to_owned(),
            gone_after: HumanDuration(policy.gone_after),
            slow_share: policy.slow_share,
            pools: BTreeMap::from([(DEFAULT_POOL.to_owned(), usual)]),
        }
    }
}

impl Scheduler {
    /// What the core goes by.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let policy = Policy::default();
        let usual = self.pools.get(DEFAULT_POOL);
        let usual = usual.map_or_else(PoolPolicy::default, |pool| pool.over(&policy.usual_pool));
        let own = self.pools.iter().filter(|(name, _)| *name != DEFAULT_POOL);
        let pools = own.map(|(name, pool)| (ModelName::from(name.as_str()), pool.over(&usual)));
        Policy {
            strategy: strategy(&self.strategy).unwrap_or(policy.strategy),
            gone_after: self.gone_after.0,
            slow_share: self.slow_share,
            pools: pools.collect(),
            usual_pool: usual,
        }
    }
}

impl Pool {
    /// These settings where they say something, else the usual ones.
    fn over(&self, usual: &PoolPolicy) -> PoolPolicy {
        let full = self.full_policy.map(|policy| match policy {
            WhenFull::Reject => FullPolicy::Reject,
            WhenFull::DropLru => FullPolicy::DropLru,
            WhenFull::ShedLowPriority => FullPolicy::ShedLowPriority,
        });
        PoolPolicy {
            capacity: self.capacity.unwrap_or(usual.capacity),
            full_policy: full.unwrap_or(usual.full_policy),
            preempt: self.preempt.unwrap_or(usual.preempt),
            pinning: self.pinning.unwrap_or(usual.pinning),
            gpu_only: self.gpu_only.unwrap_or(usual.gpu_only),
        }
    }
}

impl Settings for Config {
    const SECTIONS: &'static [&'static str] = &["nats", "telemetry", "scheduler"];

    fn telemetry(&self) -> &orchion_service::telemetry::Settings {
        &self.telemetry
    }

    fn validate(&self) -> Vec<String> {
        let mut problems = self.nats.problems();
        let ours = &self.scheduler;
        if strategy(&ours.strategy).is_none() {
            let names: Vec<&str> = STRATEGIES.iter().map(|known| known.name()).collect();
            problems.push(format!(
                "scheduler.strategy '{}' is not known: use {}",
                ours.strategy,
                names.join(" or ")
            ));
        }
        for (name, pool) in &ours.pools {
            if pool.capacity == Some(0) {
                problems.push(format!(
                    "scheduler.pools.{name}.capacity must be at least 1"
                ));
            }
        }
        if !(0.0..=1.0).contains(&ours.slow_share) {
            problems.push("scheduler.slow_share must lie between 0 and 1".to_owned());
        }
        if ours.gone_after.0 < Duration::from_secs(1) {
            problems.push("scheduler.gone_after must be at least 1s".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_of_its_own_differs_where_it_says_so() {
        let mut ours = Scheduler::default();
        let own = Pool {
            capacity: Some(3),
            full_policy: Some(WhenFull::DropLru),
            ..Pool::default()
        };
        ours.pools.insert("org/model:8b".to_owned(), own);
        let policy = ours.policy();
        assert_eq!(policy.pool(&"else".into()), &PoolPolicy::default());
        let expected = PoolPolicy {
            capacity: 3,
            full_policy: FullPolicy::DropLru,
            ..PoolPolicy::default()
        };
        assert_eq!(policy.pool(&"org/model:8b".into()), &expected);
    }

    #[test]
    fn an_unknown_strategy_is_named_with_those_that_are_known() {
        let mut config = Config::default();
        config.scheduler.strategy = "fastest".to_owned();
        let problems = config.validate().join("\n");
        assert!(problems.contains("'fastest' is not known: use least-loaded or round-robin"));
        config.scheduler.strategy = "round-robin".to_owned();
        assert_eq!(config.validate(), Vec::<String>::new());
        assert_eq!(config.scheduler.policy().strategy.name(), "round-robin");
    }
}
