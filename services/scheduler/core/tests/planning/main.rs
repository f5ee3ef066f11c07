//! Where jobs go, as a whole cluster sees it.

mod admission;
mod common;
mod denials;
mod estimates;
mod placement;
mod preemption;
mod properties;
mod scale;

use common::*;
use orchion_contract::job::{AttemptEnd, AttemptOutcome, Outcome, RunReply};
use orchion_contract::node::{Continuation, NodeState};
use orchion_contract::transcript::{Entry, Frame, Mark};
use orchion_contract::{ErrorBody, ErrorCode};
use orchion_scheduler_core::{Adopted, Next, Phase, Step, adopt, after_end, after_reply, plan};
use proptest::prelude::*;
use std::time::Duration;

/// Cases of each property: the whole suite ends within a second, and whole
/// lives are left to the simulator.
const CASES: u32 = 128;

/// That of the scheduler in charge.
const EPOCH: u64 = 7;

#[test]
fn twelve_jobs_spread_over_three_nodes() {
    let mut cluster = Cluster::with_nodes(&[("a", 8), ("b", 8), ("c", 8)]);
    for n in 0..12 {
        cluster.submit(n);
    }
    cluster.settle();
    assert_eq!(
        cluster.placed(),
        [
            ("a".to_owned(), 4),
            ("b".to_owned(), 4),
            ("c".to_owned(), 4)
        ]
    );
}

#[test]
fn jobs_wait_in_order_and_positions_say_so() {
    let mut cluster = Cluster::with_nodes(&[("a", 1)]);
    let jobs: Vec<_> = (0..3).map(|n| cluster.submit(n)).collect();
    cluster.settle();
    assert_eq!(cluster.state.position(&jobs[0]), None);
    assert_eq!(cluster.state.position(&jobs[1]), Some(0));
    assert_eq!(cluster.state.position(&jobs[2]), Some(1));
    cluster.state.remove(&jobs[0]);
    cluster.settle();
    assert_eq!(cluster.state.position(&jobs[2]), Some(0));
}

#[test]
fn a_lost_node_gives_its_jobs_to_another() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    let job = cluster.submit(0);
    cluster.settle();
    cluster.add_node("b", 4);
    cluster.set_state("a", NodeState::Lost);
    cluster.settle();
    let view = cluster.state.job(&job).unwrap();
    assert_eq!(
        (
            view.record.attempt,
            view.record.assigned.as_ref().unwrap().node.as_str()
        ),
        (2, "b")
    );
}

#[test]
fn nothing_new_goes_to_a_suspect() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    cluster.set_state("a", NodeState::Suspect);
    let job = cluster.submit(0);
    cluster.settle();
    assert_eq!(cluster.state.job(&job).unwrap().phase, Phase::Queued);
}

#[test]
fn a_restarted_agent_gets_a_new_attempt() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    let job = cluster.submit(0);
    cluster.settle();
    cluster.restart_agent("a");
    cluster.settle();
    assert_eq!(cluster.state.job(&job).unwrap().record.attempt, 2);
}

#[test]
fn a_node_that_left_gives_its_jobs_back() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    let job = cluster.submit(0);
    cluster.settle();
    cluster
        .state
        .remove_node(&orchion_contract::NodeId::new("a").unwrap());
    cluster.settle();
    assert_eq!(cluster.state.job(&job).unwrap().phase, Phase::Queued);
    assert_eq!(cluster.state.unsettled().count(), 0);
}

#[test]
fn an_attempt_that_is_being_opened_is_left_alone() {
    let mut cluster = Cluster::with_nodes(&[("a", 4), ("b", 4)]);
    let job = cluster.submit(0);
    cluster.settle();
    cluster.state.update(&job, |job| job.phase = Phase::Opening);
    let node = cluster
        .state
        .job(&job)
        .unwrap()
        .record
        .assigned
        .as_ref()
        .unwrap()
        .node
        .to_string();
    cluster.set_state(&node, NodeState::Lost);
    assert!(plan(&cluster.state, cluster.now, 0).steps.is_empty());
}

#[test]
fn a_job_with_a_prefix_waits_for_a_replica_that_can_continue() {
    let mut cluster = Cluster::with_nodes(&[("a", 1)]);
    let job = cluster.submit(0);
    cluster.settle();
    cluster.add_node_with("b", 4, Continuation::None);
    cluster.add_node("c", 4);
    cluster.state.update(&job, |job| job.has_prefix = true);
    cluster.set_state("a", NodeState::Lost);
    cluster.settle();
    let view = cluster.state.job(&job).unwrap();
    assert_eq!(view.record.assigned.as_ref().unwrap().node.as_str(), "c");
    assert!(view.record.prefix_by.is_some());
}

