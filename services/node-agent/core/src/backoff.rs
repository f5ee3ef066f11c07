//! When an engine that ended is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// An engine that ran for so long had started well.
const WELL: Duration = Duration::from_secs(30);

/// Waits longer after each failure in a row: at once after the first end of an
/// engine that ran well, then 100 ms, doubled up to 30 s.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// An engine ended after it had run for `ran`: how long to wait.
    pub fn ended_after(&mut self, ran: Duration) -> Duration {
        if ran >= WELL {
            self.failures = 0;
        }
        let wait = match self.failures {
            0 => Duration::ZERO,
            n => FIRST.saturating_mul(1 << (n - 1).min(16)).min(LONGEST),
        };
        self.failures += 1;
        wait
    }

    /// How often it failed in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_ran_well_is_started_at_once() {
        let mut backoff = Backoff::default();
        assert_eq!(
            backoff.ended_after(Duration::from_secs(3600)),
            Duration::ZERO
        );
    }

    #[test]
    fn waits_longer_and_longer_but_not_for_ever() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..12)
            .map(|_| backoff.ended_after(Duration::from_millis(5)).as_millis())
            .collect();
        assert_eq!(waits[..5], [0, 100, 200, 400, 800]);
        assert_eq!(waits[11], 30_000);
    }

    #[test]
    fn a_good_run_forgives_what_was_before() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.ended_after(Duration::ZERO);
        }
        assert_eq!(backoff.ended_after(WELL), Duration::ZERO);
    }
}
