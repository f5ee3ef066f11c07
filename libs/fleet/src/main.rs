//! Thousands of light agents against the real services.
//!
//! Registry, scheduler, log-sink and nats-server run as they are shipped; each
//! agent has a connection of its own and sends what a real one sends. Three
//! sizes are measured, a straight line is laid through them, and its fit says
//! whether it may be followed to 10,000.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program's output is its purpose"
)]

mod agent;
mod cost;
mod line;
mod size;
mod step;

use clap::Parser;
use line::Line;
use size::Measured;
use std::process::ExitCode;
use std::time::Duration;

/// The size that figures are carried on to.
const FAR: f64 = 10_000.0;
const MIB: f64 = 1024.0 * 1024.0;

/// Measures the services with many nodes.
#[derive(Parser)]
#[command(name = "fleet", version)]
struct Options {
    /// Nodes of the largest fleet; a half and a quarter of it are measured, too
    #[arg(long, default_value_t = 2000)]
    nodes: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let done = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(options.nodes)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(nodes: usize) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for share in [4, 2, 1] {
        let measured = size::measure((nodes / share).max(1)).await?;
        eprintln!("{} nodes measured", measured.nodes);
        all.push(measured);
    }
    print(&all);
    Ok(())
}

fn at(sorted: &[Duration], percent: usize) -> f64 {
    let place = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(place).copied().unwrap_or_default().as_secs_f64() * 1e6
}

/// A figure, its unit, and how to get it.
type Row = (&'static str, fn(&Measured) -> f64);

fn print(all: &[Measured]) {
    let rows: &[Row] = &[
        ("all nodes online after, s", |one| one.joined.as_secs_f64()),
        ("scheduler's step, job comes, p50, µs", |one| {
            at(&one.steps.admit, 50)
        }),
        ("scheduler's step, job comes, p99, µs", |one| {
            at(&one.steps.admit, 99)
        }),
        ("scheduler's step, job ends, p50, µs", |one| {
            at(&one.steps.end, 50)
        }),
        ("scheduler's step, job ends, p99, µs", |one| {
            at(&one.steps.end, 99)
        }),
        ("scheduler's step, heartbeat, p50, µs", |one| {
            at(&one.steps.beat, 50)
        }),
        ("scheduler's step, heartbeat, p99, µs", |one| {
            at(&one.steps.beat, 99)
        }),
        ("dispatch, asked to order arrived, p50, µs", |one| {
            at(&one.dispatch, 50)
        }),
        ("dispatch, asked to order arrived, p99, µs", |one| {
            at(&one.dispatch, 99)
        }),
        ("scheduler's CPU per job, µs", |one| one.job_scheduler_us),
        ("registry's CPU per heartbeat, µs", |one| {
            one.beat_registry_us
        }),
        ("scheduler's CPU per heartbeat, µs", |one| {
            one.beat_scheduler_us
        }),
        ("nats-server's CPU per heartbeat, µs", |one| {
            one.beat_nats_us
        }),
        ("nats-server's memory, MiB", |one| one.nats_memory / MIB),
        ("registry's memory, MiB", |one| one.registry_memory / MIB),
        ("scheduler's memory, MiB", |one| one.scheduler_memory / MIB),
    ];
    let sizes: Vec<String> = all
        .iter()
        .map(|one| format!("{} nodes", one.nodes))
        .collect();
    println!("| | {} | 10,000 by the line | fit R² |", sizes.join(" | "));
    println!("|---|{}---|---|", "---|".repeat(all.len()));
    for (name, figure) in rows {
        let figures: Vec<f64> = all.iter().map(figure).collect();
        let points: Vec<(f64, f64)> = all
            .iter()
            .zip(&figures)
            .map(|(one, figure)| (one.nodes as f64, *figure))
            .collect();
        let line = Line::through(&points);
        let figures: Vec<String> = figures
            .iter()
            .map(|figure| format!("{figure:.1}"))
            .collect();
        let far = line.carried_to(FAR);
        let far = far.map_or("–".to_owned(), |far| format!("{far:.1}"));
        println!(
            "| {name} | {} | {far} | {:.3} |",
            figures.join(" | "),
            line.fit
        );
    }
    let memory: Vec<(f64, f64)> = all
        .iter()
        .map(|one| (one.nodes as f64, one.nats_memory))
        .collect();
    println!(
        "\nnats-server's memory per connection: {:.1} KiB",
        Line::through(&memory).slope / 1024.0
    );
    println!(
        "–: the figures do not rise on a line (fit below {}); what the largest fleet shows is the best guess.",
        line::GOOD_FIT
    );
}
