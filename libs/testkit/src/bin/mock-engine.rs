//! The mock engine as a program, to be killed for real and to be measured beside.

use std::io::Write as _;

use clap::Parser;
use orchion_testkit::clock;
use orchion_testkit::mock_engine::{self, Options};

/// An OpenAI-compatible engine that computes nothing.
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn main() -> std::io::Result<()> {
    let Cli { options } = Cli::parse();
    clock::raise_open_files();
    clock::precise_timers();
    writeln!(
        std::io::stderr().lock(),
        "mock-engine {} on {}",
        options.name,
        options.listen
    )?;
    let mut runtime = match options.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime
        .worker_threads(options.threads.max(1))
        .enable_all()
        .build()?
        .block_on(mock_engine::run(options))
}
