//! Heartbeats, nodes and orders that nobody heard.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::charge::{Charge, completed, id, instance, ms, node_id};
use orchion_contract::JobId;
use orchion_contract::job::{CancelReason, Door, JobState, RunReply};
use orchion_contract::node::{Heartbeat, ReplicaLoad, RunningAttempt};
use orchion_contract::{ErrorCode, ReaderId, ReplicaId};
use orchion_scheduler_core::{Effect, Input, Note, Phase, Reply};
use std::time::Duration;

#[test]
fn what_is_assigned_and_does_not_run_is_ordered_again() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.pass(Duration::from_secs(11));
    charge.effects();
    charge.hear(beat("a-1", &[]));
    assert_eq!(ordered(&charge.effects()), [job]);
}

#[test]
fn what_runs_where_it_is_assigned_is_left_alone() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.pass(Duration::from_secs(11));
    charge.effects();
    charge.hear(beat("a-1", &[(job, 1)]));
    let effects = charge.effects();
    assert_eq!((ordered(&effects), dropped(&effects)), (vec![], vec![]));
}

#[test]
fn an_order_that_is_young_is_not_repeated() {
    let mut charge = Charge::with_node("a", 1);
    charge.admit(1, Door::Task);
    charge.pass(ms(900));
    charge.effects();
    charge.hear(beat("a-1", &[]));
    assert_eq!(ordered(&charge.effects()), []);
}

#[test]
fn what_runs_and_is_not_assigned_is_stopped() {
    let mut charge = Charge::with_node("a", 2);
    let ended = charge.admit(1, Door::Task);
    let job = charge.admit(2, Door::Task);
    charge.end_attempt(ended, 1, completed());
    charge.effects();
    charge.hear(beat("a-1", &[(ended, 1), (job, 2)]));
    let effects = charge.effects();
    assert_eq!(dropped(&effects), [(ended, 1), (job, 2)]);
}

#[test]
fn what_nobody_knows_has_one_more_heartbeat_until_its_gateway_tells() {
    let mut charge = Charge::with_node("a", 2);
    charge.hear(beat("a-1", &[(id(9), 1)]));
    assert_eq!(dropped(&charge.effects()), []);
    charge.hear(beat("a-1", &[(id(9), 1)]));
    assert_eq!(dropped(&charge.effects()), [(id(9), 1)]);
}

#[test]
fn what_an_earlier_process_of_the_node_was_given_is_not_of_this_one() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.hear(beat("a-2", &[(job, 1)]));
    assert_eq!(dropped(&charge.effects()), [(job, 1)]);
}

#[test]
fn a_job_of_a_node_that_is_gone_waits_again() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.hear(Input::Node {
        id: node_id("a"),
        node: None,
    });
    charge.effects();
    assert_eq!(
        charge.holder.state().job(&job).unwrap().record.state,
        JobState::Pending
    );
}

#[test]
fn an_order_that_may_have_been_taken_and_that_nobody_hears_is_repeated() {
    let mut charge = Charge::with_node("a", 1);
    charge.submit(1, Door::Task);
    charge.effects();
    let job = id(1);
    charge.hear(Input::Written { job, result: Ok(5) });
    charge.pass(Duration::from_secs(11));
    charge.hear(beat("a-1", &[]));
    assert_eq!(ordered(&charge.effects()), [job]);
    nobody_hears(&mut charge, job);
    assert_eq!(ordered(&charge.effects()), []);
    charge.pass(ms(200));
    assert_eq!(ordered(&charge.effects()), [job]);
}

#[test]
fn a_first_order_that_nobody_hears_takes_the_job_back() {
    let mut charge = Charge::with_node("a", 1);
    charge.submit(1, Door::Task);
    charge.effects();
    nobody_hears(&mut charge, id(1));
    let waits = charge.holder.state().job(&id(1)).unwrap();
    assert_eq!(waits.phase, Phase::Queued);
    charge.pass(ms(100));
    let opens = |effect: &Effect| matches!(effect, Effect::Open { mark, .. } if mark.attempt == 2);
    assert!(charge.effects().iter().any(opens));
}

