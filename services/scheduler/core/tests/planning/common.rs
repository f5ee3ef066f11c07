//! A small cluster, built by hand.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use orchion_contract::job::{
    DEFAULT_DEADLINE_MS, Door, Job, JobSpec, JobState, Outcome, Priority, Submit, Workload,
};
use orchion_contract::node::{
    Capabilities, Continuation, EngineKind, EngineRef, Node, NodeState, Replica,
};
use orchion_contract::transcript::Final;
use orchion_contract::{InstanceId, JobId, NodeId, ReaderId, ReplicaId};
use orchion_scheduler_core::{ClusterState, Now, Phase, Settings, Step, plan};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) state: ClusterState,
    pub(crate) now: Now,
    nodes: BTreeMap<String, Node>,
}

impl Cluster {
    pub(crate) fn with_nodes(nodes: &[(&str, u32)]) -> Self {
        let mut cluster = Self {
            now: Duration::from_millis(1),
            ..Self::default()
        };
        for (name, slots) in nodes {
            cluster.add_node(name, *slots);
        }
        cluster
    }

    pub(crate) fn add_node(&mut self, name: &str, slots: u32) {
        self.add_node_with(name, slots, Continuation::Text);
    }

    pub(crate) fn add_node_with(&mut self, name: &str, slots: u32, continuation: Continuation) {
        self.add(name, slots, |node| {
            node.replicas[0].continuation = continuation;
        });
    }

    /// A node with one replica of model `m`, changed as wanted.
    pub(crate) fn add(&mut self, name: &str, slots: u32, change: impl FnOnce(&mut Node)) {
        let mut node = node(name, slots);
        change(&mut node);
        self.nodes.insert(name.to_owned(), node.clone());
        self.state.set_node(&node, self.now);
    }

    /// Under other settings than the usual ones.
    pub(crate) fn under(settings: Settings) -> Self {
        Self {
            state: ClusterState::new(settings),
            now: Duration::from_millis(1),
            nodes: BTreeMap::new(),
        }
    }

    pub(crate) fn set_state(&mut self, name: &str, state: NodeState) {
        let node = self.nodes.get_mut(name).unwrap();
        node.state = state;
        self.state.set_node(node, self.now);
    }

    pub(crate) fn restart_agent(&mut self, name: &str) {
        let node = self.nodes.get_mut(name).unwrap();
        node.instance = InstanceId::new(format!("{name}-2")).unwrap();
        self.state.set_node(node, self.now);
    }

    pub(crate) fn submit(&mut self, n: u128) -> JobId {
        self.enter(n, |_| {})
    }

    pub(crate) fn submit_batch(&mut self, n: u128) -> JobId {
        self.enter(n, |spec| spec.priority = Priority::Batch)
    }

    /// A job whose request is changed as wanted.
    pub(crate) fn enter(&mut self, n: u128, change: impl FnOnce(&mut JobSpec)) -> JobId {
        let mut submit = submit_for(n, "m");
        change(&mut submit.spec);
        let record = Job {
            id: submit.job,
            reader: submit.reader.clone(),
            door: submit.door,
            gateway: None,
            workload: submit.spec.workload,
            model: submit.spec.model.clone(),
            priority: submit.spec.priority,
            request_digest: submit.spec.digest(),
            spec: Some(submit.spec),
            correlation_id: submit.correlation_id,
            state: JobState::Pending,
            queue_seq: self.state.next_queue_seq(),
            attempt: 0,
            failures: 0,
            assigned: None,
            prefix_by: None,
            created_ms: 0,
            deadline_at_ms: DEFAULT_DEADLINE_MS,
            end: None,
        };
        let id = record.id;
        let deadline = self.now + Duration::from_millis(DEFAULT_DEADLINE_MS);
        self.state.insert(record, deadline, self.now);
        id
    }

    /// The node that a job is on.
    pub(crate) fn node_of(&self, job: &JobId) -> Option<String> {
        let job = self.state.job(job)?;
        let placed = job.phase != Phase::Queued;
        let to = job.record.assigned.as_ref().filter(|_| placed);
        to.map(|to| to.node.to_string())
    }

