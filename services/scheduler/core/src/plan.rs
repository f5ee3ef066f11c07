//! From the recorded state to what must be done now.

use crate::Now;
use crate::place::place;
use crate::report::Decided;
use crate::state::{ClusterState, Phase};
use orchion_contract::job::Assignment;
use orchion_contract::node::NodeState;
use orchion_contract::{ErrorBody, JobId, ModelName, UnixMs};
use std::collections::BTreeMap;
use std::time::Duration;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Place a waiting job: its next attempt runs there.
    Assign {
        /// The job.
        job: JobId,
        /// Where.
        assignment: Assignment,
    },
    /// Take a job back: its node is gone, or is another process now.
    Release {
        /// The job.
        job: JobId,
        /// Why, as a sentence.
        reason: &'static str,
    },
    /// A running batch job gives its slot to an interactive one that waits.
    Preempt {
        /// The batch job.
        job: JobId,
        /// The interactive one.
        by: JobId,
    },
    /// Every replica that could take the job has failed it.
    GiveUp {
        /// The job.
        job: JobId,
        /// What its caller is told.
        error: ErrorBody,
    },
    /// The job's time is over.
    Expire {
        /// The job.
        job: JobId,
    },
}

/// What to do now, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// Why each placed job goes where it goes.
    pub decisions: Vec<(JobId, Decided)>,
    /// Models whose jobs wait, and why.
    pub waiting: BTreeMap<ModelName, &'static str>,
    /// When planning again may change something though nothing happened.
    pub next: Option<Now>,
}

impl Plan {
    /// Planning again at this time may change something.
    pub(crate) fn look_again(&mut self, at: Now) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

/// Decides everything that can be decided now. Equal states give equal plans;
/// planning again after its steps were taken changes nothing.
#[must_use]
pub fn plan(state: &ClusterState, now: Now, unix_ms: UnixMs) -> Plan {
    let mut plan = Plan::default();
    expire(state, now, &mut plan);
    release(state, &mut plan);
    place(state, now, unix_ms, &mut plan);
    plan
}

/// An agent ends a job at its deadline by itself; this much later we do.
const DEADLINE_SLACK: Duration = Duration::from_millis(500);

fn expire(state: &ClusterState, now: Now, plan: &mut Plan) {
    plan.next = state.next_deadline_after(now);
    for id in state.overdue(now) {
        let Some(job) = state.job(id) else { continue };
        let due = match job.phase {
            Phase::Ending => continue,
            Phase::Queued | Phase::Opening => job.deadline,
            Phase::Ordered | Phase::Running | Phase::Yielding => job.deadline + DEADLINE_SLACK,
        };
        if due <= now {
            plan.steps.push(Step::Expire { job: *id });
        } else {
            plan.look_again(due);
        }
    }
}

fn release(state: &ClusterState, plan: &mut Plan) {
    for (id, node) in state.unsettled() {
        for job in state.placed_on(id) {
            let Some(view) = state.job(job) else { continue };
            if matches!(view.phase, Phase::Opening | Phase::Ending) {
                continue;
            }
            let instance = view.record.assigned.as_ref().map(|to| &to.instance);
            let reason = match node {
                None => "its node left",
                Some(node) if node.state == NodeState::Lost => "its node is lost",
                Some(node) if instance != Some(&node.instance) => "its agent was restarted",
                Some(_) => continue,
            };
            plan.steps.push(Step::Release { job: *job, reason });
        }
    }
}
