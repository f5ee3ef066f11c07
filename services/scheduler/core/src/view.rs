//! Jobs as people and programs see them, and as they begin.

use orchion_contract::job::{Door, Job, JobState, JobSummary, Submit, Timeline};
use orchion_contract::{ErrorBody, ErrorCode, JobId, ReaderId, UnixMs};

/// A new record, waiting.
pub(crate) fn record(submit: Submit, queue_seq: u64, now: UnixMs) -> Job {
    let request_digest = submit.spec.digest();
    let gateway = depends_on(&submit).cloned();
    let spec = submit.spec.seeded(&submit.job);
    Job {
        id: submit.job,
        gateway,
        reader: submit.reader,
        door: submit.door,
        workload: spec.workload,
        model: spec.model.clone(),
        priority: spec.priority,
        deadline_at_ms: now + spec.deadline_ms,
        spec: Some(spec),
        request_digest,
        correlation_id: submit.correlation_id,
        state: JobState::Pending,
        queue_seq,
        attempt: 0,
        failures: 0,
        assigned: None,
        prefix_by: None,
        created_ms: now,
        end: None,
    }
}

/// The gateway without which nobody waits for the answer.
pub(crate) fn depends_on(submit: &Submit) -> Option<&ReaderId> {
    match submit.door {
        Door::Chat => submit.reader.gateway(),
        Door::Task => None,
    }
}

/// A record without its prompt; the agent may have it since `running_since`.
pub(crate) fn summary(
    job: &Job,
    running_since: Option<UnixMs>,
    queue_position: Option<u32>,
) -> JobSummary {
    let assigned = job.assigned.as_ref();
    JobSummary {
        id: job.id,
        reader: job.reader.clone(),
        door: job.door,
        workload: job.workload,
        model: job.model.clone(),
        priority: job.priority,
        state: running_since.map_or(job.state, |_| JobState::Running),
        queue_position,
        attempt: job.attempt,
        node: assigned.map(|assigned| assigned.node.clone()),
        created_ms: job.created_ms,
        assigned_ms: assigned.map(|assigned| assigned.at_ms),
        deadline_at_ms: job.deadline_at_ms,
        correlation_id: job.correlation_id.clone(),
        end: job.end.clone(),
        timeline: timeline(job, running_since),
        progress: None,
    }
}

fn timeline(job: &Job, running_since: Option<UnixMs>) -> Timeline {
    let end = job.end.as_ref();
    Timeline {
        queued_ms: Some(job.created_ms),
        assigned_ms: job.assigned.as_ref().map(|to| to.at_ms),
        started_ms: end.map_or(running_since, |end| end.times.started_ms),
        first_token_ms: end.and_then(|end| end.times.first_token_ms),
        ended_ms: end.map(|end| end.at_ms),
    }
}

pub(crate) fn unknown(id: &JobId) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::NotFound,
        format!("job {id} is not known, or ended more than 15 minutes ago"),
    )
}

/// The same id for another request.
pub(crate) fn taken(id: &JobId) -> ErrorBody {
    let message = format!("job {id} exists with another request: choose another id");
    ErrorBody::new(ErrorCode::Conflict, message).about("task_id")
}

/// What stands where the record was.
pub(crate) fn expired(id: &JobId) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Gone,
        format!("job {id} ended more than 15 minutes ago: its answer is not kept any more"),
    )
}
