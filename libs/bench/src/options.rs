//! What all commands of `load` are told.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use orchion_testkit::http::Target;
use orchion_testkit::wire::Check;
use serde_json::{Map, Value};

use crate::drive::{Arrivals, Mode, Plan};

/// Where to send which requests, and where to leave the result.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Base address, with or without /v1.
    #[arg(long)]
    pub url: String,
    /// Model id to ask for.
    #[arg(long, default_value = "mock")]
    pub model: String,
    /// Bearer key.
    #[arg(long)]
    pub key: Option<String>,
    /// Extra request header, `name: value` (repeatable).
    #[arg(long = "header")]
    pub headers: Vec<String>,
    /// Tokens per answer.
    #[arg(long, default_value_t = 16)]
    pub tokens: u32,
    /// Time to the first token that the engine keeps, in microseconds.
    #[arg(long, default_value_t = 0)]
    pub ttft_us: u64,
    /// Time between tokens that the engine keeps, in microseconds.
    #[arg(long, default_value_t = 0)]
    pub itl_us: u64,
    /// Let the engine write many tokens at once when --itl-us is 0.
    #[arg(long)]
    pub burst: bool,
    /// Extra prompt text, in bytes.
    #[arg(long, default_value_t = 256)]
    pub prompt_bytes: usize,
    /// Ask for streams.
    #[arg(long)]
    pub stream: bool,
    /// Do not ask for usage in streams.
    #[arg(long)]
    pub no_stream_usage: bool,
    /// Accept events whose data is wrapped in `data:` twice (a known fault of others).
    #[arg(long)]
    pub lenient_sse: bool,
    /// JSON object merged into each request body.
    #[arg(long)]
    pub extra: Option<String>,
    /// How answers are checked.
    #[arg(long, value_enum, default_value_t = Check::Full)]
    pub check: Check,
    /// Give up on one request after this long.
    #[arg(long, default_value_t = 30.0)]
    pub timeout_s: f64,
    /// A gap between tokens longer than this is a stall.
    #[arg(long, default_value_t = 100)]
    pub stall_ms: u64,
    /// Load generator threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Processes of the system under test (their children are included).
    #[arg(long, value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// Processes of the engines (accounted apart).
    #[arg(long, value_delimiter = ',')]
    pub engine_pids: Vec<u32>,
    /// The system's name in the result.
    #[arg(long, default_value = "")]
    pub label: String,
    /// The scenario's name in the result.
    #[arg(long, default_value = "")]
    pub scenario: String,
    /// The round's number in the result.
    #[arg(long, default_value_t = 0)]
    pub round: u32,
    /// Write the full result as JSON to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Print nothing on stdout.
    #[arg(long)]
    pub quiet: bool,
}

/// How much load, and for how long.
#[derive(Args, Clone, Debug)]
pub struct Pace {
    /// Closed loop: this many users, each sends when its last answer ended.
    #[arg(long, default_value_t = 1)]
    pub concurrency: usize,
    /// Open loop: requests per second, sent on schedule whatever happens.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Open loop: how arrivals are spread.
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub arrivals: Arrivals,
    /// Open loop: requests above this many in flight count as refused.
    #[arg(long, default_value_t = 8000)]
    pub max_inflight: usize,
    /// Seconds before the measured window.
    #[arg(long, default_value_t = 1.0)]
    pub warmup_s: f64,
    /// Seconds of the measured window.
    #[arg(long, default_value_t = 5.0)]
    pub duration_s: f64,
}

/// The command `chat`.
#[derive(Args, Debug)]
pub struct ChatOptions {
    /// Where and what.
    #[command(flatten)]
    pub common: Common,
    /// How much.
    #[command(flatten)]
    pub pace: Pace,
}

impl Pace {
    /// One user at a time, without a window: for commands that keep their own time.
    pub(crate) fn single() -> Self {
        Self {
            concurrency: 1,
            rate: None,
            arrivals: Arrivals::Constant,
            max_inflight: 1,
            warmup_s: 0.0,
            duration_s: 0.0,
        }
    }

    fn mode(&self) -> Mode {
        match self.rate {
            Some(rate) => Mode::Open {
                rate,
                arrivals: self.arrivals,
                max_inflight: self.max_inflight,
            },
            None => Mode::Closed {
                concurrency: self.concurrency,
            },
        }
    }
}

impl Common {
    /// The plan of a run at this pace.
    pub(crate) fn plan(&self, pace: &Pace) -> Result<Plan> {
        Ok(Plan {
            target: self.target()?,
            lenient_sse: self.lenient_sse,
            model: self.model.clone(),
            stream: self.stream,
            tokens: self.tokens,
            ttft_us: self.ttft_us,
            itl_us: self.itl_us,
            flush: !self.burst,
            prompt_bytes: self.prompt_bytes,
            extra: self.extra()?,
            check: self.check,
            timeout_s: self.timeout_s,
            stall_ns: self.stall_ms * 1_000_000,
            threads: self.threads.max(1),
            mode: pace.mode(),
            warmup_s: pace.warmup_s,
            duration_s: pace.duration_s,
            keeps_lines: false,
        })
    }

    fn target(&self) -> Result<Target> {
        let mut target = Target::parse(&self.url)?;
        if let Some(key) = &self.key {
            target.set_bearer(key)?;
        }
        for line in &self.headers {
            target.add_header(line)?;
        }
        Ok(target)
    }

    fn extra(&self) -> Result<Map<String, Value>> {
        let text = self.extra.as_deref().unwrap_or("{}");
        let mut extra: Map<String, Value> =
            serde_json::from_str(text).context("--extra must be a JSON object")?;
        if self.stream && !self.no_stream_usage {
            extra
                .entry("stream_options")
                .or_insert(serde_json::json!({"include_usage": true}));
        }
        Ok(extra)
    }
}
