//! A replica that fails again and again rests for a while.

use crate::Now;
use std::time::Duration;

/// Failures in a row before it rests.
const THRESHOLD: u32 = 3;
/// The first rest; each further one is twice as long.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// The failures of one replica.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breaker {
    /// In a row.
    failures: u32,
    /// When the last one was counted.
    failed_at: Now,
    /// Rests in a row.
    rests: u32,
    rests_until: Option<Now>,
    /// Whether the last failure was the answer of an engine that lives.
    lives: bool,
}

impl Breaker {
    /// An attempt that was ordered at `ordered_at` failed. All that one death
    /// takes along count as one: those ordered before the last failure.
    /// The engine may live and have answered with that failure.
    pub fn failed(&mut self, ordered_at: Now, now: Now, lives: bool) {
        if self.failures > 0 && ordered_at <= self.failed_at {
            return;
        }
        self.failures += 1;
        self.failed_at = now;
        self.lives = lives;
        if self.failures >= THRESHOLD || self.rests > 0 {
            let rest = FIRST_REST * (1 << self.rests.min(5));
            self.rests += 1;
            self.rests_until = Some(now + rest.min(LONGEST_REST));
        }
    }

    /// An attempt ended well, or the engine was started anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether it rests now, and until when.
    #[must_use]
    pub fn rests_until(&self, now: Now) -> Option<Now> {
        self.rests_until.filter(|until| *until > now)
    }

    /// Whether its engine lives and fails: whoever has nowhere else to go need
    /// not wait for the end of the rest to learn the same.
    #[must_use]
    pub fn is_of_the_living(&self) -> bool {
        self.lives
    }

    /// Whether it rested and has not proved itself since: one job at a time.
    #[must_use]
    pub fn is_on_trial(&self, now: Now) -> bool {
        self.rests_until.is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Duration::from_millis(ms)
    }

    #[test]
    fn three_failures_in_a_row_are_a_rest_and_each_rest_is_longer() {
        let mut breaker = Breaker::default();
        for n in 1..=3 {
            assert_eq!(breaker.rests_until(at(n * 100)), None);
            breaker.failed(at(n * 100), at(n * 100 + 10), false);
        }
        assert_eq!(breaker.rests_until(at(311)), Some(at(2310)));
        assert!(!breaker.is_on_trial(at(311)) && breaker.is_on_trial(at(2310)));
        breaker.failed(at(2400), at(2410), false);
        assert_eq!(breaker.rests_until(at(2411)), Some(at(6410)));
        breaker.reset();
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn one_death_is_one_failure() {
        let mut breaker = Breaker::default();
        for job in 0..20 {
            breaker.failed(at(job), at(1000 + job), false);
        }
        assert_eq!(breaker.rests_until(at(1100)), None);
    }

    #[test]
    fn no_rest_is_longer_than_a_minute() {
        let mut breaker = Breaker::default();
        for n in 1..40 {
            breaker.failed(at(n * 1_000_000), at(n * 1_000_000), false);
        }
        let until = breaker.rests_until(at(39_000_000)).unwrap();
        assert_eq!(until, at(39_060_000));
    }
}
