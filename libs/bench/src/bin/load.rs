//! Load generator and judge for OpenAI-compatible endpoints.

use clap::Parser;
use orchion_bench::LoadCommand;
use orchion_testkit::clock;

/// Load generator for OpenAI-compatible endpoints.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: LoadCommand,
}

fn main() -> anyhow::Result<()> {
    clock::raise_open_files();
    Cli::parse().command.execute()
}
