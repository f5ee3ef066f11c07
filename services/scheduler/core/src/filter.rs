//! Which replicas may take a job, and what keeps the others from it.

use crate::plan::{can_continue, offers};
use crate::state::{ClusterState, JobView, NodeView, ReplicaKey, ReplicaView};
use orchion_contract::node::NodeState;
use orchion_contract::placement::{FilterName, PlacementMode, PlacementSpec};

/// One replica, looked at for one job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) key: &'a ReplicaKey,
    pub(crate) node: &'a NodeView,
    pub(crate) view: &'a ReplicaView,
    /// Slots in use, those that this plan has given away included.
    pub(crate) used: u32,
}

/// What keeps a job from a replica, whatever else there is; `None` when it could go there now.
pub(crate) fn removed_by(job: &JobView, candidate: &Candidate<'_>) -> Option<FilterName> {
    let spec = job
        .record
        .spec
        .as_ref()
        .and_then(|spec| spec.placement.as_deref());
    let replica = &candidate.view.replica;
    let checks = [
        (
            FilterName::Pin,
            spec.is_some_and(|spec| !is_pinned_to(spec, candidate)),
        ),
        (
            FilterName::Avoid,
            spec.is_some_and(|spec| names(&spec.avoid_pools, candidate)),
        ),
        (
            FilterName::DeviceMask,
            spec.is_some_and(|spec| !has_mask(spec, candidate)),
        ),
        (
            FilterName::Offline,
            candidate.node.state != NodeState::Online,
        ),
        (FilterName::NotReady, !replica.ready),
        (
            FilterName::Workload,
            !offers(candidate.view, job.record.workload),
        ),
        (FilterName::NoFreeSlot, candidate.used >= replica.slots),
    ];
    checks
        .into_iter()
        .find_map(|(filter, removes)| removes.then_some(filter))
}

/// What keeps a job from a replica because of the others: whether some replica
/// could continue its answer, or is preferred, is a question about all of them.
pub(crate) fn set_aside_by(job: &JobView, candidate: &Candidate<'_>) -> Option<FilterName> {
    if job.has_prefix && !can_continue(job, candidate.view) {
        return Some(FilterName::Continuation);
    }
    if !is_preferred(job, candidate) {
        return Some(FilterName::Prefer);
    }
    (job.avoid.as_ref() == Some(candidate.key)).then_some(FilterName::FailedLast)
}

/// Every replica of the job's pool.
pub(crate) fn candidates<'a>(
    state: &'a ClusterState,
    job: &JobView,
) -> impl Iterator<Item = Candidate<'a>> {
    state.replicas_of(&job.record.model).filter_map(|key| {
        let (node, view) = state.replica(key)?;
        let used = view.occupied();
        Some(Candidate {
            key,
            node,
            view,
            used,
        })
    })
}

/// Whether a caller's name for a place means this candidate: its pool, its
/// node, or `node/replica`.
fn means(name: &str, candidate: &Candidate<'_>) -> bool {
    let (node, replica) = candidate.key;
    name == candidate.view.replica.model.as_str()
        || name == node.as_str()
        || name
            .split_once('/')
            .is_some_and(|(host, rest)| host == node.as_str() && rest == replica.as_str())
}

fn names(places: &[String], candidate: &Candidate<'_>) -> bool {
    places.iter().any(|place| means(place, candidate))
}

fn is_pinned_to(spec: &PlacementSpec, candidate: &Candidate<'_>) -> bool {
    spec.mode != PlacementMode::Pin
        || spec
            .pin_pool_id
            .as_ref()
            .is_some_and(|place| means(place, candidate))
}

fn is_preferred(job: &JobView, candidate: &Candidate<'_>) -> bool {
    let spec = job
        .record
        .spec
        .as_ref()
        .and_then(|spec| spec.placement.as_deref());
    spec.is_none_or(|spec| {
        spec.mode != PlacementMode::Prefer || names(&spec.prefer_pools, candidate)
    })
}

fn has_mask(spec: &PlacementSpec, candidate: &Candidate<'_>) -> bool {
    spec.require_device_mask
        .as_ref()
        .is_none_or(|mask| Some(mask) == device_mask(candidate.view).as_ref())
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
        FilterName::Avoid => "the caller does not want this place",
        FilterName::DeviceMask => "its devices are not the required ones",
        FilterName::Offline => "its node is not there",
        FilterName::NotReady => "it takes no requests now",
        FilterName::Workload => "it does not do such work",
        FilterName::Context => "the request is longer than its context",
        FilterName::Breaker => "it rests after failures in a row",
        FilterName::Continuation => "it cannot go on behind what another replica wrote",
        FilterName::FailedLast => "the last attempt failed there, and others are tried first",
        FilterName::GpuOnly => "it has no graphics memory",
        FilterName::Memory => "its free memory is too small for the request",
        FilterName::NoFreeSlot => "every slot is in use",
        FilterName::Unknown => "it was removed",
    }
}
