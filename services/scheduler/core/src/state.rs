//! What is known of the cluster, with the indexes that planning needs.

mod index;
mod load;
mod views;

pub use views::{JobView, NodeView, Phase, ReplicaView};

use crate::Now;
use crate::doubt::Denials;
use crate::experience::{Demand, Experience};
use crate::policy::Settings;
use crate::score::Score;
use orchion_contract::job::{Assignment, Job, JobState, Priority};
use orchion_contract::node::{Heartbeat, Node, NodeState};
use orchion_contract::{JobId, ModelName, NodeId, ReplicaId, UnixMs};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A replica in the cluster.
pub type ReplicaKey = (NodeId, ReplicaId);

type QueueKey = (Priority, u64, JobId);
type Ranked = BTreeSet<(Score, ReplicaKey)>;

/// Everything that planning looks at.
#[derive(Debug, Clone, Default)]
pub struct ClusterState {
    /// Boxed, as they are large and nodes of a map hold eleven.
    jobs: BTreeMap<JobId, Box<JobView>>,
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
    /// What the owner decided.
    settings: Settings,
    /// What was learnt.
    experience: Experience,
    /// Replicas of each model that have a free slot, best first.
    free: BTreeMap<ModelName, Ranked>,
    /// Batch jobs of each model that are placed, in the order of their queue.
    placed_batch: BTreeMap<ModelName, BTreeSet<(u64, JobId)>>,
    /// Jobs of each model that were asked for their slot.
    yielding: BTreeMap<ModelName, BTreeSet<JobId>>,
    /// Choices made so far.
    turns: u64,
    queue_changes: u64,
}

impl ClusterState {
    /// Nothing known yet, under these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// What the owner decided.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was learnt.
    #[must_use]
    pub fn experience(&self) -> &Experience {
        &self.experience
    }

    /// A job by its id, while it is open.
    #[must_use]
    pub fn job(&self, id: &JobId) -> Option<&JobView> {
        self.jobs.get(id).map(|job| &**job)
    }

