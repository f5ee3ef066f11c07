//! Checks of this machine.

use std::path::{Path, PathBuf};

use orchion_nats_server::{Search, Source};
use orchion_service::config;

use super::Check;
use crate::show::units::bytes;

/// NATS stores transcripts and logs: with less than this it soon refuses.
const LEAST_DISK: u64 = 1 << 30;
const GOOD_DISK: u64 = 10 << 30;

pub(super) fn nats_server() -> Check {
    const NAME: &str = "nats-server";
    match Search::from_environment().locate() {
        Ok(Some(found)) => {
            let from = match found.source {
                Source::Explicit => "named by ORCHION_NATS_SERVER",
                Source::Path => "on PATH",
                Source::Cache => "fetched earlier",
            };
            let path = found.path.display();
            Check::ok(NAME, format!("{} at {path}, {from}", found.version))
        }
        Ok(None) => Check::warn(
            NAME,
            "not installed",
            "`orchion up` fetches it once; or install it from https://nats.io/download",
        ),
        Err(error) => Check::fail(
            NAME,
            error.to_string(),
            "correct this; without nats-server nothing starts here",
        ),
    }
}

pub(super) fn data_dir() -> Check {
    const NAME: &str = "data";
    let folder = config::data_dir();
    let shown = folder.display();
    if !folder.exists() {
        return Check::ok(NAME, format!("{shown}, made at the first start"));
    }
    if !folder.is_dir() {
        return Check::fail(
            NAME,
            format!("{shown} is a file, not a folder"),
            "name a folder for the data in ORCHION_DATA_DIR",
        );
    }
    // What is created in it is gone at once.
    let probe = folder.join(format!(".doctor-{}", std::process::id()));
    let written = std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe));
    match written {
        Ok(()) => Check::ok(NAME, format!("{shown}, can be written")),
        Err(error) => Check::fail(
            NAME,
            format!("{shown} cannot be written: {error}"),
            "give it to this user, or name another folder in ORCHION_DATA_DIR",
        ),
    }
}

pub(super) fn disk() -> Check {
    const NAME: &str = "disk";
    let folder = existing(&config::data_dir());
    let free = match fs4::available_space(&folder) {
        Ok(free) => free,
        Err(error) => {
            return Check::warn(
                NAME,
                format!(
                    "the free space of {} is not known: {error}",
                    folder.display()
                ),
                "see that a few GiB are free",
            );
        }
    };
    let found = format!("{} free at {}", bytes(free), folder.display());
    match free {
        0..LEAST_DISK => Check::fail(
            NAME,
            found,
            "free some space, or name a folder on a larger disk in ORCHION_DATA_DIR",
        ),
        LEAST_DISK..GOOD_DISK => {
            Check::warn(NAME, found, "enough to begin; models and answers need more")
        }
        GOOD_DISK.. => Check::ok(NAME, found),
    }
}

/// The nearest folder above that exists.
fn existing(folder: &Path) -> PathBuf {
    folder
        .ancestors()
        .find(|folder| folder.is_dir())
        .unwrap_or(Path::new("."))
        .to_path_buf()
}
