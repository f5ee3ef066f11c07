//! The architecture as a check: who may depend on whom, and what each manifest
//! must say. `deny.toml` watches over the same doors for crates of the registry;
//! here are the rules that it cannot express.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::test::Outcome;
use crate::workspace::{self, Metadata};

/// Crates of the registry that only these may name.
const DOORS: [(&str, &[&str]); 8] = [
    (
        "async-nats",
        &["orchion-bus", "orchion-testkit", "orchion-bench"],
    ),
    ("bollard", &["orchion-node-agent"]),
    ("sysinfo", &["orchion-node-agent"]),
    ("nvml-wrapper", &["orchion-node-agent"]),
    ("figment", &["orchion-service"]),
    ("rusqlite", &["orchion-log-sink"]),
    ("candle-core", &["orchion-engine"]),
    ("candle-transformers", &["orchion-engine"]),
];

/// What looks at the decisions of services from outside: it may know their cores.
const PROOFS: [&str; 2] = ["libs/protocol", "libs/fleet"];

/// What no pure crate may be built from, not even by a detour.
const IMPURE: [&str; 8] = [
    "tokio",
    "async-nats",
    "tracing",
    "figment",
    "rand",
    "orchion-bus",
    "orchion-service",
    "orchion-testkit",
];

/// Libraries that know little on purpose: `(crate, what it must not know)`.
const IGNORANT: [(&str, &[&str]); 2] = [
    (
        "orchion-service",
        &["orchion-contract", "orchion-bus", "async-nats"],
    ),
    ("orchion-contract", &["orchion-transcript"]),
];

/// The parts of the workspace that the rules look at.
#[derive(Default)]
struct Graph {
    members: Vec<Member>,
    /// What each package is built from, by name.
    edges: BTreeMap<String, Vec<String>>,
}

struct Member {
    name: String,
    /// Relative to the repository, with slashes.
    folder: String,
    /// All that its manifest names, tests included.
    dependencies: Vec<String>,
    manifest: toml::Table,
}

/// Holds the workspace to the rules.
///
/// # Errors
/// When one is broken; the message has a line for each place.
pub(crate) fn check() -> anyhow::Result<Outcome> {
    let graph = Graph::load()?;
    let files = workspace::files()?;
    let files: Vec<_> = files.iter().map(|file| slashes(file)).collect();
    let broken = [graph.broken(), misplaced(&files)].concat();
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    Ok(Outcome::Passed(format!("{} crates", graph.members.len())))
}

