//! Plays a trace of jobs to the core as it happened, and compares when each job
//! started with what it was told when it came.

use orchion_contract::job::{Assignment, Door, Job, JobSpec, JobState, Priority, Usage, Workload};
use orchion_contract::node::{
    Capabilities, Continuation, EngineKind, EngineRef, Node, NodeState, Replica,
};
use orchion_contract::transcript::Times;
use orchion_contract::{InstanceId, JobId, NodeId, ReaderId, ReplicaId};
use orchion_scheduler_core::{ClusterState, Lesson, Now, Phase, predicted_start_ms};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;

/// Jobs that teach before anything is measured.
pub(crate) const LESSONS: usize = 20;
/// Shorter waits are noise of the clock, in milliseconds.
const SHORTEST_MS: u64 = 250;

/// What happened to many jobs, in milliseconds since the first one came.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Trace {
    /// Where it comes from.
    pub(crate) source: String,
    /// Slots of each replica.
    pub(crate) slots: BTreeMap<String, u32>,
    /// In the order in which they came.
    pub(crate) jobs: Vec<Traced>,
}

/// What happened to one job.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Traced {
    pub(crate) replica: String,
    pub(crate) batch: bool,
    #[serde(default = "once")]
    pub(crate) attempts: u32,
    pub(crate) prompt_bytes: usize,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) prompt_tokens: u64,
    #[serde(default)]
    pub(crate) cached_tokens: Option<u64>,
    pub(crate) completion_tokens: u64,
    pub(crate) queued_ms: u64,
    pub(crate) assigned_ms: u64,
    pub(crate) started_ms: u64,
    /// None when the last attempt found that nothing was left to say.
    pub(crate) first_token_ms: Option<u64>,
    pub(crate) ended_ms: u64,
}

fn once() -> u32 {
    1
}

/// How far predictions were off.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Relative errors of the predicted wait, sorted.
    pub(crate) errors: Vec<f64>,
    /// Predictions that were too long.
    pub(crate) too_long: usize,
}

impl Measured {
    /// The error that this share of all predictions stays below.
    pub(crate) fn at(&self, percent: usize) -> f64 {
        let last = self.errors.len().saturating_sub(1);
        self.errors
            .get(last * percent / 100)
            .copied()
            .unwrap_or(f64::NAN)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ended,
    Assigned,
    Queued,
}

/// Measures the predictions of one trace.
pub(crate) fn measure(trace: &Trace) -> Measured {
    let mut play = Play::new(trace);
    let mut events: Vec<(u64, Event, usize)> = Vec::new();
    for (n, job) in trace.jobs.iter().enumerate() {
        events.push((job.queued_ms, Event::Queued, n));
        events.push((job.assigned_ms.max(job.queued_ms), Event::Assigned, n));
        events.push((job.ended_ms, Event::Ended, n));
    }
    // What starts at once is assigned after it came, at the same time.
    events.sort_by_key(|(at, event, n)| {
        let at_once = *event == Event::Assigned && trace.jobs[*n].queued_ms == *at;
        (
            *at,
            if at_once { Event::Queued } else { *event },
            *n,
            *event == Event::Assigned,
        )
    });
    for (at, event, n) in events {
        play.now = Duration::from_millis(at + 1);
        match event {
            Event::Queued => play.queued(n),
            Event::Assigned => play.assigned(n),
            Event::Ended => play.ended(n),
        }
    }
    play.measured.errors.sort_by(f64::total_cmp);
    play.measured
}

struct Play<'a> {
    trace: &'a Trace,
    state: ClusterState,
    now: Now,
    taught: usize,
    measured: Measured,
}

impl<'a> Play<'a> {
    fn new(trace: &'a Trace) -> Self {
        let mut state = ClusterState::default();
        for (name, slots) in &trace.slots {
            state.set_node(&node(name, *slots), Duration::from_millis(1));
        }
        Self {
            trace,
            state,
            now: Duration::from_millis(1),
            taught: 0,
            measured: Measured {
                errors: Vec::new(),
                too_long: 0,
            },
        }
    }

    /// It comes and is told when it will start.
    fn queued(&mut self, n: usize) {
        let traced = &self.trace.jobs[n];
        let deadline = self.now + Duration::from_secs(3600);
        let record = record(n, traced, self.state.next_queue_seq());
        let id = record.id;
        self.state.insert(record, deadline, self.now);
        let wait = traced.assigned_ms.saturating_sub(traced.queued_ms);
        // What comes later and goes first cannot be foretold: a job that is overtaken
        // is told so, and predicted anew.
        if traced.batch || wait < SHORTEST_MS || self.taught < LESSONS {
            return;
        }
        let told = predicted_start_ms(&self.state, &id, self.now).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a trace")]
        let error = told.abs_diff(wait) as f64 / wait as f64;
        self.measured.errors.push(error);
        self.measured.too_long += usize::from(told > wait);
    }

    fn assigned(&mut self, n: usize) {
        let traced = &self.trace.jobs[n];
        let to = Assignment {
            node: id_of(&traced.replica),
            instance: instance(&traced.replica),
            replica: replica(),
            engine: engine(),
            at_ms: traced.assigned_ms,
        };
        let (job, now, at_ms) = (job_id(n), self.now, to.at_ms);
        self.state.assign(&job, to, Phase::Ordered);
        self.state.update(&job, |job| job.ordered_at = now);
        self.state.running(&job, at_ms);
    }

