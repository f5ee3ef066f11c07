//! What was learnt: how fast each replica is, and how long answers get.

mod lengths;
mod pace;

use crate::num::{f64_of, ms_of};
use crate::state::ReplicaKey;
use lengths::Lengths;
use orchion_contract::ModelName;
use orchion_contract::job::{JobSpec, Usage};
use orchion_contract::transcript::Times;
use pace::{Pace, Ratio};
use std::collections::BTreeMap;

/// Bytes of a prompt that make a token, as long as nothing was learnt.
const USUAL_BYTES_PER_TOKEN: f64 = 4.0;
/// Bytes of a request that are no prompt: names of fields and the like.
const FRAME_BYTES: u64 = 256;
/// Observations of a busy replica before they count alone, and of any before it is
/// compared with others.
const ENOUGH: u32 = 3;
/// Weight of the newest deviation.
const WEIGHT: f64 = 0.1;

/// How much work a job is, as far as its request tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// Size of the request, in bytes.
    pub prompt_bytes: u64,
    /// Most tokens to generate.
    pub max_tokens: Option<u32>,
    /// Tokens that the caller expects.
    pub expected_tokens: Option<u32>,
}

impl Demand {
    /// The demand of a request.
    #[must_use]
    pub fn of(spec: &JobSpec) -> Self {
        Self {
            prompt_bytes: spec.body_bytes(),
            max_tokens: spec.max_tokens,
            expected_tokens: spec.expected_tokens,
        }
    }
}

/// A job that ended, as a lesson.
#[derive(Debug, Clone)]
pub struct Lesson<'a> {
    /// Which model.
    pub model: &'a ModelName,
    /// Where it ran.
    pub replica: &'a ReplicaKey,
    /// The weights that it ran with.
    pub digest: Option<&'a str>,
    /// What was known before.
    pub demand: Demand,
    /// Tokens counted.
    pub usage: Usage,
    /// When things happened, by its agent's clock.
    pub times: Times,
    /// From order to end by our own clock, in milliseconds; `None` after a takeover.
    pub took_ms: Option<u64>,
    /// Whether the replica's slots were all in use.
    pub busy: bool,
}

/// What was learnt of all pools.
#[derive(Debug, Clone, Default)]
pub struct Experience {
    pools: BTreeMap<ModelName, Pool>,
}

#[derive(Debug, Clone, Default)]
struct Pool {
    replicas: BTreeMap<ReplicaKey, Known>,
    /// Over all replicas: what a new one is taken for.
    all: Paces,
    lengths: Lengths,
    bytes_per_token: Ratio,
    /// The replica that generates fastest, and its tokens per millisecond.
    fastest: Option<(ReplicaKey, f64)>,
    /// What others are compared with: that rate, followed in steps of a tenth.
    yardstick: f64,
    /// How far a job's length is from what was predicted, in milliseconds.
    deviation_ms: Option<f64>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    digest: Option<String>,
    paces: Paces,
}

/// A replica generates slower for each when many share it. Whoever waits, waits
/// for busy replicas; so what was seen there counts first.
#[derive(Debug, Clone, Default)]
struct Paces {
    busy: Pace,
    any: Pace,
}

impl Paces {
    fn pace(&self) -> Option<&Pace> {
        if self.busy.jobs() >= ENOUGH {
            return Some(&self.busy);
        }
        (self.any.jobs() > 0).then_some(&self.any)
    }

    fn learn(&mut self, lesson: &Lesson<'_>) {
        self.any.learn(lesson);
        if lesson.busy {
            self.busy.learn(lesson);
        }
    }
}

impl Pool {
    /// A replica generates at this rate now. Returns whether the yardstick has moved, so
    /// that others have to be compared anew.
    fn generates(&mut self, replica: &ReplicaKey, rate: Option<f64>) -> bool {
        match (&mut self.fastest, rate) {
            (Some((fastest, known)), Some(rate)) if fastest == replica && rate >= *known => {
                *known = rate;
            }
            (Some((fastest, _)), _) if fastest == replica => self.look_for_fastest(),
            (Some((_, known)), Some(rate)) if rate < *known => return false,
            (Some(_) | None, Some(rate)) => self.fastest = Some((replica.clone(), rate)),
            (Some(_) | None, None) => return false,
        }
        let rate = self.fastest.as_ref().map_or(0.0, |(_, rate)| *rate);
        let has_moved = rate > self.yardstick * 1.1 || rate < self.yardstick * 0.9;
        if has_moved {
            self.yardstick = rate;
        }
        has_moved
    }

