//! What waiting jobs are told: position and predicted start, while they wait.
//!
//! Neither rises from one message to the next unless the message names why.
//! While nothing waits, nothing is computed and nothing is sent.

use crate::Now;
use crate::forecast::{Forecast, forecast};
use crate::num::f64_of;
use crate::report::stuck_because;
use crate::state::{ClusterState, JobView};
use orchion_contract::job::JobState;
use orchion_contract::progress::{Progress, ProgressEvent};
use orchion_contract::{JobId, ModelName, ReaderId, UnixMs};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest time between two messages to a job that waits.
const PERIOD: Duration = Duration::from_secs(1);
/// Shortest time between two looks at a queue of usual size that changes.
const PACE: Duration = Duration::from_millis(100);
/// How long a forecast of usual size serves newcomers.
const FRESH: Duration = Duration::from_millis(100);
/// A predicted start that rises by less than this is not worth an event: what
/// was told before is told again.
const TOLERANCE: Duration = Duration::from_millis(500);

/// The queues as their jobs see them.
#[derive(Debug, Clone, Default)]
pub struct Outlook {
    pools: BTreeMap<ModelName, Pool>,
    told: BTreeMap<JobId, Told>,
    /// Queue changes that were told.
    seen: u64,
    /// When the queues were looked at last.
    looked_at: Option<Now>,
}

#[derive(Debug, Clone, Default)]
struct Pool {
    forecast: Forecast,
    made_at: Now,
    /// Slots when its jobs were told last.
    slots: u32,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    position: u32,
    start: Now,
    at: Now,
    /// Why it waits again, until that is said.
    event: Option<ProgressEvent>,
}

/// How a newcomer waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Queued jobs that go first.
    pub position: u32,
    /// Milliseconds from now; `None` while no replica could take it.
    pub start_ms: Option<u64>,
    /// Why no replica could take it, were all of them idle.
    pub reason: Option<String>,
}

impl Wait {
    const NONE: Self = Self {
        position: 0,
        start_ms: Some(0),
        reason: None,
    };
}

impl Outlook {
    /// The queue of a pool run forward, as new as newcomers need it.
    pub fn forecast(&mut self, state: &ClusterState, model: &ModelName, now: Now) -> &Forecast {
        let pool = self.pools.entry(model.clone()).or_default();
        let fresh = FRESH.saturating_mul(pool.forecast.weight());
        let stale = pool.made_at == Now::ZERO || now.saturating_sub(pool.made_at) > fresh;
        if stale {
            pool.forecast = forecast(state, model, now);
            pool.made_at = now;
        }
        &pool.forecast
    }

    /// Where a newcomer waits, and for how long. What is answered here counts as told.
    pub fn admitted(&mut self, state: &ClusterState, id: &JobId, now: Now) -> Wait {
        let Some((job, position)) = state.job(id).zip(state.position(id)) else {
            return Wait::NONE;
        };
        let reason = stuck_because(state, job, now);
        let model = job.record.model.clone();
        let start = self
            .forecast(state, &model, now)
            .start_at(position as usize);
        let told = Told {
            position,
            start: now + Duration::from_millis(start),
            at: now,
            event: None,
        };
        let told = *self.told.entry(*id).or_insert(told);
        Wait {
            position: told.position.min(position),
            start_ms: start_ms(told.start.saturating_sub(now), reason.as_deref()),
            reason,
        }
    }

    /// A job waits again; what it is told next says why.
    pub fn waits_again(&mut self, id: &JobId, event: ProgressEvent, now: Now) {
        let told = Told {
            position: 0,
            start: Now::ZERO,
            at: now,
            event: Some(event),
        };
        self.told.insert(*id, told);
    }

