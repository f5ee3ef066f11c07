//! Where a job stands in the queue, as headers of the answer to its caller.

use axum::http::{HeaderMap, HeaderName};
use orchion_contract::job::Admission;

const POSITION: HeaderName = HeaderName::from_static("x-orchion-queue-position");
const START: HeaderName = HeaderName::from_static("x-orchion-predicted-start-ms");
const BACKOFF: HeaderName = HeaderName::from_static("x-backoff-ms");

/// Says where the job stood when it was admitted; one that ended before anybody
/// could say so has never waited.
pub(crate) fn decorate(headers: &mut HeaderMap, admission: Option<&Admission>) {
    let position = admission.map_or(0, |at| at.queue_position);
    let start_ms = admission.map_or(Some(0), |at| at.predicted_start_ms);
    let backoff_ms = admission.map_or(0, |at| at.backoff_ms);
    headers.insert(POSITION, position.into());
    if let Some(start_ms) = start_ms {
        headers.insert(START, start_ms.into());
    }
    if backoff_ms > 0 {
        headers.insert(BACKOFF, backoff_ms.into());
    }
}
