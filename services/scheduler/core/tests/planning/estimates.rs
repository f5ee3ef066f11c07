//! When waiting jobs start, and what they are told meanwhile.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::common::*;
use orchion_contract::job::{JobState, Priority, Usage};
use orchion_contract::node::NodeState;
use orchion_contract::placement::{PlacementMode, PlacementSpec};
use orchion_contract::progress::{Progress, ProgressEvent};
use orchion_contract::transcript::Times;
use orchion_contract::{JobId, NodeId, ReplicaId};
use orchion_scheduler_core::{Demand, Lesson, Outlook, Step, explain, forecast, plan};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Jobs of node `a` take two seconds: one for the prompt, one for the answer.
fn teach(cluster: &mut Cluster, tokens: u64) {
    let lesson = Lesson {
        model: &"m".into(),
        replica: &(NodeId::new("a").unwrap(), ReplicaId::new("r").unwrap()),
        digest: None,
        demand: Demand {
            prompt_bytes: 15,
            ..Demand::default()
        },
        usage: Usage {
            prompt_tokens: 5,
            completion_tokens: tokens + 1,
            cached_tokens: None,
        },
        times: Times {
            started_ms: Some(0),
            first_token_ms: Some(1000),
            ended_ms: Some(1000 + tokens * 10),
        },
        took_ms: Some(1000 + tokens * 10),
        busy: true,
    };
    cluster.state.learn(&lesson);
}

/// One slot in use since just now, jobs of two seconds, and so many that wait.
fn queue(waiting: u128) -> (Cluster, Vec<JobId>) {
    let mut cluster = Cluster::with_nodes(&[("a", 1)]);
    teach(&mut cluster, 100);
    cluster.submit(0);
    cluster.settle();
    cluster.run_all();
    let jobs = (1..=waiting).map(|n| cluster.submit(n)).collect();
    (cluster, jobs)
}

fn starts(cluster: &Cluster) -> Vec<u64> {
    let forecast = forecast(&cluster.state, &"m".into(), cluster.now);
    assert!(forecast.learnt);
    forecast.starts.iter().map(|(_, start)| *start).collect()
}

#[test]
fn the_queue_is_run_forward_over_the_slots() {
    let (mut cluster, _) = queue(3);
    assert_eq!(starts(&cluster), [2000, 4000, 6000]);
    cluster.now += Duration::from_millis(1500);
    assert_eq!(starts(&cluster), [500, 2500, 4500]);
    // A second slot halves the wait.
    cluster.add_node("b", 1);
    assert_eq!(starts(&cluster), [0, 500, 2000]);
}

#[test]
fn without_experience_each_job_is_taken_for_five_seconds() {
    let mut cluster = Cluster::with_nodes(&[("a", 2)]);
    for n in 0..4 {
        cluster.submit(n);
    }
    cluster.settle();
    let forecast = forecast(&cluster.state, &"m".into(), cluster.now);
    let starts: Vec<u64> = forecast.starts.iter().map(|(_, start)| *start).collect();
    assert_eq!((forecast.learnt, starts), (false, vec![2500, 5000]));
}

#[test]
fn what_a_caller_expects_and_allows_is_believed() {
    let (mut cluster, _) = queue(0);
    cluster.enter(1, |spec| spec.expected_tokens = Some(301));
    cluster.enter(2, |spec| spec.max_tokens = Some(51));
    cluster.submit(3);
    assert_eq!(starts(&cluster), [2000, 2000 + 4000, 6000 + 1500]);
}

#[test]
fn a_job_that_runs_longer_than_any_before_goes_on_for_a_while() {
    let (mut cluster, _) = queue(1);
    cluster.now += 4 * SECOND;
    let rest = starts(&cluster)[0];
    assert!((500..1500).contains(&rest), "{rest}");
}