#[test]
fn an_agent_that_knows_a_higher_epoch_outranks_this_scheduler() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.hear(Input::Replied {
        job,
        attempt: 1,
        reply: Reply::Said(RunReply::Stale { epoch: 8 }),
    });
    let effects = charge.effects();
    let outranked = |effect: &Effect| matches!(effect, Effect::Outranked(8));
    assert!(effects.iter().any(outranked));
}

#[test]
fn chats_end_when_the_lease_of_their_gateway_has_ended() {
    let mut charge = Charge::with_node("a", 1);
    let gateway = ReaderId::new("g").unwrap();
    for lives in [true, false] {
        let gateway = gateway.clone();
        charge.hear(Input::Gateway { gateway, lives });
        charge.admit(1 + u128::from(!lives), Door::Chat);
    }
    let mut stopped = Vec::new();
    for _ in 0..60 {
        charge.pass(Duration::from_secs(1));
        for effect in charge.effects() {
            if let Effect::Cancel { order, .. } = effect {
                stopped.push((order.job, order.reason));
            }
        }
    }
    assert!(stopped.contains(&(id(1), CancelReason::GatewayLost)));
}

#[test]
fn notes_read_as_sentences() {
    let (job, by, node) = (id(1), id(2), node_id("a"));
    let gateway = ReaderId::new("g").unwrap();
    let sentences = [
        Note::WaitsAgain {
            job,
            reason: "its node is gone".to_owned(),
        },
        Note::Preempted { job, by },
        Note::OrderedAgain { job, node },
        Note::GatewayGone { gateway, jobs: 3 },
        Note::NotStored {
            job,
            error: "full".to_owned(),
        },
        Note::Ended {
            job,
            state: JobState::Completed,
            attempt: 1,
            error: None,
        },
        Note::Ended {
            job,
            state: JobState::Failed,
            attempt: 0,
            error: Some(ErrorCode::QueueFullDropLru),
        },
        Note::InCharge { open: 4 },
    ];
    let expected = [
        format!("job {job} waits again: its node is gone"),
        format!("job {job} gives its slot to job {by}"),
        format!("job {job} does not run on node a: ordered again"),
        "a gateway is gone: its 3 chats end".to_owned(),
        format!("job {job} could not be stored and was refused"),
        format!("job {job} is completed"),
        format!("job {job} has failed with QUEUE_FULL_DROP_LRU"),
        "in charge of 4 open jobs".to_owned(),
    ];
    assert_eq!(sentences.map(|note| note.to_string()), expected);
}

fn nobody_hears(charge: &mut Charge, job: JobId) {
    charge.hear(Input::Replied {
        job,
        attempt: 1,
        reply: Reply::Nobody,
    });
}

/// A process of node `a` tells what it runs.
fn beat(process: &str, running: &[(JobId, u32)]) -> Input {
    let running: Vec<RunningAttempt> = running
        .iter()
        .map(|(job, attempt)| RunningAttempt {
            job: *job,
            attempt: *attempt,
        })
        .collect();
    let load = ReplicaLoad {
        id: ReplicaId::new("r").unwrap(),
        slots: 2,
        busy: u32::try_from(running.len()).unwrap(),
        ready: true,
        loaded: true,
        memory_free_bytes: None,
    };
    Input::Beat(Box::new(Heartbeat {
        node: node_id("a"),
        instance: instance(process),
        sequence: 1,
        interval_ms: 5000,
        running,
        replicas: vec![load],
        memory_available_bytes: 0,
        cpu_percent: 0.0,
    }))
}

fn ordered(effects: &[Effect]) -> Vec<JobId> {
    let order = |effect: &Effect| match effect {
        Effect::Order { order, .. } => Some(order.job),
        _ => None,
    };
    effects.iter().filter_map(order).collect()
}

fn dropped(effects: &[Effect]) -> Vec<(JobId, u32)> {
    let order = |effect: &Effect| match effect {
        Effect::Drop { order, .. } => Some((order.job, order.attempt)),
        _ => None,
    };
    effects.iter().filter_map(order).collect()
}
