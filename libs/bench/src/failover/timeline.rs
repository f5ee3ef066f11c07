//! Requests before, during and after a kill.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::drive::Line;
use crate::stats::{Hist, Summary};

/// When it happened, in nanoseconds on the shared clock; `u64::MAX` for never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    pub(super) kill: u64,
    pub(super) restart: u64,
}

/// What clients saw.
#[derive(Serialize, Default, Debug)]
pub(super) struct FailoverResult {
    pub(super) stream: bool,
    pub(super) rate: f64,
    pub(super) concurrency: usize,
    total: usize,
    ok: usize,
    failed_before_kill: usize,
    latency_before_us: Summary,
    /// Requests under way at the kill that failed, by class.
    broken_in_flight: BTreeMap<String, usize>,
    /// Of those, requests that the surviving engine was serving.
    collateral: usize,
    /// Requests under way at the kill on the killed engine that still ended well.
    saved_in_flight: usize,
    /// How much longer than usual (median before the kill) those took.
    saved_delay_ms_p50: f64,
    saved_delay_ms_max: f64,
    /// From the kill to the moment the client knew, for broken requests.
    detection_ms_p50: f64,
    detection_ms_max: f64,
    /// Requests sent after the kill (and before the restart) that failed.
    failed_new: BTreeMap<String, usize>,
    new_requests: usize,
    /// From the kill to the start of the last request that failed; 0 when none did.
    time_to_no_error_ms: f64,
    /// Requests sent after the kill that succeeded but took far longer than before.
    slow_new: usize,
    time_to_no_slow_ms: f64,
    worst_latency_after_ms: f64,
    /// From the restart to the first answer of the restarted engine.
    back_in_rotation_ms: Option<f64>,
    failed_after_restart: BTreeMap<String, usize>,
}

/// Reads a timeline; what it has seen goes into `result` when it is through.
struct Reading<'a> {
    moments: Moments,
    killed_engine: &'a str,
    usual_ns: u64,
    slow_ns: u64,
    detection: Hist,
    saved: Hist,
    last_failed: u64,
    last_slow: u64,
    result: FailoverResult,
}

impl FailoverResult {
    /// Sums up the requests of a run in which `killed_engine` was killed.
    pub(super) fn of(lines: &[Line], moments: Moments, killed_engine: &str) -> Self {
        let mut before = Hist::default();
        for line in lines
            .iter()
            .filter(|line| line.end < moments.kill && line.error.is_none())
        {
            before.record(line.end - line.start);
        }
        let before = before.summary();
        let slow_us = (before.p99 * 5.0).max(before.p99 + 100_000.0);
        let mut reading = Reading {
            moments,
            killed_engine,
            usual_ns: (before.p50 * 1e3) as u64,
            slow_ns: (slow_us * 1e3) as u64,
            detection: Hist::default(),
            saved: Hist::default(),
            last_failed: moments.kill,
            last_slow: moments.kill,
            result: Self {
                latency_before_us: before,
                ..Self::default()
            },
        };
        lines.iter().for_each(|line| reading.line(line));
        reading.finish()
    }

    /// The result for a human.
    pub(super) fn render(&self, title: &str, is_restarted: bool) -> String {
        let mut out = format!(
            "{title}: {} requests, {} ok; before the kill: p50 {:.1} ms, p99 {:.1} ms, {} failed\n",
            self.total,
            self.ok,
            self.latency_before_us.p50 / 1e3,
            self.latency_before_us.p99 / 1e3,
            self.failed_before_kill
        );
        let _ = writeln!(
            out,
            "  in flight at the kill: {} broken {:?} (client knew after p50 {:.1} ms, max {:.1} ms), \
             {} saved ({:.0} ms late at most), {} collateral",
            sum(&self.broken_in_flight),
            self.broken_in_flight,
            self.detection_ms_p50,
            self.detection_ms_max,
            self.saved_in_flight,
            self.saved_delay_ms_max,
            self.collateral
        );
        let _ = writeln!(
            out,
            "  sent after the kill: {} requests, {} failed {:?}, no error after {:.0} ms; \
             {} slow, last at {:.0} ms; worst {:.0} ms",
            self.new_requests,
            sum(&self.failed_new),
            self.failed_new,
            self.time_to_no_error_ms,
            self.slow_new,
            self.time_to_no_slow_ms,
            self.worst_latency_after_ms
        );
        let failed = sum(&self.failed_after_restart);
        let _ = match (is_restarted, self.back_in_rotation_ms) {
            (false, _) => Ok(()),
            (true, Some(ms)) => writeln!(
                out,
                "  after the restart: engine back in rotation after {ms:.0} ms, {failed} failed"
            ),
            (true, None) => writeln!(out, "  after the restart: the engine got no request"),
        };
        out
    }
}

