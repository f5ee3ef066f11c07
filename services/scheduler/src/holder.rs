//! The scheduler in charge: takes in what happened, asks the core, performs.
//!
//! Everything happens on one task; what takes time is an [`Effect`] that comes
//! back as [`Done`]. Writes of one job are serialized by its [`Ledger`].

mod endings;
mod news;
mod records;
mod takeover;

use crate::config::Scheduler;
use crate::effects::{Effect, Hands};
use crate::gateways::Gateways;
use crate::view::unix_ms;
use futures_util::stream::FuturesUnordered;
use orchion_bus::{Bus, LeaseHandle, Question};
use orchion_contract::job::{
    Admission, CancelOrder, CancelReason, Job, JobEvent, JobSummary, RunOrder,
};
use orchion_contract::transcript::Mark;
use orchion_contract::{JobId, NodeId, ReaderId};
use orchion_scheduler_core::{ClusterState, Durations, Ledger, Limits, Now, Phase, Step, plan};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Ended jobs kept in memory; older ones are read from their records.
pub(crate) const REMEMBERED: usize = 10_000;
/// Longest time between two looks at what may be overdue.
const TICK: Duration = Duration::from_secs(1);

/// What hangs on a job beside its record.
pub(crate) struct Open {
    pub(crate) ledger: Ledger,
    /// Who waits for the admission to be stored.
    pub(crate) admissions: Vec<Question<(), (), Admission>>,
    /// Who waits for the end.
    pub(crate) cancelers: Vec<Question<(), (), JobSummary>>,
}

/// The scheduler in charge.
pub(crate) struct Holder {
    pub(crate) hands: Hands,
    bus: Bus,
    lease: LeaseHandle,
    epoch: u64,
    pub(crate) limits: Limits,
    start: Instant,
    pub(crate) state: ClusterState,
    pub(crate) open: HashMap<JobId, Open>,
    /// Records of jobs that ended: being written, or remembered.
    pub(crate) ended: HashMap<JobId, Job>,
    ended_order: VecDeque<JobId>,
    touched: BTreeSet<JobId>,
    pub(crate) under_way: FuturesUnordered<Effect>,
    durations: Durations,
    gateways: Gateways,
    next_plan: Option<Now>,
    must_plan: bool,
}

impl Holder {
    pub(crate) fn new(bus: &Bus, lease: &LeaseHandle, epoch: u64, settings: &Scheduler) -> Self {
        Self {
            hands: Hands::new(bus),
            bus: bus.clone(),
            lease: lease.clone(),
            epoch,
            limits: Limits {
                queue_capacity: settings.queue_capacity,
                gone_after: settings.gone_after.0,
            },
            start: Instant::now(),
            state: ClusterState::default(),
            open: HashMap::new(),
            ended: HashMap::new(),
            ended_order: VecDeque::new(),
            touched: BTreeSet::new(),
            under_way: FuturesUnordered::new(),
            durations: Durations::default(),
            gateways: Gateways::default(),
            next_plan: None,
            must_plan: true,
        }
    }

    pub(crate) fn now(&self) -> Now {
        // Never zero, so that "not before" and "never" differ.
        self.start.elapsed() + Duration::from_millis(1)
    }

    pub(crate) fn open_jobs(&self) -> usize {
        self.state.open_jobs()
    }

    /// When to look again though nothing happened.
    pub(crate) fn next_wake(&self) -> Instant {
        let soon = Instant::now() + TICK;
        self.next_plan
            .map_or(soon, |at| (self.start + at).min(soon))
    }

