//! Between the small values of the model and what crosses the wire.

use crate::state::{Author, End, How, Link, Outcome, Process, Record, Recorded, Token};
use orchion_contract::job::{
    Assignment, AttemptEnd, AttemptOutcome, Granted, Job, JobEnd, JobState, Outcome as Ended, Usage,
};
use orchion_contract::node::{EngineKind, EngineRef, RunningAttempt};
use orchion_contract::transcript::{Entry, Final, Frame, Mark, Piece, Times};
use orchion_contract::{ErrorBody, ErrorCode, InstanceId, JobId, NodeId, ReplicaId};
use std::sync::LazyLock;

/// Schedulers sign their finals with numbers from here on.
const SCHEDULER: u64 = 1000;
/// Processes of one agent in one history, at most.
const INSTANCES: u8 = 8;

static TEMPLATE: LazyLock<Job> = LazyLock::new(|| {
    let sample = include_str!("../../contract/samples/job.json");
    serde_json::from_str(sample).unwrap_or_else(|error| panic!("read the sample of a job: {error}"))
});

static NODES: LazyLock<[NodeId; 2]> = LazyLock::new(|| ["a", "b"].map(id));
static REPLICA: LazyLock<ReplicaId> = LazyLock::new(|| id("r"));
static INSTANCES_OF: LazyLock<Vec<InstanceId>> = LazyLock::new(|| {
    let all = (0..2 * INSTANCES).map(|n| format!("{}-{}", n / INSTANCES, n % INSTANCES));
    all.map(|name| id(&name)).collect()
});

fn id<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str) -> T {
    name.parse()
        .unwrap_or_else(|error| panic!("name a part of the model: {error}"))
}

pub(crate) fn job() -> JobId {
    TEMPLATE.id
}

pub(crate) fn node(agent: u8) -> NodeId {
    NODES[usize::from(agent)].clone()
}

pub(crate) fn instance(process: Process) -> InstanceId {
    INSTANCES_OF[usize::from(process.agent * INSTANCES + process.instance)].clone()
}

fn process(instance: &InstanceId) -> Process {
    let at = INSTANCES_OF.iter().position(|known| known == instance);
    let at = small(at.unwrap_or_default() as u64);
    Process {
        agent: at / INSTANCES,
        instance: at % INSTANCES,
    }
}

