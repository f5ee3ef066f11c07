//! Where an open job stands, told while it waits and as it starts.
//!
//! Not stored: losing one is harmless, the next one says it again.

use crate::UnixMs;
use crate::id::JobId;
use crate::job::JobState;
use serde::{Deserialize, Serialize};

/// Where an open job stands now.
///
/// Position and predicted start never rise from one message to the next unless
/// `event` names what happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Progress {
    /// The job.
    pub job: JobId,
    /// Where it stands.
    pub state: JobState,
    /// Queued jobs that go first, while it waits; 0 is next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u32>,
    /// Jobs that wait in its pool.
    #[serde(default)]
    pub queue_depth: u32,
    /// Milliseconds until it is expected to start; 0 once it has, absent while
    /// no replica could take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_start_ms: Option<u64>,
    /// How likely it is to end before its deadline, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_time_probability: Option<f64>,
    /// Tokens per second that its replica is known to generate for one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// Why position or predicted start rose, when they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<ProgressEvent>,
    /// Why no replica could take it, were all of them idle; absent when one could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was said, by the scheduler's clock.
    pub at_ms: UnixMs,
}

/// What lets a waiting job wait longer than it was told.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ProgressEvent {
    /// Jobs that go first came in: interactive ones, or earlier ones that wait again.
    Overtaken,
    /// Slots of its pool went away.
    CapacityLost,
    /// It was taken back from its node and waits again.
    Requeued,
    /// It gave its slot to an interactive job and goes on later.
    Preempted,
    /// The work ahead takes longer than experience said.
    EstimateRevised,
    /// Another scheduler took over and estimates anew.
    Takeover,
    /// An event from a newer version.
    #[serde(other)]
    Unknown,
}
