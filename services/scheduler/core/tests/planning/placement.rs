//! Which replica a job goes to.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::common::*;
use orchion_contract::job::{JobSpec, Usage};
use orchion_contract::node::{Gpu, Heartbeat, Node, NodeState, ReplicaLoad, RunningAttempt};
use orchion_contract::placement::{DecisionOutcome, FilterName, PlacementMode, PlacementSpec};
use orchion_contract::transcript::Times;
use orchion_contract::{InstanceId, JobId, NodeId, ReplicaId};
use orchion_scheduler_core::{
    Demand, Lesson, Phase, ReplicaKey, Settings, Step, explain, plan, strategy,
};
use std::time::Duration;

pub(crate) const GIB: u64 = 1 << 30;

pub(crate) fn gpu(gib: u64) -> Gpu {
    Gpu {
        memory_total_bytes: gib * GIB,
        memory_free_bytes: gib * GIB,
        ..Gpu::default()
    }
}

fn wish(wishes: PlacementSpec) -> impl FnOnce(&mut JobSpec) {
    move |spec| spec.placement = Some(Box::new(wishes))
}

pub(crate) fn pin(place: &str) -> PlacementSpec {
    PlacementSpec {
        mode: PlacementMode::Pin,
        pin_pool_id: Some(place.to_owned()),
        ..PlacementSpec::default()
    }
}

pub(crate) fn prefer(place: &str, allow_fallback: bool) -> PlacementSpec {
    PlacementSpec {
        mode: PlacementMode::Prefer,
        prefer_pools: vec![place.to_owned()],
        allow_fallback,
        ..PlacementSpec::default()
    }
}

pub(crate) fn replica(node: &str) -> ReplicaKey {
    (NodeId::new(node).unwrap(), ReplicaId::new("r").unwrap())
}

fn beat(node: &str, busy: u32, slots: u32, free: Option<u64>, running: &[JobId]) -> Heartbeat {
    let attempt = |job: &JobId| RunningAttempt {
        job: *job,
        attempt: 1,
    };
    Heartbeat {
        node: NodeId::new(node).unwrap(),
        instance: InstanceId::new(format!("{node}-1")).unwrap(),
        sequence: 0,
        interval_ms: 1000,
        running: running.iter().map(attempt).collect(),
        replicas: vec![ReplicaLoad {
            id: ReplicaId::new("r").unwrap(),
            slots,
            busy,
            ready: true,
            memory_free_bytes: free,
            loaded: true,
        }],
        memory_available_bytes: 0,
        cpu_percent: 0.0,
    }
}

/// A replica generated so many tokens in a second, often enough to be known for it.
fn teach(cluster: &mut Cluster, node: &str, tokens: u64) {
    let times = Times {
        started_ms: Some(0),
        first_token_ms: Some(100),
        ended_ms: Some(1100),
    };
    for _ in 0..3 {
        teach_in(cluster, node, tokens, times);
    }
}

/// A replica generated so many tokens between these times.
fn teach_in(cluster: &mut Cluster, node: &str, tokens: u64, times: Times) {
    let lesson = Lesson {
        model: &"m".into(),
        replica: &replica(node),
        digest: None,
        demand: Demand::default(),
        usage: Usage {
            prompt_tokens: 10,
            completion_tokens: tokens + 1,
            cached_tokens: None,
        },
        times,
        took_ms: Some(1100),
        busy: true,
    };
    cluster.state.learn(&lesson);
}

#[test]
fn a_pinned_job_goes_to_its_place_or_waits() {
    let mut cluster = Cluster::with_nodes(&[("a", 1), ("b", 1)]);
    let jobs: Vec<_> = (0..2).map(|n| cluster.enter(n, wish(pin("b")))).collect();
    let other = cluster.submit(2);
    cluster.settle();
    let nodes: Vec<_> = jobs
        .iter()
        .chain([&other])
        .map(|job| cluster.node_of(job))
        .collect();
    assert_eq!(nodes, [Some("b".to_owned()), None, Some("a".to_owned())]);
    cluster.state.remove(&jobs[0]);
    cluster.settle();
    assert_eq!(cluster.node_of(&jobs[1]).as_deref(), Some("b"));
}

