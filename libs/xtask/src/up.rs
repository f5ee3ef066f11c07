//! `cargo xtask up`: builds what one machine needs and hands over to `orchion up`.

use std::process::Command;

use anyhow::Context as _;

use crate::shell;
use crate::workspace::{Metadata, cargo};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// What `orchion up` is to be told; `cargo xtask up --help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds, then becomes `orchion up`, so that Ctrl-C and the exit code are its own.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    shell::complain("building; the first time this takes a few minutes");
    shell::run(cargo().args([
        "build",
        "--bins",
        "--package",
        "orchion",
        "--package",
        "orchion-engine",
    ]))?;
    let program = format!("orchion{}", std::env::consts::EXE_SUFFIX);
    let program = Metadata::load()?.target().join("debug").join(program);
    become_program(Command::new(program).arg("up").args(&options.arguments))
}

#[cfg(unix)]
fn become_program(command: &mut Command) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    Err(command.exec()).context("start orchion")
}

#[cfg(not(unix))]
fn become_program(command: &mut Command) -> anyhow::Result<()> {
    shell::run(command)
}
