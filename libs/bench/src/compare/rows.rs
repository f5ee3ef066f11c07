//! The rows of the table and their goals.

use std::collections::BTreeMap;

use serde_json::Value;

use super::results::{Rounds, number};

/// What a figure is: a path in the result, read as it is or over `direct`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Figure {
    Of(&'static str),
    /// The figure less that of `direct` in the same round.
    Added(&'static str),
    /// The first as a share of the sum of both.
    Share(&'static str, &'static str),
}
use Figure::{Added, Of, Share};

#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    Nothing,
    /// Product divided by floor.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// The product's own figure, in the unit of the row.
    AtMost(f64),
    AtLeast(f64),
}
use Goal::{AtLeast, AtMost, Nothing, RatioAtLeast, RatioAtMost};

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) scenario: &'static str,
    title: &'static str,
    figure: Figure,
    /// Multiplies the stored figure.
    scale: f64,
    digits: usize,
    goal: Goal,
}

const fn row(
    scenario: &'static str,
    title: &'static str,
    figure: Figure,
    digits: usize,
    goal: Goal,
) -> Row {
    Row {
        scenario,
        title,
        figure,
        scale: 1.0,
        digits,
        goal,
    }
}

const fn percent(row: Row) -> Row {
    Row {
        scale: 100.0,
        ..row
    }
}

/// The goals are explained in the README; change both together.
#[rustfmt::skip] // a table: one row a line
pub(super) const ROWS: &[Row] = &[
    row("start", "start-up ms", Of("startup_ms"), 0, RatioAtMost(10.0)),
    row("start", "idle memory MiB (PSS)", Of("idle_pss_mib"), 1, RatioAtMost(4.0)),
    row("start", "idle CPU % of a core", Of("idle_cpu_percent"), 1, AtMost(1.0)),
    row("plain-c1", "latency p50 us", Added("latency_us.p50"), 0, RatioAtMost(1.6)),
    row("plain-c1", "latency p99 us", Added("latency_us.p99"), 0, RatioAtMost(2.0)),
    row("plain-c1", "way in, client to engine, p50 us", Of("request_path_us.p50"), 0, Nothing),
    row("plain-c1", "way out, engine to client, p50 us", Of("token_transit_us.p50"), 0, Nothing),
    row("plain-c1", "CPU us/request", Of("sut_cpu_us_per_request"), 0, RatioAtMost(2.0)),
    row("plain-c64", "requests/s", Of("requests_per_s"), 0, RatioAtLeast(0.5)),
    row("plain-c64", "latency p99 us", Of("latency_us.p99"), 0, RatioAtMost(2.0)),
    row("plain-c64", "CPU us/request", Of("sut_cpu_us_per_request"), 0, RatioAtMost(2.5)),
    row("stream-1", "first token p50 us", Added("time_to_first_token_us.p50"), 0, RatioAtMost(1.6)),
    row("stream-1", "token transit p50 us", Of("token_transit_us.p50"), 0, RatioAtMost(2.0)),
    row("stream-1", "token transit p99 us", Of("token_transit_us.p99"), 0, RatioAtMost(2.0)),
    row("stream-256", "token transit p50 us", Of("token_transit_us.p50"), 0, RatioAtMost(1.8)),
    row("stream-256", "token transit p99 us", Of("token_transit_us.p99"), 0, RatioAtMost(2.0)),
    percent(row("stream-256", "bunched tokens %", Of("bunched_share"), 1, AtMost(0.1))),
    row("stream-256", "stalls over 100 ms", Of("stalls"), 0, AtMost(0.0)),
    row("stream-256", "CPU us/token", Of("sut_cpu_us_per_token"), 1, RatioAtMost(2.2)),
    row("stream-1000-slow", "tokens/s", Of("tokens_per_s"), 0, RatioAtLeast(0.99)),
    row("stream-1000-slow", "token transit p50 us", Of("token_transit_us.p50"), 0, RatioAtMost(1.8)),
    row("stream-1000-slow", "token transit p99 us", Of("token_transit_us.p99"), 0, RatioAtMost(3.0)),
    row("stream-1000", "tokens/s", Of("tokens_per_s"), 0, RatioAtLeast(0.99)),
    row("stream-1000", "token transit p50 us", Of("token_transit_us.p50"), 0, RatioAtMost(1.8)),
    row("stream-1000", "token transit p99 us", Of("token_transit_us.p99"), 0, RatioAtMost(3.0)),
    percent(row("stream-1000", "bunched tokens %", Of("bunched_share"), 1, AtMost(0.1))),
    row("stream-1000", "stalls over 100 ms", Of("stalls"), 0, AtMost(0.0)),
    row("stream-1000", "CPU us/token", Of("sut_cpu_us_per_token"), 1, RatioAtMost(2.2)),
    row("stream-1000", "peak memory MiB", Of("sut.rss_peak_mib"), 0, RatioAtMost(3.0)),
    percent(row("cancel-streams", "stopped on the engine %", Share("cancelled", "left_running"), 0, AtLeast(100.0))),
    row("cancel-streams", "last stop after ms", Of("last_cancel_ms"), 1, AtMost(10.0)),
    percent(row("cancel-waiting", "stopped on the engine %", Share("cancelled", "left_running"), 0, AtLeast(100.0))),
    row("cancel-waiting", "last stop after ms", Of("last_cancel_ms"), 1, AtMost(10.0)),
    row("kill-plain", "broken in flight", Of("broken_in_flight"), 0, AtMost(0.0)),
    row("kill-plain", "failed new", Of("failed_new"), 0, AtMost(0.0)),
    row("kill-plain", "worst new ms", Of("worst_latency_after_ms"), 0, AtMost(100.0)),
    row("kill-plain", "back after ms", Of("back_in_rotation_ms"), 0, AtMost(500.0)),
    row("kill-streams", "broken in flight", Of("broken_in_flight"), 0, AtMost(0.0)),
    percent(row("kill-streams", "saved %", Share("saved_in_flight", "broken_in_flight"), 0, AtLeast(100.0))),
    row("kill-streams", "saved, late by ms", Of("saved_delay_ms_max"), 0, AtMost(100.0)),
    row("kill-streams", "break known after ms", Of("detection_ms_max"), 0, Nothing),
    row("kill-streams", "failed new", Of("failed_new"), 0, AtMost(0.0)),
    row("kill-streams", "back after ms", Of("back_in_rotation_ms"), 0, RatioAtMost(1.25)),
];

