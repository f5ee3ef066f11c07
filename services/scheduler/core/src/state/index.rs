//! The indexes of the state, kept as jobs come, move and go.

use super::{ClusterState, NodeView, ReplicaKey, ReplicaView, queue_key, remove_from};
use crate::state::Phase;
use orchion_contract::job::{Assignment, Priority};
use orchion_contract::node::NodeState;
use orchion_contract::{JobId, NodeId};

impl ClusterState {
    /// Whether a job can end where it was sent: its node lives, in the same process.
    pub(super) fn is_there(&self, to: &Assignment) -> bool {
        let node = self.nodes.get(&to.node);
        node.is_some_and(|node| node.state != NodeState::Lost && node.instance == to.instance)
    }

    /// Whether a node has jobs that it cannot end.
    pub(super) fn look_at_jobs_of(&mut self, id: &NodeId) {
        let stays = |job: &JobId| {
            let job = self.jobs.get(job);
            let assigned = job.and_then(|job| job.record.assigned.as_ref());
            assigned.is_some_and(|to| self.is_there(to))
        };
        if self.placed_on(id).all(stays) {
            self.unsettled.remove(id);
        } else {
            self.unsettled.insert(id.clone());
        }
    }

    pub(super) fn enqueue(&mut self, id: &JobId) {
        self.queue_changes += 1;
        if let Some(job) = self.jobs.get(id) {
            self.queues
                .entry(job.record.model.clone())
                .or_default()
                .insert(queue_key(&job.record));
        }
    }

    pub(super) fn dequeue(&mut self, id: &JobId) {
        let Some(job) = self.jobs.get(id) else { return };
        let Some(queue) = self.queues.get_mut(&job.record.model) else {
            return;
        };
        if queue.remove(&queue_key(&job.record)) {
            self.queue_changes += 1;
        }
        if queue.is_empty() {
            self.queues.remove(&job.record.model);
        }
    }

    pub(super) fn count_in(&mut self, id: &JobId) {
        let Some(job) = self.jobs.get(id) else { return };
        let Some(assigned) = &job.record.assigned else {
            return;
        };
        let key = (assigned.node.clone(), assigned.replica.clone());
        if job.record.priority == Priority::Batch {
            let jobs = self
                .placed_batch
                .entry(job.record.model.clone())
                .or_default();
            jobs.insert((job.record.queue_seq, *id));
        }
        let (reserved, unseen) = (job.reserved, job.unseen);
        self.placed.entry(key.0.clone()).or_default().insert(*id);
        #[cfg(feature = "planted-faults")]
        if crate::planted::reservations_are_forgotten() {
            return;
        }
        if let Some(view) = self.view_mut(&key) {
            view.recorded += 1;
            view.unseen += u32::from(unseen);
            view.reserved += reserved;
            self.rank(&key);
        }
    }

    pub(super) fn count_out(&mut self, id: &JobId) {
        self.yields_no_more(id);
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        let Some(assigned) = &job.record.assigned else {
            return;
        };
        let key = (assigned.node.clone(), assigned.replica.clone());
        let Some(placed) = self.placed.get_mut(&key.0) else {
            return;
        };
        if !placed.remove(id) {
            return;
        }
        let reserved = std::mem::take(&mut job.reserved);
        let unseen = std::mem::take(&mut job.unseen);
        let batch = (job.record.priority == Priority::Batch)
            .then(|| (job.record.model.clone(), job.record.queue_seq));
        if placed.is_empty() {
            self.placed.remove(&key.0);
            self.unsettled.remove(&key.0);
        }
        if let Some((model, seq)) = batch {
            remove_from(&mut self.placed_batch, &model, &(seq, *id));
        }
        if let Some(view) = self.view_mut(&key) {
            view.recorded = view.recorded.saturating_sub(1);
            // What ended is free at once; the next heartbeat tells the truth.
            if unseen {
                view.unseen = view.unseen.saturating_sub(1);
            } else {
                view.reported = view.reported.saturating_sub(1);
            }
            view.reserved = view.reserved.saturating_sub(reserved);
            self.rank(&key);
        }
    }

    pub(super) fn yields_no_more(&mut self, id: &JobId) {
        if let Some(job) = self.jobs.get(id)
            && job.phase == Phase::Yielding
        {
            remove_from(&mut self.yielding, &job.record.model, id);
        }
    }

    pub(super) fn view_mut(&mut self, key: &ReplicaKey) -> Option<&mut ReplicaView> {
        self.nodes.get_mut(&key.0)?.replicas.get_mut(&key.1)
    }

    pub(super) fn unindex(&mut self, id: &NodeId, known: Option<&NodeView>) {
        for view in known.into_iter().flat_map(|view| view.replicas.values()) {
            let model = &view.replica.model;
            let key = (id.clone(), view.replica.id.clone());
            remove_from(&mut self.models, model, &key);
            if let Some(score) = view.rank {
                remove_from(&mut self.free, model, &(score, key));
            }
        }
    }
}