#[test]
fn an_interactive_job_takes_the_slot_of_a_batch_job() {
    let mut cluster = Cluster::with_nodes(&[("a", 1)]);
    teach(&mut cluster, 100);
    cluster.submit_batch(0);
    cluster.settle();
    cluster.run_all();
    cluster.submit_batch(1);
    cluster.submit(2);
    // The batch job that waits goes behind the one that was there first.
    assert_eq!(starts(&cluster), [50, 50 + 2000 + 2000]);
}

#[test]
fn a_pinned_job_waits_for_its_own_place() {
    let (mut cluster, _) = queue(0);
    cluster.add_node("b", 1);
    let wishes = PlacementSpec {
        mode: PlacementMode::Pin,
        pin_pool_id: Some("a".to_owned()),
        ..PlacementSpec::default()
    };
    cluster.enter(1, |spec| spec.placement = Some(Box::new(wishes)));
    cluster.submit(2);
    assert_eq!(starts(&cluster), [2000, 0]);
}

/// What is said now, by job.
fn told(outlook: &mut Outlook, cluster: &Cluster) -> BTreeMap<JobId, Progress> {
    let said = outlook.tell(&cluster.state, cluster.now, 0);
    said.into_iter()
        .map(|(_, progress)| (progress.job, progress))
        .collect()
}

#[test]
fn nothing_is_said_while_nothing_waits() {
    let (cluster, _) = queue(0);
    let mut outlook = Outlook::default();
    assert_eq!(outlook.next_due(&cluster.state), None);
    assert!(told(&mut outlook, &cluster).is_empty());
}

#[test]
fn a_waiting_job_is_told_once_a_second_and_when_it_moves() {
    let (mut cluster, jobs) = queue(2);
    let mut outlook = Outlook::default();
    let first = told(&mut outlook, &cluster);
    let seen = &first[&jobs[1]];
    assert_eq!(
        (seen.queue_position, seen.predicted_start_ms),
        (Some(1), Some(4000))
    );
    assert_eq!((seen.queue_depth, seen.event), (2, None));
    cluster.now += Duration::from_millis(500);
    assert!(told(&mut outlook, &cluster).is_empty());
    cluster.state.remove(&jobs[0]);
    let moved = told(&mut outlook, &cluster);
    assert_eq!(moved[&jobs[1]].queue_position, Some(0));
    assert_eq!(moved[&jobs[1]].predicted_start_ms, Some(1500));
    cluster.now += SECOND;
    assert_eq!(
        told(&mut outlook, &cluster)[&jobs[1]].predicted_start_ms,
        Some(500)
    );
}

#[test]
fn who_starts_is_told_so_once() {
    let (mut cluster, jobs) = queue(1);
    let mut outlook = Outlook::default();
    told(&mut outlook, &cluster);
    cluster.state.remove(&submit_for(0, "m").job);
    cluster.settle();
    let (_, seen) = outlook.starts(&cluster.state, &jobs[0], 9).unwrap();
    assert_eq!(
        (seen.state, seen.queue_position),
        (JobState::Assigned, None)
    );
    assert_eq!(
        (seen.predicted_start_ms, seen.tokens_per_s),
        (Some(0), Some(100.0))
    );
    assert!(outlook.starts(&cluster.state, &jobs[0], 9).is_none());
}

#[test]
fn a_rise_is_named() {
    let (mut cluster, _) = queue(0);
    let batch = cluster.submit_batch(1);
    let mut outlook = Outlook::default();
    told(&mut outlook, &cluster);
    cluster.now += SECOND;
    cluster.submit(2);
    let seen = &told(&mut outlook, &cluster)[&batch];
    assert_eq!(
        (seen.queue_position, seen.event),
        (Some(1), Some(ProgressEvent::Overtaken))
    );
    assert_eq!(seen.predicted_start_ms, Some(3000));
    // The one before it takes far longer than it should.
    cluster.now += 4 * SECOND;
    let seen = &told(&mut outlook, &cluster)[&batch];
    assert_eq!(seen.event, Some(ProgressEvent::EstimateRevised));
    outlook.waits_again(&batch, ProgressEvent::Preempted, cluster.now);
    cluster.now += SECOND;
    let seen = &told(&mut outlook, &cluster)[&batch];
    assert_eq!(seen.event, Some(ProgressEvent::Preempted));
}

