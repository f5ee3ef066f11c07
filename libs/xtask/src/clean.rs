//! Removes what was built, and on request what was fetched.

use std::fs;

use anyhow::Context as _;

use crate::workspace::{self, Metadata};
use crate::{machine, shell};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also remove the cache: nats-server, llama-server, tools
    #[arg(long)]
    cache: bool,
}

/// Removes cargo's target folder, and the cache when asked to.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let target = Metadata::load()?.target().to_path_buf();
    shell::run(workspace::cargo().arg("clean"))?;
    shell::say(&format!("removed what was built in {}", target.display()));
    if options.cache {
        let cache = machine::cache_folder()?;
        for part in ["nats-server", "llama-server", "tools"] {
            let folder = cache.join(part);
            if folder.exists() {
                fs::remove_dir_all(&folder)
                    .with_context(|| format!("remove {}", folder.display()))?;
                shell::say(&format!("removed {}", folder.display()));
            }
        }
    }
    Ok(())
}