#[test]
fn a_preferred_place_comes_first_and_others_only_with_a_fallback() {
    let mut cluster = Cluster::with_nodes(&[("a", 1), ("b", 1), ("c", 1)]);
    let first = cluster.enter(0, wish(prefer("b/r", false)));
    let stays = cluster.enter(1, wish(prefer("b", false)));
    let goes = cluster.enter(2, wish(prefer("b", true)));
    cluster.settle();
    let nodes = [first, stays, goes].map(|job| cluster.node_of(&job));
    assert_eq!(nodes, [Some("b".to_owned()), None, Some("a".to_owned())]);
    let why = explain(&cluster.state, &goes, cluster.now, 0).unwrap();
    assert!(why.decisions[0].fallback_used);
}

#[test]
fn a_place_is_a_node_by_its_id_or_its_host() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    cluster.add("b", 4, |node| node.hostname = "attic".to_owned());
    for (n, place) in (0..).zip(["b", "attic", "attic/r", "b/r"]) {
        let job = cluster.enter(n, wish(pin(place)));
        cluster.settle();
        assert_eq!(cluster.node_of(&job).as_deref(), Some("b"), "{place}");
    }
}

#[test]
fn an_avoided_place_is_never_taken() {
    let mut cluster = Cluster::with_nodes(&[("a", 1), ("b", 1)]);
    let wishes = PlacementSpec {
        avoid_pools: vec!["a".to_owned()],
        ..PlacementSpec::default()
    };
    let jobs: Vec<_> = (0..2)
        .map(|n| cluster.enter(n, wish(wishes.clone())))
        .collect();
    cluster.settle();
    assert_eq!(cluster.node_of(&jobs[0]).as_deref(), Some("b"));
    assert_eq!(cluster.node_of(&jobs[1]), None);
}

#[test]
fn a_device_mask_must_match_exactly() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    cluster.add("b", 4, |node| node.replicas[0].devices = Some(vec![0]));
    cluster.add("c", 4, |node| node.replicas[0].devices = Some(vec![0, 1]));
    let wishes = PlacementSpec {
        require_device_mask: Some("0,1".to_owned()),
        ..PlacementSpec::default()
    };
    let job = cluster.enter(0, wish(wishes));
    cluster.settle();
    assert_eq!(cluster.node_of(&job).as_deref(), Some("c"));
}

#[test]
fn round_robin_gives_each_its_share() {
    let mut cluster = Cluster::under(Settings {
        strategy: strategy("round-robin").unwrap(),
        ..Settings::default()
    });
    for (node, slots) in [("a", 9), ("b", 9), ("c", 9)] {
        cluster.add_node(node, slots);
    }
    let jobs: Vec<_> = (0..9).map(|n| cluster.submit(n)).collect();
    cluster.settle();
    let nodes: Vec<_> = jobs
        .iter()
        .map(|job| cluster.node_of(job).unwrap())
        .collect();
    assert_eq!(nodes.concat(), "abcabcabc");
    // One at a time it goes on where it stopped.
    let next = cluster.submit(9);
    cluster.settle();
    assert_eq!(cluster.node_of(&next).as_deref(), Some("a"));
}

#[test]
fn a_host_without_graphics_memory_comes_last_or_not_at_all() {
    let host = |node: &mut Node| node.capabilities.gpus = vec![gpu(8)];
    let mut cluster = Cluster::with_nodes(&[("a", 2)]);
    cluster.add("b", 2, host);
    let jobs: Vec<_> = (0..3).map(|n| cluster.submit(n)).collect();
    cluster.settle();
    let nodes: Vec<_> = jobs
        .iter()
        .map(|job| cluster.node_of(job).unwrap())
        .collect();
    assert_eq!(nodes.concat(), "bba");
    let mut settings = Settings::default();
    settings.usual_pool.gpu_only = true;
    let mut cluster = Cluster::under(settings);
    cluster.add_node("a", 2);
    cluster.add("b", 2, host);
    let jobs: Vec<_> = (0..3).map(|n| cluster.submit(n)).collect();
    cluster.settle();
    assert_eq!(cluster.node_of(&jobs[2]), None);
}

