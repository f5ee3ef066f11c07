//! The programs that a run needs.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use orchion_testkit::nats;

use super::RunOptions;

/// Where they lie.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) load: PathBuf,
    pub(super) floor: PathBuf,
    pub(super) mock_engine: PathBuf,
    pub(super) nats_server: PathBuf,
}

impl Programs {
    pub(super) fn find(options: &RunOptions) -> Result<Self> {
        let folder = match &options.programs {
            Some(folder) => folder.clone(),
            None => own_folder()?,
        };
        Ok(Self {
            load: program(&folder, "load")?,
            floor: program(&folder, "floor")?,
            mock_engine: program(&folder, "mock-engine")?,
            nats_server: nats::locate_nats_server()?,
        })
    }

    /// `PATH` with the server on it, for the start command.
    pub(super) fn path(&self) -> Result<OsString> {
        let server = self.nats_server.parent().map(Path::to_owned);
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = server.into_iter().chain(env::split_paths(&path));
        env::join_paths(folders).context("extend PATH")
    }
}

fn own_folder() -> Result<PathBuf> {
    let mut folder = env::current_exe().context("find this program")?;
    folder.pop();
    Ok(folder)
}

fn program(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    ensure!(
        path.is_file(),
        "{} is missing; build it with `cargo build --profile dist -p orchion-bench -p orchion-testkit --bins`",
        path.display()
    );
    Ok(path)
}
