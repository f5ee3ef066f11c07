//! The scheduler in charge: takes in what happened, asks the core, performs.
//!
//! Everything happens on one task; what takes time is an [`Effect`] that comes
//! back as [`Done`]. Writes of one job are serialized by its [`Ledger`].

use crate::config::Scheduler;
use crate::effects::{Done, Effect, Found, Hands};
use crate::gateways::Gateways;
use crate::view::{summary, unix_ms};
use anyhow::bail;
use futures_util::stream::FuturesUnordered;
use orchion_bus::{AppendError, Bus, Change, LeaseHandle, Question};
use orchion_contract::job::{
    Admission, CancelOrder, CancelReason, Job, JobEnd, JobEvent, JobState, JobSummary, Outcome,
    RunOrder, RunReply,
};
use orchion_contract::lease::{Lease, LeaseKey};
use orchion_contract::node::{Heartbeat, Node};
use orchion_contract::transcript::{Entry, Final, Mark};
use orchion_contract::{ErrorBody, ErrorCode, JobId, NodeId, ReaderId};
use orchion_scheduler_core::{
    Adopted, ClusterState, Durations, Ledger, Limits, Next, Now, Phase, Step, Write, adopt,
    after_end, after_reply, plan,
};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Ended jobs kept in memory; older ones are read from their records.
pub(crate) const REMEMBERED: usize = 10_000;
/// Longest time between two looks at what may be overdue.
const TICK: Duration = Duration::from_secs(1);
/// An agent ends a job at its deadline by itself; this much later we do.
const DEADLINE_SLACK: Duration = Duration::from_millis(500);

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

    // Taking over.

    /// An open job, as its record and its transcript tell.
    pub(crate) fn adopt(&mut self, mut job: Job, revision: u64, last: Option<&Entry>, now_ms: u64) {
        let (id, now) = (job.id, self.now());
        let adopted = adopt(&job, last, now_ms);
        let left = Duration::from_millis(job.deadline_at_ms.saturating_sub(now_ms));
        if let Adopted::Opened { attempt } = adopted {
            job.attempt = attempt;
            job.state = JobState::Pending;
        }
        if let Some(gateway) = &job.gateway {
            self.gateways.expect(gateway, Instant::now());
        }
        self.open.insert(
            id,
            Open {
                ledger: Ledger::new(revision),
                admissions: Vec::new(),
                cancelers: Vec::new(),
            },
        );
        self.state.insert(job, now + left, now);
        match adopted {
            Adopted::Ended(end) => self.end(&id, *end),
            Adopted::Opened { .. } => self.state.update(&id, |job| job.has_prefix = true),
            Adopted::AsRecorded { has_prefix } => {
                self.state.update(&id, |job| job.has_prefix |= has_prefix)
            }
        }
    }

    /// A job that ended a while ago.
    pub(crate) fn remember(&mut self, job: Job) {
        self.state.saw_queue_seq(job.queue_seq);
        self.ended_order.push_back(job.id);
        self.ended.insert(job.id, job);
        while self.ended_order.len() > REMEMBERED {
            if let Some(oldest) = self
                .ended_order
                .pop_front()
                .filter(|oldest| !self.open.contains_key(oldest))
            {
                self.ended.remove(&oldest);
            }
        }
    }

    /// Sends every order again: agents answer what they have, and learn our epoch.
    pub(crate) fn resume(&mut self) {
        let placed: Vec<JobId> = self
            .state
            .jobs()
            .filter(|job| job.phase == Phase::Ordered)
            .map(|job| job.record.id)
            .collect();
        for job in placed {
            self.order(&job);
        }
    }

    // What happened.

    pub(crate) fn node_changed(&mut self, change: Change<NodeId, Node>) {
        let now = self.now();
        match change {
            Change::Set { key, found } => match found.value {
                Some(node) => self.state.set_node(&node, now),
                None => self.state.remove_node(&key),
            },
            Change::Loaded => {}
        }
        self.must_plan = true;
    }

    pub(crate) fn lease_changed(&mut self, change: Change<LeaseKey, Lease>) {
        if let Change::Set {
            key: LeaseKey::Gateway(gateway),
            found,
        } = change
        {
            match found.value {
                Some(_) => self.gateways.lives(gateway),
                None => self.gateways.ended(gateway, Instant::now()),
            }
        }
    }

    pub(crate) fn heartbeat(&mut self, beat: &Heartbeat) {
        self.state.heartbeat(beat);
        self.must_plan = true;
        let now = self.now();
        let mine = |job: &orchion_scheduler_core::JobView, attempt: u32| {
            job.record.attempt == attempt
                && job
                    .record
                    .assigned
                    .as_ref()
                    .is_some_and(|to| to.node == beat.node && to.instance == beat.instance)
        };
        let mut running = BTreeSet::new();
        for attempt in &beat.running {
            match self.state.job(&attempt.job) {
                Some(job) if mine(job, attempt.attempt) => {
                    running.insert(attempt.job);
                    self.state.update(&attempt.job, mark_running);
                }
                Some(_) | None => self.drop_attempt(&beat.node, attempt.job, attempt.attempt),
            }
        }
        let patience = Duration::from_millis(beat.interval_ms.max(500)) * 2;
        let silent = |id: &&JobId| {
            let job = self.state.job(id);
            job.is_some_and(|job| {
                matches!(job.phase, Phase::Ordered | Phase::Running)
                    && mine(job, job.record.attempt)
                    && !running.contains(*id)
                    && now.saturating_sub(job.ordered_at) > patience
            })
        };
        let silent: Vec<JobId> = self
            .state
            .placed_on(&beat.node)
            .filter(silent)
            .copied()
            .collect();
        for job in silent {
            tracing::debug!(job.id = %job, node.id = %beat.node, "assigned and not running: ordered again");
            self.order(&job);
        }
    }

    pub(crate) fn tick(&mut self) {
        self.must_plan = true;
        for gateway in self
            .gateways
            .take_dead(Instant::now(), self.bus.connected_since())
        {
            self.gateway_is_dead(&gateway);
        }
    }

    fn gateway_is_dead(&mut self, gateway: &ReaderId) {
        let depends =
            |job: &&orchion_scheduler_core::JobView| job.record.gateway.as_ref() == Some(gateway);
        let jobs: Vec<JobId> = self
            .state
            .jobs()
            .filter(depends)
            .map(|job| job.record.id)
            .collect();
        if !jobs.is_empty() {
            tracing::warn!(gateway.id = %gateway, jobs = jobs.len(), "a gateway is gone: its {} chats end", jobs.len());
        }
        for job in jobs {
            self.stop(&job, CancelReason::GatewayLost);
        }
    }

    /// Something under way is done. An error means that we may not be in charge.
    pub(crate) fn done(&mut self, done: Done) -> anyhow::Result<()> {
        match done {
            Done::Written { job, result } => self.written(&job, result),
            Done::Read { job, found } => self.read(&job, found)?,
            Done::Replied {
                job,
                attempt,
                reply,
            } => self.replied(&job, attempt, reply),
            Done::Opened { job, attempt, end } => self.opened(&job, attempt, end),
            Done::Finalized { job, end } => self.end(&job, *end),
            Done::Canceled { job, end } => self.canceled(&job, end),
            Done::Told { job } => self.touch(&job),
            Done::Nothing => {}
        }
        Ok(())
    }

    fn written(&mut self, job: &JobId, result: Result<u64, AppendError>) {
        let Some(open) = self.open.get_mut(job) else {
            return;
        };
        match result {
            Ok(revision) => {
                open.ledger.written(revision);
                self.stored(job);
            }
            Err(error @ AppendError::Full { .. }) if !open.ledger.is_stored() => {
                self.not_admitted(job, &error)
            }
            Err(error) => {
                tracing::debug!(%error, job.id = %job, "a record may not be stored: reading it");
                open.ledger.unsure();
                self.touched.insert(*job);
            }
        }
    }

    fn read(&mut self, job: &JobId, found: Option<(u64, Found)>) -> anyhow::Result<()> {
        let Some(open) = self.open.get_mut(job) else {
            return Ok(());
        };
        if let Some((revision, Found::Marker)) = found {
            open.ledger.is_free(revision);
        } else {
            let known = found.map(|(revision, found)| (revision, found == Found::Ours));
            if !open.ledger.read(known) {
                bail!("the record of job {job} was written by somebody else");
            }
        }
        self.touched.insert(*job);
        self.stored(job);
        Ok(())
    }

    /// The record is stored as far as it goes.
    fn stored(&mut self, id: &JobId) {
        let now_ms = unix_ms();
        let Some(open) = self.open.get_mut(id) else {
            return;
        };
        if open.ledger.is_stored() && !open.admissions.is_empty() {
            let questions = std::mem::take(&mut open.admissions);
            if let Some(admission) = self.admission(id, now_ms) {
                for question in questions {
                    let admission = admission.clone();
                    self.under_way.push(Box::pin(async move {
                        question.answer(Ok(admission)).await;
                        Done::Nothing
                    }));
                }
            }
        }
        let Some(open) = self.open.get(id) else {
            return;
        };
        if !open.ledger.is_clean() {
            self.touched.insert(*id);
            return;
        }
        match self.state.job(id).map(|job| job.phase) {
            Some(Phase::Opening) => self.order(id),
            Some(Phase::Queued | Phase::Ordered | Phase::Running | Phase::Ending) => {}
            // The end is on record: nothing is open any more.
            None => {
                self.open.remove(id);
            }
        }
    }

    /// The store is full: nothing of the job may stay.
    fn not_admitted(&mut self, id: &JobId, error: &AppendError) {
        tracing::error!(%error, job.id = %id, "a job could not be stored and was refused");
        let assigned = self
            .state
            .remove(id)
            .and_then(|job| job.record.assigned.map(|to| (to, job.record.attempt)));
        if let Some((to, attempt)) = assigned {
            self.drop_attempt(&to.node, *id, attempt);
        }
        let message =
            "the job store takes nothing now: free disk space on the NATS host, then try again";
        let failure = ErrorBody::new(ErrorCode::PoolUnready, message);
        for question in self
            .open
            .remove(id)
            .into_iter()
            .flat_map(|open| open.admissions)
        {
            let failure = failure.clone();
            self.under_way.push(Box::pin(async move {
                question.answer(Err(failure)).await;
                Done::Nothing
            }));
        }
    }

    fn replied(
        &mut self,
        id: &JobId,
        attempt: u32,
        reply: Result<Option<RunReply>, orchion_bus::Error>,
    ) {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                // The heartbeat will tell whether it arrived.
                tracing::debug!(%error, job.id = %id, "an order was not answered");
                return;
            }
        };
        let now = self.now();
        let Some(job) = self.state.job(id) else {
            return;
        };
        if job.phase == Phase::Ending {
            return;
        }
        let next = after_reply(job, attempt, reply.as_ref(), now);
        self.follow(id, next, "its node did not take it");
    }

    fn opened(&mut self, id: &JobId, attempt: u32, end: Option<Box<JobEnd>>) {
        if let Some(end) = end {
            self.end(id, *end);
            return;
        }
        let current = self
            .state
            .job(id)
            .is_some_and(|job| job.record.attempt == attempt && job.phase == Phase::Opening);
        if current {
            self.touch(id);
        }
    }

    fn canceled(&mut self, id: &JobId, end: Option<Box<JobEnd>>) {
        match end {
            Some(end) => self.end(id, *end),
            None => {
                let reason = self
                    .state
                    .job(id)
                    .and_then(|job| job.stop_reason)
                    .unwrap_or(CancelReason::Client);
                self.finalize(id, reason);
            }
        }
    }

    /// How an attempt ended, as its agent tells.
    pub(crate) fn attempt_ended(&mut self, end: &orchion_contract::job::AttemptEnd) {
        let now = self.now();
        let Some(job) = self.state.job(&end.job) else {
            return;
        };
        if job.phase == Phase::Ending
            && !matches!(end.how, orchion_contract::job::AttemptOutcome::Final { .. })
        {
            return;
        }
        let next = after_end(job, end, now);
        let stored = end.stored;
        if stored {
            self.state.update(&end.job, |job| job.has_prefix = true);
        }
        self.follow(&end.job, next, "its attempt failed");
    }

    /// Does what follows for a job.
    fn follow(&mut self, id: &JobId, next: Next, reason: &str) {
        match next {
            Next::Nothing => {}
            Next::Running => self.state.update(id, mark_running),
            Next::Ended(end) => self.end(id, *end),
            Next::Outranked(epoch) => self.lease.outranked(epoch),
            Next::GiveUp(error) => self.fail(id, error),
            Next::Again {
                not_before,
                avoid,
                counts,
                failed,
                busy,
            } => {
                if let Some(replica) = avoid.as_ref().filter(|_| busy) {
                    self.state.is_busy(replica);
                }
                self.state.update(id, |job| {
                    job.not_before = not_before;
                    job.avoid = avoid;
                    job.tries += u32::from(failed);
                    job.record.failures += u32::from(counts);
                });
                if failed {
                    tracing::warn!(job.id = %id, "job {id} waits again: {reason}");
                }
                self.release(id, reason);
            }
        }
    }

    // What is done about it.

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

    fn release(&mut self, id: &JobId, reason: &str) {
        self.state.release(id);
        self.touch(id);
        self.tell_state(id, reason);
        self.must_plan = true;
    }

    /// Sends the order of the job's attempt.
    fn order(&mut self, id: &JobId) {
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

    fn drop_attempt(&mut self, node: &NodeId, job: JobId, attempt: u32) {
        let order = CancelOrder {
            job,
            attempt,
            epoch: self.epoch,
            reason: CancelReason::Superseded,
        };
        self.under_way
            .push(self.hands.drop_attempt(node.clone(), order));
    }

    /// Ends a job that somebody, or the clock, does not want any more.
    pub(crate) fn stop(&mut self, id: &JobId, reason: CancelReason) {
        let now = self.now();
        let Some(job) = self.state.job(id) else {
            return;
        };
        let attempt = job.record.attempt;
        let to = job.record.assigned.as_ref().map(|to| to.node.clone());
        match (job.phase, to) {
            (Phase::Ending, _) => {}
            (Phase::Ordered | Phase::Running, Some(_))
                if reason == CancelReason::Deadline && now < job.deadline + DEADLINE_SLACK =>
            {
                self.next_plan = Some(job.deadline + DEADLINE_SLACK);
            }
            (Phase::Ordered | Phase::Running, Some(node)) => {
                self.state.ending(id);
                self.state.update(id, |job| job.stop_reason = Some(reason));
                let order = CancelOrder {
                    job: *id,
                    attempt,
                    epoch: self.epoch,
                    reason,
                };
                self.under_way.push(self.hands.cancel(node, order));
            }
            (Phase::Queued | Phase::Opening | Phase::Ordered | Phase::Running, _) => {
                self.state.ending(id);
                self.finalize(id, reason);
            }
        }
    }

    fn finalize(&mut self, id: &JobId, reason: CancelReason) {
        let (outcome, error) = match reason {
            CancelReason::Deadline => {
                let message = "the deadline passed before the answer was complete: allow more time with deadline_ms";
                (
                    Outcome::Failed,
                    Some(ErrorBody::new(ErrorCode::DeadlineUnmet, message)),
                )
            }
            CancelReason::Client
            | CancelReason::Disconnect
            | CancelReason::GatewayLost
            | CancelReason::Superseded
            | CancelReason::Unknown => (Outcome::Canceled, None),
        };
        self.write_final(id, outcome, error);
    }

    fn fail(&mut self, id: &JobId, error: ErrorBody) {
        self.state.ending(id);
        self.write_final(id, Outcome::Failed, Some(error));
    }

    fn write_final(&mut self, id: &JobId, outcome: Outcome, error: Option<ErrorBody>) {
        let Some(job) = self.state.job(id) else {
            return;
        };
        let end = Final {
            attempt: job.record.attempt,
            outcome,
            finish_reason: None,
            usage: Default::default(),
            error,
            engine: job.record.assigned.as_ref().map(|to| to.engine.clone()),
            node: job.record.assigned.as_ref().map(|to| to.node.clone()),
            continued: None,
            times: Default::default(),
        };
        self.under_way
            .push(self.hands.finalize(job.record.reader.clone(), *id, end));
    }

    /// A job has ended: its slot is free, history is told, then the record.
    pub(crate) fn end(&mut self, id: &JobId, end: JobEnd) {
        let Some(job) = self.state.remove(id) else {
            return;
        };
        let mut record = job.record;
        if let Some(to) = &record.assigned {
            self.durations
                .observe(&record.model, end.at_ms.saturating_sub(to.at_ms));
        }
        record.state = end.outcome.state();
        record.end = Some(end);
        record.spec = None;
        let told = summary(&record, false, None);
        tracing::debug!(job.id = %id, job.state = %record.state, attempt = record.attempt, "job {id} is {}", record.state);
        self.under_way.push(self.hands.tell_end(told.clone()));
        self.under_way
            .push(self.hands.tell_state(event(&record, "it has ended")));
        self.remember(record);
        let cancelers = self
            .open
            .get_mut(id)
            .map(|open| std::mem::take(&mut open.cancelers))
            .unwrap_or_default();
        for question in cancelers {
            let told = told.clone();
            self.under_way.push(Box::pin(async move {
                question.answer(Ok(told)).await;
                Done::Nothing
            }));
        }
        self.must_plan = true;
    }

    pub(crate) fn touch(&mut self, id: &JobId) {
        if let Some(open) = self.open.get_mut(id) {
            open.ledger.touch();
            self.touched.insert(*id);
        }
    }

    fn write(&mut self, id: &JobId) {
        let record = match self.state.job(id) {
            Some(job) => Some(&job.record),
            None => self.ended.get(id),
        };
        let (Some(open), Some(record)) = (self.open.get_mut(id), record) else {
            return;
        };
        match open.ledger.next_write() {
            Some(Write::Set { expected }) => self
                .under_way
                .push(self.hands.write(record.clone(), expected)),
            Some(Write::Read) => self.under_way.push(self.hands.read(record.clone())),
            None => {}
        }
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

fn mark_running(job: &mut orchion_scheduler_core::JobView) {
    if job.phase == Phase::Ordered {
        job.phase = Phase::Running;
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
