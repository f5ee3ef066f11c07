//! Digests of model files, so that two nodes know whether they have the same
//! weights. A file is read once; what came of it is kept beside the agent's
//! data until the file changes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

/// How long an engine is kept waiting for its digest: it serves without one
/// while a large file is still being read.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified_ns: u128,
}

/// A digest and the state of the file it belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    stamp: Stamp,
    digest: String,
}

/// Digests of this agent's model files; clones share them.
#[derive(Debug, Clone)]
pub struct Digests(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kept_at: PathBuf,
    known: Mutex<BTreeMap<PathBuf, Kept>>,
    reading: Mutex<BTreeMap<PathBuf, watch::Receiver<bool>>>,
}

impl Digests {
    /// Digests that are kept in the file `kept_at`.
    #[must_use]
    pub fn new(kept_at: PathBuf) -> Self {
        let text = std::fs::read_to_string(&kept_at).unwrap_or_default();
        // What cannot be read is computed again.
        let known = serde_json::from_str(&text).unwrap_or_default();
        Self(Arc::new(Shared {
            kept_at,
            known: Mutex::new(known),
            reading: Mutex::default(),
        }))
    }

    /// The digest of a file, `sha256:…`; `None` when it cannot be read, or not
    /// yet.
    pub async fn of(&self, path: &Path) -> Option<String> {
        let stamp = stamp(path)?;
        if let Some(digest) = self.0.digest(path, stamp) {
            return Some(digest);
        }
        let mut done = self.0.clone().read(path.to_owned(), stamp);
        let waited = done.wait_for(|done| *done);
        // Whether it is done shows below.
        let _ = tokio::time::timeout(PATIENCE, waited).await;
        self.0.digest(path, stamp)
    }
}

impl Shared {
    fn digest(&self, path: &Path, stamp: Stamp) -> Option<String> {
        let known = lock(&self.known);
        let kept = known.get(path).filter(|kept| kept.stamp == stamp)?;
        Some(kept.digest.clone())
    }

    /// Reads the file on a thread of its own, once at a time.
    fn read(self: Arc<Self>, path: PathBuf, stamp: Stamp) -> watch::Receiver<bool> {
        let shared = self.clone();
        let mut reading = lock(&shared.reading);
        if let Some(done) = reading.get(&path) {
            return done.clone();
        }
        let (tell, done) = watch::channel(false);
        reading.insert(path.clone(), done.clone());
        tokio::task::spawn_blocking(move || {
            match compute(&path) {
                Ok(digest) => self.keep(path.clone(), Kept { stamp, digest }),
                Err(error) => {
                    tracing::debug!("the model file {} has no digest: {error}", path.display());
                }
            }
            lock(&self.reading).remove(&path);
            tell.send_replace(true);
        });
        done
    }

    fn keep(&self, path: PathBuf, kept: Kept) {
        let mut known = lock(&self.known);
        known.insert(path, kept);
        let text = serde_json::to_vec(&*known).unwrap_or_default();
        if let Err(error) = std::fs::write(&self.kept_at, text) {
            tracing::debug!("digests are not kept: {error}");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Stamp {
        bytes: metadata.len(),
        modified_ns: modified.as_nanos(),
    })
}

fn compute(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => hash.update(&chunk[..read]),
        }
    }
    let hex = |byte: &u8| format!("{byte:02x}");
    let digits: String = hash.finalize().iter().map(hex).collect();
    Ok(format!("sha256:{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[tokio::test]
    async fn a_file_is_read_once_and_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (model, kept) = (folder.path().join("m.gguf"), folder.path().join("kept"));
        std::fs::write(&model, "abc").unwrap();
        assert_eq!(
            Digests::new(kept.clone()).of(&model).await.as_deref(),
            Some(OF_ABC)
        );
        // The next agent takes what is kept, whatever it says.
        let text = std::fs::read_to_string(&kept).unwrap();
        std::fs::write(&kept, text.replace(OF_ABC, "sha256:kept")).unwrap();
        let digests = Digests::new(kept);
        assert_eq!(digests.of(&model).await.as_deref(), Some("sha256:kept"));
        std::fs::write(&model, "abcd").unwrap();
        assert_ne!(digests.of(&model).await.as_deref(), Some("sha256:kept"));
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let digests = Digests::new(folder.path().join("kept"));
        assert_eq!(digests.of(&folder.path().join("missing")).await, None);
    }
}
