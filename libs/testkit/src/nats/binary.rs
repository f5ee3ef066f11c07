//! Where the `nats-server` program lies.

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::Context as _;
use orchion_nats_server::Search;

/// Finds `nats-server` where the product finds it.
///
/// # Errors
///
/// When there is none that can be used, with what to do.
pub fn locate_nats_server() -> anyhow::Result<PathBuf> {
    let found = Search::from_environment().locate()?;
    let found = found.context("no nats-server found; run `cargo xtask setup`, which fetches it")?;
    Ok(found.path)
}

/// The same for tests, looked for once: the search checks the program's digest.
pub(super) fn nats_server() -> &'static PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| locate_nats_server().unwrap_or_else(|error| panic!("{error:#}")))
}
