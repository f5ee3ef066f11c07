//! The load of replicas, kept in the order in which they are asked.

use super::{ClusterState, NodeView, Phase, ReplicaKey, ReplicaView};
use crate::Now;
use crate::breaker::Breaker;
use crate::experience::Lesson;
use crate::score::Load;
use orchion_contract::job::Assignment;
use orchion_contract::node::{Node, NodeState, Replica, ReplicaLoad, RunningAttempt};
use orchion_contract::{JobId, ModelName, NodeId};

impl ReplicaView {
    /// A replica as the registry tells, with what was known of it before.
    pub(super) fn new(node: &Node, replica: &Replica, before: Option<&Self>, now: Now) -> Self {
        let ready_at = if replica.ready {
            now
        } else {
            before.map_or(now, |view| view.ready_at)
        };
        Self {
            replica: replica.clone(),
            recorded: 0,
            reported: before.map_or(0, |view| view.reported),
            unseen: 0,
            memory_free: graphics_memory_free(node, replica),
            reserved: 0,
            loaded: before.is_none_or(|view| view.loaded),
            ready_at,
            breaker: match before {
                // As in a report: an engine that was started anew.
                Some(view) if view.replica.ready || !replica.ready => view.breaker,
                Some(_) | None => Breaker::default(),
            },
            turn: before.map_or(0, |view| view.turn),
            rank: None,
        }
    }

    /// What its agent reports.
    pub(super) fn report(&mut self, load: &ReplicaLoad, now: Now) {
        if load.ready && !self.replica.ready {
            // The engine was started anew: what it did before does not count.
            self.breaker.reset();
        }
        if load.ready {
            self.ready_at = now;
        }
        self.reported = load.busy;
        self.replica.slots = load.slots;
        self.replica.ready = load.ready;
        self.loaded = load.loaded;
        if let Some(free) = load.memory_free_bytes {
            self.memory_free = free;
        }
    }

    /// Memory that is free for another request, in bytes.
    #[must_use]
    pub fn memory_left(&self) -> u64 {
        self.memory_free.saturating_sub(self.reserved)
    }
}

impl ClusterState {
    /// Replicas of a model that have a free slot, best first.
    pub(crate) fn free_of(
        &self,
        model: &ModelName,
    ) -> impl Iterator<Item = &(crate::Score, ReplicaKey)> {
        self.free.get(model).into_iter().flatten()
    }

    /// Slots of a model that are free and can be used now.
    pub(crate) fn free_slots(&self, model: &ModelName) -> usize {
        let free = |(_, key): &(crate::Score, ReplicaKey)| {
            self.replica(key).map_or(0, |(_, view)| {
                view.replica.slots.saturating_sub(view.occupied()) as usize
            })
        };
        self.free_of(model).map(free).sum()
    }

    /// Batch jobs of a model that are placed, the youngest first.
    pub(crate) fn batch_on(&self, model: &ModelName) -> impl Iterator<Item = &JobId> {
        let jobs = self.placed_batch.get(model).into_iter();
        jobs.flat_map(|jobs| jobs.iter().rev().map(|(_, job)| job))
    }

    /// Jobs of a model that were asked for their slot and have not left it.
    pub(crate) fn yielding_of(&self, model: &ModelName) -> usize {
        self.yielding
            .get(model)
            .map_or(0, std::collections::BTreeSet::len)
    }

    /// What a strategy may know of a replica, as if `more` requests were on it.
    pub(crate) fn load(&self, key: &ReplicaKey, view: &ReplicaView, more: u32, bytes: u64) -> Load {
        let model = &view.replica.model;
        Load {
            used: view.occupied() + more,
            slots: view.replica.slots.max(1),
            memory_free: view.memory_left().saturating_sub(bytes),
            loaded: view.loaded,
            slow: self
                .experience
                .is_slow(model, key, self.settings.slow_share),
            turn: view.turn,
        }
    }

    /// Puts a replica where it belongs among those with a free slot.
    pub(super) fn rank(&mut self, key: &ReplicaKey) {
        let Some((node, view)) = self.replica(key) else {
            return;
        };
        let score =
            has_room(node, view).then(|| self.settings.strategy.score(&self.load(key, view, 0, 0)));
        if view.rank == score {
            return;
        }
        let (model, before) = (view.replica.model.clone(), view.rank);
        if let Some(before) = before {
            super::remove_from(&mut self.free, &model, &(before, key.clone()));
        }
        if let Some(score) = score {
            self.free
                .entry(model)
                .or_default()
                .insert((score, key.clone()));
        }
        if let Some(view) = self.view_mut(key) {
            view.rank = score;
        }
    }

