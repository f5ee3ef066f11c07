//! Why a job is where it is, for people and programs.

use crate::Now;
use crate::filter::{
    Candidate, can_continue, candidates, falls_back, is_pinned, is_preferred, is_tied, removed_by,
    sentence,
};
use crate::forecast::predicted_start_ms;
use crate::state::{ClusterState, JobView, Phase, ReplicaKey};
use orchion_contract::job::{Job, JobState};
use orchion_contract::node::EngineKind;
use orchion_contract::placement::{
    Decision, DecisionOutcome, Explanation, FilterCount, FilterName, MAX_VERDICTS, Place, Verdict,
};
use orchion_contract::{JobId, UnixMs};
use std::collections::{BTreeMap, VecDeque};

/// Candidates that are kept of each decision; a question lists more.
const KEPT: usize = 16;
/// Larger pools are not searched for what keeps a job from all of their
/// replicas: every waiting job asks once a second.
const SEARCHED: usize = 256;

/// One decision, as it is kept until somebody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    at_ms: UnixMs,
    attempt: u32,
    outcome: DecisionOutcome,
    strategy: &'static str,
    keys: &'static [&'static str],
    selected: Option<ReplicaKey>,
    considered: u32,
    pinned: bool,
    fallback: bool,
    looks: Vec<Look>,
}

/// One candidate as it looked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    key: ReplicaKey,
    engine: EngineKind,
    removed_by: Option<FilterName>,
    used: u32,
    slots: u32,
    memory_left: Option<u64>,
    slow: bool,
}

impl Decided {
    /// What came of something that is no choice between candidates.
    pub(crate) fn plain(job: &JobView, outcome: DecisionOutcome, unix_ms: UnixMs) -> Self {
        Self {
            pinned: is_pinned(job),
            ..Self::recorded(&job.record, outcome, unix_ms)
        }
    }

    /// The same, as far as the record tells.
    fn recorded(record: &Job, outcome: DecisionOutcome, unix_ms: UnixMs) -> Self {
        let to = record.assigned.as_ref();
        Self {
            at_ms: unix_ms,
            attempt: record.attempt,
            outcome,
            strategy: "",
            keys: &[],
            selected: to.map(|to| (to.node.clone(), to.replica.clone())),
            considered: 0,
            pinned: false,
            fallback: false,
            looks: Vec::new(),
        }
    }

    /// The candidate that was chosen.
    pub(crate) fn choose(&mut self, chosen: &Candidate<'_>, fallback: bool) {
        self.outcome = DecisionOutcome::Assigned;
        self.attempt += 1;
        self.selected = Some(chosen.key.clone());
        self.fallback = fallback;
        if let Some(look) = self.looks.iter_mut().find(|look| look.key == *chosen.key) {
            // Chosen though others would have been tried first.
            look.removed_by = None;
        } else {
            self.looks.push(Look {
                key: chosen.key.clone(),
                engine: chosen.view.replica.engine.kind,
                removed_by: None,
                used: chosen.used,
                slots: chosen.view.replica.slots,
                memory_left: (chosen.view.memory_free > 0).then_some(chosen.memory_left),
                slow: false,
            });
        }
    }

    fn render(&self) -> Decision {
        let mut removed: BTreeMap<FilterName, u32> = BTreeMap::new();
        for filter in self.looks.iter().filter_map(|look| look.removed_by) {
            *removed.entry(filter).or_default() += 1;
        }
        let count = |(filter, removed)| FilterCount { filter, removed };
        Decision {
            at_ms: self.at_ms,
            attempt: self.attempt,
            outcome: self.outcome,
            strategy: self.strategy.to_owned(),
            selected: self.selected.clone().map(place),
            candidates_considered: self.considered,
            filters_applied: removed.into_iter().map(count).collect(),
            tie_breakers_applied: self.keys.iter().map(|key| (*key).to_owned()).collect(),
            pinned: self.pinned,
            fallback_used: self.fallback,
            candidates: self.looks.iter().map(|look| self.verdict(look)).collect(),
        }
    }

