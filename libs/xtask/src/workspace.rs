//! The workspace as cargo describes it, and the files that git tracks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde::Deserialize;

use crate::shell;

/// The packages of the workspace and all they are built from.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Debug, Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

/// One package.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Package {
    id: String,
    /// Its name, such as `orchion-bus`.
    pub(crate) name: String,
    /// What its manifest asks for.
    pub(crate) dependencies: Vec<Dependency>,
    /// Where its manifest lies.
    pub(crate) manifest_path: PathBuf,
}

/// One line of a manifest's dependency tables.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Dependency {
    /// The package that is wanted.
    pub(crate) name: String,
    /// The name that the code uses, where it differs.
    pub(crate) rename: Option<String>,
}

impl Metadata {
    /// Asks cargo.
    ///
    /// # Errors
    /// When the workspace does not load or the lock file is out of date.
    pub(crate) fn load() -> anyhow::Result<Self> {
        let text = shell::capture(cargo().args(["metadata", "--format-version", "1"]))?;
        serde_json::from_str(&text).context("read cargo metadata")
    }

    /// The packages that live in this repository.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }

    /// What each package is built from, by name, tests and build scripts left out.
    pub(crate) fn edges(&self) -> BTreeMap<String, Vec<String>> {
        let names: BTreeMap<_, _> = self
            .packages
            .iter()
            .map(|package| (package.id.as_str(), package.name.as_str()))
            .collect();
        let name = |id: &str| names.get(id).copied().unwrap_or_default().to_owned();
        let mut edges = BTreeMap::<String, Vec<String>>::new();
        for node in &self.resolve.nodes {
            let ordinary = node
                .deps
                .iter()
                .filter(|edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            edges
                .entry(name(&node.id))
                .or_default()
                .extend(ordinary.map(|edge| name(&edge.pkg)));
        }
        edges
    }

    /// The repository.
    pub(crate) fn root(&self) -> &Path {
        &self.workspace_root
    }

    /// Where cargo builds.
    pub(crate) fn target(&self) -> &Path {
        &self.target_directory
    }
}

impl Package {
    /// The folder of the package relative to the repository, such as `services/registry/core`.
    pub(crate) fn folder(&self, root: &Path) -> PathBuf {
        let folder = self.manifest_path.parent().unwrap_or(&self.manifest_path);
        folder.strip_prefix(root).unwrap_or(folder).to_path_buf()
    }
}

/// The cargo that runs us, in the repository.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    // What `cargo run` tells about this crate; some build scripts watch these
    // names, and would run again each time xtask is in between.
    let told = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    for name in told {
        command.env_remove(name);
    }
    command
}

/// The repository, two folders above this crate.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// The files of the repository, those included that git does not track yet.
///
/// # Errors
/// When git is missing or this is no repository.
pub(crate) fn files() -> anyhow::Result<Vec<PathBuf>> {
    let list = shell::capture(Command::new("git").current_dir(root()).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let files = list
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from);
    // A file that was just deleted is still in the index.
    Ok(files.filter(|file| root().join(file).is_file()).collect())
}
