//! How jobs end: stopped, failed for good, or told by their agent.

use super::{EXPLAINED, Holder, event};
use crate::report::stuck_because;
use crate::view::summary;
use crate::{Demand, Effect, Lesson, Note, Now, Phase};
use orchion_contract::job::{Assignment, CancelOrder, CancelReason, JobEnd, Outcome};
use orchion_contract::transcript::Final;
use orchion_contract::{ErrorBody, ErrorCode, JobId, ModelName};

impl Holder {
    /// Ends a job that somebody, or the clock, does not want any more.
    pub(super) fn stop(&mut self, id: &JobId, reason: CancelReason) {
        let Some(job) = self.state.job(id) else {
            return;
        };
        let attempt = job.record.attempt;
        let to = job.record.assigned.as_ref().map(|to| to.node.clone());
        match (job.phase, to) {
            (Phase::Ending, _) => {}
            (Phase::Ordered | Phase::Running | Phase::Yielding, Some(node)) => {
                self.state.ending(id);
                self.state.update(id, |job| job.stop_reason = Some(reason));
                let order = CancelOrder {
                    job: *id,
                    attempt,
                    epoch: self.epoch,
                    reason,
                };
                self.effects.push_back(Effect::Cancel { node, order });
            }
            (
                Phase::Queued | Phase::Opening | Phase::Ordered | Phase::Running | Phase::Yielding,
                _,
            ) => {
                self.state.ending(id);
                self.finalize(id, reason);
            }
        }
    }

    pub(super) fn finalize(&mut self, id: &JobId, reason: CancelReason) {
        let (outcome, error) = match reason {
            CancelReason::Deadline => {
                let stuck = self
                    .state
                    .job(id)
                    .filter(|job| job.record.attempt == 0)
                    .and_then(|job| stuck_because(&self.state, job, self.at.now));
                let message = match stuck {
                    Some(reason) => {
                        format!("the deadline passed, and nobody could begin the answer: {reason}")
                    }
                    None => "the deadline passed before the answer was complete: allow more time"
                        .to_owned(),
                };
                (
                    Outcome::Failed,
                    Some(ErrorBody::new(ErrorCode::DeadlineUnmet, message)),
                )
            }
            CancelReason::Client
            | CancelReason::Disconnect
            | CancelReason::GatewayLost
            | CancelReason::Superseded
            | CancelReason::Preempted
            | CancelReason::Unknown => (Outcome::Canceled, None),
        };
        self.write_final(id, outcome, error);
    }

    pub(super) fn fail(&mut self, id: &JobId, error: ErrorBody) {
        self.state.ending(id);
        self.write_final(id, Outcome::Failed, Some(error));
    }

    fn write_final(&mut self, id: &JobId, outcome: Outcome, error: Option<ErrorBody>) {
        let Some(job) = self.state.job(id) else {
            return;
        };
        let end = Final {
            attempt: job.record.attempt,
            rest: None,
            outcome,
            finish_reason: None,
            usage: Default::default(),
            error,
            engine: job.record.assigned.as_ref().map(|to| to.engine.clone()),
            node: job.record.assigned.as_ref().map(|to| to.node.clone()),
            continued: None,
            times: Default::default(),
        };
        let reader = job.record.reader.clone();
        self.effects.push_back(Effect::Finalize {
            reader,
            job: *id,
            end: Box::new(end),
        });
    }

    /// What the end of an open job teaches.
    fn learn(&mut self, id: &JobId, end: &JobEnd) {
        let Some(job) = self.state.job(id) else {
            return;
        };
        let is_known = job.ordered_at != Now::ZERO;
        let took = self.at.now.saturating_sub(job.ordered_at);
        let took_ms = is_known.then(|| u64::try_from(took.as_millis()).ok());
        let took_ms = took_ms.flatten();
        let (model, demand) = (job.record.model.clone(), job.demand);
        if let Some(to) = job.record.assigned.clone() {
            self.lesson(&model, &to, demand, end, took_ms);
        }
    }

    /// Only answers that were generated in one go, and to their end, teach.
    pub(super) fn lesson(
        &mut self,
        model: &ModelName,
        to: &Assignment,
        demand: Demand,
        end: &JobEnd,
        took_ms: Option<u64>,
    ) {
        if end.outcome != Outcome::Completed || end.continued.is_some() {
            return;
        }
        let key = (to.node.clone(), to.replica.clone());
        let busy = self.state.replica(&key);
        let busy = busy.is_some_and(|(_, view)| view.occupied() >= view.replica.slots);
        self.state.learn(&Lesson {
            model,
            replica: &key,
            digest: to.engine.digest.as_deref(),
            demand,
            usage: end.usage,
            times: end.times,
            took_ms,
            busy,
        });
    }

    /// A job has ended: its slot is free, history is told, then the record.
    pub(super) fn end(&mut self, id: &JobId, end: JobEnd) {
        self.learn(id, &end);
        self.outlook.forget(id);
        let Some(job) = self.state.remove(id) else {
            return;
        };
        if self.decided.len() == EXPLAINED {
            self.decided.pop_front();
        }
        self.decided.push_back((*id, job.decisions));
        let mut record = job.record;
        record.state = end.outcome.state();
        record.end = Some(end);
        record.spec = None;
        let told = summary(&record, None, None);
        let error = told.end.as_ref().and_then(|end| end.error.as_ref());
        self.note(Note::Ended {
            job: *id,
            state: record.state,
            attempt: record.attempt,
            error: error.map(|error| error.code),
        });
        let event = event(&record, record.state, self.at, "it has ended");
        self.remember(record);
        self.needs_no_record(id);
        let open = self.open.get_mut(id);
        if open.as_ref().is_some_and(|open| open.ordered.0 > 0) {
            self.granting.has_changed();
        }
        let cancelers = open.map(|open| std::mem::take(&mut open.cancelers));
        for token in cancelers.unwrap_or_default() {
            self.describe(token, Ok(told.clone()));
        }
        self.effects.push_back(Effect::TellEnd(Box::new(told)));
        self.effects.push_back(Effect::TellState(event));
        self.must_plan = true;
    }
}
