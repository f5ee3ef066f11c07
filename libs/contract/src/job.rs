//! Jobs: what is asked, where it stands, how it ended.

mod admission;
mod ask;
mod attempt;
mod grant;
mod record;
mod spec;
mod state;
mod summary;

pub use admission::{Admission, Submit};
pub use ask::{CancelJob, CancelReason, FollowJob, JobList, ListJobs};
pub use attempt::{
    AttemptEnd, AttemptOutcome, CancelOrder, CancelReply, EndedBatch, RunOrder, RunReply,
};
pub use grant::{
    Declined, GRANTED_HELD, GRANTED_TELLS_AFTER, Grant, Granted, Grants, ModelGrants, Ordered,
};
pub use record::{Assignment, EndedJobs, Job, JobEnd};
pub use spec::{Door, JobSpec, Priority, Timeouts, Workload};
pub use state::{JobState, Outcome, Usage};
pub use summary::{JobEvent, JobEvents, JobSummary, Timeline};

/// Largest request body that travels inside a message, in bytes.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
/// Longest time a job may take from admission to end, in milliseconds.
pub const MAX_DEADLINE_MS: u64 = 60 * 60 * 1000;
/// Deadline of a job that names none, in milliseconds.
pub const DEFAULT_DEADLINE_MS: u64 = 10 * 60 * 1000;
/// How long an ended job can still be asked for, in seconds.
pub const ENDED_RETENTION_S: u64 = 15 * 60;
/// Attempts that stored something before a job fails.
pub const MAX_ATTEMPTS: u32 = 3;
