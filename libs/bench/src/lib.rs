//! The measuring bench: the product in front of an engine that computes nothing,
//! beside two yardsticks that do as little as possible.
//!
//! Three programs: `load` generates load and judges each answer token by token,
//! `floor` is the least HTTP-over-NATS gateway there can be, and `bench` runs
//! the product beside the yardsticks in alternating rounds and prints one table
//! of ratios. The README beside this crate says how to run and to read it.
//!
//! Nothing of the product may depend on this crate, and no figure is taken from
//! an answer that was not whole.

mod accounting;
mod cancel;
mod clock;
mod compare;
mod document;
mod drive;
mod failover;
mod options;
mod ready;
mod report;
mod runner;
mod stats;

pub use cancel::CancelOptions;
pub use compare::{CompareOptions, compare};
pub use drive::Arrivals;
pub use failover::FailoverOptions;
pub use options::{ChatOptions, Common, Pace};
pub use ready::ReadyOptions;
pub use runner::{RunOptions, run};
pub use stats::{Hist, Summary};

/// The commands of the program `load`.
#[derive(clap::Subcommand)]
pub enum LoadCommand {
    /// Measure chat completions, streamed or not, closed or open loop.
    Chat(ChatOptions),
    /// Keep load on while a process is killed; report what clients see.
    Failover(FailoverOptions),
    /// Hang up half-way; report when the engine stops working for nobody.
    Cancel(CancelOptions),
    /// Wait until the endpoint gives its first good answer.
    WaitReady(ReadyOptions),
    /// Print the shared monotonic clock in nanoseconds.
    Now,
}

impl LoadCommand {
    /// Does it, and prints what came of it.
    ///
    /// # Errors
    ///
    /// When it could not be measured; a request that fails is a result, not an
    /// error.
    pub fn execute(&self) -> anyhow::Result<()> {
        match self {
            Self::Chat(options) => report::chat(options),
            Self::Failover(options) => failover::run(options),
            Self::Cancel(options) => cancel::run(options),
            Self::WaitReady(options) => ready::run(options),
            Self::Now => document::print(&format!("{}\n", orchion_testkit::clock::mono_ns())),
        }
    }
}
