//! Questions to the scheduler in charge.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::charge::{Charge, completed, description, id, node_id, refusal, written};
use orchion_contract::job::{Door, FollowJob, JobState, JobSummary, ListJobs};
use orchion_contract::{ErrorBody, ErrorCode, JobId, ReaderId};
use orchion_scheduler_core::{Effect, Input, Question, Token};

#[test]
fn a_list_has_open_and_ended_jobs_and_the_newest_first() {
    let mut charge = Charge::with_node("a", 1);
    let ended = charge.admit(1, Door::Task);
    charge.end_attempt(ended, 1, completed());
    charge.at.unix_ms += 1;
    let runs = charge.admit(2, Door::Task);
    charge.at.unix_ms += 1;
    let waits = charge.admit(3, Door::Task);
    assert_eq!(
        listed(&mut charge, ListJobs::default()),
        [waits, runs, ended]
    );
}

#[test]
fn a_list_keeps_to_the_state_the_node_the_model_and_the_limit_that_are_asked_for() {
    let mut charge = Charge::with_node("a", 1);
    let runs = charge.admit(1, Door::Task);
    let waits = charge.admit(2, Door::Task);
    let waiting = ListJobs {
        state: Some(JobState::Pending),
        ..ListJobs::default()
    };
    let on_node = ListJobs {
        node: Some(node_id("a")),
        ..ListJobs::default()
    };
    let of_another_model = ListJobs {
        model: Some("other".into()),
        ..ListJobs::default()
    };
    let one = ListJobs {
        limit: Some(1),
        ..ListJobs::default()
    };
    assert_eq!(listed(&mut charge, waiting), [waits]);
    assert_eq!(listed(&mut charge, on_node), [runs]);
    assert_eq!(listed(&mut charge, of_another_model), []);
    assert_eq!(listed(&mut charge, one).len(), 1);
}

#[test]
fn a_job_that_waits_is_described_with_its_place_and_its_predicted_start() {
    let mut charge = Charge::with_node("a", 1);
    charge.admit(1, Door::Task);
    let waits = charge.admit(2, Door::Task);
    let token = charge.ask(Question::Get(waits));
    let found = description(&charge.effects(), token).unwrap();
    let progress = found.progress.unwrap();
    assert_eq!(found.state, JobState::Pending);
    assert_eq!(progress.queue_position, Some(0));
    assert!(progress.predicted_start_ms > Some(0));
}

#[test]
fn a_job_whose_first_record_is_not_stored_is_looked_up() {
    let mut charge = Charge::with_node("a", 1);
    charge.submit(1, Door::Task);
    charge.effects();
    let token = charge.ask(Question::Get(id(1)));
    assert!(looks_up(&charge.effects(), token));
}

#[test]
fn what_is_not_in_memory_is_answered_from_its_record() {
    let mut charge = Charge::with_node("a", 1);
    let mut record = recorded(7);
    record.state = JobState::Completed;
    let found = Ok(Some(Some(Box::new(record))));
    let answer = looked_up(&mut charge, 7, found).unwrap();
    assert_eq!((answer.id, answer.state), (id(7), JobState::Completed));
}

#[test]
fn what_has_expired_is_gone_and_what_never_was_is_not_found() {
    let mut charge = Charge::with_node("a", 1);
    let expired = looked_up(&mut charge, 7, Ok(Some(None))).unwrap_err();
    let unknown = looked_up(&mut charge, 8, Ok(None)).unwrap_err();
    let silent = looked_up(&mut charge, 9, Err("no answer".to_owned())).unwrap_err();
    assert_eq!(expired.code, ErrorCode::Gone);
    assert_eq!(unknown.code, ErrorCode::NotFound);
    assert_eq!(silent.code, ErrorCode::PoolUnready);
}

#[test]
fn an_open_record_of_an_unknown_job_makes_the_scheduler_read_everything_anew() {
    let mut charge = Charge::with_node("a", 1);
    let record = recorded(7);
    let token = charge.ask(Question::Get(id(7)));
    charge.effects();
    let found = Ok(Some(Some(Box::new(record))));
    let job = id(7);
    charge.hear(Input::LookedUp { token, job, found });
    assert!(matches!(charge.effects()[..], [Effect::Reread { job }] if job == id(7)));
}

