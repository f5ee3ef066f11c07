//! What travels between the processes of a simulated cluster.

use orchion_contract::job::{
    Admission, CancelJob, CancelOrder, CancelReply, EndedBatch, Grants, Job, JobState, JobSummary,
    RunOrder, RunReply, Submit,
};
use orchion_contract::node::{Heartbeat, Node, Registration};
use orchion_contract::transcript::Entry;
use orchion_contract::{ErrorBody, JobId};
use std::sync::Arc;
use std::time::Duration;

/// Virtual time, in microseconds since the beginning.
pub(crate) type Time = u64;

pub(crate) const MS: Time = 1_000;
pub(crate) const SECOND: Time = 1_000_000;

/// A span of virtual time as the cores know it.
pub(crate) fn span(time: Time) -> Duration {
    Duration::from_micros(time)
}

/// A span of the cores in virtual time.
pub(crate) fn time(span: Duration) -> Time {
    Time::try_from(span.as_micros()).unwrap_or(Time::MAX)
}

/// A process: its place in the cluster, and how often it was started before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life {
    pub(crate) process: usize,
    pub(crate) number: u32,
}

/// Where a transcript is: under the token of a gateway process.
pub(crate) type Reader = Life;

/// A key in one of the buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Job(JobId),
    Node(usize),
    SchedulerLease,
    RegistryLease,
    GatewayLease(Life),
}

/// Which bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bucket {
    Jobs,
    Nodes,
    Leases,
}

impl Key {
    pub(crate) fn bucket(self) -> Bucket {
        match self {
            Self::Job(_) => Bucket::Jobs,
            Self::Node(_) => Bucket::Nodes,
            Self::SchedulerLease | Self::RegistryLease | Self::GatewayLease(_) => Bucket::Leases,
        }
    }
}

/// A value in a bucket.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Job(Arc<Job>),
    Node(Arc<Node>),
    Lease(Life),
}

/// What is asked of the server.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Append {
        reader: Reader,
        job: JobId,
        entry: Entry,
        after: u64,
    },
    Last {
        reader: Reader,
        job: JobId,
    },
    /// The chain up to now, as the next attempt reads it.
    Chain {
        reader: Reader,
        job: JobId,
    },
    Set {
        key: Key,
        value: Option<Value>,
        expected: u64,
        ttl: Option<Time>,
    },
    Get(Key),
    Jobs,
    /// Records behind a revision that say that their jobs are open.
    OpenJobs {
        after: u64,
    },
    History(JobId, JobState),
    Connections,
    /// When the entry of the transcripts with this sequence was stored.
    StoredAt(u64),
}

/// Why the server did not store something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    WrongSequence,
    Full,
}

/// What the server answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Stored(Result<u64, Refusal>),
    Last(Option<(u64, Entry)>),
    Chain(Vec<(u64, Entry)>),
    Got(Option<(u64, Option<Value>)>),
    Jobs(Vec<(Arc<Job>, u64)>),
    OpenJobs { jobs: Vec<(JobId, u64)>, upto: u64 },
    Connections(Vec<Life>),
    StoredAt(Option<Time>),
}

/// What processes ask each other.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Submit(Submit),
    Get(JobId),
    Cancel(CancelJob),
    Ended(EndedBatch),
    Run(Box<RunOrder>),
    Stop(CancelOrder),
    Register(Registration),
}

/// Whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    Schedulers,
    Registries,
    Agent(usize),
}

/// What they answer.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    Admission(Result<Admission, ErrorBody>),
    Job(Result<Box<JobSummary>, ErrorBody>),
    Noted,
    Run(RunReply),
    Stop(CancelReply),
    Registered,
}

/// What is told to whoever listens.
#[derive(Debug, Clone)]
pub(crate) enum News {
    Beat(Heartbeat),
    Capability(Box<Registration>),
    RegisterAgain(usize),
    Hello,
    /// Slots that a gateway may fill by itself.
    Grants(Life, Grants),
    /// What an agent answers to an order of a gateway.
    Answered(Life, JobId, Box<RunReply>),
}

/// From a process to the server.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a message lives for a moment, and most are of the large kind"
)]
pub(crate) enum Packet {
    Call(u64, Call),
    Ask(u64, Whom, Ask),
    Reply { to: Life, op: u64, said: Said },
    News(News),
}

/// From the server to a process.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a message lives for a moment, and most are of the large kind"
)]
pub(crate) enum Parcel {
    Answer(u64, Answer),
    Said(u64, Said),
    Nobody(u64),
    Ask {
        from: Life,
        op: u64,
        ask: Ask,
    },
    News(News),
    Entry {
        consumer: u64,
        sequence: u64,
        at: Time,
        job: JobId,
        entry: Entry,
    },
    Change {
        consumer: u64,
        revision: u64,
        key: Key,
        value: Option<Value>,
    },
    Loaded(u64),
    /// The server's own connection events.
    Connected(Life, u32),
    Disconnected(Life, u32),
}
