//! What a run is told.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

/// The command `run`.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// Starts the product (run with `sh -c`); the README says what it must do.
    #[arg(long, value_name = "COMMAND")]
    pub start: String,
    /// Model id to ask the product for.
    #[arg(long, default_value = "mock")]
    pub model: String,
    /// Bearer key of the product.
    #[arg(long)]
    pub key: Option<String>,
    /// Name of the product's column in the table.
    #[arg(long, default_value = "orchion")]
    pub label: String,
    /// Alternating rounds.
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// Rounds with a kill.
    #[arg(long, default_value_t = 2)]
    pub kill_rounds: u32,
    /// One round of each: about two minutes, to see whether it works at all.
    #[arg(long)]
    pub short: bool,
    /// Logs and data.
    #[arg(long, default_value = "out/bench/scratch")]
    pub scratch: PathBuf,
    /// Results; those of an earlier run are removed first.
    #[arg(long, default_value = "out/bench/results")]
    pub out: PathBuf,
    /// First of 100 loopback ports that are free.
    #[arg(long, default_value_t = 27_200)]
    pub port_base: u16,
    /// Repeat a measurement once if other processes used more than this
    /// percentage of a core.
    #[arg(long, default_value_t = 15)]
    pub noise: u32,
    /// Folder of the programs `load`, `floor` and `mock-engine`; that of this
    /// program when absent.
    #[arg(long)]
    pub programs: Option<PathBuf>,
}

impl RunOptions {
    /// Makes the folders and resolves what depends on other options.
    pub(super) fn settle(&self) -> Result<Self> {
        let mut settled = self.clone();
        if self.short {
            settled.rounds = 1;
            settled.kill_rounds = 1;
        }
        settled.scratch = folder(&self.scratch)?;
        settled.out = folder(&self.out)?;
        remove(&settled.out, "json")?;
        remove(&settled.out, "md")?;
        remove(&folder(&settled.scratch.join("logs"))?, "log")?;
        Ok(settled)
    }
}

fn folder(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
    path.canonicalize()
        .with_context(|| format!("resolve {}", path.display()))
}

fn remove(folder: &Path, extension: &str) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|found| found == extension) {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}
