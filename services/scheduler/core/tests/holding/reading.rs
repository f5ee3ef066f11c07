//! Records that come to the store after the takeover.

use crate::charge::{Charge, admission, description, end_of, id, node_id, written};
use orchion_contract::JobId;
use orchion_contract::job::{Door, Job, JobState, Outcome};
use orchion_contract::placement::DecisionOutcome;
use orchion_scheduler_core::{Effect, Input, Question, WriteError, job_end};
use std::time::Duration;

#[test]
fn a_record_that_comes_after_the_takeover_is_found() {
    let mut charge = Charge::with_node("a", 1);
    let late = recorded_elsewhere(1);
    charge.pass(Duration::from_secs(5));
    assert!(looks_at_records(&charge.effects()));
    charge.hear(found_open(late.id, 7));
    assert!(matches!(charge.effects()[..], [Effect::ReadRecord { .. }]));
    let (job, found) = (late.id, Some((7, Some(Box::new(late)))));
    charge.hear(Input::Read { job, found });
    assert!(matches!(charge.effects()[..], [Effect::Reread { .. }]));
}

#[test]
fn a_job_that_ended_while_records_were_read_is_no_reason_to_read_anew() {
    let mut charge = Charge::with_node("a", 1);
    let mut late = recorded_elsewhere(1);
    charge.pass(Duration::from_secs(5));
    charge.effects();
    charge.hear(found_open(late.id, 7));
    charge.effects();
    late.state = JobState::Completed;
    let (job, found) = (late.id, Some((8, Some(Box::new(late)))));
    charge.hear(Input::Read { job, found });
    assert!(charge.effects().is_empty() && charge.holder.is_in_charge());
}

#[test]
fn open_records_of_known_jobs_change_nothing() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.pass(Duration::from_secs(5));
    charge.effects();
    charge.hear(found_open(job, 5));
    assert!(charge.effects().is_empty());
    assert!(charge.holder.is_in_charge());
}

#[test]
fn only_what_was_stored_since_is_looked_at() {
    let mut charge = Charge::with_node("a", 1);
    assert_eq!(looks_after(&mut charge, 5), Some(0));
    charge.hear(Input::FoundOpen {
        jobs: Vec::new(),
        upto: 40,
    });
    assert_eq!(looks_after(&mut charge, 10), Some(40));
}

#[test]
fn a_record_that_was_written_over_ours_is_no_longer_ours() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.hear(found_open(job, 7));
    assert!(matches!(charge.effects()[..], [Effect::ReadRecord { .. }]));
    let mut other = charge.record_of(&job);
    other.state = JobState::Pending;
    let found = Some((7, Some(Box::new(other))));
    charge.hear(Input::Read { job, found });
    assert!(matches!(charge.effects()[..], [Effect::Reread { .. }]));
}

#[test]
fn while_a_write_of_ours_is_under_way_what_was_written_is_looked_at_again() {
    let mut charge = Charge::with_node("a", 1);
    let job = told_of_end(&mut charge);
    assert!(written(&charge.effects()).is_some());
    charge.hear(found_open(job, 9));
    assert!(charge.effects().is_empty());
    charge.hear(end_written(job, true));
    assert_eq!(looks_after(&mut charge, 5), Some(8));
    charge.hear(found_open(job, 9));
    assert_eq!(expected(&charge.effects()), Some(9));
}

#[test]
fn records_are_looked_at_after_twice_as_long_each_time() {
    let mut charge = Charge::with_node("a", 1);
    let mut looked_after = Vec::new();
    for second in 1..=40 {
        charge.pass(Duration::from_secs(1));
        if looks_at_records(&charge.effects()) {
            looked_after.push(second);
        }
    }
    assert_eq!(looked_after, [5, 15, 35]);
}

#[test]
fn an_ended_record_that_a_takeover_finds_is_remembered() {
    let mut charge = Charge::standing("a", 1);
    let mut ended = recorded_elsewhere(1);
    ended.state = JobState::Completed;
    ended.end = Some(job_end(&end_of(1, Outcome::Completed), 5));
    charge.hear(Input::NodesLoaded);
    charge.hear(Input::GatewaysLoaded);
    charge.hear(Input::Records(vec![(ended, 7)]));
    charge.effects();
    let token = charge.ask(Question::Get(id(1)));
    let found = description(&charge.effects(), token).unwrap();
    assert_eq!(found.state, JobState::Completed);
}

