//! What is to be sent.

use bytes::Bytes;
use clap::ValueEnum;
use orchion_testkit::http::Target;
use orchion_testkit::wire::{Ask, Check, fresh_nonce};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Stands where each request has its marker.
const MARK: &str = "@@MARK@@";
const FILLER: &str = "lorem ipsum dolor sit amet consectetur ";

/// How many at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// Users that ask again when they are answered.
    Closed { concurrency: usize },
    /// Requests on schedule.
    Open {
        rate: f64,
        arrivals: Arrivals,
        max_inflight: usize,
    },
}

/// How the arrivals of an open loop are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub enum Arrivals {
    /// As if many people came independently.
    Poisson,
    /// At even distances.
    Constant,
}

/// What a run sends, and when.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) tokens: u32,
    pub(crate) ttft_us: u64,
    pub(crate) itl_us: u64,
    pub(crate) flush: bool,
    pub(crate) prompt_bytes: usize,
    pub(crate) extra: Map<String, Value>,
    pub(crate) check: Check,
    pub(crate) lenient_sse: bool,
    pub(crate) timeout_s: f64,
    pub(crate) stall_ns: u64,
    pub(crate) threads: usize,
    pub(crate) mode: Mode,
    pub(crate) warmup_s: f64,
    pub(crate) duration_s: f64,
    /// Keep one line per request, for a timeline.
    pub(crate) keeps_lines: bool,
}

/// A request body that is the same for all but for its marker.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    head: String,
    tail: String,
}

impl Template {
    pub(crate) fn body(&self, ask: &Ask) -> Bytes {
        let marker = ask.marker();
        let mut body = Vec::with_capacity(self.head.len() + marker.len() + self.tail.len());
        body.extend_from_slice(self.head.as_bytes());
        body.extend_from_slice(marker.as_bytes());
        body.extend_from_slice(self.tail.as_bytes());
        Bytes::from(body)
    }
}

impl Plan {
    pub(crate) fn template(&self) -> Template {
        let filler: String = FILLER.chars().cycle().take(self.prompt_bytes).collect();
        let mut body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": format!("{MARK} {filler}")}],
            "max_tokens": self.tokens,
            "stream": self.stream,
        });
        for (key, value) in &self.extra {
            body[key] = value.clone();
        }
        let text = body.to_string();
        let (head, tail) = text.split_once(MARK).unwrap_or((&text, ""));
        Template {
            head: head.to_owned(),
            tail: tail.to_owned(),
        }
    }

    pub(crate) fn ask(&self) -> Ask {
        Ask {
            nonce: fresh_nonce(),
            tokens: self.tokens,
            ttft_us: self.ttft_us,
            itl_us: self.itl_us,
            flush: self.flush,
            fault: None,
            continuation: None,
        }
    }
}

impl Arrivals {
    /// The arrivals of `total_s` seconds from `start`, in nanoseconds; the same
    /// ones each time.
    pub(crate) fn schedule(self, start: u64, total_s: f64, rate: f64) -> Vec<u64> {
        let mut random = 0x2545_f491_4f6c_dd1d;
        let mut at_s = 0.0;
        let next = || {
            at_s += match self {
                Self::Constant => 1.0 / rate,
                Self::Poisson => -xorshift(&mut random).ln() / rate,
            };
            (at_s < total_s).then(|| start + (at_s * 1e9) as u64)
        };
        std::iter::from_fn(next).collect()
    }
}

/// A number in (0, 1).
fn xorshift(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    ((*state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_the_rate() {
        let constant = Arrivals::Constant.schedule(0, 10.0, 100.0);
        assert!((998..=1_000).contains(&constant.len()));
        let poisson = Arrivals::Poisson.schedule(5, 10.0, 100.0);
        assert!((850..1_150).contains(&poisson.len()));
        assert!(poisson.is_sorted() && poisson[0] > 5);
    }
}
