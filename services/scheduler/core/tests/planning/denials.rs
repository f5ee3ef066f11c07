//! Where a job goes when an engine that lives had a failure for an answer.

use crate::common::*;
use crate::placement::replica;
use orchion_contract::{ErrorBody, ErrorCode, JobId};
use orchion_scheduler_core::{Step, plan};
use std::time::Duration;

#[test]
fn another_replica_is_asked_at_once() {
    let mut cluster = Cluster::with_nodes(&[("a", 1), ("b", 1)]);
    let job = denied_by(&mut cluster, 100, &["a"]);
    cluster.settle();
    assert_eq!(cluster.node_of(&job).as_deref(), Some("b"));
}

#[test]
fn a_full_replica_that_has_not_failed_is_waited_for() {
    let mut cluster = Cluster::with_nodes(&[("a", 1), ("b", 1)]);
    let fillers = [cluster.submit(0), cluster.submit(1)];
    cluster.settle();
    let on = |cluster: &Cluster, node: &str| {
        let is_there = |job: &&JobId| cluster.node_of(job).as_deref() == Some(node);
        *fillers.iter().find(is_there).unwrap()
    };
    cluster.state.remove(&on(&cluster, "a"));
    let job = denied_by(&mut cluster, 100, &["a", "a", "a"]);
    cluster.now += Duration::from_secs(60);
    cluster.settle();
    assert_eq!(cluster.node_of(&job), None);
    cluster.state.remove(&on(&cluster, "b"));
    cluster.settle();
    assert_eq!(cluster.node_of(&job).as_deref(), Some("b"));
}

#[test]
fn every_replica_is_asked_before_a_job_is_given_up() {
    let mut cluster = Cluster::with_nodes(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    let job = denied_by(&mut cluster, 100, &["a", "b", "c"]);
    cluster.settle();
    assert_eq!(cluster.node_of(&job).as_deref(), Some("d"));
    let job = denied_by(&mut cluster, 101, &["a", "b", "c", "d"]);
    let steps = plan(&cluster.state, cluster.now, 0).steps;
    assert!(matches!(&steps[..], [Step::GiveUp { job: given_up, error }]
        if *given_up == job && error.code == ErrorCode::ReplicaExhausted));
}

#[test]
fn a_replica_that_rests_is_asked_before_one_that_failed_this_job() {
    let mut cluster = Cluster::with_nodes(&[("a", 1), ("b", 1)]);
    for n in 1..=3 {
        let at = cluster.now + Duration::from_millis(n);
        cluster.state.attempt_failed(&replica("b"), at, at, true);
    }
    cluster.now += Duration::from_millis(10);
    let plain = cluster.submit(9);
    cluster.settle();
    assert_eq!(cluster.node_of(&plain).as_deref(), Some("a"));
    cluster.state.remove(&plain);
    let job = denied_by(&mut cluster, 100, &["a", "a", "a"]);
    cluster.settle();
    assert_eq!(cluster.node_of(&job).as_deref(), Some("b"));
}

/// A waiting job that these nodes have failed, one after the other.
fn denied_by(cluster: &mut Cluster, n: u128, nodes: &[&str]) -> JobId {
    let job = cluster.submit(n);
    let mut said = ErrorBody::new(ErrorCode::PoolUnready, "boom");
    said.engine_status = Some(500);
    cluster.state.update(&job, |job| {
        for node in nodes {
            job.denials.add(Some(replica(node)), said.clone());
            job.avoid = Some(replica(node));
        }
    });
    job
}
