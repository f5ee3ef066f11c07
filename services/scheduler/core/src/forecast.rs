//! When waiting jobs start: the queue run forward over the slots.

use crate::Now;
use crate::doubt::doubt;
use crate::filter::{Candidate, goes_on};
use crate::num::{f64_of, ms_of};
use crate::state::{ClusterState, JobView, Phase, ReplicaKey};
use orchion_contract::job::Priority;
use orchion_contract::node::NodeState;
use orchion_contract::{JobId, ModelName};
use std::collections::{BTreeMap, BTreeSet};

/// Assumed length of a job of which nothing is known, in milliseconds.
const USUAL_JOB_MS: f64 = 5_000.0;
/// From asking a batch job for its slot to the start of the interactive one, in milliseconds.
const YIELD_MS: u64 = 50;
/// Runs beside the first, at most.
const RUNS: usize = 14;
/// Jobs and slots of all runs together, about.
const WORK: usize = 3000;

/// When each waiting job of one pool is expected to start.
#[derive(Debug, Clone, Default)]
pub struct Forecast {
    /// In the order of the queue, in milliseconds from now.
    pub starts: Vec<(JobId, u64)>,
    /// Whether anything had been learnt to say so.
    pub learnt: bool,
    /// Slots that serve this pool.
    pub slots: u32,
    /// Mean length of a job, in milliseconds.
    pub usual_ms: u64,
}

impl Forecast {
    /// Jobs and slots: what one run costs.
    fn size(&self) -> usize {
        self.starts.len() + self.slots as usize
    }

    /// How many times the usual work it was, 1 at least: a large one is to be used
    /// for longer.
    #[must_use]
    pub fn weight(&self) -> u32 {
        u32::try_from(1 + self.size() / WORK).unwrap_or(u32::MAX)
    }

    /// When a job with so many before it starts, in milliseconds from now.
    #[must_use]
    pub fn start_at(&self, position: usize) -> u64 {
        if let Some((_, start)) = self.starts.get(position) {
            return *start;
        }
        let last = self.starts.iter().map(|(_, start)| *start).max();
        let behind = position.saturating_sub(self.starts.len());
        let more = u64::try_from(behind).unwrap_or(u64::MAX).saturating_add(1);
        last.unwrap_or_default()
            .saturating_add(more.saturating_mul(self.between_starts_ms()))
    }

    /// When so many jobs and one more have left the queue, in milliseconds from now.
    #[must_use]
    pub fn leaves_in(&self, ahead: usize) -> u64 {
        let mut starts: Vec<u64> = self.starts.iter().map(|(_, start)| *start).collect();
        starts.sort_unstable();
        let found = starts.get(ahead.min(starts.len().saturating_sub(1)));
        found.copied().unwrap_or_default()
    }

    /// How long until the next slot is free when all are in use, in milliseconds.
    #[must_use]
    pub fn between_starts_ms(&self) -> u64 {
        self.usual_ms / u64::from(self.slots.max(1))
    }
}

/// Runs the queue of a pool forward, several times with answers of other lengths,
/// and says for each job what half of the runs say.
#[must_use]
pub fn forecast(state: &ClusterState, model: &ModelName, now: Now) -> Forecast {
    let mut first = Run::new(state, model, now, 0).finish();
    if !first.learnt || first.slots == 0 {
        return first;
    }
    let more = (WORK / first.size().max(1)).min(RUNS);
    let mut all: Vec<Vec<u64>> = first.starts.iter().map(|(_, at)| vec![*at]).collect();
    for round in 1..=u64::try_from(more).unwrap_or(1) {
        let run = Run::new(state, model, now, round).finish();
        for (found, (_, at)) in all.iter_mut().zip(run.starts) {
            found.push(at);
        }
    }
    for ((_, start), mut found) in first.starts.iter_mut().zip(all) {
        found.sort_unstable();
        *start = found.get(found.len() / 2).copied().unwrap_or(*start);
    }
    first
}

