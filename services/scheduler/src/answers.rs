//! Answering what is asked of the scheduler in charge.

use crate::effects::Done;
use crate::holder::{Holder, Open};
use crate::questions::Asked;
use crate::view::{record, summary, unix_ms};
use orchion_bus::Question;
use orchion_contract::job::{
    Admission, CancelJob, Door, EndedBatch, FollowJob, JobList, JobSummary, ListJobs, Submit,
};
use orchion_contract::node::Empty;
use orchion_contract::{ErrorBody, ErrorCode, JobId};
use orchion_scheduler_core::{Ledger, Phase, check};
use serde::Serialize;
use std::cmp::Reverse;
use std::time::Duration;

/// Jobs in one list, when the caller does not say, and at most.
const LISTED: u32 = 100;
const LISTED_AT_MOST: u32 = 1000;

impl Holder {
    pub(crate) fn asked(&mut self, asked: Asked) {
        match asked {
            Asked::Submit(question) => self.submit(question),
            Asked::Get(question) => self.get(question),
            Asked::List(question) => {
                let list = self.list(&question.asked);
                self.answer(question, Ok(list));
            }
            Asked::Cancel(question) => self.cancel(question),
            Asked::Ended(question) => self.ended(question),
            Asked::Follow(question) => self.take_follow(question),
        }
    }

    fn answer<A, Q, R>(&self, question: Question<A, Q, R>, answer: Result<R, ErrorBody>)
    where
        A: Send + Sync + 'static,
        Q: Send + Sync + 'static,
        R: Serialize + Send + Sync + 'static,
    {
        self.under_way.push(Box::pin(async move {
            question.answer(answer).await;
            Done::Nothing
        }));
    }

    fn submit(&mut self, question: Question<(), Submit, Admission>) {
        let (submit, question) = question.split();
        let (id, now) = (submit.job, self.now());
        let known = self
            .state
            .job(&id)
            .map(|job| &job.record)
            .or_else(|| self.ended.get(&id));
        if let Some(known) = known {
            let same = known.request_digest == submit.spec.digest();
            self.submit_again(question, &id, same);
            return;
        }
        if let Err(refusal) = check(&submit, &self.state, self.limits, now) {
            self.answer(question, Err(refusal));
            return;
        }
        if submit.door == Door::Chat {
            self.gateway_expected(&submit.reader);
        }
        let job = record(submit, self.state.next_queue_seq(), unix_ms());
        let deadline = now + Duration::from_millis(job.deadline_at_ms - job.created_ms);
        let open = Open {
            ledger: Ledger::new(0),
            admissions: vec![question],
            cancelers: Vec::new(),
        };
        self.open.insert(id, open);
        self.state.insert(job, deadline, now);
        self.touch(&id);
        self.plan_again();
    }

    /// The same id once more: the same answer for the same request.
    fn submit_again(&mut self, question: Question<(), (), Admission>, id: &JobId, same: bool) {
        if !same {
            let message = format!("job {id} exists with another request: choose another id");
            self.answer(
                question,
                Err(ErrorBody::new(ErrorCode::Conflict, message).about("task_id")),
            );
            return;
        }
        match self.open.get_mut(id) {
            Some(open) if !open.ledger.is_stored() => open.admissions.push(question),
            Some(_) | None => {
                let admission = self.admission(id, unix_ms()).map(|found| Admission {
                    existed: true,
                    ..found
                });
                self.answer(question, admission.ok_or_else(|| unknown(id)));
            }
        }
    }

    fn get(&mut self, question: Question<(), JobId, JobSummary>) {
        let (id, question) = question.split();
        match self.summary_of(&id) {
            Some(found) => self.answer(question, Ok(found)),
            None => self
                .under_way
                .push(self.hands.answer_from_record(id, question)),
        }
    }

    fn summary_of(&self, id: &JobId) -> Option<JobSummary> {
        match self.state.job(id) {
            Some(job) => Some(summary(
                &job.record,
                job.phase == Phase::Running,
                self.state.position(id),
            )),
            None => self
                .ended
                .get(id)
                .map(|record| summary(record, false, None)),
        }
    }

    fn list(&self, ask: &ListJobs) -> JobList {
        let limit = ask.limit.unwrap_or(LISTED).min(LISTED_AT_MOST) as usize;
        let open = self
            .state
            .jobs()
            .filter_map(|job| self.summary_of(&job.record.id));
        let wanted = |job: &JobSummary| {
            ask.state.is_none_or(|state| state == job.state)
                && ask
                    .node
                    .as_ref()
                    .is_none_or(|node| Some(node) == job.node.as_ref())
                && ask.model.as_ref().is_none_or(|model| *model == job.model)
        };
        let ended = self
            .ended
            .values()
            .map(|record| summary(record, false, None));
        let mut jobs: Vec<JobSummary> = open.chain(ended).filter(wanted).collect();
        jobs.sort_by_key(|job| Reverse((job.created_ms, job.id)));
        jobs.truncate(limit);
        JobList { jobs }
    }

    fn cancel(&mut self, question: Question<(), CancelJob, JobSummary>) {
        let (cancel, question) = question.split();
        let open = self
            .open
            .get_mut(&cancel.job)
            .filter(|_| self.state.job(&cancel.job).is_some());
        match open {
            Some(open) => {
                open.cancelers.push(question);
                self.stop(&cancel.job, cancel.reason);
            }
            None => match self.summary_of(&cancel.job) {
                Some(found) => self.answer(question, Ok(found)),
                None => self
                    .under_way
                    .push(self.hands.answer_from_record(cancel.job, question)),
            },
        }
    }

    fn ended(&mut self, question: Question<(), EndedBatch, Empty>) {
        for end in &question.asked.ends {
            self.attempt_ended(end);
        }
        self.answer(question, Ok(Empty {}));
    }

    fn take_follow(&mut self, question: Question<(), FollowJob, JobSummary>) {
        let FollowJob { job, gateway } = question.asked.clone();
        let depends = self
            .state
            .job(&job)
            .is_some_and(|job| job.record.gateway.is_some());
        if depends {
            self.gateway_expected(&gateway);
            self.state
                .update(&job, |job| job.record.gateway = Some(gateway));
            self.touch(&job);
        }
        let found = self.summary_of(&job).ok_or_else(|| unknown(&job));
        self.answer(question, found);
    }
}

pub(crate) fn unknown(id: &JobId) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::NotFound,
        format!("job {id} is not known, or ended more than 15 minutes ago"),
    )
}

/// What stands where the record was.
pub(crate) fn expired(id: &JobId) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Gone,
        format!("job {id} ended more than 15 minutes ago: its answer is not kept any more"),
    )
}
