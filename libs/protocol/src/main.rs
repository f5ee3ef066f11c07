//! Prints what the exhaustive check looked at, and what it found.
#![expect(clippy::print_stdout, reason = "this program's output is its purpose")]

use clap::Parser;
use orchion_protocol::lease::Leases;
use orchion_protocol::{Faults, Planted, Protocol, liveness};
use stateright::{Checker, HasDiscoveries, Model};
use std::fmt::Debug;
use std::hash::Hash;
use std::process::ExitCode;
use std::time::Instant;

/// Looks at every interleaving of the job protocol.
#[derive(Parser)]
#[command(name = "protocol", version)]
struct Options {
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Leave the rules of the protocol out one by one, and see that it is noticed
    #[arg(long)]
    planted: bool,
    /// Any faults, so many in one history, instead of the usual suites: takes hours from 2 on
    #[arg(long)]
    faults: Option<u8>,
    /// Only what has this in its name
    #[arg(long)]
    only: Option<String>,
    /// Print the steps to a violation
    #[arg(long)]
    steps: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let is_good = match options.planted {
        true => planted(&options),
        false => everything(&options),
    };
    match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn everything(options: &Options) -> bool {
    let suites = match options.faults {
        Some(together) => {
            let faults = Faults::up_to(together);
            vec![
                ("any faults", Protocol::with(faults)),
                (
                    "ordered by the gateway, any faults",
                    Protocol::granted(faults),
                ),
            ]
        }
        None => Protocol::SUITES.to_vec(),
    };
    let only = options.only.as_deref().unwrap_or_default();
    let mut is_good = !"the lease".contains(only) || check("the lease", Leases::USUAL, options);
    for (name, protocol) in suites.into_iter().filter(|(name, _)| name.contains(only)) {
        is_good &= check(name, protocol, options);
        is_good &= can_end(&protocol);
    }
    is_good
}

/// Checks that from everywhere the job can end without a further fault.
fn can_end(protocol: &Protocol) -> bool {
    let start = Instant::now();
    let found = liveness::check(protocol);
    println!(
        "  {}: the end can be reached from each of {} states, {} of which are ends ({:.1} s)",
        if found.stuck == 0 {
            "holds"
        } else {
            "VIOLATED"
        },
        found.states,
        found.ends,
        start.elapsed().as_secs_f64()
    );
    if let Some(example) = &found.example {
        println!("  {} states are stuck; one of them: {example}", found.stuck);
    }
    found.stuck == 0
}

/// Checks a model whole; whether its properties hold.
fn check<M>(name: &str, model: M, options: &Options) -> bool
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Clone + Debug + PartialEq + Send + Sync,
    M::Action: Copy + Debug + PartialEq + Send,
{
    let start = Instant::now();
    let builder = model.checker().threads(options.threads);
    let checker = builder
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let is_closed = checker.is_done();
    println!(
        "{name}: {} states generated, {} unique, depth {}, {:.1} s, {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64(),
        if is_closed { "closed" } else { "NOT closed" },
    );
    let mut is_good = is_closed;
    for property in checker.model().properties() {
        let Some(path) = checker.discovery(property.name) else {
            if property.expectation.discovery_is_failure() {
                println!("  holds: {}", property.name);
            }
            continue;
        };
        if !property.expectation.discovery_is_failure() {
            println!("  happens: {}", property.name);
            continue;
        }
        is_good = false;
        println!("  VIOLATED: {}", property.name);
        if options.steps {
            for (_, action) in path.into_vec() {
                println!("    {action:?}");
            }
        }
    }
    is_good
}

/// Leaves one rule out at a time; whether each is noticed.
fn planted(options: &Options) -> bool {
    let mut is_good = true;
    for planted in Planted::ALL {
        let start = Instant::now();
        let found = planted.search(options.threads);
        is_good &= found.is_some();
        let (states, what) = found.unwrap_or((0, "NOT noticed".to_owned()));
        println!(
            "{planted:?}: {what} ({states} states, {:.1} s)",
            start.elapsed().as_secs_f64()
        );
    }
    is_good
}
