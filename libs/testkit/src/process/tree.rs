//! Processes and what descends from them, read from `/proc`.
//!
//! Where there is no `/proc`, a process seems to have no children.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nix::sys::signal::{Signal, kill};

use super::pid;

/// Returns the given processes and everything that descends from them.
pub fn tree(roots: &[u32]) -> Vec<u32> {
    if roots.is_empty() {
        return Vec::new();
    }
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (id, parent) in parents() {
        children.entry(parent).or_default().push(id);
    }
    let mut found = BTreeSet::new();
    let mut todo = roots.to_vec();
    while let Some(id) = todo.pop() {
        if found.insert(id) {
            todo.extend(children.get(&id).into_iter().flatten());
        }
    }
    found.into_iter().collect()
}

/// Sends a signal to a process and everything that descends from it, children
/// before parents, so that no parent sees a dead child and starts another.
pub fn signal_tree(root: u32, signal: Signal) {
    let mut all = tree(&[root]);
    all.retain(|id| *id != root);
    // The parent is stopped first and told last.
    let _ = kill(pid(root), Signal::SIGSTOP);
    for id in all {
        let _ = kill(pid(id), signal);
    }
    let _ = kill(pid(root), signal);
    let _ = kill(pid(root), Signal::SIGCONT);
}

/// Every process on the machine with its parent.
fn parents() -> impl Iterator<Item = (u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name before it may hold spaces and parentheses.
        let after_name = stat.get(stat.rfind(')')? + 2..)?;
        let parent = after_name.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some((id, parent))
    })
}
