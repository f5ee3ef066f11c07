//! Where the `nats-server` program lies.

use std::path::PathBuf;

use orchion_nats_server::Search;

/// Finds `nats-server` where the product finds it.
///
/// # Panics
///
/// When there is none that can be used, with what to do.
pub fn find_nats_server() -> PathBuf {
    match Search::from_environment().locate() {
        Ok(Some(found)) => found.path,
        Ok(None) => panic!("no nats-server found; run `cargo xtask setup`, which fetches it"),
        Err(error) => panic!("{error}"),
    }
}
