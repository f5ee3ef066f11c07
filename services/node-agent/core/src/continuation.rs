//! What an attempt does with the beginning of an answer that it finds.
//!
//! There are three strategies: *continue* behind the beginning, *replay* it and
//! swallow what was shown already, *restart* and take back what was shown. The
//! plan is a [`Ladder`] of ways, best first. Whether a way works often shows
//! only when the engine is asked, so the attempt goes down the ladder until one
//! does.

mod ladder;
mod request;
mod ways;

use orchion_contract::job::{JobSpec, Outcome, Usage};
use orchion_contract::node::{EngineRef, Replica};
use orchion_contract::transcript::{Continued, Final, Strategy, Times};
use orchion_transcript::Prefix;

pub use ladder::{Ladder, Obstacle, Step, Way};
use request::Request;
use ways::{Weights, ways};

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Nothing was said yet: ask the engine for the whole answer.
    Begin,
    /// Take up what was said.
    TakeUp(Ladder),
    /// Ask nobody: this is the end.
    End(Box<Final>),
    /// Somebody has ended the job already.
    HasEnded,
}

/// Decides what `attempt` does on `replica` with `prefix`, which the engine
/// `prefix_by` wrote, unless the prefix itself says otherwise.
#[must_use]
pub fn plan(
    attempt: u32,
    spec: &JobSpec,
    prefix: &Prefix,
    prefix_by: Option<&EngineRef>,
    replica: &Replica,
) -> Plan {
    if prefix.end.is_some() {
        return Plan::HasEnded;
    }
    if prefix.is_empty() {
        return Plan::Begin;
    }
    let prefix_by = prefix.engine.as_ref().or(prefix_by);
    let weights = Weights::of(prefix_by, &replica.engine);
    let request = Request::of(spec);
    let used = u32::try_from(prefix.tokens).unwrap_or(u32::MAX);
    let is_full = !request.has_choices && spec.max_tokens.is_some_and(|most| used >= most);
    if is_full {
        return Plan::End(Box::new(at_the_limit(attempt, prefix, replica, weights)));
    }
    let ways = ways(spec, &request, prefix, prefix_by, replica, weights);
    let step = |way| step(way, spec, prefix, weights);
    Plan::TakeUp(Ladder::new(ways.into_iter().map(step), step(Way::Restart)))
}

fn step(way: Way, spec: &JobSpec, prefix: &Prefix, weights: Weights) -> Step {
    let used = u32::try_from(prefix.tokens).unwrap_or(u32::MAX);
    let rest = spec.max_tokens.map(|most| most.saturating_sub(used));
    let (strategy, max_tokens, seed) = match way {
        // The engine takes its random numbers up where they stopped.
        Way::Ids => (Strategy::Continue, rest, spec.seed),
        Way::Text => {
            let seed = spec.seed.map(|seed| seed_of_rest(seed, prefix.tokens));
            (Strategy::Continue, rest, seed)
        }
        Way::Replay => (Strategy::Replay, spec.max_tokens, spec.seed),
        Way::Restart => (Strategy::Restart, spec.max_tokens, spec.seed),
    };
    let continued = Continued {
        strategy,
        from_index: prefix.next_index(),
        verified: match way {
            Way::Ids | Way::Text => weights == Weights::Equal,
            // It ends otherwise when the beginning is not repeated.
            Way::Replay => true,
            Way::Restart => false,
        },
        swallowed_tokens: 0,
    };
    Step {
        way,
        max_tokens,
        seed,
        continued,
    }
}

/// A seed that does not repeat the random numbers of the beginning; it fits
/// into 31 bits, which every engine takes.
fn seed_of_rest(seed: u64, tokens: u64) -> u64 {
    let mut x = seed ^ tokens.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) & 0x7fff_ffff
}

/// All its tokens are there, only the end was lost. No engine is asked: some
/// make one token more when they are asked for none.
fn at_the_limit(attempt: u32, prefix: &Prefix, replica: &Replica, weights: Weights) -> Final {
    Final {
        attempt,
        rest: None,
        outcome: Outcome::Completed,
        finish_reason: Some("length".to_owned()),
        usage: Usage {
            completion_tokens: prefix.tokens,
            ..Usage::default()
        },
        error: None,
        engine: Some(replica.engine.clone()),
        node: None,
        continued: Some(Continued {
            strategy: Strategy::Continue,
            from_index: prefix.next_index(),
            verified: weights == Weights::Equal,
            swallowed_tokens: 0,
        }),
        times: Times::default(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
