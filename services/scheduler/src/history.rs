//! Ends on their way to history: one message at a time, and those that come
//! meanwhile join the next, so that load makes fewer messages and not more.

use orchion_contract::job::{EndedJobs, JobSummary};
use std::collections::VecDeque;

/// Ends in one message: it stays far below what a message may hold.
const MOST: usize = 256;

/// Ends that history does not know yet.
#[derive(Default)]
pub(crate) struct History {
    waiting: VecDeque<JobSummary>,
    is_telling: bool,
}

impl History {
    pub(crate) fn add(&mut self, job: JobSummary) {
        self.waiting.push_back(job);
    }

    /// What is to be told now, if anything.
    pub(crate) fn next(&mut self) -> Option<EndedJobs> {
        if self.is_telling || self.waiting.is_empty() {
            return None;
        }
        self.is_telling = true;
        let count = self.waiting.len().min(MOST);
        let jobs = self.waiting.drain(..count).collect();
        Some(EndedJobs { jobs })
    }

    /// What was told last is stored.
    pub(crate) fn is_told(&mut self) {
        self.is_telling = false;
    }
}
