//! `cargo xtask simulate`: whole clusters in virtual time, by their seeds.

use crate::shell;
use crate::test::Outcome;
use crate::workspace::{cargo, root};

/// Lives of the stage in CI.
const SEEDS: u64 = 10_000;
/// Where scenarios of broken promises are kept, and played again by a test.
const SCENARIOS: &str = "libs/simulator/scenarios";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// What the simulator is to be told, such as --seeds 1000, --minutes 60,
    /// --replay FILE or --mutants; `cargo xtask simulate --help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the simulator as it is asked.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let plants = options
        .arguments
        .iter()
        .any(|argument| argument == "--mutants");
    simulate(&options.arguments, plants)
}

/// The stage of CI for planted faults: each must be caught.
pub(crate) fn mutants_stage() -> anyhow::Result<Outcome> {
    simulate(&["--mutants".to_owned()], true)?;
    Ok(Outcome::Passed("every planted fault is caught".to_owned()))
}

/// The stage of CI for lives without a planted fault.
pub(crate) fn stage() -> anyhow::Result<Outcome> {
    simulate(&["--seeds".to_owned(), SEEDS.to_string()], false)?;
    Ok(Outcome::Passed(format!("{SEEDS} lives")))
}

fn simulate(arguments: &[String], plants: bool) -> anyhow::Result<()> {
    let mut command = cargo();
    command.args([
        "run",
        "--release",
        "--quiet",
        "--package",
        "orchion-simulator",
    ]);
    if plants {
        // Only here: no product is built with a planted fault.
        command.args(["--features", "planted-faults"]);
    }
    command
        .args(["--", "--keep"])
        .arg(root().join(SCENARIOS))
        .args(arguments);
    shell::run(&mut command)
}