/// Everything in the model is small.
pub(crate) fn small(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

pub(crate) fn running(attempt: u8) -> RunningAttempt {
    RunningAttempt {
        job: job(),
        attempt: attempt.into(),
    }
}

pub(crate) fn piece(token: Token) -> Piece {
    let Process { agent, instance } = token.maker;
    Piece {
        text: Some(format!("{}.{agent}.{instance}", token.place)),
        tokens: 1,
        ..Piece::default()
    }
}

pub(crate) fn token(piece: &Piece) -> Token {
    let text = piece.text.as_deref().unwrap_or_default();
    let mut numbers = text.split('.').map(|n| n.parse().unwrap_or(u8::MAX));
    let mut next = || numbers.next().unwrap_or(u8::MAX);
    Token {
        place: next(),
        maker: Process {
            agent: next(),
            instance: next(),
        },
    }
}

/// An entry as it is stored.
pub(crate) fn entry(link: &Link) -> Entry {
    match link {
        Link::Frame {
            attempt,
            index,
            tokens,
        } => Entry::Frame(frame(*attempt, *index, tokens)),
        Link::Mark { attempt, to } => Entry::Mark(mark(*attempt, *to)),
        Link::Final {
            attempt,
            index,
            rest,
            outcome,
            by,
        } => Entry::Final(Box::new(Final {
            rest: (!rest.is_empty()).then(|| frame(*attempt, *index, rest)),
            ..end_entry(*attempt, *outcome, *by)
        })),
    }
}

fn frame(attempt: u8, index: u8, tokens: &[Token]) -> Frame {
    Frame {
        attempt: attempt.into(),
        index: index.into(),
        pieces: tokens.iter().map(|token| piece(*token)).collect(),
    }
}

pub(crate) fn mark(attempt: u8, to: Process) -> Mark {
    Mark {
        attempt: attempt.into(),
        node: node(to.agent),
        instance: instance(to),
    }
}

pub(crate) fn end_entry(attempt: u8, outcome: Outcome, by: Author) -> Final {
    let (signature, node) = match by {
        Author::Agent(process) => (u64::from(process.instance), Some(node(process.agent))),
        Author::Scheduler(number) => (SCHEDULER + u64::from(number), None),
    };
    Final {
        attempt: attempt.into(),
        rest: None,
        outcome: ended(outcome),
        finish_reason: None,
        usage: Usage::default(),
        error: None,
        engine: None,
        node,
        continued: None,
        times: Times {
            ended_ms: Some(signature),
            ..Times::default()
        },
    }
}

/// What a writer wants to store.
pub(crate) fn link(entry: &Entry) -> Link {
    match entry {
        Entry::Frame(frame) => Link::Frame {
            attempt: small(frame.attempt.into()),
            index: small(frame.index),
            tokens: frame.pieces.iter().map(token).collect(),
        },
        Entry::Mark(mark) => Link::Mark {
            attempt: small(mark.attempt.into()),
            to: process(&mark.instance),
        },
        Entry::Restart(restart) => Link::Frame {
            attempt: small(restart.attempt.into()),
            index: small(restart.index),
            tokens: Vec::new(),
        },
        Entry::Final(end) => Link::Final {
            attempt: small(end.attempt.into()),
            index: small(end.rest.as_ref().map_or(0, |rest| rest.index)),
            rest: end
                .rest
                .iter()
                .flat_map(|rest| &rest.pieces)
                .map(token)
                .collect(),
            outcome: outcome(end.outcome),
            by: author(end),
        },
    }
}

fn author(end: &Final) -> Author {
    let signature = end.times.ended_ms.unwrap_or_default();
    let agent = NODES
        .iter()
        .position(|node| Some(node) == end.node.as_ref());
    match agent {
        Some(agent) => Author::Agent(Process {
            agent: small(agent as u64),
            instance: small(signature),
        }),
        None => Author::Scheduler(small(signature - SCHEDULER)),
    }
}

pub(crate) fn outcome(ended: Ended) -> Outcome {
    match ended {
        Ended::Completed => Outcome::Completed,
        Ended::Failed => Outcome::Failed,
        Ended::Canceled => Outcome::Canceled,
    }
}

fn ended(outcome: Outcome) -> Ended {
    match outcome {
        Outcome::Completed => Ended::Completed,
        Outcome::Failed => Ended::Failed,
        Outcome::Canceled => Ended::Canceled,
    }
}

fn job_end(outcome: Outcome) -> JobEnd {
    JobEnd {
        outcome: ended(outcome),
        at_ms: 0,
        finish_reason: None,
        usage: Usage::default(),
        error: None,
        continued: None,
        times: Times::default(),
    }
}

pub(crate) fn attempt_end(end: End) -> AttemptEnd {
    AttemptEnd {
        job: job(),
        attempt: end.attempt.into(),
        how: match end.how {
            How::Final(outcome) => AttemptOutcome::Final {
                end: Box::new(job_end(outcome)),
            },
            How::Failed => AttemptOutcome::Failed {
                error: ErrorBody::new(ErrorCode::WorkerReset, "the engine failed"),
            },
            How::Superseded => AttemptOutcome::Superseded,
        },
        sequence: 0,
        stored: end.stored,
    }
}

pub(crate) fn end(end: &AttemptEnd, by: Process) -> End {
    End {
        by,
        attempt: small(end.attempt.into()),
        how: match &end.how {
            AttemptOutcome::Final { end } => How::Final(outcome(end.outcome)),
            AttemptOutcome::Failed { .. } => How::Failed,
            AttemptOutcome::Superseded | AttemptOutcome::Preempted => How::Superseded,
        },
        stored: end.stored,
    }
}

/// What an agent tells of a job that its gateway has ordered.
pub(crate) fn granted(to: Process) -> Box<Granted> {
    Box::new(Granted {
        job: record(Record {
            state: Recorded::Assigned,
            attempt: 1,
            to: Some(to),
            failures: 0,
        }),
        whole: false,
        prompt_bytes: 0,
        max_tokens: None,
    })
}

/// The record as the scheduler's core knows it.
pub(crate) fn record(record: Record) -> Job {
    let mut job = TEMPLATE.clone();
    job.state = match record.state {
        Recorded::Pending => JobState::Pending,
        Recorded::Assigned => JobState::Assigned,
        Recorded::Ended(outcome) => ended(outcome).state(),
    };
    job.attempt = record.attempt.into();
    job.failures = record.failures.into();
    job.prefix_by = None;
    job.assigned = record.to.map(|to| Assignment {
        node: node(to.agent),
        instance: instance(to),
        replica: REPLICA.clone(),
        engine: EngineRef {
            kind: EngineKind::Starter,
            version: None,
            digest: None,
        },
        at_ms: 0,
    });
    job
}
