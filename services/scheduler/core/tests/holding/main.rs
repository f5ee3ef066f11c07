//! The scheduler in charge, input by input.
#![expect(clippy::wildcard_enum_match_arm, reason = "one effect is looked for")]

mod asking;
mod beats;
mod charge;
mod denials;
mod granted_jobs;
mod grants;
mod queueing;
mod reading;
mod records;
mod states;

use charge::{Charge, ms, node_id};
use orchion_contract::job::{
    AttemptOutcome, CancelJob, CancelReason, CancelReply, Door, Job, JobState, RunReply,
};
use orchion_contract::transcript::{Entry, Mark};
use orchion_contract::{ErrorBody, ErrorCode, ReaderId};
use orchion_scheduler_core::{Effect, Input, Question, Reply, WriteError};
use std::time::Duration;

#[test]
fn a_takeover_reads_transcripts_before_it_plans_or_answers() {
    let mut before = Charge::with_node("a", 1);
    let job = before.admit(1, Door::Task);
    let record = before.record_of(&job);
    let mut charge = Charge::standing("a", 1);
    charge.hear(Input::NodesLoaded);
    charge.hear(Input::GatewaysLoaded);
    assert!(matches!(charge.effects()[..], [Effect::LoadRecords]));
    charge.hear(Input::Records(vec![(record, 7)]));
    assert!(matches!(charge.effects()[..], [Effect::ReadLast { .. }]));
    assert!(!charge.holder.is_in_charge());
    charge.hear(Input::Last { job, last: None });
    let effects = charge.effects();
    assert!(charge.holder.is_in_charge());
    // The order goes out again: the agent answers what it has, and learns the epoch.
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Order { .. }))
    );
}

#[test]
fn an_order_goes_out_beside_the_first_record_and_the_answer_waits_for_it() {
    let mut charge = Charge::with_node("a", 1);
    let token = charge.submit(1, Door::Task);
    let effects = charge.effects();
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Order { .. }))
    );
    let expected = effects.iter().find_map(|effect| match effect {
        Effect::Write { expected, .. } => Some(*expected),
        _ => None,
    });
    assert_eq!(expected, Some(0));
    assert!(charge::admission(&effects, token).is_none());
    charge.hear(Input::Written {
        job: charge::id(1),
        result: Ok(5),
    });
    let admission = charge::admission(&charge.effects(), token).unwrap();
    assert_eq!(admission.state, JobState::Assigned);
}

#[test]
fn a_later_attempt_is_marked_then_recorded_then_ordered() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.end_attempt(job, 1, failed());
    charge.pass(Duration::from_secs(1));
    let effects = charge.effects();
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Open { .. }))
    );
    // Whatever write was under way is done: the mark is still to come.
    charge.hear(Input::Written { job, result: Ok(6) });
    let early = charge.effects();
    let is_early = |effect: &Effect| matches!(effect, Effect::Write { .. } | Effect::Order { .. });
    assert!(!early.iter().any(is_early));
    charge.hear(Input::Opened {
        job,
        attempt: 2,
        end: None,
    });
    let effects = charge.effects();
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Write { .. }))
    );
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Order { .. }))
    );
    charge.hear(Input::Written { job, result: Ok(7) });
    let effects = charge.effects();
    let attempt = effects.iter().find_map(|effect| match effect {
        Effect::Order { order, .. } => Some(order.attempt),
        _ => None,
    });
    assert_eq!(attempt, Some(2));
}

#[test]
fn a_mark_that_comes_too_late_is_not_written_and_everything_is_read_anew() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.end_attempt(job, 1, failed());
    charge.pass(Duration::from_secs(1));
    charge.effects();
    charge.hear(Input::Overtaken { job });
    let effects = charge.effects();
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Reread { .. }))
    );
}

#[test]
fn the_end_of_an_attempt_counts_from_its_own_process_only() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.effects();
    charge.end_attempt_by("a-0", job, 1, failed());
    charge.pass(Duration::from_secs(1));
    let effects = charge.effects();
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Open { .. }))
    );
}

#[test]
fn a_running_job_gets_a_moment_past_its_deadline_to_end_by_itself() {
    let mut charge = Charge::with_node("a", 1);
    charge.admit(1, Door::Task);
    charge.pass(Duration::from_millis(
        orchion_contract::job::DEFAULT_DEADLINE_MS,
    ));
    assert!(!charge.effects().iter().any(is_cancel));
    assert_eq!(
        charge.holder.next_deadline().map(|at| at > charge.at.now),
        Some(true)
    );
    charge.pass(Duration::from_millis(500));
    assert!(charge.effects().iter().any(is_cancel));
}