/// The two devices of the reference host, an engine that takes memory as it
/// goes: 40 jobs of 1 GiB each, then a node is lost in the middle of a burst.
#[test]
fn a_large_and_a_small_device_share_a_burst_by_their_memory() {
    let mut cluster = Cluster::with_nodes(&[]);
    let host = |gib: u64| {
        move |node: &mut Node| {
            node.capabilities.gpus = vec![gpu(gib)];
            node.replicas[0].memory_per_token_bytes = Some(GIB / 1024);
        }
    };
    cluster.add("large", 64, host(24));
    cluster.add("small", 64, host(12));
    let jobs: Vec<_> = (0..40)
        .map(|n| cluster.enter(n, |spec| spec.max_tokens = Some(1000)))
        .collect();
    cluster.settle();
    let on = |cluster: &Cluster, node: &str| {
        jobs.iter()
            .filter(|job| cluster.node_of(job).as_deref() == Some(node))
            .count()
    };
    let (large, small) = (on(&cluster, "large"), on(&cluster, "small"));
    assert!(large > small && small > 0, "{large} and {small}");
    assert!(large <= 24 && small <= 12, "{large} and {small}");
    assert!(large + small >= 34, "both are busy: {large} and {small}");
    // What heartbeats show is not counted twice, and nothing more fits.
    let running: Vec<_> = jobs
        .iter()
        .filter(|job| cluster.node_of(job).as_deref() == Some("large"))
        .copied()
        .collect();
    let left = (24 - u64::try_from(large).unwrap()) * GIB;
    let busy = u32::try_from(large).unwrap();
    cluster
        .state
        .heartbeat(&beat("large", busy, 64, Some(left), &running), cluster.now);
    assert!(plan(&cluster.state, cluster.now, 0).steps.is_empty());
    let why = explain(&cluster.state, jobs.last().unwrap(), cluster.now, 0).unwrap();
    let reasons: Vec<_> = why.decisions[0]
        .candidates
        .iter()
        .map(|seen| seen.removed_by)
        .collect();
    assert_eq!(reasons, [Some(FilterName::Memory); 2]);
    cluster.set_state("large", NodeState::Lost);
    cluster.settle();
    assert!(on(&cluster, "small") <= 12);
    assert_eq!(on(&cluster, "large"), 0);
}

#[test]
fn a_slow_replica_gets_what_the_others_cannot_take() {
    let mut cluster = Cluster::with_nodes(&[("a", 2), ("b", 2)]);
    teach(&mut cluster, "a", 5);
    teach(&mut cluster, "b", 50);
    let jobs: Vec<_> = (0..3).map(|n| cluster.submit(n)).collect();
    cluster.settle();
    let nodes: Vec<_> = jobs
        .iter()
        .map(|job| cluster.node_of(job).unwrap())
        .collect();
    assert_eq!(nodes.concat(), "bba");
}

/// Whether a candidate of a job that waits is called slow, by node.
fn slow(cluster: &Cluster) -> Vec<bool> {
    let slow = |node: &str| {
        let experience = cluster.state.experience();
        experience.is_slow(&"m".into(), &replica(node), 0.25)
    };
    vec![slow("a"), slow("b")]
}

#[test]
fn answers_in_one_body_make_no_replica_seem_fast() {
    let mut cluster = Cluster::with_nodes(&[("a", 2), ("b", 2)]);
    let brief = Times {
        started_ms: Some(0),
        first_token_ms: None,
        ended_ms: Some(5),
    };
    teach(&mut cluster, "a", 50);
    for _ in 0..50 {
        teach_in(&mut cluster, "b", 5, brief);
    }
    teach(&mut cluster, "b", 50);
    for _ in 0..50 {
        teach_in(&mut cluster, "b", 5, brief);
    }
    teach(&mut cluster, "a", 50);
    assert_eq!(slow(&cluster), [false, false]);
    let rate = cluster.state.experience();
    let rate = rate.tokens_per_s(&"m".into(), &replica("b")).unwrap();
    assert!((40.0..400.0).contains(&rate), "{rate}");
}

