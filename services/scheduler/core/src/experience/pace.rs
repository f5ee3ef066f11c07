//! How fast one replica works for one request.

use super::{ENOUGH, Lesson};
use crate::num::f64_of;

/// What of an observation is left after the next one.
const KEEP: f64 = 0.8;
/// What is taken for less than a millisecond: clocks are read in whole ones.
const INSTANT_MS: f64 = 0.5;
/// Milliseconds of generating before a replica is compared with others: by clocks of
/// whole milliseconds, a brief answer may seem ten times as fast as it was.
const SURE_MS: f64 = 100.0;

/// A rate as two sums that fade: long jobs weigh more than short ones, and
/// predictions of sums are right.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ratio {
    amount: f64,
    per: f64,
}

impl Ratio {
    pub(super) fn add(&mut self, amount: f64, per: f64) {
        self.amount = self.amount * KEEP + amount;
        self.per = self.per * KEEP + per;
    }

    pub(super) fn rate(&self) -> Option<f64> {
        (self.per > 0.0 && self.amount > 0.0).then(|| self.amount / self.per)
    }
}

/// Rates of one replica, per millisecond.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    jobs: u32,
    /// Whether the first token of any of them was seen.
    has_seen: bool,
    prefill: Ratio,
    decode: Ratio,
    /// Milliseconds beside the agent's own: order, first step, telling the end.
    overhead: Ratio,
    first_token: Ratio,
}

impl Pace {
    pub(super) fn jobs(&self) -> u32 {
        self.jobs
    }

    pub(super) fn learn(&mut self, lesson: &Lesson<'_>) {
        let (times, usage) = (&lesson.times, &lesson.usage);
        let tokens = usage.completion_tokens;
        let (Some(started), Some(ended)) = (times.started_ms, times.ended_ms) else {
            return;
        };
        if ended < started || tokens == 0 {
            return;
        }
        let first = match times.first_token_ms {
            Some(first) => first,
            // It came in one body, prompt and answer in one time.
            None if self.has_seen => return,
            // Until more is known, each token has taken the same, the first one too.
            None => started + (ended - started) / tokens,
        };
        if first < started || ended < first {
            return;
        }
        self.has_seen |= times.first_token_ms.is_some();
        self.jobs = self.jobs.saturating_add(1);
        let (prefill_ms, decode_ms) = (first - started, ended - first);
        // Over the whole prompt, cached parts too: how much of the next one will be
        // in the cache nobody knows, and like prompts come again.
        self.prefill
            .add(f64_of(usage.prompt_tokens), f64_of(prefill_ms));
        self.first_token.add(f64_of(prefill_ms), 1.0);
        // The first token comes with the prompt.
        if tokens > 1 {
            self.decode
                .add(f64_of(tokens - 1), f64_of(decode_ms).max(INSTANT_MS));
        }
        if let Some(took) = lesson.took_ms {
            self.overhead
                .add(f64_of(took.saturating_sub(ended - started)), 1.0);
        }
    }

    /// Tokens per millisecond.
    pub(super) fn decode_rate(&self) -> Option<f64> {
        self.decode.rate()
    }

    /// The same, once it is known well enough to compare replicas by it: one job may
    /// have been slow for reasons of its own, and who seems slow gets few others.
    pub(super) fn speed(&self) -> Option<f64> {
        let is_sure = self.jobs >= ENOUGH && self.decode.per >= SURE_MS;
        self.decode_rate().filter(|_| is_sure)
    }

    /// From the order to the first token of a prompt of so many tokens.
    pub(super) fn first_token_ms(&self, prompt_tokens: f64) -> f64 {
        let by_tokens = self.prefill.rate().map(|rate| prompt_tokens / rate);
        by_tokens.unwrap_or_else(|| self.usual_prefill_ms())
            + self.overhead.rate().unwrap_or_default()
    }

    /// The same for a usual prompt.
    pub(super) fn usual_first_token_ms(&self) -> f64 {
        self.usual_prefill_ms() + self.overhead.rate().unwrap_or_default()
    }

    /// How long so many tokens take.
    pub(super) fn decode_ms(&self, tokens: f64) -> f64 {
        self.more_ms((tokens - 1.0).max(0.0))
    }

    /// How long so many more tokens take, once the first one is there.
    pub(super) fn more_ms(&self, tokens: f64) -> f64 {
        self.decode_rate().map_or(0.0, |rate| tokens / rate)
    }

    /// How many tokens come in so many milliseconds.
    pub(super) fn tokens_in(&self, ms: f64) -> f64 {
        self.decode_rate().map_or(1.0, |rate| 1.0 + ms * rate)
    }

    fn usual_prefill_ms(&self) -> f64 {
        self.first_token.rate().unwrap_or_default()
    }
}
