//! Where the `nats-server` program lies.

use std::env;
use std::path::PathBuf;

/// The version that `cargo xtask setup` fetches.
pub const VERSION: &str = "2.15.1";

/// Finds `nats-server`: `ORCHION_NATS_SERVER`, else on `PATH`, else in the cache
/// that `cargo xtask setup` fills.
///
/// # Panics
///
/// When there is none, with what to do.
pub fn find_nats_server() -> PathBuf {
    if let Some(named) = env::var_os("ORCHION_NATS_SERVER") {
        let path = PathBuf::from(named);
        assert!(
            path.is_file(),
            "ORCHION_NATS_SERVER names {}, which is no file",
            path.display()
        );
        return path;
    }
    on_path().or_else(in_cache).unwrap_or_else(|| {
        panic!("no nats-server found; run `cargo xtask setup`, which fetches it")
    })
}

fn on_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join("nats-server"))
        .find(|candidate| candidate.is_file())
}

fn in_cache() -> Option<PathBuf> {
    let cache = env::var_os("ORCHION_CACHE")
        .map(PathBuf::from)
        .or_else(|| {
            let shared = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
            Some(shared.or_else(home)?.join("orchion"))
        })?;
    let path = cache.join("nats-server").join(VERSION).join("nats-server");
    path.is_file().then_some(path)
}