#[test]
fn where_a_scheduler_before_had_sent_a_job_is_explained_by_its_record() {
    let mut ended = recorded_elsewhere(1);
    ended.state = JobState::Completed;
    ended.end = Some(job_end(&end_of(1, Outcome::Completed), 5));
    let open = recorded_elsewhere(2);
    let mut charge = Charge::standing("a", 1);
    charge.hear(Input::NodesLoaded);
    charge.hear(Input::GatewaysLoaded);
    charge.hear(Input::Records(vec![(ended, 7), (open, 8)]));
    charge.hear(Input::Last {
        job: id(2),
        last: None,
    });
    charge.effects();
    for job in [id(1), id(2)] {
        let decisions = charge.explained(job).unwrap().decisions;
        assert_eq!(decisions.len(), 1);
        assert_eq!(
            (decisions[0].outcome, decisions[0].attempt),
            (DecisionOutcome::Assigned, 1)
        );
        let place = decisions[0].selected.as_ref().unwrap();
        assert_eq!(place.node, node_id("a"));
    }
}

#[test]
fn a_record_above_the_marker_of_an_expired_one_is_written_once_more() {
    let mut charge = Charge::with_node("a", 1);
    let job = unsure(&mut charge);
    let found = Some((9, None));
    charge.hear(Input::Read { job, found });
    assert_eq!(expected(&charge.effects()), Some(9));
}

#[test]
fn a_first_record_that_was_not_stored_is_written_once_more() {
    let mut charge = Charge::with_node("a", 1);
    let job = unsure(&mut charge);
    charge.hear(Input::Read { job, found: None });
    assert_eq!(expected(&charge.effects()), Some(0));
}

#[test]
fn a_record_that_vanished_ends_the_stay_in_charge() {
    let mut charge = Charge::with_node("a", 1);
    let job = told_of_end(&mut charge);
    charge.effects();
    let result = Err(WriteError::Unsure);
    charge.hear(Input::Written { job, result });
    charge.effects();
    charge.hear(Input::Read { job, found: None });
    assert!(matches!(charge.effects()[..], [Effect::Reread { .. }]));
}

#[test]
fn a_job_that_ended_elsewhere_and_is_submitted_again_gets_the_answer_of_its_record() {
    let mut charge = Charge::with_node("a", 1);
    let token = charge.submit(1, Door::Task);
    charge.effects();
    let mut ended = recorded_elsewhere(1);
    ended.state = JobState::Completed;
    let (job, result) = (id(1), Err(WriteError::Unsure));
    charge.hear(Input::Written { job, result });
    charge.effects();
    let found = Some((9, Some(Box::new(ended))));
    charge.hear(Input::Read { job, found });
    let admission = admission(&charge.effects(), token).unwrap();
    assert_eq!(admission.state, JobState::Completed);
}

#[test]
fn a_last_record_of_which_nobody_knows_is_read_and_written_again() {
    let mut charge = Charge::with_node("a", 1);
    let job = told_of_end(&mut charge);
    charge.effects();
    charge.hear(end_written(job, false));
    is_read_and_written_again(&mut charge, job);
}

#[test]
fn a_final_that_stands_where_a_mark_was_to_go_ends_the_job() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    let end = Some(Box::new(end_of(1, Outcome::Canceled)));
    charge.hear(Input::Opened {
        job,
        attempt: 2,
        end,
    });
    charge.effects();
    let token = charge.ask(Question::Get(job));
    let found = description(&charge.effects(), token).unwrap();
    assert_eq!(found.state, JobState::Canceled);
}

#[test]
fn a_later_record_that_the_full_store_refuses_is_read_and_the_job_goes_on() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.end_attempt(job, 1, crate::failed());
    charge.effects();
    let result = Err(WriteError::Full("no room".to_owned()));
    charge.hear(Input::Written { job, result });
    is_read_and_written_again(&mut charge, job);
}