/// When one waiting job is expected to start; `None` when it does not wait.
#[must_use]
pub fn predicted_start_ms(state: &ClusterState, id: &JobId, now: Now) -> Option<u64> {
    state.position(id)?;
    let model = &state.job(id)?.record.model;
    let forecast = forecast(state, model, now);
    let mut starts = forecast.starts.iter();
    starts.find(|(job, _)| job == id).map(|(_, start)| *start)
}

/// A slot: when it is free, of which replica, and a number of its own.
type Slot = (u64, usize, u32);

struct Run<'a> {
    state: &'a ClusterState,
    model: &'a ModelName,
    now: Now,
    replicas: Vec<&'a ReplicaKey>,
    slots: BTreeSet<Slot>,
    /// Slots on which a batch job runs that would yield, by that job.
    batch: BTreeMap<Slot, JobId>,
    /// Batch jobs that gave their slots away, with the work that is left, in ms.
    displaced: BTreeMap<(u64, JobId), u64>,
    usual_ms: Option<f64>,
    round: u64,
}

impl<'a> Run<'a> {
    fn new(state: &'a ClusterState, model: &'a ModelName, now: Now, round: u64) -> Self {
        let mut run = Self {
            state,
            model,
            now,
            replicas: Vec::new(),
            slots: BTreeSet::new(),
            batch: BTreeMap::new(),
            displaced: BTreeMap::new(),
            usual_ms: state.experience().usual_ms(model),
            round,
        };
        for key in state.replicas_of(model) {
            run.add(key);
        }
        run
    }

    /// The slots of one replica.
    fn add(&mut self, key: &'a ReplicaKey) {
        let Some((node, view)) = self.state.replica(key) else {
            return;
        };
        if node.state != NodeState::Online || !view.replica.ready {
            return;
        }
        let index = self.replicas.len();
        self.replicas.push(key);
        let rests = view.breaker.rests_until(self.now);
        let rests = rests.filter(|_| !view.breaker.is_of_the_living());
        let earliest = rests.map_or(0, |until| millis(until.saturating_sub(self.now)));
        let mut number = 0;
        let placed = self.state.placed_on(&key.0);
        let jobs = placed
            .filter_map(|id| self.state.job(id))
            .filter(|job| is_on(job, key));
        for job in jobs.take(view.replica.slots as usize) {
            let slot = (self.rest_of(job, key).max(earliest), index, number);
            let yields = job.record.priority == Priority::Batch
                && job.phase == Phase::Running
                && goes_on(view);
            if yields {
                self.batch.insert(slot, job.record.id);
            }
            self.slots.insert(slot);
            number += 1;
        }
        while number < view.replica.slots {
            // Somebody else's request: half of a usual one is left.
            let foreign = number < view.occupied();
            let free_at = if foreign {
                ms_of(self.usual() / 2.0)
            } else {
                0
            };
            self.slots.insert((free_at.max(earliest), index, number));
            number += 1;
        }
    }

    fn finish(mut self) -> Forecast {
        let count = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let mut forecast = Forecast {
            starts: Vec::new(),
            learnt: self.usual_ms.is_some(),
            slots: count,
            usual_ms: ms_of(self.usual()),
        };
        let state = self.state;
        for id in state.queue_of(self.model) {
            let Some(job) = state.job(id) else { continue };
            let start = if forecast.learnt && count > 0 {
                self.start(job)
            } else {
                self.guess(forecast.starts.len(), count)
            };
            forecast.starts.push((*id, start));
        }
        forecast
    }

    /// Without any experience, or without a slot.
    fn guess(&self, position: usize, slots: u32) -> u64 {
        let ahead = f64_of(u64::try_from(position).unwrap_or(u64::MAX) + 1);
        ms_of(ahead * self.usual() / f64::from(slots.max(1)))
    }

    /// Gives a slot to the next job of the queue, and says when.
    fn start(&mut self, job: &'a JobView) -> u64 {
        if job.record.priority == Priority::Batch {
            self.displaced_before(job.record.queue_seq);
        }
        let not_before = millis(job.not_before.saturating_sub(self.now));
        let slot = self.slot_for(job);
        let Some(slot) = slot else {
            // Nothing there can take it now: behind everything.
            let last = self.slots.last().map_or(0, |(at, _, _)| *at);
            return last + ms_of(self.usual());
        };
        let start = self.take(slot, job).max(not_before);
        let work = self.work(job, slot.1);
        self.slots.insert((start + work, slot.1, slot.2));
        start
    }

