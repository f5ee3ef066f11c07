//! How far a replica is trusted with a job, after what went wrong before.

use crate::Now;
use crate::filter::{Candidate, removed_by};
use crate::state::{ClusterState, JobView, ReplicaKey};
use orchion_contract::ErrorBody;
use orchion_contract::placement::FilterName;
use std::collections::BTreeSet;

/// Engines that live and had a failure for an answer, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denials {
    /// Where.
    pub by: BTreeSet<ReplicaKey>,
    /// How many attempts it cost.
    pub count: u32,
    /// What the last one said.
    pub said: Option<ErrorBody>,
}

impl Denials {
    /// One more.
    pub fn add(&mut self, by: Option<ReplicaKey>, said: ErrorBody) {
        self.by.extend(by);
        self.count += 1;
        self.said = Some(said);
    }
}

/// Whether an engine that lives says no, and does not mean "later".
pub(crate) fn is_denial(error: &ErrorBody) -> bool {
    let is_later = |status: u16| matches!(status, 408 | 409 | 425 | 429 | 502..=504);
    error.engine_status.is_some_and(|status| !is_later(status))
}

/// How far a replica that could take a job now is trusted with it, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    /// Nothing speaks against it.
    None,
    /// The last attempt was there: others first.
    WasLast,
    /// It rests, though its engine lives: better than nothing.
    Rests,
    /// It denied this very job an answer.
    Denied,
}

/// How far a replica is trusted with a job.
///
/// # Errors
/// What keeps the job from it altogether.
pub(crate) fn doubt(
    state: &ClusterState,
    job: &JobView,
    candidate: &Candidate<'_>,
    now: Now,
) -> Result<Doubt, FilterName> {
    let rests = match removed_by(state, job, candidate, now) {
        None => false,
        Some(FilterName::Breaker) if candidate.view.breaker.is_of_the_living() => true,
        Some(filter) => return Err(filter),
    };
    if job.denials.by.contains(candidate.key) {
        return Ok(Doubt::Denied);
    }
    if rests {
        return Ok(Doubt::Rests);
    }
    Ok(match job.avoid.as_ref() == Some(candidate.key) {
        true => Doubt::WasLast,
        false => Doubt::None,
    })
}
