//! From the recorded state to what must be done now.

use crate::Now;
use crate::state::{ClusterState, JobView, Phase, ReplicaKey, ReplicaView};
use orchion_contract::job::{Assignment, Workload};
use orchion_contract::node::{Continuation, NodeState};
use orchion_contract::{JobId, ModelName, UnixMs};
use std::cmp::Ordering;
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
    /// The job's time is over.
    Expire {
        /// The job.
        job: JobId,
    },
}

/// Why a job went where it went.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Placement {
    /// The job.
    pub job: JobId,
    /// Replicas of the model that were looked at.
    pub candidates: usize,
    /// The chosen one.
    pub chosen: ReplicaKey,
    /// Slots it had in use, and slots it has.
    pub load: (u32, u32),
}

/// What to do now, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// One entry per job placed.
    pub placements: Vec<Placement>,
    /// Models whose jobs wait, and why.
    pub waiting: BTreeMap<ModelName, &'static str>,
    /// When planning again may change something though nothing happened.
    pub next: Option<Now>,
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
            Phase::Ordered | Phase::Running => job.deadline + DEADLINE_SLACK,
        };
        if due <= now {
            plan.steps.push(Step::Expire { job: *id });
        } else {
            plan.next = Some(plan.next.map_or(due, |next| next.min(due)));
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

fn place(state: &ClusterState, now: Now, unix_ms: UnixMs, plan: &mut Plan) {
    for (model, queue) in state.queues() {
        let mut taken: BTreeMap<&ReplicaKey, u32> = BTreeMap::new();
        for id in queue {
            let Some(job) = state.job(id) else { continue };
            match choose(state, model, job, &taken, now) {
                Choice::Replica(key, placement) => {
                    *taken.entry(key).or_default() += 1;
                    if let Some(assignment) = assignment(state, key, unix_ms) {
                        plan.steps.push(Step::Assign {
                            job: *id,
                            assignment,
                        });
                        plan.placements.push(placement);
                    }
                }
                Choice::Later(at) => plan.next = Some(plan.next.map_or(at, |next| next.min(at))),
                Choice::Nowhere(why) => {
                    plan.waiting.insert(model.clone(), why);
                    if why == FULL {
                        break;
                    }
                }
            }
        }
    }
}

const FULL: &str = "every slot of every ready replica is in use";
const NOBODY: &str = "no ready replica of an online node serves the model";
const CANNOT_CONTINUE: &str = "every replica that can continue the answer is in use";

enum Choice<'a> {
    Replica(&'a ReplicaKey, Placement),
    Later(Now),
    Nowhere(&'static str),
}

struct Candidate<'a> {
    key: &'a ReplicaKey,
    view: &'a ReplicaView,
    used: u32,
}

fn choose<'a>(
    state: &'a ClusterState,
    model: &ModelName,
    job: &JobView,
    taken: &BTreeMap<&ReplicaKey, u32>,
    now: Now,
) -> Choice<'a> {
    let candidate = |key: &'a ReplicaKey| {
        let (node, view) = state.replica(key)?;
        let used = view.occupied() + taken.get(key).copied().unwrap_or_default();
        let can = offers(view, job.record.workload);
        (node.state == NodeState::Online && view.replica.ready && can).then_some(Candidate {
            key,
            view,
            used,
        })
    };
    let ready: Vec<Candidate<'a>> = state.replicas_of(model).filter_map(candidate).collect();
    let avoided = |candidate: &&Candidate<'a>| job.avoid.as_ref() == Some(candidate.key);
    if now < job.not_before && !ready.iter().any(|candidate| !avoided(&candidate)) {
        return Choice::Later(job.not_before);
    }
    let continuing: Vec<&Candidate<'a>> = ready
        .iter()
        .filter(|candidate| can_continue(job, candidate.view))
        .collect();
    let all: Vec<&Candidate<'a>> = ready.iter().collect();
    let (pool, full) = match (job.has_prefix, continuing.is_empty()) {
        (true, false) => (continuing, CANNOT_CONTINUE),
        (true, true) | (false, _) => (all, FULL),
    };
    if pool.is_empty() {
        return Choice::Nowhere(NOBODY);
    }
    let free = |candidate: &&&Candidate<'a>| candidate.used < candidate.view.replica.slots;
    let others = |candidate: &&&Candidate<'a>| !avoided(candidate);
    let least = |pool: &mut dyn Iterator<Item = &&Candidate<'a>>| {
        pool.min_by(|a, b| compare(a, b))
            .map(|found| (found.key, found.used, found.view.replica.slots))
    };
    let mut other = pool.iter().filter(free).filter(others);
    let found = match least(&mut other) {
        Some(found) => Some(found),
        None if now < job.not_before => return Choice::Later(job.not_before),
        None => least(&mut pool.iter().filter(free)),
    };
    match found {
        Some((key, used, slots)) => {
            let load = (used, slots);
            Choice::Replica(
                key,
                Placement {
                    job: job.record.id,
                    candidates: ready.len(),
                    chosen: key.clone(),
                    load,
                },
            )
        }
        None => Choice::Nowhere(full),
    }
}

/// Least loaded first: share of slots in use, then how many, then by name.
fn compare(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let share =
        |x: &Candidate<'_>, y: &Candidate<'_>| u64::from(x.used) * u64::from(y.view.replica.slots);
    share(a, b)
        .cmp(&share(b, a))
        .then(a.used.cmp(&b.used))
        .then(a.key.cmp(b.key))
}

/// Whether this replica does such work; one that names none does any.
pub(crate) fn offers(view: &ReplicaView, workload: Workload) -> bool {
    view.replica.workloads.is_empty() || view.replica.workloads.contains(&workload)
}

/// Whether this replica can go on behind what another one wrote.
pub(crate) fn can_continue(job: &JobView, view: &ReplicaView) -> bool {
    let before = job.record.prefix_by.as_ref().or(job
        .record
        .assigned
        .as_ref()
        .map(|before| &before.engine));
    let Some(old) = before else { return true };
    let new = &view.replica.engine;
    let same_weights = match (&old.digest, &new.digest) {
        (Some(old), Some(new)) => old == new,
        (None, None) => old.kind == new.kind,
        (Some(_), None) | (None, Some(_)) => false,
    };
    same_weights
        && matches!(
            view.replica.continuation,
            Continuation::Text | Continuation::Ids
        )
}

fn assignment(state: &ClusterState, key: &ReplicaKey, unix_ms: UnixMs) -> Option<Assignment> {
    let (node, view) = state.replica(key)?;
    Some(Assignment {
        node: key.0.clone(),
        instance: node.instance.clone(),
        replica: key.1.clone(),
        engine: view.replica.engine.clone(),
        at_ms: unix_ms,
    })
}