#[test]
fn a_write_whose_answer_was_lost_is_known_again_though_the_job_went_on() {
    let mut charge = Charge::with_node("a", 1);
    charge.submit(1, Door::Task);
    let job = charge::id(1);
    let written = charge::written(&charge.effects()).unwrap();
    // The job ends while nobody knows whether its first record is stored.
    charge.end_attempt(job, 1, charge::completed());
    charge.hear(Input::Told { jobs: vec![job] });
    charge.hear(Input::Written {
        job,
        result: Err(WriteError::Unsure),
    });
    assert!(
        charge
            .effects()
            .iter()
            .any(|effect| matches!(effect, Effect::ReadRecord { .. }))
    );
    charge.hear(Input::Read {
        job,
        found: Some((9, Some(Box::new(written)))),
    });
    let effects = charge.effects();
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Reread { .. }))
    );
    let ended: Job = charge::written(&effects).unwrap();
    assert_eq!(ended.state, JobState::Completed);
}

#[test]
fn a_record_of_somebody_else_ends_the_stay_in_charge() {
    let mut charge = Charge::with_node("a", 1);
    charge.submit(1, Door::Task);
    let job = charge::id(1);
    let mut theirs = charge::written(&charge.effects()).unwrap();
    theirs.attempt = 4;
    charge.hear(Input::Written {
        job,
        result: Err(WriteError::Unsure),
    });
    charge.effects();
    charge.hear(Input::Read {
        job,
        found: Some((9, Some(Box::new(theirs)))),
    });
    assert!(matches!(charge.effects()[..], [Effect::Reread { .. }]));
    charge.submit(2, Door::Task);
    assert!(charge.effects().is_empty());
}

#[test]
fn a_dead_gateway_is_noticed_though_news_never_cease() {
    let mut charge = Charge::with_node("a", 1);
    charge.admit(1, Door::Chat);
    for _ in 0..150 {
        charge.at.now += ms(100);
        charge.hear(Input::NodesLoaded);
        if charge
            .holder
            .next_deadline()
            .is_some_and(|at| at <= charge.at.now)
        {
            charge.look();
        }
    }
    assert!(charge.effects().iter().any(is_cancel));
}

#[test]
fn a_cancel_is_answered_when_the_end_is_known() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    let token = charge.ask(Question::Cancel(CancelJob {
        job,
        reason: CancelReason::Client,
    }));
    let effects = charge.effects();
    assert!(effects.iter().any(is_cancel) && charge::description(&effects, token).is_none());
    charge.hear(Input::Canceled {
        job,
        reply: Some(CancelReply::NotRunning),
    });
    let end = charge
        .effects()
        .into_iter()
        .find_map(|effect| match effect {
            Effect::Finalize { end, .. } => Some(end),
            _ => None,
        });
    charge.hear(Input::Finalized {
        job,
        end: end.unwrap(),
    });
    let told = charge::description(&charge.effects(), token).unwrap();
    assert_eq!(told.state, JobState::Canceled);
}

#[test]
fn a_store_without_room_refuses_and_leaves_nothing() {
    let mut charge = Charge::with_node("a", 1);
    let token = charge.submit(1, Door::Task);
    charge.effects();
    charge.hear(Input::Written {
        job: charge::id(1),
        result: Err(WriteError::Full("no room".to_owned())),
    });
    let effects = charge.effects();
    assert_eq!(
        charge::refusal(&effects, token).map(|error| error.code),
        Some(ErrorCode::PoolUnready)
    );
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Drop { .. }))
    );
    assert_eq!(charge.holder.state().open_jobs(), 0);
}

#[test]
fn a_job_that_ended_before_the_store_refused_it_is_unknown() {
    let mut charge = Charge::with_node("a", 1);
    let token = charge.submit(1, Door::Task);
    let job = charge::id(1);
    charge.effects();
    charge.end_attempt(job, 1, charge::completed());
    charge.hear(Input::Written {
        job,
        result: Err(WriteError::Full("no room".to_owned())),
    });
    let effects = charge.effects();
    assert!(charge::refusal(&effects, token).is_some());
    let token = charge.submit(1, Door::Task);
    let effects = charge.effects();
    assert_eq!(charge::admission(&effects, token), None);
    assert!(charge::written(&effects).is_some_and(|record| !record.state.is_ended()));
}

#[test]
fn a_chat_without_a_gateway_of_its_own_outlives_all() {
    let mut charge = Charge::with_node("a", 1);
    let token = charge.submit_for(1, Door::Chat, ReaderId::tasks());
    let record = charge::written(&charge.effects()).unwrap();
    assert_eq!((record.gateway, record.door), (None, Door::Chat));
    assert_eq!(record.id, charge::id(1));
    charge.hear(Input::Written {
        job: record.id,
        result: Ok(5),
    });
    assert!(charge::admission(&charge.effects(), token).is_some());
    charge.pass(Duration::from_secs(60));
    assert!(!charge.effects().iter().any(is_cancel));
}

