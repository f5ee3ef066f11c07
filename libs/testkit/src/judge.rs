//! Drives one streamed answer as a client would and judges it.
//!
//! Chaos runs and service tests ask [`chat`] for an answer of the OpenAI route,
//! or [`task`] for one of the task routes, while they kill what makes it. The
//! verdict says whether any token was lost, doubled, crossed or out of order,
//! whether there was exactly one end, and how long the longest pause was.

mod chat;
mod task;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Error;
use crate::wire::Ask;

pub use chat::chat;
pub use task::{follow, task};
pub use verdict::{Failure, Verdict};

/// An answer to ask for.
#[derive(Clone, Debug)]
pub struct Order {
    ask: Ask,
    model: String,
    deadline: Duration,
    priority: &'static str,
    progress: Progress,
}

/// How many tokens the client of an order has seen, to be read while it runs.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU32>);

impl Progress {
    /// Tokens seen so far.
    pub fn tokens(&self) -> u32 {
        self.0.load(Relaxed)
    }

    fn set(&self, tokens: u32) {
        self.0.store(tokens, Relaxed);
    }
}

impl Order {
    /// Asks the model `mock` for an answer, within 60 s.
    pub fn new(ask: Ask) -> Self {
        Self {
            ask,
            model: "mock".to_owned(),
            deadline: Duration::from_secs(60),
            priority: "interactive",
            progress: Progress::default(),
        }
    }

    /// Asks another model.
    #[must_use]
    pub fn model(mut self, model: &str) -> Self {
        model.clone_into(&mut self.model);
        self
    }

    /// Sets the time in which the whole answer must be there.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Makes it a batch job, as far as it is a task: nobody waits for it.
    #[must_use]
    pub fn batch(mut self) -> Self {
        self.priority = "batch";
        self
    }

    /// A handle that tells, while the order runs, how far it is.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn messages(&self) -> Value {
        json!([{"role": "user", "content": format!("{} please", self.ask.marker())}])
    }
}

/// The class of a failed exchange, named as the bench names it.
fn class(error: &Error, has_begun: bool) -> String {
    match error {
        Error::Connect(_) => "connect".to_owned(),
        Error::BeforeHead(_) => "reset:before_headers".to_owned(),
        Error::InBody(_) => "reset:mid_answer".to_owned(),
        Error::Timeout(_) if has_begun => "timeout:mid_answer".to_owned(),
        Error::Timeout(_) => "timeout:no_answer".to_owned(),
        Error::Status(answer) => format!("http:{}", answer.status),
    }
}
