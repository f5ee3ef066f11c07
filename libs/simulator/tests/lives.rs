//! Some lives in every run of the tests; the many are a stage of their own.

use orchion_simulator::{Scenario, live};
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