    /// Plans until nothing is left to do, then writes what has changed.
    pub(crate) fn decide(&mut self) -> anyhow::Result<()> {
        while std::mem::take(&mut self.must_plan) {
            let plan = plan(&self.state, self.now(), unix_ms());
            self.next_plan = plan.next;
            for step in plan.steps {
                self.must_plan = true;
                self.perform(step);
            }
        }
        for job in std::mem::take(&mut self.touched) {
            self.write(&job);
        }
        Ok(())
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Assign { job, assignment } => {
                let first = self
                    .state
                    .job(&job)
                    .is_some_and(|job| job.record.attempt == 0);
                let mark = Mark {
                    attempt: self.state.job(&job).map_or(1, |job| job.record.attempt + 1),
                    node: assignment.node.clone(),
                    instance: assignment.instance.clone(),
                };
                self.state.assign(
                    &job,
                    assignment,
                    if first {
                        Phase::Ordered
                    } else {
                        Phase::Opening
                    },
                );
                if first {
                    // The chain makes it safe to order before the record is stored.
                    self.touch(&job);
                    self.order(&job);
                } else {
                    let reader = self.state.job(&job).map(|job| job.record.reader.clone());
                    if let Some(reader) = reader {
                        self.under_way.push(self.hands.open(reader, job, mark));
                    }
                }
                self.tell_state(&job, "placed");
            }
            Step::Release { job, reason } => {
                // Nobody tells what it stored: as long as nobody does, it stored something.
                self.state.update(&job, |job| job.has_prefix = true);
                tracing::warn!(job.id = %job, "job {job} waits again: {reason}");
                self.release(&job, reason);
            }
            Step::Expire { job } => self.stop(&job, CancelReason::Deadline),
        }
    }

    pub(super) fn release(&mut self, id: &JobId, reason: &str) {
        self.state.release(id);
        self.touch(id);
        self.tell_state(id, reason);
        self.must_plan = true;
    }

    /// Sends the order of the job's attempt.
    pub(super) fn order(&mut self, id: &JobId) {
        let (now, epoch, now_ms) = (self.now(), self.epoch, unix_ms());
        self.state.update(id, |job| {
            job.ordered_at = now;
            if job.phase == Phase::Opening {
                job.phase = Phase::Ordered;
            }
        });
        let Some(job) = self.state.job(id) else {
            return;
        };
        let record = &job.record;
        let (Some(to), Some(spec)) = (record.assigned.as_ref(), record.spec.as_ref()) else {
            return;
        };
        let order = RunOrder {
            job: record.id,
            reader: record.reader.clone(),
            attempt: record.attempt,
            instance: to.instance.clone(),
            replica: to.replica.clone(),
            epoch,
            spec: spec.clone(),
            prefix_by: record.prefix_by.clone(),
            remaining_ms: record.deadline_at_ms.saturating_sub(now_ms),
            correlation_id: record.correlation_id.clone(),
        };
        let effect = self.hands.order(to.node.clone(), order);
        self.under_way.push(effect);
    }

    pub(super) fn drop_attempt(&mut self, node: &NodeId, job: JobId, attempt: u32) {
        let order = CancelOrder {
            job,
            attempt,
            epoch: self.epoch,
            reason: CancelReason::Superseded,
        };
        self.under_way
            .push(self.hands.drop_attempt(node.clone(), order));
    }

    fn tell_state(&mut self, id: &JobId, reason: &str) {
        if let Some(job) = self.state.job(id) {
            self.under_way
                .push(self.hands.tell_state(event(&job.record, reason)));
        }
    }

    /// Where an admitted job stands.
    pub(crate) fn admission(&self, id: &JobId, _now_ms: u64) -> Option<Admission> {
        if let Some(record) = self.ended.get(id) {
            return Some(Admission {
                job: *id,
                reader: record.reader.clone(),
                state: record.state,
                queue_position: 0,
                predicted_start_ms: 0,
                backoff_ms: 0,
                existed: true,
            });
        }
        let job = self.state.job(id)?;
        let position = self.state.position(id);
        let model = &job.record.model;
        let slots = self
            .state
            .replicas_of(model)
            .filter_map(|key| self.state.replica(key));
        let slots: u32 = slots.map(|(_, view)| view.replica.slots).sum();
        let predicted_start_ms = position.map_or(0, |position| {
            self.durations.until_start(model, position, slots)
        });
        let queued = self.state.queue_length(model);
        let crowded = queued * 5 > self.limits.queue_capacity * 4;
        Some(Admission {
            job: *id,
            reader: job.record.reader.clone(),
            state: job.record.state,
            queue_position: position.unwrap_or_default(),
            predicted_start_ms,
            backoff_ms: if crowded { predicted_start_ms } else { 0 },
            existed: false,
        })
    }

    pub(crate) fn gateway_expected(&mut self, gateway: &ReaderId) {
        self.gateways.expect(gateway, Instant::now());
    }

    pub(crate) fn plan_again(&mut self) {
        self.must_plan = true;
    }
}

fn event(record: &Job, reason: &str) -> JobEvent {
    JobEvent {
        job: record.id,
        state: record.state,
        attempt: record.attempt,
        node: record.assigned.as_ref().map(|to| to.node.clone()),
        at_ms: unix_ms(),
        reason: reason.to_owned(),
    }
}