#[test]
fn a_chat_that_another_gateway_reads_depends_on_that_one() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Chat);
    let gateway = ReaderId::new("g2").unwrap();
    let token = charge.ask(Question::Follow(FollowJob {
        job,
        gateway: gateway.clone(),
    }));
    let effects = charge.effects();
    assert_eq!(description(&effects, token).unwrap().id, job);
    assert_eq!(written(&effects).unwrap().gateway, Some(gateway));
}

#[test]
fn who_follows_a_job_that_nobody_knows_is_told_so() {
    let mut charge = Charge::with_node("a", 1);
    let (job, gateway) = (id(4), ReaderId::new("g2").unwrap());
    let token = charge.ask(Question::Follow(FollowJob { job, gateway }));
    let error = undescribed(&charge.effects(), token).unwrap();
    assert_eq!(error.code, ErrorCode::NotFound);
}

#[test]
fn the_same_id_for_another_request_is_a_conflict() {
    let mut charge = Charge::with_node("a", 1);
    charge.admit(1, Door::Task);
    charge.class = orchion_contract::job::Priority::Batch;
    let token = charge.submit(1, Door::Task);
    let error = refusal(&charge.effects(), token).unwrap();
    assert_eq!(error.code, ErrorCode::Conflict);
}

#[test]
fn the_same_request_again_gets_the_same_job_also_when_it_has_ended() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    let again = charge.submit(1, Door::Task);
    let effects = charge.effects();
    let admission = crate::charge::admission(&effects, again).unwrap();
    assert!(admission.existed);
    charge.end_attempt(job, 1, completed());
    charge.effects();
    let again = charge.submit(1, Door::Task);
    let effects = charge.effects();
    let admission = crate::charge::admission(&effects, again).unwrap();
    assert!(admission.existed && admission.state == JobState::Completed);
}

#[test]
fn an_explanation_says_why_a_job_is_where_it_is() {
    let mut charge = Charge::with_node("a", 1);
    let runs = charge.admit(1, Door::Task);
    let waits = charge.admit(2, Door::Task);
    let explained = explained(&mut charge, waits).unwrap();
    assert_eq!(explained.0, JobState::Pending);
    charge.end_attempt(runs, 1, completed());
    charge.effects();
    let (state, summary) = self::explained(&mut charge, runs).unwrap();
    assert_eq!(state, JobState::Completed);
    assert!(!summary.is_empty());
    let error = self::explained(&mut charge, id(9)).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
}

fn listed(charge: &mut Charge, ask: ListJobs) -> Vec<JobId> {
    let wanted = charge.ask(Question::List(ask));
    let list = charge
        .effects()
        .into_iter()
        .find_map(|effect| match effect {
            Effect::List { token, list } if token == wanted => Some(list),
            _ => None,
        });
    list.unwrap().jobs.iter().map(|job| job.id).collect()
}

fn looks_up(effects: &[Effect], wanted: Token) -> bool {
    let is_it =
        |effect: &Effect| matches!(effect, Effect::LookUp { token, .. } if *token == wanted);
    effects.iter().any(is_it)
}

/// A record that another scheduler wrote.
fn recorded(n: u128) -> orchion_contract::job::Job {
    let mut other = Charge::with_node("a", 1);
    let job = other.admit(n, Door::Task);
    other.record_of(&job)
}

type Found = Result<Option<Option<Box<orchion_contract::job::Job>>>, String>;

/// Asks for a job that is not in memory, while this stands on record.
fn looked_up(charge: &mut Charge, n: u128, found: Found) -> Result<JobSummary, ErrorBody> {
    let (token, job) = (charge.ask(Question::Get(id(n))), id(n));
    assert!(looks_up(&charge.effects(), token));
    charge.hear(Input::LookedUp { token, job, found });
    let effects = charge.effects();
    match undescribed(&effects, token) {
        Some(error) => Err(error),
        None => Ok(description(&effects, token).unwrap()),
    }
}

fn undescribed(effects: &[Effect], wanted: Token) -> Option<ErrorBody> {
    effects.iter().find_map(|effect| match effect {
        Effect::Describe { token, answer } if *token == wanted => answer.clone().err(),
        _ => None,
    })
}

fn explained(charge: &mut Charge, job: JobId) -> Result<(JobState, String), ErrorBody> {
    let found = charge.explained(job)?;
    Ok((found.state, found.summary))
}
