//! Section `scheduler` of the configuration.

use orchion_service::{HumanDuration, Settings};
use serde::{Deserialize, Serialize};
use std::time::Duration;

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
    /// Jobs that may wait for one model; more are refused with 429.
    pub queue_capacity: usize,
    /// How long a model whose nodes are all gone still takes jobs in.
    pub gone_after: HumanDuration,
}

impl Default for Scheduler {
    fn default() -> Self {
        let limits = orchion_scheduler_core::Limits::default();
        Self {
            queue_capacity: limits.queue_capacity,
            gone_after: HumanDuration(limits.gone_after),
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
        if self.scheduler.queue_capacity == 0 {
            problems.push("scheduler.queue_capacity must be at least 1".to_owned());
        }
        if self.scheduler.gone_after.0 < Duration::from_secs(1) {
            problems.push("scheduler.gone_after must be at least 1s".to_owned());
        }
        problems
    }
}