    fn look_for_fastest(&mut self) {
        let rates = self.replicas.iter().filter_map(|(key, known)| {
            let rate = known.paces.pace()?.speed()?;
            Some((key, rate))
        });
        let fastest = rates.max_by(|(_, one), (_, other)| one.total_cmp(other));
        self.fastest = fastest.map(|(key, rate)| (key.clone(), rate));
    }
}

impl Experience {
    /// Learns from a job that ended with an answer. Returns whether other replicas
    /// may be slow now that were not before, or not any more.
    pub fn learn(&mut self, lesson: &Lesson<'_>) -> bool {
        let predicted = self.service_ms(lesson.model, lesson.replica, &lesson.demand);
        let pool = self.pools.entry(lesson.model.clone()).or_default();
        let known = pool.replicas.entry(lesson.replica.clone()).or_default();
        if known.digest.as_deref() != lesson.digest {
            *known = Known {
                digest: lesson.digest.map(str::to_owned),
                paces: Paces::default(),
            };
        }
        known.paces.learn(lesson);
        let rate = known.paces.pace().and_then(Pace::speed);
        let has_moved = pool.generates(lesson.replica, rate);
        pool.all.learn(lesson);
        pool.lengths
            .learn(lesson.usage.completion_tokens, lesson.demand.max_tokens);
        if lesson.usage.prompt_tokens > 0 && lesson.demand.prompt_bytes > 0 {
            pool.bytes_per_token.add(
                f64_of(lesson.demand.prompt_bytes),
                f64_of(lesson.usage.prompt_tokens),
            );
        }
        if let Some((predicted, took)) = predicted.zip(lesson.took_ms) {
            let off = (predicted - f64_of(took)).abs();
            let known = pool.deviation_ms.get_or_insert(off);
            *known += WEIGHT * (off - *known);
        }
        has_moved
    }

    /// Tokens of a prompt, estimated.
    #[must_use]
    pub fn prompt_tokens(&self, model: &ModelName, demand: &Demand) -> u64 {
        ms_of(f64_of(demand.prompt_bytes) / self.bytes_per_token(model))
    }

    /// Tokens that prompt and longest answer need for certain.
    #[must_use]
    pub fn fewest_tokens(&self, model: &ModelName, demand: &Demand) -> u64 {
        let learnt = self
            .pools
            .get(model)
            .and_then(|pool| pool.bytes_per_token.rate());
        let most_bytes = learnt.map_or(USUAL_BYTES_PER_TOKEN * 2.0, |bytes| bytes * 1.5);
        let text = demand.prompt_bytes.saturating_sub(FRAME_BYTES);
        ms_of(f64_of(text) / most_bytes) + demand.max_tokens.map_or(1, u64::from)
    }

    /// Tokens of an answer, estimated.
    #[must_use]
    pub fn answer_tokens(&self, model: &ModelName, demand: &Demand) -> Option<f64> {
        let most = demand.max_tokens.map_or(f64::MAX, f64::from);
        if let Some(expected) = demand.expected_tokens {
            return Some(f64::from(expected).min(most));
        }
        self.pools.get(model)?.lengths.expected(demand.max_tokens)
    }

    /// How long a job takes on a replica, from its order to its end, in
    /// milliseconds; `None` as long as nothing is known of its pool.
    #[must_use]
    pub fn service_ms(
        &self,
        model: &ModelName,
        replica: &ReplicaKey,
        demand: &Demand,
    ) -> Option<f64> {
        let pace = self.pace(model, replica)?;
        let answer = self.answer_tokens(model, demand)?;
        Some(self.until_first_ms(pace, model, demand) + pace.decode_ms(answer))
    }