impl Reading<'_> {
    fn line(&mut self, line: &Line) {
        self.result.total += 1;
        self.result.ok += usize::from(line.error.is_none());
        if line.end < self.moments.kill {
            self.result.failed_before_kill += usize::from(line.error.is_some());
        } else if line.start < self.moments.kill {
            self.in_flight(line);
        } else if line.start < self.moments.restart {
            self.sent_after(line);
        } else {
            self.after_restart(line);
        }
    }

    fn is_on_killed(&self, line: &Line) -> bool {
        line.engine.split('>').next() == Some(self.killed_engine)
    }

    fn in_flight(&mut self, line: &Line) {
        let is_on_killed = self.is_on_killed(line);
        if line.error.is_some() {
            count(&mut self.result.broken_in_flight, line);
            self.result.collateral += usize::from(!is_on_killed && !line.engine.is_empty());
            self.detection.record(line.end - self.moments.kill);
        } else if is_on_killed && line.last_token > self.moments.kill {
            self.result.saved_in_flight += 1;
            self.saved
                .record((line.end - line.start).saturating_sub(self.usual_ns));
        }
    }

    fn sent_after(&mut self, line: &Line) {
        self.result.new_requests += 1;
        let worst = self.result.worst_latency_after_ms;
        self.result.worst_latency_after_ms = worst.max(ms(line.start, line.end));
        if line.error.is_some() {
            count(&mut self.result.failed_new, line);
            self.last_failed = self.last_failed.max(line.start);
        } else if line.end - line.start > self.slow_ns {
            self.result.slow_new += 1;
            self.last_slow = self.last_slow.max(line.start);
        }
    }

    fn after_restart(&mut self, line: &Line) {
        if line.error.is_some() {
            count(&mut self.result.failed_after_restart, line);
        } else if self.is_on_killed(line) {
            let back = ms(self.moments.restart, line.end);
            let best = self.result.back_in_rotation_ms.get_or_insert(back);
            *best = best.min(back);
        }
    }

    fn finish(self) -> FailoverResult {
        let (detection, saved) = (self.detection.summary(), self.saved.summary());
        FailoverResult {
            detection_ms_p50: detection.p50 / 1e3,
            detection_ms_max: detection.max / 1e3,
            saved_delay_ms_p50: saved.p50 / 1e3,
            saved_delay_ms_max: saved.max / 1e3,
            time_to_no_error_ms: ms(self.moments.kill, self.last_failed),
            time_to_no_slow_ms: ms(self.moments.kill, self.last_slow),
            ..self.result
        }
    }
}

fn count(classes: &mut BTreeMap<String, usize>, line: &Line) {
    let class = line.error.clone().unwrap_or_default();
    *classes.entry(class).or_default() += 1;
}

fn sum(classes: &BTreeMap<String, usize>) -> usize {
    classes.values().sum()
}

fn ms(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn line(start_ms: u64, end_ms: u64, engine: &str, error: Option<&str>) -> Line {
        Line {
            start: start_ms * MS,
            end: end_ms * MS,
            last_token: end_ms * MS,
            engine: engine.to_owned(),
            error: error.map(str::to_owned),
        }
    }

    fn read(lines: &[Line]) -> FailoverResult {
        let moments = Moments {
            kill: 1_000 * MS,
            restart: 2_000 * MS,
        };
        FailoverResult::of(lines, moments, "b")
    }

    #[test]
    fn requests_are_told_apart_by_when_they_ran() {
        let result = read(&[
            line(0, 10, "b", None),
            line(990, 1_060, "b>a", None),
            line(995, 1_003, "b", Some("reset:mid_answer")),
            line(995, 1_004, "a", Some("reset:mid_answer")),
            line(1_100, 1_110, "a", None),
            line(1_200, 1_201, "", Some("connect")),
            line(2_050, 2_060, "a", None),
            line(2_100, 2_110, "b", None),
        ]);
        assert_eq!((result.total, result.ok), (8, 5));
        assert_eq!(
            (result.saved_in_flight, sum(&result.broken_in_flight)),
            (1, 2)
        );
        assert_eq!((result.collateral, result.new_requests), (1, 2));
        assert_eq!(
            result.failed_new,
            BTreeMap::from([("connect".to_owned(), 1)])
        );
        assert!((result.time_to_no_error_ms - 200.0).abs() < 1e-6);
        assert_eq!(result.back_in_rotation_ms, Some(110.0));
        assert!((result.saved_delay_ms_max - 60.0).abs() < 1.0, "{result:?}");
    }

    #[test]
    fn an_engine_that_never_comes_back_is_not_in_rotation() {
        let result = read(&[line(2_050, 2_060, "a", None)]);
        assert_eq!(result.back_in_rotation_ms, None);
        assert!(result.render("x", true).contains("got no request"));
    }
}
