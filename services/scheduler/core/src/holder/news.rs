//! What happened: nodes, leases, heartbeats, time, and what was under way.

use super::{Holder, TICK};
use crate::{Denials, JobView, Next, Note, Phase, Reply, after_end, after_reply};
use orchion_contract::job::{AttemptEnd, AttemptOutcome, CancelReason, CancelReply, RunReply};
use orchion_contract::node::{Heartbeat, Node};
use orchion_contract::placement::DecisionOutcome;
use orchion_contract::progress::ProgressEvent;
use orchion_contract::transcript::Final;
use orchion_contract::{InstanceId, JobId, NodeId, ReaderId};
use std::collections::BTreeSet;
use std::time::Duration;

/// An order that may have been taken and that nobody heard now is repeated after this.
const UNHEARD: Duration = Duration::from_millis(200);

/// Whether an attempt that has got this answer to an order may have stored something:
/// it says so, or another process of its node may have had it before.
fn may_have_stored(reply: &RunReply, may_run: bool) -> bool {
    match reply {
        RunReply::Ended { end } => has_written(end),
        RunReply::WrongInstance { .. } | RunReply::Stale { .. } => may_run,
        RunReply::Accepted | RunReply::Running | RunReply::Busy | RunReply::Refused { .. } => false,
    }
}

/// Whether an attempt that has ended may have stored something. One that is void leaves
/// at once, and does not wait to hear whether what it had sent was stored.
fn has_written(end: &AttemptEnd) -> bool {
    end.stored || end.how == AttemptOutcome::Superseded
}

impl Holder {
    pub(super) fn node_changed(&mut self, id: &NodeId, node: Option<&Node>) {
        match node {
            Some(node) => self.state.set_node(node, self.at.now),
            None => self.state.remove_node(id),
        }
        self.must_plan = true;
    }

    pub(super) fn gateway_changed(&mut self, gateway: ReaderId, lives: bool) {
        if lives {
            self.gateways.lives(gateway);
        } else {
            self.gateways.ended(gateway, self.at.now);
        }
    }

    pub(super) fn heartbeat(&mut self, beat: &Heartbeat) {
        self.state.heartbeat(beat, self.at.now);
        self.must_plan = true;
        if self.is_in_charge() {
            self.compare_with_records(beat);
        }
    }

    /// What runs and is not assigned is stopped; what is assigned and does not
    /// run is ordered again.
    fn compare_with_records(&mut self, beat: &Heartbeat) {
        let now = self.at.now;
        let mine = |job: &JobView, attempt: u32| {
            job.record.attempt == attempt
                && job
                    .record
                    .assigned
                    .as_ref()
                    .is_some_and(|to| to.node == beat.node && to.instance == beat.instance)
        };
        let before = self.strangers.remove(&beat.node).unwrap_or_default();
        let mut strangers = BTreeSet::new();
        let mut running = BTreeSet::new();
        for attempt in &beat.running {
            match self.state.job(&attempt.job) {
                Some(job) if mine(job, attempt.attempt) => {
                    running.insert(attempt.job);
                    self.runs(&attempt.job, false);
                }
                Some(_) => self.drop_attempt(&beat.node, attempt.job, attempt.attempt),
                None if self.ended.contains_key(&attempt.job) || before.contains(attempt) => {
                    self.drop_attempt(&beat.node, attempt.job, attempt.attempt);
                }
                // Its gateway may be about to tell.
                None => {
                    strangers.insert(*attempt);
                }
            }
        }
        if !strangers.is_empty() {
            self.strangers.insert(beat.node.clone(), strangers);
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
            self.note(Note::OrderedAgain {
                job,
                node: beat.node.clone(),
            });
            self.order(&job);
        }
    }

    pub(super) fn time(&mut self, connected_for: Option<Duration>) {
        self.must_plan = true;
        while let Some((at, job)) = self.unheard.first().copied()
            && at <= self.at.now
        {
            self.unheard.pop_first();
            if self
                .state
                .job(&job)
                .is_some_and(|job| job.phase == Phase::Ordered)
            {
                self.order(&job);
            }
        }
        self.write_held();
        if self.at.now < self.next_look {
            return;
        }
        self.next_look = self.at.now + TICK;
        self.look_again();
        for gateway in self.gateways.take_dead(self.at.now, connected_for) {
            self.gateway_is_dead(gateway);
        }
    }

