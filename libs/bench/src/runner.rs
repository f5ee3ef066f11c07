//! Measures the product beside the yardsticks, in alternating rounds.

mod options;
mod programs;
mod scenarios;
mod stage;
mod system;

use std::fs;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::compare::{CompareOptions, compare};
use crate::document::print;

pub use options::RunOptions;

use programs::Programs;
use scenarios::Bench;
use stage::Stage;

/// The yardsticks, by the names they have in the table.
const DIRECT: &str = "direct";
const FLOOR: &str = "nats-floor";

/// Measures everything, writes the results and prints the table.
///
/// # Errors
///
/// When a program is missing, the product does not start, one of its answers was
/// wrong, or the run is interrupted. A missed goal is none of these.
pub fn run(options: &RunOptions) -> Result<()> {
    let options = options.settle()?;
    let programs = Programs::find(&options)?;
    let stage = Arc::new(Stage::new(&options.scratch)?);
    let bench = Bench::new(options.clone(), programs, Arc::clone(&stage));
    let (done, finished) = oneshot::channel();
    thread::spawn(move || {
        let _ = done.send(rounds(&bench));
    });
    let outcome = interruptible(finished);
    stage.clear();
    outcome?;
    report(&options)
}

/// Waits for the end of the work, or for somebody who wants to stop it.
fn interruptible(finished: oneshot::Receiver<Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = finished => outcome.context("the bench broke off")?,
            _ = interrupted.recv() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    })
}

fn rounds(bench: &Bench) -> Result<()> {
    bench.start_engines()?;
    let options = &bench.options;
    let product = options.label.as_str();
    let mut systems = [DIRECT, FLOOR, product];
    for round in 1..=options.rounds {
        for system in systems {
            stage::say(&format!("round {round} of {}: {system}", options.rounds));
            match bench.steady(system, round) {
                Err(error) if system != product => stage::say(&format!("{system}: {error:#}")),
                other => other?,
            }
        }
        // Turn the order round, so that nobody always runs after the same neighbour.
        systems.reverse();
    }
    for round in 1..=options.kill_rounds {
        for system in [FLOOR, product] {
            stage::say(&format!(
                "kill round {round} of {}: {system}",
                options.kill_rounds
            ));
            if let Err(error) = bench.kills(system, round) {
                stage::say(&format!("{system}: {error:#}"));
            }
        }
    }
    Ok(())
}

fn report(options: &RunOptions) -> Result<()> {
    let comparison = compare(&CompareOptions {
        dir: options.out.clone(),
        base: DIRECT.to_owned(),
        floor: FLOOR.to_owned(),
        product: options.label.clone(),
    })?;
    let path = options.out.join("table.md");
    fs::write(&path, &comparison.text).with_context(|| format!("write {}", path.display()))?;
    print(&comparison.text)?;
    ensure!(
        comparison.wrong == 0,
        "{} answers of {} were wrong: a defect, never noise",
        comparison.wrong,
        options.label
    );
    Ok(())
}
