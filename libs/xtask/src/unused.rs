//! Finds dependencies that no source file of their crate names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::test::Outcome;
use crate::workspace::Metadata;

pub(crate) fn check() -> anyhow::Result<Outcome> {
    let metadata = Metadata::load()?;
    let folders: Vec<_> = metadata
        .members()
        .map(|package| metadata.root().join(package.folder(metadata.root())))
        .collect();
    let mut unused = Vec::new();
    let mut looked_at = 0;
    for (package, folder) in metadata.members().zip(&folders) {
        let sources = sources(folder, &folders)?;
        for dependency in &package.dependencies {
            looked_at += 1;
            let name = dependency
                .rename
                .as_ref()
                .unwrap_or(&dependency.name)
                .replace('-', "_");
            if !sources.iter().any(|source| names(source, &name)) {
                unused.push(format!("{} does not use {}", package.name, dependency.name));
            }
        }
    }
    if !unused.is_empty() {
        bail!("{}", unused.join("\n"));
    }
    Ok(Outcome::Passed(format!("{looked_at} dependencies")))
}

/// All Rust files below `folder`, without those of crates nested in it.
fn sources(folder: &Path, crates: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.context("list a folder")?.path();
        if path.is_dir() && !crates.contains(&path) {
            found.extend(sources(&path, crates)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?,
            );
        }
    }
    Ok(found)
}

/// Whether `source` has `name` as a whole word outside of comments.
fn names(source: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .any(|line| {
            line.match_indices(name).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + name.len()..].chars().next();
                !before.is_some_and(is_word) && !after.is_some_and(is_word)
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_in_code_count() {
        assert!(names("use serde::Deserialize;", "serde"));
        assert!(names("fn f() -> anyhow::Result<()> {", "anyhow"));
        assert!(!names("use serde_json::Value;", "serde"));
        assert!(!names("//! serde would do", "serde"));
    }

    #[test]
    fn a_nested_crate_does_not_speak_for_its_parent() {
        let parent = tempfile::tempdir().unwrap();
        let core = parent.path().join("core");
        fs::create_dir(&core).unwrap();
        fs::write(core.join("lib.rs"), "use uuid::Uuid;").unwrap();
        fs::write(parent.path().join("main.rs"), "fn main() {}").unwrap();

        let found = sources(parent.path(), &[parent.path().to_path_buf(), core]).unwrap();

        assert_eq!(found, ["fn main() {}"]);
    }
}
