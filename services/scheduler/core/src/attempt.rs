//! What follows from the end of an attempt, or from an agent's refusal.

use crate::Now;
use crate::doubt::is_denial;
use crate::state::{JobView, Phase, ReplicaKey};
use orchion_contract::job::{AttemptEnd, AttemptOutcome, JobEnd, MAX_ATTEMPTS, RunReply};
use orchion_contract::{ErrorBody, ErrorCode};
use std::time::Duration;

/// Failures in a row that stored nothing before a job fails.
const MAX_TRIES: u32 = 12;
/// Pause before a replica that gave no answer is asked once more, doubled with
/// each one. Others are asked at once.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What to do with a job now.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Nothing: the news is of another attempt, or it is known.
    Nothing,
    /// Its agent has it.
    Running {
        /// Since now; else since before, and nobody has said since when.
        anew: bool,
    },
    /// It has ended.
    Ended(Box<JobEnd>),
    /// It waits again.
    Again {
        /// Not before this time, unless a replica is there that need not be avoided.
        not_before: Now,
        /// The replica to avoid; `None` to wait in any case.
        avoid: Option<ReplicaKey>,
        /// Whether the attempt counts against the limit.
        counts: bool,
        /// Whether it is a failure at all.
        failed: bool,
        /// The replica has no slot until it reports again.
        busy: bool,
        /// What its engine, which lives, had instead of an answer.
        denial: Option<Box<ErrorBody>>,
    },
    /// It has failed for good.
    GiveUp(ErrorBody),
    /// Somebody holds a lease with this higher epoch.
    Outranked(u64),
}

/// An agent tells how an attempt ended.
#[must_use]
pub fn after_end(job: &JobView, end: &AttemptEnd, now: Now) -> Next {
    if end.attempt != job.record.attempt {
        return match &end.how {
            // Whichever final is in the transcript is the answer.
            AttemptOutcome::Final { end } => Next::Ended(end.clone()),
            AttemptOutcome::Failed { .. }
            | AttemptOutcome::Superseded
            | AttemptOutcome::Preempted => Next::Nothing,
        };
    }
    match &end.how {
        AttemptOutcome::Final { end } => Next::Ended(end.clone()),
        // It is known: ends are told until they are answered, and in replies, too.
        AttemptOutcome::Failed { .. } | AttemptOutcome::Superseded | AttemptOutcome::Preempted
            if !is_out(job) =>
        {
            Next::Nothing
        }
        AttemptOutcome::Failed { error } => failed(job, error, end.stored, now),
        AttemptOutcome::Superseded | AttemptOutcome::Preempted => {
            again(job, now, false, false, false)
        }
    }
}

/// An agent answers an order; `None` when nobody answers its subject.
#[must_use]
pub fn after_reply(
    job: &JobView,
    attempt: u32,
    reply: Option<&RunReply>,
    epoch: u64,
    now: Now,
) -> Next {
    if attempt != job.record.attempt {
        return match reply {
            Some(RunReply::Stale { epoch: higher }) if *higher > epoch => Next::Outranked(*higher),
            Some(_) | None => Next::Nothing,
        };
    }
    match reply {
        Some(RunReply::Accepted) => Next::Running { anew: true },
        Some(RunReply::Running) => Next::Running { anew: false },
        Some(RunReply::Ended { end }) => after_end(job, end, now),
        Some(RunReply::Stale { epoch: higher }) if *higher > epoch => Next::Outranked(*higher),
        // What it answers to was taken back meanwhile.
        Some(
            RunReply::Busy
            | RunReply::WrongInstance { .. }
            | RunReply::Refused { .. }
            | RunReply::Stale { .. },
        )
        | None
            if !is_out(job) =>
        {
            Next::Nothing
        }
        Some(RunReply::Busy) => again(job, now, false, false, true),
        // A gateway has sent it under a grant of the scheduler before us.
        Some(RunReply::Stale { .. } | RunReply::WrongInstance { .. }) => {
            again(job, now, false, false, false)
        }
        None => nobody(now),
        Some(RunReply::Refused { error }) => failed(job, error, false, now),
    }
}

/// Whether its last attempt is in the hands of an agent, as far as we know.
fn is_out(job: &JobView) -> bool {
    match job.phase {
        Phase::Ordered | Phase::Running | Phase::Yielding => true,
        Phase::Queued | Phase::Opening | Phase::Ending => false,
    }
}

fn failed(job: &JobView, error: &ErrorBody, stored: bool, now: Now) -> Next {
    let failures = job.record.failures + u32::from(stored);
    if !error.is_retriable() {
        return Next::GiveUp(error.clone());
    }
    if !stored && is_denial(error) {
        return denied(job, error, now);
    }
    if failures >= MAX_ATTEMPTS || job.tries + 1 >= MAX_TRIES {
        return Next::GiveUp(exhausted(job, error));
    }
    again(job, now, stored, true, false)
}

/// No replica is left; the last one said this.
pub(crate) fn exhausted(job: &JobView, last: &ErrorBody) -> ErrorBody {
    let message = format!(
        "no replica is left after {} attempts; the last one said: {}",
        job.record.attempt, last.message
    );
    // A caller who waited for silent engines is told so.
    let code = match last.code == ErrorCode::DecodeTimeout {
        true => ErrorCode::DecodeTimeout,
        false => ErrorCode::ReplicaExhausted,
    };
    ErrorBody {
        engine: last.engine.clone(),
        engine_status: last.engine_status,
        ..ErrorBody::new(code, message)
    }
}

/// Its engine lives and fails. Whether another one is left to ask is for the
/// plan to see.
fn denied(job: &JobView, error: &ErrorBody, now: Now) -> Next {
    Next::Again {
        not_before: now + FIRST_PAUSE * (1 << job.denials.count.min(2)),
        avoid: place(job),
        counts: false,
        failed: true,
        busy: false,
        denial: Some(Box::new(error.clone())),
    }
}

fn place(job: &JobView) -> Option<ReplicaKey> {
    let assigned = job.record.assigned.as_ref()?;
    Some((assigned.node.clone(), assigned.replica.clone()))
}

fn again(job: &JobView, now: Now, counts: bool, failed: bool, busy: bool) -> Next {
    let wait = if busy {
        Duration::from_millis(20)
    } else {
        backoff(job.tries)
    };
    Next::Again {
        not_before: now + wait,
        avoid: place(job),
        counts,
        failed,
        busy,
        denial: None,
    }
}

/// Nobody listens there. Others may be as far away for the moment, as after a
/// restart of NATS, so it waits a little wherever it goes next.
fn nobody(now: Now) -> Next {
    Next::Again {
        not_before: now + Duration::from_millis(100),
        avoid: None,
        counts: false,
        failed: false,
        busy: false,
        denial: None,
    }
}

/// 100 ms, doubled with each failure in a row, 2 s at most.
fn backoff(tries: u32) -> Duration {
    Duration::from_millis(100 << tries.min(5)).min(Duration::from_secs(2))
}
