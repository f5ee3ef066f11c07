//! What is known of the cluster, with the indexes that planning needs.

use crate::Now;
use orchion_contract::job::{Assignment, CancelReason, Job, JobState, Priority};
use orchion_contract::node::{Heartbeat, Node, NodeState, Replica};
use orchion_contract::{InstanceId, JobId, ModelName, NodeId, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};

/// A replica in the cluster.
pub type ReplicaKey = (NodeId, ReplicaId);

/// Where an open job is on its way, beyond what its record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It waits for a slot.
    Queued,
    /// Its next attempt is being opened: mark, then record, then order.
    Opening,
    /// The order is under way or must be sent.
    Ordered,
    /// Its agent has it.
    Running,
    /// Its end is being written.
    Ending,
}

/// An open job.
#[derive(Debug, Clone)]
pub struct JobView {
    /// The record, as it is or is being written.
    pub record: Job,
    /// Where it is on its way.
    pub phase: Phase,
    /// Not to be placed before: back-off after a failure.
    pub not_before: Now,
    /// Failures in a row, stored or not; decides the back-off.
    pub tries: u32,
    /// The replica that failed last: others first.
    pub avoid: Option<ReplicaKey>,
    /// Whether an attempt has stored a piece, or may have: another one must continue.
    pub has_prefix: bool,
    /// Why it is being stopped.
    pub stop_reason: Option<CancelReason>,
    /// When the order was sent last.
    pub ordered_at: Now,
    /// When it must have ended.
    pub deadline: Now,
}

/// A replica and its load.
#[derive(Debug, Clone)]
pub struct ReplicaView {
    /// What it is.
    pub replica: Replica,
    /// Jobs that our records place on it.
    pub recorded: u32,
    /// Requests that its agent last reported.
    pub reported: u32,
}

impl ReplicaView {
    /// Slots in use: what we recorded or what was reported, whichever is more.
    #[must_use]
    pub fn occupied(&self) -> u32 {
        self.recorded.max(self.reported)
    }
}

/// A node and its replicas.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// The agent process that is registered.
    pub instance: InstanceId,
    /// Whether it is there.
    pub state: NodeState,
    /// When it was last seen in another state than lost.
    pub seen_at: Now,
    /// What it serves.
    pub replicas: BTreeMap<ReplicaId, ReplicaView>,
}

type QueueKey = (Priority, u64, JobId);

/// Everything that planning looks at.
#[derive(Debug, Clone, Default)]
pub struct ClusterState {
    jobs: BTreeMap<JobId, JobView>,
    nodes: BTreeMap<NodeId, NodeView>,
    /// Waiting jobs of each model, in order.
    queues: BTreeMap<ModelName, BTreeSet<QueueKey>>,
    /// Replicas of each model.
    models: BTreeMap<ModelName, BTreeSet<ReplicaKey>>,
    /// Jobs whose record names each node.
    placed: BTreeMap<NodeId, BTreeSet<JobId>>,
    /// Nodes whose jobs may have to be taken back: gone, lost, or another process now.
    unsettled: BTreeSet<NodeId>,
    /// Open jobs by the time at which they must have ended.
    deadlines: BTreeSet<(Now, JobId)>,
    next_seq: u64,
}

impl ClusterState {
    /// A job by its id, while it is open.
    #[must_use]
    pub fn job(&self, id: &JobId) -> Option<&JobView> {
        self.jobs.get(id)
    }

    /// Every open job.
    pub fn jobs(&self) -> impl Iterator<Item = &JobView> {
        self.jobs.values()
    }

    /// Number of open jobs.
    #[must_use]
    pub fn open_jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Every node.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeView> {
        &self.nodes
    }

    /// A replica and its load.
    #[must_use]
    pub fn replica(&self, key: &ReplicaKey) -> Option<(&NodeView, &ReplicaView)> {
        let node = self.nodes.get(&key.0)?;
        Some((node, node.replicas.get(&key.1)?))
    }

    /// Every replica of a model, ready or not.
    pub fn replicas_of(&self, model: &ModelName) -> impl Iterator<Item = &ReplicaKey> {
        self.models.get(model).into_iter().flatten()
    }

    /// Every model that any known node serves.
    pub fn models(&self) -> impl Iterator<Item = &ModelName> {
        self.models.keys()
    }

    /// Models that have waiting jobs, and those jobs in order.
    pub fn queues(&self) -> impl Iterator<Item = (&ModelName, impl Iterator<Item = &JobId>)> {
        self.queues
            .iter()
            .map(|(model, queue)| (model, queue.iter().map(|(_, _, job)| job)))
    }

    /// Number of waiting jobs of a model.
    #[must_use]
    pub fn queue_length(&self, model: &ModelName) -> usize {
        self.queues.get(model).map_or(0, BTreeSet::len)
    }

    /// Waiting jobs that go before this one; `None` when it does not wait.
    #[must_use]
    pub fn position(&self, id: &JobId) -> Option<u32> {
        let job = self.jobs.get(id)?;
        let queue = self.queues.get(&job.record.model)?;
        let key = queue_key(&job.record);
        queue
            .contains(&key)
            .then(|| u32::try_from(queue.range(..key).count()).unwrap_or(u32::MAX))
    }

