//! A step costs what changes, not what there is.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::common::*;
use orchion_contract::node::{Heartbeat, ReplicaLoad};
use orchion_contract::{InstanceId, NodeId, ReplicaId};
use orchion_scheduler_core::{Phase, Step, forecast, plan};
use std::time::{Duration, Instant};

const NODES: u32 = 10_000;
const SLOTS: u32 = 4;

/// What is promised of an optimised build; the others are checked for the order
/// of magnitude.
const PROMISED: Duration = Duration::from_millis(if cfg!(debug_assertions) { 150 } else { 10 });

fn fleet() -> Cluster {
    let mut cluster = Cluster::with_nodes(&[]);
    for n in 0..NODES {
        cluster.add_node(&format!("n{n}"), SLOTS);
    }
    cluster
}

fn beat(n: u32, busy: u32) -> Heartbeat {
    Heartbeat {
        node: NodeId::new(format!("n{n}")).unwrap(),
        instance: InstanceId::new(format!("n{n}-1")).unwrap(),
        sequence: 0,
        interval_ms: 1000,
        running: Vec::new(),
        replicas: vec![ReplicaLoad {
            id: ReplicaId::new("r").unwrap(),
            slots: SLOTS,
            busy,
            ready: true,
            memory_free_bytes: None,
            loaded: true,
        }],
        memory_available_bytes: 0,
        cpu_percent: 0.0,
    }
}

/// How long the quickest of some tries takes.
fn quickest(mut step: impl FnMut()) -> Duration {
    let tries = (0..3).map(|_| {
        let began = Instant::now();
        step();
        began.elapsed()
    });
    tries.min().unwrap_or_default()
}

#[test]
fn a_burst_is_placed_on_ten_thousand_nodes_in_a_moment() {
    let mut cluster = fleet();
    for n in 0..64 {
        cluster.submit(n);
    }
    assert_eq!(plan(&cluster.state, cluster.now, 0).steps.len(), 64);
    let took = quickest(|| drop(plan(&cluster.state, cluster.now, 0)));
    assert!(took < PROMISED, "{took:?}");
}

#[test]
fn a_heartbeat_of_a_full_fleet_with_a_full_queue_costs_a_moment() {
    let mut cluster = fleet();
    for n in 0..NODES {
        cluster.state.heartbeat(&beat(n, SLOTS), cluster.now);
    }
    for n in 0..256 {
        cluster.submit(n);
    }
    let now = cluster.now;
    let took = quickest(|| {
        cluster.state.heartbeat(&beat(17, SLOTS), now);
        assert!(plan(&cluster.state, now, 0).steps.is_empty());
    });
    assert!(took < PROMISED / 10, "{took:?}");
    // One slot is free: one job goes there.
    cluster.state.heartbeat(&beat(17, SLOTS - 1), now);
    let steps = plan(&cluster.state, now, 0).steps;
    let [Step::Assign { job, assignment }] = steps.as_slice() else {
        panic!("{steps:?}");
    };
    assert_eq!(assignment.node.as_str(), "n17");
    cluster
        .state
        .assign(job, assignment.clone(), Phase::Ordered);
    assert!(plan(&cluster.state, now, 0).steps.is_empty());
    // What waiting jobs are told takes longer, and is told once a second at most.
    let took = quickest(|| drop(forecast(&cluster.state, &"m".into(), now)));
    assert!(took < PROMISED * 10, "{took:?}");
}
