//! What an answer was like.

use std::fmt;
use std::time::{Duration, Instant};

use super::Order;
use crate::wire::{Check, Flaw, Verifier};

/// What is to be said of one answer.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Why it was not good, if it was not.
    pub failure: Option<Failure>,
    /// Tokens seen.
    pub tokens: u32,
    /// From the request to the first token.
    pub first_token: Option<Duration>,
    /// The longest time between two tokens, or between the last one and the end.
    pub longest_pause: Duration,
    /// The engines that made it, in turn.
    pub engines: Vec<String>,
    /// How often the client had to connect again.
    pub reconnects: u32,
    /// The job, when the answer named it.
    pub job: Option<String>,
    /// From the request to the end.
    pub took: Duration,
}

/// Why an answer was not good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its class, as the bench counts them: `content:missing_token`, `http:503`.
    pub class: String,
    /// What was seen.
    pub detail: String,
}

impl Verdict {
    /// Whether every token came once and in order, and there was one good end.
    pub fn is_good(&self) -> bool {
        self.failure.is_none()
    }

    /// Whether tokens were lost, doubled, crossed or garbled: a defect, whatever
    /// was killed.
    pub fn is_wrong(&self) -> bool {
        let failure = self.failure.as_ref();
        failure.is_some_and(|failure| failure.class.starts_with("content:"))
    }
}

impl Failure {
    pub(super) fn new(class: impl Into<String>, detail: impl ToString) -> Self {
        Self {
            class: class.into(),
            detail: detail.to_string().chars().take(300).collect(),
        }
    }
}

impl From<Flaw> for Failure {
    fn from(flaw: Flaw) -> Self {
        Self::new(flaw.class(), "")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.is_empty() {
            true => f.write_str(&self.class),
            false => write!(f, "{}: {}", self.class, self.detail),
        }
    }
}

/// Listens to one answer.
#[derive(Debug)]
pub(super) struct Listener<'a> {
    order: &'a Order,
    verifier: Verifier,
    start: Instant,
    last: Option<Instant>,
    first_token: Option<Duration>,
    longest_pause: Duration,
    engines: Vec<String>,
    pub(super) reconnects: u32,
    pub(super) job: Option<String>,
}

impl<'a> Listener<'a> {
    pub(super) fn new(order: &'a Order) -> Self {
        Self {
            order,
            verifier: Verifier::new(Check::Full, order.ask.nonce),
            start: Instant::now(),
            last: None,
            first_token: None,
            longest_pause: Duration::ZERO,
            engines: Vec::new(),
            reconnects: 0,
            job: None,
        }
    }

    /// What is left of the time for the whole answer.
    pub(super) fn time_left(&self) -> Duration {
        self.order.deadline.saturating_sub(self.start.elapsed())
    }

    pub(super) fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// Takes a piece of the answer.
    pub(super) fn hear(&mut self, text: &str) -> Result<(), Failure> {
        let engines = &mut self.engines;
        let before = self.verifier.got();
        self.verifier.feed(text, |token| {
            if engines.last().is_none_or(|last| last != token.engine) {
                engines.push(token.engine.to_owned());
            }
        });
        if self.verifier.got() > before {
            self.pause_ends();
            self.order.progress.set(self.verifier.got());
        }
        match self.verifier.flaw_so_far() {
            Some(flaw) => Err(flaw.into()),
            None => Ok(()),
        }
    }

    /// Checks the usage that the answer claims.
    pub(super) fn check_usage(&self, tokens: Option<u64>) -> Result<(), Failure> {
        let expected = u64::from(self.order.ask.tokens);
        match tokens {
            Some(tokens) if tokens == expected => Ok(()),
            other => {
                let detail = format!("{other:?} of {expected} tokens");
                Err(Failure::new("content:wrong_usage", detail))
            }
        }
    }

    /// Takes the end of the answer.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.pause_ends();
        match self.verifier.finish(self.order.ask.tokens, |_| {}) {
            Some(flaw) => Err(flaw.into()),
            None => Ok(()),
        }
    }

    pub(super) fn verdict(self, heard: Result<(), Failure>) -> Verdict {
        Verdict {
            failure: heard.err(),
            tokens: self.verifier.got(),
            first_token: self.first_token,
            longest_pause: self.longest_pause,
            engines: self.engines,
            reconnects: self.reconnects,
            job: self.job,
            took: self.start.elapsed(),
        }
    }

    fn pause_ends(&mut self) {
        let now = Instant::now();
        match self.last.replace(now) {
            Some(last) => self.longest_pause = self.longest_pause.max(now - last),
            None => self.first_token = Some(now - self.start),
        }
    }
}
