//! Which node this is, over restarts: an id in a data directory that only one
//! agent holds at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use orchion_contract::NodeId;

/// The data directory of this agent, locked as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// When it cannot be written, or another agent holds it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        if path.exists() && !path.is_dir() {
            bail!("{shown} is a file, not a folder; name a folder with --data-dir");
        }
        std::fs::create_dir_all(path).with_context(|| {
            format!("create data directory {shown}; name another with --data-dir")
        })?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .with_context(|| {
                format!("write to data directory {shown}; name another with --data-dir")
            })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => bail!(
                "data directory {shown} belongs to another agent that is running; \
                 give this one its own with --data-dir"
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("lock data directory {shown}"))
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id that this agent was given, else the one it has had, else a new
    /// one. A new one is kept.
    ///
    /// # Errors
    /// When the given or the kept id is not valid, or it cannot be kept.
    pub fn node_id(&self, given: Option<&str>) -> anyhow::Result<NodeId> {
        if let Some(given) = given {
            return NodeId::new(given).context("read node-agent.node_id");
        }
        let path = self.path.join("node-id");
        match std::fs::read_to_string(&path) {
            Ok(text) => NodeId::new(text.trim()).with_context(|| {
                format!(
                    "read {}; delete the file for a new identity",
                    path.display()
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.new_id(&path),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    fn new_id(&self, path: &Path) -> anyhow::Result<NodeId> {
        let id = NodeId::new(uuid::Uuid::new_v4().to_string()).context("make a node id")?;
        let draft = self.path.join("node-id.new");
        let write = || {
            let mut file = File::create(&draft)?;
            writeln!(file, "{id}")?;
            file.sync_all()?;
            std::fs::rename(&draft, path)
        };
        write().with_context(|| format!("keep the node id in {}", path.display()))?;
        tracing::info!(node.id = %id, "this is a new node: {id}");
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path()).unwrap().node_id(None).unwrap();
        let second = DataDir::open(folder.path()).unwrap().node_id(None).unwrap();
        assert_eq!(first, second);
    }

    #[test]
    fn a_second_agent_is_told_to_use_another_directory() {
        let folder = tempfile::tempdir().unwrap();
        let _first = DataDir::open(folder.path()).unwrap();
        let error = DataDir::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("--data-dir"), "{error}");
    }

    #[test]
    fn a_given_id_is_not_kept_and_must_be_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::open(folder.path()).unwrap();
        assert_eq!(dir.node_id(Some("pi-4")).unwrap().as_str(), "pi-4");
        assert_ne!(dir.node_id(None).unwrap().as_str(), "pi-4");
        let error = format!("{:#}", dir.node_id(Some("pi.4")).unwrap_err());
        assert!(error.contains("'.'"), "{error}");
    }

    #[test]
    fn a_broken_id_says_which_file_to_delete() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("node-id"), "a b").unwrap();
        let dir = DataDir::open(folder.path()).unwrap();
        let error = format!("{:#}", dir.node_id(None).unwrap_err());
        assert!(error.contains("delete the file"), "{error}");
    }
}
