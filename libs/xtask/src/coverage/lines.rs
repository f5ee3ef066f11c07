//! Lines that were reached, as llvm-cov tells them.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The lines of one file that can be reached, and how often each was.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lines(BTreeMap<usize, u64>);

impl Lines {
    pub(super) fn all(&self) -> usize {
        self.0.len()
    }

    pub(super) fn reached(&self) -> usize {
        self.0.values().filter(|count| **count > 0).count()
    }

    pub(super) fn missing(&self) -> impl Iterator<Item = usize> {
        let missing = self.0.iter().filter(|(_, count)| **count == 0);
        missing.map(|(line, _)| *line)
    }

    /// Without what comes behind this many lines.
    pub(super) fn up_to(&self, last: usize) -> Self {
        self.0
            .range(..=last)
            .map(|(line, count)| (*line, *count))
            .collect()
    }
}

impl FromIterator<(usize, u64)> for Lines {
    fn from_iter<T: IntoIterator<Item = (usize, u64)>>(counts: T) -> Self {
        let mut lines = Self::default();
        for (line, count) in counts {
            let known = lines.0.entry(line).or_default();
            *known = count.max(*known);
        }
        lines
    }
}

/// Reads a report in lcov's form: `SF:file`, then `DA:line,count` for each line.
pub(super) fn read(report: &str) -> BTreeMap<PathBuf, Lines> {
    let mut counts = BTreeMap::<PathBuf, Vec<(usize, u64)>>::new();
    let mut file = None;
    for line in report.lines() {
        if let Some(name) = line.strip_prefix("SF:") {
            file = Some(PathBuf::from(name));
        } else if let (Some(file), Some(count)) = (&file, line.strip_prefix("DA:").and_then(count))
        {
            counts.entry(file.clone()).or_default().push(count);
        }
    }
    let files = counts.into_iter();
    files
        .map(|(file, counts)| (file, counts.into_iter().collect()))
        .collect()
}

fn count(text: &str) -> Option<(usize, u64)> {
    let mut parts = text.split(',');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// How many lines of a source come before its tests, which stand last.
pub(super) fn of_product(source: &str) -> usize {
    let lines: Vec<_> = source.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_file_by_file() {
        let report = "SF:/a.rs\nFN:1,f\nDA:1,4\nDA:2,0\nend_of_record\nSF:/b.rs\nDA:7,1\n";
        let files = read(report);
        let lines = &files[&PathBuf::from("/a.rs")];
        assert_eq!((lines.reached(), lines.all()), (1, 2));
        assert_eq!(lines.missing().collect::<Vec<_>>(), [2]);
        assert_eq!(files[&PathBuf::from("/b.rs")].all(), 1);
    }

    #[test]
    fn a_line_that_one_program_reached_is_reached() {
        let files = read("SF:/a.rs\nDA:1,0\nSF:/a.rs\nDA:1,3\nDA:1,0\n");
        assert_eq!(files[&PathBuf::from("/a.rs")].reached(), 1);
    }

    #[test]
    fn lines_of_tests_do_not_count() {
        let source = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        assert_eq!(of_product(source), 2);
        assert_eq!(of_product("fn a() {}\n"), 1);
        let lines: Lines = [(1, 1), (5, 0)].into_iter().collect();
        assert_eq!(lines.up_to(2).all(), 1);
    }
}
