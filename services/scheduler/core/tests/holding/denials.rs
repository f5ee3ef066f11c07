//! Engines that live and have a failure for every answer.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::charge::{Charge, ms};
use orchion_contract::job::{AttemptOutcome, Door};
use orchion_contract::{ErrorBody, ErrorCode, JobId};
use orchion_scheduler_core::{Effect, Input};
use std::time::Duration;

#[test]
fn a_lone_engine_that_fails_every_request_ends_a_job_within_seconds() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    let (attempts, took, error) = until_given_up(&mut charge, job, 500);
    assert_eq!(attempts, 3);
    assert!(took < Duration::from_secs(3), "{took:?}");
    let told = (error.code, error.engine_status, error.is_retriable());
    assert_eq!(told, (ErrorCode::ReplicaExhausted, Some(500), true));
    assert!(error.message.contains("HTTP 500"), "{}", error.message);
}

#[test]
fn nobody_waits_for_the_rest_of_an_engine_that_lives_and_fails() {
    let mut charge = Charge::with_node("a", 1);
    for n in 1..=20 {
        let job = charge.admit(n, Door::Task);
        let (attempts, took, _) = until_given_up(&mut charge, job, 500);
        assert_eq!(attempts, 3, "job {n}");
        assert!(took < Duration::from_secs(3), "job {n}: {took:?}");
        charge.hear(Input::Told { jobs: vec![job] });
        charge.effects();
        charge.hear(Input::Written { job, result: Ok(9) });
    }
}

#[test]
fn an_engine_that_says_later_is_asked_later() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    let (attempts, _, error) = until_given_up(&mut charge, job, 503);
    assert_eq!(attempts, 12);
    assert_eq!(error.engine_status, Some(503));
}

/// Lets every attempt of a job that runs fail so: attempts, time and the error.
fn until_given_up(charge: &mut Charge, job: JobId, status: u16) -> (u32, Duration, ErrorBody) {
    let began = charge.at.now;
    let mut attempt = 1;
    loop {
        charge.end_attempt(job, attempt, failed(status));
        while charge.holder.state().job(&job).unwrap().record.attempt == attempt {
            for effect in charge.effects() {
                if let Effect::Finalize { end, .. } = effect {
                    let error = end.error.clone().unwrap();
                    let took = charge.at.now - began;
                    charge.hear(Input::Finalized { job, end });
                    charge.effects();
                    return (attempt, took, error);
                }
            }
            charge.hear(Input::Written { job, result: Ok(9) });
            charge.pass(ms(10));
        }
        attempt += 1;
        charge.effects();
        charge.hear(Input::Opened {
            job,
            attempt,
            end: None,
        });
        charge.effects();
        charge.hear(Input::Written { job, result: Ok(9) });
        charge.effects();
    }
}

fn failed(status: u16) -> AttemptOutcome {
    let message = format!("the engine cannot answer now (HTTP {status}): boom");
    let mut error = ErrorBody::new(ErrorCode::PoolUnready, message);
    error.engine_status = Some(status);
    AttemptOutcome::Failed { error }
}
