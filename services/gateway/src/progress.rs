//! Where an open job stands, as the scheduler tells it while it waits.

use std::io::Write;

use orchion_bus::{Bus, Subscription};
use orchion_contract::progress::Progress;
use orchion_contract::subjects::JOB_PROGRESS;
use orchion_contract::{JobId, ReaderId};

/// What is told of one job.
pub(crate) struct Watch(Subscription<(ReaderId, JobId), Progress>);

/// Listens to what is told of a job; `None` when that is not possible now, which
/// costs a caller some figures.
pub(crate) async fn watch(bus: &Bus, reader: &ReaderId, job: JobId) -> Option<Watch> {
    match bus.subscribe_to(JOB_PROGRESS, &(reader.clone(), job)).await {
        Ok(told) => Some(Watch(told)),
        Err(error) => {
            tracing::debug!(%error, job.id = %job, "nothing will be told of the progress of job {job}");
            None
        }
    }
}

/// Waits for the next word; for ever when nobody listens. May be dropped while it waits.
pub(crate) async fn next(watch: &mut Option<Watch>) -> Option<Progress> {
    let Some(listening) = watch else {
        return std::future::pending().await;
    };
    let told = listening.0.next().await;
    if told.is_none() {
        // The connection is closed for good.
        *watch = None;
    }
    told.map(|(_, progress)| progress)
}

/// The same as a comment, which clients of OpenAI's streams pass over.
pub(crate) fn comment(out: &mut Vec<u8>, progress: &Progress) {
    let Some(position) = progress.queue_position else {
        return;
    };
    // Writing to memory cannot fail.
    let _ = write!(out, ": queue_position={position}");
    if let Some(start_ms) = progress.predicted_start_ms {
        let _ = write!(out, " predicted_start_ms={start_ms}");
    }
    let _ = write!(out, " queue_depth={}\n\n", progress.queue_depth);
}
