//! Some lives in every run of the tests; the many are a stage of their own.

use orchion_simulator::{Fault, Scenario, What, live};
use std::path::Path;

/// The stage `simulate` lives thousands; these few show that nothing is broken outright.
const SEEDS: u64 = 12;

#[test]
fn the_first_lives_keep_every_promise() {
    for seed in 0..SEEDS {
        let life = live(&Scenario::of(seed), None);
        assert_eq!(life.violation, None, "seed {seed}");
        assert!(life.counts.admitted > 0, "seed {seed} had no work");
    }
}

#[test]
fn while_the_engine_of_one_node_is_sick_no_job_fails() {
    for (seed, status) in (0..SEEDS).flat_map(|seed| [(seed, 500), (seed, 503)]) {
        let mut scenario = Scenario::of(seed);
        scenario.queue_capacity = 1024;
        scenario.faults = vec![Fault {
            at_ms: 1_000,
            for_ms: 30_000,
            what: What::Sick(0, status),
        }];
        let life = live(&scenario, None);
        assert_eq!(life.violation, None, "seed {seed}, status {status}");
        let ends = &life.counts.ends;
        let failed: u64 = ["exhausted", "failed"]
            .map(|how| ends.get(how).copied().unwrap_or_default())
            .iter()
            .sum();
        assert_eq!(failed, 0, "seed {seed}, status {status}: {ends:?}");
    }
}

#[test]
fn a_life_is_the_same_each_time() {
    let scenario = Scenario::of(7);
    let (one, other) = (live(&scenario, None), live(&scenario, None));
    assert_eq!(one.counts, other.counts);
}

#[test]
fn what_broke_a_promise_once_keeps_them_now() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut played = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let scenario: Scenario = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        let life = live(&scenario, None);
        assert_eq!(life.violation, None, "{}", path.display());
        played += 1;
    }
    assert!(played > 0, "no scenario is kept");
}
