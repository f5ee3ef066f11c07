//! Where a job stands in the queue, as headers of the answer to its caller.

use axum::http::{HeaderMap, HeaderName};
use orchion_contract::job::Admission;

const POSITION: HeaderName = HeaderName::from_static("x-orchion-queue-position");
const START: HeaderName = HeaderName::from_static("x-orchion-predicted-start-ms");
const BACKOFF: HeaderName = HeaderName::from_static("x-backoff-ms");

/// Says where the job stood when it was admitted.
pub(crate) fn decorate(headers: &mut HeaderMap, admission: &Admission) {
    headers.insert(POSITION, admission.queue_position.into());
    headers.insert(START, admission.predicted_start_ms.into());
    if admission.backoff_ms > 0 {
        headers.insert(BACKOFF, admission.backoff_ms.into());
    }
}
