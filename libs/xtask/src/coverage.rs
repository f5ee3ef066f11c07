//! `cargo xtask coverage`: how many lines of the pure crates their own tests reach.
//!
//! The crates that decide are measured, each by all tests of these crates and by
//! nothing else: no simulator, no server. Lines of tests do not count.

mod lines;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::llvm::Llvm;
use crate::shell;
use crate::test::Outcome;
use crate::workspace::{Metadata, cargo};
use lines::{Lines, of_product};

/// The crates that decide and know no tokio, no bus and no clock.
const PURE: &[&str] = &[
    "orchion-contract",
    "orchion-transcript",
    "orchion-lease",
    "orchion-scheduler-core",
    "orchion-node-agent-core",
    "orchion-registry-core",
];
/// The share of lines of each crate that must be reached, in per cent.
const LEAST: f64 = 95.0;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Lists the lines that no test reaches
    #[arg(long)]
    missing: bool,
}

/// Measures and prints a line for each crate.
///
/// # Errors
/// When a test fails, a crate is below what is asked, or there are no tools.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let measured = measure(&Llvm::find_or_install()?)?;
    if options.missing {
        for (file, lines) in measured.iter().flat_map(|krate| &krate.files) {
            let missing: Vec<_> = lines.missing().map(|line| line.to_string()).collect();
            if !missing.is_empty() {
                shell::say(&format!("{}: {}", file.display(), missing.join(", ")));
            }
        }
    }
    shell::say(&table(&measured));
    verdict(&measured)
}

