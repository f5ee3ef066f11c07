//! Jobs: what is asked, where it stands, how it ended.

use crate::UnixMs;
use crate::error::ErrorBody;
use crate::id::{InstanceId, JobId, ModelName, NodeId, ReaderId, ReplicaId};
use crate::node::EngineRef;
use crate::placement::PlacementSpec;
use crate::progress::Progress;
use crate::stores::{BlobRef, hex};
use crate::transcript::{Continued, Times};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

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

/// What kind of work.
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
pub enum Workload {
    /// A conversation: `messages`.
    Chat,
    /// A text to go on with: `prompt`.
    Completion,
    /// Work from a newer version.
    #[serde(other)]
    Unknown,
}

/// Who goes first.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
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
pub enum Priority {
    /// A person waits.
    #[default]
    Interactive,
    /// Nobody waits.
    Batch,
}

/// Through which door a job came, and so who may go away without ending it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// An OpenAI route: the job ends when its caller or its gateway is gone.
    Chat,
    /// A task: it ends by itself.
    Task,
}

/// What to compute.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobSpec {
    /// What kind of work.
    pub workload: Workload,
    /// Which model.
    pub model: ModelName,
    /// The request in OpenAI's form, keys sorted, without `model`, `stream`,
    /// `stream_options`, `seed` and the token limits, which stand beside it.
    /// Empty (`{}`) when it lies in the object store.
    pub body: Box<RawValue>,
    /// Where the body lies when it is larger than [`MAX_BODY_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_ref: Option<BlobRef>,
    /// Most tokens to generate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Seed of the sampler; the scheduler draws one when the caller gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Whether the scheduler drew the seed: nobody was promised its answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub seed_drawn: bool,
    /// Who goes first.
    #[serde(default)]
    pub priority: Priority,
    /// From admission to end, in milliseconds.
    pub deadline_ms: u64,
    /// How long an engine may work on it, where that is less than the node allows.
    #[serde(default, skip_serializing_if = "Timeouts::is_none")]
    pub timeouts: Timeouts,
    /// Tokens that the caller expects; sharpens the prediction, limits nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_tokens: Option<u32>,
    /// Where it may run; anywhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Box<PlacementSpec>>,
    /// Whether the caller wants the answer at once, at its end: its pieces may
    /// then be gathered into fewer frames.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// How long an engine may take for an answer before it is given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Timeouts {
    /// For one attempt from its beginning to its end, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    /// Between two pieces, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Timeouts {
    /// Whether it limits nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl JobSpec {
    /// Digest of what is asked: equal requests have equal digests.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let fixed = (
            self.workload,
            &self.model,
            self.max_tokens,
            self.seed,
            self.priority,
            self.deadline_ms,
        );
        // A tuple of plain values always serializes.
        hash.update(serde_json::to_vec(&fixed).unwrap_or_default());
        if !self.timeouts.is_none() {
            hash.update(serde_json::to_vec(&self.timeouts).unwrap_or_default());
        }
        match &self.body_ref {
            Some(blob) => hash.update(blob.digest.as_bytes()),
            None => hash.update(self.body.get().as_bytes()),
        }
        // Only when given, so that digests of earlier versions stay what they are.
        if let Some(placement) = &self.placement {
            hash.update(serde_json::to_vec(placement).unwrap_or_default());
        }
        hex(&hash.finalize())
    }

    /// Length of the body, wherever it lies.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        let inline = self.body.get().len() as u64;
        self.body_ref.as_ref().map_or(inline, |blob| blob.bytes)
    }
}

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
    /// Milliseconds from now; 0 when it starts at once.
    pub predicted_start_ms: u64,
    /// How long to wait before asking for more.
    pub backoff_ms: u64,
    /// Whether the job had been admitted before.
    #[serde(default)]
    pub existed: bool,
}

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
    /// The agent of the last attempt took the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<UnixMs>,
    /// The engine said its first piece in the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<UnixMs>,
    /// It ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<UnixMs>,
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
    pub reason: String,
}

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

/// The scheduler tells an agent to run an attempt (`cmd.node.run.{node}`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunOrder {
    /// The job.
    pub job: JobId,
    /// Where its transcript is.
    pub reader: ReaderId,
    /// Which attempt.
    pub attempt: u32,
    /// The agent process meant: another one answers `wrong_instance`.
    pub instance: InstanceId,
    /// The replica to use.
    pub replica: ReplicaId,
    /// Epoch of the scheduler's lease.
    pub epoch: u64,
    /// What to compute, seed included.
    pub spec: JobSpec,
    /// The engine that wrote the prefix, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_by: Option<EngineRef>,
    /// Time left until the deadline, in milliseconds.
    pub remaining_ms: u64,
    /// Ties messages, logs and answers together.
    pub correlation_id: String,
}

/// The agent's answer to a [`RunOrder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum RunReply {
    /// It starts now.
    Accepted,
    /// It had started already.
    Running,
    /// It had ended already.
    Ended {
        /// How.
        end: Box<AttemptEnd>,
    },
    /// No slot is free; not a failure.
    Busy,
    /// A scheduler with a higher epoch has spoken.
    Stale {
        /// The higher epoch.
        epoch: u64,
    },
    /// The order was for another process of this node.
    WrongInstance {
        /// The process that answers.
        instance: InstanceId,
    },
    /// It cannot be done here: no such replica.
    Refused {
        /// Why.
        error: ErrorBody,
    },
}

/// The scheduler tells an agent to stop an attempt (`cmd.node.cancel.{node}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelOrder {
    /// The job.
    pub job: JobId,
    /// Which attempt; every attempt up to this one is stopped.
    pub attempt: u32,
    /// Epoch of the scheduler's lease.
    pub epoch: u64,
    /// Why. `Superseded` and `Preempted` stop without writing a final.
    pub reason: CancelReason,
}

/// The agent's answer to a [`CancelOrder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum CancelReply {
    /// The engine is free and the attempt has ended.
    Ended {
        /// How.
        end: Box<AttemptEnd>,
    },
    /// No such attempt is in this agent's hands.
    NotRunning,
    /// A scheduler with a higher epoch has spoken.
    Stale {
        /// The higher epoch.
        epoch: u64,
    },
}

/// How an attempt ended, as its agent tells it (`rpc.scheduler.ended`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// The job.
    pub job: JobId,
    /// Which attempt.
    pub attempt: u32,
    /// How.
    #[serde(flatten)]
    pub how: AttemptOutcome,
    /// Sequence of the last entry the attempt stored; 0 when it stored none.
    pub sequence: u64,
    /// Whether the attempt itself stored any piece.
    pub stored: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The final is in the transcript: the job has ended.
    Final {
        /// What the final says.
        end: Box<JobEnd>,
    },
    /// No final was written; another attempt may help.
    Failed {
        /// Why.
        error: ErrorBody,
    },
    /// Somebody else wrote into the transcript: this attempt is void.
    Superseded,
    /// It made room for somebody who waits; all it said is stored, and the job
    /// goes on behind it. No failure.
    Preempted,
}

/// Ends of attempts, repeated until answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndedBatch {
    /// The host.
    pub node: NodeId,
    /// The agent process.
    pub instance: InstanceId,
    /// What ended.
    pub ends: Vec<AttemptEnd>,
}
