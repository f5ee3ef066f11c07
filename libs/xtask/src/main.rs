//! Everything a developer or CI does with this repository, by one name:
//! `cargo xtask <verb>`. The `justfile` only repeats these verbs.

use std::process::ExitCode;

use clap::Parser;

mod clean;
mod coverage;
mod dist;
mod docker;
mod http;
mod lint;
mod llama;
mod llvm;
mod machine;
mod measure;
mod proof;
mod rules;
mod setup;
mod shell;
mod simulate;
mod suite;
mod test;
mod text;
mod tools;
mod unused;
mod up;
mod workspace;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Works on the Orchion repository",
    version
)]
enum Verb {
    /// Checks the tools of this machine, installs what it can, says how to get the rest
    Setup(setup::Options),
    /// Builds and starts everything, and sends one chat through it
    #[command(disable_help_flag = true)]
    Up(up::Options),
    /// Runs everything that CI runs
    Test(test::Options),
    /// Formats the code
    Format,
    /// Prints the path of llama-server, building it first if need be
    LlamaServer(llama::Options),
    /// Brings compose.yaml up for real and checks it
    Docker(docker::Options),
    /// Builds the programs as they are shipped, laid out by what they do under load
    Dist(dist::Options),
    /// Measures the product beside the floor and prints the table
    Bench(measure::Bench),
    /// Kills processes under streams and counts what is lost
    Chaos(measure::Chaos),
    /// Kills real engines in mid-answer and shows how each kind of answer goes on
    Continuation(measure::Continuation),
    /// Measures how far the predicted starts of waiting jobs are off
    Eta(measure::Eta),
    /// Lives simulated clusters under faults and holds them to what they promise
    Simulate(simulate::Options),
    /// Measures how many lines of the pure crates their own tests reach
    Coverage(coverage::Options),
    /// Looks at every interleaving of the job protocol, with every fault
    Protocol(proof::Protocol),
    /// Runs thousands of light agents against the real services and prints what they cost
    SimulateFleet(proof::Fleet),
    /// Removes what was built
    Clean(clean::Options),
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Setup(options) => setup::run(&options),
        Verb::Up(options) => up::run(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Format => lint::format(),
        Verb::LlamaServer(options) => llama::run(&options),
        Verb::Docker(options) => docker::run(&options),
        Verb::Dist(options) => dist::run(&options),
        Verb::Bench(options) => measure::bench(&options),
        Verb::Chaos(options) => measure::chaos(&options),
        Verb::Continuation(options) => measure::continuation(&options),
        Verb::Eta(options) => measure::eta(&options),
        Verb::Simulate(options) => simulate::run(&options),
        Verb::Coverage(options) => coverage::run(&options),
        Verb::Protocol(options) => proof::protocol(&options),
        Verb::SimulateFleet(options) => proof::fleet(&options),
        Verb::Clean(options) => clean::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
