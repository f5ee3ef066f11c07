//! Whether the queue has room, and who goes when it has none.

use super::Ask;
use crate::policy::FullPolicy;
use orchion_contract::job::Priority;
use orchion_contract::{ErrorBody, ErrorCode, JobId};

/// Shortest and longest time that a refusal names, in milliseconds.
const SHORTEST_RETRY_MS: u64 = 100;
const LONGEST_RETRY_MS: u64 = 10 * 60 * 1000;

/// Room for one more; names the job that has to go for it.
pub(super) fn capacity(ask: &Ask<'_>) -> Result<Option<JobId>, ErrorBody> {
    if ask.has_slot() {
        return Ok(None);
    }
    let spec = &ask.submit.spec;
    let pool = ask.state.settings().pool(&spec.model);
    let queued = ask.state.queue_length(&spec.model);
    let limit = match is_shed(ask) {
        true => (pool.capacity * 9).div_ceil(10),
        false => pool.capacity,
    };
    if queued < limit {
        return Ok(None);
    }
    // Who came at the same time and finds a free slot does not wait.
    let waiting = queued.saturating_sub(ask.state.free_slots(&spec.model));
    if waiting < limit {
        return Ok(None);
    }
    match pool.full_policy {
        FullPolicy::Reject | FullPolicy::ShedLowPriority => {
            Err(full(ask, ErrorCode::AdmissionReject, waiting - limit))
        }
        FullPolicy::DropLru => match oldest(ask) {
            Some(job) => Ok(Some(job)),
            None => Err(full(ask, ErrorCode::QueueFullDropLru, waiting - limit)),
        },
    }
}

/// Whether the places that are left last are kept from jobs of this class.
fn is_shed(ask: &Ask<'_>) -> bool {
    let spec = &ask.submit.spec;
    let policy = ask.state.settings().pool(&spec.model).full_policy;
    policy == FullPolicy::ShedLowPriority && spec.priority == Priority::Batch
}

/// The oldest batch job, else the oldest job of the newcomer's own class; a
/// batch job never drives an interactive one out. What has begun stays: its
/// answer must not be lost.
fn oldest(ask: &Ask<'_>) -> Option<JobId> {
    let spec = &ask.submit.spec;
    let untouched = |class: Priority| {
        let jobs = ask.state.queue_of(&spec.model);
        let mut jobs = jobs
            .filter_map(|id| ask.state.job(id))
            .filter(move |job| job.record.priority == class && job.record.attempt == 0);
        jobs.next().map(|job| job.record.id)
    };
    match spec.priority {
        Priority::Batch => untouched(Priority::Batch),
        Priority::Interactive => {
            untouched(Priority::Batch).or_else(|| untouched(Priority::Interactive))
        }
    }
}

/// What the dropped job is told.
pub(crate) fn dropped(model: &orchion_contract::ModelName, retry_after_ms: u64) -> ErrorBody {
    let message = format!(
        "the queue of model '{model}' was full and a newer request took this place: ask again later"
    );
    ErrorBody {
        policy_label: Some(FullPolicy::DropLru.label().to_owned()),
        retry_after_ms: Some(retry_after_ms.clamp(SHORTEST_RETRY_MS, LONGEST_RETRY_MS)),
        ..ErrorBody::new(ErrorCode::QueueFullDropLru, message)
    }
}

/// `ahead` more jobs than one have to leave the queue first.
fn full(ask: &Ask<'_>, code: ErrorCode, ahead: usize) -> ErrorBody {
    let spec = &ask.submit.spec;
    let pool = ask.state.settings().pool(&spec.model);
    let leaves = ask
        .forecast
        .map_or(1000, |forecast| forecast.leaves_in(ahead));
    let refused = match is_shed(ask) {
        true => "the last tenth of its places is not for batch jobs",
        false => "more are not taken in",
    };
    let message = format!(
        "{} jobs wait for model '{}', {refused}: try again later",
        ask.state.queue_length(&spec.model),
        spec.model
    );
    ErrorBody {
        policy_label: Some(pool.full_policy.label().to_owned()),
        retry_after_ms: Some(leaves.clamp(SHORTEST_RETRY_MS, LONGEST_RETRY_MS)),
        ..ErrorBody::new(code, message)
    }
}
