//! Reads the text files of the repository: links in documents must lead somewhere inside
//! the repository, and no file may name a place that exists on one machine only.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::bail;

use crate::test::Outcome;
use crate::workspace;

/// Checks all files.
///
/// # Errors
/// When a link is dead or a path of this machine is found; one line for each.
pub(crate) fn check() -> anyhow::Result<Outcome> {
    let root = workspace::root();
    let here = places(
        &root,
        std::env::var_os("HOME").map(PathBuf::from).as_deref(),
    );
    let mut broken = Vec::new();
    let mut looked_at = 0;
    for file in workspace::files()? {
        // Pictures and other binaries are no text.
        let Ok(text) = fs::read_to_string(root.join(&file)) else {
            continue;
        };
        looked_at += 1;
        let is_document = file.extension().is_some_and(|extension| extension == "md");
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}", file.display(), number + 1);
            let names = here.iter().filter(|here| names_place(line, here));
            broken.extend(
                names.map(|here| {
                    format!("{place}: names {here}, which exists on this machine only")
                }),
            );
            if escapes(line, &file) {
                broken.push(format!("{place}: names a path outside of the repository"));
            }
        }
        if is_document {
            broken.extend(dead_links(&root, &file, &text));
        }
    }
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    Ok(Outcome::Passed(format!("{looked_at} files")))
}

/// Folders of this machine that no file may name: the checkout, what it lies in, and the home.
fn places(root: &Path, home: Option<&Path>) -> Vec<String> {
    let shared = [
        "/", "/tmp", "/home", "/Users", "/root", "/usr", "/opt", "/srv", "/var",
    ];
    let candidates = [Some(root), root.parent(), home];
    let candidates = candidates
        .into_iter()
        .flatten()
        .map(|path| path.to_string_lossy().into_owned());
    let mut places: Vec<_> = candidates
        .filter(|path| !shared.contains(&path.as_str()))
        .collect();
    // Homes of whoever wrote it, wherever that was.
    places.extend([concat!("/ro", "ot"), concat!("/home", "/runner")].map(str::to_owned));
    places.dedup();
    places
}

/// Whether `line` has `place` as the beginning of an absolute path.
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + place.len()..].chars().next();
        let is_inside = before.is_some_and(|c| c.is_alphanumeric() || "._-}>/*~".contains(c));
        !is_inside && after == Some('/')
    })
}

/// Whether `line` has a relative path that, seen from `file`, leaves the repository.
fn escapes(line: &str, file: &Path) -> bool {
    let is_end = |c: char| c.is_whitespace() || "\"'`()[]{}<>,;".contains(c);
    let depth = file
        .parent()
        .map_or(0, |folder| folder.components().count());
    line.split(is_end)
        .filter(|word| word.starts_with("../"))
        .any(|word| {
            let up = word.split('/').take_while(|part| *part == "..").count();
            up > depth
        })
}

/// Links of a document whose file or heading does not exist.
fn dead_links(root: &Path, file: &Path, text: &str) -> Vec<String> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut dead = Vec::new();
    for target in links(text) {
        let (path, heading) = target.split_once('#').unwrap_or((&target, ""));
        let path = if path.is_empty() {
            file.to_path_buf()
        } else {
            normal(&folder.join(path))
        };
        if !root.join(&path).exists() {
            dead.push(format!(
                "{}: the link to {target} leads nowhere",
                file.display()
            ));
        } else if !heading.is_empty() && path.extension().is_some_and(|extension| extension == "md")
        {
            let text = fs::read_to_string(root.join(&path)).unwrap_or_default();
            if !headings(&text).iter().any(|known| known == heading) {
                dead.push(format!(
                    "{}: {} has no heading #{heading}",
                    file.display(),
                    path.display()
                ));
            }
        }
    }
    dead
}

/// The targets of all links that stay on this side: `[text](target)`, outside of code blocks.
fn links(text: &str) -> Vec<String> {
    let targets = prose(text).flat_map(|line| {
        line.split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
            .map(|(target, _)| target.to_owned())
            .collect::<Vec<_>>()
    });
    targets
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

/// The anchors of a document's headings, made as GitHub makes them.
fn headings(text: &str) -> Vec<String> {
    let titles = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |title: &str| {
        let kept = title.trim_start_matches('#').trim().to_lowercase();
        let kept = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    titles.map(anchor).collect()
}

/// The lines outside of fenced code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Resolves `..` by name.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            normal.pop();
        } else if part != Component::CurDir {
            normal.push(part);
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_is_not_named() {
        let places = places(
            Path::new("/builds/one/orchion"),
            Some(Path::new("/home/ada")),
        );
        let names = |line: &str| places.iter().any(|place| names_place(line, place));
        assert!(names("see /builds/one/orchion/README.md"));
        assert!(names("\"/home/ada/.cargo\""));
        assert!(!names("COPY target/builds/one/x /usr/bin/"));
    }

    #[test]
    fn a_checkout_in_a_common_folder_does_not_ban_that_folder() {
        let places = places(Path::new("/tmp/orchion"), None);
        assert!(!places.iter().any(|place| names_place("cp /tmp/x .", place)));
    }

    #[test]
    fn paths_stay_inside() {
        assert!(escapes(
            "see `../elsewhere/design.md`",
            Path::new("README.md")
        ));
        assert!(escapes("../../../x", Path::new("docs/adr/0001.md")));
        assert!(!escapes(
            "[contract](../contract.md)",
            Path::new("docs/adr/0001.md")
        ));
        assert!(!escapes(
            "include_str!(\"../../../nats/settings.conf\")",
            Path::new("libs/nats-server/src/config.rs")
        ));
    }

    #[test]
    fn dead_links_and_headings_are_found() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("docs")).unwrap();
        fs::write(root.path().join("README.md"), "# The `first` step: go!\n").unwrap();
        let text = "[a](../README.md#the-first-step-go) [b](../README.md#gone) [c](none.md) [d](https://x.y/z)\n\
                    ```\n[e](in-code.md)\n```\n";

        let dead = dead_links(root.path(), Path::new("docs/a.md"), text);

        assert_eq!(
            dead,
            [
                "docs/a.md: README.md has no heading #gone",
                "docs/a.md: the link to none.md leads nowhere"
            ]
        );
    }
}