#[test]
fn an_agent_that_knows_a_higher_epoch_makes_us_acquire_anew() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.hear(Input::Replied {
        job,
        attempt: 1,
        reply: Reply::Said(RunReply::Stale { epoch: 12 }),
    });
    assert!(matches!(charge.effects()[..], [Effect::Outranked(12)]));
}

#[test]
fn an_attempt_that_was_opened_and_not_recorded_is_not_opened_twice() {
    let mut before = Charge::with_node("a", 1);
    let job = before.admit(1, Door::Task);
    let record = before.record_of(&job);
    let mut charge = Charge::standing("a", 1);
    charge.hear(Input::NodesLoaded);
    charge.hear(Input::GatewaysLoaded);
    charge.hear(Input::Records(vec![(record, 7)]));
    let mark = Mark {
        attempt: 2,
        node: node_id("b"),
        instance: charge::instance("b-1"),
    };
    charge.hear(Input::Last {
        job,
        last: Some(Box::new(Entry::Mark(mark))),
    });
    let attempt = charge
        .effects()
        .into_iter()
        .find_map(|effect| match effect {
            Effect::Open { mark, .. } => Some(mark.attempt),
            _ => None,
        });
    assert_eq!(attempt, Some(3));
}

#[test]
fn a_job_that_waits_and_is_placed_at_once_is_not_recorded_before_its_mark() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.hear(Input::Replied {
        job,
        attempt: 1,
        reply: Reply::Nobody,
    });
    charge.effects();
    charge.pass(Duration::from_secs(1));
    let effects = charge.effects();
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Open { .. }))
    );
    assert!(charge::written(&effects).is_none());
}

#[test]
fn an_end_that_history_does_not_know_yet_is_not_forgotten() {
    let mut charge = Charge::with_node("a", 1);
    charge.submit(1, Door::Task);
    let job = charge::id(1);
    charge.effects();
    charge.end_attempt(job, 1, charge::completed());
    charge.hear(Input::Written { job, result: Ok(5) });
    charge.effects();
    charge.hear(Input::Told { jobs: vec![job] });
    let ended = charge::written(&charge.effects()).unwrap();
    assert_eq!(ended.state, JobState::Completed);
}

#[test]
fn an_order_that_may_have_been_taken_before_is_not_given_to_another() {
    let mut before = Charge::with_node("a", 1);
    let job = before.admit(1, Door::Task);
    let record = before.record_of(&job);
    let mut charge = Charge::standing("a", 1);
    charge.hear(Input::NodesLoaded);
    charge.hear(Input::GatewaysLoaded);
    charge.hear(Input::Records(vec![(record, 7)]));
    charge.hear(Input::Last { job, last: None });
    charge.effects();
    let nobody = Input::Replied {
        job,
        attempt: 1,
        reply: Reply::Nobody,
    };
    charge.hear(nobody);
    assert!(charge.effects().is_empty());
}

#[test]
fn a_failure_that_is_told_twice_counts_once() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    for _ in 0..4 {
        charge.end_attempt(job, 1, failed());
    }
    let effects = charge.effects();
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Finalize { .. }))
    );
    let tries = charge.holder.state().job(&job).map(|job| job.tries);
    assert_eq!(tries, Some(1));
}

fn is_cancel(effect: &Effect) -> bool {
    matches!(effect, Effect::Cancel { .. })
}

fn failed() -> AttemptOutcome {
    let error = ErrorBody::new(ErrorCode::WorkerReset, "the engine went away");
    AttemptOutcome::Failed { error }
}

#[test]
fn an_id_that_was_forgotten_is_known_from_its_record() {
    for (is_same, code) in [(true, None), (false, Some(ErrorCode::Conflict))] {
        let mut charge = Charge::with_node("a", 1);
        let job = charge::id(1);
        let token = charge.submit(1, Door::Task);
        charge.effects();
        let mut found = charge.record_of(&job);
        found.state = JobState::Completed;
        found.reader = "other".parse().unwrap();
        if !is_same {
            found.request_digest = "another".to_owned();
        }
        charge.hear(Input::Written {
            job,
            result: Err(WriteError::Unsure),
        });
        charge.effects();
        charge.hear(Input::Read {
            job,
            found: Some((9, Some(Box::new(found)))),
        });
        let effects = charge.effects();
        let admission = charge::admission(&effects, token);
        let refusal = charge::refusal(&effects, token);
        assert_eq!(refusal.map(|refusal| refusal.code), code);
        let known = admission.map(|it| (it.existed, it.state, it.reader.to_string()));
        let expected = (true, JobState::Completed, "other".to_owned());
        assert_eq!(known, is_same.then_some(expected));
        // Its order went out beside the record that was refused: nobody answers it.
        assert!(
            effects
                .iter()
                .any(|effect| matches!(effect, Effect::Drop { .. }))
        );
        assert!(charge.holder.is_in_charge());
    }
}
