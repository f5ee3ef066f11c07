//! Answering what is asked of the scheduler in charge.

use super::grants::ordered_ms;
use super::{Holder, Open};
use crate::admit::dropped;
use crate::view::{depends_on, expired, record, summary, taken, unknown};
use crate::{Effect, Entry, Question, Token, admit, explain, explain_ended};
use orchion_contract::job::{
    Admission, CancelJob, FollowJob, Job, JobList, JobSummary, ListJobs, Submit,
};
use orchion_contract::progress::Progress;
use orchion_contract::{ErrorBody, ErrorCode, JobId};
use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Jobs in one list, when the caller does not say, and at most.
const LISTED: u32 = 100;
const LISTED_AT_MOST: u32 = 1000;

impl Holder {
    pub(super) fn asked(&mut self, token: Token, question: Question) {
        self.forget_old();
        match question {
            Question::Submit(submit) => self.submit(token, *submit),
            Question::Get(job) => self.get(token, job),
            Question::List(ask) => {
                let list = self.list(&ask);
                self.effects.push_back(Effect::List { token, list });
            }
            Question::Cancel(cancel) => self.cancel(token, &cancel),
            Question::Ended(batch) => {
                let unknown = batch.granted.into_iter();
                let unknown = unknown.filter_map(|job| self.granted_ended(job, &batch.ends));
                let unknown: BTreeSet<JobId> = unknown.collect();
                for end in &batch.ends {
                    self.told_of_end(end, &batch.instance);
                }
                match unknown.is_empty() {
                    true => self.effects.push_back(Effect::Acknowledge { token }),
                    false => self.must_tell(token, unknown),
                }
            }
            Question::Follow(follow) => self.take_follow(token, follow),
            Question::Explain(job) => self.explain(token, &job),
        }
    }

    pub(super) fn admit(&mut self, token: Token, answer: Result<Admission, ErrorBody>) {
        self.effects.push_back(Effect::Admit { token, answer });
    }

    pub(super) fn describe(&mut self, token: Token, answer: Result<JobSummary, ErrorBody>) {
        let answer = answer.map(Box::new);
        self.effects.push_back(Effect::Describe { token, answer });
    }

    fn submit(&mut self, token: Token, mut submit: Submit) {
        let (id, at) = (submit.job, self.at);
        let known = self
            .state
            .job(&id)
            .map(|job| &job.record)
            .or_else(|| self.ended.get(&id).map(|job| &**job));
        if let Some(known) = known {
            let same = known.request_digest == submit.spec.digest();
            self.submit_again(token, &id, same);
            return;
        }
        let model = &submit.spec.model;
        let waits = self.state.queue_length(model) > 0;
        let forecast = waits.then(|| self.outlook.forecast(&self.state, model, at.now));
        match admit(&submit, &self.state, forecast, at.now) {
            Ok(Entry { drops: None }) => {}
            Ok(Entry {
                drops: Some(victim),
            }) => {
                let back_in = forecast.map_or(0, |forecast| forecast.leaves_in(0));
                self.fail(&victim, dropped(model, back_in));
            }
            Err(refusal) => {
                if let Some(ordered) = submit.ordered {
                    self.drop_attempt(&ordered.to.node, id, 1);
                }
                self.admit(token, Err(refusal));
                return;
            }
        }
        if let Some(gateway) = depends_on(&submit) {
            self.gateway_expected(gateway);
            if submit.spec.may_be_granted() {
                self.granting.wants(gateway, model, at.now);
            }
        }
        let ordered = submit.ordered.take();
        let came_ms = match &ordered {
            Some(ordered) => ordered_ms(ordered, at.unix_ms),
            None => at.unix_ms,
        };
        let job = record(submit, self.state.next_queue_seq(), came_ms);
        let left = job.deadline_at_ms.saturating_sub(at.unix_ms);
        let deadline = at.now + Duration::from_millis(left);
        let mut open = Open::new(0);
        open.admissions.push(token);
        self.open.insert(id, open);
        self.state.insert(job, deadline, at.now);
        self.touch(&id);
        self.newcomers.push(id);
        self.must_plan = true;
        if let Some(ordered) = ordered {
            self.was_ordered(&id, *ordered);
        }
    }