    /// The slot that is free first, among those that can take the job.
    fn slot_for(&self, job: &JobView) -> Option<Slot> {
        let can = |slot: &&Slot| job.is_plain() || self.can_take(job, slot.1);
        let first = self.slots.iter().find(can).copied();
        let pool = self.state.settings().pool(self.model);
        let waits = first.is_none_or(|(at, _, _)| at > YIELD_MS);
        if job.record.priority == Priority::Interactive && pool.preempt && waits {
            let youngest = |(_, id): &(&Slot, &JobId)| {
                self.state.job(id).map_or(0, |job| job.record.queue_seq)
            };
            let batch = self.batch.iter().filter(|(slot, _)| can(slot));
            if let Some((slot, _)) = batch.max_by_key(youngest) {
                return Some(*slot);
            }
        }
        first
    }

    fn can_take(&self, job: &JobView, replica: usize) -> bool {
        let candidate = self
            .replicas
            .get(replica)
            .and_then(|key| Candidate::of(self.state, key));
        candidate
            .is_some_and(|candidate| doubt(self.state, job, &candidate.emptied(), self.now).is_ok())
    }

    /// Takes a slot, and says when it is free; a batch job on it is displaced.
    fn take(&mut self, slot: Slot, job: &JobView) -> u64 {
        self.slots.remove(&slot);
        let Some(batch) = self.batch.remove(&slot) else {
            return slot.0;
        };
        if job.record.priority == Priority::Batch || slot.0 <= YIELD_MS {
            return slot.0;
        }
        let seq = self.state.job(&batch).map_or(0, |job| job.record.queue_seq);
        self.displaced.insert((seq, batch), slot.0);
        YIELD_MS
    }

    /// Displaced batch jobs go before later ones.
    fn displaced_before(&mut self, seq: u64) {
        while let Some(((_, _), work)) = self
            .displaced
            .first_key_value()
            .filter(|((at, _), _)| *at < seq)
        {
            let work = *work;
            self.displaced.pop_first();
            if let Some((at, replica, number)) = self.slots.pop_first() {
                self.slots.insert((at + work, replica, number));
            }
        }
    }

    fn work(&self, job: &JobView, replica: usize) -> u64 {
        let key = self.replicas.get(replica);
        let learnt = key.and_then(|key| {
            let experience = self.state.experience();
            experience.one_service_ms(self.model, key, &job.demand, self.luck(job))
        });
        ms_of(learnt.unwrap_or_else(|| self.usual()))
    }

    fn rest_of(&self, job: &JobView, key: &ReplicaKey) -> u64 {
        if job.phase == Phase::Yielding {
            return YIELD_MS;
        }
        let elapsed = f64_of(millis(self.now.saturating_sub(job.ordered_at)));
        let experience = self.state.experience();
        let luck = self.luck(job);
        let rest = experience.one_rest_ms(self.model, key, &job.demand, elapsed, luck);
        ms_of(rest.unwrap_or_else(|| (self.usual() - elapsed).max(self.usual() / 4.0)))
    }

    /// Which known answer this job is like in this run, 0 to 1: the same for equal
    /// states, another one in each run.
    fn luck(&self, job: &JobView) -> f64 {
        let (high, low) = job.record.id.uuid().as_u64_pair();
        let mut mixed = high ^ low.rotate_left(17) ^ self.round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64_of((mixed ^ (mixed >> 31)) >> 12) / f64_of(1 << 52)
    }

    fn usual(&self) -> f64 {
        self.usual_ms.unwrap_or(USUAL_JOB_MS)
    }
}

fn is_on(job: &JobView, key: &ReplicaKey) -> bool {
    let to = job.record.assigned.as_ref();
    to.is_some_and(|to| to.node == key.0 && to.replica == key.1)
}

fn millis(duration: Now) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
