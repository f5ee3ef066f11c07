//! What a mock engine is told for all its requests.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

use super::any_port;
use crate::wire::{Continuation, Fault, FaultKind};

/// Settings of a mock engine, also its command line.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9101")]
    pub listen: SocketAddr,
    /// Letters and digits: written in every token, so answers can be attributed.
    #[arg(long, default_value = "a")]
    pub name: String,
    /// Model ids to serve (repeatable).
    #[arg(long = "model", default_values_t = vec!["mock".to_owned()])]
    pub models: Vec<String>,
    /// Time to the first token, when the prompt carries no marker.
    #[arg(long, default_value_t = 0)]
    pub ttft_us: u64,
    /// Time between tokens, when the prompt carries no marker.
    #[arg(long, default_value_t = 0)]
    pub itl_us: u64,
    /// Tokens per answer, when the prompt carries no marker.
    #[arg(long, default_value_t = 16)]
    pub tokens: u32,
    /// Requests served at once; 0 is no limit.
    #[arg(long, default_value_t = 0)]
    pub slots: usize,
    /// What a request gets that finds no slot.
    #[arg(long, value_enum, default_value_t = WhenFull::Queue)]
    pub when_full: WhenFull,
    /// Share of the requests that fail, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub fail_rate: f64,
    /// How they fail.
    #[arg(long, value_enum, default_value_t = FaultKind::Error)]
    pub fail_mode: FaultKind,
    /// Before which token they fail; half of the answer when absent.
    #[arg(long)]
    pub fail_at: Option<u32>,
    /// How a request is treated that holds the beginning of its answer.
    #[arg(long, value_enum, default_value_t = Continuation::Continue)]
    pub continuation: Continuation,
    /// Worker threads of the program; 1 keeps everything on one.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
}

/// What a request gets that finds no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhenFull {
    /// It waits.
    Queue,
    /// HTTP 503.
    Reject,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: any_port(),
            name: "a".to_owned(),
            models: vec!["mock".to_owned()],
            ttft_us: 0,
            itl_us: 0,
            tokens: 16,
            slots: 0,
            when_full: WhenFull::Queue,
            fail_rate: 0.0,
            fail_mode: FaultKind::Error,
            fail_at: None,
            continuation: Continuation::Continue,
            threads: 1,
        }
    }
}

impl Options {
    /// The fault of the request `serial`, by the share that is to fail.
    pub(super) fn fault(&self, serial: u64) -> Option<Fault> {
        let fails = self.fail_rate > 0.0 && spread(serial) < self.fail_rate;
        fails.then(|| Fault {
            at: self.fail_at,
            ..Fault::new(self.fail_mode)
        })
    }
}

/// A cheap, well spread number in [0, 1) from a counter.
fn spread(counter: u64) -> f64 {
    let mut x = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) as f64 / (u64::MAX as f64 + 1.0)
}