    /// The same id once more: the same answer for the same request.
    fn submit_again(&mut self, token: Token, id: &JobId, same: bool) {
        if !same {
            self.admit(token, Err(taken(id)));
            return;
        }
        let has_ended = self.state.job(id).is_none();
        let is_over = |open: &Open| has_ended && open.is_unrecorded();
        match self.open.get_mut(id) {
            Some(open) if !open.ledger.is_stored() && !is_over(open) => open.admissions.push(token),
            Some(_) | None => {
                let admission = self.admission(id).map(|found| Admission {
                    existed: true,
                    ..found
                });
                self.admit(token, admission.ok_or_else(|| unknown(id)));
            }
        }
    }

    fn explain(&mut self, token: Token, id: &JobId) {
        let none = VecDeque::new();
        let answer = match self.ended.get(id) {
            Some(record) => {
                let known = self.decided.iter().find(|(job, _)| job == id);
                let decisions = known.map_or(&none, |(_, decisions)| decisions);
                Some(explain_ended(record, decisions))
            }
            None => explain(&self.state, id, self.at.now, self.at.unix_ms),
        };
        let answer = answer.map(Box::new).ok_or_else(|| unknown(id));
        self.effects.push_back(Effect::Explain { token, answer });
    }

    fn get(&mut self, token: Token, job: JobId) {
        // A job that is not stored yet may still be refused.
        let may_be_refused = self.state.job(&job).is_some()
            && self
                .open
                .get(&job)
                .is_some_and(|open| !open.ledger.is_stored());
        match self.summary_of(&job).filter(|_| !may_be_refused) {
            Some(mut found) => {
                let at = self.at;
                let progress = self.outlook.of(&self.state, &job, at.now, at.unix_ms);
                found.progress = progress.map(|progress| Progress {
                    state: found.state,
                    ..progress
                });
                self.describe(token, Ok(found));
            }
            None => self.effects.push_back(Effect::LookUp { token, job }),
        }
    }

    /// What the record says of a job that is not in memory.
    pub(super) fn looked_up(
        &mut self,
        token: Token,
        job: &JobId,
        found: Result<Option<Option<Box<Job>>>, String>,
    ) {
        let is_known = self.state.job(job).is_some() || self.ended.contains_key(job);
        let answer = match found {
            // Somebody who was in charge before wrote it after we had read all records.
            Ok(Some(Some(record))) if !record.state.is_ended() && !is_known => {
                return self.is_void(*job);
            }
            Ok(_) if self.ended.contains_key(job) => {
                self.summary_of(job).ok_or_else(|| unknown(job))
            }
            Ok(Some(Some(record))) => Ok(summary(&record, None, None)),
            Ok(Some(None)) => Err(expired(job)),
            Ok(None) => Err(unknown(job)),
            Err(error) => Err(ErrorBody::new(
                ErrorCode::PoolUnready,
                format!("the job store does not answer: {error}"),
            )),
        };
        self.describe(token, answer);
    }

    fn summary_of(&self, id: &JobId) -> Option<JobSummary> {
        match self.state.job(id) {
            Some(job) => Some(summary(
                &job.record,
                job.running_since(),
                self.state.position(id),
            )),
            None => self.ended.get(id).map(|record| summary(record, None, None)),
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
            .map(|record| summary(record, None, None));
        let mut jobs: Vec<JobSummary> = open.chain(ended).filter(wanted).collect();
        jobs.sort_by_key(|job| Reverse((job.created_ms, job.id)));
        jobs.truncate(limit);
        JobList { jobs }
    }

    fn cancel(&mut self, token: Token, cancel: &CancelJob) {
        let open = self
            .open
            .get_mut(&cancel.job)
            .filter(|_| self.state.job(&cancel.job).is_some());
        match open {
            Some(open) => {
                open.cancelers.push(token);
                self.stop(&cancel.job, cancel.reason);
            }
            None => self.get(token, cancel.job),
        }
    }

    fn take_follow(&mut self, token: Token, follow: FollowJob) {
        let FollowJob { job, gateway } = follow;
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
        self.describe(token, found);
    }
}