#[test]
fn tokens_that_come_within_a_millisecond_are_not_taken_for_no_time_at_all() {
    let mut cluster = Cluster::with_nodes(&[("a", 2), ("b", 2)]);
    let at_once = Times {
        started_ms: Some(0),
        first_token_ms: Some(3),
        ended_ms: Some(3),
    };
    for node in ["a", "b"] {
        for _ in 0..50 {
            teach_in(&mut cluster, node, 1, at_once);
        }
    }
    teach_in(&mut cluster, "a", 0, at_once);
    assert_eq!(slow(&cluster), [false, false]);
    let rate = cluster.state.experience();
    let rate = rate.tokens_per_s(&"m".into(), &replica("a")).unwrap();
    assert!(rate <= 2000.1, "{rate}");
}

#[test]
fn one_job_makes_nobody_slow_nor_does_an_instant_answer_make_all_others_slow() {
    let mut cluster = Cluster::with_nodes(&[("a", 2), ("b", 2)]);
    let in_all = |ms: u64| Times {
        started_ms: Some(0),
        first_token_ms: Some(1),
        ended_ms: Some(1 + ms),
    };
    for _ in 0..3 {
        teach_in(&mut cluster, "a", 15, in_all(1));
    }
    for _ in 0..5 {
        teach_in(&mut cluster, "b", 15, in_all(32));
    }
    assert_eq!(slow(&cluster), [false, false]);
    teach(&mut cluster, "b", 500);
    teach_in(&mut cluster, "a", 15, in_all(3000));
    assert_eq!(slow(&cluster), [true, false]);
    let mut cluster = Cluster::with_nodes(&[("a", 2), ("b", 2)]);
    teach(&mut cluster, "b", 500);
    teach_in(&mut cluster, "a", 15, in_all(3000));
    assert_eq!(slow(&cluster), [false, false]);
}

#[test]
fn nobody_is_slow_beside_one_that_is_gone_or_was_fast_once() {
    let mut cluster = Cluster::with_nodes(&[("a", 2), ("b", 2), ("c", 2)]);
    teach(&mut cluster, "a", 50);
    teach(&mut cluster, "b", 40);
    teach(&mut cluster, "c", 500);
    assert_eq!(slow(&cluster), [true, true]);
    cluster.state.remove_node(&NodeId::new("c").unwrap());
    assert_eq!(slow(&cluster), [false, false]);
    teach(&mut cluster, "b", 1000);
    assert_eq!(slow(&cluster), [true, false]);
    for _ in 0..20 {
        teach(&mut cluster, "b", 40);
    }
    assert_eq!(slow(&cluster), [false, false]);
}

#[test]
fn a_replica_that_must_load_its_model_first_goes_last() {
    let mut cluster = Cluster::with_nodes(&[("a", 2), ("b", 2)]);
    let mut cold = beat("a", 0, 2, None, &[]);
    cold.replicas[0].loaded = false;
    cluster.state.heartbeat(&cold, cluster.now);
    let jobs: Vec<_> = (0..3).map(|n| cluster.submit(n)).collect();
    cluster.settle();
    let nodes: Vec<_> = jobs
        .iter()
        .map(|job| cluster.node_of(job).unwrap())
        .collect();
    assert_eq!(nodes.concat(), "bba");
}

#[test]
fn an_engine_that_was_started_anew_does_not_rest() {
    let mut cluster = Cluster::with_nodes(&[("a", 2)]);
    for n in 0..3u64 {
        let at = cluster.now + Duration::from_millis(n);
        cluster.state.attempt_failed(&replica("a"), at, at, false);
    }
    cluster.now += Duration::from_millis(10);
    let job = cluster.submit(0);
    cluster.settle();
    assert_eq!(cluster.node_of(&job), None);
    // The registry tells of its death and of its return before any report.
    for ready in [false, true] {
        cluster.add("a", 2, |node| node.replicas[0].ready = ready);
    }
    cluster.settle();
    assert_eq!(cluster.node_of(&job).as_deref(), Some("a"));
}