    /// It is chosen.
    pub(super) fn take_turn(&mut self, to: &Assignment) {
        self.turns += 1;
        let (turn, key) = (self.turns, (to.node.clone(), to.replica.clone()));
        if let Some(view) = self.view_mut(&key) {
            view.turn = turn;
        }
    }

    /// Sets memory aside for a job that was just placed.
    pub(super) fn reserve(&mut self, id: &JobId) {
        let Some(job) = self.jobs.get(id) else { return };
        let Some(to) = &job.record.assigned else {
            return;
        };
        let key = (to.node.clone(), to.replica.clone());
        let bytes = self
            .replica(&key)
            .map_or(0, |(_, view)| self.memory_for(job, view));
        if let Some(job) = self.jobs.get_mut(id) {
            job.reserved = bytes;
            job.unseen = true;
        }
    }

    /// A heartbeat shows the job: what it takes is missing there already.
    pub(super) fn unreserve(&mut self, node: &NodeId, attempt: RunningAttempt) {
        let Some(job) = self.jobs.get_mut(&attempt.job) else {
            return;
        };
        let placed = job.phase != Phase::Queued && job.record.attempt == attempt.attempt;
        let to = job
            .record
            .assigned
            .as_ref()
            .filter(|to| placed && to.node == *node);
        let Some(key) = to.map(|to| (to.node.clone(), to.replica.clone())) else {
            return;
        };
        if !std::mem::take(&mut job.unseen) {
            return;
        }
        let bytes = std::mem::take(&mut job.reserved);
        if let Some(view) = self.view_mut(&key) {
            view.unseen = view.unseen.saturating_sub(1);
            view.reserved = view.reserved.saturating_sub(bytes);
        }
    }

    /// Memory that a job takes on a replica, in bytes; 0 where the engine has
    /// set it aside already.
    pub(crate) fn memory_for(&self, job: &super::JobView, view: &ReplicaView) -> u64 {
        let Some(per_token) = view.replica.memory_per_token_bytes else {
            return 0;
        };
        per_token.saturating_mul(self.tokens_of(job))
    }

    /// Tokens that a job needs for certain: what is refused or sent elsewhere by
    /// this is too long whatever its text is.
    pub(crate) fn fewest_tokens(&self, job: &super::JobView) -> u64 {
        self.experience
            .fewest_tokens(&job.record.model, &job.demand)
    }

    /// Tokens of a job, prompt and longest answer, as far as they can be told.
    pub(crate) fn tokens_of(&self, job: &super::JobView) -> u64 {
        let model = &job.record.model;
        let prompt = self.experience.prompt_tokens(model, &job.demand);
        let answer = job.demand.max_tokens.map(u64::from);
        let expected = || {
            let tokens = self.experience.answer_tokens(model, &job.demand);
            tokens.map_or(USUAL_ANSWER, crate::num::ms_of)
        };
        prompt + answer.unwrap_or_else(expected)
    }

    /// A job ended with an answer: what that teaches.
    pub fn learn(&mut self, lesson: &Lesson<'_>) {
        let others_may_be_slow = self.experience.learn(lesson);
        let key = lesson.replica.clone();
        if let Some(view) = self.view_mut(&key) {
            view.breaker.reset();
        }
        self.rank(&key);
        if others_may_be_slow {
            self.rank_all(lesson.model);
        }
    }

    /// Ranks all replicas of a model anew.
    pub(super) fn rank_all(&mut self, model: &ModelName) {
        let all: Vec<ReplicaKey> = self.replicas_of(model).cloned().collect();
        for key in &all {
            self.rank(key);
        }
    }
}

/// Tokens of an answer of which nothing is known.
const USUAL_ANSWER: u64 = 512;

fn has_room(node: &NodeView, view: &ReplicaView) -> bool {
    node.state == NodeState::Online && view.replica.ready && view.occupied() < view.replica.slots
}

/// Free memory of the accelerators that a replica runs on; 0 for a host without.
fn graphics_memory_free(node: &Node, replica: &Replica) -> u64 {
    let devices = replica.devices.as_ref();
    let gpus = node.capabilities.gpus.iter();
    gpus.filter(|gpu| devices.is_none_or(|devices| devices.contains(&gpu.index)))
        .map(|gpu| gpu.memory_free_bytes)
        .sum()
}
