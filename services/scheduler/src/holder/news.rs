//! What happened: nodes, leases, heartbeats, time, and what was under way.

use super::Holder;
use crate::effects::Done;
use orchion_bus::{Change, Error};
use orchion_contract::job::{AttemptEnd, AttemptOutcome, CancelReason, JobEnd, RunReply};
use orchion_contract::lease::{Lease, LeaseKey};
use orchion_contract::node::{Heartbeat, Node};
use orchion_contract::{JobId, NodeId, ReaderId};
use orchion_scheduler_core::{JobView, Next, Phase, after_end, after_reply};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

impl Holder {
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
        let mine = |job: &JobView, attempt: u32| {
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

    pub(super) fn gateway_is_dead(&mut self, gateway: &ReaderId) {
        let depends = |job: &&JobView| job.record.gateway.as_ref() == Some(gateway);
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

    pub(super) fn replied(
        &mut self,
        id: &JobId,
        attempt: u32,
        reply: Result<Option<RunReply>, Error>,
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

    pub(super) fn opened(&mut self, id: &JobId, attempt: u32, end: Option<Box<JobEnd>>) {
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

    pub(super) fn canceled(&mut self, id: &JobId, end: Option<Box<JobEnd>>) {
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
    pub(crate) fn attempt_ended(&mut self, end: &AttemptEnd) {
        let now = self.now();
        let Some(job) = self.state.job(&end.job) else {
            return;
        };
        if job.phase == Phase::Ending && !matches!(end.how, AttemptOutcome::Final { .. }) {
            return;
        }
        let next = after_end(job, end, now);
        let stored = end.stored;
        if stored {
            self.state.update(&end.job, |job| job.has_prefix = true);
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

    /// Does what follows for a job.
    pub(super) fn follow(&mut self, id: &JobId, next: Next, reason: &str) {
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
}

fn mark_running(job: &mut JobView) {
    if job.phase == Phase::Ordered {
        job.phase = Phase::Running;
    }
}
