//! `cargo xtask bench` and `cargo xtask chaos`: the shipped binaries, measured
//! and killed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{Metadata, cargo, root};
use crate::{dist, llama, shell};

/// What is built beside the services: an engine, and what measures and kills. Always
/// built together: another choice would be another choice of features, and build
/// most of it anew.
const BESIDE: [&str; 5] = [
    "orchion-engine",
    "orchion-testkit",
    "orchion-bench",
    "orchion-chaos",
    "orchion-fleet",
];

#[derive(clap::Args)]
pub(crate) struct Bench {
    /// What the bench is to be told, such as --short; `cargo xtask bench --help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct Chaos {
    /// Two real llama-servers instead of the mock engine
    #[arg(long)]
    llama: bool,
    /// What chaos is to be told, such as --runs 20; `cargo xtask chaos --help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct Continuation {
    /// What the program is to be told, such as --runs 5; `cargo xtask continuation --help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct Eta {
    /// Record the trace anew first, with a real llama-server behind the whole product (a few minutes)
    #[arg(long)]
    record: bool,
}

/// Measures the product beside the floor.
pub(crate) fn bench(options: &Bench) -> anyhow::Result<()> {
    let product = dist::build(dist::Linking::Dynamic)?;
    let out = Metadata::load()?.target().join("bench");
    shell::run(bench_of(&build()?, &product, &out).args(&options.arguments))
}

/// The bench on the programs that lie in `product`.
pub(crate) fn bench_of(tools: &Path, product: &Path, out: &Path) -> Command {
    let mut bench = Command::new(tools.join("bench"));
    bench
        .args(["run", "--start"])
        .arg(root().join("libs/bench/product-start.sh"))
        .arg("--out")
        .arg(out.join("results"))
        .arg("--scratch")
        .arg(out.join("scratch"))
        .env("ORCHION_BIN_DIR", product)
        .env("ORCHION_NATS_CONFIG", root().join("nats/loopback.conf"));
    bench
}

/// Kills processes under streams and counts what is lost.
pub(crate) fn chaos(options: &Chaos) -> anyhow::Result<()> {
    let binaries = build()?;
    let mut arguments: Vec<OsString> = Vec::new();
    if options.llama {
        let model = Metadata::load()?.target().join("chaos-model.gguf");
        // About a hundred tokens a second: time to kill in mid-answer.
        shell::run(
            Command::new(binaries.join("orchion-engine"))
                .arg("write-model")
                .arg(&model)
                .args([
                    "--dtype", "q8_0", "--layers", "12", "--dim", "1024", "--ff", "4096",
                ])
                .args(["--heads", "16", "--kv-heads", "8"]),
        )?;
        arguments.extend([
            "--llama".into(),
            llama::find_or_build()?.into_os_string(),
            model.into_os_string(),
        ]);
    }
    shell::run(
        Command::new(binaries.join("chaos"))
            .args(arguments)
            .args(&options.arguments)
            .env("ORCHION_BIN_DIR", &binaries),
    )
}

/// Shows how answers of real engines go on. Nothing is measured, so the binaries
/// are those of the tests.
pub(crate) fn continuation(options: &Continuation) -> anyhow::Result<()> {
    let llama_server = llama::find_or_build()?;
    let binaries = build_as(&["--bins"], "debug")?;
    shell::run(
        Command::new(binaries.join("continuation"))
            .arg("--llama-server")
            .arg(llama_server)
            .args(&options.arguments)
            .env("ORCHION_BIN_DIR", &binaries),
    )
}

/// Measures predictions against the recorded traces and a made one; records first if asked.
pub(crate) fn eta(options: &Eta) -> anyhow::Result<()> {
    let traces = root().join("services/scheduler/core/tests/traces");
    if options.record {
        let binaries = build()?;
        let model = Metadata::load()?.target().join("eta-model.gguf");
        shell::run(
            Command::new(binaries.join("orchion-engine"))
                .arg("write-model")
                .arg(&model)
                .args(["--dtype", "q8_0", "--layers", "8", "--dim", "768"])
                .args(["--ff", "3072", "--heads", "12", "--kv-heads", "6"]),
        )?;
        shell::run(
            Command::new(binaries.join("record-trace"))
                .arg("--llama-server")
                .arg(llama::find_or_build()?)
                .arg("--model")
                .arg(&model)
                .args(["--jobs", "160"])
                .arg("--out")
                .arg(traces.join("llama-server.json"))
                .env("ORCHION_BIN_DIR", &binaries),
        )?;
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(&traces)?
        .map(|file| file.map(|file| file.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    shell::run(
        cargo()
            .args(["run", "--quiet", "--package", "orchion-scheduler-core"])
            .args(["--example", "eta", "--"])
            .args(&files),
    )
}

/// Builds the programs linked as they are shipped, but not laid out by a profile, and
/// returns where they lie.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    build_as(&["--profile", "dist", "--bins"], "dist")
}

/// Builds the programs; returns the folder of the binaries.
fn build_as(how: &[&str], folder: &str) -> anyhow::Result<PathBuf> {
    let packages = dist::SERVICES.into_iter().chain(BESIDE);
    let packages = packages.flat_map(|package| ["--package", package]);
    shell::run(cargo().arg("build").args(how).args(packages))?;
    Ok(Metadata::load()?.target().join(folder))
}
