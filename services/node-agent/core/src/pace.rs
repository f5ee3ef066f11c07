//! How fast an engine answers, and what follows for how it is asked.

use orchion_contract::job::JobSpec;
use std::time::Duration;

/// Longest answer, by what is expected, that is asked for in one body: so much
/// work is lost when its engine dies, and so long an engine that does not notice
/// a hang-up works for nobody.
const BRIEF: Duration = Duration::from_millis(250);
/// Share of a quicker answer in what is expected next.
const WEIGHT: u32 = 8;

/// What an engine has taken for a token, from the request on.
///
/// A slow answer counts at once, quick ones by and by: who is wrong here should
/// expect too much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    per_token: Option<Duration>,
}

impl Pace {
    /// An answer of `tokens` took so long.
    pub fn learn(&mut self, tokens: u64, took: Duration) {
        let Some(tokens) = u32::try_from(tokens).ok().filter(|tokens| *tokens > 0) else {
            return;
        };
        let now = took / tokens;
        self.per_token = Some(match self.per_token {
            Some(known) if now < known => known - (known - now) / WEIGHT,
            Some(_) | None => now,
        });
    }

    /// Whether the answer to `spec` is asked for in one body: its caller sees
    /// nothing of it before its end, and it is over at once even when it gets as
    /// long as it may.
    #[must_use]
    pub fn is_brief(&self, spec: &JobSpec) -> bool {
        let longest = self.per_token.zip(spec.max_tokens);
        spec.whole && longest.is_some_and(|(each, most)| each.saturating_mul(most) <= BRIEF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchion_contract::job::{Priority, Workload};
    use serde_json::value::RawValue;

    fn spec(max_tokens: Option<u32>) -> JobSpec {
        JobSpec {
            workload: Workload::Chat,
            model: "m".into(),
            body: RawValue::from_string("{}".to_owned()).unwrap(),
            body_ref: None,
            max_tokens,
            seed: None,
            priority: Priority::Interactive,
            seed_drawn: false,
            deadline_ms: 1,
            whole: true,
            timeouts: Default::default(),
            expected_tokens: None,
            placement: None,
        }
    }

    fn paced(ms_per_token: u64) -> Pace {
        let mut pace = Pace::default();
        pace.learn(10, Duration::from_millis(10 * ms_per_token));
        pace
    }

    #[test]
    fn nothing_is_brief_before_the_engine_is_known() {
        assert!(!Pace::default().is_brief(&spec(Some(1))));
    }

    #[test]
    fn what_is_over_in_a_quarter_of_a_second_is_brief() {
        assert!(paced(10).is_brief(&spec(Some(25))));
        assert!(!paced(10).is_brief(&spec(Some(26))));
        assert!(!paced(10).is_brief(&spec(None)), "it has no end");
    }

    #[test]
    fn who_reads_along_gets_a_stream() {
        let read_along = JobSpec {
            whole: false,
            ..spec(Some(1))
        };
        assert!(!paced(1).is_brief(&read_along));
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_quick_ones_by_and_by() {
        let mut pace = paced(1);
        assert!(pace.is_brief(&spec(Some(100))));
        pace.learn(10, Duration::from_millis(100));
        assert!(!pace.is_brief(&spec(Some(100))));
        let quick = (0..100).position(|_| {
            pace.learn(10, Duration::from_millis(10));
            pace.is_brief(&spec(Some(100)))
        });
        assert!((3..20).contains(&quick.unwrap()));
    }

    #[test]
    fn an_answer_without_tokens_teaches_nothing() {
        let mut pace = paced(1);
        pace.learn(0, Duration::from_secs(9));
        assert_eq!(pace, paced(1));
    }
}
