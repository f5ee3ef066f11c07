//! What the holder wants done.

use crate::input::Token;
use orchion_contract::job::{
    Admission, CancelOrder, Grants, Job, JobEvent, JobList, JobState, JobSummary, RunOrder,
};
use orchion_contract::placement::Explanation;
use orchion_contract::progress::Progress;
use orchion_contract::transcript::{Final, Mark};
use orchion_contract::{ErrorBody, ErrorCode, JobId, NodeId, ReaderId};
use std::fmt;
use std::time::Duration;

/// What the shell owes the holder. Whatever names an [`crate::Input`] comes back as that.
#[derive(Debug)]
pub enum Effect {
    /// Read every record; comes back as `Records`.
    LoadRecords,
    /// Look for records that were stored after one and say that their jobs are
    /// open; comes back as `FoundOpen`. Wanted now and then.
    LookForOpen {
        /// The revision of that one.
        after: u64,
    },
    /// Read the last entry of a transcript; comes back as `Last`.
    ReadLast {
        /// Where the transcript is.
        reader: ReaderId,
        /// The job.
        job: JobId,
    },
    /// Write a record; comes back as `Written`.
    Write {
        /// What to write.
        record: Box<Job>,
        /// The revision that must stand there; 0 for none.
        expected: u64,
        /// How long it stays; `None` for good.
        ttl: Option<Duration>,
    },
    /// Write the last record of a job, which is stored already; comes back as
    /// `EndsWritten`. Nobody waits for it, so that many may go together, and one
    /// that is refused counts as written: somebody else has written more. It stays
    /// for [`ENDED_RETENTION_S`](orchion_contract::job::ENDED_RETENTION_S).
    WriteEnd {
        /// What to write.
        record: Box<Job>,
        /// The revision that must stand there.
        expected: u64,
    },
    /// Read a record until there is an answer; comes back as `Read`.
    ReadRecord {
        /// The job.
        job: JobId,
    },
    /// Send an order, twice when no answer comes; comes back as `Replied`.
    Order {
        /// To which host.
        node: NodeId,
        /// What to run.
        order: Box<RunOrder>,
    },
    /// Tell a gateway which slots it may fill by itself.
    Grant {
        /// The gateway.
        gateway: ReaderId,
        /// The slots.
        grants: Grants,
    },
    /// Open an attempt in the transcript; comes back as `Opened`.
    Open {
        /// Where the transcript is.
        reader: ReaderId,
        /// The job.
        job: JobId,
        /// What fences off whoever wrote before.
        mark: Mark,
    },
    /// Write an end into the transcript; comes back as `Finalized`.
    Finalize {
        /// Where the transcript is.
        reader: ReaderId,
        /// The job.
        job: JobId,
        /// How it ends, unless it has ended.
        end: Box<Final>,
    },
    /// Tell an agent to stop a job; comes back as `Canceled`.
    Cancel {
        /// To which host.
        node: NodeId,
        /// What to stop.
        order: CancelOrder,
    },
    /// Tell an agent to drop what is not its own any more.
    Drop {
        /// To which host.
        node: NodeId,
        /// What to drop.
        order: CancelOrder,
    },
    /// Tell history, until it is stored; comes back as `Told`.
    TellEnd(Box<JobSummary>),
    /// Tell whoever listens.
    TellState(JobEvent),
    /// Tell whoever follows a job where it stands; losing it is harmless.
    TellProgress {
        /// Who reads the job.
        reader: ReaderId,
        /// Where it stands.
        progress: Box<Progress>,
    },
    /// Read the record of a job that is not in memory; comes back as `LookedUp`.
    LookUp {
        /// Names the question.
        token: Token,
        /// The job.
        job: JobId,
    },
    /// Answer who submitted.
    Admit {
        /// Names the question.
        token: Token,
        /// Where the job stands, or why it may not enter.
        answer: Result<Admission, ErrorBody>,
    },
    /// Answer who asked for one job.
    Describe {
        /// Names the question.
        token: Token,
        /// The job.
        answer: Result<Box<JobSummary>, ErrorBody>,
    },
    /// Answer who asked for many.
    List {
        /// Names the question.
        token: Token,
        /// The jobs.
        list: JobList,
    },
    /// Answer who asked why.
    Explain {
        /// Names the question.
        token: Token,
        /// Why the job is where it is.
        answer: Result<Box<Explanation>, ErrorBody>,
    },
    /// Answer who told of ends.
    Acknowledge {
        /// Names the question.
        token: Token,
    },
    /// Answer nobody: who told of ends has told of them again.
    Forget {
        /// Names the question.
        token: Token,
    },
    /// An agent knows of a higher epoch: acquire the lease anew above it.
    Outranked(u64),
    /// Somebody else has written the record of this job: nothing that we know
    /// counts any more. The holder does no more; read everything anew.
    Reread {
        /// The job.
        job: JobId,
    },
    /// Something that the log should say.
    Note(Note),
}

/// What is worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A job waits for its next attempt.
    WaitsAgain {
        /// The job.
        job: JobId,
        /// Why.
        reason: String,
    },
    /// A batch job was asked for its slot.
    Preempted {
        /// The batch job.
        job: JobId,
        /// The interactive one that needs it.
        by: JobId,
    },
    /// An order was sent again.
    OrderedAgain {
        /// The job.
        job: JobId,
        /// To which host.
        node: NodeId,
    },
    /// A gateway is gone, and with it the callers of its chats.
    GatewayGone {
        /// The gateway.
        gateway: ReaderId,
        /// Chats that end.
        jobs: usize,
    },
    /// A job could not be stored, and was refused.
    NotStored {
        /// The job.
        job: JobId,
        /// What the store said.
        error: String,
    },
    /// A job has ended.
    Ended {
        /// The job.
        job: JobId,
        /// How.
        state: JobState,
        /// Its last attempt; 0 when it had none.
        attempt: u32,
        /// Why, when it failed.
        error: Option<ErrorCode>,
    },
    /// Everything is read: questions are answered from now on.
    InCharge {
        /// Jobs that had not ended.
        open: usize,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitsAgain { job, reason } => write!(f, "job {job} waits again: {reason}"),
            Self::Preempted { job, by } => write!(f, "job {job} gives its slot to job {by}"),
            Self::OrderedAgain { job, node } => {
                write!(f, "job {job} does not run on node {node}: ordered again")
            }
            Self::GatewayGone { jobs, .. } => write!(f, "a gateway is gone: its {jobs} chats end"),
            Self::NotStored { job, .. } => {
                write!(f, "job {job} could not be stored and was refused")
            }
            Self::Ended {
                job,
                error: Some(code),
                ..
            } => write!(f, "job {job} has failed with {code}"),
            Self::Ended { job, state, .. } => write!(f, "job {job} is {state}"),
            Self::InCharge { open } => write!(f, "in charge of {open} open jobs"),
        }
    }
}