    fn gateway_is_dead(&mut self, gateway: ReaderId) {
        let depends = |job: &&JobView| job.record.gateway.as_ref() == Some(&gateway);
        let jobs: Vec<JobId> = self
            .state
            .jobs()
            .filter(depends)
            .map(|job| job.record.id)
            .collect();
        if !jobs.is_empty() {
            let jobs = jobs.len();
            self.note(Note::GatewayGone { gateway, jobs });
        }
        for job in jobs {
            self.stop(&job, CancelReason::GatewayLost);
        }
    }

    pub(super) fn replied(&mut self, id: &JobId, attempt: u32, reply: Reply) {
        // An order that went out before may have been taken: nobody listens for
        // a moment after a restart of NATS, too. Heartbeats and the registry tell.
        let Some(open) = self.open.get(id) else {
            self.answered_early(*id, reply);
            return;
        };
        let ordered = open.ordered;
        let may_run = ordered.0 == attempt && ordered.1 > 1;
        let reply = match reply {
            Reply::Said(reply) => Some(reply),
            Reply::Nobody if may_run => {
                self.unheard.insert((self.at.now + UNHEARD, *id));
                return;
            }
            Reply::Nobody => None,
            Reply::Silence => return,
        };
        let Some(job) = self.state.job(id) else {
            return;
        };
        if job.phase == Phase::Ending {
            return;
        }
        let next = after_reply(job, attempt, reply.as_ref(), self.epoch, self.at.now);
        if reply.is_some_and(|reply| may_have_stored(&reply, may_run)) {
            self.state.update(id, |job| job.has_prefix = true);
        }
        self.follow(id, next, "its node did not take it");
    }

    pub(super) fn opened(&mut self, id: &JobId, attempt: u32, end: Option<Box<Final>>) {
        if let Some(end) = end {
            self.end(id, crate::job_end(&end, self.at.unix_ms));
            return;
        }
        let current = self
            .state
            .job(id)
            .is_some_and(|job| job.record.attempt == attempt && job.phase == Phase::Opening);
        if current {
            if let Some(open) = self.open.get_mut(id) {
                open.marked = attempt;
            }
            self.touch(id);
        }
    }

    /// A mark of ours came too late. Where we have opened a later attempt
    /// ourselves that is as it should be.
    pub(super) fn overtaken(&mut self, id: JobId) {
        if self.waits_for_mark(&id) {
            self.is_void(id);
        }
    }

    pub(super) fn canceled(&mut self, id: &JobId, reply: Option<CancelReply>) {
        let phase = self.state.job(id).map(|job| job.phase);
        match (phase, reply) {
            (Some(Phase::Yielding), reply) => self.left(id, reply),
            (Some(Phase::Ending), reply) => self.stopped(id, reply),
            // It was taken back meanwhile; only an end of the job still counts.
            (Some(_), Some(CancelReply::Ended { end })) => self.attempt_ended(&end),
            (Some(_), Some(CancelReply::NotRunning | CancelReply::Stale { .. }) | None)
            | (None, _) => {}
        }
    }

    /// What became of a stop order.
    fn stopped(&mut self, id: &JobId, reply: Option<CancelReply>) {
        if let Some(CancelReply::Ended { end }) = reply
            && let AttemptOutcome::Final { end } = end.how
        {
            self.end(id, *end);
            return;
        }
        let job = self.state.job(id);
        let reason = job.and_then(|job| job.stop_reason);
        self.finalize(id, reason.unwrap_or(CancelReason::Client));
    }

    /// What became of asking a batch job for its slot.
    fn left(&mut self, id: &JobId, reply: Option<CancelReply>) {
        match reply {
            Some(CancelReply::Ended { end }) => self.attempt_ended(&end),
            Some(CancelReply::Stale { epoch }) => {
                self.effects.push_back(crate::Effect::Outranked(epoch));
            }
            Some(CancelReply::NotRunning) | None => self.yielded(id),
        }
    }