    /// Every open job.
    pub fn jobs(&self) -> impl Iterator<Item = &JobView> {
        self.jobs.values().map(|job| &**job)
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

    /// Number of replicas of a model, ready or not.
    #[must_use]
    pub fn pool_size(&self, model: &ModelName) -> usize {
        self.models.get(model).map_or(0, BTreeSet::len)
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

    /// Waiting jobs of a model, in order.
    pub fn queue_of(&self, model: &ModelName) -> impl Iterator<Item = &JobId> {
        let queue = self.queues.get(model).into_iter().flatten();
        queue.map(|(_, _, job)| job)
    }

    /// Interactive jobs of a model that wait.
    pub(crate) fn interactive_waiting(&self, model: &ModelName) -> usize {
        let queue = self.queues.get(model).into_iter().flatten();
        queue
            .take_while(|(class, _, _)| *class == Priority::Interactive)
            .count()
    }

    /// Counts changes of all queues.
    #[must_use]
    pub fn queue_changes(&self) -> u64 {
        self.queue_changes
    }

    /// Choices made so far.
    pub(crate) fn turns(&self) -> u64 {
        self.turns
    }

    /// Whether any job waits.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.queues.is_empty()
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
        let view_demand = record.spec.as_ref().map(Demand::of).unwrap_or_default();
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
            denials: Denials::default(),
            has_prefix,
            stop_reason: None,
            started_ms: None,
            ordered_at: now,
            deadline,
            demand: view_demand,
            unseen: true,
            reserved: 0,
            yields: 0,
            decisions: VecDeque::new(),
        };
        self.jobs.insert(id, Box::new(view));
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
    pub fn remove(&mut self, id: &JobId) -> Option<Box<JobView>> {
        self.dequeue(id);
        self.count_out(id);
        let job = self.jobs.remove(id)?;
        self.deadlines.remove(&(job.deadline, *id));
        Some(job)
    }

    /// Places a waiting job: its next attempt. A place that is none any more is to be
    /// settled.
    pub fn assign(&mut self, id: &JobId, assignment: Assignment, phase: Phase) {
        if !self.is_there(&assignment) {
            self.unsettled.insert(assignment.node.clone());
        }
        self.dequeue(id);
        self.count_out(id);
        self.take_turn(&assignment);
        if let Some(job) = self.jobs.get_mut(id) {
            if job.has_prefix && job.record.prefix_by.is_none() {
                job.record.prefix_by = job.record.assigned.take().map(|before| before.engine);
            }
            job.record.attempt += 1;
            job.record.state = JobState::Assigned;
            job.record.assigned = Some(assignment);
            job.started_ms = None;
            job.phase = phase;
        }
        self.reserve(id);
        self.count_in(id);
    }

    /// Its agent has it since `started_ms`: whether that is news.
    pub fn running(&mut self, id: &JobId, started_ms: UnixMs) -> bool {
        let job = self.jobs.get_mut(id);
        let Some(job) = job.filter(|job| job.phase == Phase::Ordered) else {
            return false;
        };
        job.phase = Phase::Running;
        job.started_ms = Some(started_ms);
        true
    }

    /// It was asked to give its slot away.
    pub fn yielding(&mut self, id: &JobId) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.phase = Phase::Yielding;
            job.yields += 1;
            let jobs = self.yielding.entry(job.record.model.clone()).or_default();
            jobs.insert(*id);
        }
    }

    /// Takes a job back from its node: it waits again.
    pub fn release(&mut self, id: &JobId) {
        self.count_out(id);
        if let Some(job) = self.jobs.get_mut(id) {
            job.record.state = JobState::Pending;
            job.started_ms = None;
            job.phase = Phase::Queued;
        }
        self.enqueue(id);
    }

    /// The end of a job is being written: it waits no more.
    pub fn ending(&mut self, id: &JobId) {
        self.dequeue(id);
        self.yields_no_more(id);
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
        let replicas = node.replicas.iter().map(|replica| {
            let before = known
                .as_ref()
                .filter(|view| view.instance == node.instance)
                .and_then(|view| view.replicas.get(&replica.id));
            (
                replica.id.clone(),
                ReplicaView::new(node, replica, before, now),
            )
        });
        let seen_at = match node.state {
            NodeState::Lost => known.as_ref().map_or(Now::ZERO, |view| view.seen_at),
            NodeState::Online | NodeState::Suspect | NodeState::Unknown => now,
        };
        let mut view = NodeView {
            hostname: node.hostname.clone(),
            instance: node.instance.clone(),
            state: node.state,
            seen_at,
            replicas: replicas.collect(),
        };
        for id in self.placed.get(&node.id).into_iter().flatten() {
            let Some(job) = self.jobs.get(id) else {
                continue;
            };
            let assigned = job.record.assigned.as_ref();
            if let Some(replica) =
                assigned.and_then(|assigned| view.replicas.get_mut(&assigned.replica))
            {
                replica.recorded += 1;
                replica.unseen += u32::from(job.unseen);
                replica.reserved += job.reserved;
            }
        }
        let keys: Vec<(ModelName, ReplicaKey)> = view
            .replicas
            .values()
            .map(|view| {
                (
                    view.replica.model.clone(),
                    (node.id.clone(), view.replica.id.clone()),
                )
            })
            .collect();
        self.nodes.insert(node.id.clone(), view);
        for (model, key) in keys {
            self.models.entry(model).or_default().insert(key.clone());
            self.rank(&key);
        }
        self.look_at_jobs_of(&node.id);
    }

    /// A node left for good.
    pub fn remove_node(&mut self, id: &NodeId) {
        let known = self.nodes.remove(id);
        self.unindex(id, known.as_ref());
        self.look_at_jobs_of(id);
        for view in known.iter().flat_map(|node| node.replicas.values()) {
            let (model, key) = (&view.replica.model, (id.clone(), view.replica.id.clone()));
            if self.experience.forget(model, &key) {
                self.rank_all(model);
            }
        }
    }

    /// What an agent reports of its load.
    pub fn heartbeat(&mut self, beat: &Heartbeat, now: Now) {
        let known = self.nodes.get(&beat.node);
        if known.is_none_or(|node| node.instance != beat.instance) {
            return;
        }
        for attempt in &beat.running {
            // What it reports free is without this job from now on.
            self.unreserve(&beat.node, *attempt);
        }
        for load in &beat.replicas {
            let key = (beat.node.clone(), load.id.clone());
            if let Some(view) = self.view_mut(&key) {
                view.report(load, now);
                self.rank(&key);
            }
        }
    }

    /// An agent says that a replica has no slot: full until it reports again.
    pub fn is_busy(&mut self, key: &ReplicaKey) {
        if let Some(view) = self.view_mut(key) {
            view.reported = view.replica.slots;
            self.rank(key);
        }
    }

    /// An attempt that was ordered at `ordered_at` failed for a reason of its
    /// replica, whose engine may live and have said so.
    pub fn attempt_failed(&mut self, key: &ReplicaKey, ordered_at: Now, now: Now, lives: bool) {
        if let Some(view) = self.view_mut(key) {
            view.breaker.failed(ordered_at, now, lives);
        }
    }
}

fn remove_from<K: Ord, V: Ord>(index: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = index.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            index.remove(key);
        }
    }
}

fn queue_key(record: &Job) -> QueueKey {
    (record.priority, record.queue_seq, record.id)
}
