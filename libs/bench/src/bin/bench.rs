//! Measures the product beside the yardsticks, and compares.

use std::io::Write as _;

use clap::{Parser, Subcommand};
use orchion_bench::{CompareOptions, RunOptions};

/// The product beside the yardsticks `direct` and `nats-floor`.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure all in alternating rounds and print one table.
    Run(RunOptions),
    /// Print the table of results that were measured before.
    Compare(CompareOptions),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(options) => orchion_bench::run(&options),
        Command::Compare(options) => {
            let comparison = orchion_bench::compare(&options)?;
            std::io::stdout()
                .lock()
                .write_all(comparison.text.as_bytes())?;
            anyhow::ensure!(
                comparison.wrong == 0,
                "{} answers of {} were wrong: a defect, never noise",
                comparison.wrong,
                options.product
            );
            Ok(())
        }
    }
}
