//! What cargo and its companions can check by themselves.

use crate::shell;
use crate::test::Outcome;
use crate::tools::CARGO_DENY;
use crate::workspace::{Metadata, cargo};

/// Formats the code in place.
pub(crate) fn format() -> anyhow::Result<()> {
    shell::run(cargo().args(["fmt", "--all"]))
}

pub(crate) fn check_format() -> anyhow::Result<Outcome> {
    shell::run(cargo().args(["fmt", "--all", "--check"]))?;
    Ok(Outcome::Passed(String::new()))
}

pub(crate) fn clippy() -> anyhow::Result<Outcome> {
    shell::run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    Ok(Outcome::Passed(String::new()))
}

pub(crate) fn rustdoc() -> anyhow::Result<Outcome> {
    let mut command = cargo();
    command
        .args(["doc", "--workspace", "--no-deps", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings");
    shell::run(&mut command)?;
    Ok(Outcome::Passed(String::new()))
}

/// A crate may build in company only because another one switched on a feature.
pub(crate) fn alone() -> anyhow::Result<Outcome> {
    let metadata = Metadata::load()?;
    for package in metadata.members() {
        shell::run(cargo().args(["check", "--quiet", "--package", &package.name]))?;
    }
    Ok(Outcome::Passed(format!(
        "{} crates",
        metadata.members().count()
    )))
}

/// No advisory database: it can only be fetched from a git host.
pub(crate) fn deny() -> anyhow::Result<Outcome> {
    let program = match CARGO_DENY.find_or_install() {
        Ok(program) => program,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    let mut command = std::process::Command::new(program);
    command.current_dir(crate::workspace::root());
    command.args([
        "--log-level",
        "error",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]);
    shell::run(&mut command)?;
    Ok(Outcome::Passed("bans, licences, sources".to_owned()))
}
