//! Latency histograms and their summaries.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest time that is told apart: an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Nanosecond histogram, three significant digits, up to an hour.
#[derive(Clone, Debug)]
pub struct Hist(Histogram<u64>);

impl Default for Hist {
    #[expect(clippy::expect_used, reason = "the bounds are constants and valid")]
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("valid bounds"))
    }
}

impl Hist {
    /// Adds a time.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    /// Adds all times of another.
    #[expect(clippy::expect_used, reason = "all have the same bounds")]
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("same bounds");
    }

    /// Sums it up.
    pub fn summary(&self) -> Summary {
        if self.0.is_empty() {
            return Summary::default();
        }
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Summary {
            count: self.0.len(),
            mean: self.0.mean() / 1e3,
            min: self.0.min() as f64 / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1e3,
        }
    }
}

/// A histogram summed up; all but the count in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// How many times.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The shortest.
    pub min: f64,
    /// Half are shorter.
    pub p50: f64,
    /// Nine of ten are shorter.
    pub p90: f64,
    /// 99 of 100 are shorter.
    pub p99: f64,
    /// 999 of 1000 are shorter.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// The median of the finite values; none when there are none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut finite: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
    finite.sort_by(f64::total_cmp);
    let middle = finite.len() / 2;
    match finite.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(finite[middle]),
        _ => Some(f64::midpoint(finite[middle - 1], finite[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_microseconds() {
        let mut hist = Hist::default();
        (1..=1_000).for_each(|us| hist.record(us * 1_000));
        let summary = hist.summary();
        assert_eq!(summary.count, 1_000);
        assert!((summary.p50 - 500.0).abs() < 2.0, "{summary:?}");
        assert!((summary.p99 - 990.0).abs() < 2.0, "{summary:?}");
        assert_eq!(Hist::default().summary().count, 0);
    }

    #[test]
    fn a_median_ignores_what_is_not_a_number() {
        assert_eq!(median(&[3.0, f64::NAN, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0]), Some(1.5));
        assert_eq!(median(&[f64::INFINITY]), None);
    }
}