impl Graph {
    fn load() -> anyhow::Result<Self> {
        let metadata = Metadata::load()?;
        let members = metadata.members().map(|package| {
            let text = fs::read_to_string(&package.manifest_path).context("read a manifest")?;
            Ok(Member {
                name: package.name.clone(),
                folder: slashes(&package.folder(metadata.root())),
                dependencies: package
                    .dependencies
                    .iter()
                    .map(|dependency| dependency.name.clone())
                    .collect(),
                manifest: text
                    .parse()
                    .with_context(|| format!("read the manifest of {}", package.name))?,
            })
        });
        Ok(Self {
            members: members.collect::<anyhow::Result<_>>()?,
            edges: metadata.edges(),
        })
    }

    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for member in &self.members {
            broken.extend(member.name_differs());
            broken.extend(member.unwelcome());
            broken.extend(member.manifest_lacks());
            broken.extend(self.services_meet(member));
            broken.extend(self.impure(member));
        }
        broken
    }

    /// A service knows no other service, and no library knows any; only `orchion` starts them.
    fn services_meet(&self, member: &Member) -> Vec<String> {
        // The simulator joins the cores of several services, and nothing else of them.
        let is_core = |other: &Member| other.folder.ends_with("/core");
        if matches!(member.folder.as_str(), "services/orchion" | "libs/xtask") {
            return Vec::new();
        }
        let strangers = self.members.iter().filter(|other| {
            other.service().is_some()
                && !(PROOFS.contains(&member.folder.as_str()) && other.folder.ends_with("/core"))
                && other.service() != member.service()
                && member.dependencies.contains(&other.name)
                && !(member.folder == "libs/simulator" && is_core(other))
        });
        strangers
            .map(|other| format!("{} depends on the service {}", member.name, other.name))
            .collect()
    }

    /// Cores, the contract and the transcript machines decide; they touch nothing.
    fn impure(&self, member: &Member) -> Vec<String> {
        let is_pure = member.folder.ends_with("/core")
            || matches!(
                member.name.as_str(),
                "orchion-contract" | "orchion-transcript"
            );
        if !is_pure {
            return Vec::new();
        }
        let reached = self.reached(&member.name);
        let found = IMPURE.into_iter().filter(|name| reached.contains(*name));
        found
            .map(|name| format!("{} is pure and must not be built from {name}", member.name))
            .collect()
    }

    /// All packages that `name` is built from.
    fn reached(&self, name: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![name];
        while let Some(name) = open.pop() {
            for next in self.edges.get(name).into_iter().flatten() {
                if reached.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        reached
    }
}

impl Member {
    /// `registry` for `services/registry` and all below it.
    fn service(&self) -> Option<&str> {
        self.folder.strip_prefix("services/")?.split('/').next()
    }

    /// Folders drop the prefix `orchion-`; `services/registry/core` is `orchion-registry-core`.
    fn name_differs(&self) -> Option<String> {
        let parts = self
            .folder
            .split_once('/')
            .map_or("", |(_, rest)| rest)
            .replace('/', "-");
        let expected = if parts == "orchion" {
            parts
        } else {
            format!("orchion-{parts}")
        };
        (self.name != expected)
            .then(|| format!("{} is called {}, not {expected}", self.folder, self.name))
    }

    fn unwelcome(&self) -> Vec<String> {
        let doors = DOORS
            .iter()
            .filter(|(_, few)| !few.contains(&self.name.as_str()))
            .map(|(door, _)| *door);
        let ignorant = IGNORANT
            .iter()
            .filter(|(name, _)| *name == self.name)
            .flat_map(|(_, unknown)| unknown.iter().copied());
        let found = doors.chain(ignorant).filter(|name| {
            self.dependencies
                .iter()
                .any(|dependency| dependency == name)
        });
        found
            .map(|name| format!("{} must not depend on {name}", self.name))
            .collect()
    }

    /// Lints, edition, licence and versions come from the workspace.
    fn manifest_lacks(&self) -> Vec<String> {
        let mut lacks = Vec::new();
        let inherits = |table: Option<&toml::Value>| {
            table
                .and_then(|table| table.get("workspace"))
                .and_then(toml::Value::as_bool)
                == Some(true)
        };
        if !inherits(self.manifest.get("lints")) {
            lacks.push(format!(
                "{} does not take its lints from the workspace",
                self.name
            ));
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            let package = self.manifest.get("package");
            if !inherits(package.and_then(|package| package.get(key))) {
                lacks.push(format!(
                    "{} does not take its {key} from the workspace",
                    self.name
                ));
            }
        }
        if self
            .manifest
            .get("package")
            .and_then(|package| package.get("description"))
            .is_none()
        {
            lacks.push(format!("{} has no description", self.name));
        }
        for (name, wanted) in dependency_tables(&self.manifest).into_iter().flatten() {
            if !inherits(Some(wanted)) {
                lacks.push(format!(
                    "{} does not take {name} from the workspace",
                    self.name
                ));
            }
        }
        lacks
    }
}

/// All dependency tables of a manifest, those of single platforms included.
fn dependency_tables(manifest: &toml::Table) -> Vec<&toml::Table> {
    let platforms = manifest.get("target").and_then(toml::Value::as_table);
    let platforms = platforms.into_iter().flat_map(toml::Table::values);
    let platforms = platforms.filter_map(toml::Value::as_table);
    std::iter::once(manifest)
        .chain(platforms)
        .flat_map(own_dependency_tables)
        .collect()
}

fn own_dependency_tables(table: &toml::Table) -> impl Iterator<Item = &toml::Table> {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    kinds
        .into_iter()
        .filter_map(|kind| table.get(kind)?.as_table())
}

/// Files that must not exist: `mod.rs`, and a second place that tracks what is to be done.
fn misplaced(files: &[String]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files {
        let name = file.rsplit('/').next().unwrap_or(file).to_lowercase();
        let stem = name.split('.').next().unwrap_or(&name);
        if name == "mod.rs" && !file.contains("/tests/") {
            broken.push(format!("{file}: write foo.rs beside foo/ instead"));
        }
        if matches!(
            stem,
            "todo" | "todos" | "plan" | "progress" | "status" | "backlog"
        ) && !file.ends_with(".rs")
        {
            broken.push(format!(
                "{file}: docs/project-status.md is the one place for this"
            ));
        }
    }
    broken
}

fn slashes(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "
        [package]
        description = 'x'
        version.workspace = true
        edition.workspace = true
        rust-version.workspace = true
        license.workspace = true
        publish.workspace = true
        [lints]
        workspace = true
    ";

    #[test]
    fn a_good_graph_passes() {
        let graph = graph(&[
            (
                "orchion-bus",
                "libs/bus",
                &["async-nats", "orchion-contract"],
            ),
            ("orchion-contract", "libs/contract", &["serde"]),
            (
                "orchion-scheduler",
                "services/scheduler",
                &["orchion-bus", "orchion-scheduler-core"],
            ),
            (
                "orchion-scheduler-core",
                "services/scheduler/core",
                &["orchion-contract"],
            ),
            ("orchion", "services/orchion", &["orchion-scheduler"]),
        ]);
        assert_eq!(graph.broken(), Vec::<String>::new());
    }

    #[test]
    fn services_do_not_know_each_other() {
        let graph = graph(&[
            (
                "orchion-gateway",
                "services/gateway",
                &["orchion-scheduler-core"],
            ),
            ("orchion-scheduler-core", "services/scheduler/core", &[]),
        ]);
        assert_eq!(
            graph.broken(),
            ["orchion-gateway depends on the service orchion-scheduler-core"]
        );
    }

    #[test]
    fn libraries_know_no_service() {
        let graph = graph(&[
            ("orchion-testkit", "libs/testkit", &["orchion-gateway"]),
            ("orchion-gateway", "services/gateway", &[]),
        ]);
        assert_eq!(
            graph.broken(),
            ["orchion-testkit depends on the service orchion-gateway"]
        );
    }

    #[test]
    fn only_the_bus_knows_the_client() {
        let graph = graph(&[("orchion-gateway", "services/gateway", &["async-nats"])]);
        assert_eq!(
            graph.broken(),
            ["orchion-gateway must not depend on async-nats"]
        );
    }

    #[test]
    fn only_the_agent_knows_the_host() {
        let graph = graph(&[(
            "orchion-registry",
            "services/registry",
            &["bollard", "sysinfo", "nvml-wrapper"],
        )]);
        assert_eq!(graph.broken().len(), 3);
    }

    #[test]
    fn a_core_is_pure_also_by_detours() {
        let mut graph = graph(&[(
            "orchion-registry-core",
            "services/registry/core",
            &["helper"],
        )]);
        graph
            .edges
            .insert("helper".to_owned(), vec!["tokio".to_owned()]);
        assert_eq!(
            graph.broken(),
            ["orchion-registry-core is pure and must not be built from tokio"]
        );
    }

    #[test]
    fn what_a_process_does_around_its_work_knows_no_wire() {
        let graph = graph(&[("orchion-service", "libs/service", &["orchion-contract"])]);
        assert_eq!(
            graph.broken(),
            ["orchion-service must not depend on orchion-contract"]
        );
    }

    #[test]
    fn a_crate_is_called_like_its_folder() {
        let graph = graph(&[("orchion-store", "services/registry/core", &[])]);
        assert_eq!(
            graph.broken(),
            ["services/registry/core is called orchion-store, not orchion-registry-core"]
        );
    }

    #[test]
    fn versions_and_lints_come_from_the_workspace() {
        let mut graph = graph(&[("orchion-bus", "libs/bus", &[])]);
        graph.members[0].manifest =
            format!("{MANIFEST}\n[target.'cfg(unix)'.dependencies]\nlibc = '0.2'\n")
                .replace("[lints]\n        workspace = true", "")
                .parse()
                .unwrap();
        assert_eq!(
            graph.broken(),
            [
                "orchion-bus does not take its lints from the workspace",
                "orchion-bus does not take libc from the workspace"
            ]
        );
    }

    #[test]
    fn there_is_one_tracker_and_no_mod_rs() {
        let files = [
            "docs/TODO.md",
            "docs/project-status.md",
            "libs/bus/src/rpc/mod.rs",
            "libs/bus/src/status.rs",
        ];
        assert_eq!(misplaced(&files.map(str::to_owned)).len(), 2);
    }

    fn graph(members: &[(&str, &str, &[&str])]) -> Graph {
        let owned = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        Graph {
            members: members
                .iter()
                .map(|(name, folder, dependencies)| Member {
                    name: (*name).to_owned(),
                    folder: (*folder).to_owned(),
                    dependencies: owned(dependencies),
                    manifest: MANIFEST.parse().unwrap(),
                })
                .collect(),
            edges: members
                .iter()
                .map(|(name, _, dependencies)| ((*name).to_owned(), owned(dependencies)))
                .collect(),
        }
    }
}
