//! Records that come to the store after the takeover.

use crate::charge::Charge;
use orchion_contract::job::{Door, Job};
use orchion_scheduler_core::{Effect, Input};
use std::time::Duration;

#[test]
fn a_record_that_comes_after_the_takeover_is_found() {
    let mut charge = Charge::with_node("a", 1);
    let late = recorded_elsewhere(1);
    charge.pass(Duration::from_secs(5));
    assert!(reads_records(&charge.effects()));
    charge.hear(Input::Records(vec![(late, 7)]));
    assert!(matches!(charge.effects()[..], [Effect::Reread { .. }]));
}

#[test]
fn records_that_are_known_are_read_again_and_change_nothing() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    let record = charge.record_of(&job);
    charge.pass(Duration::from_secs(5));
    charge.effects();
    charge.hear(Input::Records(vec![(record, 5)]));
    assert!(charge.effects().is_empty());
    assert!(charge.holder.is_in_charge());
}

#[test]
fn an_ended_record_of_an_unknown_job_is_no_reason_to_read_anew() {
    let mut charge = Charge::with_node("a", 1);
    let mut late = recorded_elsewhere(1);
    late.state = orchion_contract::job::JobState::Completed;
    charge.pass(Duration::from_secs(5));
    charge.effects();
    charge.hear(Input::Records(vec![(late, 7)]));
    assert!(charge.effects().is_empty());
}

#[test]
fn records_are_read_again_after_twice_as_long_each_time() {
    let mut charge = Charge::with_node("a", 1);
    let mut read_after = Vec::new();
    for second in 1..=40 {
        charge.pass(Duration::from_secs(1));
        if reads_records(&charge.effects()) {
            read_after.push(second);
        }
    }
    assert_eq!(read_after, [5, 15, 35]);
}

/// A job that another scheduler admitted.
fn recorded_elsewhere(n: u128) -> Job {
    let mut other = Charge::with_node("a", 1);
    let job = other.admit(n, Door::Task);
    other.record_of(&job)
}

fn reads_records(effects: &[Effect]) -> bool {
    let is_reading = |effect: &Effect| matches!(effect, Effect::LoadRecords);
    effects.iter().any(is_reading)
}
