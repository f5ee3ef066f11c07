//! What the holder hears.

use crate::Now;
use orchion_contract::job::{
    CancelJob, CancelReply, EndedBatch, FollowJob, Job, ListJobs, RunReply, Submit,
};
use orchion_contract::node::{Heartbeat, Node};
use orchion_contract::transcript::{Entry, Final};
use orchion_contract::{JobId, NodeId, ReaderId, UnixMs};
use std::time::Duration;

/// When something reached us, by both clocks of our own host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic time since the holder began; never zero.
    pub now: Now,
    /// For people and history.
    pub unix_ms: UnixMs,
}

/// Names a question until it is answered; made by the shell, opaque to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What is asked of the scheduler in charge.
#[derive(Debug, Clone)]
pub enum Question {
    /// Admit a job. Answered with [`crate::Effect::Admit`].
    Submit(Box<Submit>),
    /// Where a job stands. Answered with [`crate::Effect::Describe`].
    Get(JobId),
    /// Jobs that are known. Answered with [`crate::Effect::List`].
    List(ListJobs),
    /// End a job. Answered with [`crate::Effect::Describe`] once it has ended.
    Cancel(CancelJob),
    /// How attempts ended. Answered with [`crate::Effect::Acknowledge`].
    Ended(EndedBatch),
    /// Another gateway reads a job. Answered with [`crate::Effect::Describe`].
    Follow(FollowJob),
    /// Why a job is where it is. Answered with [`crate::Effect::Explain`].
    Explain(JobId),
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The registry's record of a node, or that it left.
    Node {
        /// The host.
        id: NodeId,
        /// What is on record.
        node: Option<Box<Node>>,
    },
    /// Every node that was on record has been told.
    NodesLoaded,
    /// The lease of a gateway is there, or has ended.
    Gateway {
        /// The gateway.
        gateway: ReaderId,
        /// Whether its lease is there.
        lives: bool,
    },
    /// Every lease that was on record has been told.
    GatewaysLoaded,
    /// Every job on record and its revision, as [`crate::Effect::LoadRecords`] asked for.
    Records(Vec<(Job, u64)>),
    /// Records that say that their jobs are open, as [`crate::Effect::LookForOpen`]
    /// asked for.
    FoundOpen {
        /// The jobs and the revisions of their records.
        jobs: Vec<(JobId, u64)>,
        /// The last revision that was looked at.
        upto: u64,
    },
    /// The last entry of a transcript, as [`crate::Effect::ReadLast`] asked for.
    Last {
        /// The job.
        job: JobId,
        /// What stands last, if anything.
        last: Option<Box<Entry>>,
    },
    /// A question.
    Asked {
        /// Names it in the answer.
        token: Token,
        /// What is asked.
        question: Question,
    },
    /// An agent reports.
    Beat(Box<Heartbeat>),
    /// Time has passed; wanted at [`crate::Holder::next_deadline`].
    Time {
        /// How long we have been connected without a break; `None` when we are not.
        connected_for: Option<Duration>,
    },
    /// How a write of a record went.
    Written {
        /// The job.
        job: JobId,
        /// Its revision.
        result: Result<u64, WriteError>,
    },
    /// How the last records of jobs went.
    EndsWritten {
        /// The jobs.
        jobs: Vec<JobId>,
        /// Whether the store has dealt with them; otherwise nobody knows.
        is_sure: bool,
    },
    /// What stands under a job's key.
    Read {
        /// The job.
        job: JobId,
        /// Its revision, and the record; no record where only a marker is left.
        found: Option<(u64, Option<Box<Job>>)>,
    },
    /// What became of an order.
    Replied {
        /// The job.
        job: JobId,
        /// The attempt that was ordered.
        attempt: u32,
        /// What came back.
        reply: Reply,
    },
    /// The mark of an attempt is in the transcript, or an end was there first.
    Opened {
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
        /// The end that stands there.
        end: Option<Box<Final>>,
    },
    /// The mark of an attempt was not written: another scheduler has opened this
    /// attempt or a later one.
    Overtaken {
        /// The job.
        job: JobId,
    },
    /// A final is in the transcript.
    Finalized {
        /// The job.
        job: JobId,
        /// The one that stands there, ours or not.
        end: Box<Final>,
    },
    /// What became of a stop order; `None` when no answer came in time.
    Canceled {
        /// The job.
        job: JobId,
        /// The agent's answer.
        reply: Option<CancelReply>,
    },
    /// History knows of these ends.
    Told {
        /// The jobs.
        jobs: Vec<JobId>,
    },
    /// The record of a job that is not in memory, as [`crate::Effect::LookUp`] asked for.
    LookedUp {
        /// Names the question.
        token: Token,
        /// The job.
        job: JobId,
        /// What stands there, if anything: the record, or nothing but the marker of
        /// one that has expired. Otherwise why it cannot be read.
        found: Result<Option<Option<Box<Job>>>, String>,
    },
}

/// Why a record was not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteError {
    /// The store takes nothing now; says why.
    Full(String),
    /// It was refused, or nobody knows.
    Unsure,
}

/// What comes back from an order.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// The agent's answer.
    Said(RunReply),
    /// Nobody listens on its subject.
    Nobody,
    /// No answer came in time; heartbeats will tell.
    Silence,
}
