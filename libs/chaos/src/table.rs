//! What is shown.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program's output is its purpose"
)]

use crate::round::{Outcome, Victim};
use std::process::ExitCode;
use std::time::Duration;

/// One kind of kill.
pub(crate) struct Row {
    victim: Victim,
    streams: usize,
    broken: Vec<String>,
    wrong: usize,
    finals: u32,
    moved: usize,
    resumed: usize,
    /// The longest pause of each run.
    pauses: Vec<Duration>,
}

impl Row {
    pub(crate) fn new(victim: Victim) -> Self {
        Self {
            victim,
            streams: 0,
            broken: Vec::new(),
            wrong: 0,
            finals: 0,
            moved: 0,
            resumed: 0,
            pauses: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.pauses.push(worst(&outcome));
        self.finals += outcome.wrong_finals;
        for verdict in outcome.verdicts {
            self.streams += 1;
            self.moved += usize::from(verdict.engines.len() > 1);
            self.resumed += usize::from(verdict.reconnects > 0);
            self.wrong += usize::from(verdict.is_wrong());
            if let Some(failure) = verdict.failure {
                self.broken.push(failure.to_string());
            }
        }
        self.pauses.sort_unstable();
    }

    /// Nothing lost, doubled, out of order; one final each.
    pub(crate) fn is_whole(&self) -> bool {
        self.broken.is_empty() && self.wrong == 0 && self.finals == 0
    }

    /// The usual pause keeps its bound.
    pub(crate) fn is_in_time(&self, pace: Duration) -> bool {
        let bound = self.victim.bound();
        bound.is_none_or(|bound| self.median() <= bound + pace)
    }

    fn median(&self) -> Duration {
        self.pauses
            .get(self.pauses.len() / 2)
            .copied()
            .unwrap_or_default()
    }
}

fn worst(outcome: &Outcome) -> Duration {
    outcome
        .verdicts
        .iter()
        .map(|verdict| verdict.longest_pause)
        .max()
        .unwrap_or_default()
}

/// Tells that a run is over.
pub(crate) fn progress(victim: Victim, run: u32, outcome: &Outcome) {
    let bad = outcome
        .verdicts
        .iter()
        .filter(|verdict| !verdict.is_good())
        .count();
    eprintln!(
        "{:<12} run {:>3}: {} streams, {bad} bad, longest pause {} ms",
        victim.name(),
        run + 1,
        outcome.verdicts.len(),
        worst(outcome).as_millis()
    );
}

/// The table, and below it what went wrong.
pub(crate) fn print(rows: &[Row], runs: u32, streams: u32) {
    println!("{runs} kills of each kind with SIGKILL, {streams} streams under way at each\n");
    println!(
        "| killed | streams | broken | wrong tokens | wrong finals | continued elsewhere | resumed | longest pause, median | worst | bound |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} ms | {} ms | {} |",
            row.victim.name(),
            row.streams,
            row.broken.len(),
            row.wrong,
            row.finals,
            row.moved,
            row.resumed,
            row.median().as_millis(),
            row.pauses.last().copied().unwrap_or_default().as_millis(),
            row.victim
                .bound()
                .map_or("-".to_owned(), |bound| format!("{} ms", bound.as_millis())),
        );
    }
    for row in rows {
        for failure in row.broken.iter().take(5) {
            println!("{}: {failure}", row.victim.name());
        }
    }
}

/// Says what is wrong.
pub(crate) fn complain(text: &str) -> ExitCode {
    eprintln!("error: {text}");
    ExitCode::FAILURE
}

/// Says a line.
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Says a line beside the result.
pub(crate) fn tell(text: &str) {
    eprintln!("{text}");
}
