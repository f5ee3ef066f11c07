//! What agents are told: to run an attempt, to make room, to drop what is void.

use super::Holder;
use crate::{Effect, Note, Phase};
use orchion_contract::job::{CancelOrder, CancelReason, RunOrder};
use orchion_contract::placement::DecisionOutcome;
use orchion_contract::progress::ProgressEvent;
use orchion_contract::transcript::Mark;
use orchion_contract::{JobId, NodeId};

impl Holder {
    pub(super) fn open_attempt(&mut self, id: &JobId, mark: Mark) {
        if let Some(job) = self.state.job(id) {
            let reader = job.record.reader.clone();
            self.effects.push_back(Effect::Open {
                reader,
                job: *id,
                mark,
            });
        }
    }

    /// Sends the order of the job's attempt.
    pub(super) fn order(&mut self, id: &JobId) {
        let (at, epoch) = (self.at, self.epoch);
        self.state.update(id, |job| {
            job.ordered_at = at.now;
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
            remaining_ms: record.deadline_at_ms.saturating_sub(at.unix_ms),
            correlation_id: record.correlation_id.clone(),
            granted_ms: None,
        };
        let node = to.node.clone();
        if let Some(open) = self.open.get_mut(id) {
            let before = if open.ordered.0 == order.attempt {
                open.ordered.1
            } else {
                0
            };
            open.ordered = (order.attempt, before + 1);
        }
        self.effects.push_back(Effect::Order {
            node,
            order: Box::new(order),
        });
    }

    pub(super) fn drop_attempt(&mut self, node: &NodeId, job: JobId, attempt: u32) {
        let order = CancelOrder {
            job,
            attempt,
            epoch: self.epoch,
            reason: CancelReason::Superseded,
        };
        let node = node.clone();
        self.effects.push_back(Effect::Drop { node, order });
    }

    /// Asks a running batch job for its slot: it goes on later behind what is stored.
    pub(super) fn preempt(&mut self, id: &JobId, by: &JobId) {
        let Some(job) = self.state.job(id) else {
            return;
        };
        let Some(node) = job.record.assigned.as_ref().map(|to| to.node.clone()) else {
            return;
        };
        let order = CancelOrder {
            job: *id,
            attempt: job.record.attempt,
            epoch: self.epoch,
            reason: CancelReason::Preempted,
        };
        self.decision(id, DecisionOutcome::Preempted);
        self.note(Note::Preempted { job: *id, by: *by });
        self.state.yielding(id);
        self.effects.push_back(Effect::Cancel { node, order });
    }

    /// A batch job has left its slot, or nobody says so in time.
    pub(super) fn yielded(&mut self, id: &JobId) {
        // Whatever it stored is its prefix; as long as nobody tells, it stored something.
        self.state.update(id, |job| job.has_prefix = true);
        let reason = "it gave its slot to an interactive job";
        self.release(id, reason, ProgressEvent::Preempted);
    }
}
