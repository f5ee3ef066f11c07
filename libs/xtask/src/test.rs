//! `cargo xtask test`: every check, one after the other, with a table at the end.
//!
//! All stages run even after one failed, so that one run tells everything.

use std::time::{Duration, Instant};

use anyhow::bail;
use clap::ValueEnum;

use crate::{coverage, docker, lint, rules, shell, simulate, suite, text, unused};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run only these stages
    #[arg(value_enum)]
    stages: Vec<Stage>,
    /// Stop at the first failure
    #[arg(long)]
    fail_fast: bool,
}

/// One check. The quick ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// The code is formatted
    Format,
    /// Crates keep to the architecture
    Rules,
    /// Each dependency is used
    Unused,
    /// Links in documents lead somewhere, and no file names this machine
    Text,
    /// Licences, bans and sources of all dependencies
    Deny,
    /// Clippy has nothing to say
    Clippy,
    /// The documentation builds without warnings
    Rustdoc,
    /// All tests
    Tests,
    /// The examples in the documentation
    Doctests,
    /// The tests of the pure crates reach nearly every line of them
    Coverage,
    /// Each crate builds alone
    Alone,
    /// Simulated clusters keep their promises under faults
    Simulate,
    /// The simulator catches each fault that is planted
    Mutants,
    /// The stack of compose.yaml comes up and keeps its promise
    Docker,
}

/// What a stage that did not fail has to report.
pub(crate) enum Outcome {
    /// All is well; the text counts what was looked at.
    Passed(String),
    /// It could not run here, and why.
    Skipped(String),
}

struct Row {
    stage: Stage,
    took: Duration,
    outcome: anyhow::Result<Outcome>,
}

/// Runs the stages.
///
/// # Errors
/// When a stage fails, or, with `CI=true`, when one is skipped.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let stages = if options.stages.is_empty() {
        Stage::value_variants()
    } else {
        &options.stages
    };
    let mut rows = Vec::new();
    for &stage in stages {
        shell::complain(&format!("\n=== {}: {}", stage.name(), stage.about()));
        let start = Instant::now();
        let outcome = stage.run();
        let took = start.elapsed();
        if let Err(error) = &outcome {
            shell::complain(&format!("{error:#}"));
        }
        let is_over = options.fail_fast && outcome.is_err();
        rows.push(Row {
            stage,
            took,
            outcome,
        });
        if is_over {
            break;
        }
    }
    shell::complain(&format!("\n{}", table(&rows)));
    verdict(&rows, shell::is_set("CI"))
}

impl Stage {
    fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Format => lint::check_format(),
            Self::Rules => rules::check(),
            Self::Unused => unused::check(),
            Self::Text => text::check(),
            Self::Deny => lint::deny(),
            Self::Clippy => lint::clippy(),
            Self::Rustdoc => lint::rustdoc(),
            Self::Tests => suite::tests(),
            Self::Doctests => suite::doctests(),
            Self::Coverage => coverage::stage(),
            Self::Alone => lint::alone(),
            Self::Simulate => simulate::stage(),
            Self::Mutants => simulate::mutants_stage(),
            Self::Docker => docker::stage(),
        }
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    fn about(self) -> String {
        let value = self.to_possible_value();
        value
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }
}

fn table(rows: &[Row]) -> String {
    let lines = rows.iter().map(|row| {
        let (verdict, note) = match &row.outcome {
            Ok(Outcome::Passed(note)) => ("ok", note.as_str()),
            Ok(Outcome::Skipped(reason)) => ("SKIPPED", reason.as_str()),
            Err(_) => ("FAILED", "see above"),
        };
        format!(
            "{:<10} {verdict:<8} {:>7.1} s  {note}",
            row.stage.name(),
            row.took.as_secs_f64()
        )
    });
    let total: Duration = rows.iter().map(|row| row.took).sum();
    let lines: Vec<_> = lines.collect();
    format!(
        "{}\n{:<10} {:<8} {:>7.1} s",
        lines.join("\n"),
        "in all",
        "",
        total.as_secs_f64()
    )
}

fn verdict(rows: &[Row], is_ci: bool) -> anyhow::Result<()> {
    let failed = names(rows, |row| row.outcome.is_err());
    let skipped = names(rows, |row| matches!(row.outcome, Ok(Outcome::Skipped(_))));
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    if is_ci && !skipped.is_empty() {
        bail!("skipped, which CI must not: {}", skipped.join(", "));
    }
    if !skipped.is_empty() {
        shell::complain(&format!(
            "NOT EVERYTHING RAN: {} skipped: {}",
            skipped.len(),
            skipped.join(", ")
        ));
    }
    Ok(())
}

fn names(rows: &[Row], matches: impl Fn(&Row) -> bool) -> Vec<String> {
    rows.iter()
        .filter(|row| matches(row))
        .map(|row| row.stage.name())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_failure_everywhere() {
        let rows = [
            row(Stage::Format, Ok(Outcome::Passed(String::new()))),
            row(Stage::Deny, Err(anyhow::anyhow!("x"))),
        ];
        assert_eq!(
            verdict(&rows, false).unwrap_err().to_string(),
            "failed: deny"
        );
    }

    #[test]
    fn a_skip_fails_in_ci_only() {
        let rows = [row(
            Stage::Deny,
            Ok(Outcome::Skipped("no network".to_owned())),
        )];
        assert!(verdict(&rows, false).is_ok());
        assert_eq!(
            verdict(&rows, true).unwrap_err().to_string(),
            "skipped, which CI must not: deny"
        );
    }

    #[test]
    fn the_table_has_a_line_for_each_stage_and_one_for_all() {
        let rows = [
            row(Stage::Format, Ok(Outcome::Passed("7 files".to_owned()))),
            row(Stage::Deny, Ok(Outcome::Skipped("no network".to_owned()))),
        ];
        let table = table(&rows);
        assert_eq!(table.lines().count(), 3);
        assert!(
            table.contains("7 files") && table.contains("SKIPPED") && table.contains("no network")
        );
    }

    fn row(stage: Stage, outcome: anyhow::Result<Outcome>) -> Row {
        Row {
            stage,
            took: Duration::from_millis(10),
            outcome,
        }
    }
}
