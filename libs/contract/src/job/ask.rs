//! What is asked about jobs, and of them.

use super::{JobState, JobSummary};
use crate::id::{JobId, ModelName, NodeId, ReaderId};
use serde::{Deserialize, Serialize};

/// Which jobs to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListJobs {
    /// Only jobs in this state.
    pub state: Option<JobState>,
    /// Only jobs of this node.
    pub node: Option<NodeId>,
    /// Only jobs of this model.
    pub model: Option<ModelName>,
    /// At most this many; 100 when absent, 1000 at most.
    pub limit: Option<u32>,
}

/// The answer to [`ListJobs`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobList {
    /// Newest first.
    pub jobs: Vec<JobSummary>,
}

/// A caller does not want a job any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelJob {
    /// The job.
    pub job: JobId,
    /// Why.
    pub reason: CancelReason,
}

/// Why a job is canceled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// Its caller said so.
    Client,
    /// Its caller hung up.
    Disconnect,
    /// Its deadline passed.
    Deadline,
    /// Its gateway is dead.
    GatewayLost,
    /// The attempt is not the one the scheduler wants.
    Superseded,
    /// Its slot is wanted for somebody who waits: the attempt ends without a
    /// final, and the job goes on later behind what is stored.
    Preempted,
    /// A reason from a newer version.
    #[serde(other)]
    Unknown,
}

/// A gateway takes over the reading of a job from another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowJob {
    /// The job.
    pub job: JobId,
    /// The gateway that reads it now.
    pub gateway: ReaderId,
}