#[test]
fn slots_that_went_away_are_named() {
    let (mut cluster, jobs) = queue(4);
    cluster.add_node("b", 1);
    let mut outlook = Outlook::default();
    told(&mut outlook, &cluster);
    cluster.set_state("b", NodeState::Suspect);
    cluster.now += SECOND;
    let seen = &told(&mut outlook, &cluster)[&jobs[3]];
    assert_eq!(seen.event, Some(ProgressEvent::CapacityLost));
}

#[test]
fn a_job_that_no_replica_can_take_is_told_why_until_one_can() {
    let mut cluster = Cluster::with_nodes(&[]);
    cluster.add("a", 1, |node| node.replicas[0].ctx = Some(2048));
    let job = cluster.enter(0, |spec| spec.max_tokens = Some(3000));
    let mut outlook = Outlook::default();
    let mut reason = |cluster: &mut Cluster| {
        cluster.now += SECOND;
        let said = told(&mut outlook, cluster).remove(&job).unwrap();
        let asked = outlook.of(&cluster.state, &job, cluster.now, 0).unwrap();
        assert_eq!(said.reason, asked.reason);
        let explained = explain(&cluster.state, &job, cluster.now, 0).unwrap();
        let is_stuck = said.reason.is_some();
        // That no start can be told is no news each time.
        assert!(said.event.is_none() || !is_stuck);
        // Who cannot be taken has no chance and no start.
        for told in [&said, &asked] {
            assert!(told.on_time_probability.is_none() || !is_stuck);
            assert_eq!(told.predicted_start_ms.is_none(), is_stuck);
        }
        let entered = outlook.admitted(&cluster.state, &job, cluster.now);
        assert_eq!(entered.start_ms, said.predicted_start_ms);
        assert_eq!(entered.reason, said.reason);
        assert_eq!(explained.predicted_start_ms.is_none(), is_stuck);
        said.reason.unwrap_or_default()
    };
    let alone = "its only replica cannot take it: the request is longer than the context";
    assert_eq!(reason(&mut cluster), alone);
    cluster.add("b", 1, |node| node.replicas[0].ctx = Some(1024));
    let both = "none of 2 replicas can take it, 2 because the request is longer than the context";
    assert_eq!(reason(&mut cluster), both);
    // From here on it waits for a slot alone.
    cluster.add("c", 1, |_| {});
    assert_eq!(reason(&mut cluster), "");
}

#[test]
fn a_job_whose_model_nobody_serves_any_more_is_told_so() {
    let (mut cluster, jobs) = queue(1);
    cluster.state.remove_node(&NodeId::new("a").unwrap());
    let seen = told(&mut Outlook::default(), &cluster);
    let reason = seen[&jobs[0]].reason.as_deref();
    assert_eq!(reason, Some("no node serves its model now"));
}

#[test]
fn the_chance_to_be_in_time_falls_with_the_wait() {
    let (cluster, jobs) = queue(6);
    let seen = told(&mut Outlook::default(), &cluster);
    let chances: Vec<f64> = jobs
        .iter()
        .map(|job| seen[job].on_time_probability.unwrap())
        .collect();
    assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
    assert!(chances.is_sorted_by(|a, b| a >= b), "{chances:?}");
    assert!(chances[0] > 0.99, "ten minutes are enough: {chances:?}");
}

