//! A holder with a small cluster, and ways to look at its effects.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use orchion_contract::job::{
    Admission, AttemptEnd, AttemptOutcome, DEFAULT_DEADLINE_MS, Door, EndedBatch, Job, JobSpec,
    JobSummary, Outcome, Priority, RunReply, Submit, Workload,
};
use orchion_contract::node::{
    Capabilities, Continuation, EngineKind, EngineRef, Node, NodeState, Replica,
};
use orchion_contract::placement::Explanation;
use orchion_contract::transcript::Final;
use orchion_contract::{ErrorBody, InstanceId, JobId, NodeId, ReaderId, ReplicaId};
use orchion_scheduler_core::{Effect, Holder, Input, Moment, Question, Reply, Settings, Token};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) struct Charge {
    pub(crate) holder: Holder,
    pub(crate) at: Moment,
    tokens: u64,
    /// Class of the next jobs.
    pub(crate) class: Priority,
    /// Whether their answers are wanted whole.
    pub(crate) whole: bool,
    last_written: BTreeMap<JobId, Job>,
}

impl Charge {
    /// Knows one node, and is reading the rest.
    pub(crate) fn standing(node: &str, slots: u32) -> Self {
        Self::standing_with(node, slots, Settings::default())
    }

    fn standing_with(node: &str, slots: u32, settings: Settings) -> Self {
        let mut charge = Self {
            holder: Holder::new(3, settings),
            at: Moment {
                now: ms(1),
                unix_ms: 1,
            },
            tokens: 0,
            class: Priority::Interactive,
            whole: false,
            last_written: BTreeMap::new(),
        };
        charge.hear(Input::Node {
            id: node_id(node),
            node: Some(Box::new(node_with(node, slots))),
        });
        charge
    }

    /// In charge of one node and nothing else.
    pub(crate) fn with_node(node: &str, slots: u32) -> Self {
        Self::with_settings(node, slots, Settings::default())
    }

    /// The same under other settings than the usual ones.
    pub(crate) fn with_settings(node: &str, slots: u32, settings: Settings) -> Self {
        let mut charge = Self::standing_with(node, slots, settings);
        charge.hear(Input::NodesLoaded);
        charge.hear(Input::GatewaysLoaded);
        charge.hear(Input::Records(Vec::new()));
        charge.effects();
        assert!(charge.holder.is_in_charge());
        charge
    }

    pub(crate) fn hear(&mut self, input: Input) {
        self.holder.handle(input, self.at);
    }

    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        let effects: Vec<Effect> = std::iter::from_fn(|| self.holder.next_effect())
            .filter(|effect| !matches!(effect, Effect::Note(_)))
            .collect();
        if let Some(record) = written(&effects) {
            self.last_written.insert(record.id, record);
        }
        effects
    }

    pub(crate) fn ask(&mut self, question: Question) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.hear(Input::Asked { token, question });
        token
    }

    /// Why a job is where it is.
    pub(crate) fn explained(&mut self, job: JobId) -> Result<Explanation, ErrorBody> {
        let wanted = self.ask(Question::Explain(job));
        let mut effects = self.effects().into_iter();
        let answer = effects.find_map(|effect| match effect {
            Effect::Explain { token, answer } if token == wanted => Some(answer),
            _ => None,
        });
        answer.unwrap().map(|found| *found)
    }

    pub(crate) fn submit(&mut self, n: u128, door: Door) -> Token {
        self.submit_for(n, door, submission(n, door).reader)
    }

    /// A submission whose transcript is to be read by this reader.
    pub(crate) fn submit_for(&mut self, n: u128, door: Door, reader: ReaderId) -> Token {
        let mut submit = submission(n, door);
        submit.spec.priority = self.class;
        submit.spec.whole = self.whole;
        submit.reader = reader;
        self.ask(Question::Submit(Box::new(submit)))
    }

    /// A job that is stored and runs.
    pub(crate) fn admit(&mut self, n: u128, door: Door) -> JobId {
        let (token, job) = (self.submit(n, door), id(n));
        self.effects();
        self.hear(Input::Written { job, result: Ok(5) });
        assert!(admission(&self.effects(), token).is_some());
        self.hear(Input::Replied {
            job,
            attempt: 1,
            reply: Reply::Said(RunReply::Accepted),
        });
        self.effects();
        job
    }

    /// The record as it was written last.
    pub(crate) fn record_of(&self, job: &JobId) -> Job {
        self.last_written[job].clone()
    }

    pub(crate) fn end_attempt(&mut self, job: JobId, attempt: u32, how: AttemptOutcome) {
        self.end_attempt_by("a-1", job, attempt, how);
    }

    /// A certain process of node `a` tells.
    pub(crate) fn end_attempt_by(
        &mut self,
        process: &str,
        job: JobId,
        attempt: u32,
        how: AttemptOutcome,
    ) {
        let end = AttemptEnd {
            job,
            attempt,
            how,
            sequence: 0,
            stored: false,
        };
        let batch = EndedBatch {
            node: node_id("a"),
            instance: InstanceId::new(process).unwrap(),
            ends: vec![end],
            granted: Vec::new(),
        };
        self.ask(Question::Ended(batch));
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.at.now += time;
        self.at.unix_ms += u64::try_from(time.as_millis()).unwrap();
        self.look();
    }

    pub(crate) fn look(&mut self) {
        let connected_for = Some(Duration::from_secs(60));
        self.hear(Input::Time { connected_for });
    }
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn id(n: u128) -> JobId {
    format!("00000000-0000-7000-8000-{n:012x}").parse().unwrap()
}