#[test]
fn a_last_record_is_written_once_and_then_forgotten() {
    let mut charge = Charge::with_node("a", 1);
    let job = told_of_end(&mut charge);
    let is_end = |effect: &Effect| matches!(effect, Effect::WriteEnd { .. });
    assert!(charge.effects().iter().any(is_end));
    assert_eq!(charge.holder.unsettled_records(), 1);
    charge.hear(end_written(job, true));
    assert!(charge.effects().is_empty());
    assert_eq!(charge.holder.unsettled_records(), 0);
}

#[test]
fn a_job_is_forgotten_when_its_record_goes() {
    let mut charge = Charge::with_node("a", 1);
    let job = told_of_end(&mut charge);
    charge.effects();
    charge.hear(end_written(job, true));
    charge.effects();
    let mut is_known = |minutes: u64| {
        charge.pass(Duration::from_secs(minutes * 60));
        charge.effects();
        let token = charge.ask(Question::Get(job));
        description(&charge.effects(), token).is_some()
    };
    assert!(is_known(14));
    assert!(!is_known(2));
}

#[test]
fn a_job_whose_end_is_not_yet_on_record_is_known_as_long_as_that_takes() {
    let mut charge = Charge::with_node("a", 1);
    let job = told_of_end(&mut charge);
    charge.effects();
    charge.pass(Duration::from_secs(60 * 60));
    charge.effects();
    let token = charge.ask(Question::Get(job));
    assert!(description(&charge.effects(), token).is_some());
}

#[test]
fn a_record_that_is_open_though_its_job_has_ended_is_written_again() {
    let mut charge = Charge::with_node("a", 1);
    let job = told_of_end(&mut charge);
    for input in [end_written(job, true), found_open(job, 5)] {
        charge.hear(input);
    }
    assert_eq!(expected(&charge.effects()), Some(5));
}

/// A job that has ended, and history knows.
fn told_of_end(charge: &mut Charge) -> JobId {
    let job = charge.admit(1, Door::Task);
    charge.end_attempt(job, 1, crate::charge::completed());
    charge.effects();
    charge.hear(Input::Told { jobs: vec![job] });
    job
}

fn end_written(job: JobId, is_sure: bool) -> Input {
    Input::EndsWritten {
        jobs: vec![job],
        is_sure,
    }
}

/// Nobody knows whether a record was stored, and it was not.
fn is_read_and_written_again(charge: &mut Charge, job: JobId) {
    let reads = |effect: &Effect| matches!(effect, Effect::ReadRecord { .. });
    assert!(charge.effects().iter().any(reads));
    let before = Box::new(recorded_elsewhere(1));
    let found = Some((5, Some(before)));
    charge.hear(Input::Read { job, found });
    assert_eq!(expected(&charge.effects()), Some(5));
}

/// One record says that its job is open.
fn found_open(job: JobId, revision: u64) -> Input {
    Input::FoundOpen {
        jobs: vec![(job, revision)],
        upto: revision,
    }
}

/// A job whose first record got no answer, and is being read.
fn unsure(charge: &mut Charge) -> JobId {
    charge.submit(1, Door::Task);
    charge.effects();
    let (job, result) = (id(1), Err(WriteError::Unsure));
    charge.hear(Input::Written { job, result });
    charge.effects();
    job
}

fn expected(effects: &[Effect]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::Write { expected, .. } | Effect::WriteEnd { expected, .. } => Some(*expected),
        _ => None,
    })
}

/// A job that another scheduler admitted.
fn recorded_elsewhere(n: u128) -> Job {
    let mut other = Charge::with_node("a", 1);
    let job = other.admit(n, Door::Task);
    other.record_of(&job)
}

/// After which revision records are looked at by then.
fn looks_after(charge: &mut Charge, seconds: u64) -> Option<u64> {
    charge.pass(Duration::from_secs(seconds));
    charge.effects().iter().find_map(|effect| match effect {
        Effect::LookForOpen { after } => Some(*after),
        _ => None,
    })
}

fn looks_at_records(effects: &[Effect]) -> bool {
    let is_looking = |effect: &Effect| matches!(effect, Effect::LookForOpen { .. });
    effects.iter().any(is_looking)
}
