//! Questions that wait for their answers, by the token that the core knows.

use crate::effects::UnderWay;
use crate::questions::Asked;
use orchion_bus::Question;
use orchion_contract::ErrorBody;
use orchion_contract::job::{Admission, JobList, JobSummary};
use orchion_contract::node::Empty;
use orchion_contract::placement::Explanation;
use orchion_scheduler_core::{self as core, Token};
use serde::Serialize;
use std::collections::HashMap;

/// Waiting questions; those that are dropped unanswered are asked again.
#[derive(Default)]
pub(crate) struct Desk {
    next: u64,
    admissions: HashMap<Token, Question<(), (), Admission>>,
    summaries: HashMap<Token, Question<(), (), JobSummary>>,
    lists: HashMap<Token, Question<(), (), JobList>>,
    ends: HashMap<Token, Question<(), (), Empty>>,
    explanations: HashMap<Token, Question<(), (), Explanation>>,
}

impl Desk {
    /// Keeps a question and says what it asks.
    pub(crate) fn take_in(&mut self, asked: Asked) -> core::Input {
        self.next += 1;
        let token = Token(self.next);
        let question = match asked {
            Asked::Submit(question) => {
                let (submit, question) = question.split();
                self.admissions.insert(token, question);
                core::Question::Submit(Box::new(submit))
            }
            Asked::Get(question) => {
                let (job, question) = question.split();
                self.summaries.insert(token, question);
                core::Question::Get(job)
            }
            Asked::List(question) => {
                let (list, question) = question.split();
                self.lists.insert(token, question);
                core::Question::List(list)
            }
            Asked::Cancel(question) => {
                let (cancel, question) = question.split();
                self.summaries.insert(token, question);
                core::Question::Cancel(cancel)
            }
            Asked::Ended(question) => {
                let (ends, question) = question.split();
                self.ends.insert(token, question);
                core::Question::Ended(ends)
            }
            Asked::Follow(question) => {
                let (follow, question) = question.split();
                self.summaries.insert(token, question);
                core::Question::Follow(follow)
            }
            Asked::Explain(question) => {
                let (job, question) = question.split();
                self.explanations.insert(token, question);
                core::Question::Explain(job)
            }
        };
        core::Input::Asked { token, question }
    }

    /// Answers who submitted.
    pub(crate) fn admit(
        &mut self,
        token: Token,
        reply: Result<Admission, ErrorBody>,
    ) -> Option<UnderWay> {
        Some(answer(self.admissions.remove(&token)?, reply))
    }

    /// Answers who asked for one job.
    pub(crate) fn describe(
        &mut self,
        token: Token,
        reply: Result<Box<JobSummary>, ErrorBody>,
    ) -> Option<UnderWay> {
        let reply = reply.map(|summary| *summary);
        Some(answer(self.summaries.remove(&token)?, reply))
    }

    /// Answers who asked for many.
    pub(crate) fn list(&mut self, token: Token, list: JobList) -> Option<UnderWay> {
        Some(answer(self.lists.remove(&token)?, Ok(list)))
    }

    /// Answers who asked why.
    pub(crate) fn explain(
        &mut self,
        token: Token,
        reply: Result<Box<Explanation>, ErrorBody>,
    ) -> Option<UnderWay> {
        let reply = reply.map(|explanation| *explanation);
        Some(answer(self.explanations.remove(&token)?, reply))
    }

    /// Leaves who told of ends without an answer.
    pub(crate) fn forget(&mut self, token: Token) {
        self.ends.remove(&token);
    }

    /// Answers who told of ends.
    pub(crate) fn acknowledge(&mut self, token: Token) -> Option<UnderWay> {
        Some(answer(self.ends.remove(&token)?, Ok(Empty {})))
    }
}

fn answer<R>(question: Question<(), (), R>, reply: Result<R, ErrorBody>) -> UnderWay
where
    R: Serialize + Send + Sync + 'static,
{
    Box::pin(async move {
        question.answer(reply).await;
        None
    })
}
