//! `cargo xtask protocol` and `cargo xtask simulate-fleet`.

use std::process::Command;

use crate::measure::build;
use crate::shell;
use crate::workspace::cargo;

#[derive(clap::Args)]
pub(crate) struct Protocol {
    /// What the check is to be told, such as --planted; `cargo xtask protocol --help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct Fleet {
    /// What the fleet is to be told, such as --nodes 2000
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Looks at every interleaving of the job protocol.
pub(crate) fn protocol(options: &Protocol) -> anyhow::Result<()> {
    shell::run(
        cargo()
            .args(["run", "--release", "--quiet"])
            .args(["--package", "orchion-protocol", "--"])
            .args(&options.arguments),
    )
}

/// Runs thousands of light agents against the services.
pub(crate) fn fleet(options: &Fleet) -> anyhow::Result<()> {
    let binaries = build()?;
    shell::run(
        Command::new(binaries.join("fleet"))
            .args(&options.arguments)
            .env("ORCHION_BIN_DIR", &binaries),
    )
}
