//! A run summed up, as it is written to its file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RunOutput;
use super::plan::{Mode, Plan};
use crate::accounting::Usage;
use crate::stats::Summary;

/// The result of the command `chat`.
#[derive(Serialize, Deserialize, Default, Clone)]
pub(crate) struct ChatResult {
    pub(crate) stream: bool,
    pub(crate) loop_kind: String,
    pub(crate) concurrency: usize,
    pub(crate) rate: f64,
    pub(crate) tokens_per_answer: u32,
    pub(crate) ttft_us: u64,
    pub(crate) itl_us: u64,
    pub(crate) prompt_bytes: usize,
    pub(crate) window_s: f64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) error_samples: BTreeMap<String, String>,
    pub(crate) requests_per_s: f64,
    pub(crate) tokens: u64,
    pub(crate) tokens_per_s: f64,
    pub(crate) latency_us: Summary,
    pub(crate) time_to_first_token_us: Summary,
    pub(crate) inter_token_us: Summary,
    /// Client to engine, the request's way through the system.
    pub(crate) request_path_us: Summary,
    /// Engine to client, each token's way through the system.
    pub(crate) token_transit_us: Summary,
    pub(crate) first_token_transit_us: Summary,
    /// How late the generator itself was (open loop).
    pub(crate) generator_lag_us: Summary,
    /// Paced streams: share of tokens that came within a tenth of the engine's
    /// pace of the one before, that is, held back somewhere and let go together.
    pub(crate) bunched_share: f64,
    pub(crate) stalls: u64,
    pub(crate) stalled_streams: u64,
    pub(crate) connections: u64,
    pub(crate) engines: BTreeMap<String, u64>,
    pub(crate) sut: Usage,
    pub(crate) sut_cpu_us_per_request: f64,
    pub(crate) sut_cpu_us_per_token: f64,
    pub(crate) engine: Usage,
    pub(crate) own: Usage,
    pub(crate) all_cpu_s: f64,
    pub(crate) host_steal_s: f64,
    /// CPU used on the machine by nobody accounted for: high means a noisy run.
    pub(crate) foreign_cpu_s: f64,
}

impl RunOutput {
    pub(crate) fn result(&self, plan: &Plan) -> ChatResult {
        let record = &self.record;
        let (loop_kind, concurrency, rate) = match plan.mode {
            Mode::Closed { concurrency } => ("closed".to_owned(), concurrency, 0.0),
            Mode::Open { rate, arrivals, .. } => {
                (format!("open {arrivals:?}").to_lowercase(), 0, rate)
            }
        };
        let samples = record.errors.iter();
        let samples = samples.map(|(class, (_, sample))| (class.clone(), sample.clone()));
        let counts = record.errors.iter();
        let counts = counts.map(|(class, (count, _))| (class.clone(), *count));
        let accounted_s = self.sut.cpu_s + self.engine.cpu_s + self.own.cpu_s;
        ChatResult {
            stream: plan.stream,
            loop_kind,
            concurrency,
            rate,
            tokens_per_answer: plan.tokens,
            ttft_us: plan.ttft_us,
            itl_us: plan.itl_us,
            prompt_bytes: plan.prompt_bytes,
            window_s: self.window_s,
            ok: record.ok,
            failed: record.failed(),
            errors: counts.collect(),
            error_samples: samples.collect(),
            requests_per_s: record.ok as f64 / self.window_s,
            tokens: record.tokens,
            tokens_per_s: record.tokens as f64 / self.window_s,
            latency_us: record.latency.summary(),
            time_to_first_token_us: record.ttft.summary(),
            inter_token_us: record.itl.summary(),
            request_path_us: record.request_path.summary(),
            token_transit_us: record.transit.summary(),
            first_token_transit_us: record.first_transit.summary(),
            generator_lag_us: record.lag.summary(),
            bunched_share: record.bunched as f64 / record.tokens.max(1) as f64,
            stalls: record.stalls,
            stalled_streams: record.stalled_streams,
            connections: record.connections,
            engines: record.engines.clone(),
            sut_cpu_us_per_request: self.cpu_us_per(record.ok),
            sut_cpu_us_per_token: self.cpu_us_per(record.tokens),
            sut: self.sut.clone(),
            engine: self.engine.clone(),
            own: self.own.clone(),
            all_cpu_s: self.all_cpu_s,
            host_steal_s: self.host_steal_s,
            foreign_cpu_s: (self.all_cpu_s - accounted_s).max(0.0),
        }
    }

    fn cpu_us_per(&self, count: u64) -> f64 {
        match count {
            0 => 0.0,
            count => self.sut.cpu_s * 1e6 / count as f64,
        }
    }
}