    /// An agent's process tells how an attempt ended. Whoever wrote a final ended
    /// the job; anything else counts from the process that has it: a scheduler that
    /// is gone may have given the same attempt to another one.
    pub(super) fn told_of_end(&mut self, end: &AttemptEnd, by: &InstanceId) {
        let assigned = self.state.job(&end.job);
        let assigned = assigned.and_then(|job| job.record.assigned.as_ref());
        let is_final = matches!(end.how, AttemptOutcome::Final { .. });
        if is_final || assigned.is_some_and(|to| to.instance == *by) {
            self.attempt_ended(end);
        }
    }

    /// How an attempt ended, as its agent tells.
    pub(super) fn attempt_ended(&mut self, end: &AttemptEnd) {
        let Some(job) = self.state.job(&end.job) else {
            return;
        };
        let is_final = matches!(end.how, AttemptOutcome::Final { .. });
        if matches!(job.phase, Phase::Ending | Phase::Queued) && !is_final {
            // It was taken back before; what it stored still counts.
            self.state
                .update(&end.job, |job| job.has_prefix |= has_written(end));
            return;
        }
        let left = job.phase == Phase::Yielding && job.record.attempt == end.attempt;
        let next = after_end(job, end, self.at.now);
        if has_written(end) {
            self.state.update(&end.job, |job| job.has_prefix = true);
        }
        if left && !matches!(end.how, AttemptOutcome::Final { .. }) {
            self.yielded(&end.job);
            return;
        }
        match &end.how {
            AttemptOutcome::Failed { error } => {
                let reason = format!("its attempt failed with {}", error.code);
                self.follow(&end.job, next, &reason);
            }
            AttemptOutcome::Superseded => self.follow(&end.job, next, "its attempt was void"),
            AttemptOutcome::Preempted => self.follow(&end.job, next, "it made room"),
            AttemptOutcome::Final { .. } => self.follow(&end.job, next, "it has ended"),
        }
    }

    /// Its agent has it. One that had it before has most likely taken the order
    /// as soon as it was placed.
    fn runs(&mut self, id: &JobId, anew: bool) {
        let job = self.state.job(id);
        let assigned = job.and_then(|job| job.record.assigned.as_ref());
        let started_ms = match assigned {
            Some(to) if !anew => to.at_ms,
            Some(_) | None => self.at.unix_ms,
        };
        if self.state.running(id, started_ms) {
            self.tell_state(id, "its node has taken it");
        }
    }

    /// Does what follows for a job.
    fn follow(&mut self, id: &JobId, next: Next, reason: &str) {
        match next {
            Next::Nothing => {}
            Next::Running { anew } => self.runs(id, anew),
            Next::Ended(end) => self.end(id, *end),
            Next::Outranked(epoch) => self.effects.push_back(crate::Effect::Outranked(epoch)),
            Next::GiveUp(error) => self.fail(id, error),
            Next::Again {
                not_before,
                avoid,
                counts,
                failed,
                busy,
                denial,
            } => {
                let lives = denial.is_some();
                if let Some(replica) = avoid.as_ref().filter(|_| busy) {
                    self.state.is_busy(replica);
                }
                if let Some(replica) = avoid.as_ref().filter(|_| failed) {
                    let ordered_at = self.state.job(id).map(|job| job.ordered_at);
                    let ordered_at = ordered_at.unwrap_or(self.at.now);
                    self.state
                        .attempt_failed(replica, ordered_at, self.at.now, lives);
                }
                self.state.update(id, |job| {
                    job.not_before = not_before;
                    if counts {
                        job.denials = Denials::default();
                    }
                    match denial {
                        Some(said) => job.denials.add(avoid.clone(), *said),
                        None => job.tries += u32::from(failed),
                    }
                    job.avoid = avoid;
                    job.record.failures += u32::from(counts);
                });
                if failed {
                    self.note(Note::WaitsAgain {
                        job: *id,
                        reason: reason.to_owned(),
                    });
                }
                self.decision(id, DecisionOutcome::Released);
                self.release(id, reason, ProgressEvent::Requeued);
            }
        }
    }
}
