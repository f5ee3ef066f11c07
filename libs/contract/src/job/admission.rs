//! Asking for a job, and being promised it.

use super::{Door, JobSpec, JobState, Ordered};
use crate::id::{JobId, ReaderId};
use serde::{Deserialize, Serialize};

/// A door asks the scheduler to admit a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Submit {
    /// Made by the door, or named by the caller.
    pub job: JobId,
    /// Where the transcript will be read first.
    pub reader: ReaderId,
    /// Through which door it came.
    pub door: Door,
    /// What to compute.
    pub spec: JobSpec,
    /// Ties messages, logs and answers together.
    pub correlation_id: String,
    /// Its first attempt is on its way already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<Box<Ordered>>,
}

/// The job is stored and will be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The job.
    pub job: JobId,
    /// Where its transcript is; differs from the door's own token when the job existed.
    pub reader: ReaderId,
    /// Where it stands.
    pub state: JobState,
    /// Queued jobs that go first.
    pub queue_position: u32,
    /// Milliseconds from now; 0 when it starts at once, absent while nobody can say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_start_ms: Option<u64>,
    /// Why no replica could take it, were all of them idle; absent when one could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long to wait before asking for more.
    pub backoff_ms: u64,
    /// Whether the job had been admitted before.
    #[serde(default)]
    pub existed: bool,
}
