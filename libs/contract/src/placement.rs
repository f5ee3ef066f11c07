//! Where a job may run, and why it went where it went.

use crate::UnixMs;
use crate::id::{JobId, ModelName, NodeId, ReplicaId};
use crate::job::{JobState, JobSummary, Priority};
use crate::node::EngineKind;
use serde::{Deserialize, Serialize};

/// Most places that one job may name in each of its lists.
pub const MAX_PLACES: usize = 32;
/// Candidates that one decision lists; the rest is counted.
pub const MAX_VERDICTS: usize = 100;
/// Decisions that are kept of one job; older ones are forgotten first.
pub const MAX_DECISIONS: usize = 8;

/// Where a caller wants a job to run.
///
/// A place is the name of a pool (the model), of a node (its id or the name of its
/// host), or of one replica as `node/replica`. A name of which nothing is there keeps
/// nothing away, and counts as soon as something is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct PlacementSpec {
    /// How binding the places are.
    pub mode: PlacementMode,
    /// With mode `pin`: the only place, never another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin_pool_id: Option<String>,
    /// With mode `prefer`: these places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefer_pools: Vec<String>,
    /// Never these places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub avoid_pools: Vec<String>,
    /// Only replicas on exactly these devices, such as `0` or `0,1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_device_mask: Option<String>,
    /// Whether a preferred place that is full or gone may be passed over.
    pub allow_fallback: bool,
}

impl Default for PlacementSpec {
    fn default() -> Self {
        Self {
            mode: PlacementMode::Auto,
            pin_pool_id: None,
            prefer_pools: Vec::new(),
            avoid_pools: Vec::new(),
            require_device_mask: None,
            allow_fallback: true,
        }
    }
}

/// How binding a caller's places are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlacementMode {
    /// Anywhere.
    #[default]
    Auto,
    /// Only at one place, without a fallback.
    Pin,
    /// At some places, if they can.
    Prefer,
    /// A mode from a newer version.
    #[serde(other)]
    Unknown,
}

/// Why a job is where it is, or why it is nowhere yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Explanation {
    /// The job.
    pub job: JobId,
    /// Where it stands.
    pub state: JobState,
    /// The pool whose queue it entered: its model.
    pub pool: ModelName,
    /// Who goes first.
    pub priority: Priority,
    /// Queued jobs that go first, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u32>,
    /// Milliseconds until it is expected to start, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_start_ms: Option<u64>,
    /// The short answer, as a sentence.
    pub summary: String,
    /// What was decided, oldest first; for a waiting job the last one is how
    /// every candidate looks now.
    pub decisions: Vec<Decision>,
}

impl Explanation {
    /// Of a job of which only history is left: not of its decisions.
    #[must_use]
    pub fn of_past(job: &JobSummary) -> Self {
        let (state, attempts) = (job.state, job.attempt);
        let summary = match &job.node {
            Some(node) => format!(
                "it is {state} at attempt {attempts}, on node {node}; what was decided is not kept any more"
            ),
            None => format!("it is {state} and was never placed"),
        };
        Self {
            job: job.id,
            state,
            pool: job.model.clone(),
            priority: job.priority,
            queue_position: None,
            predicted_start_ms: None,
            summary,
            decisions: Vec::new(),
        }
    }
}

/// One decision about one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Decision {
    /// When, by the scheduler's clock; a granted one when its gateway sent the order.
    pub at_ms: UnixMs,
    /// The attempt that it opened; for a waiting job the last one.
    pub attempt: u32,
    /// What came of it.
    pub outcome: DecisionOutcome,
    /// The strategy that ordered the candidates.
    pub strategy: String,
    /// The chosen one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Place>,
    /// Replicas of the pool that were looked at.
    pub candidates_considered: u32,
    /// What removed candidates, in order.
    #[serde(default)]
    pub filters_applied: Vec<FilterCount>,
    /// What ordered those that were left, in order.
    #[serde(default)]
    pub tie_breakers_applied: Vec<String>,
    /// Whether the caller named the only place.
    #[serde(default)]
    pub pinned: bool,
    /// Whether a preference was passed over.
    #[serde(default)]
    pub fallback_used: bool,
    /// Why each candidate was or was not chosen, at most [`MAX_VERDICTS`].
    #[serde(default)]
    pub candidates: Vec<Verdict>,
}

/// What came of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionOutcome {
    /// A replica was chosen.
    Assigned,
    /// Its gateway has sent it to a slot that it was granted before.
    Granted,
    /// It waits: no replica can take it now.
    NoCapacity,
    /// It gave its slot to an interactive job and waits for another one.
    Preempted,
    /// It was taken back from its node.
    Released,
    /// An outcome from a newer version.
    #[serde(other)]
    Unknown,
}

/// One replica in the cluster.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
pub struct Place {
    /// The host.
    pub node: NodeId,
    /// The replica on it.
    pub replica: ReplicaId,
}

/// How many candidates a filter removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FilterCount {
    /// Which filter.
    pub filter: FilterName,
    /// How many candidates it removed.
    pub removed: u32,
}

/// What can remove a candidate, in the order in which it is asked.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FilterName {
    /// The caller's only place is another one.
    Pin,
    /// The caller prefers other places.
    Prefer,
    /// The caller does not want this place.
    Avoid,
    /// The replica's devices are not the required ones.
    DeviceMask,
    /// Its node is not there.
    Offline,
    /// It takes no requests now.
    NotReady,
    /// It does not do such work.
    Workload,
    /// The request is longer than its context.
    Context,
    /// It rests after failures.
    Breaker,
    /// It cannot go on behind what another replica wrote.
    Continuation,
    /// It failed last, and others are there.
    FailedLast,
    /// It has no graphics memory, and the pool wants some.
    GpuOnly,
    /// Its free memory is too small.
    Memory,
    /// Every slot is in use.
    NoFreeSlot,
    /// A filter from a newer version.
    #[serde(other)]
    Unknown,
}

/// Why one candidate was or was not chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Verdict {
    /// The candidate.
    pub place: Place,
    /// Its engine.
    pub engine: EngineKind,
    /// What removed it; absent when it could have taken the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_by: Option<FilterName>,
    /// The same as a sentence.
    pub reason: String,
    /// Slots in use.
    pub slots_used: u32,
    /// Slots in all.
    pub slots: u32,
    /// Memory free for another request, in bytes, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free_bytes: Option<u64>,
    /// Whether it is so slow that others go first.
    #[serde(default)]
    pub slow: bool,
}
