//! Which replicas may take a job, and what keeps the others from it.

use crate::Now;
use crate::state::{ClusterState, JobView, NodeView, ReplicaKey, ReplicaView};
use orchion_contract::job::{MAX_ATTEMPTS, Workload};
use orchion_contract::node::{Continuation, NodeState};
use orchion_contract::placement::{FilterName, PlacementMode, PlacementSpec};

/// One replica, looked at for one job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) key: &'a ReplicaKey,
    pub(crate) node: &'a NodeView,
    pub(crate) view: &'a ReplicaView,
    /// Slots in use, those that this plan has given away included.
    pub(crate) used: u32,
    /// Memory free for another request, in bytes, those of this plan left out.
    pub(crate) memory_left: u64,
}

impl<'a> Candidate<'a> {
    /// A replica as it stands in the state.
    pub(crate) fn of(state: &'a ClusterState, key: &'a ReplicaKey) -> Option<Self> {
        let (node, view) = state.replica(key)?;
        Some(Self {
            key,
            node,
            view,
            used: view.occupied(),
            memory_left: view.memory_left(),
        })
    }

    /// The same replica with every slot and byte free: whether it could ever take a job.
    pub(crate) fn emptied(self) -> Self {
        Self {
            used: 0,
            memory_left: u64::MAX,
            ..self
        }
    }
}

/// Every replica of the job's pool.
pub(crate) fn candidates<'a>(
    state: &'a ClusterState,
    job: &JobView,
) -> impl Iterator<Item = Candidate<'a>> {
    state
        .replicas_of(&job.record.model)
        .filter_map(|key| Candidate::of(state, key))
}

/// What keeps a job from a replica, whatever else there is; `None` when it
/// could go there now.
pub(crate) fn removed_by(
    state: &ClusterState,
    job: &JobView,
    candidate: &Candidate<'_>,
    now: Now,
) -> Option<FilterName> {
    let view = candidate.view;
    let by_caller = wishes(job).and_then(|wishes| forbidden_by(wishes, candidate));
    if by_caller.is_some() {
        return by_caller;
    }
    if candidate.node.state != NodeState::Online {
        return Some(FilterName::Offline);
    }
    if !view.replica.ready {
        return Some(FilterName::NotReady);
    }
    if !offers(view, job.record.workload) {
        return Some(FilterName::Workload);
    }
    let too_long = |ctx: u32| state.fewest_tokens(job) > u64::from(ctx);
    if view.replica.ctx.is_some_and(too_long) {
        return Some(FilterName::Context);
    }
    if view.memory_free == 0 && state.settings().pool(&job.record.model).gpu_only {
        return Some(FilterName::GpuOnly);
    }
    if state.memory_for(job, view) > candidate.memory_left {
        return Some(FilterName::Memory);
    }
    if candidate.used >= view.replica.slots {
        return Some(FilterName::NoFreeSlot);
    }
    // The last one: whom nothing else keeps away may do for want of others.
    let on_trial = view.breaker.is_on_trial(now) && candidate.used > 0;
    (on_trial || view.breaker.rests_until(now).is_some()).then_some(FilterName::Breaker)
}

/// Whether the job must go on behind its prefix: some replica could, though
/// perhaps not now. Who was denied an answer too often may start over.
pub(crate) fn is_tied(state: &ClusterState, job: &JobView, now: Now) -> bool {
    let could = |candidate: Candidate<'_>| {
        let candidate = candidate.emptied();
        removed_by(state, job, &candidate, now).is_none() && can_continue(job, candidate.view)
    };
    job.has_prefix && job.denials.count < MAX_ATTEMPTS && candidates(state, job).any(could)
}

/// Whether this replica does such work; one that names none does any.
pub(crate) fn offers(view: &ReplicaView, workload: Workload) -> bool {
    view.replica.workloads.is_empty() || view.replica.workloads.contains(&workload)
}

