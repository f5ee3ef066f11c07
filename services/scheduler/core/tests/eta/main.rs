//! What waiting jobs are told is measured against what happened.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod replay;

use replay::{Trace, measure, synthetic};
use std::path::Path;

/// What is promised of half of all predictions.
const MEDIAN: f64 = 0.25;

fn recorded() -> Vec<Trace> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap())
        .collect()
}

#[test]
fn half_of_all_predictions_are_off_by_a_quarter_at_most() {
    let traces = recorded();
    assert!(!traces.is_empty(), "a recorded trace belongs to it");
    for trace in traces.iter().chain([&synthetic()]) {
        let measured = measure(trace);
        assert!(
            measured.errors.len() >= 20,
            "{}: too few jobs waited",
            trace.source
        );
        let median = measured.at(50);
        assert!(
            median <= MEDIAN,
            "{}: the median error is {median}",
            trace.source
        );
    }
}
