//! What came back, counted.

use std::collections::BTreeMap;

use crate::stats::Hist;

/// One request, for a timeline; times in nanoseconds on the shared clock.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) last_token: u64,
    /// The engines that answered, in turn, joined with `>`.
    pub(crate) engine: String,
    pub(crate) error: Option<String>,
}

/// Counts and times of the requests that fell into the window.
#[derive(Default)]
pub(crate) struct Record {
    pub(super) window: (u64, u64),
    pub(crate) ok: u64,
    /// By class: how often, and what the first one said.
    pub(crate) errors: BTreeMap<String, (u64, String)>,
    pub(crate) latency: Hist,
    pub(crate) ttft: Hist,
    pub(crate) itl: Hist,
    pub(crate) request_path: Hist,
    pub(crate) transit: Hist,
    pub(crate) first_transit: Hist,
    pub(crate) lag: Hist,
    pub(crate) tokens: u64,
    pub(crate) bunched: u64,
    pub(crate) stalls: u64,
    pub(crate) stalled_streams: u64,
    pub(crate) connections: u64,
    pub(crate) engines: BTreeMap<String, u64>,
    pub(crate) lines: Vec<Line>,
}

impl Record {
    pub(super) fn of(window: (u64, u64)) -> Self {
        Self {
            window,
            ..Self::default()
        }
    }

    pub(super) fn is_inside(&self, at: u64) -> bool {
        (self.window.0..self.window.1).contains(&at)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().map(|(count, _)| count).sum()
    }

    pub(super) fn fail(&mut self, class: impl Into<String>, detail: String) {
        self.errors.entry(class.into()).or_insert((0, detail)).0 += 1;
    }

    /// Counts a request that was not sent, because too many are under way.
    pub(super) fn refuse(&mut self, scheduled: u64) {
        if self.is_inside(scheduled) {
            self.fail("client_cap", String::new());
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.ok += other.ok;
        for (class, (count, sample)) in other.errors {
            self.errors.entry(class).or_insert((0, sample)).0 += count;
        }
        self.latency.merge(&other.latency);
        self.ttft.merge(&other.ttft);
        self.itl.merge(&other.itl);
        self.request_path.merge(&other.request_path);
        self.transit.merge(&other.transit);
        self.first_transit.merge(&other.first_transit);
        self.lag.merge(&other.lag);
        self.tokens += other.tokens;
        self.bunched += other.bunched;
        self.stalls += other.stalls;
        self.stalled_streams += other.stalled_streams;
        self.connections += other.connections;
        for (engine, count) in other.engines {
            *self.engines.entry(engine).or_default() += count;
        }
        self.lines.extend(other.lines);
    }
}