/// Whether this replica can go on behind what another one wrote.
pub(crate) fn can_continue(job: &JobView, view: &ReplicaView) -> bool {
    let before = job.record.prefix_by.as_ref().or(job
        .record
        .assigned
        .as_ref()
        .map(|before| &before.engine));
    let Some(old) = before else { return true };
    let new = &view.replica.engine;
    let same_weights = match (&old.digest, &new.digest) {
        (Some(old), Some(new)) => old == new,
        (None, None) => old.kind == new.kind,
        (Some(_), None) | (None, Some(_)) => false,
    };
    same_weights && goes_on(view)
}

/// Whether this replica can go on behind anything at all.
pub(crate) fn goes_on(view: &ReplicaView) -> bool {
    matches!(
        view.replica.continuation,
        Continuation::Text | Continuation::Ids
    )
}

/// Where the caller wants a job to run.
pub(crate) fn wishes(job: &JobView) -> Option<&PlacementSpec> {
    job.record.spec.as_ref()?.placement.as_deref()
}

/// Whether the caller prefers this candidate, or has no preference.
pub(crate) fn is_preferred(job: &JobView, candidate: &Candidate<'_>) -> bool {
    wishes(job).is_none_or(|wishes| {
        wishes.mode != PlacementMode::Prefer || names(&wishes.prefer_pools, candidate)
    })
}

/// Whether a preference may be passed over.
pub(crate) fn falls_back(job: &JobView) -> bool {
    wishes(job).is_some_and(|wishes| wishes.mode == PlacementMode::Prefer && wishes.allow_fallback)
}

/// Whether the caller named the only place.
pub(crate) fn is_pinned(job: &JobView) -> bool {
    wishes(job).is_some_and(|wishes| wishes.mode == PlacementMode::Pin)
}

fn forbidden_by(wishes: &PlacementSpec, candidate: &Candidate<'_>) -> Option<FilterName> {
    let pinned_here = || {
        let place = wishes.pin_pool_id.as_ref();
        place.is_some_and(|place| means(place, candidate))
    };
    if wishes.mode == PlacementMode::Pin && !pinned_here() {
        return Some(FilterName::Pin);
    }
    if names(&wishes.avoid_pools, candidate) {
        return Some(FilterName::Avoid);
    }
    let mask = wishes.require_device_mask.as_ref()?;
    (Some(mask) != device_mask(candidate.view).as_ref()).then_some(FilterName::DeviceMask)
}

/// Whether a caller's name for a place means this candidate: its pool, its
/// node by id or host, or `node/replica`.
pub(crate) fn means(name: &str, candidate: &Candidate<'_>) -> bool {
    let (node, replica) = candidate.key;
    let is_node = |name: &str| name == node.as_str() || name == candidate.node.hostname;
    let is_replica = |(node, rest): (&str, &str)| is_node(node) && rest == replica.as_str();
    name == candidate.view.replica.model.as_str()
        || is_node(name)
        || name.split_once('/').is_some_and(is_replica)
}

fn names(places: &[String], candidate: &Candidate<'_>) -> bool {
    places.iter().any(|place| means(place, candidate))
}

/// The devices of a replica as callers write them: `0,1`.
fn device_mask(view: &ReplicaView) -> Option<String> {
    let devices = view.replica.devices.as_ref()?;
    let devices: Vec<String> = devices.iter().map(u32::to_string).collect();
    Some(devices.join(","))
}

/// What a filter means, as a sentence about one candidate.
pub(crate) fn sentence(filter: FilterName) -> &'static str {
    match filter {
        FilterName::Pin => "the caller named another place as the only one",
        FilterName::Prefer => "the caller prefers other places",
        FilterName::Avoid => "the caller wants to avoid this place",
        FilterName::DeviceMask => "the devices are not the required ones",
        FilterName::Offline => "the node is not there",
        FilterName::NotReady => "the engine does not answer",
        FilterName::Workload => "the engine does not do such work",
        FilterName::Context => "the request is longer than the context",
        FilterName::Breaker => "the replica rests after failures in a row",
        FilterName::Continuation => "the engine cannot go on behind what another replica wrote",
        FilterName::FailedLast => "the last attempt failed there, and others are tried first",
        FilterName::GpuOnly => "there is no graphics memory",
        FilterName::Memory => "the free memory is too small for the request",
        FilterName::NoFreeSlot => "every slot is in use",
        FilterName::Unknown => "the replica was removed",
    }
}
