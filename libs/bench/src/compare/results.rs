//! The result files of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Results of one system in one scenario, by round.
pub(super) type Rounds = BTreeMap<u64, Value>;

/// Measurements during which other processes used more than this many cores.
const NOISY: f64 = 0.15;

/// Where a result counts failures by class.
const CLASSES: [&str; 4] = [
    "errors",
    "broken_in_flight",
    "failed_new",
    "failed_after_restart",
];

/// All results, by scenario and system.
#[derive(Debug, Default)]
pub(super) struct Results(BTreeMap<(String, String), Rounds>);

impl Results {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut results = Self::default();
        let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let parsed = serde_json::from_slice(&fs::read(&path)?);
                results.add(&parsed.with_context(|| format!("parse {}", path.display()))?);
            }
        }
        Ok(results)
    }

    fn add(&mut self, document: &Value) {
        let text = |key| {
            document
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned()
        };
        let round = document.get("round").and_then(Value::as_u64).unwrap_or(0);
        if let Some(result) = document.get("result") {
            let rounds = self.0.entry((text("scenario"), text("label"))).or_default();
            rounds.insert(round, result.clone());
        }
    }

    pub(super) fn find(&self, scenario: &str, label: &str) -> Option<&Rounds> {
        self.0.get(&(scenario.to_owned(), label.to_owned()))
    }

    pub(super) fn has(&self, label: &str) -> bool {
        self.0.keys().any(|(_, other)| other == label)
    }

    pub(super) fn rounds(&self) -> usize {
        let rounds = self.0.values().flat_map(|rounds| rounds.keys());
        rounds.collect::<BTreeSet<_>>().len()
    }

    /// What went wrong, one line for each scenario and system.
    pub(super) fn errors(&self) -> String {
        let mut lines = String::new();
        for ((scenario, label), rounds) in &self.0 {
            let mut sums: BTreeMap<String, u64> = BTreeMap::new();
            for (when, class, count) in rounds.values().flat_map(classes) {
                *sums.entry(format!("{when} {class}")).or_default() += count;
            }
            if !sums.is_empty() {
                let list: Vec<String> = sums.iter().map(|(k, n)| format!("{k} x{n}")).collect();
                lines += &format!("- {scenario}, {label}: {}\n", list.join("; "));
            }
        }
        lines
    }

    /// How many answers of a system were not what was asked.
    pub(super) fn wrong(&self, label: &str) -> u64 {
        let mine = self.0.iter().filter(|((_, other), _)| other == label);
        let all = mine.flat_map(|(_, rounds)| rounds.values().flat_map(classes));
        all.filter(|(_, class, _)| class.starts_with("content:"))
            .map(|(_, _, count)| count)
            .sum()
    }

    /// Which measurements strangers disturbed.
    pub(super) fn noise(&self) -> String {
        let (mut noisy, mut all) = (Vec::new(), 0);
        for ((scenario, label), rounds) in &self.0 {
            for (round, result) in rounds {
                let Some(window_s) = number(result, "window_s").filter(|s| *s > 0.0) else {
                    continue;
                };
                all += 1;
                let cores = number(result, "foreign_cpu_s").unwrap_or(0.0) / window_s;
                if cores > NOISY {
                    noisy.push(format!("{scenario} {label} {round}: {cores:.2}"));
                }
            }
        }
        let count = noisy.len();
        let again = match count {
            0 => String::new(),
            _ => format!("Measure again in peace: {}.\n", noisy.join("; ")),
        };
        format!(
            "Other processes used more than {NOISY} cores in {count} of {all} measurements.\n{again}"
        )
    }
}

/// The failures in a result: when, of which class, how many.
fn classes(result: &Value) -> impl Iterator<Item = (&'static str, &String, u64)> {
    CLASSES.into_iter().flat_map(move |when| {
        let classes = result
            .get(when)
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        classes.map(move |(class, count)| (when, class, count.as_u64().unwrap_or(0)))
    })
}

/// Follows a dotted path; a map of counts is summed, an empty one to zero.
pub(super) fn number(result: &Value, path: &str) -> Option<f64> {
    let at = path.split('.').try_fold(result, |at, key| at.get(key))?;
    match at.as_object() {
        Some(map) => Some(
            map.values()
                .filter_map(Value::as_f64)
                .fold(0.0, |a, b| a + b),
        ),
        None => at.as_f64(),
    }
}