/// The stage of CI.
pub(crate) fn stage() -> anyhow::Result<Outcome> {
    let llvm = match Llvm::find_or_install() {
        Ok(llvm) => llvm,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    let measured = measure(&llvm)?;
    shell::complain(&table(&measured));
    verdict(&measured)?;
    let (reached, all) = sum(&measured);
    Ok(Outcome::Passed(format!(
        "{:.1} % of {all} lines",
        share(reached, all)
    )))
}

/// A crate and the lines of its files.
struct Crate {
    name: &'static str,
    files: BTreeMap<PathBuf, Lines>,
}

impl Crate {
    fn count(&self) -> (usize, usize) {
        let files = self.files.values();
        files.fold((0, 0), |(reached, all), lines| {
            (reached + lines.reached(), all + lines.all())
        })
    }
}

fn measure(llvm: &Llvm) -> anyhow::Result<Vec<Crate>> {
    let metadata = Metadata::load()?;
    // A folder of its own: other flags would build everything anew.
    let target = metadata.target().join("coverage");
    let tests = build(&target)?;
    ensure!(!tests.is_empty(), "cargo built no tests");
    let work = tempfile::tempdir().context("make a folder for profiles")?;
    for test in &tests {
        run_test(test, work.path())?;
    }
    let programs: Vec<_> = tests.iter().map(|test| test.program.as_path()).collect();
    let report = llvm.report(work.path(), &programs)?;
    let root = metadata.root();
    let by_file = lines::read(&report);
    let members: Vec<_> = metadata.members().collect();
    PURE.iter()
        .map(|name| {
            let package = members.iter().find(|package| package.name == *name);
            let package = package.with_context(|| format!("find package {name}"))?;
            let sources = root.join(package.folder(root)).join("src");
            let files = of_crate(&by_file, &sources, root)?;
            ensure!(!files.is_empty(), "nothing was measured of {name}");
            Ok(Crate { name, files })
        })
        .collect()
}

/// The files below `sources`, without the lines of their tests.
fn of_crate(
    by_file: &BTreeMap<PathBuf, Lines>,
    sources: &Path,
    root: &Path,
) -> anyhow::Result<BTreeMap<PathBuf, Lines>> {
    let mut files = BTreeMap::new();
    for (file, lines) in by_file {
        if !file.starts_with(sources) || file.ends_with("tests.rs") {
            continue;
        }
        let text =
            std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(file).to_path_buf();
        files.insert(name, lines.up_to(of_product(&text)));
    }
    Ok(files)
}

/// A program that cargo built of some tests.
struct Test {
    program: PathBuf,
    /// The package, in whose folder it runs.
    folder: PathBuf,
}

fn build(target: &Path) -> anyhow::Result<Vec<Test>> {
    let mut command = cargo();
    command.args(["test", "--lib", "--tests", "--no-run", "--quiet"]);
    command.arg("--message-format=json-render-diagnostics");
    for name in PURE {
        command.args(["--package", name]);
    }
    command
        .env("RUSTFLAGS", "-C instrument-coverage")
        .env("CARGO_TARGET_DIR", target)
        .env("LLVM_PROFILE_FILE", target.join("build.profraw"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command.output().context("start cargo")?;
    ensure!(output.status.success(), "the tests do not build");
    let told = String::from_utf8_lossy(&output.stdout);
    Ok(told.lines().filter_map(test_of).collect())
}

/// The program that a line of cargo tells of, if it does.
fn test_of(line: &str) -> Option<Test> {
    let told: Value = serde_json::from_str(line).ok()?;
    let program = told.get("executable")?.as_str()?;
    let manifest = Path::new(told.get("manifest_path")?.as_str()?);
    Some(Test {
        program: program.into(),
        folder: manifest.parent()?.to_path_buf(),
    })
}

fn run_test(test: &Test, profiles: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(&test.program);
    command
        .arg("--quiet")
        .current_dir(&test.folder)
        .env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"))
        .stdin(Stdio::null());
    let output = command.output().context("start a test")?;
    if !output.status.success() {
        shell::complain(&String::from_utf8_lossy(&output.stdout));
        bail!("{} failed", test.program.display());
    }
    Ok(())
}

fn table(measured: &[Crate]) -> String {
    let line = |name: &str, (reached, all): (usize, usize)| {
        format!(
            "{name:<26} {reached:>6} of {all:>6} lines  {:>5.1} %",
            share(reached, all)
        )
    };
    let mut lines: Vec<_> = measured
        .iter()
        .map(|krate| line(krate.name, krate.count()))
        .collect();
    lines.push(line("in all", sum(measured)));
    lines.join("\n")
}

fn sum(measured: &[Crate]) -> (usize, usize) {
    measured.iter().fold((0, 0), |(reached, all), krate| {
        let (of_crate, lines) = krate.count();
        (reached + of_crate, all + lines)
    })
}

fn verdict(measured: &[Crate]) -> anyhow::Result<()> {
    let low = measured.iter().filter(|krate| {
        let (reached, all) = krate.count();
        share(reached, all) < LEAST
    });
    let low: Vec<_> = low.map(|krate| krate.name).collect();
    if !low.is_empty() {
        bail!(
            "below {LEAST} %: {}; `cargo xtask coverage --missing` lists the lines",
            low.join(", ")
        );
    }
    Ok(())
}

fn share(reached: usize, all: usize) -> f64 {
    100.0 * reached as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &'static str, reached: usize, all: usize) -> Crate {
        let lines = (1..=all).map(|line| (line, u64::from(line <= reached)));
        let files = BTreeMap::from([(PathBuf::from("a.rs"), lines.collect())]);
        Crate { name, files }
    }

    #[test]
    fn each_crate_must_reach_enough_not_only_all_together() {
        let crates = [measured("good", 99, 99), measured("poor", 9, 10)];
        let error = verdict(&crates).unwrap_err().to_string();
        assert!(error.contains("poor") && !error.contains("good"));
        assert!(verdict(&crates[..1]).is_ok());
        assert_eq!(table(&crates).lines().count(), 3);
    }

    #[test]
    fn programs_are_found_among_what_cargo_tells() {
        let told = r#"{"reason":"compiler-artifact","manifest_path":"/r/a/Cargo.toml","executable":"/t/a-1"}"#;
        let test = test_of(told).unwrap();
        assert_eq!(test.program, Path::new("/t/a-1"));
        assert_eq!(test.folder, Path::new("/r/a"));
        assert!(test_of(r#"{"reason":"build-finished","success":true}"#).is_none());
        assert!(test_of(r#"{"manifest_path":"/r","executable":null}"#).is_none());
    }
}