#[test]
fn a_replica_that_fails_again_and_again_rests() {
    let mut cluster = Cluster::with_nodes(&[("a", 4), ("b", 1)]);
    for n in 1..=3 {
        let at = cluster.now + Duration::from_millis(n);
        cluster.state.attempt_failed(&replica("a"), at, at, false);
    }
    cluster.now += Duration::from_millis(10);
    let jobs: Vec<_> = (0..2).map(|n| cluster.submit(n)).collect();
    cluster.settle();
    assert_eq!(cluster.node_of(&jobs[0]).as_deref(), Some("b"));
    assert_eq!(cluster.node_of(&jobs[1]), None);
    // It is looked at again when it has rested, with one job at first.
    let again = plan(&cluster.state, cluster.now, 0).next.unwrap();
    assert!(again <= cluster.now + Duration::from_secs(2));
    cluster.now = again;
    cluster.submit(2);
    cluster.settle();
    assert_eq!(cluster.node_of(&jobs[1]).as_deref(), Some("a"));
    assert_eq!(cluster.state.queue_length(&"m".into()), 1);
    teach(&mut cluster, "a", 10);
    cluster.settle();
    assert_eq!(cluster.state.queue_length(&"m".into()), 0);
}

#[test]
fn a_decision_names_each_candidate_and_why() {
    let mut cluster = Cluster::with_nodes(&[("a", 1), ("b", 2), ("c", 1)]);
    cluster.set_state("c", NodeState::Suspect);
    let filler = cluster.enter(0, wish(pin("a")));
    let job = cluster.submit(1);
    // Performed as the shell does it.
    let made = plan(&cluster.state, cluster.now, 7);
    for step in made.steps {
        let Step::Assign { job, assignment } = step else {
            panic!("{step:?}")
        };
        cluster.state.assign(&job, assignment, Phase::Ordered);
    }
    for (job, decision) in made.decisions {
        cluster.state.update(&job, |job| job.decided(decision));
    }
    assert_eq!(cluster.node_of(&filler).as_deref(), Some("a"));
    let why = explain(&cluster.state, &job, cluster.now, 9).unwrap();
    let decision = &why.decisions[0];
    assert_eq!((decision.at_ms, decision.attempt), (7, 1));
    assert_eq!(decision.outcome, DecisionOutcome::Assigned);
    assert_eq!(decision.strategy, "least-loaded");
    assert_eq!(decision.selected.as_ref().unwrap().node.as_str(), "b");
    assert_eq!(decision.candidates_considered, 3);
    let seen: Vec<_> = decision
        .candidates
        .iter()
        .map(|seen| (seen.place.node.as_str(), seen.removed_by))
        .collect();
    let expected = [
        ("a", Some(FilterName::NoFreeSlot)),
        ("b", None),
        ("c", Some(FilterName::Offline)),
    ];
    assert_eq!(seen, expected);
    assert!(why.summary.contains("node b"), "{}", why.summary);
}

#[test]
fn what_a_heartbeat_shows_and_what_came_since_add_up() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    let first = cluster.submit(0);
    cluster.settle();
    // Two requests of somebody else, and ours.
    let now = cluster.now;
    cluster
        .state
        .heartbeat(&beat("a", 3, 4, None, &[first]), now);
    for n in 1..4 {
        cluster.submit(n);
    }
    cluster.settle();
    assert_eq!(cluster.placed(), [("a".to_owned(), 2)]);
    // A beat that left before the order says nothing of it.
    cluster
        .state
        .heartbeat(&beat("a", 3, 4, None, &[first]), now);
    cluster.settle();
    assert_eq!(cluster.placed(), [("a".to_owned(), 2)]);
    // What ended frees its own slot, not one of the others.
    cluster.state.remove(&first);
    cluster.settle();
    assert_eq!(cluster.placed(), [("a".to_owned(), 2)]);
}
