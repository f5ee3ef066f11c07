//! Ends on their way to history. Nobody waits for them, so they are gathered for
//! a moment: load makes larger messages, not more of them.

use orchion_contract::job::{EndedJobs, JobSummary};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Ends in one message: it stays far below what a message may hold.
const MOST: usize = 256;
/// How long ends are gathered. Until it is told, a job's record does not say that
/// it ended; whoever takes over then reads it in the transcript.
const GATHER: Duration = Duration::from_millis(100);

/// Ends that history does not know yet.
#[derive(Default)]
pub(crate) struct History {
    waiting: VecDeque<JobSummary>,
    /// When what waits is told, if anything does.
    due: Option<Instant>,
}

impl History {
    pub(crate) fn add(&mut self, job: JobSummary) {
        self.waiting.push_back(job);
        self.due.get_or_insert_with(|| Instant::now() + GATHER);
    }

    /// When there will be something to tell.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is to be told now, if anything.
    pub(crate) fn next(&mut self) -> Option<EndedJobs> {
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        if !is_due && self.waiting.len() < MOST {
            return None;
        }
        let count = self.waiting.len().min(MOST);
        let jobs = self.waiting.drain(..count).collect();
        if self.waiting.is_empty() {
            self.due = None;
        }
        Some(EndedJobs { jobs })
    }
}