    /// The same with an answer as long as one that is known, chosen by `luck`
    /// in 0 to 1: means say nothing of who is ready first.
    #[must_use]
    pub(crate) fn one_service_ms(
        &self,
        model: &ModelName,
        replica: &ReplicaKey,
        demand: &Demand,
        luck: f64,
    ) -> Option<f64> {
        let pace = self.pace(model, replica)?;
        let answer = self.one_answer(model, demand, luck)?;
        Some(self.until_first_ms(pace, model, demand) + pace.decode_ms(answer))
    }

    /// How long a job that was ordered `elapsed_ms` ago still takes, in
    /// milliseconds, with an answer chosen by `luck`.
    #[must_use]
    pub(crate) fn one_rest_ms(
        &self,
        model: &ModelName,
        replica: &ReplicaKey,
        demand: &Demand,
        elapsed_ms: f64,
        luck: f64,
    ) -> Option<f64> {
        let pace = self.pace(model, replica)?;
        let before = self.until_first_ms(pace, model, demand) - elapsed_ms;
        if before >= 0.0 {
            return Some(before + pace.decode_ms(self.one_answer(model, demand, luck)?));
        }
        let said = pace.tokens_in(-before);
        let rest = match demand.expected_tokens {
            Some(expected) if f64::from(expected) > said => f64::from(expected) - said,
            Some(_) | None => {
                let lengths = &self.pools.get(model)?.lengths;
                lengths.rest(demand.max_tokens, said, luck)
            }
        };
        Some(pace.more_ms(rest))
    }

    fn one_answer(&self, model: &ModelName, demand: &Demand, luck: f64) -> Option<f64> {
        if demand.expected_tokens.is_some() {
            return self.answer_tokens(model, demand);
        }
        let lengths = &self.pools.get(model)?.lengths;
        lengths.one(demand.max_tokens, luck)
    }

    fn until_first_ms(&self, pace: &Pace, model: &ModelName, demand: &Demand) -> f64 {
        pace.first_token_ms(f64_of(self.prompt_tokens(model, demand)))
    }

    /// Mean length of a job of this pool, in milliseconds.
    #[must_use]
    pub fn usual_ms(&self, model: &ModelName) -> Option<f64> {
        let pool = self.pools.get(model)?;
        let pace = pool.all.pace()?;
        Some(pace.usual_first_token_ms() + pace.decode_ms(pool.lengths.expected(None)?))
    }

    /// How far predictions of one job's length are off, in milliseconds.
    #[must_use]
    pub fn deviation_ms(&self, model: &ModelName) -> Option<f64> {
        self.pools.get(model)?.deviation_ms
    }

    /// Tokens per second that a replica generates for one request.
    #[must_use]
    pub fn tokens_per_s(&self, model: &ModelName, replica: &ReplicaKey) -> Option<f64> {
        Some(self.pace(model, replica)?.decode_rate()? * 1000.0)
    }

    /// Whether a replica is known to generate at less than `share` of its pool's fastest.
    #[must_use]
    pub fn is_slow(&self, model: &ModelName, replica: &ReplicaKey, share: f64) -> bool {
        let Some(pool) = self.pools.get(model) else {
            return false;
        };
        let known = pool.replicas.get(replica);
        let rate = known.and_then(|known| known.paces.pace()?.speed());
        rate.is_some_and(|rate| rate < pool.yardstick * share)
    }

    /// Forgets a replica that is gone for good. Returns whether others may not be slow
    /// any more.
    pub fn forget(&mut self, model: &ModelName, replica: &ReplicaKey) -> bool {
        let Some(pool) = self.pools.get_mut(model) else {
            return false;
        };
        pool.replicas.remove(replica);
        pool.generates(replica, None)
    }

    /// Bytes of a prompt that make a token.
    #[must_use]
    pub fn bytes_per_token(&self, model: &ModelName) -> f64 {
        let learnt = self
            .pools
            .get(model)
            .and_then(|pool| pool.bytes_per_token.rate());
        learnt.unwrap_or(USUAL_BYTES_PER_TOKEN).max(0.5)
    }

    fn pace(&self, model: &ModelName, replica: &ReplicaKey) -> Option<&Pace> {
        let pool = self.pools.get(model)?;
        let own = pool
            .replicas
            .get(replica)
            .and_then(|known| known.paces.pace());
        own.or_else(|| pool.all.pace())
    }
}
