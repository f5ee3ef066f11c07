//! What holds of every placement.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::common::*;
use crate::placement::{GIB, gpu, pin, prefer};
use orchion_contract::node::NodeState;
use orchion_scheduler_core::{Phase, Settings, explain, plan, strategy};
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Request {
    place: Option<usize>,
    strict: bool,
    batch: bool,
    ctx: u32,
}

prop_compose! {
    fn request()(place in proptest::option::of(0usize..5), strict: bool, batch: bool, ctx in 1u32..5000) -> Request {
        Request { place, strict, batch, ctx }
    }
}

#[derive(Debug, Clone)]
struct Host {
    slots: u32,
    ctx: Option<u32>,
    gib: u64,
    state: u8,
    ready: bool,
}

prop_compose! {
    fn host()(slots in 1u32..4, ctx in proptest::option::of(1000u32..6000), gib in 0u64..30, state in 0u8..4, ready in proptest::bool::weighted(0.8)) -> Host {
        Host { slots, ctx, gib, state, ready }
    }
}

fn build(hosts: &[(usize, Host)], requests: &[Request], name: &str) -> Cluster {
    let mut cluster = Cluster::under(Settings {
        strategy: strategy(name).unwrap(),
        ..Settings::default()
    });
    for (n, host) in hosts {
        cluster.add(&format!("n{n}"), host.slots, |node| {
            node.replicas[0].ctx = host.ctx;
            node.replicas[0].ready = host.ready;
            node.replicas[0].memory_per_token_bytes = (host.gib > 20).then_some(GIB / 512);
            node.capabilities.gpus = vec![gpu(host.gib)];
            node.state = match host.state {
                0 => NodeState::Suspect,
                _ => NodeState::Online,
            };
        });
    }
    for (n, request) in (0..).zip(requests) {
        cluster.enter(n, |spec| {
            spec.max_tokens = Some(request.ctx);
            if request.batch {
                spec.priority = orchion_contract::job::Priority::Batch;
            }
            spec.placement = request.place.map(|place| {
                let place = format!("n{place}");
                Box::new(if request.strict {
                    pin(&place)
                } else {
                    prefer(&place, true)
                })
            });
        });
    }
    cluster
}

fn numbered(hosts: Vec<Host>) -> Vec<(usize, Host)> {
    hosts.into_iter().enumerate().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::CASES))]

    #[test]
    fn no_job_goes_where_it_must_not(
        hosts in proptest::collection::vec(host(), 1..6),
        requests in proptest::collection::vec(request(), 0..20),
        name in proptest::sample::select(vec!["least-loaded", "round-robin"]),
    ) {
        let hosts = numbered(hosts);
        let mut cluster = build(&hosts, &requests, name);
        cluster.settle();
        cluster.assert_within_slots();
        for (n, request) in (0..).zip(&requests) {
            let id = submit_for(n, "m").job;
            let Some(node) = cluster.node_of(&id) else { continue };
            let index: usize = node[1..].parse().unwrap();
            let host = &hosts[index].1;
            prop_assert!(host.ready && host.state != 0);
            prop_assert!(host.ctx.is_none_or(|ctx| request.ctx <= ctx));
            if request.strict && let Some(place) = request.place {
                prop_assert_eq!(place, index, "a pin never falls back");
            }
        }
        for node in cluster.state.nodes().values() {
            for view in node.replicas.values() {
                prop_assert!(view.reserved <= view.memory_free, "never over its memory");
            }
        }
    }

    #[test]
    fn the_order_of_input_changes_nothing(
        hosts in proptest::collection::vec(host(), 1..6),
        requests in proptest::collection::vec(request(), 0..20),
        name in proptest::sample::select(vec!["least-loaded", "round-robin"]),
    ) {
        let hosts = numbered(hosts);
        let mut backwards = hosts.clone();
        backwards.reverse();
        let one = build(&hosts, &requests, name);
        let other = build(&backwards, &requests, name);
        prop_assert_eq!(plan(&one.state, one.now, 0), plan(&other.state, other.now, 0));
    }

    #[test]
    fn nobody_waits_while_a_slot_could_take_him(
        hosts in proptest::collection::vec(host(), 1..6),
        requests in proptest::collection::vec(request(), 0..20),
    ) {
        let mut cluster = build(&numbered(hosts), &requests, "least-loaded");
        cluster.settle();
        for job in cluster.state.jobs().filter(|job| job.phase == Phase::Queued) {
            let why = explain(&cluster.state, &job.record.id, cluster.now, 0).unwrap();
            let free = why.decisions.last().unwrap().candidates.iter().filter(|seen| seen.removed_by.is_none()).count();
            prop_assert_eq!(free, 0, "{:?}", why);
        }
    }
}
