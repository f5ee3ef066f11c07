//! Taking over: what the transcript says goes before what the record says.

use orchion_contract::UnixMs;
use orchion_contract::job::{Job, JobEnd, JobState};
use orchion_contract::transcript::{Entry, Final};

/// What a job is, after its transcript was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Adopted {
    /// The record is right.
    AsRecorded {
        /// Whether an attempt has stored a piece.
        has_prefix: bool,
    },
    /// An attempt was opened that the record does not know; nobody runs it, or
    /// nobody may: it waits, and its next attempt is a later one.
    Opened {
        /// The attempt that was opened last.
        attempt: u32,
    },
    /// It has ended.
    Ended(Box<JobEnd>),
}

/// Compares the record of an open job with the last entry of its transcript.
#[must_use]
pub fn adopt(record: &Job, last: Option<&Entry>, now_ms: UnixMs) -> Adopted {
    match last {
        None => Adopted::AsRecorded { has_prefix: false },
        Some(Entry::Final(end)) => {
            // It ended while nobody was in charge, by the clock of its agent.
            let at_ms = end.times.ended_ms.unwrap_or(now_ms);
            let at_ms = at_ms.max(record.created_ms).min(now_ms);
            Adopted::Ended(Box::new(job_end(end, at_ms)))
        }
        Some(entry) if entry.attempt() > record.attempt => Adopted::Opened {
            attempt: entry.attempt(),
        },
        Some(Entry::Frame(_) | Entry::Restart(_)) => Adopted::AsRecorded { has_prefix: true },
        Some(Entry::Mark(_)) => Adopted::AsRecorded {
            has_prefix: record.state == JobState::Assigned || record.attempt > 1,
        },
    }
}

/// What a final says, as the record keeps it.
#[must_use]
pub fn job_end(end: &Final, at_ms: UnixMs) -> JobEnd {
    JobEnd {
        outcome: end.outcome,
        at_ms,
        finish_reason: end.finish_reason.clone(),
        usage: end.usage,
        error: end.error.clone(),
        continued: end.continued.clone(),
        times: end.times,
    }
}
