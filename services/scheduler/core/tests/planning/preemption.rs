//! Batch jobs give their slots to interactive ones.

use crate::common::*;
use orchion_contract::job::JobState;
use orchion_contract::node::Continuation;
use orchion_scheduler_core::{Phase, Settings, Step, plan};

/// Two slots, taken by running batch jobs.
fn full() -> Cluster {
    let mut cluster = Cluster::with_nodes(&[("a", 2)]);
    cluster.submit_batch(1);
    cluster.submit_batch(2);
    cluster.settle();
    cluster.run_all();
    cluster
}

#[test]
fn the_youngest_batch_job_makes_room_and_goes_on_later() {
    let mut cluster = full();
    let batch = submit_for(2, "m").job;
    let wanted = cluster.submit(3);
    let steps = plan(&cluster.state, cluster.now, 0).steps;
    assert_eq!(
        steps,
        [Step::Preempt {
            job: batch,
            by: wanted
        }]
    );
    cluster.settle();
    assert_eq!(cluster.state.job(&batch).unwrap().phase, Phase::Yielding);
    // The slot is its own until it has left.
    assert_eq!(cluster.node_of(&wanted), None);
    cluster.state.update(&batch, |job| job.has_prefix = true);
    cluster.state.release(&batch);
    cluster.settle();
    assert_eq!(cluster.node_of(&wanted).as_deref(), Some("a"));
    let waits = cluster.state.job(&batch).unwrap();
    assert_eq!(
        (waits.phase, waits.record.state),
        (Phase::Queued, JobState::Pending)
    );
    // It goes on when the interactive one has ended, before later batch jobs.
    let later = cluster.submit_batch(4);
    cluster.state.remove(&wanted);
    cluster.settle();
    let goes_on = cluster.state.job(&batch).unwrap();
    assert_eq!((goes_on.record.attempt, goes_on.has_prefix), (2, true));
    assert_eq!(cluster.node_of(&later), None);
}

#[test]
fn one_slot_is_asked_for_by_one_job() {
    let mut cluster = full();
    cluster.submit(3);
    cluster.settle();
    let one = plan(&cluster.state, cluster.now, 0);
    assert!(one.steps.is_empty());
    cluster.submit(4);
    cluster.submit(5);
    cluster.settle();
    let yielding = cluster
        .state
        .jobs()
        .filter(|job| job.phase == Phase::Yielding);
    assert_eq!(yielding.count(), 2);
}

#[test]
fn interactive_jobs_are_left_alone() {
    let mut cluster = Cluster::with_nodes(&[("a", 1)]);
    cluster.submit(1);
    cluster.settle();
    cluster.run_all();
    cluster.submit(2);
    assert!(plan(&cluster.state, cluster.now, 0).steps.is_empty());
}

#[test]
fn batch_jobs_do_not_make_room_for_batch_jobs() {
    let mut cluster = full();
    cluster.submit_batch(3);
    assert!(plan(&cluster.state, cluster.now, 0).steps.is_empty());
}

#[test]
fn who_could_not_go_on_is_left_alone() {
    let mut cluster = Cluster::with_nodes(&[]);
    cluster.add_node_with("a", 1, Continuation::None);
    cluster.submit_batch(1);
    cluster.settle();
    cluster.run_all();
    cluster.submit(2);
    assert!(plan(&cluster.state, cluster.now, 0).steps.is_empty());
}

#[test]
fn a_pool_may_let_batch_jobs_end() {
    let mut settings = Settings::default();
    settings.usual_pool.preempt = false;
    let mut cluster = Cluster::under(settings);
    cluster.add_node("a", 1);
    cluster.submit_batch(1);
    cluster.settle();
    cluster.run_all();
    cluster.submit(2);
    assert!(plan(&cluster.state, cluster.now, 0).steps.is_empty());
}

#[test]
fn a_free_slot_goes_before_a_taken_one() {
    let mut cluster = full();
    cluster.add_node("b", 1);
    let job = cluster.submit(3);
    cluster.settle();
    assert_eq!(cluster.node_of(&job).as_deref(), Some("b"));
}