    /// Every placed job runs.
    pub(crate) fn run_all(&mut self) {
        let jobs: Vec<JobId> = self.state.jobs().map(|job| job.record.id).collect();
        for job in jobs {
            self.state.running(&job, 0);
        }
    }

    /// Plans and performs until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1000 {
            let plan = plan(&self.state, self.now, 0);
            if plan.steps.is_empty() {
                return;
            }
            for (job, decision) in plan.decisions {
                self.state.update(&job, |job| job.decided(decision));
            }
            for step in plan.steps {
                match step {
                    Step::Assign { job, assignment } => {
                        self.state.assign(&job, assignment, Phase::Ordered)
                    }
                    Step::Release { job, .. } => self.state.release(&job),
                    Step::Preempt { job, .. } => self.state.yielding(&job),
                    Step::Expire { job } | Step::GiveUp { job, .. } => {
                        self.state.remove(&job);
                    }
                }
            }
        }
        panic!("planning does not come to rest");
    }

    /// Jobs per node.
    pub(crate) fn placed(&self) -> Vec<(String, usize)> {
        let count = |node: &NodeId| (node.to_string(), self.state.placed_on(node).count());
        self.state.nodes().keys().map(count).collect()
    }

    pub(crate) fn assert_within_slots(&self) {
        for (id, node) in self.state.nodes() {
            for view in node.replicas.values() {
                let placed = self.state.placed_on(id).count();
                assert!(
                    placed <= view.replica.slots as usize,
                    "{placed} jobs on {} slots",
                    view.replica.slots
                );
                assert_eq!(placed, view.recorded as usize);
            }
        }
    }

    pub(crate) fn assert_quiet(&self) {
        assert_eq!(
            (self.state.open_jobs(), self.state.next_deadline()),
            (0, None)
        );
        assert!(self.placed().iter().all(|(_, jobs)| *jobs == 0));
        self.assert_within_slots();
    }
}

pub(crate) fn node(name: &str, slots: u32) -> Node {
    let engine = EngineRef {
        kind: EngineKind::OpenAi,
        version: None,
        digest: None,
    };
    let replica = Replica {
        id: ReplicaId::new("r").unwrap(),
        model: "m".into(),
        engine,
        slots,
        ctx: None,
        continuation: Continuation::Text,
        ready: true,
        workloads: vec![Workload::Chat],
        devices: None,
        memory_per_token_bytes: None,
    };
    Node {
        id: NodeId::new(name).unwrap(),
        instance: InstanceId::new(format!("{name}-1")).unwrap(),
        hostname: name.to_owned(),
        version: String::new(),
        labels: BTreeMap::new(),
        capabilities: Capabilities::default(),
        replicas: vec![replica],
        state: NodeState::Online,
        first_seen_ms: 0,
        last_seen_ms: 0,
        last_seen_unix: 0,
        heartbeat_ms: 5000,
    }
}

pub(crate) fn submit_for(n: u128, model: &str) -> Submit {
    let spec = JobSpec {
        workload: Workload::Chat,
        model: model.into(),
        body: RawValue::from_string("{\"messages\":[]}".to_owned()).unwrap(),
        body_ref: None,
        max_tokens: None,
        seed: None,
        priority: Priority::Interactive,
        seed_drawn: false,
        deadline_ms: DEFAULT_DEADLINE_MS,
        whole: false,
        timeouts: Default::default(),
        expected_tokens: None,
        placement: None,
    };
    let job: JobId = format!("00000000-0000-7000-8000-{n:012x}").parse().unwrap();
    Submit {
        job,
        reader: ReaderId::new("g").unwrap(),
        door: Door::Task,
        spec,
        correlation_id: "c".to_owned(),
        ordered: None,
    }
}

pub(crate) fn end_of(attempt: u32) -> Final {
    Final {
        attempt,
        rest: None,
        outcome: Outcome::Completed,
        finish_reason: Some("stop".to_owned()),
        usage: Default::default(),
        error: None,
        engine: None,
        node: None,
        continued: None,
        times: Default::default(),
    }
}
