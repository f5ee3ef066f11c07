//! Lives clusters by their seeds: `cargo xtask simulate`.
#![expect(clippy::print_stdout, reason = "a command prints")]

use anyhow::{Context as _, bail};
use clap::Parser;
use orchion_simulator::{MUTANTS, Scenario, caught_within, seeds, shrink, watch};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Simulates whole clusters under faults and holds them to what they promise
#[derive(Parser)]
#[command(name = "cargo xtask simulate")]
struct Options {
    /// How many lives
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// As many lives as fit into so many minutes
    #[arg(long)]
    minutes: Option<u64>,
    /// Plays a scenario that was kept
    #[arg(long)]
    replay: Option<PathBuf>,
    /// With --replay: tells the story of this job
    #[arg(long)]
    job: Option<usize>,
    /// Plants each known fault and says how soon it is caught
    #[arg(long)]
    mutants: bool,
    /// Where scenarios of broken promises are kept
    #[arg(long, default_value = "scenarios")]
    keep: PathBuf,
}

/// Lives within which each planted fault must be caught.
const CAUGHT_WITHIN: u64 = 500;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    match &options.replay {
        Some(file) => replay(file, options.job),
        None if options.mutants => mutants(),
        None => simulate(&options),
    }
}

fn replay(file: &PathBuf, job: Option<usize>) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let life = watch(&text.parse::<Scenario>()?, None, job);
    for line in &life.story {
        println!("{line}");
    }
    println!("{}", life.counts);
    match life.violation {
        Some(violation) => bail!("{violation}"),
        None => println!("every promise was kept"),
    }
    Ok(())
}

fn simulate(options: &Options) -> anyhow::Result<()> {
    let start = Instant::now();
    let limit = options
        .minutes
        .map(|minutes| Duration::from_secs(minutes * 60));
    let count = limit.map_or(options.seeds, |_| u64::MAX - options.from);
    let report = seeds(options.from, count, None, &|report| {
        report.failures.len() < 5 && limit.is_none_or(|limit| start.elapsed() < limit)
    });
    let took = start.elapsed().as_secs_f64();
    println!("{}", report.counts);
    println!(
        "{} lives in {took:.1} s, {:.0} a second",
        report.counts.lives,
        report.counts.lives as f64 / took
    );
    if report.failures.is_empty() {
        println!("every promise was kept");
        return Ok(());
    }
    for failure in &report.failures {
        let smallest = shrink(failure);
        std::fs::create_dir_all(&options.keep).context("make a folder for scenarios")?;
        let file = options.keep.join(format!(
            "{}-{}.txt",
            smallest.violation.property, smallest.scenario.seed
        ));
        let text = format!("# {}\n{}", smallest.violation, smallest.scenario);
        std::fs::write(&file, &text).context("keep a scenario")?;
        println!("\nseed {}: {}", failure.scenario.seed, failure.violation);
        println!("{text}kept as {}", file.display());
    }
    bail!(
        "{} of {} lives broke a promise",
        report.failures.len(),
        report.counts.lives
    )
}

fn mutants() -> anyhow::Result<()> {
    let mut missed = Vec::new();
    println!(
        "{:<26} {:>6}  {:<10} how",
        "planted fault", "lives", "caught by"
    );
    for (mutant, name) in MUTANTS {
        match caught_within(*mutant, CAUGHT_WITHIN) {
            Some((lives, violation)) => println!(
                "{name:<26} {lives:>6}  {:<10} at {} ms: {}",
                violation.property.to_string(),
                violation.at_ms,
                violation.what
            ),
            None => {
                println!("{name:<26}      -  missed within {CAUGHT_WITHIN} lives");
                missed.push(*name);
            }
        }
    }
    if !missed.is_empty() {
        bail!(
            "not caught within {CAUGHT_WITHIN} lives: {}",
            missed.join(", ")
        );
    }
    println!(
        "all {} are caught within {CAUGHT_WITHIN} lives",
        MUTANTS.len()
    );
    Ok(())
}