    fn verdict(&self, look: &Look) -> Verdict {
        let chosen = self.selected.as_ref() == Some(&look.key);
        let reason = match look.removed_by {
            Some(filter) => sentence(filter),
            None if chosen => "it was chosen",
            None if self.selected.is_some() => {
                "it could take the job; the chosen one ranks before it"
            }
            None => "it could take the job",
        };
        Verdict {
            place: place(look.key.clone()),
            engine: look.engine,
            removed_by: look.removed_by,
            reason: reason.to_owned(),
            slots_used: look.used,
            slots: look.slots,
            memory_free_bytes: look.memory_left,
            slow: look.slow,
        }
    }
}

/// How the candidates of a job look now; the first ones by name are kept.
pub(crate) fn decided<'a>(
    state: &ClusterState,
    job: &JobView,
    pool: impl Iterator<Item = Candidate<'a>>,
    tied: bool,
    now: Now,
    unix_ms: UnixMs,
) -> Decided {
    let settings = state.settings();
    let slow = |candidate: &Candidate<'_>| {
        let experience = state.experience();
        experience.is_slow(&job.record.model, candidate.key, settings.slow_share)
    };
    let look = |candidate: Candidate<'a>| Look {
        removed_by: removed_by(state, job, &candidate, now)
            .or_else(|| set_aside_by(job, &candidate, tied)),
        slow: slow(&candidate),
        key: candidate.key.clone(),
        engine: candidate.view.replica.engine.kind,
        used: candidate.used,
        slots: candidate.view.replica.slots,
        memory_left: (candidate.view.memory_free > 0).then_some(candidate.memory_left),
    };
    let considered = state.pool_size(&job.record.model);
    Decided {
        looks: pool.take(KEPT).map(look).collect(),
        considered: u32::try_from(considered).unwrap_or(u32::MAX),
        strategy: settings.strategy.name(),
        keys: settings.strategy.keys(),
        ..Decided::plain(job, DecisionOutcome::NoCapacity, unix_ms)
    }
}

/// What keeps a job from a replica because others are there.
fn set_aside_by(job: &JobView, candidate: &Candidate<'_>, tied: bool) -> Option<FilterName> {
    if tied && !can_continue(job, candidate.view) {
        return Some(FilterName::Continuation);
    }
    if !is_preferred(job, candidate) && !falls_back(job) {
        return Some(FilterName::Prefer);
    }
    let failed =
        job.avoid.as_ref() == Some(candidate.key) || job.denials.by.contains(candidate.key);
    failed.then_some(FilterName::FailedLast)
}

fn place((node, replica): ReplicaKey) -> Place {
    Place { node, replica }
}

/// Why an open job is where it is.
#[must_use]
pub fn explain(state: &ClusterState, id: &JobId, now: Now, unix_ms: UnixMs) -> Option<Explanation> {
    let job = state.job(id)?;
    let waits = (job.phase == Phase::Queued).then(|| as_it_looks(state, job, now, unix_ms));
    let summary = match (job.phase, &job.record.assigned, &waits) {
        (Phase::Queued, _, Some(waits)) => waits_because(waits),
        (Phase::Queued, _, None) => "it waits".to_owned(),
        (Phase::Ending, _, _) => "it is being ended".to_owned(),
        (Phase::Yielding, _, _) => "it gives its slot to an interactive job".to_owned(),
        (Phase::Opening | Phase::Ordered | Phase::Running, Some(to), _) => {
            format!("it is on replica {} of node {}", to.replica, to.node)
        }
        (Phase::Opening | Phase::Ordered | Phase::Running, None, _) => "it is placed".to_owned(),
    };
    let running = matches!(job.phase, Phase::Running | Phase::Yielding);
    let mut found = explanation(&job.record, &job.decisions, summary);
    if running {
        found.state = JobState::Running;
    }
    found.queue_position = state.position(id);
    // While no replica could take it, nobody can say when.
    if stuck_because(state, job, now).is_none() {
        found.predicted_start_ms = predicted_start_ms(state, id, now);
    }
    found.decisions.extend(waits);
    Some(found)
}