#[derive(Debug, Clone)]
enum Deed {
    Submit(bool),
    End,
    Pass(u64),
    Lose,
    Learn(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => any::<bool>().prop_map(Deed::Submit),
        3 => Just(Deed::End),
        3 => (50u64..3000).prop_map(Deed::Pass),
        1 => Just(Deed::Lose),
        1 => (1u64..500).prop_map(Deed::Learn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::CASES))]

    /// Position and predicted start never rise unless the message says why.
    #[test]
    fn nobody_is_told_a_longer_wait_without_a_reason(deeds in proptest::collection::vec(deed(), 0..60)) {
        let mut cluster = Cluster::with_nodes(&[("a", 1), ("b", 2)]);
        teach(&mut cluster, 100);
        let mut outlook = Outlook::default();
        let mut last: BTreeMap<JobId, (u32, Duration)> = BTreeMap::new();
        for (n, deed) in (0..).zip(deeds) {
            match deed {
                Deed::Submit(batch) => {
                    let class = if batch { Priority::Batch } else { Priority::Interactive };
                    let id = cluster.enter(n, |spec| spec.priority = class);
                    settle(&mut cluster, &mut outlook);
                    let wait = outlook.admitted(&cluster.state, &id, cluster.now);
                    prop_assert_eq!(wait.start_ms.is_none(), wait.reason.is_some());
                    if let Some(start) = wait.start_ms.filter(|_| cluster.state.position(&id).is_some()) {
                        last.insert(id, (wait.position, cluster.now + Duration::from_millis(start)));
                    }
                }
                Deed::End => {
                    let placed = cluster.state.jobs().find(|job| job.record.state == JobState::Assigned);
                    if let Some(id) = placed.map(|job| job.record.id) {
                        outlook.forget(&id);
                        cluster.state.remove(&id);
                    }
                }
                Deed::Pass(ms) => cluster.now += Duration::from_millis(ms),
                Deed::Lose => {
                    let node = &cluster.state.nodes()[&NodeId::new("b").unwrap()];
                    let other = if node.state == NodeState::Online {
                        NodeState::Suspect
                    } else {
                        NodeState::Online
                    };
                    cluster.set_state("b", other);
                }
                Deed::Learn(tokens) => teach(&mut cluster, tokens),
            }
            settle(&mut cluster, &mut outlook);
            for (id, said) in told(&mut outlook, &cluster) {
                let position = said.queue_position.unwrap();
                prop_assert_eq!(Some(position), cluster.state.position(&id), "a position is never a lie");
                let Some(start) = said.predicted_start_ms else {
                    prop_assert!(said.reason.is_some());
                    continue;
                };
                let start = cluster.now + Duration::from_millis(start);
                if let Some((before, at)) = last.insert(id, (position, start))
                    && said.event.is_none()
                {
                    prop_assert!(position <= before, "{position} after {before}");
                    // Rounded to whole milliseconds; nobody is told a time that has passed.
                    prop_assert!(start <= at.max(cluster.now) + Duration::from_millis(1), "{start:?} after {at:?}");
                }
            }
        }
    }
}

fn settle(cluster: &mut Cluster, outlook: &mut Outlook) {
    let steps = plan(&cluster.state, cluster.now, 0).steps;
    let assigned = steps.iter().filter_map(|step| match step {
        Step::Assign { job, .. } => Some(*job),
        Step::Release { .. } | Step::Expire { .. } | Step::Preempt { .. } | Step::GiveUp { .. } => {
            None
        }
    });
    for job in assigned.collect::<Vec<_>>() {
        outlook.forget(&job);
    }
    cluster.settle();
    // Batch jobs that were asked for their slots leave at once.
    let leaving: Vec<JobId> = cluster
        .state
        .jobs()
        .filter(|job| job.phase == orchion_scheduler_core::Phase::Yielding)
        .map(|job| job.record.id)
        .collect();
    for job in &leaving {
        cluster.state.update(job, |job| job.has_prefix = true);
        cluster.state.release(job);
        outlook.waits_again(job, ProgressEvent::Preempted, cluster.now);
    }
    if !leaving.is_empty() {
        cluster.settle();
    }
}
