//! What a stack is made of: an engine, base images, and static binaries in `out/bin`.

use std::process::Command;

use anyhow::bail;

use crate::dist;
use crate::shell;
use crate::workspace::{self, Metadata};

const NATS: &str = "nats:2.15-alpine";
const RUST: &str = "rust:1.95-slim-bookworm";

/// Finds a running engine with Compose; in CI, brings one up.
///
/// # Errors
/// When there is none.
pub(crate) fn engine() -> anyhow::Result<()> {
    if shell::is_set("CI") && cfg!(target_os = "linux") {
        return helper(&["engine"]);
    }
    if shell::first_line("docker", &["version", "--format", "{{.Server.Version}}"]).is_none() {
        bail!("no Docker engine answers");
    }
    if shell::first_line("docker", &["compose", "version"]).is_none() {
        bail!("Docker has no Compose v2");
    }
    Ok(())
}

/// Provides base images, and binaries unless the images build them.
///
/// # Errors
/// When an image cannot be had or the build fails.
pub(crate) fn prepare(full: bool) -> anyhow::Result<()> {
    image(NATS)?;
    if full { image(RUST) } else { binaries() }
}

fn image(name: &str) -> anyhow::Result<()> {
    if shell::first_line("docker", &["image", "inspect", "--format", "{{.Id}}", name]).is_some() {
        return Ok(());
    }
    helper(&["image", name])
}

fn helper(arguments: &[&str]) -> anyhow::Result<()> {
    let script = workspace::root().join("libs/xtask/container-engine.sh");
    shell::run(Command::new(script).args(arguments))
}

/// Builds each program without any library of the system and lays it into `out/bin`.
fn binaries() -> anyhow::Result<()> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = workspace::cargo();
    build.args(["build", "--locked", "--bins", "--target", &target]);
    for program in dist::programs() {
        build.args(["--package", program]);
    }
    build.env("RUSTFLAGS", dist::STATIC);
    build
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_STRIP", "symbols");
    shell::run(&mut build)?;

    dist::lay_out(&Metadata::load()?.target().join(&target).join("debug"))
}