impl Row {
    /// The name of the figure.
    pub(super) fn title(&self) -> String {
        let added = if self.is_added() { "added " } else { "" };
        format!("{added}{}", self.title)
    }

    pub(super) fn is_added(&self) -> bool {
        matches!(self.figure, Added(_))
    }

    /// The same figure, not counted from `direct`: what its own column shows.
    pub(super) fn whole(&self) -> Self {
        let figure = match self.figure {
            Added(path) | Of(path) => Of(path),
            Share(part, rest) => Share(part, rest),
        };
        Self {
            figure,
            goal: Nothing,
            ..*self
        }
    }

    /// The figure of each round that has one.
    pub(super) fn series(
        &self,
        rounds: Option<&Rounds>,
        base: Option<&Rounds>,
    ) -> BTreeMap<u64, f64> {
        let of = |(round, result): (&u64, &Value)| {
            let base = base.and_then(|base| base.get(round));
            Some((*round, self.at(result, base)?))
        };
        rounds.into_iter().flatten().filter_map(of).collect()
    }

    fn at(&self, result: &Value, base: Option<&Value>) -> Option<f64> {
        // Times and costs of a run without a good answer say nothing.
        if result.get("ok").and_then(Value::as_u64) == Some(0) {
            return None;
        }
        let figure = match self.figure {
            // No delay without a stream that was saved.
            Of("saved_delay_ms_max") if number(result, "saved_in_flight") == Some(0.0) => None,
            Of(path) => number(result, path),
            Added(path) => Some(number(result, path)? - number(base?, path)?),
            Share(part, rest) => {
                let (part, rest) = (number(result, part)?, number(result, rest)?);
                (part + rest > 0.0).then(|| part / (part + rest))
            }
        };
        figure.map(|figure| figure * self.scale)
    }

    pub(super) fn show(&self, value: Option<f64>, has_sign: bool) -> String {
        match (value, has_sign) {
            (None, _) => "–".to_owned(),
            (Some(value), true) => format!("{value:+.*}", self.digits),
            (Some(value), false) => format!("{value:.*}", self.digits),
        }
    }

    pub(super) fn goal(&self) -> String {
        match self.goal {
            Nothing => String::new(),
            RatioAtMost(goal) => format!("≤ {goal}×"),
            RatioAtLeast(goal) => format!("≥ {goal}×"),
            AtMost(goal) => format!("≤ {goal}"),
            AtLeast(goal) => format!("≥ {goal}"),
        }
    }

    /// Whether the goal is met, if there is one; a figure that is missing meets
    /// none.
    pub(super) fn is_met(&self, product: Option<f64>, ratio: Option<f64>) -> Option<bool> {
        match self.goal {
            Nothing => None,
            RatioAtMost(goal) => Some(ratio.is_some_and(|ratio| ratio <= goal)),
            RatioAtLeast(goal) => Some(ratio.is_some_and(|ratio| ratio >= goal)),
            AtMost(goal) => Some(product.is_some_and(|product| product <= goal)),
            AtLeast(goal) => Some(product.is_some_and(|product| product >= goal)),
        }
    }
}