#[test]
fn a_failed_replica_is_avoided_while_another_one_is_there() {
    let mut cluster = Cluster::with_nodes(&[("a", 4), ("b", 4)]);
    let job = cluster.submit(0);
    cluster.settle();
    let next = after_end(
        cluster.state.job(&job).unwrap(),
        &failed(job, 1, true),
        cluster.now,
    );
    let Next::Again {
        not_before,
        avoid,
        counts,
        ..
    } = next
    else {
        panic!("{next:?}")
    };
    assert!(counts);
    cluster.state.update(&job, |view| {
        view.not_before = not_before;
        view.avoid = avoid;
    });
    cluster.state.release(&job);
    cluster.settle();
    assert_eq!(
        cluster
            .state
            .job(&job)
            .unwrap()
            .record
            .assigned
            .as_ref()
            .unwrap()
            .node
            .as_str(),
        "b"
    );
}

#[test]
fn a_lone_replica_is_tried_again_after_a_pause() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    let job = cluster.submit(0);
    cluster.settle();
    cluster.state.update(&job, |view| {
        view.not_before = Duration::from_millis(500);
        view.avoid = view
            .record
            .assigned
            .as_ref()
            .map(|to| (to.node.clone(), to.replica.clone()));
    });
    cluster.state.release(&job);
    let paused = plan(&cluster.state, Duration::from_millis(400), 0);
    assert_eq!(
        (paused.steps.len(), paused.next),
        (0, Some(Duration::from_millis(500)))
    );
    assert_eq!(
        plan(&cluster.state, Duration::from_millis(500), 0)
            .steps
            .len(),
        1
    );
}

#[test]
fn three_failures_that_stored_something_are_the_end() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    let job = cluster.submit(0);
    cluster.settle();
    cluster.state.update(&job, |job| job.record.failures = 2);
    let next = after_end(
        cluster.state.job(&job).unwrap(),
        &failed(job, 1, true),
        cluster.now,
    );
    assert!(matches!(next, Next::GiveUp(error) if error.code == ErrorCode::ReplicaExhausted));
}

#[test]
fn what_would_fail_again_is_not_tried_again() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    let job = cluster.submit(0);
    cluster.settle();
    let error = ErrorBody::new(ErrorCode::InvalidParams, "the prompt is too long");
    let reply = RunReply::Refused {
        error: error.clone(),
    };
    let next = after_reply(
        cluster.state.job(&job).unwrap(),
        1,
        Some(&reply),
        EPOCH,
        cluster.now,
    );
    assert_eq!(next, Next::GiveUp(error));
}

#[test]
fn silence_to_the_last_attempt_is_a_timeout_and_other_failures_are_not() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    let job = cluster.submit(0);
    cluster.settle();
    cluster.state.update(&job, |job| job.record.failures = 2);
    let given_up = |code| {
        let how = AttemptOutcome::Failed {
            error: ErrorBody::new(code, "the engine has been silent for 60 s"),
        };
        let end = AttemptEnd {
            how,
            ..failed(job, 1, true)
        };
        let next = after_end(cluster.state.job(&job).unwrap(), &end, cluster.now);
        let Next::GiveUp(error) = next else {
            panic!("expected the end, got {next:?}");
        };
        error.code
    };
    assert_eq!(given_up(ErrorCode::DecodeTimeout), ErrorCode::DecodeTimeout);
    assert_eq!(
        given_up(ErrorCode::WorkerReset),
        ErrorCode::ReplicaExhausted
    );
}

#[test]
fn busy_is_not_a_failure() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    let job = cluster.submit(0);
    cluster.settle();
    let next = after_reply(
        cluster.state.job(&job).unwrap(),
        1,
        Some(&RunReply::Busy),
        EPOCH,
        cluster.now,
    );
    assert!(matches!(
        next,
        Next::Again {
            counts: false,
            failed: false,
            busy: true,
            ..
        }
    ));
}

#[test]
fn news_of_an_older_attempt_changes_nothing() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    let job = cluster.submit(0);
    cluster.settle();
    cluster.state.update(&job, |job| job.record.attempt = 3);
    let view = cluster.state.job(&job).unwrap();
    assert_eq!(
        after_end(view, &failed(job, 1, true), cluster.now),
        Next::Nothing
    );
    assert_eq!(
        after_reply(view, 1, Some(&RunReply::Busy), EPOCH, cluster.now),
        Next::Nothing
    );
}

