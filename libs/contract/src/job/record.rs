//! A job as it is kept, and as history is told of it.

use super::{Door, JobSpec, JobState, JobSummary, Outcome, Priority, Usage, Workload};
use crate::UnixMs;
use crate::error::ErrorBody;
use crate::id::{InstanceId, JobId, ModelName, NodeId, ReaderId, ReplicaId};
use crate::node::EngineRef;
use crate::transcript::{Continued, Times};
use serde::{Deserialize, Serialize};

/// Who works on an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The host.
    pub node: NodeId,
    /// The agent process: another process is another attempt.
    pub instance: InstanceId,
    /// The replica.
    pub replica: ReplicaId,
    /// Its engine and weights.
    pub engine: EngineRef,
    /// When it was chosen.
    pub at_ms: UnixMs,
}

/// The record of a job (bucket `jobs`). Every write is a compare-and-set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The job.
    pub id: JobId,
    /// Where its transcript is.
    pub reader: ReaderId,
    /// Through which door it came.
    pub door: Door,
    /// The gateway whose life it depends on; `None` for tasks.
    #[serde(default)]
    pub gateway: Option<ReaderId>,
    /// What to compute; gone once it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<JobSpec>,
    /// What kind of work.
    pub workload: Workload,
    /// Which model.
    pub model: ModelName,
    /// Who goes first.
    #[serde(default)]
    pub priority: Priority,
    /// Digest of the request, also after the prompt is gone.
    pub request_digest: String,
    /// Ties messages, logs and answers together.
    pub correlation_id: String,
    /// Where it stands.
    pub state: JobState,
    /// Order in the queue; survives restarts.
    pub queue_seq: u64,
    /// The last attempt that was opened; 0 before the first.
    pub attempt: u32,
    /// Attempts that stored something and failed.
    #[serde(default)]
    pub failures: u32,
    /// Who works on the last attempt, or did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned: Option<Assignment>,
    /// The engine that wrote what stands in the transcript, for whoever continues it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_by: Option<EngineRef>,
    /// When it was admitted.
    pub created_ms: UnixMs,
    /// When it must have ended.
    pub deadline_at_ms: UnixMs,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<JobEnd>,
}

/// How a job ended, as kept in its record and in history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobEnd {
    /// How.
    pub outcome: Outcome,
    /// When, by the scheduler's clock.
    pub at_ms: UnixMs,
    /// Why the engine stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Tokens counted.
    #[serde(default)]
    pub usage: Usage,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
    /// How the answer went on after a cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued: Option<Continued>,
    /// When things happened in the last attempt, by its agent's clock.
    #[serde(default)]
    pub times: Times,
}

/// Jobs that ended, for history (stream `HISTORY`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndedJobs {
    /// The jobs, each with its end.
    pub jobs: Vec<JobSummary>,
}
