//! The real `llama-server` and a model for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use orchion_testkit::Program;

/// A `llama-server` to start.
pub type LlamaServer = PathBuf;

/// Finds it: named by `ORCHION_LLAMA_SERVER`, else built before into the cache
/// folder. A named one is taken as it is.
pub fn llama_server() -> Option<LlamaServer> {
    if let Some(path) = set("ORCHION_LLAMA_SERVER") {
        return Some(path);
    }
    let builds = std::fs::read_dir(cache_folder().join("llama-server")).ok()?;
    let binary = format!("llama-server{}", std::env::consts::EXE_SUFFIX);
    builds
        .flatten()
        .map(|build| build.path().join(&binary))
        .find(|path| path.is_file())
}

/// Has the starter engine write a tiny model to `path`, of so many layers that
/// an answer takes long enough to be interrupted.
///
/// # Panics
///
/// When it does not.
pub async fn tiny_model(path: &Path) {
    let mut writing = Program::ours("orchion-engine")
        .args(["write-model", "--layers", "16"])
        .arg(path)
        .start();
    let status = writing.wait(Duration::from_secs(60)).await;
    assert!(status.success(), "{}", writing.stderr());
}

/// Where Orchion keeps what it has fetched or built.
pub(crate) fn cache_folder() -> PathBuf {
    set("ORCHION_CACHE").unwrap_or_else(|| {
        set("XDG_CACHE_HOME")
            .unwrap_or_else(|| set("HOME").expect("HOME is set").join(".cache"))
            .join("orchion")
    })
}

fn set(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}
