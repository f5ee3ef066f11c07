//! A job as people and programs see it.

use super::{Door, JobEnd, JobState, Priority, Workload};
use crate::UnixMs;
use crate::id::{JobId, ModelName, NodeId, ReaderId};
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A job as people and programs see it: without its prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobSummary {
    /// The job.
    pub id: JobId,
    /// Where its transcript is.
    pub reader: ReaderId,
    /// Through which door it came.
    pub door: Door,
    /// What kind of work.
    pub workload: Workload,
    /// Which model.
    pub model: ModelName,
    /// Who goes first.
    pub priority: Priority,
    /// Where it stands.
    pub state: JobState,
    /// Queued jobs that go first, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u32>,
    /// The last attempt; 0 before the first.
    pub attempt: u32,
    /// The node of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// When it was admitted.
    pub created_ms: UnixMs,
    /// When a node was chosen for the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_ms: Option<UnixMs>,
    /// When it must have ended.
    pub deadline_at_ms: UnixMs,
    /// Ties messages, logs and answers together.
    pub correlation_id: String,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<JobEnd>,
    /// When it reached each step.
    #[serde(default)]
    pub timeline: Timeline,
    /// What can be said of an open job's future.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// When a job reached each step of its life. Queued, assigned and ended are by
/// the scheduler's clock, started and first token by the agent's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Timeline {
    /// It was admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_ms: Option<UnixMs>,
    /// A node was chosen for the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assigned_ms: Option<UnixMs>,
    /// The agent of the last attempt took the order. While the job runs, this is
    /// when the scheduler learnt of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<UnixMs>,
    /// The engine said its first piece in the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<UnixMs>,
    /// It ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<UnixMs>,
}

/// Changes of jobs' states, in the order in which they were decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEvents {
    /// Each change of each job.
    pub changes: Vec<JobEvent>,
}

/// A change of a job's state, for whoever listens now; a job's whole life
/// stands in `HISTORY` when it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEvent {
    /// The job.
    pub job: JobId,
    /// Its state after the change.
    pub state: JobState,
    /// The attempt concerned.
    pub attempt: u32,
    /// The node concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// When the scheduler decided it.
    pub at_ms: UnixMs,
    /// Why, as a sentence.
    pub reason: Cow<'static, str>,
}