#[test]
fn the_transcript_goes_before_the_record() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    let job = cluster.submit(0);
    cluster.settle();
    let record = &cluster.state.job(&job).unwrap().record;
    let to = record.assigned.clone().unwrap();
    let mark = Entry::Mark(Mark {
        attempt: 2,
        node: to.node,
        instance: to.instance,
    });
    let frame = Entry::Frame(Frame {
        attempt: 1,
        index: 0,
        pieces: Vec::new(),
    });
    assert_eq!(
        adopt(record, None, 0),
        Adopted::AsRecorded { has_prefix: false }
    );
    assert_eq!(
        adopt(record, Some(&frame), 0),
        Adopted::AsRecorded { has_prefix: true }
    );
    assert_eq!(
        adopt(record, Some(&mark), 0),
        Adopted::Opened { attempt: 2 }
    );
    let ended = adopt(record, Some(&Entry::Final(Box::new(end_of(1)))), 7);
    assert!(
        matches!(ended, Adopted::Ended(end) if end.outcome == Outcome::Completed && end.at_ms == 7)
    );
    // It ended before anybody looked, but neither before it came nor behind now.
    for (told, at_ms) in [(5, 5), (1, 3), (9, 7)] {
        let mut end = end_of(1);
        end.times.ended_ms = Some(told);
        let record = orchion_contract::job::Job {
            created_ms: 3,
            ..record.clone()
        };
        let ended = adopt(&record, Some(&Entry::Final(Box::new(end))), 7);
        assert!(matches!(ended, Adopted::Ended(end) if end.at_ms == at_ms));
    }
}

#[test]
fn a_job_whose_time_is_over_expires() {
    let mut cluster = Cluster::with_nodes(&[]);
    let job = cluster.submit(0);
    let at = cluster.state.next_deadline().unwrap();
    assert!(
        plan(&cluster.state, at - Duration::from_millis(1), 0)
            .steps
            .is_empty()
    );
    assert_eq!(plan(&cluster.state, at, 0).steps, [Step::Expire { job }]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn no_replica_ever_gets_more_than_its_slots(
        slots in proptest::collection::vec(1u32..5, 1..5),
        jobs in 0u128..40,
        lost in proptest::collection::vec(0usize..5, 0..4),
    ) {
        let mut cluster = Cluster::default();
        for (n, slots) in slots.iter().enumerate() {
            cluster.add_node(&format!("n{n}"), *slots);
        }
        for n in 0..jobs {
            cluster.submit(n);
        }
        cluster.settle();
        for n in lost {
            cluster.set_state(&format!("n{}", n % slots.len()), NodeState::Lost);
            cluster.settle();
            cluster.assert_within_slots();
        }
        cluster.assert_within_slots();
    }

    #[test]
    fn planning_twice_changes_nothing(jobs in 0u128..30, slots in 1u32..6) {
        let mut cluster = Cluster::with_nodes(&[("a", slots), ("b", slots)]);
        for n in 0..jobs {
            cluster.submit(n);
        }
        cluster.settle();
        prop_assert!(plan(&cluster.state, cluster.now, 0).steps.is_empty());
    }

    #[test]
    fn equal_states_give_equal_plans(jobs in 0u128..30) {
        let build = || {
            let mut cluster = Cluster::with_nodes(&[("a", 3), ("b", 5)]);
            for n in 0..jobs {
                cluster.submit(n);
            }
            plan(&cluster.state, cluster.now, 0)
        };
        prop_assert_eq!(build(), build());
    }

    #[test]
    fn what_was_taken_in_and_ended_leaves_nothing(jobs in 0u128..30) {
        let mut cluster = Cluster::with_nodes(&[("a", 3)]);
        let ids: Vec<_> = (0..jobs).map(|n| cluster.submit(n)).collect();
        cluster.settle();
        for id in &ids {
            cluster.state.remove(id);
            cluster.settle();
        }
        cluster.assert_quiet();
    }
}

fn failed(job: orchion_contract::JobId, attempt: u32, stored: bool) -> AttemptEnd {
    let error = ErrorBody::new(ErrorCode::WorkerReset, "the engine went away");
    AttemptEnd {
        job,
        attempt,
        how: AttemptOutcome::Failed { error },
        sequence: 0,
        stored,
    }
}
