//! Why a job is where it is, for people and programs.

use crate::Now;
use crate::filter::{Candidate, candidates, removed_by, sentence, set_aside_by};
use crate::state::{ClusterState, JobView, Phase};
use orchion_contract::job::{Job, JobState};
use orchion_contract::placement::{
    Decision, DecisionOutcome, Explanation, FilterCount, FilterName, MAX_VERDICTS, Place,
    PlacementMode, Verdict,
};
use orchion_contract::{JobId, UnixMs};
use std::collections::BTreeMap;

/// Why an open job is where it is.
#[must_use]
pub fn explain(
    state: &ClusterState,
    id: &JobId,
    _now: Now,
    unix_ms: UnixMs,
) -> Option<Explanation> {
    let job = state.job(id)?;
    let decisions = match job.phase {
        Phase::Queued => vec![as_it_looks(state, job, unix_ms)],
        Phase::Opening | Phase::Ordered | Phase::Running | Phase::Ending => Vec::new(),
    };
    let summary = match (job.phase, &job.record.assigned) {
        (Phase::Queued, _) => waits_because(&decisions),
        (Phase::Ending, _) => "it is being ended".to_owned(),
        (Phase::Opening | Phase::Ordered | Phase::Running, Some(to)) => {
            format!("it runs on replica {} of node {}", to.replica, to.node)
        }
        (Phase::Opening | Phase::Ordered | Phase::Running, None) => "it is placed".to_owned(),
    };
    let running = job.phase == Phase::Running;
    Some(Explanation {
        job: *id,
        state: if running {
            JobState::Running
        } else {
            job.record.state
        },
        pool: job.record.model.clone(),
        priority: job.record.priority,
        queue_position: state.position(id),
        predicted_start_ms: None,
        summary,
        decisions,
    })
}

/// Why a job that has ended was where it was, as far as its record tells.
#[must_use]
pub fn explain_ended(record: &Job) -> Explanation {
    let place = record.assigned.as_ref();
    let summary = match place {
        Some(to) => format!(
            "it is {} after {} attempts; the last one was on replica {} of node {}",
            record.state, record.attempt, to.replica, to.node
        ),
        None => format!("it is {} and was never placed", record.state),
    };
    Explanation {
        job: record.id,
        state: record.state,
        pool: record.model.clone(),
        priority: record.priority,
        queue_position: None,
        predicted_start_ms: None,
        summary,
        decisions: Vec::new(),
    }
}

fn waits_because(decisions: &[Decision]) -> String {
    let Some(last) = decisions.last() else {
        return "it waits".to_owned();
    };
    let most = last
        .filters_applied
        .iter()
        .max_by_key(|count| count.removed);
    match most {
        None if last.candidates_considered == 0 => {
            "it waits: no node serves its model now".to_owned()
        }
        None => "it waits for its turn".to_owned(),
        Some(most) => format!(
            "it waits: of {} replicas {} cannot take it because {}",
            last.candidates_considered,
            most.removed,
            sentence(most.filter)
        ),
    }
}

/// How every candidate of a waiting job looks now.
fn as_it_looks(state: &ClusterState, job: &JobView, unix_ms: UnixMs) -> Decision {
    let mut removed: BTreeMap<FilterName, u32> = BTreeMap::new();
    let (mut considered, mut verdicts) = (0, Vec::new());
    for candidate in candidates(state, job) {
        considered += 1;
        let filter = removed_by(job, &candidate).or_else(|| set_aside_by(job, &candidate));
        if let Some(filter) = filter {
            *removed.entry(filter).or_default() += 1;
        }
        if verdicts.len() < MAX_VERDICTS {
            verdicts.push(verdict(&candidate, filter));
        }
    }
    let count = |(filter, removed)| FilterCount { filter, removed };
    Decision {
        at_ms: unix_ms,
        attempt: job.record.attempt,
        outcome: DecisionOutcome::NoCapacity,
        strategy: "least-loaded".to_owned(),
        selected: None,
        candidates_considered: considered,
        filters_applied: removed.into_iter().map(count).collect(),
        tie_breakers_applied: Vec::new(),
        pinned: is_pinned(job),
        fallback_used: false,
        candidates: verdicts,
    }
}

fn is_pinned(job: &JobView) -> bool {
    let spec = job.record.spec.as_ref();
    spec.and_then(|spec| spec.placement.as_deref())
        .is_some_and(|placement| placement.mode == PlacementMode::Pin)
}

fn verdict(candidate: &Candidate<'_>, removed_by: Option<FilterName>) -> Verdict {
    let (node, replica) = candidate.key.clone();
    Verdict {
        place: Place { node, replica },
        engine: candidate.view.replica.engine.kind,
        removed_by,
        reason: removed_by
            .map_or("it could take the job", sentence)
            .to_owned(),
        slots_used: candidate.used,
        slots: candidate.view.replica.slots,
        memory_free_bytes: None,
        slow: false,
    }
}