    fn ended(&mut self, n: usize) {
        let traced = &self.trace.jobs[n];
        let key = (id_of(&traced.replica), replica());
        let busy = self.state.replica(&key);
        let busy = busy.is_some_and(|(_, view)| view.occupied() >= view.replica.slots);
        let Some(job) = self.state.remove(&job_id(n)) else {
            return;
        };
        // A job that was cut teaches nothing.
        if traced.attempts > 1 {
            return;
        }
        self.taught += 1;
        let times = Times {
            started_ms: Some(traced.started_ms),
            first_token_ms: traced.first_token_ms,
            ended_ms: Some(traced.ended_ms),
        };
        self.state.learn(&Lesson {
            model: &"m".into(),
            replica: &key,
            digest: None,
            demand: job.demand,
            usage: Usage {
                prompt_tokens: traced.prompt_tokens,
                completion_tokens: traced.completion_tokens,
                cached_tokens: traced.cached_tokens,
            },
            times,
            took_ms: Some(traced.ended_ms.saturating_sub(traced.assigned_ms)),
            busy,
        });
    }
}

/// A cluster that nobody ran: two replicas, one of them slower, answers of all
/// lengths, and bursts that come faster than they are served.
pub(crate) fn synthetic() -> Trace {
    let replicas = [("fast", 3_usize, 11.0), ("slow", 2, 19.0)];
    let mut free: Vec<(u64, usize)> = Vec::new();
    for (index, (_, slots, _)) in replicas.iter().enumerate() {
        free.extend(std::iter::repeat_n((0, index), *slots));
    }
    let mut dice = Dice(7);
    let mut jobs = Vec::new();
    let mut queued_ms = 0;
    for n in 0..240 {
        queued_ms += if n % 40 == 0 { 12_000 } else { dice.below(250) };
        free.sort_unstable();
        let (at, index) = free[0];
        let (name, _, pace) = replicas[index];
        let assigned_ms = at.max(queued_ms);
        let prompt_tokens = 20 + dice.below(400);
        // Most answers are of a middle length, one in ten is long.
        let long = if dice.below(10) == 0 {
            dice.below(400)
        } else {
            0
        };
        let completion_tokens = 30 + dice.below(120) + long;
        let jitter = 0.85 + f64::from(u32::try_from(dice.below(31)).unwrap_or_default()) / 100.0;
        let first_token_ms = assigned_ms + 4 + span(prompt_tokens, 0.8 * jitter);
        let ended_ms = first_token_ms + span(completion_tokens, pace * jitter);
        free[0] = (ended_ms + 3, index);
        jobs.push(Traced {
            replica: name.to_owned(),
            batch: false,
            attempts: 1,
            prompt_bytes: usize::try_from(prompt_tokens * 4 + 60).unwrap_or_default(),
            max_tokens: None,
            prompt_tokens,
            cached_tokens: None,
            completion_tokens,
            queued_ms,
            assigned_ms,
            started_ms: assigned_ms + 1,
            first_token_ms: Some(first_token_ms),
            ended_ms,
        });
    }
    Trace {
        source: "made by a seeded generator: two unequal replicas, answers of all lengths"
            .to_owned(),
        slots: replicas
            .iter()
            .map(|(name, slots, _)| {
                (
                    (*name).to_owned(),
                    u32::try_from(*slots).unwrap_or_default(),
                )
            })
            .collect(),
        jobs,
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "milliseconds of a trace"
)]
fn span(tokens: u64, ms_each: f64) -> u64 {
    (tokens as f64 * ms_each) as u64
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn job_id(n: usize) -> JobId {
    let n = u128::try_from(n).unwrap_or_default();
    let text = format!("00000000-0000-7000-8000-{n:012x}");
    text.parse().expect("the text of an id")
}

fn id_of(name: &str) -> NodeId {
    NodeId::new(name).expect("the name of a replica is a node's id")
}

fn instance(name: &str) -> InstanceId {
    InstanceId::new(name).expect("the name of a replica is an instance's id")
}

fn replica() -> ReplicaId {
    ReplicaId::new("r").expect("an id")
}

fn engine() -> EngineRef {
    EngineRef {
        kind: EngineKind::LlamaCpp,
        version: None,
        digest: None,
    }
}

fn node(name: &str, slots: u32) -> Node {
    let replica = Replica {
        id: replica(),
        model: "m".into(),
        engine: engine(),
        slots,
        ctx: None,
        continuation: Continuation::Ids,
        ready: true,
        workloads: vec![Workload::Chat],
        devices: None,
        memory_per_token_bytes: None,
    };
    Node {
        id: id_of(name),
        instance: instance(name),
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

fn record(n: usize, traced: &Traced, queue_seq: u64) -> Job {
    let text = format!("\"{}\"", "x".repeat(traced.prompt_bytes.saturating_sub(2)));
    let priority = if traced.batch {
        Priority::Batch
    } else {
        Priority::Interactive
    };
    let spec = JobSpec {
        workload: Workload::Chat,
        model: "m".into(),
        body: RawValue::from_string(text).expect("a text is JSON"),
        body_ref: None,
        max_tokens: traced.max_tokens,
        seed: None,
        seed_drawn: false,
        priority,
        deadline_ms: 3_600_000,
        timeouts: Default::default(),
        whole: false,
        expected_tokens: None,
        placement: None,
    };
    Job {
        id: job_id(n),
        reader: ReaderId::new("g").expect("an id"),
        door: Door::Task,
        gateway: None,
        workload: spec.workload,
        model: spec.model.clone(),
        priority,
        request_digest: String::new(),
        spec: Some(spec),
        correlation_id: String::new(),
        state: JobState::Pending,
        queue_seq,
        attempt: 0,
        failures: 0,
        assigned: None,
        prefix_by: None,
        created_ms: 0,
        deadline_at_ms: 3_600_000,
        end: None,
    }
}