    /// A job waits no more: what its reader is told, when it had waited.
    pub fn starts(
        &mut self,
        state: &ClusterState,
        id: &JobId,
        unix_ms: UnixMs,
    ) -> Option<(ReaderId, Progress)> {
        self.told.remove(id)?;
        let job = state.job(id)?;
        let record = &job.record;
        let to = record.assigned.as_ref()?;
        let key = (to.node.clone(), to.replica.clone());
        let progress = Progress {
            job: *id,
            state: record.state,
            queue_position: None,
            queue_depth: depth(state, &record.model),
            predicted_start_ms: Some(0),
            on_time_probability: None,
            tokens_per_s: state.experience().tokens_per_s(&record.model, &key),
            event: None,
            reason: None,
            at_ms: unix_ms,
        };
        Some((record.reader.clone(), progress))
    }

    /// What can be said of an open job now. Of one that waits it repeats what
    /// was told last: whoever asks hears the same as whoever listens.
    #[must_use]
    pub fn of(
        &self,
        state: &ClusterState,
        id: &JobId,
        now: Now,
        unix_ms: UnixMs,
    ) -> Option<Progress> {
        let job = state.job(id)?;
        let record = &job.record;
        let position = state.position(id);
        let wait = position.map_or(Duration::ZERO, |position| {
            let told = self.told.get(id).filter(|told| told.event.is_none());
            let told = told.map(|told| told.start.saturating_sub(now));
            let pool = self.pools.get(&record.model);
            let start = |pool: &Pool| pool.forecast.start_at(position as usize);
            told.or_else(|| Some(Duration::from_millis(start(pool?))))
                .unwrap_or_default()
        });
        let runs_at = record.assigned.as_ref().filter(|_| position.is_none());
        let runs_at = runs_at.map(|to| (to.node.clone(), to.replica.clone()));
        let reason = position.and_then(|_| stuck_because(state, job, now));
        Some(Progress {
            job: *id,
            state: record.state,
            queue_position: position,
            queue_depth: depth(state, &record.model),
            predicted_start_ms: start_ms(wait, reason.as_deref()),
            on_time_probability: on_time(state, job, position.unwrap_or_default(), wait, now)
                .filter(|_| reason.is_none()),
            tokens_per_s: runs_at
                .and_then(|key| state.experience().tokens_per_s(&record.model, &key)),
            event: None,
            reason,
            at_ms: unix_ms,
        })
    }

    /// A job is gone.
    pub fn forget(&mut self, id: &JobId) {
        self.told.remove(id);
    }

    /// Everything that must be said now.
    pub fn tell(
        &mut self,
        state: &ClusterState,
        now: Now,
        unix_ms: UnixMs,
    ) -> Vec<(ReaderId, Progress)> {
        let mut said = Vec::new();
        if self.next_due(state).is_none_or(|due| due > now) {
            return said;
        }
        self.seen = state.queue_changes();
        self.looked_at = Some(now);
        self.pools.retain(|model, _| state.queue_length(model) > 0);
        for (model, _) in state.queues() {
            let mut pool = self.pools.remove(model).unwrap_or_default();
            pool.forecast = forecast(state, model, now);
            pool.made_at = now;
            let lost = pool.forecast.slots < pool.slots;
            for (place, (id, start)) in pool.forecast.starts.iter().enumerate() {
                let position = u32::try_from(place).unwrap_or(u32::MAX);
                let estimate = Estimate {
                    position,
                    start: now + Duration::from_millis(*start),
                    lost,
                    learnt: pool.forecast.learnt,
                };
                said.extend(self.say(state, id, &estimate, now, unix_ms));
            }
            pool.slots = pool.forecast.slots;
            self.pools.insert(model.clone(), pool);
        }
        said
    }

    /// When [`Outlook::tell`] has something to say; `None` while nothing waits.
    #[must_use]
    pub fn next_due(&self, state: &ClusterState) -> Option<Now> {
        if !state.has_waiting() {
            return None;
        }
        let wait = if self.seen == state.queue_changes() {
            PERIOD
        } else {
            let weights = self.pools.values().map(|pool| pool.forecast.weight());
            PACE.saturating_mul(weights.max().unwrap_or(1)).min(PERIOD)
        };
        Some(self.looked_at.map_or(Now::ZERO, |at| at + wait))
    }

