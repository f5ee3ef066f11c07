//! What listeners and callers are told of where a job stands.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::charge::{Charge, completed, id, instance, ms, node_id};
use crate::failed;
use orchion_contract::job::{Door, JobState, RunReply};
use orchion_contract::node::{Heartbeat, RunningAttempt};
use orchion_contract::{JobId, UnixMs};
use orchion_scheduler_core::{Effect, Input, Question, Reply};

#[test]
fn each_change_of_state_is_told_once() {
    let mut charge = Charge::with_node("a", 1);
    let job = id(1);
    charge.submit(1, Door::Task);
    assert_eq!(told(&mut charge, &job), [JobState::Assigned]);
    charge.hear(Input::Written { job, result: Ok(5) });
    replied(&mut charge, job, 1, RunReply::Accepted);
    assert_eq!(told(&mut charge, &job), [JobState::Running]);
    replied(&mut charge, job, 1, RunReply::Running);
    beat(&mut charge, job, 1);
    assert_eq!(told(&mut charge, &job), []);
    charge.end_attempt(job, 1, failed());
    assert_eq!(told(&mut charge, &job), [JobState::Pending]);
    charge.pass(ms(1000));
    assert_eq!(told(&mut charge, &job), [JobState::Assigned]);
    charge.end_attempt(job, 2, completed());
    assert_eq!(told(&mut charge, &job), [JobState::Completed]);
}

#[test]
fn who_has_to_wait_is_told_as_pending() {
    let mut charge = Charge::with_node("a", 1);
    charge.admit(1, Door::Task);
    charge.submit(2, Door::Task);
    assert_eq!(told(&mut charge, &id(2)), [JobState::Pending]);
}

#[test]
fn a_job_has_started_when_its_agent_took_it() {
    let mut charge = Charge::with_node("a", 1);
    let job = id(1);
    charge.submit(1, Door::Task);
    charge.effects();
    charge.hear(Input::Written { job, result: Ok(5) });
    charge.effects();
    assert_eq!(seen(&mut charge, job), (JobState::Assigned, None));
    charge.pass(ms(3));
    let at_ms = charge.at.unix_ms;
    replied(&mut charge, job, 1, RunReply::Accepted);
    charge.pass(ms(70));
    assert_eq!(seen(&mut charge, job), (JobState::Running, Some(at_ms)));
    charge.end_attempt(job, 1, failed());
    assert_eq!(seen(&mut charge, job), (JobState::Pending, None));
}

#[test]
fn a_job_that_ran_before_the_takeover_has_started_when_it_was_placed() {
    let mut before = Charge::with_node("a", 1);
    let job = before.admit(1, Door::Task);
    let record = before.record_of(&job);
    let assigned_ms = record.assigned.as_ref().map(|to| to.at_ms);
    let mut charge = Charge::standing("a", 1);
    charge.pass(ms(60_000));
    charge.hear(Input::NodesLoaded);
    charge.hear(Input::GatewaysLoaded);
    charge.hear(Input::Records(vec![(record, 7)]));
    charge.hear(Input::Last { job, last: None });
    charge.effects();
    replied(&mut charge, job, 1, RunReply::Running);
    assert_eq!(seen(&mut charge, job), (JobState::Running, assigned_ms));
}

fn replied(charge: &mut Charge, job: JobId, attempt: u32, reply: RunReply) {
    charge.hear(Input::Replied {
        job,
        attempt,
        reply: Reply::Said(reply),
    });
}

fn beat(charge: &mut Charge, job: JobId, attempt: u32) {
    charge.hear(Input::Beat(Box::new(Heartbeat {
        node: node_id("a"),
        instance: instance("a-1"),
        sequence: 1,
        interval_ms: 500,
        running: vec![RunningAttempt { job, attempt }],
        replicas: Vec::new(),
        memory_available_bytes: 0,
        cpu_percent: 0.0,
    })));
}

/// The states that listeners are told of, in order.
fn told(charge: &mut Charge, wanted: &JobId) -> Vec<JobState> {
    let told = charge
        .effects()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::TellState(event) if event.job == *wanted => Some(event.state),
            _ => None,
        });
    told.collect()
}

/// The state of a job, and since when it runs.
fn seen(charge: &mut Charge, job: JobId) -> (JobState, Option<UnixMs>) {
    let token = charge.ask(Question::Get(job));
    let summary = crate::charge::description(&charge.effects(), token).unwrap();
    (summary.state, summary.timeline.started_ms)
}