/// Why a job that has ended was where it was.
#[must_use]
pub fn explain_ended(record: &Job, decisions: &VecDeque<Decided>) -> Explanation {
    let attempts = record.attempt;
    let mut summary = match &record.assigned {
        Some(to) => format!(
            "it is {} at attempt {attempts}, on replica {} of node {}",
            record.state, to.replica, to.node
        ),
        None => format!("it is {} and was never placed", record.state),
    };
    if let Some(error) = record.end.as_ref().and_then(|end| end.error.as_ref()) {
        summary.push_str(&format!(": {}", error.message));
    }
    explanation(record, decisions, summary)
}

fn explanation(record: &Job, decisions: &VecDeque<Decided>, summary: String) -> Explanation {
    let before = decided_before(record, decisions);
    Explanation {
        job: record.id,
        state: record.state,
        pool: record.model.clone(),
        priority: record.priority,
        queue_position: None,
        predicted_start_ms: None,
        summary,
        decisions: before
            .iter()
            .chain(decisions)
            .map(Decided::render)
            .collect(),
    }
}

/// Where a job was sent, if another scheduler decided that: of its candidates nobody
/// knows any more.
fn decided_before(record: &Job, known: &VecDeque<Decided>) -> Option<Decided> {
    let to = record.assigned.as_ref()?;
    let sends = |decided: &Decided| {
        let outcome = decided.outcome;
        let sends = [DecisionOutcome::Assigned, DecisionOutcome::Granted].contains(&outcome);
        sends && decided.attempt == record.attempt
    };
    let is_known = known.iter().any(sends);
    (!is_known).then(|| Decided::recorded(record, DecisionOutcome::Assigned, to.at_ms))
}

/// How every candidate of a waiting job looks now.
fn as_it_looks(state: &ClusterState, job: &JobView, now: Now, unix_ms: UnixMs) -> Decision {
    let tied = is_tied(state, job, now);
    let pool: Vec<Candidate<'_>> = candidates(state, job).take(MAX_VERDICTS).collect();
    let parts = pool
        .chunks(KEPT)
        .map(|part| decided(state, job, part.iter().copied(), tied, now, unix_ms));
    let mut all = Decided {
        considered: 0,
        ..decided(state, job, std::iter::empty(), tied, now, unix_ms)
    };
    for part in parts {
        all.considered = part.considered;
        all.looks.extend(part.looks);
    }
    all.selected = None;
    all.render()
}

/// Why no replica could take a waiting job, were all of them idle; `None` when
/// one could, or when there are too many to look at.
pub(crate) fn stuck_because(state: &ClusterState, job: &JobView, now: Now) -> Option<String> {
    let replicas = state.pool_size(&job.record.model);
    if replicas > SEARCHED {
        return None;
    }
    let mut removed: BTreeMap<FilterName, usize> = BTreeMap::new();
    for candidate in candidates(state, job) {
        *removed
            .entry(never_by(state, job, candidate, now)?)
            .or_default() += 1;
    }
    let Some((filter, most)) = removed.into_iter().max_by_key(|(_, count)| *count) else {
        return Some("no node serves its model now".to_owned());
    };
    let because = sentence(filter);
    Some(match replicas {
        1 => format!("its only replica cannot take it: {because}"),
        _ => format!("none of {replicas} replicas can take it, {most} because {because}"),
    })
}

/// What keeps a job from a replica even when that one is idle.
fn never_by(
    state: &ClusterState,
    job: &JobView,
    candidate: Candidate<'_>,
    now: Now,
) -> Option<FilterName> {
    let candidate = candidate.emptied();
    let unwanted = !is_preferred(job, &candidate) && !falls_back(job);
    removed_by(state, job, &candidate, now).or(unwanted.then_some(FilterName::Prefer))
}

fn waits_because(last: &Decision) -> String {
    let most = last
        .filters_applied
        .iter()
        .max_by_key(|count| count.removed);
    match most {
        None if last.candidates_considered == 0 => {
            "it waits: no node serves its model now".to_owned()
        }
        None => "it waits for its turn".to_owned(),
        Some(most) if last.candidates_considered == 1 => {
            format!(
                "it waits: its only replica cannot take it because {}",
                sentence(most.filter)
            )
        }
        Some(most) => format!(
            "it waits: of {} replicas {} cannot take it because {}",
            last.candidates_considered,
            most.removed,
            sentence(most.filter)
        ),
    }
}