    /// Jobs whose record names a node.
    pub fn placed_on(&self, node: &NodeId) -> impl Iterator<Item = &JobId> {
        self.placed.get(node).into_iter().flatten()
    }

    /// Nodes whose jobs may have to be taken back; `None` for one that left.
    pub fn unsettled(&self) -> impl Iterator<Item = (&NodeId, Option<&NodeView>)> {
        self.unsettled.iter().map(|id| (id, self.nodes.get(id)))
    }

    /// Open jobs whose time is over.
    pub fn overdue(&self, now: Now) -> impl Iterator<Item = &JobId> {
        self.deadlines
            .iter()
            .take_while(move |(at, _)| *at <= now)
            .map(|(_, job)| job)
    }

    /// The next time at which a job's time is over.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Now> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The next time after `now` at which a job's time is over.
    #[must_use]
    pub fn next_deadline_after(&self, now: Now) -> Option<Now> {
        self.deadlines
            .iter()
            .map(|(at, _)| *at)
            .find(|at| *at > now)
    }

    /// The number that the next admitted job gets; order survives a restart.
    #[must_use]
    pub fn next_queue_seq(&self) -> u64 {
        self.next_seq
    }

    /// Takes in an open job, waiting or placed as its record says.
    pub fn insert(&mut self, record: Job, deadline: Now, now: Now) {
        let id = record.id;
        self.next_seq = self.next_seq.max(record.queue_seq + 1);
        self.deadlines.insert((deadline, id));
        let has_prefix = record.attempt > 1;
        let placed = record.state == JobState::Assigned && record.assigned.is_some();
        let phase = if placed {
            Phase::Ordered
        } else {
            Phase::Queued
        };
        let view = JobView {
            record,
            phase,
            not_before: Now::ZERO,
            tries: 0,
            avoid: None,
            has_prefix,
            stop_reason: None,
            ordered_at: now,
            deadline,
        };
        self.jobs.insert(id, view);
        if placed {
            self.count_in(&id);
            let node = self
                .jobs
                .get(&id)
                .and_then(|job| job.record.assigned.as_ref());
            if let Some(node) = node.map(|to| to.node.clone()) {
                self.look_at_jobs_of(&node);
            }
        } else {
            self.enqueue(&id);
        }
    }

    /// Numbers seen in records that are no longer open.
    pub fn saw_queue_seq(&mut self, seq: u64) {
        self.next_seq = self.next_seq.max(seq + 1);
    }

    /// Forgets a job that has ended.
    pub fn remove(&mut self, id: &JobId) -> Option<JobView> {
        self.dequeue(id);
        self.count_out(id);
        let job = self.jobs.remove(id)?;
        self.deadlines.remove(&(job.deadline, *id));
        Some(job)
    }

    /// Places a waiting job: its next attempt.
    pub fn assign(&mut self, id: &JobId, assignment: Assignment, phase: Phase) {
        self.dequeue(id);
        self.count_out(id);
        if let Some(job) = self.jobs.get_mut(id) {
            if job.has_prefix && job.record.prefix_by.is_none() {
                job.record.prefix_by = job.record.assigned.take().map(|before| before.engine);
            }
            job.record.attempt += 1;
            job.record.state = JobState::Assigned;
            job.record.assigned = Some(assignment);
            job.phase = phase;
        }
        self.count_in(id);
    }

    /// Takes a job back from its node: it waits again.
    pub fn release(&mut self, id: &JobId) {
        self.count_out(id);
        if let Some(job) = self.jobs.get_mut(id) {
            job.record.state = JobState::Pending;
            job.phase = Phase::Queued;
        }
        self.enqueue(id);
    }

    /// The end of a job is being written: it waits no more.
    pub fn ending(&mut self, id: &JobId) {
        self.dequeue(id);
        if let Some(job) = self.jobs.get_mut(id) {
            job.phase = Phase::Ending;
        }
    }

    /// Changes what is not indexed.
    pub fn update(&mut self, id: &JobId, change: impl FnOnce(&mut JobView)) {
        if let Some(job) = self.jobs.get_mut(id) {
            let before = (
                job.record.model.clone(),
                queue_key(&job.record),
                job.record.state,
            );
            change(job);
            debug_assert_eq!(
                before,
                (
                    job.record.model.clone(),
                    queue_key(&job.record),
                    job.record.state
                )
            );
        }
    }