    fn say(
        &mut self,
        state: &ClusterState,
        id: &JobId,
        estimate: &Estimate,
        now: Now,
        unix_ms: UnixMs,
    ) -> Option<(ReaderId, Progress)> {
        let job = state.job(id)?;
        let before = self.told.get(id).copied();
        let moved = before.is_none_or(|told| told.position != estimate.position);
        let due = before.is_none_or(|told| now.saturating_sub(told.at) >= PERIOD - PACE);
        let again = before.is_some_and(|told| told.event.is_some());
        if !(moved || due || again) {
            return None;
        }
        let reason = stuck_because(state, job, now);
        let (start, event) = match before {
            None => (estimate.start, None),
            // No start is told now: a rise is named once one is.
            Some(told) if reason.is_some() => (told.start, estimate.moved(&told)),
            Some(told) => estimate.after(&told, now),
        };
        let told = Told {
            position: estimate.position,
            start,
            at: now,
            event: None,
        };
        self.told.insert(*id, told);
        let wait = start.saturating_sub(now);
        let progress = Progress {
            job: *id,
            state: JobState::Pending,
            queue_position: Some(estimate.position),
            queue_depth: depth(state, &job.record.model),
            predicted_start_ms: start_ms(wait, reason.as_deref()),
            on_time_probability: on_time(state, job, estimate.position, wait, now)
                .filter(|_| reason.is_none()),
            tokens_per_s: None,
            event,
            reason,
            at_ms: unix_ms,
        };
        Some((job.record.reader.clone(), progress))
    }
}

/// What is to be told.
struct Estimate {
    position: u32,
    start: Now,
    /// Whether the pool has fewer slots than when it was told last.
    lost: bool,
    learnt: bool,
}

impl Estimate {
    /// Why the job is further from its start by its position, or back in the queue.
    fn moved(&self, told: &Told) -> Option<ProgressEvent> {
        let is_overtaken = self.position > told.position;
        told.event
            .or(is_overtaken.then_some(ProgressEvent::Overtaken))
    }

    /// The start to tell after what was told, and what let it rise.
    fn after(&self, told: &Told, now: Now) -> (Now, Option<ProgressEvent>) {
        if told.event.is_some() {
            return (self.start, told.event);
        }
        if let Some(event) = self.moved(told) {
            return (self.start.max(told.start), Some(event));
        }
        if self.start <= told.start {
            return (self.start, None);
        }
        // For who waits long a tenth of the wait is no news.
        let wait = told.start.saturating_sub(now);
        // A guess that is made again is no news either, until its time has come.
        let guessed_again = !self.learnt && !self.lost && wait > Duration::ZERO;
        if guessed_again || self.start - told.start <= TOLERANCE.max(wait / 10) {
            return (told.start, None);
        }
        let event = if self.lost {
            ProgressEvent::CapacityLost
        } else {
            ProgressEvent::EstimateRevised
        };
        (self.start, Some(event))
    }
}

/// How likely an open job is to end before its deadline, 0 to 1.
fn on_time(
    state: &ClusterState,
    job: &JobView,
    position: u32,
    wait: Duration,
    now: Now,
) -> Option<f64> {
    let model = &job.record.model;
    let experience = state.experience();
    let work = experience.usual_ms(model)?;
    let off = experience
        .deviation_ms(model)
        .unwrap_or(work / 2.0)
        .max(1.0);
    let left = f64_of(millis(job.deadline.saturating_sub(now)));
    let slack = left - f64_of(millis(wait)) - work;
    let spread = off * (f64::from(position) + 1.0).sqrt();
    Some(1.0 / (1.0 + (-slack / spread).exp()))
}

/// What is told of a start: nothing while the job cannot start at all.
fn start_ms(wait: Duration, stuck: Option<&str>) -> Option<u64> {
    stuck.is_none().then(|| millis(wait))
}

fn depth(state: &ClusterState, model: &ModelName) -> u32 {
    u32::try_from(state.queue_length(model)).unwrap_or(u32::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