pub(crate) fn node_id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn instance(name: &str) -> InstanceId {
    InstanceId::new(name).unwrap()
}

pub(crate) fn written(effects: &[Effect]) -> Option<Job> {
    effects.iter().find_map(|effect| match effect {
        Effect::Write { record, .. } | Effect::WriteEnd { record, .. } => Some((**record).clone()),
        _ => None,
    })
}

/// Jobs and attempts that are ordered.
pub(crate) fn ordered(effects: &[Effect]) -> Vec<(JobId, u32)> {
    let orders = effects.iter().filter_map(|effect| match effect {
        Effect::Order { order, .. } => Some((order.job, order.attempt)),
        _ => None,
    });
    orders.collect()
}

pub(crate) fn admission(effects: &[Effect], wanted: Token) -> Option<Admission> {
    answer(effects, wanted)?.ok()
}

pub(crate) fn refusal(effects: &[Effect], wanted: Token) -> Option<ErrorBody> {
    answer(effects, wanted)?.err()
}

fn answer(effects: &[Effect], wanted: Token) -> Option<Result<Admission, ErrorBody>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Admit { token, answer } if *token == wanted => Some(answer.clone()),
        _ => None,
    })
}

pub(crate) fn description(effects: &[Effect], wanted: Token) -> Option<JobSummary> {
    effects.iter().find_map(|effect| match effect {
        Effect::Describe { token, answer } if *token == wanted => {
            answer.clone().ok().map(|summary| *summary)
        }
        _ => None,
    })
}

pub(crate) fn end_of(attempt: u32, outcome: Outcome) -> Final {
    Final {
        attempt,
        rest: None,
        outcome,
        finish_reason: None,
        usage: Default::default(),
        error: None,
        engine: None,
        node: None,
        continued: None,
        times: Default::default(),
    }
}

pub(crate) fn submission(n: u128, door: Door) -> Submit {
    let spec = JobSpec {
        workload: Workload::Chat,
        model: "m".into(),
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
    Submit {
        job: id(n),
        reader: ReaderId::new("g").unwrap(),
        door,
        spec,
        correlation_id: "c".to_owned(),
        ordered: None,
    }
}

pub(crate) fn node_with(name: &str, slots: u32) -> Node {
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
        id: node_id(name),
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

pub(crate) fn completed() -> AttemptOutcome {
    let end = end_of(1, Outcome::Completed);
    AttemptOutcome::Final {
        end: Box::new(orchion_scheduler_core::job_end(&end, 5)),
    }
}