    /// What the registry says of a node.
    pub fn set_node(&mut self, node: &Node, now: Now) {
        let known = self.nodes.remove(&node.id);
        self.unindex(&node.id, known.as_ref());
        let same = |view: &&NodeView| view.instance == node.instance;
        let reported = |id: &ReplicaId| {
            let view = known
                .as_ref()
                .filter(same)
                .and_then(|view| view.replicas.get(id));
            view.map_or(0, |view| view.reported)
        };
        let replicas = node.replicas.iter().map(|replica| {
            let view = ReplicaView {
                replica: replica.clone(),
                recorded: 0,
                reported: reported(&replica.id),
            };
            (replica.id.clone(), view)
        });
        let seen_at = match node.state {
            NodeState::Lost => known.as_ref().map_or(Now::ZERO, |view| view.seen_at),
            NodeState::Online | NodeState::Suspect | NodeState::Unknown => now,
        };
        let mut view = NodeView {
            instance: node.instance.clone(),
            state: node.state,
            seen_at,
            replicas: replicas.collect(),
        };
        for job in self.placed.get(&node.id).into_iter().flatten() {
            let assigned = self
                .jobs
                .get(job)
                .and_then(|job| job.record.assigned.as_ref());
            if let Some(replica) =
                assigned.and_then(|assigned| view.replicas.get_mut(&assigned.replica))
            {
                replica.recorded += 1;
            }
        }
        for replica in view.replicas.values() {
            let key = (node.id.clone(), replica.replica.id.clone());
            self.models
                .entry(replica.replica.model.clone())
                .or_default()
                .insert(key);
        }
        self.nodes.insert(node.id.clone(), view);
        self.look_at_jobs_of(&node.id);
    }

    /// A node left for good.
    pub fn remove_node(&mut self, id: &NodeId) {
        let known = self.nodes.remove(id);
        self.unindex(id, known.as_ref());
        self.look_at_jobs_of(id);
    }

    /// What an agent reports of its load.
    pub fn heartbeat(&mut self, beat: &Heartbeat) {
        let Some(node) = self.nodes.get_mut(&beat.node) else {
            return;
        };
        if node.instance != beat.instance {
            return;
        }
        for load in &beat.replicas {
            if let Some(view) = node.replicas.get_mut(&load.id) {
                view.reported = load.busy;
                view.replica.slots = load.slots;
                view.replica.ready = load.ready;
            }
        }
    }

    /// An agent says that a replica has no slot: full until it reports again.
    pub fn is_busy(&mut self, key: &ReplicaKey) {
        if let Some(view) = self
            .nodes
            .get_mut(&key.0)
            .and_then(|node| node.replicas.get_mut(&key.1))
        {
            view.reported = view.replica.slots;
        }
    }

    /// Whether a node has jobs that it cannot end.
    fn look_at_jobs_of(&mut self, id: &NodeId) {
        let node = self
            .nodes
            .get(id)
            .filter(|node| node.state != NodeState::Lost);
        let stays = |job: &JobId| {
            let assigned = self
                .jobs
                .get(job)
                .and_then(|job| job.record.assigned.as_ref());
            node.zip(assigned)
                .is_some_and(|(node, to)| node.instance == to.instance)
        };
        if self.placed_on(id).all(stays) {
            self.unsettled.remove(id);
        } else {
            self.unsettled.insert(id.clone());
        }
    }

    fn enqueue(&mut self, id: &JobId) {
        if let Some(job) = self.jobs.get(id) {
            self.queues
                .entry(job.record.model.clone())
                .or_default()
                .insert(queue_key(&job.record));
        }
    }

    fn dequeue(&mut self, id: &JobId) {
        let Some(job) = self.jobs.get(id) else { return };
        let Some(queue) = self.queues.get_mut(&job.record.model) else {
            return;
        };
        queue.remove(&queue_key(&job.record));
        if queue.is_empty() {
            self.queues.remove(&job.record.model);
        }
    }

    fn count_in(&mut self, id: &JobId) {
        let Some(assigned) = self
            .jobs
            .get(id)
            .and_then(|job| job.record.assigned.clone())
        else {
            return;
        };
        self.placed
            .entry(assigned.node.clone())
            .or_default()
            .insert(*id);
        if let Some(view) = self.view_mut(&assigned) {
            view.recorded += 1;
        }
    }

    fn count_out(&mut self, id: &JobId) {
        let Some(job) = self.jobs.get(id) else { return };
        let Some(assigned) = job.record.assigned.clone() else {
            return;
        };
        let Some(placed) = self.placed.get_mut(&assigned.node) else {
            return;
        };
        if !placed.remove(id) {
            return;
        }
        if placed.is_empty() {
            self.placed.remove(&assigned.node);
            self.unsettled.remove(&assigned.node);
        }
        if let Some(view) = self.view_mut(&assigned) {
            view.recorded = view.recorded.saturating_sub(1);
            // What ended is free at once; the next heartbeat tells the truth.
            view.reported = view.reported.saturating_sub(1);
        }
    }

    fn view_mut(&mut self, assigned: &Assignment) -> Option<&mut ReplicaView> {
        self.nodes
            .get_mut(&assigned.node)?
            .replicas
            .get_mut(&assigned.replica)
    }

    fn unindex(&mut self, id: &NodeId, known: Option<&NodeView>) {
        for replica in known.into_iter().flat_map(|view| view.replicas.values()) {
            let model = &replica.replica.model;
            if let Some(keys) = self.models.get_mut(model) {
                keys.remove(&(id.clone(), replica.replica.id.clone()));
                if keys.is_empty() {
                    self.models.remove(model);
                }
            }
        }
    }
}

fn queue_key(record: &Job) -> QueueKey {
    (record.priority, record.queue_seq, record.id)
}
