//! Runs the tests, with cargo-nextest where it is installed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use orchion_nats_server::{Search, locate_or_fetch};

use crate::test::Outcome;
use crate::workspace::cargo;
use crate::{llama, shell};

/// All tests of the workspace, on a real nats-server and a real llama-server.
pub(crate) fn tests() -> anyhow::Result<Outcome> {
    let nats_server = locate_or_fetch(&Search::from_environment())?;
    let llama_server = llama::find_or_build()?;
    // Tests of the whole start binaries of other crates, which no runner builds for them.
    shell::run(cargo().args(["build", "--workspace", "--bins"]))?;
    let mut command = cargo();
    if shell::first_line("cargo-nextest", &["--version"]).is_some() {
        command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    } else {
        command.args([
            "test",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
            "--no-fail-fast",
        ]);
    }
    let skipped = tempfile::NamedTempFile::new().context("make a file for skipped tests")?;
    command
        .env("ORCHION_NATS_SERVER", nats_server.path)
        .env("ORCHION_LLAMA_SERVER", llama_server)
        .env("ORCHION_SKIPPED", skipped.path());
    let mut summary = watch(&mut command)?;
    // A test that skips itself passes, and its output is not shown.
    let skipped = std::fs::read_to_string(skipped.path()).context("read what was skipped")?;
    for line in skipped.lines() {
        shell::complain(line);
    }
    if !skipped.is_empty() {
        summary += &format!("; {} of them SKIPPED themselves", skipped.lines().count());
    }
    Ok(Outcome::Passed(summary))
}

/// The examples in doc comments, which nextest cannot run.
pub(crate) fn doctests() -> anyhow::Result<Outcome> {
    let summary = watch(cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
    Ok(Outcome::Passed(summary))
}

/// Runs tests, shows what they say, and returns their summary.
fn watch(command: &mut Command) -> anyhow::Result<String> {
    // Both streams into one pipe: nextest reports on one, libtest on the other.
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn().context("start the tests")?;
    // The command holds our ends of the pipe; without them reading would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut summary = Summary::default();
    for line in BufReader::new(reader).lines() {
        let line = line.context("read what the tests say")?;
        shell::complain(&line);
        summary.read(&line);
    }
    let status = child.wait().context("wait for the tests")?;
    if !status.success() {
        bail!("the tests ended with {status}: {}", summary.text());
    }
    Ok(summary.text())
}

/// What the test runners count.
#[derive(Default)]
struct Summary {
    nextest: Option<String>,
    passed: u32,
    failed: u32,
    ignored: u32,
}

impl Summary {
    fn read(&mut self, line: &str) {
        if let Some(text) = line.trim_start().strip_prefix("Summary [") {
            self.nextest = text
                .split_once(']')
                .map(|(_, counts)| counts.trim().to_owned());
        } else if let Some(text) = line.trim_start().strip_prefix("test result: ") {
            self.passed += count(text, "passed");
            self.failed += count(text, "failed");
            self.ignored += count(text, "ignored");
        }
    }

    fn text(&self) -> String {
        self.nextest.clone().unwrap_or_else(|| {
            format!(
                "{} passed, {} failed, {} ignored",
                self.passed, self.failed, self.ignored
            )
        })
    }
}

/// The number before `word` in libtest's last line.
fn count(text: &str, word: &str) -> u32 {
    let words: Vec<_> = text
        .split([' ', ';', '.'])
        .filter(|part| !part.is_empty())
        .collect();
    let at = words.iter().position(|part| *part == word);
    at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nextest_counts_are_repeated() {
        let mut summary = Summary::default();
        summary.read("     Summary [   0.042s] 7 tests run: 7 passed, 1 skipped");
        assert_eq!(summary.text(), "7 tests run: 7 passed, 1 skipped");
    }

    #[test]
    fn libtest_counts_are_added_up() {
        let mut summary = Summary::default();
        summary.read("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        summary
            .read("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(summary.text(), "4 passed, 2 failed, 1 ignored");
    }

    #[test]
    fn what_runners_print_is_shown_to_the_end() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; echo trouble >&2; exit 3",
        ]);
        let error = watch(&mut command).unwrap_err();
        assert!(error.to_string().ends_with("2 passed, 0 failed, 0 ignored"));
    }
}
