//! Where a job stands, and how one ends.

use serde::{Deserialize, Serialize};

/// Where a job stands. Only forward; `assigned` may go back to `pending`
/// between two attempts.
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
pub enum JobState {
    /// It waits for a slot.
    Pending,
    /// A node has been chosen.
    Assigned,
    /// A node works on it (derived, never stored).
    Running,
    /// It has an answer.
    Completed,
    /// It has none.
    Failed,
    /// Its caller did not want it any more.
    Canceled,
    /// A state from a newer version.
    #[serde(other)]
    Unknown,
}

impl JobState {
    /// Whether nothing will happen any more.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }

    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With an answer.
    Completed,
    /// Without.
    Failed,
    /// Not wanted any more.
    Canceled,
}

impl Outcome {
    /// The state of a job that ended so.
    #[must_use]
    pub const fn state(self) -> JobState {
        match self {
            Self::Completed => JobState::Completed,
            Self::Failed => JobState::Failed,
            Self::Canceled => JobState::Canceled,
        }
    }
}

/// Tokens counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer, over all attempts.
    pub completion_tokens: u64,
    /// Prompt tokens that the engine had in its cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
}
